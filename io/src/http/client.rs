//! The HTTP client of one shard: requests to upstream servers over kept connections.

use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{self, Scheme},
};
use hyper::{
    body::Body as _,
    client::conn::{
        TrySendError,
        http1::{self, Connection, SendRequest},
    },
};
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::{
    dns::{Names, Resolver},
    http::{
        Body, BodyError, Incoming,
        connect::{Outgoing, connect, stalled},
        pool::{Detached, Lease, Pool, Target},
    },
    hyper_stream::{HyperStream, Sent},
    oneshot,
    stream::Stream,
    time::{sleep, timeout},
    tls::ClientTls,
};

/// The limits of one shard's client.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// For name, TCP and TLS together. Default: 10 s.
    pub connect_timeout: Duration,
    /// Unless a request brings its own. Default: 60 s for the head, 30 s for each chunk.
    pub timeouts: Timeouts,
    /// An unused connection is closed after this. Default: 15 s, less than servers wait.
    pub idle_timeout: Duration,
    /// Unused connections kept for each server. Default: 20,000, as many as there may be: those who
    /// were all answered at once ask again at once.
    pub idle_per_host_max: usize,
    /// Connections at once, used or not. Default: 20,000.
    pub connections_max: usize,
    /// Bytes of a response's head. Default: 64 KiB.
    pub header_bytes_max: usize,
    /// A request that the server takes nothing of for so long fails. Default: 30 s.
    pub write_stall_max: Duration,
    /// A response to a plain GET that takes longer is waited for without hyper and its buffers: a
    /// long poll then needs less memory. Default: 1 s.
    pub park_after: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            timeouts: Timeouts::default(),
            idle_timeout: Duration::from_secs(15),
            idle_per_host_max: 20_000,
            connections_max: 20_000,
            header_bytes_max: 64 << 10,
            write_stall_max: Duration::from_secs(30),
            park_after: Duration::from_secs(1),
        }
    }
}

/// Patience with one request, once it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the last byte sent of the request to the response's head.
    pub header: Duration,
    /// Between two chunks of the response's body.
    pub body_chunk: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { header: Duration::from_mins(1), body_chunk: Duration::from_secs(30) }
    }
}

/// Why there is no response, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The request names no server, or not by http or https.
    #[error("cannot send a request to {uri:?}; use http:// or https:// and a host")]
    Uri {
        /// Where it was to go.
        uri: String,
    },
    /// All connections are in use.
    #[error("all {max} connections are in use; try again later, or raise connections_max")]
    Exhausted {
        /// The limit.
        max: usize,
    },
    /// No connection.
    #[error("cannot connect to {host}; check its name, port and that it runs")]
    Connect {
        /// The server.
        host: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No secure connection.
    #[error(
        "cannot agree on TLS with {host}; check its certificate and the roots that are trusted"
    )]
    Tls {
        /// The server.
        host: String,
        /// What rustls said.
        #[source]
        source: io::Error,
    },
    /// No response in the time allowed.
    #[error("no response in the time allowed; try again later")]
    HeaderTimeout,
    /// The response stopped on the way.
    #[error("the response did not arrive whole in the time allowed; try again later")]
    BodyTimeout,
    /// The response is larger than allowed.
    #[error("the response is larger than {max} bytes; raise the limit")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The connection ended, or what came is not HTTP. Whether the server has acted is unknown.
    #[error("the connection to the server broke; try again")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<BodyError> for ClientError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { max } => Self::TooLarge { max },
            BodyError::Timeout => Self::BodyTimeout,
            BodyError::Broken(source) => Self::Broken(source),
        }
    }
}

/// A shard's client; clones share its connections.
#[derive(Clone)]
pub struct Client(Rc<Shared>);

struct Shared {
    config: ClientConfig,
    tls: ClientTls,
    names: Names,
    pool: Rc<Pool>,
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client").field("config", &self.0.config).finish_non_exhaustive()
    }
}

#[expect(clippy::large_enum_variant, reason = "the large one is the rule, and is moved once")]
/// What came of one attempt on one connection.
enum Attempt {
    Answered(Response<Incoming>),
    /// The connection was closed before anything was written.
    Unsent(Box<Request<Outgoing>>),
}

impl Client {
    /// A client for this shard. TLS settings and resolver are made once and cloned for each shard.
    pub fn new(config: ClientConfig, tls: ClientTls, resolver: Resolver) -> Self {
        let pool = Pool::new(config.connections_max, config.idle_per_host_max, config.idle_timeout);
        Self(Rc::new(Shared { config, tls, names: Names::new(resolver), pool }))
    }

