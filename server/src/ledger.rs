//! The ledger's thread: the one writer (INV-5).
//!
//! Commands come in, and what was waiting is taken in as one group: folded,
//! published, committed, acknowledged, in this order; what may not be shown
//! before it is durable is published after the commit. Only this thread waits
//! for the disk. What a command means is [`luge_core::ledger`]'s business.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use luge_core::{
    ledger::{Applied, Change, Command, Delta, Ledger, Reply},
    view::{Layered, Pending, Write},
    world::World,
};
use luge_io::{
    mailbox::{self, Inbox, Outbox, SendError, Waited},
    oneshot, slice,
    time::clock,
};
use luge_store::{CommitError, Store, Writer};

use crate::message::{Message, Outboxes};

/// One command, and where its reply goes.
struct Job {
    command: Command,
    reply: Option<oneshot::Sender<Reply>>,
}

/// What reaches the thread.
enum Order {
    Job(Box<Job>),
    /// Nothing comes after this.
    Finish,
}

/// How shards and helpers reach the ledger.
#[derive(Clone)]
pub struct LedgerHandle {
    orders: Outbox<Order>,
    world: Arc<ArcSwap<World>>,
}

impl LedgerHandle {
    /// Hands over a command; the reply comes once it is durable.
    ///
    /// # Errors
    /// The command, where the ledger has as many waiting as it takes on, or has
    /// ended.
    pub fn submit(&self, command: Command) -> Result<oneshot::Receiver<Reply>, Box<Command>> {
        let (sender, receiver) = oneshot::channel();
        self.send(Job { command, reply: Some(sender) }).map(|()| receiver)
    }

    /// The same without a reply.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_quietly(&self, command: Command) -> Result<(), Box<Command>> {
        self.send(Job { command, reply: None })
    }

    fn send(&self, job: Job) -> Result<(), Box<Command>> {
        let refused = match self.orders.try_send(Order::Job(Box::new(job))) {
            Ok(()) => return Ok(()),
            Err(SendError::Full(order) | SendError::Closed(order)) => order,
        };
        match refused {
            Order::Job(job) => Err(Box::new(job.command)),
            Order::Finish => Ok(()),
        }
    }

    /// Has the thread end once it has taken in all that came before. For who
    /// knows that nothing comes after; false where it has ended, or has too
    /// much to do to be told now.
    pub fn finish(&self) -> bool {
        self.orders.try_send(Order::Finish).is_ok()
    }

    /// The newest published world.
    pub fn world(&self) -> Arc<World> {
        self.world.load_full()
    }
}

/// The thread's state.
struct Thread {
    ledger: Ledger,
    store: Store,
    writer: Writer,
    world: Arc<ArcSwap<World>>,
    shards: Outboxes,
    /// Deltas for shards whose inbox was full, in order.
    backlog: VecDeque<(usize, Arc<Delta>)>,
}

/// How the ledger's thread is started.
pub struct Start {
    /// What the tables hold, folded.
    pub ledger: Ledger,
    /// The tables.
    pub store: Store,
    /// The right to write them.
    pub writer: Writer,
    /// The shards.
    pub shards: Outboxes,
    /// Commands that may wait.
    pub commands_max: usize,
    /// Commands in one commit.
    pub group_max: usize,
}

/// Starts the ledger's thread.
///
/// # Errors
/// The system gives no thread.
pub fn start(start: Start) -> io::Result<(LedgerHandle, thread::JoinHandle<()>)> {
    let Start { mut ledger, store, writer, shards, commands_max, group_max } = start;
    let world = Arc::new(ArcSwap::new(ledger.publish(Pending::default())));
    let (orders, inbox) = mailbox::inbox(commands_max);
    let handle = LedgerHandle { orders, world: Arc::clone(&world) };
    let mut state = Thread { ledger, store, writer, world, shards, backlog: VecDeque::new() };
    let run = move || {
        if let Err(error) = slice::ask_for_short() {
            tracing::debug!(%error, "the ledger's slices of CPU time are as usual");
        }
        state.run(&inbox, group_max.max(1));
    };
    let thread = thread::Builder::new().name("ledger".to_owned()).spawn(run)?;
    Ok((handle, thread))
}

/// How long the thread sleeps when nothing comes.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it waits for a shard whose inbox is full before it looks again.
const BACKLOG_PATIENCE: Duration = Duration::from_millis(2);

