//! The sliding sync endpoint: who asks, what they ask, and the way to their
//! shard and back. What to answer is decided there.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use luge_core::{
    dialect::{self, KnownRequests, RequestLimits},
    id::{DeviceNumber, UserNumber},
    ledger::{Command, Reply, SignIn},
    record::{TokenRecord, key},
    request::Dialect,
    shard::{Hint, Refusal, Ticket, Token},
    view::{Direction, Table, View},
};
use luge_io::{
    gate::Gate,
    http::{Body, BodyError, Handler, Incoming},
    mailbox::SendError,
    oneshot,
    time::clock,
};
use luge_store::{Secrets, Store};
use rustc_hash::FxHashMap;

use crate::{
    front::{self, Front, FrontHint},
    ledger::LedgerHandle,
    message::{Answer, Asked, Message, Outboxes},
    upstream::{Homeserver, Identity},
};

/// What a shard's endpoint is made of.
pub struct EndpointConfig {
    /// The shard that accepts, counted from 0.
    pub shard: usize,
    /// All shards.
    pub shards: Outboxes,
    /// The ledger.
    pub ledger: LedgerHandle,
    /// The tables.
    pub store: Store,
    /// The keys of tokens.
    pub secrets: Arc<Secrets>,
    /// The homeserver.
    pub homeserver: Homeserver,
    /// Limits on requests.
    pub request_limits: RequestLimits,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Tokens remembered.
    pub tokens_max: usize,
    /// Bytes of requests that are remembered as read.
    pub known_requests_bytes_max: usize,
}

/// One shard's endpoint.
pub struct Endpoint {
    config: EndpointConfig,
    front: Option<Front>,
    owners: RefCell<FxHashMap<[u8; 32], Owner>>,
    /// Requests that were read before.
    known: RefCell<KnownRequests>,
    /// Tokens that the homeserver refused a moment ago, and until when that is
    /// passed on without asking it again.
    refused: RefCell<FxHashMap<[u8; 32], (u64, Refusal)>>,
    /// Questions to the homeserver whose a token is, in flight.
    asking: Gate,
    next_ticket: Cell<u64>,
}

/// Questions to the homeserver at once whose a token is.
const ASKING_MAX: usize = 256;
/// Refused tokens that are remembered.
const REFUSED_MAX: usize = 10_000;
/// How long they are, in milliseconds.
const REFUSED_MS: u64 = 5_000;

/// Whose a token is.
#[derive(Clone)]
struct Owner {
    user: UserNumber,
    user_id: Arc<str>,
    device: DeviceNumber,
}

/// An answer that is not the one hoped for.
type Refused = Box<Response<Body>>;

impl Handler for Endpoint {
    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let dialect = dialect::of_request(request.method().as_str(), request.uri().path());
        if let Some(dialect) = dialect {
            return match *request.method() {
                Method::POST => {
                    self.sync(dialect, request).await.unwrap_or_else(|refused| *refused)
                }
                Method::OPTIONS => preflight(),
                _ => front::error(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "M_UNRECOGNIZED",
                    "sliding sync is asked for with POST",
                ),
            };
        }
        match &self.front {
            // Apart, or what it needs would be part of every long poll.
            Some(front) => Box::pin(front.pass(request, peer)).await,
            None => front::error(
                StatusCode::NOT_FOUND,
                "M_UNRECOGNIZED",
                "Luge answers sliding sync alone here: ask the homeserver",
            ),
        }
    }
}

impl Endpoint {
    /// An endpoint; what `front` makes passes everything else on, and may tell
    /// the endpoint what it saw.
    pub fn new(
        config: EndpointConfig,
        front: impl FnOnce(Weak<Self>) -> Option<Front>,
    ) -> Rc<Self> {
        Rc::new_cyclic(|endpoint| Self {
            known: RefCell::new(KnownRequests::new(config.known_requests_bytes_max)),
            config,
            front: front(endpoint.clone()),
            owners: RefCell::default(),
            refused: RefCell::default(),
            asking: Gate::new(ASKING_MAX),
            next_ticket: Cell::new(0),
        })
    }

