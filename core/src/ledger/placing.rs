//! Where the timeline that an answer has of a room lies among what is stored: behind it,
//! before it, in a gap of it, or nowhere for certain (decision 0033).

use super::{
    coming::Behind,
    fold::Fold,
    polled::Poll,
    state::previous_membership,
    timeline::{Chunk, LOOKED_AT_MAX, Standing},
};
use crate::{
    id::{Sequence, UserNumber},
    record::{ArchivedMembership, EventRecord, Membership, Place, UserRoomRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, Section, SyncEvent},
    view::Table,
    world::Room,
};

impl Fold<'_> {
    /// A batch's timeline before its events have places: where it lies among what is
    /// stored. `last_known` is the last of its events that is known.
    pub(super) fn chunk(
        &self,
        poll: Poll,
        room: &Room,
        (batch, follows): (&RoomBatch, bool),
        last_known: Option<Place>,
    ) -> Chunk {
        let stored = room.last_event.0;
        let stale = match last_known {
            Some(last) => self.gap_after(room, last.sequence),
            None => !batch.timeline.is_empty() && self.is_overtaken(poll, room, batch, follows),
        };
        let is_level = match last_known {
            Some(last) => last.sequence == stored,
            None => stored == 0 && batch.timeline.is_empty(),
        };
        Chunk {
            standing: if is_level { Standing::Level } else { Standing::Unsure },
            stale,
            unplaced: stale
                && last_known.is_none()
                && batch.section == Section::Join
                && !poll.repeated,
            behind: Behind {
                last_known: last_known.map(|place| place.sequence),
                stored,
                knew_all: self.knew_all(poll, room),
            },
            ..Chunk::default()
        }
    }

    /// Whether nothing says if a room's timeline in an answer is newer than what is
    /// stored: the two share no event, do not meet, and others have told of the room since
    /// the answer was asked for. Clocks say nothing of it: they are those of any
    /// homeserver.
    pub(super) fn has_no_place(&self, poll: Poll, batch: &RoomBatch) -> bool {
        let Some(room) = self.ledger.world.find_room(&batch.room_id) else { return false };
        let is_candidate = batch.section == Section::Join
            && !poll.repeated
            && !batch.timeline.is_empty()
            && room.last_event > Sequence::default()
            && !self.knew_all(poll, room);
        if !is_candidate {
            return false;
        }
        let user_id = self.ledger.world.user_id(poll.user).cloned().unwrap_or_default();
        let came = self.hidden_before(room, batch, &user_id);
        let goes_on =
            came.is_none() && self.follows(poll, room, batch) && !self.gap_after(room, poll.knew);
        let is_known = |event: &SyncEvent| {
            self.place(room.number, &event.event_id).is_some_and(|place| place.timeline)
        };
        !goes_on && !batch.timeline[came.unwrap_or(0)..].iter().any(is_known)
    }

    /// Whether nothing lies between the poller's previous answer and a chunk.
    /// The first chunk of a stay follows nothing, limited or not.
    pub(super) fn follows(&self, poll: Poll, room: &Room, batch: &RoomBatch) -> bool {
        let was_told = poll.rooms_from == 0 || poll.rooms_from < room.last_event.0;
        let is_next = !poll.initial && !poll.repeated && !batch.limited;
        was_told && is_next && (self.was_joined(poll, room) || self.resumes(poll, room, batch))
    }

    /// Whether the poller's user was joined before the answer, as far as was known.
    pub(super) fn was_joined(&self, poll: Poll, room: &Room) -> bool {
        let archive = self.get(Table::UserRooms, &key::user_room(poll.user, room.number));
        let of_user = archive.and_then(UserRoomRecord::access);
        of_user.is_some_and(|it| it.membership == ArchivedMembership::Join)
    }

    /// Whether a chunk without a known event is older than what is stored:
    /// other pollers were faster, and something is missing before what they
    /// brought.
    fn is_overtaken(&self, poll: Poll, room: &Room, batch: &RoomBatch, follows: bool) -> bool {
        if !self.shows_timeline(poll, room, batch) {
            return true;
        }
        let place = Place { timeline: true, sequence: room.last_event.0 };
        let Some(stored) = self.event(room.number, place) else { return false };
        let newest = batch.timeline.last().map_or(0, |event| event.origin_server_ts);
        if batch.section == Section::Leave {
            // It ends where the user left, whenever it was asked for. In doubt it is
            // theirs alone: who is still there is told of it by another.
            let is_next = follows && !self.gap_after(room, self.followed_before(poll));
            return !is_next && (self.has_others(poll, room) || self.has_later(room, newest));
        }
        if self.knew_all(poll, room) {
            return false;
        }
        if poll.repeated {
            return true;
        }
        if follows {
            return self.gap_after(room, poll.knew);
        }
        // The homeserver was asked again for as often as it may be: clocks are all that
        // there is.
        newest < stored.origin_server_ts
    }

    /// Whether anybody here is joined besides the poller's user.
    fn has_others(&self, poll: Poll, room: &Room) -> bool {
        let is_joined = |user: &UserNumber| {
            let of_user = self.user_room(*user, room);
            of_user.is_some_and(|it| it.membership == Membership::Join)
        };
        room.local_users.keys().filter(|user| **user != poll.user).any(is_joined)
    }

    /// Up to where a user's answers before this one knew everything for certain.
    pub(super) fn followed(&self, user: UserNumber) -> u64 {
        self.ledger.followed.get(&user).copied().unwrap_or(0)
    }

    /// The same, as far as the homeserver knew when it made this answer: another device of
    /// the user may be ahead of it.
    pub(super) fn followed_before(&self, poll: Poll) -> u64 {
        self.followed(poll.user).min(poll.knew)
    }

    /// Whether an answer was asked for when everything that is stored was known.
    pub(super) fn knew_all(&self, poll: Poll, room: &Room) -> bool {
        if room.last_event.0 <= poll.knew {
            return true;
        }
        let place = Place { timeline: true, sequence: room.last_event.0 };
        let archive = self.get(Table::Events, &key::event(room.number, place));
        let stored = archive.and_then(EventRecord::access);
        stored.is_none_or(|stored| stored.first_seen_ms.to_native() < poll.asked_ms)
    }

    /// Whether anything behind the timeline's last gap was sent later.
    fn has_later(&self, room: &Room, sent_ms: u64) -> bool {
        let timeline = |sequence| key::event(room.number, Place { timeline: true, sequence });
        let (mut later, mut looked_at) = (false, 0);
        let to = timeline(room.last_event.0.saturating_add(1));
        self.scan_back(Table::Events, &timeline(0), &to, &mut |_, archive| {
            let Some(event) = EventRecord::access(archive) else { return true };
            looked_at += 1;
            later = looked_at > LOOKED_AT_MAX || event.origin_server_ts > sent_ms;
            !later && !event.gap_before
        });
        later
    }

    /// Whether a chunk is a part of the room's timeline: somebody who was only
    /// invited is given single events out of it.
    fn shows_timeline(&self, poll: Poll, room: &Room, batch: &RoomBatch) -> bool {
        if batch.section == Section::Join {
            return true;
        }
        let user_id = self.ledger.world.user_id(poll.user);
        let own = batch.timeline.iter().rev().find(|event| {
            let target = event.state_key.as_deref();
            event.kind == MEMBER && target.is_some() && target == user_id.map(|id| &**id)
        });
        match own.and_then(|event| previous_membership(&event.json)) {
            Some(before) => before == "join",
            None => self.was_joined(poll, room),
        }
    }

    /// Whether the timeline has a gap behind a number.
    pub(super) fn gap_after(&self, room: &Room, sequence: u64) -> bool {
        let place = |sequence| Place { timeline: true, sequence };
        let from = key::event(room.number, place(sequence.saturating_add(1)));
        let to = key::event(room.number, place(room.last_event.0.saturating_add(1)));
        let (mut gap, mut looked_at) = (false, 0);
        self.scan_back(Table::Events, &from, &to, &mut |_, archive| {
            looked_at += 1;
            gap = looked_at > LOOKED_AT_MAX
                || EventRecord::access(archive).is_some_and(|event| event.gap_before);
            !gap
        });
        gap
    }

    /// Whether the next known event follows on what is stored before it.
    pub(super) fn is_continuous(&self, room: &Room, known: &[Option<Place>]) -> bool {
        let next = known.iter().flatten().find(|place| place.timeline);
        let next = next.and_then(|place| self.get(Table::Events, &key::event(room.number, *place)));
        next.and_then(EventRecord::access).is_some_and(|event| !event.gap_before)
    }
}
