//! Connections that have left HTTP: WebSockets and whatever else follows a `101`.

use std::{
    cell::Cell,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{Either, select, try_join};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

use crate::{
    stream::Stream,
    time::{sleep, sleep_until},
};

/// Bytes taken from one side before they are given to the other.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks passed on in a row before other tasks get their turn.
const CHUNKS_IN_A_ROW: usize = 32;

/// A connection after its upgrade: tokio's `AsyncRead` and `AsyncWrite`, on its shard.
#[derive(Debug)]
pub struct Upgraded {
    stream: Stream,
    /// What the peer sent behind its last HTTP message.
    ahead: Bytes,
}

impl Upgraded {
    pub(crate) fn new(stream: Stream, ahead: Bytes) -> Self {
        Self { stream, ahead }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let size = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Passes everything on, both ways, until both sides have ended, one has failed, or nothing has
/// passed either way for `idle_max`. Returns the bytes from the left and from the right. May be
/// dropped at any time, which closes both.
pub async fn splice(left: Upgraded, right: Upgraded, idle_max: Duration) -> io::Result<(u64, u64)> {
    let (left_reader, left_writer) = tokio::io::split(left);
    let (right_reader, right_writer) = tokio::io::split(right);
    let moved = Cell::new(Instant::now());
    let both = pin!(try_join(
        pass_on(left_reader, right_writer, &moved),
        pass_on(right_reader, left_writer, &moved),
    ));
    match select(both, pin!(idle(&moved, idle_max))).await {
        Either::Left((passed, _)) => passed,
        Either::Right(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing passed")),
    }
}

async fn pass_on(
    mut from: ReadHalf<Upgraded>,
    mut to: WriteHalf<Upgraded>,
    moved: &Cell<Instant>,
) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut passed = 0;
    for chunk in 1.. {
        let size = from.read(&mut buffer).await?;
        if size == 0 {
            break;
        }
        to.write_all(&buffer[..size]).await?;
        to.flush().await?;
        moved.set(Instant::now());
        passed += size as u64;
        if chunk % CHUNKS_IN_A_ROW == 0 {
            sleep(Duration::from_micros(1)).await;
        }
    }
    to.shutdown().await?;
    Ok(passed)
}

async fn idle(moved: &Cell<Instant>, idle_max: Duration) {
    loop {
        let end = moved.get() + idle_max;
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
}