    async fn sync(
        &self,
        dialect: Dialect,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        // Apart, so that nothing of it is kept while the answer is waited for: that is what most
        // clients do most of the time.
        let (guard, answer) = Box::pin(self.ask(dialect, request)).await?;
        let answer = answer.await;
        guard.answered();
        answer.map(answered).map_err(|_| stopping())
    }

    /// Reads a request, finds out who asks, and passes it on to their shard.
    async fn ask(
        &self,
        dialect: Dialect,
        request: Request<Incoming>,
    ) -> Result<(Guard<'_>, oneshot::Receiver<Answer>), Refused> {
        let query = decoded_query(request.uri().query().unwrap_or_default());
        let secret = access_token(request.headers(), &query).ok_or_else(|| {
            refused(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "the request has no access token")
        })?;
        let body = request.into_body().read_limited(self.config.body_bytes_max).await;
        let body = body.map_err(|error| self.body_refused(&error))?;
        let (owner, token, confirmed) = self.owner(secret).await?;
        let request = self.request(dialect, &query, &body, &owner)?;
        let (reply, answer) = oneshot::channel();
        let guard = self.ticket(owner.user);
        let asked = Asked {
            ticket: guard.ticket,
            user: owner.user,
            user_id: owner.user_id,
            device: owner.device,
            token,
            confirmed,
            request,
            reply,
        };
        let sent = self.config.shards.send_to_user(owner.user, Message::Asked(Box::new(asked)));
        sent.map_err(|error| unsent(&error))?;
        Ok((guard, answer))
    }

    fn request(
        &self,
        dialect: Dialect,
        query: &[(String, String)],
        body: &[u8],
        owner: &Owner,
    ) -> Result<luge_core::request::Request, Refused> {
        let (user, limits) = ((owner.user, &*owner.user_id), &self.config.request_limits);
        let read = self.known.borrow_mut().parse(dialect, query, body, user, limits);
        read.map_err(|error| refused(StatusCode::BAD_REQUEST, error.errcode(), &error.to_string()))
    }

