//! A count of permits within one shard: so many at once, the others wait in line.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// A shard's own semaphore; clones share the permits.
#[derive(Debug, Clone)]
pub struct Gate(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    free: Cell<usize>,
    line: RefCell<VecDeque<Rc<Waiter>>>,
    empty: RefCell<Vec<Waker>>,
}

#[derive(Debug, Default)]
struct Waiter {
    granted: Cell<bool>,
    gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The right to be inside; dropping it lets the next one in.
#[derive(Debug)]
pub struct Permit(Rc<Shared>);

impl Gate {
    /// A gate that lets `max` in at once.
    pub fn new(max: usize) -> Self {
        Self(Rc::new(Shared {
            max,
            free: Cell::new(max),
            line: RefCell::default(),
            empty: RefCell::default(),
        }))
    }

    /// Enters if there is room now and nobody waits.
    pub fn try_enter(&self) -> Option<Permit> {
        let free = self.0.free.get();
        (0 < free).then(|| {
            self.0.free.set(free - 1);
            Permit(Rc::clone(&self.0))
        })
    }

    /// Waits in line. May be dropped at any time.
    pub async fn enter(&self) -> Permit {
        if let Some(permit) = self.try_enter() {
            return permit;
        }
        let waiting = Waiting { shared: &self.0, waiter: Rc::default() };
        self.0.line.borrow_mut().push_back(Rc::clone(&waiting.waiter));
        poll_fn(|context| {
            if waiting.waiter.granted.take() {
                return Poll::Ready(Permit(Rc::clone(&self.0)));
            }
            let before = waiting.waiter.waker.replace(Some(context.waker().clone()));
            drop(before);
            Poll::Pending
        })
        .await
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.0.max - self.0.free.get()
    }

    /// Waits until nobody is inside. May be dropped at any time.
    pub async fn empty(&self) {
        poll_fn(|context| {
            if self.inside() == 0 {
                return Poll::Ready(());
            }
            let mut wakers = self.0.empty.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Takes care of a waiter that leaves the line before its turn, or just after it was let in.
struct Waiting<'a> {
    shared: &'a Rc<Shared>,
    waiter: Rc<Waiter>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiter.gone.set(true);
        if self.waiter.granted.take() {
            self.shared.release();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Shared {
    fn release(&self) {
        while let Some(next) = self.next() {
            if next.gone.get() {
                continue;
            }
            next.granted.set(true);
            if let Some(waker) = next.waker.take() {
                waker.wake();
            }
            return;
        }
        self.free.set(self.free.get() + 1);
        if self.free.get() == self.max {
            self.empty.take().into_iter().for_each(Waker::wake);
        }
    }

    fn next(&self) -> Option<Rc<Waiter>> {
        self.line.borrow_mut().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::join_all};

    use super::*;
    use crate::{driver::Driver, task};

    #[test]
    fn waiters_enter_in_line_and_never_more_than_allowed() {
        let order = Driver::Epoll.block_on(async {
            let (gate, order) = (Gate::new(2), Rc::new(RefCell::new(Vec::new())));
            let tasks = (0..20).map(|number| {
                let (gate, order) = (gate.clone(), Rc::clone(&order));
                task::spawn(async move {
                    let _permit = gate.enter().await;
                    assert!(gate.inside() <= 2);
                    order.borrow_mut().push(number);
                    task::spawn(async {}).await;
                })
            });
            join_all(tasks.collect::<Vec<_>>()).await;
            gate.empty().await;
            order.take()
        });
        assert_eq!(order.unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn permit_granted_to_a_waiter_that_left_is_not_lost() {
        let gate = Gate::new(1);
        let permit = gate.try_enter().unwrap();
        let mut left = Box::pin(gate.enter());
        let mut stays = Box::pin(gate.enter());
        assert!(left.as_mut().now_or_never().is_none());
        assert!(stays.as_mut().now_or_never().is_none());
        drop(permit);
        drop(left);
        assert!(stays.now_or_never().is_some());
        assert_eq!(gate.inside(), 0);
    }
}
