//! A shard's one inbox. flume is named here and nowhere else, so that it can be exchanged.
//!
//! One receiver, never raced against anything: ticks, stops, replies and requests all arrive here,
//! so no receive is ever dropped half-way. Sending never waits (INV-2): who may send holds a credit
//! (INV-3), and a full inbox is answered by the sender, at once.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Events that one turn takes from the inbox at most, so that a turn stays short.
pub const TURN_EVENTS_MAX: usize = 256;

/// Why an event was not taken; the event comes back.
#[derive(Debug, thiserror::Error)]
pub enum SendError<E> {
    /// As many events wait as the inbox holds.
    #[error("the inbox is full; send less before it is emptied")]
    Full(E),
    /// Nobody will read it any more.
    #[error("the inbox is closed")]
    Closed(E),
}

/// The sending end; for any task and any thread.
pub struct Outbox<E>(flume::Sender<E>);

/// The receiving end; it belongs to one shard or one thread.
pub struct Inbox<E>(flume::Receiver<E>);

/// What a bounded wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// There are events.
    Filled,
    /// The time is over and there are none.
    TimedOut,
    /// There are none, and there will be none: every sender is gone.
    Closed,
}

/// A new inbox. The capacity is a sum of named uses: requests admitted, polls in flight, one tick…
pub fn inbox<E>(capacity: usize) -> (Outbox<E>, Inbox<E>) {
    let (sender, receiver) = flume::bounded(capacity);
    (Outbox(sender), Inbox(receiver))
}

impl<E> fmt::Debug for Outbox<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Outbox").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Inbox<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Inbox").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

impl<E> Clone for Outbox<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Outbox<E> {
    /// Leaves one event and wakes the receiver; never waits.
    pub fn try_send(&self, event: E) -> Result<(), SendError<E>> {
        self.0.try_send(event).map_err(|error| match error {
            flume::TrySendError::Full(event) => SendError::Full(event),
            flume::TrySendError::Disconnected(event) => SendError::Closed(event),
        })
    }

    /// Events that wait now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether nobody will read any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_disconnected()
    }
}

impl<E> Inbox<E> {
    /// Waits for one event, then takes what else is there, up to one turn's share. `None` once
    /// every sender is gone. Not to be dropped before it is ready.
    pub async fn fill(&self, batch: &mut Vec<E>) -> Option<()> {
        debug_assert!(batch.is_empty(), "a turn begins with no events of the one before");
        batch.push(self.0.recv_async().await.ok()?);
        self.drain(batch, TURN_EVENTS_MAX - 1);
        debug_assert!(batch.len() <= TURN_EVENTS_MAX);
        Some(())
    }

    /// Takes what is there, up to `max`, without waiting; returns how many.
    pub fn drain(&self, batch: &mut Vec<E>, max: usize) -> usize {
        let before = batch.len();
        batch.extend(self.0.try_iter().take(max));
        batch.len() - before
    }

    /// Waits on a plain thread, never on a shard's, for one event, then takes what else is there,
    /// `max` in all.
    pub fn wait_blocking(&self, batch: &mut Vec<E>, max: usize, patience: Duration) -> Waited {
        debug_assert!(0 < max);
        let deadline = Instant::now() + patience;
        match self.0.recv_deadline(deadline) {
            Ok(event) => {
                batch.push(event);
                self.drain(batch, max - 1);
                Waited::Filled
            }
            Err(flume::RecvTimeoutError::Timeout) => Waited::TimedOut,
            Err(flume::RecvTimeoutError::Disconnected) => Waited::Closed,
        }
    }

    /// Waits on a plain thread, without end, for one event; false once every sender is gone.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that may; for threads, not shards"
    )]
    pub(crate) fn wait_for_one(&self, batch: &mut Vec<E>) -> bool {
        self.0.recv().map(|event| batch.push(event)).is_ok()
    }

    /// Events that wait now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::driver::Driver;

    /// Goal: no wake-up is lost between plain threads and a shard that sleeps in between. The
    /// inbox is small, so that the shard empties it and sleeps many times.
    #[test]
    fn ten_thousand_events_from_threads_all_arrive_in_each_senders_order() {
        const SENDERS: usize = 4;
        const EACH: usize = 2_500;
        for driver in Driver::available() {
            let (outbox, inbox) = inbox(8);
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let outbox: Outbox<(usize, usize)> = outbox.clone();
                    thread::spawn(move || {
                        for number in 0..EACH {
                            let mut event = (sender, number);
                            while let Err(SendError::Full(back)) = outbox.try_send(event) {
                                event = back;
                                thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            drop(outbox);
            let mut next = [0; SENDERS];
            driver
                .block_on(async {
                    let mut batch = Vec::new();
                    while inbox.fill(&mut batch).await.is_some() {
                        for (sender, number) in batch.drain(..) {
                            assert_eq!(next[sender], number);
                            next[sender] += 1;
                        }
                    }
                })
                .unwrap();
            assert_eq!(next, [EACH; SENDERS]);
            for sender in senders {
                sender.join().unwrap();
            }
        }
    }

    #[test]
    fn full_inbox_gives_the_event_back_and_a_turn_takes_its_share_only() {
        let (outbox, inbox) = inbox(TURN_EVENTS_MAX + 10);
        (0..TURN_EVENTS_MAX + 10).for_each(|number| outbox.try_send(number).unwrap());
        assert!(matches!(outbox.try_send(1), Err(SendError::Full(1))));
        Driver::Epoll
            .block_on(async {
                let mut batch = Vec::new();
                inbox.fill(&mut batch).await.unwrap();
                assert_eq!(batch.len(), TURN_EVENTS_MAX);
            })
            .unwrap();
        assert_eq!(inbox.len(), 10);
        drop(inbox);
        assert!(matches!(outbox.try_send(1), Err(SendError::Closed(1))));
    }

    #[test]
    fn plain_thread_receives_from_a_shard_until_the_last_sender_is_gone() {
        for driver in Driver::available() {
            let (outbox, inbox) = inbox(16);
            let receiver = thread::spawn(move || {
                let mut batch = Vec::new();
                while inbox.wait_blocking(&mut batch, 4, Duration::from_mins(1)) == Waited::Filled {
                }
                batch
            });
            driver
                .block_on(async move { (0..10).for_each(|n| outbox.try_send(n).unwrap()) })
                .unwrap();
            assert_eq!(receiver.join().unwrap(), (0..10).collect::<Vec<_>>());
        }
        let (_outbox, inbox) = inbox::<u8>(1);
        assert_eq!(inbox.wait_blocking(&mut Vec::new(), 1, Duration::ZERO), Waited::TimedOut);
    }
}