    fn body_refused(&self, error: &BodyError) -> Refused {
        let max = self.config.body_bytes_max;
        match error {
            BodyError::TooLarge { .. } => refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                "M_TOO_LARGE",
                &format!("the body is larger than {max} bytes"),
            ),
            BodyError::Timeout => {
                refused(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "the body did not arrive in time")
            }
            BodyError::Broken(_) => {
                refused(StatusCode::BAD_REQUEST, "M_UNKNOWN", "the body did not arrive whole")
            }
        }
    }

    fn ticket(&self, user: UserNumber) -> Guard<'_> {
        let number = self.next_ticket.get();
        self.next_ticket.set(number + 1);
        let ticket = Ticket(((self.config.shard as u64) << 48) | number);
        Guard { ticket, user, shards: &self.config.shards, answered: Cell::new(false) }
    }

    /// Whose a token is, and whether the homeserver has just said so.
    async fn owner(&self, secret: String) -> Result<(Owner, Token, bool), Refused> {
        let key = self.config.secrets.lookup_key(&secret);
        if let Some(owner) = self.known_owner(&key) {
            return Ok((owner, Token { key, secret: secret.into() }, false));
        }
        let identity = self.identify(key, &secret).await?;
        let Some(device_id) = identity.device_id else {
            return Err(refused(
                StatusCode::FORBIDDEN,
                "M_FORBIDDEN",
                "this access token belongs to no device: sliding sync needs one",
            ));
        };
        let token_sealed = self.config.secrets.encrypt(&secret).map_err(|_| busy())?;
        let user_id: Arc<str> = identity.user_id.as_str().into();
        let command = Command::SignIn(SignIn {
            user_id: identity.user_id,
            device_id,
            token_key: key,
            token_sealed,
        });
        let reply = self.config.ledger.submit(command).map_err(|_| busy())?;
        let Ok(Reply::SignedIn(user, device)) = reply.await else { return Err(stopping()) };
        let owner = Owner { user, user_id, device };
        self.remember(key, &owner);
        Ok((owner, Token { key, secret: secret.into() }, true))
    }

    /// Whose a new token is: as many questions at once as the homeserver may be
    /// asked, and no second one soon about a token that it refuses.
    async fn identify(&self, key: [u8; 32], secret: &str) -> Result<Identity, Refused> {
        let now_ms = clock::now_ms();
        let refused = self.refused.borrow().get(&key).cloned();
        if let Some((_, refusal)) = refused.filter(|(until_ms, _)| *until_ms > now_ms) {
            return Err(Box::new(refusal_response(refusal)));
        }
        let asking = self.asking.try_enter().ok_or_else(busy)?;
        let identity = self.config.homeserver.identify(secret).await;
        drop(asking);
        identity.map_err(|refusal| {
            if refusal.status == 401 {
                let mut refused = self.refused.borrow_mut();
                if refused.len() >= REFUSED_MAX {
                    refused.retain(|_, (until_ms, _)| *until_ms > now_ms);
                }
                if refused.len() < REFUSED_MAX {
                    refused.insert(key, (now_ms + REFUSED_MS, refusal.clone()));
                }
            }
            Box::new(refusal_response(refusal))
        })
    }

    fn remember(&self, key: [u8; 32], owner: &Owner) {
        let mut owners = self.owners.borrow_mut();
        if owners.len() >= self.config.tokens_max {
            // All are in the store too; forgetting costs a look there.
            owners.clear();
        }
        owners.insert(key, owner.clone());
    }

    fn known_owner(&self, key: &[u8; 32]) -> Option<Owner> {
        if let Some(owner) = self.owners.borrow().get(key) {
            return Some(owner.clone());
        }
        let read = self.config.store.read(|reader| {
            let record = TokenRecord::decode(reader.get(Table::Tokens, key)?)?;
            Some((UserNumber(record.user), DeviceNumber(record.device)))
        });
        let (user, device) = read.ok()??;
        let user_id = Arc::clone(self.config.ledger.world().user_id(user)?);
        let owner = Owner { user, user_id, device };
        self.remember(*key, &owner);
        Some(owner)
    }

    /// Tells a user's shard what front mode saw.
    pub fn hint(&self, hint: FrontHint) {
        let (secret, make): (_, Box<dyn FnOnce(&Owner) -> Option<Hint>>) = match hint {
            FrontHint::ClassicSync { token } => {
                (token, Box::new(|owner| Some(Hint::ClassicSync(owner.device))))
            }
            FrontHint::LoggedOut { token } => {
                (token, Box::new(|owner| Some(Hint::Purge(vec![owner.device]))))
            }
            FrontHint::LoggedOutEverywhere { token } | FrontHint::AccountClosed { token } => {
                (token, Box::new(|owner| Some(Hint::Purge(self.devices(owner.user, &|_| true)))))
            }
            FrontHint::PasswordChanged { token } => (
                token,
                Box::new(|owner| {
                    let others = |device| device != owner.device;
                    Some(Hint::Purge(self.devices(owner.user, &others)))
                }),
            ),
            FrontHint::DevicesDeleted { token, device_ids } => (
                token,
                Box::new(move |owner| {
                    let devices = device_ids.iter();
                    let number = |id: &String| self.device_number(owner.user, id);
                    Some(Hint::Purge(devices.filter_map(number).collect()))
                }),
            ),
            FrontHint::KeyCounts { token, counts } => {
                (token, Box::new(|owner| Some(Hint::KeyCounts(owner.device, counts))))
            }
            FrontHint::Forgot { token, room_id } => (
                token,
                Box::new(move |_| {
                    let room = self.config.ledger.world().find_room(&room_id)?.number;
                    Some(Hint::Forget(room))
                }),
            ),
            // The pollers are at it already.
            _ => return,
        };
        let key = self.config.secrets.lookup_key(&secret);
        let Some(owner) = self.known_owner(&key) else { return };
        if let Some(hint) = make(&owner)
            && self.config.shards.send_to_user(owner.user, Message::Hint(owner.user, hint)).is_err()
        {
            tracing::warn!("a shard is too busy for a hint");
        }
    }

    fn devices(&self, user: UserNumber, which: &dyn Fn(DeviceNumber) -> bool) -> Vec<DeviceNumber> {
        let from = key::device_name(user, "");
        let to = key::after_prefix(&from);
        let mut devices = Vec::new();
        let read = self.config.store.read(|reader| {
            reader.scan(Table::Names, &from, &to, Direction::Forward, &mut |_, value| {
                devices.extend(key::number_from(value).map(DeviceNumber));
                true
            });
        });
        if read.is_err() {
            tracing::warn!("a user's devices could not be read");
        }
        devices.retain(|device| which(*device));
        devices
    }

    fn device_number(&self, user: UserNumber, device_id: &str) -> Option<DeviceNumber> {
        let read = self.config.store.read(|reader| {
            reader.get(Table::Names, &key::device_name(user, device_id)).and_then(key::number_from)
        });
        read.ok()?.map(DeviceNumber)
    }
}

