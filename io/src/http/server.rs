//! The HTTP server of one shard: accepts, speaks HTTP/1.1, calls a handler for each request.
//!
//! What a stranger can make it hold is bounded by [`ServerConfig`]; what a stranger can break is his
//! own connection.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{LocalBoxFuture, select},
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use monoio::{
    io::Canceller,
    net::{TcpListener, TcpStream},
};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    gate::{Gate, Permit},
    http::{Body, Incoming, Upgraded, listener::BoundSocket},
    hyper_stream::HyperStream,
    stop::Stop,
    stream::Stream,
    task,
    time::{HyperTimer, sleep, sleep_until, timeout},
    tls::ServerTls,
};

/// Connections that are told 503 at the same time; those beyond are closed without a word.
const REFUSALS_MAX: usize = 64;
/// What is read and thrown away of a request that was answered before it was read.
const LINGER_BYTES_MAX: usize = 1 << 20;
/// How long that may take.
const LINGER_MAX: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(20);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

/// The limits of one shard's listener.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Connections at once; beyond, new ones are told 503. Default: 10,000.
    pub connections_max: usize,
    /// From a connection's start, or the response before, to the end of a request's head: it closes
    /// idle connections too. Default: 75 s.
    pub header_timeout: Duration,
    /// Bytes of a request's head. Default: 64 KiB.
    pub header_bytes_max: usize,
    /// Between two chunks of a request's body. Default: 20 s.
    pub body_chunk_timeout: Duration,
    /// For the whole of a request's body, from its head. Default: 15 minutes.
    pub body_timeout: Duration,
    /// A response that the client takes nothing of for so long ends its connection. Default: 30 s.
    pub write_stall_max: Duration,
    /// TLS, if this end speaks it. Default: none.
    pub tls: Option<ServerTls>,
    /// For a TLS handshake. Default: 10 s.
    pub tls_handshake_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_timeout: Duration::from_secs(75),
            header_bytes_max: 64 << 10,
            body_chunk_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_mins(15),
            write_stall_max: Duration::from_secs(30),
            tls: None,
            tls_handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Answers requests. Implementations write `async fn handle(&self, …)`; a closure
/// `Fn(Request<Incoming>, SocketAddr) -> impl Future<Output = Response<Body>>` is one too.
///
/// The future is dropped, at whatever it awaits, when its client goes away: it must own nothing
/// that has to be finished. Let it hold a ticket whose `Drop` tells the owner of the work.
pub trait Handler: 'static {
    /// Answers one request of the peer.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Body>>;
}

impl<F, R> Handler for F
where
    F: Fn(Request<Incoming>, SocketAddr) -> R + 'static,
    R: Future<Output = Response<Body>>,
{
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Body>> {
        self(request, peer)
    }
}

/// Serves a socket until `stop` is fired; then accepts no more, lets each connection finish its
/// current response, and returns when all have ended or patience has.
pub async fn serve<H: Handler>(
    socket: BoundSocket,
    handler: Rc<H>,
    config: ServerConfig,
    stop: Stop,
) -> io::Result<()> {
    let server = Rc::new(Server {
        handler,
        connections: Gate::new(config.connections_max),
        refusals: Gate::new(REFUSALS_MAX),
        config,
        stop,
    });
    server.accept(socket.listen()?).await;
    let deadline = server.stop.fired().await;
    let ended = pin!(server.connections.empty());
    select(ended, sleep_until(deadline + ACCEPT_PAUSE_MIN)).await;
    Ok(())
}

struct Server<H> {
    handler: Rc<H>,
    config: ServerConfig,
    connections: Gate,
    refusals: Gate,
    stop: Stop,
}

impl<H: Handler> Server<H> {
    async fn accept(self: &Rc<Self>, listener: TcpListener) {
        // An accept that is dropped may lose a connection that the kernel has handed over already,
        // so it is cancelled, and its outcome waited for.
        let canceller = Canceller::new();
        let cancel = canceller.handle();
        let stop = self.stop.clone();
        drop(task::spawn(async move {
            stop.fired().await;
            drop(canceller.cancel());
        }));
        let mut pause = ACCEPT_PAUSE_MIN;
        loop {
            let accepted = listener.cancelable_accept(cancel.clone()).await;
            if let Ok((stream, peer)) = accepted {
                pause = ACCEPT_PAUSE_MIN;
                self.admit(stream, peer);
            } else if self.stop.deadline().is_some() {
                return;
            } else if let Err(error) = accepted
                && is_shortage(&error)
            {
                tracing::warn!(%error, "cannot accept connections; raise the limit on open files");
                select(sleep(pause), pin!(self.stop.fired())).await;
                pause = (2 * pause).min(ACCEPT_PAUSE_MAX);
            }
            if self.stop.deadline().is_some() {
                return;
            }
        }
    }

    fn admit(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let stream = match Stream::plain(stream) {
            Ok(stream) => stream.with_stall_max(self.config.write_stall_max),
            Err(error) => return tracing::debug!(%error, "a connection was gone at once"),
        };
        match self.connections.try_enter() {
            Some(permit) => {
                let server = Rc::clone(self);
                drop(task::spawn(async move { server.guard(stream, peer, permit).await }));
            }
            None => self.refuse(stream),
        }
    }

