//! One shard's signal that it is time to end.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

/// Fired once, seen by every clone on this shard. It comes to the shard as an event in its inbox.
#[derive(Debug, Clone, Default)]
pub struct Stop(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    deadline: Cell<Option<Instant>>,
    wakers: RefCell<FxHashMap<u64, Waker>>,
    next_key: Cell<u64>,
}

impl Stop {
    /// A signal that has not been given.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal; what runs then has `patience` to come to its end. Only the first counts.
    pub fn fire(&self, patience: Duration) {
        if self.0.deadline.get().is_none() {
            self.0.deadline.set(Some(Instant::now() + patience));
            self.0.wakers.take().into_values().for_each(Waker::wake);
        }
    }

    /// The end of patience, if the signal was given.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline.get()
    }

    /// Waits for the signal and tells the end of patience. May be dropped at any time.
    pub async fn fired(&self) -> Instant {
        let key = self.0.next_key.get();
        self.0.next_key.set(key + 1);
        let registration = Registration { shared: &self.0, key };
        poll_fn(|context| {
            if let Some(deadline) = registration.shared.deadline.get() {
                return Poll::Ready(deadline);
            }
            let known =
                self.0.wakers.borrow().get(&key).is_some_and(|w| w.will_wake(context.waker()));
            if !known {
                let before = self.0.wakers.borrow_mut().insert(key, context.waker().clone());
                drop(before);
            }
            Poll::Pending
        })
        .await
    }
}

struct Registration<'a> {
    shared: &'a Shared,
    key: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let waker = self.shared.wakers.borrow_mut().remove(&self.key);
        drop(waker);
    }
}
