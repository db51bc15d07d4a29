//! One shard's whole state, and the only functions that may change it.
//!
//! Nothing here waits, reads a clock, touches a socket or knows which runtime
//! drives it: events come in, effects go out (INV-2, INV-11). Records are read
//! through a view that is handed in for one call.

mod arrival;
mod change;
mod device;
mod event;
mod fetching;
mod hint;
mod limits;
mod loads;
mod poller;
mod refusal;
mod repair;
mod request;
mod rooms_check;
mod save;
mod slack;
mod user;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use rustc_hash::FxHashMap;

pub use event::{
    Answered, ClientRequest, Effect, Event, FetchOrder, FetchOutcome, Hint, PollOrder, PollOutcome,
    Ticket, Token, Validation,
};
pub use limits::ShardLimits;
pub use refusal::Refusal;

use crate::{
    connection::{Positions, Want},
    id::{DeviceNumber, RoomNumber, UserNumber},
    view::{Layered, View},
    world::World,
};
use fetching::Fetching;
use request::Place;
use user::OnShard;

/// A shard: its users whole, their pollers, their connections (INV-1).
#[derive(Debug)]
pub struct Shard {
    limits: ShardLimits,
    now_ms: u64,
    world: Arc<World>,
    users: BTreeMap<UserNumber, OnShard>,
    loads: loads::Loads,
    /// The users of this shard with a relation to a room.
    room_users: FxHashMap<RoomNumber, BTreeSet<UserNumber>>,
    positions: Positions,
    /// Users for whom something changed since they were last looked at.
    dirty: BTreeSet<UserNumber>,
    /// Whom of them was looked at last.
    settled_to: UserNumber,
    /// Where each held request is held.
    held: BTreeMap<Ticket, Place>,
    /// When each held request is answered at the latest.
    deadlines: BTreeSet<(u64, Ticket)>,
    /// When pollers act again.
    wakes: BTreeSet<(u64, UserNumber, DeviceNumber)>,
    initial: poller::InitialSyncs,
    /// What is being fetched, or failed lately: not asked for again before then.
    fetching: BTreeMap<Want, Fetching>,
    /// Rooms whose state is to be fetched since the stored one is in doubt.
    repairs: repair::Repairs,
    /// Users whose rooms are to be compared with the homeserver's.
    rooms_checks: rooms_check::RoomsChecks,
    /// Users with a request that waits for something that is being fetched.
    awaiting_fetch: BTreeSet<UserNumber>,
    /// When users with a request that lacks something are looked at again.
    looks: BTreeSet<(u64, UserNumber)>,
    /// Where the last round of saving connections ended.
    saved_to: Option<UserNumber>,
    next_save_ms: u64,
    next_sweep_ms: u64,
    jitter: u64,
    stopping: bool,
    drained: bool,
}

/// What goes out of one turn, in order.
pub type Effects = Vec<Effect>;

impl Shard {
    /// A shard without users. `start_ms` is the time of the start, unix
    /// milliseconds; `secret` is the store's.
    pub fn new(limits: ShardLimits, world: Arc<World>, start_ms: u64, secret: u64) -> Self {
        let loads = loads::Loads::new(limits.load_rooms_max.max(1));
        Self {
            limits,
            now_ms: start_ms,
            world,
            users: BTreeMap::new(),
            loads,
            room_users: FxHashMap::default(),
            positions: Positions::new(start_ms, secret),
            dirty: BTreeSet::new(),
            settled_to: UserNumber::default(),
            held: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            wakes: BTreeSet::new(),
            initial: poller::InitialSyncs::default(),
            fetching: BTreeMap::new(),
            repairs: repair::Repairs::default(),
            rooms_checks: rooms_check::RoomsChecks::default(),
            awaiting_fetch: BTreeSet::new(),
            looks: BTreeSet::new(),
            saved_to: None,
            next_save_ms: 0,
            next_sweep_ms: 0,
            jitter: secret,
            stopping: false,
            drained: false,
        }
    }

