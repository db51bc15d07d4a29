//! The HTTP client of one shard: requests to upstream servers over kept connections.

use std::{
    cell::Cell,
    fmt, io,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header, uri::Scheme};
use hyper::client::conn::http1;

use crate::{
    dns::{Names, Resolver},
    http::{
        Body, BodyError, Incoming,
        connect::{Outgoing, connect, stalled},
        pool::{Lease, Pool, Target},
    },
    hyper_stream::HyperStream,
    time::timeout,
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
    /// Unused connections kept for each server. Default: 64.
    pub idle_per_host_max: usize,
    /// Connections at once, used or not. Default: 20,000.
    pub connections_max: usize,
    /// Bytes of a response's head. Default: 64 KiB.
    pub header_bytes_max: usize,
    /// A request that the server takes nothing of for so long fails. Default: 30 s.
    pub write_stall_max: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            timeouts: Timeouts::default(),
            idle_timeout: Duration::from_secs(15),
            idle_per_host_max: 64,
            connections_max: 20_000,
            header_bytes_max: 64 << 10,
            write_stall_max: Duration::from_secs(30),
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
            match exchange(lease, request, timeouts).await? {
                Attempt::Answered(response) => return Ok(response),
                Attempt::Unsent(unsent) if unsent.body().body.is_buffered() => request = *unsent,
                Attempt::Unsent(_) => return Err(closed_before_use()),
            }
        }
        // Apart, since a new connection is rare, and its future would be part of every request's.
        let lease = Box::pin(self.connect(&target)).await?;
        match exchange(lease, request, timeouts).await? {
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
        let handshake = http1::Builder::new()
            .max_buf_size(config.header_bytes_max.max(8 << 10))
            .handshake(HyperStream::new(stream));
        // hyper exchanges no bytes here, so there is nothing to wait for.
        let (sender, connection) = timeout(config.connect_timeout, handshake)
            .await
            .map_err(|_| ClientError::HeaderTimeout)?
            .map_err(broken)?;
        Ok(pool.open(target, sender, connection, permit))
    }
}

async fn exchange(
    mut lease: Lease,
    request: Request<Outgoing>,
    timeouts: Timeouts,
) -> Result<Attempt, ClientError> {
    let progress = Rc::clone(&request.body().progress);
    progress.set(Instant::now());
    let answer = pin!(lease.sender().try_send_request(request));
    let patience = pin!(stalled(&progress, timeouts.header));
    let answer = match select(answer, patience).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => return Err(ClientError::HeaderTimeout),
    };
    match answer {
        Ok(response) => Ok(Attempt::Answered(response_of(response, lease, timeouts))),
        Err(mut error) => match error.take_message() {
            Some(request) => Ok(Attempt::Unsent(Box::new(request))),
            None => Err(broken(error.into_error())),
        },
    }
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
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse().map_err(|_| wrong())?;
    // A request that is passed on may have come by another version.
    head.version = Version::HTTP_11;
    let body = Outgoing { body, progress: Rc::new(Cell::new(Instant::now())) };
    Ok((Target { secure, host, port }, Request::from_parts(head, body)))
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
