//! What others' answers bring late of the time before somebody came into a room.
//!
//! Events are numbered in the order in which they become known. What was there before a
//! user came is numbered behind their coming where the answer that tells of it was slower
//! than theirs, or where theirs was taken for an old one, by clocks that are wrong. Clocks
//! have no say in this: they are those of any homeserver (decision 0024).

use std::collections::BTreeSet;

use super::{fold::Fold, hidden::begins_stay, polled::Poll, timeline::Chunk};
use crate::{
    id::UserNumber,
    record::{Membership, Place, UserRoomRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, SyncEvent},
    view::Table,
    world::Room,
};

/// How a chunk relates to what was stored before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// The last number of what was stored that the chunk has, if any.
    pub(super) last_known: Option<u64>,
    /// The last number of the timeline before the chunk.
    pub(super) stored: u64,
    /// Whether the answer was asked for when all of that was known.
    pub(super) knew_all: bool,
}

impl Behind {
    /// Whether what is new in the chunk is newer than an event of the timeline for certain.
    fn follows(self, sequence: u64) -> bool {
        match self.last_known {
            Some(last) => sequence <= last,
            None => self.knew_all && sequence <= self.stored,
        }
    }

    /// Whether what is new in the chunk follows on an event up to which a user who has come
    /// was told that they are there.
    fn follows_stay(self, stay: &UserRoomRecord) -> bool {
        stay.vouched >= stay.since && self.last_known.is_some_and(|last| last >= stay.vouched)
    }
}

impl Fold<'_> {
    /// Keeps new events of a chunk from the other users who may have come behind them: the
    /// chunk has their coming itself, or was asked for when it was not known, and they were
    /// given nothing yet that the timeline has. Their own poller brings what is theirs.
    pub(super) fn hide_from_newcomers(
        &mut self,
        poll: Poll,
        room: &Room,
        (batch, chunk): (&RoomBatch, &Chunk),
    ) {
        let is_new = |(place, is_new): &(Place, bool)| is_new.then_some(place.sequence);
        let Some(newest) = chunk.places.iter().flatten().filter_map(is_new).max() else { return };
        let came = self.comings(batch, chunk);
        // Of thousands who have been there for long nobody is looked at.
        let may_be_late = self.came_last(room) > poll.knew;
        debug_assert!(
            may_be_late || !room.local_users.keys().any(|it| self.came_behind(poll, room, *it)),
            "whoever came behind an answer was noted"
        );
        let users: BTreeSet<UserNumber> = if may_be_late {
            room.local_users.keys().copied().collect()
        } else {
            came.iter().map(|(user, _)| *user).collect()
        };
        for user in users.into_iter().filter(|user| *user != poll.user) {
            let Some(before) = self.user_room(user, room) else { continue };
            if before.membership != Membership::Join {
                continue;
            }
            let is_own = |(it, place): &&(UserNumber, Place)| {
                *it == user && before.own_event == Some(*place)
            };
            let came = came.iter().find(is_own).map(|(_, place)| place.sequence);
            let is_late = before.since > poll.knew
                && !self.was_given(room, &before)
                && !chunk.behind.follows_stay(&before);
            let first = came.or_else(|| is_late.then(|| newest.saturating_add(1)));
            if let Some(first) = first.filter(|first| *first > before.visible_from) {
                let hidden = UserRoomRecord {
                    visible_from: first,
                    history_from: u64::MAX,
                    ..before.clone()
                };
                self.set_user_room(user, room, Some(&before), hidden);
            }
        }
    }

    /// Who of those whom Luge knows comes in with which new event of a chunk.
    fn comings(&self, batch: &RoomBatch, chunk: &Chunk) -> Vec<(UserNumber, Place)> {
        let told = batch.timeline.iter().zip(&chunk.places);
        let coming = |(event, place): (&SyncEvent, &Option<(Place, bool)>)| {
            let (place, _) = place.filter(|(_, is_new)| *is_new && event.kind == MEMBER)?;
            let user_id = event.state_key.as_deref()?;
            let user = *self.ledger.world.user_numbers.get(user_id)?;
            begins_stay(event, user_id).then_some((user, place))
        };
        told.filter_map(coming).collect()
    }

    fn came_behind(&self, poll: Poll, room: &Room, user: UserNumber) -> bool {
        let stay = self.user_room(user, room);
        stay.is_some_and(|it| it.membership == Membership::Join && it.since > poll.knew)
    }

    /// The last number with which a stay of anybody here began, or a later one.
    fn came_last(&self, room: &Room) -> u64 {
        self.ledger.came.get(&room.number).copied().unwrap_or(self.ledger.opened)
    }

    /// Notes that somebody is in a room since a number.
    pub(super) fn note_coming(&mut self, room: &Room, since: u64) {
        let last = self.came_last(room).max(since);
        self.ledger.came.insert(room.number, last);
    }

    /// Whether a new member event is newer than what its user was given in their stay.
    pub(super) fn is_after_given(&self, room: &Room, event: &SyncEvent, chunk: &Chunk) -> bool {
        let user_id = event.state_key.as_deref().unwrap_or_default();
        let user = self.ledger.world.user_numbers.get(user_id);
        let stay = user.and_then(|user| self.user_room(*user, room));
        stay.filter(|stay| stay.membership == Membership::Join).is_some_and(|stay| {
            chunk.behind.follows(stay.visible_from) && self.was_given(room, &stay)
        })
    }

    /// Whether the timeline has an event that its user was given in their stay. Where it
    /// does not, their answer was taken for an old one, and they are shown what is numbered
    /// from then on.
    fn was_given(&self, room: &Room, stay: &UserRoomRecord) -> bool {
        let given = Place { timeline: true, sequence: stay.visible_from };
        self.get(Table::Events, &key::event(room.number, given)).is_some()
    }
}
