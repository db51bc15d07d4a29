//! One connection's bytes: TCP, plain or under TLS, used by readiness on either driver.
//!
//! The rest of the crate sees a `Stream`; that it is monoio's socket or rustls' is known here only.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use monoio::net::{TcpStream, tcp::stream_poll::TcpStreamPoll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::time::{Sleep, sleep};

/// A connection.
#[derive(Debug)]
pub(crate) struct Stream {
    wire: Wire,
    stall_max: Option<Duration>,
    stalled: Option<Sleep>,
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStreamPoll),
    Secure(Box<tokio_rustls::TlsStream<TcpStreamPoll>>),
}

impl Stream {
    pub(crate) fn plain(stream: TcpStream) -> io::Result<Self> {
        Ok(Self { wire: Wire::Plain(ready(stream)?), stall_max: None, stalled: None })
    }

    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::plain(TcpStream::connect_addr(address).await?)
    }

    /// A write that makes no progress for so long fails, or a peer that reads nothing would keep
    /// what was written for it in memory for ever.
    pub(crate) fn with_stall_max(mut self, stall_max: Duration) -> Self {
        self.stall_max = Some(stall_max);
        self
    }

    pub(crate) async fn secure_as_client(
        self,
        config: std::sync::Arc<rustls::ClientConfig>,
        name: rustls::pki_types::ServerName<'static>,
    ) -> io::Result<Self> {
        let Self { wire, stall_max, stalled } = self;
        let plain = wire.into_plain()?;
        let secure = tokio_rustls::TlsConnector::from(config).connect(name, plain).await?;
        Ok(Self { wire: Wire::Secure(Box::new(secure.into())), stall_max, stalled })
    }

    pub(crate) async fn secure_as_server(
        self,
        config: std::sync::Arc<rustls::ServerConfig>,
    ) -> io::Result<Self> {
        let Self { wire, stall_max, stalled } = self;
        let plain = wire.into_plain()?;
        let secure = tokio_rustls::TlsAcceptor::from(config).accept(plain).await?;
        Ok(Self { wire: Wire::Secure(Box::new(secure.into())), stall_max, stalled })
    }

    /// Reports a write's outcome, or the end of patience with it.
    fn judge<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let Some(stall_max) = self.stall_max else { return Poll::Pending };
        let stalled = self.stalled.get_or_insert_with(|| sleep(stall_max));
        Pin::new(stalled)
            .poll(context)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

fn ready(stream: TcpStream) -> io::Result<TcpStreamPoll> {
    // Answers are written whole; waiting to fill a segment only delays them.
    stream.set_nodelay(true)?;
    stream.try_into_poll_io().map_err(|(error, _stream)| error)
}

impl Wire {
    fn into_plain(self) -> io::Result<TcpStreamPoll> {
        match self {
            Self::Plain(stream) => Ok(stream),
            Self::Secure(_) => Err(io::Error::other("the connection is under TLS already")),
        }
    }

    fn reader(&mut self) -> Pin<&mut (dyn AsyncRead + Unpin)> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Secure(stream) => Pin::new(stream.as_mut()),
        }
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Secure(stream) => Pin::new(stream.as_mut()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.wire.reader().poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.wire.writer().poll_write(context, bytes);
        self.judge(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.wire.writer().poll_write_vectored(context, slices);
        self.judge(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.wire.writer().poll_flush(context);
        self.judge(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.wire.writer().poll_shutdown(context);
        self.judge(outcome, context)
    }
}