/// Tells the shard when its client goes away: hyper then drops the handler,
/// which owns nothing but this.
struct Guard<'a> {
    ticket: Ticket,
    user: UserNumber,
    shards: &'a Outboxes,
    answered: Cell<bool>,
}

impl Guard<'_> {
    fn answered(&self) {
        self.answered.set(true);
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.answered.get() {
            // A shard that has ended, or has too much to do, lets go of the
            // request at its deadline.
            drop(self.shards.send_to_user(self.user, Message::Abandoned(self.ticket)));
        }
    }
}

fn refused(status: StatusCode, errcode: &str, error: &str) -> Refused {
    Box::new(front::error(status, errcode, error))
}

/// Why a request did not reach its shard.
fn unsent(error: &SendError<Message>) -> Refused {
    match error {
        SendError::Full(_) => busy(),
        SendError::Closed(_) => stopping(),
    }
}

/// The shard or the ledger has ended: what comes up next answers.
fn stopping() -> Refused {
    refused(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", "Luge is stopping: ask again")
}

fn busy() -> Refused {
    let mut response = front::error(
        StatusCode::TOO_MANY_REQUESTS,
        "M_LIMIT_EXCEEDED",
        "Luge has too much to do: ask again",
    );
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Box::new(response)
}

fn refusal_response(refusal: Refusal) -> Response<Body> {
    answered(Answer { status: refusal.status, body: refusal.body })
}

fn answered(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if answer.status == 429 {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    front::cors(headers);
    response
}

fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    front::cors(response.headers_mut());
    response
}

/// The token of the header, else of the query (the old way).
fn access_token(headers: &http::HeaderMap, query: &[(String, String)]) -> Option<String> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let query = || query.iter().find(|(key, _)| key == "access_token").map(|(_, it)| it.clone());
    bearer.or_else(query).filter(|token| !token.is_empty())
}

/// The pairs of a query, percent-decoded.
fn decoded_query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    };
    pairs.map(pair).collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that is told to slow down would wait, where Luge is soon back.
    #[test]
    fn a_shard_that_has_ended_is_not_one_that_is_busy() {
        let status = |error| unsent(&error).status().as_u16();
        assert_eq!(status(SendError::Closed(Message::Stop)), 503);
        assert_eq!(status(SendError::Full(Message::Stop)), 429);
    }

    #[test]
    fn queries_are_decoded() {
        let pairs = decoded_query("pos=a%2Fb+c&timeout=5&flag&=x&bad=%zz%4");
        let expected =
            [("pos", "a/b c"), ("timeout", "5"), ("flag", ""), ("", "x"), ("bad", "%zz%4")];
        let expected: Vec<_> =
            expected.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn the_header_comes_before_the_query() {
        let mut headers = http::HeaderMap::new();
        let query = vec![("access_token".to_owned(), "q".to_owned())];
        assert_eq!(access_token(&headers, &query).as_deref(), Some("q"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer  h "));
        assert_eq!(access_token(&headers, &query).as_deref(), Some("h"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic x"));
        assert_eq!(access_token(&headers, &[]), None);
    }
}
