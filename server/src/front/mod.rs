//! Front mode: everything that is not sliding sync goes to the homeserver and back, byte for byte,
//! so that a client needs one URL and an operator no other proxy.
//!
//! Here is the way of one request. Which requests deserve a second look is in [`route`], what is
//! changed in answers in [`edit`], in requests in [`paging`], header rules in [`forward`]. Nothing here knows users, devices
//! or shards: what was seen is told as a [`FrontHint`], and others draw the conclusions. A `Front`
//! lives on one shard.

mod answer;
mod buffer;
mod config;
mod edit;
mod forward;
mod hint;
mod paging;
mod route;
mod token;

use std::{
    cell::Cell,
    fmt,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request, response,
};
use luge_io::{
    http::{Body, Client, ClientError, Incoming, splice},
    time::clock,
};

pub use self::{
    answer::{cors, error},
    config::{FrontConfig, Homeserver, UrlError, parse_public_url},
    hint::FrontHint,
    token::{AccessToken, access_token},
};
use self::{buffer::Read, hint::Seen, route::Route};

/// While the homeserver cannot be reached, the log says so once in this time on each shard.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// One shard's way to the homeserver.
pub struct Front {
    client: Rc<Client>,
    config: FrontConfig,
    hints: Box<dyn Fn(FrontHint)>,
    complained: Cell<Option<Instant>>,
}

impl fmt::Debug for Front {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Front").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Front {
    /// A front that tells `hints` what it sees; `hints` must not wait.
    pub fn new(
        client: Rc<Client>,
        config: FrontConfig,
        hints: impl Fn(FrontHint) + 'static,
    ) -> Self {
        Self { client, config, hints: Box::new(hints), complained: Cell::new(None) }
    }

