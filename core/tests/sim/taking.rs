//! What reaches the ledger, in groups, and what comes of it: deltas to shards, and answers
//! to who waits.

use std::sync::Arc;

use luge_core::{
    ledger::{Command, Delta, Polled, Reply},
    shard::{Event, FetchOutcome, PollOrder, PollOutcome},
    upstream::SyncBatch,
    view::Layered,
};

use crate::{
    harness::book::Group,
    log,
    simulation::{Job, Simulation, Then},
    visibility::Heard,
};

impl Simulation {
    pub(crate) fn command(&mut self, command: Command, then: Then, heard: Heard) {
        if self.logs {
            log::command(self.now_ms, &command);
        }
        if self.commands.is_empty() && self.group.is_none() {
            let delay_ms = self.random.between(0, 30);
            self.push(delay_ms, Job::Ledger);
        }
        self.commands.push_back((command, then, heard));
    }

    pub(crate) fn take_in(&mut self) {
        let mut group = Group::default();
        let mut thens = Vec::new();
        // What has piled up is taken in together.
        let most = (self.commands.len() as u64 / 4).clamp(4, 256);
        let size = self.random.between(1, most) as usize;
        for _ in 0..size {
            let Some((command, then, heard)) = self.commands.pop_front() else { break };
            let then = match self.apply(&mut group, command, then) {
                Then::Polled(order, whole) if group.replies.last() == Some(&Reply::Whole) => {
                    Then::PolledAgain(order, whole, heard)
                }
                Then::Polled(order, _) if group.replies.last() == Some(&Reply::Again) => {
                    Then::Again(order)
                }
                then => {
                    self.visibility.take_in(&self.homeserver, &heard);
                    then
                }
            };
            thens.push(then);
        }
        if let Some(delta) = self.book.publish_early(&group) {
            self.visibility.publish(delta.world.version);
            self.send_delta(&delta);
        }
        self.group = Some((group, thens));
        let delay_ms = self.random.between(0, 50);
        self.push(delay_ms, Job::Commit);
    }

    /// Applies a command. Where the answer to a poll is nothing but a copy, the whole
    /// of it would have done the same.
    fn apply(&mut self, group: &mut Group, command: Command, then: Then) -> Then {
        let written = group.writes.len();
        let of_whole = match (&command, &then) {
            (Command::Polled(copy), Then::Polled(order, whole))
                if copy.batch.copies.len() == 1 && copy.batch.rooms.is_empty() =>
            {
                self.copies += 1;
                let view = Layered { pending: &group.pending, below: self.book.tables() };
                let whole = polled(order, (**whole).clone());
                Some(self.book.ledger.clone().apply(&view, self.now_ms, whole).writes)
            }
            _ => None,
        };
        self.book.apply(group, self.now_ms, command);
        if let Some(of_whole) = of_whole
            && group.replies.last() != Some(&Reply::Whole)
        {
            assert_eq!(group.writes[written..], of_whole, "a copy says what the whole does");
        }
        then
    }

    pub(crate) fn commit(&mut self) {
        let Some((group, thens)) = self.group.take() else { return };
        let late = self.book.commit(&group);
        // Where nobody is concerned, the next world is the first that has it.
        self.visibility.publish(self.book.world().version);
        self.visibility.commit();
        if let Some(delta) = late {
            self.send_delta(&delta);
        }
        for then in thens {
            match then {
                Then::Nothing => {}
                Then::Polled(order, whole) => {
                    if self.polls.contains_key(&order.device) {
                        self.poll_advanced(&order, &whole);
                    }
                }
                Then::PolledAgain(order, whole, heard) => {
                    if self.polls.contains_key(&order.device) {
                        let command = polled(&order, (*whole).clone());
                        self.commands.push_back((command, Then::Polled(order, whole), heard));
                    }
                }
                Then::Again(order) => {
                    if self.polls.contains_key(&order.device) {
                        self.poll_ended(&order, PollOutcome::Again);
                    }
                }
                Then::Fetched(user, want) => {
                    let shard = self.shard_of(user);
                    self.send(shard, Event::Fetched { want, outcome: FetchOutcome::Done });
                }
            }
        }
        if !self.commands.is_empty() {
            let delay_ms = self.random.between(0, 10);
            self.push(delay_ms, Job::Ledger);
        }
    }

    /// To the shards with a user whom it concerns, late but in order.
    fn send_delta(&mut self, delta: &Arc<Delta>) {
        let users = delta.change.users.iter().map(|user| user.user);
        let devices = delta.change.devices.iter().map(|device| device.user);
        let rooms = delta.change.rooms.iter().filter_map(|room| delta.world.room(*room));
        let members = rooms.flat_map(|room| room.local_users.keys().copied());
        let mut interested = vec![false; self.shards.len()];
        let suspecting = delta.change.suspects.iter().map(|(user, _)| *user);
        for user in users.chain(devices).chain(suspecting).chain(members) {
            interested[user.0 as usize % self.shards.len()] = true;
        }
        for shard in (0..self.shards.len()).filter(|shard| interested[*shard]) {
            let delay_ms = if self.random.chance(100) { 300 } else { 20 };
            let at_ms = self.now_ms + self.random.between(0, delay_ms);
            self.deltas_ms[shard] = self.deltas_ms[shard].max(at_ms);
            let event = Box::new(Event::Delta(Arc::clone(delta)));
            self.push_at(self.deltas_ms[shard], Job::Shard(shard, event));
        }
    }
}

/// The answer to a poll, for the ledger.
pub(crate) fn polled(order: &PollOrder, batch: SyncBatch) -> Command {
    Command::Polled(Box::new(Polled {
        user: order.user,
        device: order.device,
        since: order.since.clone(),
        with_rooms: order.with_rooms,
        last_part: true,
        asked_ms: order.asked_ms,
        may_repeat: order.may_repeat,
        batch,
    }))
}
