//! One value from one place to another, once: between tasks, between shards, between threads.
//!
//! Unlike an inbox's receive, a [`Receiver`] may be dropped or raced at any time.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use futures_channel::oneshot;

/// The sender went away without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was abandoned by whoever owed it")]
pub struct Abandoned;

/// Who owes the value.
#[derive(Debug)]
pub struct Sender<T>(oneshot::Sender<T>);

/// Who waits for it.
#[derive(Debug)]
pub struct Receiver<T>(oneshot::Receiver<T>);

/// A new pair.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = oneshot::channel();
    (Sender(sender), Receiver(receiver))
}

impl<T> Sender<T> {
    /// Hands the value over; gives it back if nobody waits any more.
    pub fn send(self, value: T) -> Result<(), T> {
        self.0.send(value)
    }

    /// Whether nobody waits any more.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_canceled()
    }

    /// Ready once nobody waits any more.
    pub fn poll_abandoned(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_canceled(context)
    }
}

impl<T> Receiver<T> {
    /// Takes the value if it is there.
    pub fn try_take(&mut self) -> Result<Option<T>, Abandoned> {
        self.0.try_recv().map_err(|_| Abandoned)
    }

    /// Waits on a plain thread, never on a shard's. `None` when the time is over.
    pub fn wait_blocking(&mut self, patience: Duration) -> Option<Result<T, Abandoned>> {
        let deadline = Instant::now() + patience;
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(outcome) = Pin::new(&mut *self).poll(&mut context) {
                return Some(outcome);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            thread::park_timeout(left);
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Abandoned>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Abandoned)
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Driver;

    #[test]
    fn value_from_a_thread_wakes_the_shard_that_waits_for_it() {
        for driver in Driver::available() {
            let (sender, receiver) = channel();
            let thread = thread::spawn(move || sender.send(7).unwrap());
            assert_eq!(driver.block_on(receiver).unwrap(), Ok(7));
            thread.join().unwrap();
        }
    }

    #[test]
    fn value_from_a_shard_wakes_the_thread_that_waits_for_it() {
        for driver in Driver::available() {
            let (sender, mut receiver) = channel();
            let thread = thread::spawn(move || receiver.wait_blocking(Duration::from_mins(1)));
            driver.block_on(async { sender.send(7).unwrap() }).unwrap();
            assert_eq!(thread.join().unwrap(), Some(Ok(7)));
        }
    }

    #[test]
    fn either_side_notices_that_the_other_has_gone() {
        let (sender, mut receiver) = channel::<u8>();
        assert_eq!(receiver.try_take(), Ok(None));
        assert_eq!(receiver.wait_blocking(Duration::ZERO), None);
        drop(sender);
        assert_eq!(receiver.wait_blocking(Duration::ZERO), Some(Err(Abandoned)));

        let (sender, receiver) = channel::<u8>();
        drop(receiver);
        assert!(sender.is_abandoned());
        assert_eq!(sender.send(1), Err(1));
    }
}
