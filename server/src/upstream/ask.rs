//! Requests to the homeserver, and refusals made of its answers.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use luge_core::shard::{PollOrder, PollOutcome, Refusal};
use luge_io::{
    http::{Body, BodyError, Client, ClientError, Incoming, Timeouts},
    time::{self, clock},
};
use serde::Deserialize;

use super::filter::{self, Filters, Way};
use crate::config::ServerLimits;

/// The homeserver, as one shard reaches it.
#[derive(Clone)]
pub struct Homeserver {
    client: Client,
    /// Where it is, and what stands before every path.
    server: Uri,
    limits: ServerLimits,
    filters: Rc<Filters>,
}

/// A homeserver URL that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the homeserver URL {url:?} cannot be used: give it as http://host:port or https://host")]
pub struct UrlError {
    url: String,
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// The user.
    pub user_id: String,
    /// The device; absent for application services and some admin tokens.
    #[serde(default)]
    pub device_id: Option<String>,
}

/// A Matrix error body, as far as it is read.
#[derive(Default, Deserialize)]
struct MatrixError {
    #[serde(default)]
    errcode: Option<String>,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

/// Bytes of an error body that are passed on.
const ERROR_BYTES_MAX: usize = 64 << 10;

impl Homeserver {
    /// The homeserver at `url`.
    ///
    /// # Errors
    /// The URL has no scheme or no host.
    pub fn new(client: Client, url: &str, limits: &ServerLimits) -> Result<Self, UrlError> {
        let parsed: Option<Uri> = url.trim_end_matches('/').parse().ok();
        let usable = parsed.filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        let server = usable.ok_or_else(|| UrlError { url: url.to_owned() })?;
        let filters = Rc::new(Filters::new(limits.filters_max));
        Ok(Self { client, server, limits: limits.clone(), filters })
    }

    /// Asks for something that is read whole.
    pub(super) async fn get(
        &self,
        path: String,
        token: &str,
        patience: Duration,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        self.ask(Method::GET, path, token, Body::empty(), (patience, bytes_max)).await
    }

    async fn ask(
        &self,
        method: Method,
        path: String,
        token: &str,
        body: Body,
        (patience, bytes_max): (Duration, usize),
    ) -> Result<Response<Bytes>, ClientError> {
        let broken = |error: http::Error| ClientError::Broken(error.into());
        let bearer = HeaderValue::from_maybe_shared(Bytes::from(["Bearer ", token].concat()));
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = address(&self.server, path).map_err(broken)?;
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, bearer.map_err(|error| broken(error.into()))?);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let body_chunk = Duration::from_millis(self.limits.body_timeout_ms);
        let timeouts = Timeouts { header: patience, body_chunk };
        let response = self.client.send_with(request, timeouts).await?;
        let (head, body) = response.into_parts();
        let max = if head.status.is_success() { bytes_max } else { ERROR_BYTES_MAX };
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(Response::from_parts(head, read_whole(body, length, max).await?))
    }

