//! Counts the open read transactions, so that the map can be moved when there
//! is none.
//!
//! LMDB's map may only be resized while nobody looks into it, and LMDB does not
//! check. Entering is one atomic addition; only while the map is being moved
//! does a reader wait, for as long as the readers before it take.

use std::{
    cell::RefCell,
    marker::PhantomData,
    ptr,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Set in [`Gate::state`] while nobody new may enter; the other bits count.
const CLOSED: usize = 1 << (usize::BITS - 1);

thread_local! {
    /// The gates that this thread is inside of, by address. A thread that is
    /// inside may enter again at once: waiting for itself would never end.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Lets readers in while it is open.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: AtomicUsize,
    waiting: Mutex<()>,
    changed: Condvar,
}

impl Gate {
    /// Enters; waits only while the gate is closed and this thread is outside.
    pub(crate) fn enter(&self) -> Pass<'_> {
        if self.is_inside() {
            self.state.fetch_add(1, Ordering::Acquire);
        } else {
            while self.state.fetch_add(1, Ordering::Acquire) & CLOSED != 0 {
                self.leave();
                self.wait_while(|state| state & CLOSED != 0);
            }
        }
        INSIDE.with_borrow_mut(|inside| inside.push(self.address()));
        Pass { gate: self, not_send: PhantomData }
    }

    /// Whether this thread holds a pass.
    pub(crate) fn is_inside(&self) -> bool {
        INSIDE.with_borrow(|inside| inside.contains(&self.address()))
    }

    /// How many passes are out.
    pub(crate) fn count(&self) -> usize {
        self.state.load(Ordering::Relaxed) & !CLOSED
    }

    /// Closes the gate and waits until everybody has left. Only one thread may
    /// close (INV-5), and it must not be inside.
    pub(crate) fn close(&self) -> Closed<'_> {
        debug_assert!(!self.is_inside(), "a thread cannot wait for itself to leave");
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
        let closed = Closed(self);
        self.wait_while(|state| state & !CLOSED != 0);
        closed
    }

    fn leave(&self) {
        if self.state.fetch_sub(1, Ordering::Release) == CLOSED | 1 {
            self.notify();
        }
    }

    fn wait_while(&self, condition: impl Fn(usize) -> bool) {
        let mut waiting = self.lock();
        while condition(self.state.load(Ordering::Acquire)) {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn notify(&self) {
        // Who waits holds the lock from its look at the state until it sleeps:
        // taking the lock here is what makes the wake-up impossible to miss.
        drop(self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }
}

/// Proof that the map stays where it is. Bound to its thread.
#[derive(Debug)]
pub(crate) struct Pass<'g> {
    gate: &'g Gate,
    not_send: PhantomData<*const ()>,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let address = self.gate.address();
        INSIDE.with_borrow_mut(|inside| {
            if let Some(last) = inside.iter().rposition(|held| *held == address) {
                inside.swap_remove(last);
            }
        });
        self.gate.leave();
    }
}

/// Proof that nobody is inside; opens the gate when dropped.
#[derive(Debug)]
pub(crate) struct Closed<'g>(&'g Gate);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!CLOSED, Ordering::Release);
        self.0.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, thread};

    use super::*;

    #[test]
    fn closing_waits_for_each_reader_and_lets_none_in() {
        let gate = Gate::default();
        let moving = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let _pass = gate.enter();
                        assert!(!moving.load(Ordering::SeqCst), "entered a closed gate");
                    }
                });
            }
            for _ in 0..500 {
                let closed = gate.close();
                moving.store(true, Ordering::SeqCst);
                assert_eq!(gate.state.load(Ordering::SeqCst) & CLOSED, CLOSED);
                moving.store(false, Ordering::SeqCst);
                drop(closed);
            }
        });
        assert_eq!(gate.count(), 0);
    }

    #[test]
    fn thread_that_is_inside_enters_again_while_the_gate_closes() {
        let gate = Gate::default();
        thread::scope(|scope| {
            let outer = gate.enter();
            scope.spawn(|| drop(gate.close()));
            while gate.state.load(Ordering::SeqCst) & CLOSED == 0 {
                thread::yield_now();
            }
            let inner = gate.enter();
            assert_eq!(gate.count(), 2);
            drop((inner, outer));
        });
        assert!(!gate.is_inside());
        assert_eq!(gate.state.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn being_inside_one_gate_is_not_being_inside_another() {
        let (first, second) = (Gate::default(), Gate::default());
        let _pass = first.enter();
        assert!(first.is_inside());
        assert!(!second.is_inside());
    }
}
