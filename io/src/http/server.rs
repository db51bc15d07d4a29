//! The HTTP server of one shard: accepts, speaks HTTP/1.1, calls a handler for each request.
//!
//! What a stranger can make it hold is bounded by [`ServerConfig`]; what a stranger can break is his
//! own connection.

use std::{
    cell::Cell,
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

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{Either, select},
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
    http::{
        Body, Incoming, Upgraded,
        call::{Answering, Call, TakeOver},
        listener::BoundSocket,
    },
    hyper_stream::{HyperStream, Sent},
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
    /// A handler that takes longer is waited for without hyper and its buffers, once the request is
    /// here whole: a client that waits for news then needs less memory. Default: 1 s.
    pub park_after: Duration,
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
            park_after: Duration::from_secs(1),
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
                Box::pin(linger(stream)).await;
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
        let mut stream = match &self.config.tls {
            None => stream,
            Some(tls) => {
                // What is done once is kept apart, or it would be part of every connection's task.
                let handshake = Box::pin(stream.secure_as_server(tls.0.clone()));
                timeout(self.config.tls_handshake_timeout, handshake)
                    .await
                    .map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, elapsed))??
            }
        };
        let call = Rc::new(Call::default());
        let mut ahead = Bytes::new();
        loop {
            let wire = HyperStream::after(ahead, stream);
            // Apart, so that nothing of it is kept while the connection waits without hyper.
            let ended = Box::pin(self.speak(wire, peer, &call)).await?;
            stream = ended.stream;
            if !ended.parks {
                return self.end(stream, ended.ahead, call.take_upgrade()).await;
            }
            match self.park(&call, &mut stream, ended.ahead).await? {
                Some(first) => ahead = first,
                None => return Ok(()),
            }
        }
    }

    /// What follows HTTP on a connection: another protocol, or its end.
    async fn end(&self, stream: Stream, ahead: Bytes, upgrade: Option<TakeOver>) -> io::Result<()> {
        match upgrade {
            None => Box::pin(linger(stream)).await,
            Some(take_over) => {
                let taken = take_over(Upgraded::new(stream, ahead));
                let stopped = Box::pin(async { sleep_until(self.stop.fired().await).await });
                select(taken, stopped).await;
            }
        }
        Ok(())
    }

    /// Waits for the handler without hyper: what the next hyper reads first, if the client is still
    /// there.
    async fn park(
        &self,
        call: &Call,
        stream: &mut Stream,
        ahead: Bytes,
    ) -> io::Result<Option<Bytes>> {
        tracing::trace!("a connection waits without hyper");
        let answered = pin!(call.wait(stream, ahead));
        let stopped = pin!(async { sleep_until(self.stop.fired().await).await });
        match select(answered, stopped).await {
            Either::Left((answered, _)) => answered,
            Either::Right(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the server stops")),
        }
    }

    /// Speaks HTTP until the connection ends, or its handler takes long.
    async fn speak(
        self: &Rc<Self>,
        wire: HyperStream,
        peer: SocketAddr,
        call: &Rc<Call>,
    ) -> io::Result<Ended> {
        let sent = wire.sent();
        let service = Service { server: Rc::clone(self), peer, call: Rc::clone(call) };
        let mut connection = hyper::server::conn::http1::Builder::new()
            .timer(HyperTimer)
            .header_read_timeout(self.config.header_timeout)
            .max_buf_size(self.config.header_bytes_max.max(8 << 10))
            .serve_connection(wire, service);
        let parks = self.converse(&mut connection, call, &sent).await?;
        // What hyper was given to poll must not take the handler with it.
        let handler = if parks { call.take_handler() } else { None };
        let parts = connection.into_parts();
        call.put_handler(handler);
        let (stream, rest) = parts.io.into_parts();
        let ahead = match (&*parts.read_buf, &*rest) {
            // One without content may still keep hyper's buffer.
            ([], []) => Bytes::new(),
            (_, []) => parts.read_buf,
            _ => [parts.read_buf, rest].concat().into(),
        };
        Ok(Ended { stream, ahead, parks })
    }

    /// Runs the connection to its end, or until its handler has taken long: true then. After the
    /// stop's signal, to the end of its current response.
    async fn converse(
        &self,
        connection: &mut hyper::server::conn::http1::Connection<HyperStream, Service<H>>,
        call: &Call,
        sent: &Cell<Sent>,
    ) -> io::Result<bool> {
        let mut stopped = pin!(self.stop.fired());
        let (mut patience, mut parks) = (None, None);
        poll_fn(|context| {
            // First, so that a response that waits for a new hyper is seen before a stop.
            if let Poll::Ready(outcome) = connection.poll_without_shutdown(context) {
                return Poll::Ready(outcome.map_err(io::Error::other).map(|()| false));
            }
            if patience.is_none()
                && let Poll::Ready(deadline) = stopped.as_mut().poll(context)
            {
                Pin::new(&mut *connection).graceful_shutdown();
                patience = Some(sleep_until(deadline));
                if let Poll::Ready(outcome) = connection.poll_without_shutdown(context) {
                    return Poll::Ready(outcome.map_err(io::Error::other).map(|()| false));
                }
            }
            if let Some(patience) = &mut patience {
                return Pin::new(patience)
                    .poll(context)
                    .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the server stops")));
            }
            let Some(at) =
                call.parks_at(self.config.park_after).filter(|_| sent.get() != Sent::Part)
            else {
                parks = None;
                return Poll::Pending;
            };
            let sleep = parks.get_or_insert_with(|| sleep_until(at));
            if sleep.deadline() != at {
                *sleep = sleep_until(at);
            }
            Pin::new(sleep).poll(context).map(|()| Ok(true))
        })
        .await
    }
}

/// What hyper left of a connection.
struct Ended {
    stream: Stream,
    /// What it had read and not used.
    ahead: Bytes,
    /// Its handler goes on without it.
    parks: bool,
}

struct Service<H> {
    server: Rc<Server<H>>,
    peer: SocketAddr,
    call: Rc<Call>,
}

impl<H: Handler> hyper::service::Service<Request<hyper::body::Incoming>> for Service<H> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let call = &self.call;
        if call.is_answered() {
            return call.handle(None);
        }
        let config = &self.server.config;
        let now = Instant::now();
        call.begin(&request, now);
        let (deadline, chunk_timeout) = (now + config.body_timeout, config.body_chunk_timeout);
        let given_up = Rc::new(Cell::new(false));
        let notice = Rc::clone(&given_up);
        let request = request.map(|body| {
            let body = Incoming::new(body, chunk_timeout).with_deadline(deadline);
            body.with_notice(notice).with_end(call.body_ended())
        });
        let (server, peer) = (Rc::clone(&self.server), self.peer);
        let handler = Box::pin(async move {
            let mut response = server.handler.handle(request, peer).await;
            if given_up.get() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // Nobody reads the rest, so that nothing can follow it: the client must know, or it
                // sends its next request to a connection that is being closed.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            response
        });
        call.handle(Some(handler))
    }
}

/// Ends a connection so that the peer can read what was written last: a socket closed with unread
/// bytes in it is reset, and a reset overtakes the response.
async fn linger(mut stream: Stream) {
    let discard = async {
        stream.shutdown().await?;
        let mut space = vec![0; 4096];
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
