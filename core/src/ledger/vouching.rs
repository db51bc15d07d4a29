//! Who is in a room for certain.
//!
//! Behind a gap of the room's timeline any of its users may be out, by an event
//! that nobody was given. Their own poller would be told of that: what it says
//! of the room, and what it does not say, vouches for them. Until it does, what
//! lies behind the gap is not theirs (`UserRoom::is_withheld`).

use std::collections::BTreeSet;

use super::{fold::Fold, user_room::OwnPoll};
use crate::{
    id::{RoomNumber, Sequence, UserNumber},
    record::{ArchivedMembership, Membership, UserRoomRecord, key},
    view::Table,
    world::Room,
};

/// Gaps that are looked at for one answer. Where there are more, all the rooms
/// of its user are.
const GAPS_MAX: usize = 1_000;

impl OwnPoll<'_> {
    /// Up to where an answer vouches for its user, who is joined in it: up to what
    /// the homeserver knew for certain, and to the last event of the room that it
    /// has. `before` where that lets no more be seen.
    pub(super) fn vouched(&self, before: u64) -> u64 {
        let vouched = self.poll.knew.max(self.chunk.reaches);
        let gap = self.room.last_gap.0;
        if before < gap && gap <= vouched { vouched } else { before }
    }
}

impl Fold<'_> {
    /// Notes that something is missing before an event of the timeline.
    pub(super) fn note_gap(&mut self, room: &mut Room, sequence: u64) {
        self.ledger.gaps.remove(&(room.last_gap.0, room.number));
        self.ledger.gaps.insert((sequence, room.number));
        room.last_gap = Sequence(sequence);
    }

    /// Takes in that the homeserver knew everything up to a number when it answered
    /// a user about all their rooms: of those that it did not tell, and in which
    /// they were joined, nothing has become of that.
    pub(super) fn vouch_for_untold(&mut self, user: UserNumber, knew: u64) {
        let before = self.ledger.vouched.get(&user).copied();
        if before.is_some_and(|before| before >= knew) {
            return;
        }
        self.ledger.vouched.insert(user, knew);
        let few = before.and_then(|before| {
            let (from, to) = ((before + 1, RoomNumber(0)), (knew, RoomNumber(u32::MAX)));
            let gaps = self.ledger.gaps.range(from..=to).take(GAPS_MAX + 1);
            let rooms: Vec<RoomNumber> = gaps.map(|(_, room)| *room).collect();
            (rooms.len() <= GAPS_MAX).then_some(rooms)
        });
        let rooms = few.unwrap_or_else(|| self.joined_to(user));
        for room in rooms {
            self.vouch(user, room, knew);
            self.asides_untold(user, room, knew);
        }
    }

    /// Takes in that the homeserver has a user in these rooms, and knew everything up
    /// to a number when it said so.
    pub(super) fn vouch_for_listed(
        &mut self,
        user: UserNumber,
        knew: Sequence,
        room_ids: &BTreeSet<String>,
    ) {
        for number in self.joined_to(user) {
            let id = self.ledger.world.room(number).map(|room| &room.id);
            if id.is_some_and(|id| room_ids.contains(&**id)) {
                self.vouch(user, number, knew.0);
            }
        }
    }

    /// Has all the rooms of a user looked at when one of their pollers next tells
    /// what it knows.
    pub(super) fn look_at_all_rooms(&mut self, user: UserNumber) {
        self.ledger.vouched.remove(&user);
    }

    /// The rooms that a user is joined to as far as is known.
    fn joined_to(&self, user: UserNumber) -> Vec<RoomNumber> {
        let mut rooms = Vec::new();
        self.scan(Table::UserRooms, &key::of_user(user), &mut |key, archive| {
            let record = UserRoomRecord::access(archive);
            if record.is_some_and(|it| it.membership == ArchivedMembership::Join) {
                rooms.extend(key::room_of(key));
            }
            true
        });
        rooms
    }

    /// Takes in that a user is in a room where they are joined, as of a number.
    fn vouch(&mut self, user: UserNumber, room: RoomNumber, knew: u64) {
        let Some(room) = self.ledger.world.room(room).cloned() else { return };
        let Some(before) = self.user_room(user, &room) else { return };
        let gap = room.last_gap.0;
        if before.membership == Membership::Join && before.vouched < gap && gap <= knew {
            let after = UserRoomRecord { vouched: knew, ..before.clone() };
            self.set_user_room(user, &room, Some(&before), after);
        }
    }
}
