//! The clock, and waiting for it.
//!
//! A shard has one timer of the runtime, which serves all sleeps of this file: connections want two
//! deadlines each, and nearly all of them are dropped before they fire. The price is that a sleep
//! may end some milliseconds late ([`GRAIN`]); never early.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

mod ticker;

pub use ticker::{Pace, Tick, Ticker};

use crate::task;

/// Deadlines closer together than this are served by one wake-up of the shard.
pub const GRAIN: Duration = Duration::from_millis(4);

/// Reading the time.
pub mod clock {
    use rustix::time::{ClockId, clock_gettime};

    use super::{Duration, Instant, OnceLock, SystemTime};

    static START: OnceLock<(Instant, Duration)> = OnceLock::new();

    fn start() -> &'static (Instant, Duration) {
        START.get_or_init(|| {
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            (Instant::now(), wall.unwrap_or_default())
        })
    }

    /// Unix milliseconds. The wall clock is read once; from then on time only moves forward, at the
    /// pace of the monotonic clock, so a clock that is set during the run is not followed.
    pub fn now_ms() -> u64 {
        let (instant, wall) = start();
        u64::try_from((*wall + instant.elapsed()).as_millis()).unwrap_or(u64::MAX)
    }

    /// The moment of a time that [`now_ms`] tells, or will tell; one before the start is the start.
    pub fn instant(unix_ms: u64) -> Instant {
        let (instant, wall) = start();
        *instant + Duration::from_millis(unix_ms).saturating_sub(*wall)
    }

    /// CPU time that this thread has used, in user mode and in the kernel.
    pub fn thread_cpu() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(time).unwrap_or_default()
    }

    /// For measuring how long something took.
    pub fn monotonic() -> Instant {
        Instant::now()
    }
}

/// The time was over first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time allowed is over")]
pub struct Elapsed;

/// A sleep that has not ended. It holds no reference to the shard, so it may be stored anywhere; it
/// must be polled on a shard.
#[derive(Debug)]
pub struct Sleep {
    deadline: Instant,
    key: u64,
    /// It was not over when it was polled: somebody waits for it.
    is_waited_for: bool,
}

/// Ends after the duration, up to [`GRAIN`] late. May be dropped at any time.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// Ends at the deadline, up to [`GRAIN`] late. May be dropped at any time.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, key: next_key(), is_waited_for: false }
}

/// Gives a future so much time, then drops it.
///
/// Only for futures that may be dropped at any point. These may not: [`crate::mailbox::Inbox::fill`]
/// (an event could be lost) and [`crate::turn::Turnstile::pass`] (the kernel has its buffers).
/// Everything of [`crate::http`], [`crate::oneshot`], [`crate::gate`] and this module may.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut sleep) = (pin!(future), sleep(duration));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut sleep).poll(context).map(|()| Err(Elapsed))
    })
    .await
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.deadline <= Instant::now() {
            return Poll::Ready(());
        }
        self.is_waited_for = true;
        // A waker may own the last reference to a task that owns sleeps of its own: it is dropped
        // outside of the borrow.
        let before = TIMERS.with(|timers| {
            let mut deadlines = timers.deadlines.borrow_mut();
            let known = deadlines.get(&(self.deadline, self.key));
            if known.is_some_and(|waker| waker.will_wake(context.waker())) {
                return None;
            }
            deadlines.insert((self.deadline, self.key), context.waker().clone())
        });
        drop(before);
        keep_pace(self.deadline);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if !self.is_waited_for {
            return;
        }
        let key = (self.deadline, self.key);
        let waker = TIMERS.try_with(|timers| timers.deadlines.borrow_mut().remove(&key));
        drop(waker);
    }
}

#[derive(Default)]
struct Timers {
    deadlines: RefCell<BTreeMap<(Instant, u64), Waker>>,
    /// When the pacer wakes up next; `None` while there is no pacer.
    pacer_due: Cell<Option<Instant>>,
    pacer: RefCell<Option<Waker>>,
}

thread_local! {
    static TIMERS: Timers = Timers::default();
}

/// Unique in the process, so that a sleep dropped on another thread removes nobody else's entry.
fn next_key() -> u64 {
    static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);
    const BLOCK: u64 = 1 << 20;
    thread_local! {
        static NEXT: Cell<u64> = const { Cell::new(0) };
    }
    NEXT.with(|next| {
        let mut key = next.get();
        if key.is_multiple_of(BLOCK) {
            key = NEXT_BLOCK.fetch_add(BLOCK, Ordering::Relaxed) + 1;
        }
        next.set(key + 1);
        key
    })
}

