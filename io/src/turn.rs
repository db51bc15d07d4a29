//! The loop that drives a shard's state machine: wait, turn, let the driver have its round.

use std::{
    io, mem,
    time::{Duration, Instant},
};

use monoio::{
    io::{AsyncReadRentExt, AsyncWriteRentExt},
    net::UnixStream,
};

use crate::mailbox::{Inbox, TURN_EVENTS_MAX};

/// How long the shard computes before it passes the turnstile, even if its turns were short.
pub const BUSY_MAX: Duration = Duration::from_micros(200);

/// Whether a machine wants more turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does, once there are events.
    Continue,
    /// It does, at once: it has more to do than a turn should.
    Again,
    /// It has nothing left to do, and the loop ends.
    Stop,
}

/// What a shard thinks with: it takes a turn's events and never waits.
pub trait Machine {
    /// Everything that can happen to it.
    type Event;

    /// Takes the events of one turn, in order, and leaves `events` empty. Effects start here and
    /// are not waited for. A panic here ends the process.
    fn turn(&mut self, events: &mut Vec<Self::Event>) -> Flow;
}

/// Drives a machine until it stops or nobody can reach it any more, and gives it back.
pub async fn run<M: Machine>(mut machine: M, inbox: Inbox<M::Event>) -> io::Result<M> {
    let mut events = Vec::with_capacity(TURN_EVENTS_MAX);
    let mut turnstile = Turnstile::new()?;
    let mut busy = Duration::ZERO;
    let mut again = false;
    loop {
        if again {
            inbox.drain(&mut events, TURN_EVENTS_MAX);
        } else if inbox.fill(&mut events).await.is_none() {
            break;
        }
        let begin = Instant::now();
        let full = events.len() == TURN_EVENTS_MAX;
        let flow = machine.turn(&mut events);
        events.clear();
        if flow == Flow::Stop {
            break;
        }
        again = flow == Flow::Again;
        busy += begin.elapsed();
        if full || again || BUSY_MAX < busy {
            turnstile.pass().await?;
            busy = Duration::ZERO;
        }
    }
    Ok(machine)
}

/// Hands the thread to the driver for one round.
///
/// monoio 0.2.4 looks at timers and at other threads' wake-ups only when no task is ready, so a
/// shard with a full inbox would starve both. Waiting for a byte of our own makes the ready queue
/// run empty for a few microseconds. It works if every other task on the shard waits for something
/// too, which tasks that wait for sockets do.
#[derive(Debug)]
pub struct Turnstile {
    near: UnixStream,
    far: UnixStream,
    token: Vec<u8>,
    space: Vec<u8>,
}

impl Turnstile {
    /// A new one, on a shard.
    pub fn new() -> io::Result<Self> {
        let (near, far) = UnixStream::pair()?;
        Ok(Self { near, far, token: vec![0], space: vec![0] })
    }

    /// Waits for one round of the driver. Not to be dropped half-way: the kernel has the buffers.
    pub async fn pass(&mut self) -> io::Result<()> {
        let (token, space) = (mem::take(&mut self.token), mem::take(&mut self.space));
        // The read goes first: it must find nothing there, or nobody would wait.
        let (read, written) =
            futures_util::future::join(self.near.read_exact(space), self.far.write_all(token))
                .await;
        (self.space, self.token) = (read.1, written.1);
        read.0.and(written.0).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::{driver::Driver, mailbox, task, time};

    /// Feeds itself for ever, as a shard under overload is fed, until it is told that the timer
    /// and the other thread got through.
    struct Overloaded {
        outbox: mailbox::Outbox<u8>,
        timer_fired: Rc<Cell<bool>>,
        thread_heard: Rc<Cell<bool>>,
        turns: u64,
    }

    impl Machine for Overloaded {
        type Event = u8;

        fn turn(&mut self, events: &mut Vec<u8>) -> Flow {
            self.turns += 1;
            if self.timer_fired.get() && self.thread_heard.get() {
                return Flow::Stop;
            }
            for event in events.drain(..) {
                self.outbox.try_send(event).unwrap();
            }
            Flow::Continue
        }
    }

    #[test]
    fn full_inbox_starves_neither_timers_nor_other_threads() {
        for driver in Driver::available() {
            let (outbox, inbox) = mailbox::inbox(2 * TURN_EVENTS_MAX);
            (0..2 * TURN_EVENTS_MAX).for_each(|_| outbox.try_send(0).unwrap());
            let turns = driver.block_on(async move {
                let (timer_fired, thread_heard) = <(Rc<Cell<bool>>, Rc<Cell<bool>>)>::default();
                let (fired, heard) = (Rc::clone(&timer_fired), Rc::clone(&thread_heard));
                drop(task::spawn(async move {
                    time::sleep(Duration::from_millis(5)).await;
                    fired.set(true);
                }));
                let (sender, receiver) = crate::oneshot::channel();
                let thread = std::thread::spawn(move || sender.send(()).unwrap());
                drop(task::spawn(async move {
                    receiver.await.unwrap();
                    heard.set(true);
                }));
                let machine = Overloaded { outbox, timer_fired, thread_heard, turns: 0 };
                let machine = run(machine, inbox).await.unwrap();
                thread.join().unwrap();
                machine.turns
            });
            assert!(1 < turns.unwrap());
        }
    }

    /// Wants three turns for each event, and others to have theirs in between.
    struct Slow {
        left: usize,
        events: usize,
        others: Rc<Cell<usize>>,
        seen: Vec<(usize, usize)>,
    }

    impl Machine for Slow {
        type Event = ();

        fn turn(&mut self, events: &mut Vec<()>) -> Flow {
            self.left += 3 * events.len();
            self.events += events.len();
            events.clear();
            self.left -= 1;
            self.seen.push((self.events, self.others.get()));
            if self.left == 0 { Flow::Continue } else { Flow::Again }
        }
    }

    #[test]
    fn machine_with_more_to_do_has_turns_without_events_and_lets_others_go_first() {
        for driver in Driver::available() {
            let (outbox, inbox) = mailbox::inbox(2);
            outbox.try_send(()).unwrap();
            let seen = driver.block_on(async move {
                let others = Rc::new(Cell::new(0));
                let count = Rc::clone(&others);
                drop(task::spawn(async move {
                    for _ in 0..2 {
                        count.set(count.get() + 1);
                        time::sleep(Duration::ZERO).await;
                    }
                    outbox.try_send(()).unwrap();
                }));
                let machine = Slow { left: 0, events: 0, others, seen: Vec::new() };
                run(machine, inbox).await.unwrap().seen
            });
            let seen = seen.unwrap();
            assert_eq!(seen.len(), 6, "{seen:?}");
            assert_eq!((seen[0].0, seen[5].0), (1, 2), "{seen:?}");
            assert!(seen[1].1 > 0, "{seen:?}");
        }
    }

    struct Counting(Vec<usize>);

    impl Machine for Counting {
        type Event = usize;

        fn turn(&mut self, events: &mut Vec<usize>) -> Flow {
            self.0.append(events);
            Flow::Continue
        }
    }

    #[test]
    fn machine_comes_back_with_all_events_once_every_sender_is_gone() {
        for driver in Driver::available() {
            let (outbox, inbox) = mailbox::inbox(1000);
            (0..1000).for_each(|number| outbox.try_send(number).unwrap());
            drop(outbox);
            let machine = driver.block_on(run(Counting(Vec::new()), inbox)).unwrap().unwrap();
            assert_eq!(machine.0, (0..1000).collect::<Vec<_>>());
        }
    }
}