    fn refuse(&self, mut stream: Stream) {
        // Under TLS the client would not understand a word.
        let refusals = if self.config.tls.is_none() { self.refusals.try_enter() } else { None };
        let Some(permit) = refusals else { return };
        drop(task::spawn(async move {
            if stream.write_all(REFUSAL).await.is_ok() {
                linger(stream).await;
            }
            drop(permit);
        }));
    }

    /// A panic in a handler costs its connection, and nothing else.
    async fn guard(self: Rc<Self>, stream: Stream, peer: SocketAddr, permit: Permit) {
        let connection = AssertUnwindSafe(self.connection(stream, peer));
        match connection.catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection ended with an error"),
            Err(_) => tracing::error!(%peer, "a handler panicked, its connection is closed"),
        }
        drop(permit);
    }

    async fn connection(self: &Rc<Self>, stream: Stream, peer: SocketAddr) -> io::Result<()> {
        let stream = match &self.config.tls {
            None => stream,
            Some(tls) => {
                let handshake = stream.secure_as_server(tls.0.clone());
                timeout(self.config.tls_handshake_timeout, handshake)
                    .await
                    .map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, elapsed))??
            }
        };
        let upgrade = Rc::new(RefCell::new(None));
        let service = Service { server: Rc::clone(self), peer, upgrade: Rc::clone(&upgrade) };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(HyperTimer)
            .header_read_timeout(self.config.header_timeout)
            .max_buf_size(self.config.header_bytes_max.max(8 << 10))
            .serve_connection(HyperStream(stream), service);
        let parts = self.converse(connection).await?;
        let (stream, ahead) = (parts.io.0, parts.read_buf);
        match upgrade.take() {
            None => linger(stream).await,
            Some(take_over) => {
                let taken = take_over(Upgraded::new(stream, ahead));
                let stopped = async { sleep_until(self.stop.fired().await).await };
                select(taken, pin!(stopped)).await;
            }
        }
        Ok(())
    }

    /// Runs the connection to its end; after the stop's signal, to the end of its current response.
    async fn converse(
        &self,
        mut connection: hyper::server::conn::http1::Connection<HyperStream, Service<H>>,
    ) -> io::Result<hyper::server::conn::http1::Parts<HyperStream, Service<H>>> {
        let mut stopped = pin!(self.stop.fired());
        let mut patience = None;
        poll_fn(|context| {
            if patience.is_none()
                && let Poll::Ready(deadline) = stopped.as_mut().poll(context)
            {
                Pin::new(&mut connection).graceful_shutdown();
                patience = Some(sleep_until(deadline));
            }
            if let Poll::Ready(outcome) = connection.poll_without_shutdown(context) {
                return Poll::Ready(outcome.map_err(io::Error::other));
            }
            match &mut patience {
                Some(patience) => Pin::new(patience)
                    .poll(context)
                    .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the server stops"))),
                None => Poll::Pending,
            }
        })
        .await?;
        Ok(connection.into_parts())
    }
}

type TakeOver = Box<dyn FnOnce(Upgraded) -> LocalBoxFuture<'static, ()>>;

struct Service<H> {
    server: Rc<Server<H>>,
    peer: SocketAddr,
    upgrade: Rc<RefCell<Option<TakeOver>>>,
}

impl<H: Handler> hyper::service::Service<Request<hyper::body::Incoming>> for Service<H> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let config = &self.server.config;
        let deadline = Instant::now() + config.body_timeout;
        let chunk_timeout = config.body_chunk_timeout;
        let given_up = Rc::new(Cell::new(false));
        let notice = Rc::clone(&given_up);
        let request = request.map(|body| {
            Incoming::new(body, chunk_timeout).with_deadline(deadline).with_notice(notice)
        });
        let (server, peer, upgrade) =
            (Rc::clone(&self.server), self.peer, Rc::clone(&self.upgrade));
        Box::pin(async move {
            let mut response = server.handler.handle(request, peer).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                *upgrade.borrow_mut() = response.body_mut().take_over();
            } else if given_up.get() {
                // Nobody reads the rest, so that nothing can follow it: the client must know, or it
                // sends its next request to a connection that is being closed.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok(response)
        })
    }
}

/// Ends a connection so that the peer can read what was written last: a socket closed with unread
/// bytes in it is reset, and a reset overtakes the response.
async fn linger(mut stream: Stream) {
    let discard = async {
        stream.shutdown().await?;
        let mut space = [0; 4096];
        let mut left = LINGER_BYTES_MAX;
        while 0 < left {
            match stream.read(&mut space).await? {
                0 => break,
                size => left = left.saturating_sub(size),
            }
        }
        io::Result::Ok(())
    };
    if let Ok(Err(error)) = timeout(LINGER_MAX, discard).await {
        tracing::trace!(%error, "the peer closed first");
    }
}

/// Whether accepting again at once would fail again.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shortages_make_the_listener_pause() {
        assert!(is_shortage(&Errno::MFILE.into()));
        assert!(!is_shortage(&Errno::CONNABORTED.into()));
    }
}
