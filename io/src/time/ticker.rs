//! What tells a shard that time has passed: when something is due, and now and then besides.
//!
//! A tick wakes the shard, and most of what it costs is that. A shard with nothing to do is left
//! alone but for a look now and then.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{Sleep, clock, sleep_until};
use crate::{
    mailbox::{Outbox, SendError},
    task::{self, Task},
};

/// What a ticker tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Unix milliseconds.
    pub now_ms: u64,
    /// How late this tick is: the shard's stall detector.
    pub late_ms: u64,
    /// CPU time of the shard's thread since the tick before, in milliseconds. Where a tick is late,
    /// it tells whether the shard computed for that long, or whether others had the CPU.
    pub cpu_ms: u64,
}

/// How long it is from one tick to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At the least, however much is due: what is due meanwhile has one tick.
    pub at_least: Duration,
    /// At the most, even if nothing is due. It turns a wake-up lost between threads, should there
    /// ever be one, into a hiccup, and notices a shard that is held up.
    pub at_most: Duration,
}

/// Sends ticks into an inbox, until that is closed; belongs to one shard.
#[derive(Clone)]
pub struct Ticker(Rc<State>);

struct State {
    pace: Pace,
    last: Cell<Instant>,
    /// What was asked for since the last tick.
    wanted: Cell<Option<Instant>>,
    /// What the task sleeps for.
    sleeps_until: Cell<Instant>,
    waker: RefCell<Option<Waker>>,
}

impl fmt::Debug for Ticker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ticker").field("due", &self.0.due()).finish_non_exhaustive()
    }
}

impl Ticker {
    /// Begins to tick. A tick that finds the inbox full is left out: its next one says the same.
    /// The task ends when the inbox is closed.
    pub fn start<E: 'static>(
        pace: Pace,
        outbox: Outbox<E>,
        event: impl FnMut(Tick) -> E + 'static,
    ) -> (Self, Task<()>) {
        let last = Instant::now();
        let state = Rc::new(State {
            pace,
            last: Cell::new(last),
            wanted: Cell::new(None),
            sleeps_until: Cell::new(last + pace.at_most),
            waker: RefCell::new(None),
        });
        let task = task::spawn(run(Rc::clone(&state), outbox, event));
        (Self(state), task)
    }

    /// When the next tick is wanted, as far as the pace allows. It stands for what was said since
    /// the last tick; up to [`super::GRAIN`] late, as all sleeps are.
    pub fn wanted_at(&self, at: Instant) {
        self.0.wanted.set(Some(at));
        // A sleep that has become too short ends, and another begins: that costs less than to end
        // it each time that somebody wants to wait longer.
        if self.0.due() < self.0.sleeps_until.get() {
            let waker = self.0.waker.take();
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl State {
    fn due(&self) -> Instant {
        let (earliest, latest) =
            (self.last.get() + self.pace.at_least, self.last.get() + self.pace.at_most);
        self.wanted.get().unwrap_or(latest).min(latest).max(earliest)
    }

    /// Ready with the time at which the tick was due.
    fn poll_due(&self, sleep: &mut Option<Sleep>, context: &mut Context<'_>) -> Poll<Instant> {
        self.waker.replace(Some(context.waker().clone()));
        loop {
            let due = self.due();
            self.sleeps_until.set(due);
            sleep.take_if(|it| it.deadline() != due);
            match Pin::new(sleep.get_or_insert_with(|| sleep_until(due))).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if self.due() <= due => return Poll::Ready(due),
                Poll::Ready(()) => {}
            }
        }
    }
}

async fn run<E>(state: Rc<State>, outbox: Outbox<E>, mut event: impl FnMut(Tick) -> E) {
    let mut cpu_before = clock::thread_cpu();
    let mut sleep = None;
    loop {
        let due = poll_fn(|context| state.poll_due(&mut sleep, context)).await;
        let cpu = clock::thread_cpu();
        let tick = Tick {
            now_ms: clock::now_ms(),
            late_ms: whole_ms(due.elapsed()),
            cpu_ms: whole_ms(cpu.saturating_sub(cpu_before)),
        };
        cpu_before = cpu;
        let event = event(tick);
        state.last.set(Instant::now());
        state.wanted.set(None);
        if let Err(SendError::Closed(_)) = outbox.try_send(event) {
            return;
        }
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        driver::Driver,
        mailbox::{self, Inbox},
    };

    const OFTEN: Pace =
        Pace { at_least: Duration::from_millis(2), at_most: Duration::from_millis(2) };

    async fn next<E>(inbox: &Inbox<E>) -> E {
        let mut batch = Vec::new();
        inbox.fill(&mut batch).await.unwrap();
        batch.pop().unwrap()
    }

    #[test]
    fn ticker_ticks_until_its_inbox_is_closed() {
        for driver in Driver::available() {
            driver
                .block_on(async {
                    let (outbox, inbox) = mailbox::inbox(4);
                    let (_ticker, task) = Ticker::start(OFTEN, outbox, |tick| tick.now_ms);
                    let mut ticks = Vec::new();
                    while ticks.len() < 3 {
                        ticks.push(next(&inbox).await);
                    }
                    assert!(ticks.is_sorted());
                    drop(inbox);
                    task.await;
                })
                .unwrap();
        }
    }

    #[test]
    fn tick_comes_when_it_is_wanted_and_no_sooner() {
        let pace = Pace { at_least: Duration::from_millis(10), at_most: Duration::from_hours(1) };
        for driver in Driver::available() {
            driver
                .block_on(async {
                    let (outbox, inbox) = mailbox::inbox(4);
                    let (ticker, task) = Ticker::start(pace, outbox, |_| Instant::now());
                    // The task sleeps for an hour when it hears of it.
                    super::super::sleep(Duration::from_millis(5)).await;
                    let mut came_before = None;
                    for wanted_ms in [40, 60, 0, 30] {
                        let wanted = Instant::now() + Duration::from_millis(wanted_ms);
                        ticker.wanted_at(Instant::now() + Duration::from_millis(20));
                        // What was wanted last counts.
                        ticker.wanted_at(wanted);
                        let came = next(&inbox).await;
                        assert!(wanted <= came, "{wanted_ms}: {:?}", wanted - came);
                        let distance = came_before.map(|before| came.duration_since(before));
                        assert!(distance.is_none_or(|it| pace.at_least <= it), "{distance:?}");
                        came_before = Some(came);
                    }
                    drop(inbox);
                    ticker.wanted_at(Instant::now());
                    task.await;
                })
                .unwrap();
        }
    }

    #[test]
    fn ticks_account_for_the_cpu_time_of_their_thread() {
        for driver in Driver::available() {
            driver
                .block_on(async {
                    let (outbox, inbox) = mailbox::inbox(16);
                    let (_ticker, task) = Ticker::start(OFTEN, outbox, |tick| tick);
                    let mut ticks = Vec::new();
                    inbox.fill(&mut ticks).await.unwrap();
                    ticks.clear();
                    let until = clock::thread_cpu() + Duration::from_millis(20);
                    while clock::thread_cpu() < until {}
                    inbox.fill(&mut ticks).await.unwrap();
                    let told: u64 = ticks.iter().map(|tick| tick.cpu_ms).sum();
                    assert!(told >= 20, "{ticks:?}");
                    drop(inbox);
                    task.await;
                })
                .unwrap();
        }
    }
}
