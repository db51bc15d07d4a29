//! What is known of a room is not taken in again: copies of what another poller
//! has told.
//!
//! A shard that reads an answer leaves out of it what is nothing but a copy, as
//! far as it can tell ([`crate::upstream::Lately`]). Here is decided whether it
//! could, and taken in what is the poller's own.

use std::sync::Arc;

use super::{fold::Fold, polled::Poll, timeline::Chunk};
use crate::{
    id::RoomNumber,
    record::{Membership, StateRecord, UserRoomRecord, key},
    request::MEMBER,
    upstream::{Copy, RoomBatch, Section, SyncEvent, Told},
    view::Table,
    world::Room,
};

impl Fold<'_> {
    /// What the poller's user has in a room of which the answer has a copy; `None`
    /// where all of the answer has to be looked at, since more comes of it than
    /// counts.
    ///
    /// The room is one that its user is joined to without a doubt: as far as its
    /// last gap ([`super::vouching`]), and with their member event in place. They see
    /// the events already, and the entries of the state are what they were. No member
    /// event waits for an answer that stands for it ([`super::asides`]).
    pub(super) fn of_copy(&self, poll: Poll, copy: &Copy) -> Option<UserRoomRecord> {
        let room = self.ledger.world.room(copy.room)?;
        let of_user = self.user_room(poll.user, room)?;
        let as_of = copy.state_as_of.unwrap_or(room.state_changed);
        let is_plain = !poll.initial
            && !poll.repeated
            && of_user.membership == Membership::Join
            && of_user.visible_from <= copy.first
            && of_user.vouched >= room.last_gap.0
            && room.state_changed == as_of
            && room.asides.is_empty()
            && self.is_in_place(poll, room, &of_user);
        is_plain.then_some(of_user)
    }

    /// Whether the state has a user as joined, by the event that they are known to
    /// be joined by.
    fn is_in_place(&self, poll: Poll, room: &Room, of_user: &UserRoomRecord) -> bool {
        let Some(user_id) = self.ledger.world.user_id(poll.user) else { return false };
        let archive = self.get(Table::State, &key::state(room.number, MEMBER, user_id));
        archive.and_then(StateRecord::decode).is_some_and(|entry| {
            entry.membership.as_deref() == Some("join") && of_user.own_event == Some(entry.place)
        })
    }

    /// Takes in what is the poller's own of a room of which it has a copy.
    pub(super) fn take_copy(&mut self, poll: Poll, copy: &Copy, before: &UserRoomRecord) {
        let Some(room) = self.ledger.world.room(copy.room).cloned() else { return };
        let after = UserRoomRecord {
            notification_count: copy.notification_count.unwrap_or(before.notification_count),
            highlight_count: copy.highlight_count.unwrap_or(before.highlight_count),
            ..before.clone()
        };
        self.set_user_room(poll.user, &room, Some(before), after);
    }

    /// Notes what an answer told of a room, so that it is known where others are
    /// told the same.
    pub(super) fn note_told(&mut self, room: &mut Room, batch: &RoomBatch, chunk: &Chunk) {
        let is_new = || chunk.places.iter().flatten().any(|(_, is_new)| *is_new);
        if batch.section != Section::Join
            || !room.created
            || room.local_users.len() < 2
            || !is_new()
        {
            return;
        }
        let mut lately = room.lately.as_deref().cloned().unwrap_or_default();
        for (index, (event, place)) in batch.timeline.iter().zip(&chunk.places).enumerate() {
            if let Some((place, true)) = place
                && says_only_itself(event)
            {
                lately.note_event(Told {
                    event_id: (&*event.event_id).into(),
                    sender: (&*event.sender).into(),
                    sequence: place.sequence,
                    has_token: index == 0 && batch.prev_batch.is_some(),
                });
            }
        }
        for event in &batch.state {
            if self.is_entry(room, event) {
                lately.note_state(&event.event_id, room.state_changed);
            }
        }
        if room.lately.is_none() {
            self.forget_lately(room.number);
        }
        room.lately = Some(lately.into());
    }

    /// Notes that the token from before an event of the timeline is known now.
    pub(super) fn note_token(room: &mut Room, sequence: u64) {
        room.lately = room.lately.as_ref().map(|lately| lately.with_token(sequence).into());
    }

    /// Whether the state has this very event.
    fn is_entry(&self, room: &Room, event: &SyncEvent) -> bool {
        let Some(state_key) = &event.state_key else { return false };
        let archive = self.get(Table::State, &key::state(room.number, &event.kind, state_key));
        let entry = archive.and_then(StateRecord::decode);
        entry.is_some_and(|it| Some(it.place) == self.place(room.number, &event.event_id))
    }

    /// Makes place for what is told of a room that was quiet.
    fn forget_lately(&mut self, next: RoomNumber) {
        let ledger = &mut *self.ledger;
        ledger.lively.push_back(next);
        if ledger.lively.len() <= ledger.limits.lively_rooms_max.max(1) {
            return;
        }
        let oldest = ledger.lively.pop_front().filter(|oldest| *oldest != next);
        let room = oldest.and_then(|oldest| ledger.world.rooms.get_mut(oldest.0 as usize));
        if let Some(room) = room {
            Arc::make_mut(room).lately = None;
        }
    }
}

/// Whether nothing comes of an event but that it is there: it is no entry of the
/// state, and redacts nothing.
fn says_only_itself(event: &SyncEvent) -> bool {
    event.state_key.is_none() && event.redacts.is_none() && event.kind != "m.room.redaction"
}
