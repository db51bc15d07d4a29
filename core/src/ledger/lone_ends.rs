//! Ends of stays of which the leaver's own poller alone has told, beside the
//! timeline.
//!
//! Whoever else is taken for a member may have been out by then: what others were
//! told goes up to somewhere before such an end, and nothing in the timeline says
//! so. The end is not made part of the state before somebody else's answer, of who
//! was there later, has told all that came before it (decision 0024). What their
//! own answers are measured by is the end all the same (`Fold::entry`).

use super::{fold::Fold, polled::Poll, summary::content, timeline::Chunk};
use crate::{
    id::{RoomNumber, Sequence, UserNumber},
    record::{Membership, Place, StateRecord},
    request::MEMBER,
    upstream::{RoomBatch, Section, SyncEvent},
    world::{LoneEnd, Room},
};

impl Fold<'_> {
    /// The entry of the end of somebody's stay that is not part of the state yet.
    pub(super) fn lone_end(&self, room: &Room, user_id: &str) -> Option<StateRecord> {
        let end = room.lone_end(user_id)?;
        let place = self.place(room.number, &end.event_id)?;
        let event = self.event(room.number, place)?;
        Some(StateRecord {
            kind: MEMBER.to_owned(),
            state_key: user_id.to_owned(),
            place,
            changed: end.changed.0,
            membership: content(&event.json).text("membership").map(str::to_owned),
        })
    }

    /// Keeps the end of somebody's stay out of the state for now. Where there are too
    /// many, the oldest becomes part of it, and who is taken for a member is vouched
    /// for as behind a gap.
    pub(super) fn put_lone_end_aside(&mut self, room: &mut Room, event: &SyncEvent, place: Place) {
        let Some(user_id) = event.state_key.as_deref() else { return };
        self.forget_lone_end(room, user_id);
        let is_new = place.sequence > self.started.0;
        let changed = if is_new { Sequence(place.sequence) } else { self.next() };
        let (user_id, event_id) = (user_id.into(), event.event_id.as_str().into());
        let end = LoneEnd { user_id, event_id, changed };
        self.ledger.gaps.insert((changed.0, room.number));
        room.lone_ends = room.lone_ends.iter().cloned().chain([end]).collect();
        while room.lone_ends.len() > self.ledger.limits.lone_ends_max {
            let oldest = room.lone_ends[0].clone();
            self.show_lone_end(room, &oldest);
            let gap = self.next();
            self.note_gap(room, gap.0);
        }
    }

    /// Takes in that somebody's end is part of the state, or is no more what holds.
    pub(super) fn forget_lone_end(&mut self, room: &mut Room, user_id: &str) {
        let Some(end) = room.lone_end(user_id) else { return };
        self.ledger.gaps.remove(&(end.changed.0, room.number));
        let others = room.lone_ends.iter().filter(|end| *end.user_id != *user_id);
        room.lone_ends = others.cloned().collect();
    }

    /// Makes those ends part of the state that an answer stands for: it tells of
    /// them, or its user is in the room and the homeserver knew of them when it
    /// answered. Then it has told all that came before them, or that something is
    /// missing.
    pub(super) fn lone_ends_polled(
        &mut self,
        poll: Poll,
        room: &mut Room,
        batch: &RoomBatch,
        chunk: &Chunk,
    ) {
        if room.lone_ends.is_empty() {
            return;
        }
        let user_id = self.ledger.world.user_id(poll.user).cloned().unwrap_or_default();
        let is_member = batch.section == Section::Join && !poll.repeated;
        let told = || batch.timeline.iter().zip(&chunk.places);
        let is_it = |event: &SyncEvent, end: &LoneEnd| *event.event_id == *end.event_id;
        let is_told = |end: &LoneEnd| {
            batch.state.iter().chain(&batch.timeline).any(|event| is_it(event, end))
        };
        let is_new = |end: &LoneEnd| {
            told()
                .any(|(event, place)| place.is_some_and(|(_, is_new)| is_new) && is_it(event, end))
        };
        self.show_lone_ends(room, |end| {
            let is_others = end.user_id != user_id;
            is_new(end) || (is_member && is_others && (end.changed.0 <= poll.knew || is_told(end)))
        });
    }

    /// The same for a room that an answer about all rooms of its user does not tell of.
    pub(super) fn lone_ends_untold(&mut self, user: UserNumber, room: RoomNumber, knew: u64) {
        let room = self.ledger.world.room(room).filter(|room| !room.lone_ends.is_empty());
        let Some(mut room) = room.map(|room| (**room).clone()) else { return };
        let user_id = self.ledger.world.user_id(user).cloned().unwrap_or_default();
        let of_user = self.user_room(user, &room);
        if of_user.is_some_and(|it| it.membership == Membership::Join) {
            self.show_lone_ends(&mut room, |end| end.changed.0 <= knew && end.user_id != user_id);
            self.note_summary(&mut room);
            self.set_room(room);
        }
    }

    /// Makes ends part of the state.
    pub(super) fn show_lone_ends(&mut self, room: &mut Room, which: impl Fn(&LoneEnd) -> bool) {
        let ends: Vec<LoneEnd> = room.lone_ends.iter().filter(|end| which(end)).cloned().collect();
        ends.iter().for_each(|end| self.show_lone_end(room, end));
    }

    fn show_lone_end(&mut self, room: &mut Room, end: &LoneEnd) {
        let place = self.place(room.number, &end.event_id);
        let event = place.and_then(|place| Some((place, self.event(room.number, place)?)));
        match event {
            Some((place, event)) => {
                self.set_entry(room, (MEMBER, &end.user_id), &event.json, place);
            }
            None => self.forget_lone_end(room, &end.user_id),
        }
    }
}