    /// Sends a request to the server that its absolute URI names, and waits for the response's
    /// head. `Host` is added where it is missing. May be dropped at any time, which closes the
    /// connection.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        self.send_with(request, self.0.config.timeouts).await
    }

    /// The same with its own patience, as a long poll needs.
    pub async fn send_with(
        &self,
        request: Request<Body>,
        timeouts: Timeouts,
    ) -> Result<Response<Incoming>, ClientError> {
        let (target, mut request) = address(request)?;
        let target = Rc::new(target);
        if let Some(lease) = self.0.pool.check_out(&target).await {
            match self.exchange(lease, request, timeouts).await? {
                Attempt::Answered(response) => return Ok(response),
                Attempt::Unsent(unsent) if unsent.body().body.is_buffered() => request = *unsent,
                Attempt::Unsent(_) => return Err(closed_before_use()),
            }
        }
        // Apart, since a new connection is rare, and its future would be part of every request's.
        let lease = Box::pin(self.connect(&target)).await?;
        match self.exchange(lease, request, timeouts).await? {
            Attempt::Answered(response) => Ok(response),
            Attempt::Unsent(_) => Err(closed_before_use()),
        }
    }

    /// Sends a request and reads the whole response, of at most `max` bytes.
    pub async fn fetch(
        &self,
        request: Request<Body>,
        timeouts: Timeouts,
        max: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        let (head, body) = self.send_with(request, timeouts).await?.into_parts();
        Ok(Response::from_parts(head, body.read_limited(max).await?))
    }

    async fn connect(&self, target: &Rc<Target>) -> Result<Lease, ClientError> {
        let Shared { config, tls, names, pool } = &*self.0;
        let permit =
            pool.room().await.ok_or(ClientError::Exhausted { max: config.connections_max })?;
        let stream = connect(target, names, tls, config.connect_timeout).await?;
        let stream = stream.with_stall_max(config.write_stall_max);
        let wire = HyperStream::new(stream);
        let sent = wire.sent();
        let (sender, connection) = self.handshake(wire).await?;
        Ok(pool.open(target, sender, connection, sent, permit))
    }

    async fn handshake(
        &self,
        wire: HyperStream,
    ) -> Result<(SendRequest<Outgoing>, Connection<HyperStream, Outgoing>), ClientError> {
        let config = &self.0.config;
        let handshake = http1::Builder::new()
            .max_buf_size(config.header_bytes_max.max(8 << 10))
            .handshake(wire);
        // hyper exchanges no bytes here, so there is nothing to wait for.
        timeout(config.connect_timeout, handshake)
            .await
            .map_err(|_| ClientError::HeaderTimeout)?
            .map_err(broken)
    }

    async fn exchange(
        &self,
        mut lease: Lease,
        request: Request<Outgoing>,
        timeouts: Timeouts,
    ) -> Result<Attempt, ClientError> {
        let progress = Rc::clone(&request.body().progress);
        progress.set(Instant::now());
        // Apart, so that nothing of it is kept while a response that takes long is waited for.
        let patience = stalled(&progress, timeouts.header);
        match Box::pin(self.ask(&mut lease, request, patience)).await? {
            Some(Ok(response)) => Ok(Attempt::Answered(response_of(response, lease, timeouts))),
            Some(Err(mut error)) => match error.take_message() {
                Some(request) => Ok(Attempt::Unsent(Box::new(request))),
                None => Err(broken(error.into_error())),
            },
            None => {
                let (response, lease) =
                    self.park(lease, stalled(&progress, timeouts.header)).await?;
                Ok(Attempt::Answered(response_of(response, lease, timeouts)))
            }
        }
    }

    /// Sends a request and waits for its response, or until it has taken so long that it can be
    /// waited for without hyper: `None` then.
    async fn ask(
        &self,
        lease: &mut Lease,
        request: Request<Outgoing>,
        patience: impl Future<Output = ()>,
    ) -> Result<Option<Answer>, ClientError> {
        lease.sent().set(Sent::Nothing);
        let mut parks = is_plain(&request).then(|| sleep(self.0.config.park_after));
        let mut answer = pin!(lease.sender().try_send_request(request));
        let mut patience = pin!(patience);
        poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(Ok(Some(answer)));
            }
            if let Some(sleep) = &mut parks
                && Pin::new(sleep).poll(context).is_ready()
            {
                parks = None;
                if lease.sent().get() == Sent::All {
                    return Poll::Ready(Ok(None));
                }
            }
            patience.as_mut().poll(context).map(|()| Err(ClientError::HeaderTimeout))
        })
        .await
    }

    /// Waits for the response without hyper, and has a new one read it: that one is given a request
    /// made of nothing but the method, which is not sent.
    async fn park(
        &self,
        lease: Lease,
        patience: impl Future<Output = ()>,
    ) -> Result<(Response<hyper::body::Incoming>, Lease), ClientError> {
        let mut patience = pin!(patience);
        let target = lease.target();
        let gone = |error: oneshot::Abandoned| ClientError::Broken(error.into());
        let Detached { mut stream, ahead, permit } = lease.detach().await.map_err(gone)?;
        tracing::trace!("a response is waited for without hyper");
        let ahead = if ahead.is_empty() {
            match select(pin!(begin(&mut stream)), patience.as_mut()).await {
                Either::Left((begins, _)) => begins.map_err(|it| ClientError::Broken(it.into()))?,
                Either::Right(_) => return Err(ClientError::HeaderTimeout),
            }
        } else {
            ahead
        };
        // Apart, since it is rare for a long poll to be anywhere but in the wait before.
        Box::pin(async {
            let wire = HyperStream::answering(ahead, stream);
            let sent = wire.sent();
            let (mut sender, connection) = self.handshake(wire).await?;
            // Before hyper is polled for the first time: it would not expect the response.
            let answer = sender.try_send_request(stand_in());
            let lease = self.0.pool.open(&target, sender, connection, sent, permit);
            match select(pin!(answer), patience).await {
                Either::Left((Ok(response), _)) => Ok((response, lease)),
                Either::Left((Err(error), _)) => Err(broken(error.into_error())),
                Either::Right(_) => Err(ClientError::HeaderTimeout),
            }
        })
        .await
    }
}