    pub(super) fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.limits.answer_timeout_ms)
    }

    pub(super) fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    /// Whose a token is, or why that is not known.
    pub(super) async fn whoami(&self, token: &str) -> Result<Identity, Denied> {
        let path = "/_matrix/client/v3/account/whoami".to_owned();
        let answer = self.get(path, token, self.answer_timeout(), ERROR_BYTES_MAX).await;
        let answer = answer.map_err(|error| Denied::Unknown(unreachable(&error)))?;
        match answer.status() {
            StatusCode::OK => serde_json::from_slice(answer.body())
                .map_err(|_| Denied::Unknown(not_json("the homeserver's whoami answer"))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Denied::Refused(passed_on(&answer)))
            }
            StatusCode::TOO_MANY_REQUESTS => Err(Denied::Unknown(passed_on(&answer))),
            status => Err(Denied::Unknown(failing(status))),
        }
    }

    /// One `/sync` of the user with this id.
    pub(super) async fn sync(
        &self,
        order: &PollOrder,
        user_id: Option<&str>,
    ) -> Result<Bytes, PollOutcome> {
        let stored = match self.filters.way(order, clock::now_ms()) {
            Way::Inline => None,
            Way::Stored(id) => Some(id),
            // Apart, since it is rare, and its future would be part of every poll's.
            Way::Store => Box::pin(self.store_filter(order, user_id)).await,
        };
        let answer = self.sync_once(order, stored.as_deref()).await?;
        let is_stored = stored.is_some();
        match answer.status() {
            StatusCode::OK => return Ok(answer.into_body()),
            // Before it can be thought to be about `since`: an id that is not known
            // gets the same answers.
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if is_stored => {
                tracing::debug!("the homeserver does not know a stored filter");
                self.filters.note(order.user, None, clock::now_ms());
            }
            status => {
                if is_stored && status.is_server_error() {
                    self.filters.doubt(order.user);
                }
                return Err(poll_outcome(&answer, order.since.is_some()));
            }
        }
        let answer = Box::pin(self.sync_once(order, None)).await?;
        if answer.status() == StatusCode::OK {
            return Ok(answer.into_body());
        }
        Err(poll_outcome(&answer, order.since.is_some()))
    }

    /// One request, with the filter that is stored under this id, or in its URL.
    async fn sync_once(
        &self,
        order: &PollOrder,
        stored: Option<&str>,
    ) -> Result<Response<Bytes>, PollOutcome> {
        let waits = Duration::from_millis(order.timeout_ms);
        let patience = match order.since {
            None => Duration::from_millis(self.limits.initial_sync_timeout_ms),
            Some(_) => waits + self.answer_timeout(),
        };
        let path = sync_path(order, stored);
        let bytes_max = self.limits.sync_bytes_max;
        let answer = self.get(path, &order.token.secret, patience, bytes_max).await;
        answer.map_err(|error| PollOutcome::Failed(unreachable(&error)))
    }

    /// Has the homeserver store the order's filter: the id that it gives.
    async fn store_filter(&self, order: &PollOrder, user_id: Option<&str>) -> Option<Rc<str>> {
        #[derive(Deserialize)]
        struct Stored {
            filter_id: String,
        }
        let path = format!("/_matrix/client/v3/user/{}/filter", escaped(user_id?));
        let limits = (self.answer_timeout(), ERROR_BYTES_MAX);
        let filter = Body::from(filter::text(order));
        let answer = self.ask(Method::POST, path, &order.token.secret, filter, limits).await.ok();
        let answer = answer.filter(|answer| answer.status() == StatusCode::OK);
        let stored = answer.and_then(|it| serde_json::from_slice::<Stored>(it.body()).ok());
        let id = stored.map(|it| it.filter_id).filter(|id| is_filter_id(id));
        if id.is_none() {
            tracing::debug!("the homeserver stores no filter");
        }
        self.filters.note(order.user, id.as_deref(), clock::now_ms());
        id.map(Into::into)
    }
}

/// Whether an id can stand for a filter: one that begins with a brace would be
/// read as a filter itself.
fn is_filter_id(id: &str) -> bool {
    (1..=FILTER_ID_BYTES_MAX).contains(&id.len()) && !id.starts_with('{')
}

/// Bytes of a stored filter's id.
const FILTER_ID_BYTES_MAX: usize = 255;

/// Bytes of a body that are read before the shard's other tasks have their turn.
/// A body whose bytes are all there is otherwise read in one go, and holds the
/// shard up for longer the larger it is.
const READ_AT_ONCE_BYTES: usize = 512 << 10;
/// How long they have it at least. Only a timer is sure to hand the thread to the
/// driver.
const READ_PAUSE: Duration = Duration::from_millis(1);

/// The whole body, if it has at most `max` bytes; `length` is what was announced.
async fn read_whole(
    mut body: Incoming,
    length: Option<usize>,
    max: usize,
) -> Result<Bytes, BodyError> {
    if length.is_some_and(|length| length <= READ_AT_ONCE_BYTES || length > max) {
        return body.read_limited(max).await;
    }
    let mut whole = Vec::with_capacity(length.unwrap_or_default());
    let mut at_once = 0;
    while let Some(chunk) = body.chunk().await {
        let chunk = chunk?;
        if max - whole.len() < chunk.len() {
            return Err(BodyError::TooLarge { max });
        }
        whole.extend_from_slice(&chunk);
        at_once += chunk.len();
        drop(chunk);
        if at_once >= READ_AT_ONCE_BYTES {
            at_once = 0;
            time::sleep(READ_PAUSE).await;
        }
    }
    Ok(whole.into())
}

/// Why a token's owner is not known.
pub(super) enum Denied {
    /// The homeserver refuses the token.
    Refused(Refusal),
    /// The homeserver could not say.
    Unknown(Refusal),
}

/// Where a path of the homeserver's is.
fn address(server: &Uri, path: String) -> Result<Uri, http::Error> {
    let mut parts = server.clone().into_parts();
    let prefix = parts.path_and_query.as_ref().map_or("", PathAndQuery::as_str);
    let path = if prefix == "/" { path } else { format!("{prefix}{path}") };
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(path))?);
    Ok(Uri::from_parts(parts)?)
}

/// Bytes that most paths with a stored filter take.
const PATH_BYTES: usize = 320;

fn sync_path(order: &PollOrder, stored: Option<&str>) -> String {
    let mut path = String::with_capacity(PATH_BYTES);
    path.push_str("/_matrix/client/v3/sync?set_presence=offline&timeout=");
    path.push_str(&order.timeout_ms.to_string());
    path.push_str("&use_state_after=true&org.matrix.msc4222.use_state_after=true&filter=");
    match stored {
        Some(id) => push_escaped(&mut path, id),
        None => push_escaped(&mut path, &filter::text(order)),
    }
    if let Some(since) = &order.since {
        path.push_str("&since=");
        push_escaped(&mut path, since);
    }
    path
}

