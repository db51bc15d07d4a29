//! Bodies that we send: whole, streamed, passed on, or a connection taken over.

use std::{
    cell::RefCell,
    collections::VecDeque,
    error::Error,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::{future::LocalBoxFuture, stream::LocalBoxStream};
use hyper::body::{Frame, SizeHint};

use crate::http::{incoming::Incoming, upgrade::Upgraded};

/// Why a body did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than the reader allows.
    #[error("the body is larger than {max} bytes; send less, or raise the limit")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// It did not come in time.
    #[error("the body did not arrive in the time allowed; try again")]
    Timeout,
    /// The connection ended in the middle, or what came is not HTTP.
    #[error("the body broke off; try again")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
}

impl BodyError {
    /// A body that its producer could not finish.
    pub fn broken(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Broken(source.into())
    }
}

type TakeOver = Box<dyn FnOnce(Upgraded) -> LocalBoxFuture<'static, ()>>;

/// A body to be sent. It stays on its shard.
pub struct Body(Kind);

enum Kind {
    Full(Option<Bytes>),
    Incoming(Box<Incoming>),
    Stream(LocalBoxStream<'static, Result<Bytes, BodyError>>),
    Channel(Rc<RefCell<Channel>>),
    TakeOver(Option<TakeOver>),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// A whole body.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(Kind::Full((!bytes.is_empty()).then_some(bytes)))
    }

    /// Chunks as they come. An error breaks the connection off, so that the peer sees a body cut
    /// short, and not a short body.
    pub fn stream(
        chunks: impl futures_util::Stream<Item = Result<Bytes, BodyError>> + 'static,
    ) -> Self {
        Self(Kind::Stream(Box::pin(chunks)))
    }

    /// A body that another task of this shard writes; `chunks_max` chunks wait at most.
    pub fn channel(chunks_max: usize) -> (BodySender, Self) {
        let channel = Rc::new(RefCell::new(Channel {
            chunks: VecDeque::new(),
            chunks_max: chunks_max.max(1),
            end: None,
            reader: None,
            writer: None,
            reader_gone: false,
        }));
        (BodySender(Rc::clone(&channel)), Self(Kind::Channel(channel)))
    }

    /// For a response `101 Switching Protocols` only: once it is sent, `take_over` gets the
    /// connection. With [`crate::http::splice`], that is how an upgrade is passed on.
    pub fn upgrade<F: Future<Output = ()> + 'static>(
        take_over: impl FnOnce(Upgraded) -> F + 'static,
    ) -> Self {
        Self(Kind::TakeOver(Some(Box::new(|upgraded| Box::pin(take_over(upgraded))))))
    }

    pub(crate) fn take_over(&mut self) -> Option<TakeOver> {
        if let Kind::TakeOver(take_over) = &mut self.0 { take_over.take() } else { None }
    }

    /// Whether it can be sent a second time: nothing of it is produced on the way.
    pub(crate) fn is_buffered(&self) -> bool {
        matches!(self.0, Kind::Full(_))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::full(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::full(text)
    }
}

impl From<Incoming> for Body {
    /// Passes a body on as it arrives, without holding more than a chunk.
    fn from(incoming: Incoming) -> Self {
        Self(Kind::Incoming(Box::new(incoming)))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.0 {
            Kind::Full(_) => "Body::Full",
            Kind::Incoming(_) => "Body::Incoming",
            Kind::Stream(_) => "Body::Stream",
            Kind::Channel(_) => "Body::Channel",
            Kind::TakeOver(_) => "Body::TakeOver",
        })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Incoming(incoming) => Pin::new(incoming.as_mut()).poll_frame(context),
            Kind::Stream(chunks) => chunks
                .as_mut()
                .poll_next(context)
                .map(|next| next.map(|next| next.map(Frame::data))),
            Kind::Channel(channel) => Channel::poll_read(channel, context),
            Kind::TakeOver(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Incoming(incoming) => incoming.is_end_stream(),
            Kind::Stream(_) | Kind::Channel(_) => false,
            Kind::TakeOver(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Incoming(incoming) => incoming.size_hint(),
            Kind::Stream(_) | Kind::Channel(_) => SizeHint::default(),
            Kind::TakeOver(_) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Kind::Channel(channel) = &self.0 {
            let (writer, chunks) = {
                let mut channel = channel.borrow_mut();
                channel.reader_gone = true;
                (channel.writer.take(), std::mem::take(&mut channel.chunks))
            };
            drop(chunks);
            writer.map(Waker::wake).unwrap_or_default();
        }
    }
}

struct Channel {
    chunks: VecDeque<Bytes>,
    chunks_max: usize,
    end: Option<Result<(), BodyError>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    reader_gone: bool,
}

impl Channel {
    fn poll_read(
        channel: &RefCell<Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut channel = channel.borrow_mut();
        if let Some(chunk) = channel.chunks.pop_front() {
            let writer = channel.writer.take();
            drop(channel);
            writer.map(Waker::wake).unwrap_or_default();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(end) = &mut channel.end {
            return Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err));
        }
        channel.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn end(channel: &RefCell<Self>, end: Result<(), BodyError>) {
        let reader = {
            let mut channel = channel.borrow_mut();
            channel.end.get_or_insert(end);
            channel.reader.take()
        };
        reader.map(Waker::wake).unwrap_or_default();
    }
}

/// Nobody reads the body any more: the peer has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the body any more")]
pub struct ReaderGone;

/// The writing end of a streamed body. Dropped before [`BodySender::finish`], it breaks the
/// connection off.
pub struct BodySender(Rc<RefCell<Channel>>);

impl fmt::Debug for BodySender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("BodySender")
    }
}

impl BodySender {
    /// Waits for room and leaves a chunk there. May be dropped at any time; the chunk is then not sent.
    pub async fn send(&mut self, chunk: impl Into<Bytes>) -> Result<(), ReaderGone> {
        let chunk = chunk.into();
        if chunk.is_empty() {
            return Ok(());
        }
        poll_fn(|context| {
            let mut channel = self.0.borrow_mut();
            if channel.reader_gone {
                return Poll::Ready(Err(ReaderGone));
            }
            if channel.chunks.len() < channel.chunks_max {
                return Poll::Ready(Ok(()));
            }
            channel.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await?;
        let reader = {
            let mut channel = self.0.borrow_mut();
            channel.chunks.push_back(chunk);
            channel.reader.take()
        };
        reader.map(Waker::wake).unwrap_or_default();
        Ok(())
    }

    /// The body is complete.
    pub fn finish(self) {
        Channel::end(&self.0, Ok(()));
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        Channel::end(&self.0, Err(BodyError::broken("its producer gave up")));
    }
}