    /// Takes in one event. Cheap, total, and free of waiting; a wish that
    /// cannot be granted becomes a refusal in `out`. `below` shows what is
    /// durable, and is not older than the newest event of the turn.
    pub fn apply(&mut self, event: Event, below: &dyn View, out: &mut Effects) {
        match event {
            Event::Tick(now_ms) => self.on_tick(now_ms, below, out),
            Event::Delta(delta) => self.on_delta(&delta, below, out),
            Event::Request(request) => self.on_request(request, below, out),
            Event::Abandoned(ticket) => self.on_abandoned(ticket),
            Event::Validated { user, device, token, validation } => {
                self.on_validated(user, device, &token, validation, below, out);
            }
            Event::PollFinished { user, device, outcome } => {
                self.on_poll_finished(user, device, outcome, below, out);
            }
            Event::Fetched { want, outcome } => self.on_fetched(&want, outcome, out),
            Event::Hint { user, hint } => self.on_hint(user, hint, out),
            Event::Continue => self.on_continue(below, out),
            Event::Stop => self.on_stop(below, out),
        }
    }

    /// Called once after a turn's events: answers the held requests that have
    /// become worth it, so that a room that changed ten times costs one
    /// response.
    pub fn settle(&mut self, below: &dyn View, out: &mut Effects) {
        while self.settle_some(usize::MAX, below, out) {}
    }

    /// The same for so many users at most: true where more are left for the next
    /// turn. The others have their turn before anybody has a second one, and what
    /// changes meanwhile comes with their first answer.
    pub fn settle_some(&mut self, max: usize, below: &dyn View, out: &mut Effects) -> bool {
        for _ in 0..max {
            let behind = (Bound::Excluded(self.settled_to), Bound::Unbounded);
            let next = self.dirty.range(behind).next().or_else(|| self.dirty.first()).copied();
            let Some(user) = next else { break };
            self.dirty.remove(&user);
            self.settled_to = user;
            self.answer_held(user, below, out);
        }
        self.settle_loads(out);
        let left = !self.dirty.is_empty();
        if self.stopping && self.held.is_empty() && !left && !self.drained {
            self.drained = true;
            self.save_all(out);
            out.push(Effect::Drained);
        }
        self.check();
        left
    }

    /// When a tick has something to do, unix milliseconds; one before does nothing.
    /// It changes with what else comes in.
    pub fn due_ms(&self) -> u64 {
        let due = [
            self.deadlines.first().map(|(at, _)| *at),
            self.wakes.first().map(|(at, ..)| *at),
            self.looks.first().map(|(at, _)| *at),
            self.repairs_due_ms(),
            self.rooms_check_due_ms(),
            Some(self.next_save_ms),
            Some(self.next_sweep_ms),
        ];
        due.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Requests that are held.
    pub fn held_count(&self) -> usize {
        self.held.len()
    }

    /// Users whose state is in memory.
    pub fn users_count(&self) -> usize {
        self.users.len()
    }

    fn on_tick(&mut self, now_ms: u64, below: &dyn View, out: &mut Effects) {
        self.now_ms = self.now_ms.max(now_ms);
        while let Some((at, ticket)) = self.deadlines.first().copied() {
            if at > self.now_ms {
                break;
            }
            self.deadlines.pop_first();
            self.on_deadline(ticket, below, out);
        }
        while let Some((at, user, device)) = self.wakes.first().copied() {
            if at > self.now_ms {
                break;
            }
            self.wakes.pop_first();
            self.on_wake(user, device, out);
        }
        self.look_again_due();
        self.repair_due(out);
        self.check_rooms_due(out);
        if self.next_save_ms <= self.now_ms {
            self.next_save_ms = self.now_ms + self.limits.save_every_ms;
            self.save_some(out);
        }
        if self.next_sweep_ms <= self.now_ms {
            self.next_sweep_ms = self.now_ms + self.limits.sweep_every_ms;
            self.sweep();
        }
    }

    fn on_abandoned(&mut self, ticket: Ticket) {
        if self.release(ticket).is_none() {
            self.loads.forget(ticket);
        }
    }

    fn on_stop(&mut self, below: &dyn View, out: &mut Effects) {
        self.stopping = true;
        self.end_loads(out);
        // Whoever waits gets what there is; the position stays valid.
        let tickets: Vec<Ticket> = self.held.keys().copied().collect();
        for ticket in tickets {
            self.on_deadline(ticket, below, out);
        }
    }

    /// What must hold between turns.
    fn check(&self) {
        debug_assert!(
            self.deadlines.iter().all(|(_, ticket)| self.held.contains_key(ticket)),
            "INV-3: a deadline belongs to a held request"
        );
    }
}

/// The tables as this version of the world sees them.
fn layered<'a>(world: &'a World, below: &'a dyn View) -> Layered<'a, dyn View + 'a> {
    Layered { pending: &world.pending, below }
}
