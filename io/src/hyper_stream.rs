//! hyper's view of a [`Stream`]: its own two traits, over tokio's.
#![expect(
    unsafe_code,
    reason = "hyper hands out uninitialised buffers and has no safe way to fill them in place"
)]

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Stream;

/// A stream as hyper wants it.
#[derive(Debug)]
pub(crate) struct HyperStream {
    pub(crate) stream: Stream,
    /// What is read before anything of the stream.
    ahead: Bytes,
    sent: Rc<Cell<Sent>>,
    /// hyper is about to write what another has sent: it goes nowhere, and
    /// nothing is read before.
    mute: bool,
}

/// How much of a message has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing, as far as is known.
    #[default]
    Nothing,
    /// hyper has begun to write it, and holds more, or has not flushed it.
    Part,
    /// Everything that hyper has held so far.
    All,
}

impl HyperStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, ahead: Bytes::new(), sent: Rc::default(), mute: false }
    }

    /// The same after something else that is to be read first.
    pub(crate) fn after(ahead: Bytes, stream: Stream) -> Self {
        Self { ahead, ..Self::new(stream) }
    }

    /// The same for a hyper that is to read the answer to a request that another
    /// has sent: what it writes first goes nowhere.
    pub(crate) fn answering(ahead: Bytes, stream: Stream) -> Self {
        Self { mute: true, ..Self::after(ahead, stream) }
    }

    /// How much is written; whoever begins a message may set it to nothing.
    pub(crate) fn sent(&self) -> Rc<Cell<Sent>> {
        Rc::clone(&self.sent)
    }

    /// The stream, and what was to be read before it and was not.
    pub(crate) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.ahead)
    }
}

impl hyper::rt::Read for HyperStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: bytes are only written through `ReadBuf`, which never makes an initialised byte
        // uninitialised again.
        let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
        if self.mute {
            // The flush that ends this wakes whoever reads.
            return Poll::Pending;
        }
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        } else {
            let size = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(size));
        }
        let filled = buffer.filled().len();
        // SAFETY: `ReadBuf` vouches for the first `filled` bytes: they are initialised, and lie
        // within the cursor's own buffer.
        unsafe { cursor.advance(filled) };
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for HyperStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sent.set(Sent::Part);
        if self.mute {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes once everything that it holds is written.
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        if self.sent.get() == Sent::Part {
            self.sent.set(Sent::All);
            if std::mem::take(&mut self.mute) {
                context.waker().wake_by_ref();
            }
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.sent.set(Sent::Part);
        if self.mute {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write, mem::MaybeUninit, net::TcpListener, thread};

    use hyper::rt::{Read, ReadBuf};

    use super::*;
    use crate::driver::Driver;

    #[test]
    fn only_bytes_that_arrived_count_as_initialised_behind_what_was_read_ahead() {
        for driver in Driver::available() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let peer = thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                peer.write_all(b"seven b").unwrap();
            });
            let arrived = driver.block_on(async move {
                let stream = Stream::connect(address).await.unwrap();
                let mut stream = HyperStream::after(Bytes::from_static(b"before "), stream);
                let mut arrived = Vec::new();
                loop {
                    let mut space = [MaybeUninit::uninit(); 4];
                    let mut buffer = ReadBuf::uninit(&mut space);
                    poll_fn(|context| Pin::new(&mut stream).poll_read(context, buffer.unfilled()))
                        .await
                        .unwrap();
                    if buffer.filled().is_empty() {
                        return arrived;
                    }
                    arrived.extend_from_slice(buffer.filled());
                }
            });
            assert_eq!(arrived.unwrap(), b"before seven b");
            peer.join().unwrap();
        }
    }
}