type Answer = Result<Response<hyper::body::Incoming>, TrySendError<Request<Outgoing>>>;

/// What is read of a response before there is a hyper for it.
const AHEAD_BYTES: usize = 512;

/// Waits for the beginning of a response.
async fn begin(stream: &mut Stream) -> io::Result<Bytes> {
    poll_fn(|context| {
        let mut space = [0; AHEAD_BYTES];
        let mut space = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut space))?;
        Poll::Ready(match space.filled() {
            [] => Err(io::ErrorKind::UnexpectedEof.into()),
            begin => Ok(Bytes::copy_from_slice(begin)),
        })
    })
    .await
}

/// Whether any hyper would read the response to a request as the one does that has sent it: it is
/// sent in one piece, and nothing but a response can follow.
fn is_plain(request: &Request<Outgoing>) -> bool {
    let stays = request.headers().get(header::CONNECTION).is_none_or(|it| it == "keep-alive");
    let asks =
        request.headers().keys().any(|name| [header::UPGRADE, header::EXPECT].contains(name));
    *request.method() == Method::GET && stays && !asks && request.body().is_end_stream()
}

/// A request for which a plain one's response is read.
fn stand_in() -> Request<Outgoing> {
    let body = Outgoing { body: Body::empty(), progress: Rc::new(Cell::new(Instant::now())) };
    Request::new(body)
}

fn response_of(
    response: Response<hyper::body::Incoming>,
    lease: Lease,
    timeouts: Timeouts,
) -> Response<Incoming> {
    let upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    response.map(|body| {
        let body = Incoming::new(body, timeouts.body_chunk);
        if upgrade { body.for_upgrade(lease) } else { body.with_lease(lease) }
    })
}

/// Splits an absolute URI into the server and what it is asked for.
fn address(request: Request<Body>) -> Result<(Target, Request<Outgoing>), ClientError> {
    let (mut head, body) = request.into_parts();
    let wrong = || ClientError::Uri { uri: without_query(&head.uri) };
    let secure = match head.uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(wrong()),
    };
    let authority = head.uri.authority().ok_or_else(wrong)?.clone();
    // An IPv6 address stands in brackets in a URI, and nowhere else.
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let without_user = authority.as_str().rsplit('@').next().unwrap_or_default();
    let named = HeaderValue::from_str(without_user).map_err(|_| wrong())?;
    head.headers.entry(header::HOST).or_insert(named);
    head.uri = path_of(&head.uri);
    // A request that is passed on may have come by another version.
    head.version = Version::HTTP_11;
    let body = Outgoing { body, progress: Rc::new(Cell::new(Instant::now())) };
    Ok((Target { secure, host, port }, Request::from_parts(head, body)))
}

/// A URI of nothing but path and query.
fn path_of(uri: &Uri) -> Uri {
    let mut parts = uri::Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    // What has neither scheme nor server fits together, whatever it is.
    Uri::from_parts(parts).unwrap_or_default()
}

/// A query may hold a token.
fn without_query(uri: &Uri) -> String {
    uri.to_string().split('?').next().unwrap_or_default().to_owned()
}

fn broken(error: hyper::Error) -> ClientError {
    ClientError::Broken(error.into())
}

fn closed_before_use() -> ClientError {
    ClientError::Broken("the server closed the connection before the request was sent".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addressed(uri: &str) -> Result<(Target, Request<Outgoing>), ClientError> {
        address(Request::get(uri).body(Body::empty()).unwrap())
    }

    #[test]
    fn uri_is_split_into_server_and_path() {
        let (target, request) = addressed("https://Example.org/a/b?c=d").unwrap();
        assert_eq!((target.secure, &*target.host, target.port), (true, "example.org", 443));
        assert_eq!(request.uri(), "/a/b?c=d");
        assert_eq!(request.headers()[header::HOST], "Example.org");
        let (target, request) = addressed("http://[::1]:8008").unwrap();
        assert_eq!((target.secure, &*target.host, target.port), (false, "::1", 8008));
        assert_eq!(request.uri(), "/");
        assert_eq!(request.headers()[header::HOST], "[::1]:8008");
    }

    #[test]
    fn uri_without_server_is_refused_without_telling_its_query() {
        let error = addressed("/path?access_token=secret").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(matches!(addressed("ftp://host/"), Err(ClientError::Uri { .. })));
    }
}
