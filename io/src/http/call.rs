//! The request that a connection is answering, and the wait for its answer
//! without hyper.
//!
//! hyper keeps two buffers of 8 KiB for as long as a connection lives. A client
//! that waits for news needs neither. So once a handler has taken long, hyper is
//! put away: what is left is the handler, and the socket, which tells whether the
//! client is still there. When the answer comes, a new hyper is given a request
//! made of nothing but the method, and that answer for it; what it writes is what
//! the first would have written.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use http::{Method, Request, Response, StatusCode, Version, header};
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::{
    http::{Body, Upgraded},
    stream::Stream,
};

pub(super) type TakeOver = Box<dyn FnOnce(Upgraded) -> LocalBoxFuture<'static, ()>>;
pub(super) type Answer = LocalBoxFuture<'static, Response<Body>>;

/// What is read ahead of a client that does not wait for its answer.
const AHEAD_BYTES_MAX: usize = 512;

/// The request that a connection is answering; shared by the connection and the
/// service that hyper calls.
#[derive(Default)]
pub(super) struct Call {
    /// The handler, while it works.
    handler: RefCell<Option<Answer>>,
    /// An answer that came while hyper was put away.
    answer: RefCell<Option<Response<Body>>>,
    upgrade: RefCell<Option<TakeOver>>,
    begun: Cell<Option<Instant>>,
    /// The request's method, if its answer may come from another hyper.
    method: RefCell<Option<Method>>,
    body_ended: Rc<Cell<bool>>,
}

impl Call {
    /// Set once the request's body is here.
    pub(super) fn body_ended(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.body_ended)
    }

    /// Whether there is an answer that came while hyper was put away.
    pub(super) fn is_answered(&self) -> bool {
        self.answer.borrow().is_some()
    }

    /// Takes the handler out of hyper's reach.
    pub(super) fn take_handler(&self) -> Option<Answer> {
        self.handler.take()
    }

    pub(super) fn put_handler(&self, handler: Option<Answer>) {
        self.handler.replace(handler);
    }

    pub(super) fn take_upgrade(&self) -> Option<TakeOver> {
        self.upgrade.take()
    }

    /// A handler begins to answer a request.
    pub(super) fn begin<B>(&self, request: &Request<B>, since: Instant) {
        self.begun.set(Some(since));
        self.method.replace(method_for_later(request));
    }

    /// The handler's work, to be polled by hyper.
    pub(super) fn handle(self: &Rc<Self>, handler: Option<Answer>) -> Answering {
        self.handler.replace(handler);
        Answering(Rc::clone(self))
    }

    /// From when on hyper may be put away; `None` while it may not.
    pub(super) fn parks_at(&self, after: Duration) -> Option<Instant> {
        let may = self.body_ended.get()
            && self.method.borrow().is_some()
            && self.handler.borrow().is_some();
        self.begun.get().filter(|_| may).map(|begun| begun + after)
    }

    /// Waits for the handler without hyper: what the next hyper is to read first.
    /// `None` when the client has gone away, whose handler is then dropped. `ahead`
    /// is what was read of the stream already.
    pub(super) async fn wait(
        &self,
        stream: &mut Stream,
        ahead: Bytes,
    ) -> io::Result<Option<Bytes>> {
        let Some(mut handler) = self.handler.take() else { return Ok(None) };
        let mut ahead = BytesMut::from(&*ahead);
        let answer = poll_fn(|context| {
            if let Poll::Ready(answer) = handler.as_mut().poll(context) {
                return Poll::Ready(Ok(Some(answer)));
            }
            while ahead.len() < AHEAD_BYTES_MAX {
                let mut space = [0; AHEAD_BYTES_MAX];
                let mut space = ReadBuf::new(&mut space);
                match Pin::new(&mut *stream).poll_read(context, &mut space) {
                    Poll::Pending => break,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) if space.filled().is_empty() => {
                        return Poll::Ready(Ok(None));
                    }
                    Poll::Ready(Ok(())) => ahead.extend_from_slice(space.filled()),
                }
            }
            Poll::Pending
        })
        .await?;
        let Some((answer, method)) = answer.zip(self.method.take()) else { return Ok(None) };
        self.answer.replace(Some(answer));
        let mut first =
            BytesMut::from(&*format!("{method} / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"));
        first.unsplit(ahead);
        Ok(Some(first.freeze()))
    }
}

/// The method of a request to which any hyper would answer as the one does that
/// read it: by HTTP/1.1, with a body, on a connection that stays.
fn method_for_later<B>(request: &Request<B>) -> Option<Method> {
    let stays = request.headers().get(header::CONNECTION).is_none_or(|it| it == "keep-alive");
    let plain = matches!(*request.method(), Method::GET | Method::POST | Method::PUT);
    (request.version() == Version::HTTP_11 && stays && plain).then(|| request.method().clone())
}

/// A handler's work as hyper sees it. Without a handler it never ends: hyper is
/// being put away.
pub(super) struct Answering(Rc<Call>);

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.0.answer.take() {
            return Poll::Ready(Ok(answer));
        }
        // Not polled within the borrow: what it does is its own affair.
        let Some(mut handler) = self.0.handler.take() else { return Poll::Pending };
        match handler.as_mut().poll(context) {
            Poll::Pending => {
                self.0.handler.replace(Some(handler));
                Poll::Pending
            }
            Poll::Ready(mut answer) => {
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    self.0.upgrade.replace(answer.body_mut().take_over());
                }
                Poll::Ready(Ok(answer))
            }
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // Where hyper ends by itself the handler ends with it; where it is put
        // away, the handler has been taken out before.
        let handler = self.0.handler.take();
        drop(handler);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_request_on_a_connection_that_stays_can_be_answered_by_another_hyper() {
        let request = |method: Method| Request::builder().method(method);
        let later = |request: http::request::Builder| {
            method_for_later(&request.body(()).unwrap()).is_some()
        };
        assert!(later(request(Method::POST)));
        assert!(later(request(Method::GET).header("connection", "keep-alive")));
        assert!(!later(request(Method::HEAD)));
        assert!(!later(request(Method::CONNECT)));
        assert!(!later(request(Method::GET).version(Version::HTTP_10)));
        assert!(!later(request(Method::POST).header("connection", "close")));
        assert!(!later(request(Method::GET).header("connection", "Upgrade")));
    }
}