/// How long answers that say nothing wait for others of the kind. A device is not
/// polled meanwhile, of the 30 s that a poll is held.
const GATHERED: Duration = Duration::from_millis(50);

impl Thread {
    fn run(&mut self, inbox: &Inbox<Order>, group_max: usize) {
        let mut orders = Vec::with_capacity(group_max);
        let mut finished = false;
        while !finished {
            let patience = if self.backlog.is_empty() { PATIENCE } else { BACKLOG_PATIENCE };
            let waited = inbox.wait_blocking(&mut orders, group_max, patience);
            self.send_backlog();
            finished = matches!(waited, Waited::Closed);
            if self.backlog.is_empty() {
                gather(inbox, &mut orders, group_max);
            }
            let jobs: Vec<Job> = orders
                .drain(..)
                .filter_map(|order| match order {
                    Order::Job(job) => Some(*job),
                    Order::Finish => {
                        finished = true;
                        None
                    }
                })
                .collect();
            if !jobs.is_empty() {
                self.group(jobs.into_iter());
            }
        }
    }

    /// Takes in what was waiting, as one transaction.
    fn group(&mut self, jobs: impl Iterator<Item = Job>) {
        let folded = match self.fold(jobs) {
            Ok(folded) => folded,
            Err(error) => return fatal("the store could not be read", &error),
        };
        if folded.early {
            self.publish(folded.pending, &folded.change);
            self.commit(&folded.writes);
            // Readers need not look at what is in the tables now.
            self.world.store(self.ledger.publish(Pending::default()));
        } else {
            self.commit(&folded.writes);
            self.publish(Pending::default(), &folded.change);
        }
        for (reply, sender) in folded.replies {
            // Who asked may have gone away.
            let _gone = sender.send(reply);
        }
    }

    fn fold(&mut self, jobs: impl Iterator<Item = Job>) -> Result<Folded, luge_store::ReadError> {
        let ledger = &mut self.ledger;
        self.store.read(|reader| {
            let mut folded = Folded { early: true, ..Folded::default() };
            for Job { command, reply } in jobs {
                folded.show();
                let view = Layered { pending: &folded.pending, below: reader };
                let applied = ledger.apply(&view, clock::now_ms(), command);
                folded.add(applied, reply);
            }
            if folded.early {
                folded.show();
            }
            folded
        })
    }

    fn publish(&mut self, pending: Pending, change: &Change) {
        let world = self.ledger.publish(pending);
        self.world.store(Arc::clone(&world));
        if change.is_empty() {
            return;
        }
        for shard in self.interested(&world, change) {
            let change = change.clone();
            let delta = Arc::new(Delta { world: Arc::clone(&world), change });
            self.backlog.push_back((shard, delta));
        }
        self.send_backlog();
    }