/// Percent-encoded, so that it can stand in a path segment or a query value.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    push_escaped(&mut out, text);
    out
}

fn push_escaped(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
}

/// What a `/sync` answer other than 200 means.
fn poll_outcome(answer: &Response<Bytes>, had_since: bool) -> PollOutcome {
    let error: MatrixError = serde_json::from_slice(answer.body()).unwrap_or_default();
    match answer.status() {
        StatusCode::UNAUTHORIZED => PollOutcome::Unauthorized(passed_on(answer)),
        StatusCode::FORBIDDEN => PollOutcome::Refused(passed_on(answer)),
        StatusCode::TOO_MANY_REQUESTS => {
            let header = answer.headers().get(header::RETRY_AFTER);
            let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
            let wait_ms = seconds.map(|seconds| seconds.saturating_mul(1000));
            PollOutcome::Limited { wait_ms: wait_ms.or(error.retry_after_ms).unwrap_or(1000) }
        }
        StatusCode::BAD_REQUEST if had_since && is_about_since(error.errcode.as_deref()) => {
            tracing::warn!(errcode = error.errcode, "the homeserver does not know a since token");
            PollOutcome::SinceRejected
        }
        status => PollOutcome::Failed(failing(status)),
    }
}

/// Whether a 400 can mean that the homeserver does not know a `since`: servers
/// have no one code for it. Anything else, such as a reverse proxy's own 400,
/// must not cost a whole initial sync.
fn is_about_since(errcode: Option<&str>) -> bool {
    matches!(errcode, Some("M_UNKNOWN" | "M_INVALID_PARAM" | "M_UNKNOWN_POS" | "M_BAD_JSON"))
}

/// The homeserver's own error for the client, or one like it where it is not
/// Matrix's.
fn passed_on(answer: &Response<Bytes>) -> Refusal {
    let status = answer.status().as_u16();
    let body = std::str::from_utf8(answer.body()).ok();
    let is_error = |body: &&str| {
        serde_json::from_str::<MatrixError>(body).is_ok_and(|error| error.errcode.is_some())
    };
    if let Some(body) = body.filter(is_error) {
        return Refusal { status, body: body.to_owned() };
    }
    let errcode = if status == 401 { "M_UNKNOWN_TOKEN" } else { "M_FORBIDDEN" };
    Refusal::new(status, errcode, "the homeserver refused the access token")
}

/// The homeserver cannot be reached, or not in time.
fn unreachable(error: &ClientError) -> Refusal {
    let late = matches!(error, ClientError::HeaderTimeout | ClientError::BodyTimeout);
    let status = if late { 504 } else { 502 };
    Refusal::new(status, "M_UNKNOWN", &format!("the homeserver gives no answer: {error}"))
}

fn failing(status: StatusCode) -> Refusal {
    let error = format!("the homeserver fails with status {}", status.as_u16());
    Refusal::new(502, "M_UNKNOWN", &error)
}

