//! hyper's view of a [`Stream`]: its own two traits, over tokio's.
#![expect(
    unsafe_code,
    reason = "hyper hands out uninitialised buffers and has no safe way to fill them in place"
)]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Stream;

/// A stream as hyper wants it.
#[derive(Debug)]
pub(crate) struct HyperStream(pub(crate) Stream);

impl hyper::rt::Read for HyperStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: bytes are only written through `ReadBuf`, which never makes an initialised byte
        // uninitialised again.
        let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
        ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
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
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write, mem::MaybeUninit, net::TcpListener, thread};

    use hyper::rt::{Read, ReadBuf};

    use super::*;
    use crate::driver::Driver;

    #[test]
    fn only_bytes_that_arrived_count_as_initialised() {
        for driver in Driver::available() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let peer = thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                peer.write_all(b"seven b").unwrap();
            });
            let arrived = driver.block_on(async move {
                let mut stream = HyperStream(Stream::connect(address).await.unwrap());
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
            assert_eq!(arrived.unwrap(), b"seven b");
            peer.join().unwrap();
        }
    }
}