    /// Passes one request on and its answer back. May be dropped at any time, which ends the
    /// exchange with the homeserver too.
    pub async fn pass(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let route = Route::of(request.method(), request.uri().path());
        let (mut head, body) = request.into_parts();
        let token = access_token(&head);
        if let (Route::ClassicSync, Some(token)) = (&route, &token) {
            (self.hints)(FrontHint::ClassicSync { token: token.clone() });
        }
        let public_url =
            if route.names_us() { forward::public_url(&self.config, &head) } else { None };
        let wants_upgrade = forward::wants_websocket(&head.headers);
        let framing = forward::Framing::of(&head.headers);
        if let Err(refused) = self.readdress(&mut head, peer, &route, wants_upgrade) {
            return refused;
        }
        let (body, seen_body) = match self.outgoing(body, framing, &route).await {
            Ok(outgoing) => outgoing,
            Err(refused) => return refused,
        };
        let authenticated = token.is_some();
        let place = (head.method.clone(), head.uri.path().to_owned());
        let sent = self.client.send_with(Request::from_parts(head, body), self.config.timeouts);
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(error) => return self.unreachable(&error, &place),
        };
        let (mut head, body) = answer.into_parts();
        head.version = Version::HTTP_11;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.upgrade(head, body, wants_upgrade);
        }
        forward::clean_answer(&mut head.headers);
        let mut seen = Seen { route: &route, token, request: seen_body, answer: None };
        if !head.status.is_success() || !route.looks_into_answers() {
            self.tell(&head, &seen);
            return Response::from_parts(head, Body::from(body));
        }
        match buffer::read_up_to(body, self.config.buffered_answer_bytes_max).await {
            Read::Broken(error) => self.unreachable(&error.into(), &place),
            Read::Longer(body) => {
                self.tell(&head, &seen);
                Response::from_parts(head, body)
            }
            Read::Whole(bytes) => {
                seen.answer = Some(bytes.clone());
                self.tell(&head, &seen);
                edited(&route, head, bytes, public_url.as_deref(), authenticated)
            }
        }
    }

    /// Turns the request's head into one for the homeserver.
    #[expect(clippy::result_large_err, reason = "the refusal is the answer, made once and rarely")]
    fn readdress(
        &self,
        head: &mut request::Parts,
        peer: SocketAddr,
        route: &Route,
        wants_upgrade: bool,
    ) -> Result<(), Response<Body>> {
        let homeserver = &self.config.homeserver;
        if *route == Route::Paging
            && let Some(uri) = paging::without_positions(&head.uri)
        {
            head.uri = uri;
        }
        let Some(uri) = homeserver.uri_for(&head.uri) else {
            let message = "the request names no path; ask for one that starts with a slash";
            return Err(error(StatusCode::BAD_REQUEST, "M_UNRECOGNIZED", message));
        };
        forward::prepare_request(head, peer, homeserver.authority(), wants_upgrade);
        if route.looks_into_answers() {
            let identity = HeaderValue::from_static("identity");
            head.headers.insert(header::ACCEPT_ENCODING, identity);
        }
        if route.edits_cacheable() {
            forward::make_unconditional(&mut head.headers);
        }
        head.uri = uri;
        Ok(())
    }

    /// The body to send, and what was read of it where the route wants to know. Small bodies are
    /// read first, since what is whole can be sent again when a kept connection turns out closed.
    async fn outgoing(
        &self,
        body: Incoming,
        framing: forward::Framing,
        route: &Route,
    ) -> Result<(Body, Option<Bytes>), Response<Body>> {
        let max = self.config.buffered_request_bytes_max;
        let small = match framing {
            forward::Framing::None => return Ok((Body::empty(), None)),
            forward::Framing::Sized(size) => size <= max as u64,
            forward::Framing::Chunked => false,
        };
        if !small && !route.looks_into_requests() {
            return Ok((Body::from(body), None));
        }
        match buffer::read_up_to(body, max).await {
            Read::Whole(bytes) if framing == forward::Framing::Chunked => {
                // As it came: without a length.
                Ok((buffer::chunked(bytes.clone()), Some(bytes)))
            }
            Read::Whole(bytes) => Ok((Body::full(bytes.clone()), Some(bytes))),
            Read::Longer(body) => Ok((body, None)),
            Read::Broken(problem) => {
                tracing::debug!(error = %problem, "a client's request did not arrive whole");
                let message = "the request's body did not arrive whole; send it again";
                Err(error(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", message))
            }
        }
    }

    fn tell(&self, head: &response::Parts, seen: &Seen<'_>) {
        if head.status.is_success()
            && let Some(hint) = seen.hint()
        {
            (self.hints)(hint);
        }
    }

    fn upgrade(&self, mut head: response::Parts, body: Incoming, wanted: bool) -> Response<Body> {
        if !wanted {
            let message = "the homeserver switched protocols without being asked to";
            return error(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message);
        }
        forward::clean_upgrade(&mut head.headers);
        let idle_max = self.config.upgrade_idle_max;
        let body = Body::upgrade(move |client| async move {
            let outcome = match body.upgraded().await {
                Ok(homeserver) => splice(client, homeserver, idle_max).await.map(drop),
                Err(error) => Err(std::io::Error::other(error)),
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "an upgraded connection ended");
            }
        });
        Response::from_parts(head, body)
    }

    /// The answer where the homeserver gave none.
    fn unreachable(
        &self,
        problem: &ClientError,
        (method, path): &(http::Method, String),
    ) -> Response<Body> {
        let now = clock::monotonic();
        let quiet = self.complained.get().is_some_and(|then| now - then < COMPLAINT_PAUSE);
        if !quiet {
            self.complained.set(Some(now));
            let source = std::error::Error::source(problem).map(ToString::to_string);
            tracing::warn!(
                %method, path, error = %problem, source,
                "the homeserver did not answer a request that was passed on",
            );
        }
        answer::gateway_error(problem)
    }
}

/// The answer with what has to be changed in it, or as it came.
fn edited(
    route: &Route,
    mut head: response::Parts,
    bytes: Bytes,
    public_url: Option<&str>,
    authenticated: bool,
) -> Response<Body> {
    let readable = head.status == StatusCode::OK && !is_encoded(&head.headers);
    let changed = if readable { edit::answer(route, &bytes, public_url) } else { None };
    let Some(changed) = changed else {
        return Response::from_parts(head, Body::full(bytes));
    };
    forward::describe_edited(&mut head.headers, changed.len());
    if *route == Route::Versions {
        forward::restrict_caching(&mut head.headers, authenticated);
    }
    Response::from_parts(head, Body::full(changed))
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// What a URI asks for, if it asks a server for a path.
fn path_of(uri: &Uri) -> Option<&str> {
    let path = uri.path_and_query()?.as_str();
    path.starts_with('/').then_some(path)
}
