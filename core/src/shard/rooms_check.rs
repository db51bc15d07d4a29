//! When a user's rooms are compared with those that the homeserver has them in.
//!
//! Somebody whom a state reset takes out of a room is not told so: the room is
//! silent from then on. Only who is polled for is looked after.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Effects, Shard,
    event::{Effect, FetchOrder},
    poller::Phase,
};
use crate::{connection::Want, id::UserNumber};

/// Whose rooms are to be compared, and when.
#[derive(Debug, Default)]
pub(super) struct RoomsChecks {
    /// Unix milliseconds; one entry for each user in memory.
    due: BTreeSet<(u64, UserNumber)>,
    in_flight: BTreeSet<UserNumber>,
}

impl Shard {
    /// Plans the next look at a user's rooms, some time from now.
    pub(super) fn plan_rooms_check(&mut self, user: UserNumber) {
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let half_ms = self.limits.rooms_check_every_ms / 2;
        // Not all at once after a start.
        let wait_ms = half_ms + (self.jitter >> 33) % (half_ms + 1);
        self.set_rooms_check(user, self.now_ms + wait_ms);
    }

    /// A gap may hide that the user is out of rooms: they are looked at soon, but
    /// not again and again.
    pub(super) fn hurry_rooms_check(&mut self, user: UserNumber) {
        let Some(on_shard) = self.users.get(&user) else { return };
        let earliest_ms = match on_shard.rooms_checked_ms {
            0 => 0,
            checked_ms => checked_ms + self.limits.repair_interval_ms,
        };
        let due_ms = earliest_ms.max(self.now_ms + self.limits.repair_delay_ms);
        if due_ms < on_shard.rooms_check_ms {
            self.set_rooms_check(user, due_ms);
        }
    }

    fn set_rooms_check(&mut self, user: UserNumber, due_ms: u64) {
        let Some(on_shard) = self.users.get_mut(&user) else { return };
        let before_ms = std::mem::replace(&mut on_shard.rooms_check_ms, due_ms);
        self.rooms_checks.due.remove(&(before_ms, user));
        self.rooms_checks.due.insert((due_ms, user));
    }

    /// Looks no more at the rooms of a user who goes out of memory.
    pub(super) fn forget_rooms_check(&mut self, user: UserNumber, due_ms: u64) {
        self.rooms_checks.due.remove(&(due_ms, user));
    }

    /// Whose rooms are next; `None` where none may be compared now.
    fn next_rooms_check(&self) -> Option<(u64, UserNumber)> {
        let has_place = self.rooms_checks.in_flight.len() < self.limits.repairs_in_flight_max;
        self.rooms_checks.due.first().copied().filter(|_| has_place && !self.stopping)
    }

    /// When the next rooms are to be compared; `None` where none may be now.
    pub(super) fn rooms_check_due_ms(&self) -> Option<u64> {
        self.next_rooms_check().map(|(due_ms, _)| due_ms)
    }

    /// Has the rooms of those compared whose turn has come.
    pub(super) fn check_rooms_due(&mut self, out: &mut Effects) {
        while let Some((due_ms, user)) = self.next_rooms_check() {
            if due_ms > self.now_ms {
                break;
            }
            self.plan_rooms_check(user);
            let Some(on_shard) = self.users.get_mut(&user) else { continue };
            let polled = |device: &&super::device::Device| device.poller.phase != Phase::Idle;
            let mut tokens = on_shard.devices.values().map(Box::as_ref).filter(polled);
            let token = tokens.find_map(|device| device.newest_token()).cloned();
            let Some(token) = token.filter(|_| on_shard.user.rooms_known) else { continue };
            on_shard.rooms_checked_ms = self.now_ms;
            self.rooms_checks.in_flight.insert(user);
            let (want, room_id) = (Want::JoinedRooms(user), Arc::default());
            let knew = self.world.sequence;
            let was_too_large = false;
            let order = FetchOrder { want, room_id, token, user, knew, was_too_large };
            out.push(Effect::Fetch(order));
        }
    }

    /// A user's rooms were compared, or could not be: then the next time.
    pub(super) fn on_rooms_checked(&mut self, user: UserNumber) {
        self.rooms_checks.in_flight.remove(&user);
    }
}
