//! When the state of a room is fetched because the stored one is in doubt.
//!
//! Nobody waits for it. A room is fetched once for all of a shard's users and
//! not more often than every so many minutes; a room that another shard was
//! faster with is not in doubt any more when its turn comes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Effects, Shard,
    event::{FetchOrder, Token},
};
use crate::{
    connection::Want,
    id::{RoomNumber, UserNumber},
    record::Membership,
};

/// Rooms whose state is to be fetched.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    waiting: BTreeMap<RoomNumber, Waiting>,
    /// The same in order of time, unix milliseconds.
    due: BTreeSet<(u64, RoomNumber)>,
    in_flight: BTreeMap<RoomNumber, Waiting>,
}

/// A room that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    due_ms: u64,
    /// Whose poller gave cause.
    user: UserNumber,
}

impl Repairs {
    fn insert(&mut self, room: RoomNumber, waiting: Waiting) {
        if let Some(before) = self.waiting.insert(room, waiting) {
            self.due.remove(&(before.due_ms, room));
        }
        self.due.insert((waiting.due_ms, room));
    }

    fn pop_due(&mut self, now_ms: u64) -> Option<(RoomNumber, Waiting)> {
        let (_, room) = self.due.first().copied().filter(|(due_ms, _)| *due_ms <= now_ms)?;
        let waiting = self.waiting.remove(&room)?;
        self.due.remove(&(waiting.due_ms, room));
        Some((room, waiting))
    }
}

impl Shard {
    /// Notes that a room's state came to be in doubt.
    pub(super) fn note_suspect(&mut self, user: UserNumber, room: RoomNumber) {
        let is_full = self.repairs.waiting.len() >= self.limits.repairs_max;
        if self.repairs.waiting.contains_key(&room) || is_full {
            return;
        }
        let due_ms = self.now_ms + self.limits.repair_delay_ms;
        self.repairs.insert(room, Waiting { due_ms, user });
    }

    /// Notes those of a user's rooms whose state is still in doubt.
    pub(super) fn note_suspects_of(&mut self, user: UserNumber) {
        let Some(on_shard) = self.users.get(&user) else { return };
        let rooms = on_shard.user.rooms.iter();
        let joined = rooms.filter(|(_, it)| it.membership == Membership::Join);
        let is_suspect =
            |room: &RoomNumber| self.world.room(*room).is_some_and(|room| room.is_suspect());
        let rooms: Vec<RoomNumber> =
            joined.map(|(room, _)| *room).filter(|room| is_suspect(room)).collect();
        rooms.into_iter().for_each(|room| self.note_suspect(user, room));
    }

    /// When the next room's turn comes; `None` where none may be fetched now.
    pub(super) fn repairs_due_ms(&self) -> Option<u64> {
        let has_place = self.repairs.in_flight.len() < self.limits.repairs_in_flight_max;
        let due = self.repairs.due.first().filter(|_| has_place && !self.stopping);
        due.map(|(due_ms, _)| *due_ms)
    }

    /// Has the state of rooms fetched whose turn has come.
    pub(super) fn repair_due(&mut self, out: &mut Effects) {
        while self.repairs_due_ms().is_some() {
            let Some((room, waiting)) = self.repairs.pop_due(self.now_ms) else { break };
            self.repair(room, waiting, out);
        }
    }

    fn repair(&mut self, room: RoomNumber, waiting: Waiting, out: &mut Effects) {
        let Some(facts) = self.world.room(room).cloned().filter(|it| it.is_suspect()) else {
            return;
        };
        let want = Want::State(room);
        let earliest_ms = match facts.repaired_ms {
            0 => 0,
            repaired_ms => repaired_ms + self.limits.repair_interval_ms,
        };
        let earliest_ms = earliest_ms.max(self.failed_until_ms(&want));
        if self.repairs.in_flight.contains_key(&room) || earliest_ms > self.now_ms {
            let due_ms = earliest_ms.max(self.now_ms + self.limits.repair_delay_ms);
            return self.repairs.insert(room, Waiting { due_ms, ..waiting });
        }
        // Whoever comes back to the room brings the doubt with them.
        let Some((user, token)) = self.someone_in(room, waiting.user) else { return };
        self.repairs.in_flight.insert(room, waiting);
        let (room_id, knew) = (facts.id.clone(), self.world.sequence);
        let was_too_large = false;
        self.order_fetch(FetchOrder { want, room_id, token, user, knew, was_too_large }, out);
    }

    /// A user who is in the room, and a token of theirs; `first` where it can be.
    fn someone_in(&self, room: RoomNumber, first: UserNumber) -> Option<(UserNumber, Token)> {
        let others = self.room_users.get(&room).into_iter().flatten().copied();
        std::iter::once(first).chain(others).find_map(|user| {
            let on_shard = self.users.get(&user)?;
            let of_user = on_shard.user.rooms.get(&room)?;
            let token = on_shard.devices.values().find_map(|device| device.newest_token())?;
            (of_user.membership == Membership::Join).then(|| (user, token.clone()))
        })
    }

    /// A room's state was fetched, or could not be: if it is still in doubt, it is
    /// asked for again after a while.
    pub(super) fn on_repaired(&mut self, room: RoomNumber) {
        let Some(waiting) = self.repairs.in_flight.remove(&room) else { return };
        if !self.world.room(room).is_some_and(|it| it.is_suspect()) {
            return;
        }
        let due_ms = self.now_ms + self.limits.refetch_after_ms;
        self.repairs.insert(room, Waiting { due_ms, ..waiting });
    }
}