pub(super) fn not_json(what: &str) -> Refusal {
    Refusal::new(502, "M_UNKNOWN", &format!("{what} is not what the specification says"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use luge_core::{
        id::{DeviceNumber, UserNumber},
        shard::Token,
    };
    use luge_io::{driver::Driver, task};

    use super::*;

    /// Goal: how long a shard is held up does not grow with an answer.
    #[test]
    fn while_a_large_body_is_read_other_tasks_have_their_turn() {
        let size = 2 * READ_AT_ONCE_BYTES;
        for length in [None, Some(size)] {
            let (read, had_turn) = Driver::Epoll
                .block_on(async move {
                    let had_turn = Rc::new(Cell::new(false));
                    let turn = Rc::clone(&had_turn);
                    drop(task::spawn(async move { turn.set(true) }));
                    let read = read_whole(Incoming::ready(vec![b'a'; size]), length, size).await;
                    (read.map(|read| read.len()).ok(), had_turn.get())
                })
                .unwrap();
            assert_eq!((read, had_turn), (Some(size), true), "{length:?}");
        }
    }

    /// Goal: no body is kept that is larger than allowed, announced or not.
    #[test]
    fn a_body_that_is_too_large_is_refused() {
        for length in [None, Some(11)] {
            let read = Driver::Epoll
                .block_on(read_whole(Incoming::ready(vec![b'a'; 11]), length, 10))
                .unwrap();
            assert!(matches!(read, Err(BodyError::TooLarge { max: 10 })), "{length:?}");
        }
    }

    #[test]
    fn what_is_asked_for_stands_behind_the_homeservers_own_path() {
        for (server, whole) in
            [("http://hs:8008", "http://hs:8008/a?b=c"), ("https://hs/sub", "https://hs/sub/a?b=c")]
        {
            let server = server.parse().unwrap();
            assert_eq!(address(&server, "/a?b=c".to_owned()).unwrap(), whole);
        }
        assert!(address(&Uri::from_static("http://hs"), "/a b".to_owned()).is_err());
    }

    #[test]
    fn what_goes_into_a_url_is_escaped() {
        assert_eq!(escaped("s1_2~a-b.c"), "s1_2~a-b.c");
        assert_eq!(escaped("{\"a\" é/&"), "%7B%22a%22%20%C3%A9%2F%26");
    }

    #[test]
    fn a_poll_asks_for_what_luge_needs_and_no_more() {
        let order = |since: Option<&str>, with_rooms, timeout_ms| PollOrder {
            user: UserNumber(1),
            device: DeviceNumber(1),
            token: Token { key: [0; 32], secret: "t".into() },
            since: since.map(str::to_owned),
            with_rooms,
            timeout_ms,
            asked_ms: 0,
            may_repeat: false,
            silence: None,
        };
        let filter = |rooms: &str, limit: u64| {
            let state = r#"{"lazy_load_members":true,"include_redundant_members":true}"#;
            escaped(&format!(
                r#"{{"presence":{{"not_types":["*"]}},"room":{{{rooms}"timeline":{{"limit":{limit}}},"state":{state}}}}}"#
            ))
        };
        for (order, timeout_ms, filter, since) in [
            (order(None, true, 0), 0, filter("", 20), ""),
            (order(None, false, 0), 0, filter(r#""rooms":[],"#, 20), ""),
            (order(Some("s/1"), true, 30_000), 30_000, filter("", 50), "&since=s%2F1"),
        ] {
            assert_eq!(
                sync_path(&order, None),
                format!(
                    "/_matrix/client/v3/sync?set_presence=offline&timeout={timeout_ms}\
                     &use_state_after=true&org.matrix.msc4222.use_state_after=true\
                     &filter={filter}{since}"
                )
            );
        }
    }

    #[test]
    fn a_stored_filter_stands_in_the_url_by_its_id_alone() {
        let order = PollOrder {
            user: UserNumber(1),
            device: DeviceNumber(1),
            token: Token { key: [0; 32], secret: "t".into() },
            since: Some("s".to_owned()),
            with_rooms: true,
            timeout_ms: 30_000,
            asked_ms: 0,
            may_repeat: false,
            silence: None,
        };
        assert_eq!(
            sync_path(&order, Some("a/1")),
            "/_matrix/client/v3/sync?set_presence=offline&timeout=30000&use_state_after=true\
             &org.matrix.msc4222.use_state_after=true&filter=a%2F1&since=s"
        );
        assert!(is_filter_id("0") && is_filter_id("3f_a-b"));
        assert!(!is_filter_id("") && !is_filter_id("{}") && !is_filter_id(&"i".repeat(256)));
    }

    #[test]
    fn the_homeservers_refusals_keep_their_meaning() {
        let answer = |status: u16, body: &str| {
            Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap()
        };
        let soft = r#"{"errcode":"M_UNKNOWN_TOKEN","error":"gone","soft_logout":true}"#;
        let refusal = Refusal { status: 401, body: soft.to_owned() };
        assert_eq!(poll_outcome(&answer(401, soft), true), PollOutcome::Unauthorized(refusal));
        let limited = answer(429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#);
        assert_eq!(poll_outcome(&limited, true), PollOutcome::Limited { wait_ms: 1500 });
        let mut with_header = answer(429, r#"{"retry_after_ms":1500}"#);
        with_header
            .headers_mut()
            .insert(header::RETRY_AFTER, header::HeaderValue::from_static("3"));
        let waits = PollOutcome::Limited { wait_ms: 3_000 };
        assert_eq!(poll_outcome(&with_header, true), waits, "the header is the newer way");
        assert_eq!(poll_outcome(&answer(429, ""), true), PollOutcome::Limited { wait_ms: 1_000 });
        let unknown = answer(400, r#"{"errcode":"M_UNKNOWN"}"#);
        assert_eq!(poll_outcome(&unknown, true), PollOutcome::SinceRejected);
        assert!(matches!(poll_outcome(&answer(400, "{}"), true), PollOutcome::Failed(_)));
        assert!(matches!(poll_outcome(&answer(400, "{}"), false), PollOutcome::Failed(_)));
        let PollOutcome::Unauthorized(odd) = poll_outcome(&answer(401, "<html>"), true) else {
            panic!("a 401 is a refusal of the token, whatever its body");
        };
        assert!(odd.body.contains("M_UNKNOWN_TOKEN"));
    }
}