/// Makes sure that the pacer runs and wakes up in time for the deadline.
fn keep_pace(deadline: Instant) {
    TIMERS.with(|timers| match timers.pacer_due.get() {
        None => {
            timers.pacer_due.set(Some(deadline));
            drop(task::spawn(pace(PacerGuard)));
        }
        Some(due) if deadline < due => {
            timers.pacer_due.set(Some(deadline));
            if let Some(waker) = timers.pacer.take() {
                waker.wake();
            }
        }
        Some(_) => {}
    });
}

/// The one task of a shard that waits for time to pass; it ends when nobody sleeps.
async fn pace(_guard: PacerGuard) {
    let mut timer = pin!(monoio::time::sleep(Duration::ZERO));
    let mut armed = None;
    poll_fn(|context| {
        loop {
            let now = Instant::now();
            // Woken in one go, outside of the borrow: see `Sleep::poll`.
            expired(now).into_iter().for_each(Waker::wake);
            let next = TIMERS.with(|timers| {
                let first = timers.deadlines.borrow().keys().next().map(|key| key.0);
                timers.pacer_due.set(first);
                timers.pacer.replace(Some(context.waker().clone()));
                first
            });
            let Some(next) = next else { return Poll::Ready(()) };
            if armed != Some(next) {
                armed = Some(next);
                let wait = next.saturating_duration_since(now) + GRAIN;
                timer.as_mut().reset(monoio::time::Instant::now() + wait);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            armed = None;
        }
    })
    .await;
}

fn expired(now: Instant) -> Vec<Waker> {
    TIMERS.with(|timers| {
        let mut deadlines = timers.deadlines.borrow_mut();
        let mut wakers = Vec::new();
        while let Some(entry) = deadlines.first_entry() {
            if now < entry.key().0 {
                break;
            }
            wakers.push(entry.remove());
        }
        wakers
    })
}

/// Forgets a runtime's sleeps with it. Their wakers would keep its tasks alive, the pacer among
/// them, and the next runtime on this thread would wait for a pacer that nobody drives.
pub(crate) struct RuntimeGuard;

impl Drop for RuntimeGuard {
    fn drop(&mut self) {
        let forgotten = TIMERS.try_with(|timers| {
            timers.pacer_due.set(None);
            (timers.pacer.take(), timers.deadlines.take())
        });
        drop(forgotten);
    }
}

/// The pacer's end, however it comes: the next sleep starts another.
struct PacerGuard;

impl Drop for PacerGuard {
    fn drop(&mut self) {
        let wakers = TIMERS.try_with(|timers| {
            timers.pacer_due.set(None);
            timers.pacer.take()
        });
        drop(wakers);
    }
}

/// hyper's view of the shard's timer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HyperTimer;

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep_until(deadline))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use futures_util::future::{join_all, pending};

    use super::*;
    use crate::driver::Driver;

    #[test]
    fn clock_tells_unix_milliseconds_and_never_goes_back() {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let first = clock::now_ms();
        assert!(u128::from(first).abs_diff(wall) < 60_000);
        assert!(first <= clock::now_ms());
    }

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines_and_not_early() {
        for driver in Driver::available() {
            let order = driver.block_on(async {
                let order = Rc::new(RefCell::new(Vec::new()));
                let start = Instant::now();
                let sleeps = [120_u64, 10, 60].map(|wait_ms| {
                    let order = Rc::clone(&order);
                    task::spawn(async move {
                        let wait = Duration::from_millis(wait_ms);
                        sleep(wait).await;
                        assert!(wait <= start.elapsed());
                        order.borrow_mut().push(wait_ms);
                    })
                });
                join_all(sleeps).await;
                order.take()
            });
            assert_eq!(order.unwrap(), [10, 60, 120]);
        }
    }

    #[test]
    fn timeout_ends_what_would_never_end_and_leaves_the_rest_alone() {
        for driver in Driver::available() {
            driver
                .block_on(async {
                    let short = Duration::from_millis(5);
                    assert_eq!(timeout(short, pending::<()>()).await, Err(Elapsed));
                    assert_eq!(timeout(Duration::from_mins(1), async { 7 }).await, Ok(7));
                    // A second time, after the pacer had nothing left to do.
                    assert_eq!(timeout(short, pending::<()>()).await, Err(Elapsed));
                })
                .unwrap();
            TIMERS.with(|timers| assert!(timers.deadlines.borrow().is_empty()));
        }
    }
}
