//! Bodies that we receive: a request's on the server, a response's on the client.

use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};

use crate::{
    http::{body::BodyError, pool::Lease, upgrade::Upgraded},
    time::{Sleep, sleep_until},
};

/// A whole body of fewer bytes than this is copied out of its connection's buffer.
const COPIED_BYTES_MAX: usize = 8 << 10;

/// A body that arrives. It stays on its shard. Dropping a request's body unread is harmless;
/// dropping a response's before its end closes that connection.
pub struct Incoming {
    source: Source,
    chunk_patience: Option<Duration>,
    deadline: Option<Instant>,
    sleep: Option<Sleep>,
    lease: Option<Lease>,
    is_upgrade: bool,
    /// Set when the body is dropped before its end.
    given_up: Option<Rc<Cell<bool>>>,
    /// Set once everything has been taken from the wire.
    ended: Option<Rc<Cell<bool>>>,
}

enum Source {
    Wire(hyper::body::Incoming),
    Ready(Option<Bytes>),
}

impl Incoming {
    pub(crate) fn new(body: hyper::body::Incoming, chunk_patience: Duration) -> Self {
        Self {
            source: Source::Wire(body),
            chunk_patience: Some(chunk_patience),
            deadline: None,
            sleep: None,
            lease: None,
            is_upgrade: false,
            given_up: None,
            ended: None,
        }
    }

    pub(crate) fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Has `given_up` set when the body is dropped before its end.
    pub(crate) fn with_notice(mut self, given_up: Rc<Cell<bool>>) -> Self {
        self.given_up = Some(given_up);
        self
    }

    /// Says when everything has been taken from the wire.
    pub(crate) fn with_end(mut self, ended: Rc<Cell<bool>>) -> Self {
        ended.set(self.is_end_stream());
        self.ended = Some(ended);
        self
    }

    /// Keeps the connection's lease until the body has been read.
    pub(crate) fn with_lease(mut self, lease: Lease) -> Self {
        if self.is_end_stream() {
            lease.check_in();
        } else {
            self.lease = Some(lease);
        }
        self
    }

    /// Keeps the connection's lease although there is no body: it is about to be taken over.
    pub(crate) fn for_upgrade(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self.is_upgrade = true;
        self
    }

    /// A body that is already here, for requests that did not come over a wire.
    pub fn ready(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            source: Source::Ready((!bytes.is_empty()).then_some(bytes)),
            chunk_patience: None,
            deadline: None,
            sleep: None,
            lease: None,
            is_upgrade: false,
            given_up: None,
            ended: None,
        }
    }

    /// The next chunk; `None` at the end. May be dropped at any time.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut *self).poll_frame(context)).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) => return Some(Ok(bytes)),
                // Trailers say nothing that anybody here asks for.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The whole body, if it has at most `max` bytes.
    pub async fn read_limited(mut self, max: usize) -> Result<Bytes, BodyError> {
        self.refuse_larger_than(max)?;
        let Some(first) = self.chunk().await else { return Ok(Bytes::new()) };
        let first = first?;
        if self.is_end_stream() {
            return match first.len() {
                // A slice of the connection's buffer would keep all of it, for as long as it is kept.
                ..COPIED_BYTES_MAX if first.len() <= max => Ok(Bytes::copy_from_slice(&first)),
                length if length <= max => Ok(first),
                _ => Err(BodyError::TooLarge { max }),
            };
        }
        let mut whole = Vec::with_capacity(self.expected(first.len(), max));
        self.fill(first, &mut whole, max).await?;
        Ok(whole.into())
    }

    /// The whole body, if it has at most `max` bytes, in a buffer with room for `spare` more: for a
    /// parser that wants padding behind its input.
    pub async fn read_limited_vec(
        mut self,
        max: usize,
        spare: usize,
    ) -> Result<Vec<u8>, BodyError> {
        self.refuse_larger_than(max)?;
        let Some(first) = self.chunk().await else { return Ok(Vec::with_capacity(spare)) };
        let first = first?;
        let mut whole = Vec::with_capacity(self.expected(first.len(), max) + spare);
        self.fill(first, &mut whole, max).await?;
        whole.reserve(spare);
        Ok(whole)
    }

    /// After a response `101 Switching Protocols`: the connection, for any other protocol.
    pub async fn upgraded(mut self) -> Result<Upgraded, BodyError> {
        match self.lease.take() {
            Some(lease) if self.is_upgrade => lease.upgraded().await,
            _ => Err(BodyError::broken("the response was no upgrade")),
        }
    }

    fn refuse_larger_than(&self, max: usize) -> Result<(), BodyError> {
        if (max as u64) < self.size_hint().lower() {
            Err(BodyError::TooLarge { max })
        } else {
            Ok(())
        }
    }

    /// What to reserve: the length announced, which is checked, and never more than was allowed.
    fn expected(&self, first: usize, max: usize) -> usize {
        let rest = usize::try_from(self.size_hint().lower()).unwrap_or(usize::MAX);
        first.saturating_add(rest).min(max)
    }

    async fn fill(
        &mut self,
        first: Bytes,
        whole: &mut Vec<u8>,
        max: usize,
    ) -> Result<(), BodyError> {
        let mut next = Some(Ok(first));
        while let Some(chunk) = next {
            let chunk = chunk?;
            if max - whole.len() < chunk.len() {
                return Err(BodyError::TooLarge { max });
            }
            whole.extend_from_slice(&chunk);
            next = self.chunk().await;
        }
        Ok(())
    }

    fn note_end(&self) {
        if let Some(ended) = &self.ended {
            ended.set(true);
        }
    }

    /// Ready once patience with the next chunk, or with the whole body, has ended.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.sleep.is_none() {
            let chunk = self.chunk_patience.map(|patience| Instant::now() + patience);
            let Some(until) = chunk.into_iter().chain(self.deadline).min() else {
                return Poll::Pending;
            };
            self.sleep = Some(sleep_until(until));
        }
        self.sleep.as_mut().map_or(Poll::Pending, |sleep| Pin::new(sleep).poll(context))
    }
}

impl hyper::body::Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = match &mut self.source {
            Source::Ready(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Source::Wire(body) => body,
        };
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.sleep = None;
                if self.is_end_stream() {
                    self.note_end();
                    self.lease.take().map(Lease::check_in).unwrap_or_default();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.lease = None;
                Poll::Ready(Some(Err(BodyError::broken(error))))
            }
            Poll::Ready(None) => {
                self.note_end();
                self.sleep = None;
                self.lease.take().map(Lease::check_in).unwrap_or_default();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_patience(context).map(|()| {
                self.lease = None;
                Some(Err(BodyError::Timeout))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Wire(body) => body.is_end_stream(),
            Source::Ready(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Wire(body) => body.size_hint(),
            Source::Ready(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(given_up) = self.given_up.take() {
            given_up.set(!self.is_end_stream());
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Incoming").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