    /// The shards with a user whom the change concerns.
    fn interested(&self, world: &World, change: &Change) -> Vec<usize> {
        let count = self.shards.count();
        let mut interested = vec![false; count];
        let users = change.users.iter().map(|user| user.user);
        let devices = change.devices.iter().map(|device| device.user);
        let rooms = change.rooms.iter().filter_map(|room| world.room(*room));
        let members = rooms.flat_map(|room| room.local_users.keys().copied());
        let mut missing = count;
        let suspecting = change.suspects.iter().map(|(user, _)| *user);
        for user in users.chain(devices).chain(suspecting).chain(members) {
            let shard = self.shards.shard_of(user);
            if !std::mem::replace(&mut interested[shard], true) {
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        (0..count).filter(|shard| interested[*shard]).collect()
    }

    /// Sends what waits, as far as inboxes take it; each shard's in order.
    fn send_backlog(&mut self) {
        let mut full = vec![false; self.shards.count()];
        let waiting = std::mem::take(&mut self.backlog);
        for (shard, delta) in waiting {
            if !full[shard] {
                match self.shards.send(shard, Message::Delta(Arc::clone(&delta))) {
                    // A shard that has ended has nobody who waits for news.
                    Ok(()) | Err(SendError::Closed(_)) => continue,
                    Err(SendError::Full(_)) => full[shard] = true,
                }
            }
            self.backlog.push_back((shard, delta));
        }
    }

    /// Commits, however long it takes: nothing is acknowledged meanwhile, and
    /// so nothing is lost.
    fn commit(&mut self, writes: &[Write]) {
        if writes.is_empty() {
            return;
        }
        let started = Instant::now();
        let mut wait = Duration::from_millis(100);
        loop {
            match self.writer.commit(writes) {
                Ok(()) => return,
                Err(error) if error.is_transient() => {
                    let since_s = started.elapsed().as_secs();
                    tracing::error!(%error, since_s, "the store takes no writes; trying again");
                    thread::park_timeout(wait);
                    wait = (wait * 2).min(Duration::from_secs(10));
                }
                Err(error) => return fatal_commit(&error),
            }
        }
    }
}

/// Waits a moment for more orders while nobody waits for those that are here:
/// what is written together costs one write to the disk.
fn gather(inbox: &Inbox<Order>, orders: &mut Vec<Order>, group_max: usize) {
    let deadline = Instant::now() + GATHERED;
    let mut seen = 0;
    while seen < orders.len() && orders.len() < group_max {
        let now_ms = clock::now_ms();
        let can_wait = |order: &Order| match order {
            Order::Job(job) => job.command.can_wait(now_ms),
            Order::Finish => false,
        };
        if !orders[seen..].iter().all(can_wait) {
            return;
        }
        seen = orders.len();
        let left = deadline.saturating_duration_since(Instant::now());
        // Without news there is nothing more to wait for.
        inbox.wait_blocking(orders, group_max - seen, left);
    }
}

fn fatal_commit(error: &CommitError) {
    fatal("the store cannot be written", error);
}

/// The ledger cannot go on, and nobody can without it: the process ends, and
/// recovers by starting again.
fn fatal(what: &str, error: &dyn std::error::Error) {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, source, "{what}: ending; start Luge again");
    std::process::exit(1);
}

/// What came of a group so far.
#[derive(Default)]
struct Folded {
    writes: Vec<Write>,
    /// The writes that a further command, or a reader before the commit, sees.
    pending: Pending,
    /// How many of the writes these are.
    shown: usize,
    change: Change,
    early: bool,
    replies: Vec<(Reply, oneshot::Sender<Reply>)>,
}

impl Folded {
    fn add(&mut self, applied: Applied, reply: Option<oneshot::Sender<Reply>>) {
        self.writes.extend(applied.writes);
        self.change.extend(applied.change);
        self.early &= applied.early;
        self.replies.extend(reply.map(|sender| (applied.reply, sender)));
    }

    /// Has the writes so far seen. Left out for the last command of a group that
    /// nobody sees before it is durable, such as a part of a large answer.
    fn show(&mut self) {
        for write in &self.writes[self.shown..] {
            self.pending.insert((write.table, write.key.clone()), write.value.clone());
        }
        self.shown = self.writes.len();
    }
}

#[cfg(test)]
mod tests {
    use luge_core::{
        id::{DeviceNumber, UserNumber},
        ledger::Polled,
        upstream::SyncBatch,
    };

    use super::*;

    fn job(command: Command) -> Order {
        Order::Job(Box::new(Job { command, reply: None }))
    }

    /// The answer to a poll that was held for long and says nothing.
    fn quiet() -> Order {
        job(Command::Polled(Box::new(Polled {
            user: UserNumber(1),
            device: DeviceNumber(1),
            since: Some("s".to_owned()),
            with_rooms: true,
            last_part: true,
            asked_ms: 0,
            may_repeat: false,
            batch: SyncBatch::default(),
        })))
    }

    /// How many orders a turn has that begins with `first`, when `then` come.
    fn gathered(first: Order, then: Vec<Order>, group_max: usize) -> usize {
        let (outbox, inbox) = mailbox::inbox(8);
        then.into_iter().for_each(|order| outbox.try_send(order).ok().expect("there is room"));
        let mut orders = vec![first];
        gather(&inbox, &mut orders, group_max);
        orders.len()
    }

    /// Goal: answers that say nothing share a write, and whoever waits for theirs
    /// does not wait for others.
    #[test]
    fn only_orders_that_nobody_waits_for_wait_for_more() {
        let urgent = || job(Command::ForgetToken([0; 32]));
        assert_eq!(gathered(quiet(), vec![quiet(), urgent()], 8), 3);
        assert_eq!(gathered(quiet(), vec![quiet()], 8), 2, "and not for ever");
        assert_eq!(gathered(urgent(), vec![quiet()], 8), 1);
        assert_eq!(gathered(Order::Finish, vec![quiet()], 8), 1);
        assert_eq!(gathered(quiet(), vec![quiet(), quiet()], 2), 2, "a group has an end");
    }
}
