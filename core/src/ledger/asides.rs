//! Member events that are kept out of a room's state for now: ends of stays of which
//! the leaver's own poller alone has told, beside the timeline, and members that were
//! fetched for one user.
//!
//! Whoever else is taken for a member may have been out by then: what others were
//! told goes up to somewhere before such an event, and nothing in the timeline says
//! so. It is not made part of the state before somebody else's answer, of who
//! was there later, has told all that came before it (decision 0024). What their
//! own answers are measured by is the event all the same (`Fold::entry`). A member
//! that was fetched is shown meanwhile to whom the homeserver gave it.

use imbl::OrdSet;

use super::{fold::Fold, polled::Poll, summary::content, timeline::Chunk};
use crate::{
    id::{RoomNumber, Sequence, UserNumber},
    record::{Membership, Place, StateRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, Section, SyncEvent},
    view::Table,
    world::{Aside, Room},
};

impl Fold<'_> {
    /// The entry of a member event that is not part of the state yet.
    pub(super) fn aside(&self, room: &Room, user_id: &str) -> Option<StateRecord> {
        let aside = room.aside(user_id)?;
        let place = self.place(room.number, &aside.event_id)?;
        let event = self.event(room.number, place)?;
        Some(StateRecord {
            kind: MEMBER.to_owned(),
            state_key: user_id.to_owned(),
            place,
            changed: aside.changed.0,
            membership: content(&event.json).text("membership").map(str::to_owned),
            apart: true,
        })
    }

    /// Takes in a member event that the homeserver gave one user. Where the timeline has it,
    /// it is part of the state as what others tell is. Where somebody has told meanwhile of
    /// the same member, that holds.
    pub(super) fn member_fetched(&mut self, room: &mut Room, user: UserNumber, event: &SyncEvent) {
        let Some(user_id) = event.state_key.as_deref().filter(|_| event.kind == MEMBER) else {
            return;
        };
        if self.is_in_state(room, user_id) {
            return;
        }
        self.claim_aside(room, user_id, event);
        let is_it = |it: &Aside| *it.user_id == *user_id && *it.event_id == *event.event_id;
        let Some(at) = room.asides.iter().position(is_it) else { return };
        if !room.asides[at].given_to.contains(&user) {
            let mut asides = room.asides.to_vec();
            asides[at].given_to.insert(user);
            room.asides = asides.into();
            // Who was given it is not part of what is written of the room.
            self.room_told(room.number);
        }
    }

    /// Whether the state that is shown has an entry of a member.
    pub(super) fn is_in_state(&self, room: &Room, user_id: &str) -> bool {
        self.get(Table::State, &key::state(room.number, MEMBER, user_id)).is_some()
    }

    /// Keeps a member event out of the state for now. Where there are too many, the
    /// oldest becomes part of it, and who is taken for a member is vouched for as behind
    /// a gap.
    pub(super) fn put_aside(&mut self, room: &mut Room, event: &SyncEvent, place: Place) {
        let Some(user_id) = event.state_key.as_deref() else { return };
        self.forget_aside(room, user_id);
        let is_new = place.sequence > self.started.0;
        let changed = if is_new { Sequence(place.sequence) } else { self.next() };
        let (user_id, event_id) = (user_id.into(), event.event_id.as_str().into());
        let aside = Aside { user_id, event_id, changed, given_to: OrdSet::new() };
        self.ledger.gaps.insert((changed.0, room.number));
        room.asides = room.asides.iter().cloned().chain([aside]).collect();
        while room.asides.len() > self.ledger.limits.asides_max {
            let oldest = room.asides[0].clone();
            self.show_aside(room, &oldest);
            let gap = self.next();
            self.note_gap(room, gap.0);
        }
    }

    /// Takes in that what was put aside of a member is part of the state, or is no more
    /// what holds.
    pub(super) fn forget_aside(&mut self, room: &mut Room, user_id: &str) {
        let Some(end) = room.aside(user_id) else { return };
        self.ledger.gaps.remove(&(end.changed.0, room.number));
        let others = room.asides.iter().filter(|end| *end.user_id != *user_id);
        room.asides = others.cloned().collect();
    }

    /// Makes those events part of the state that an answer stands for: it tells of
    /// them, or its user is in the room and the homeserver knew of them when it
    /// answered. Then it has told all that came before them, or that something is
    /// missing.
    pub(super) fn asides_polled(
        &mut self,
        poll: Poll,
        room: &mut Room,
        batch: &RoomBatch,
        chunk: &Chunk,
    ) {
        if room.asides.is_empty() {
            return;
        }
        let user_id = self.ledger.world.user_id(poll.user).cloned().unwrap_or_default();
        let is_member = batch.section == Section::Join && !poll.repeated;
        let told = || batch.timeline.iter().zip(&chunk.places);
        let is_it = |event: &SyncEvent, end: &Aside| *event.event_id == *end.event_id;
        let is_told =
            |end: &Aside| batch.state.iter().chain(&batch.timeline).any(|event| is_it(event, end));
        let is_new = |end: &Aside| {
            told()
                .any(|(event, place)| place.is_some_and(|(_, is_new)| is_new) && is_it(event, end))
        };
        self.show_asides(room, |end| {
            let is_others = end.user_id != user_id;
            is_new(end) || (is_member && is_others && (end.changed.0 <= poll.knew || is_told(end)))
        });
    }

    /// The same for a room that an answer about all rooms of its user does not tell of.
    pub(super) fn asides_untold(&mut self, user: UserNumber, room: RoomNumber, knew: u64) {
        let room = self.ledger.world.room(room).filter(|room| !room.asides.is_empty());
        let Some(mut room) = room.map(|room| (**room).clone()) else { return };
        let user_id = self.ledger.world.user_id(user).cloned().unwrap_or_default();
        let of_user = self.user_room(user, &room);
        if of_user.is_some_and(|it| it.membership == Membership::Join) {
            self.show_asides(&mut room, |end| end.changed.0 <= knew && end.user_id != user_id);
            self.doubt_heroes(user, &mut room, true);
            self.note_summary(&mut room);
            self.set_room(room);
        }
    }

    /// Makes what was put aside part of the state.
    pub(super) fn show_asides(&mut self, room: &mut Room, which: impl Fn(&Aside) -> bool) {
        let asides: Vec<Aside> = room.asides.iter().filter(|it| which(it)).cloned().collect();
        asides.iter().for_each(|aside| self.show_aside(room, aside));
    }

    fn show_aside(&mut self, room: &mut Room, aside: &Aside) {
        let place = self.place(room.number, &aside.event_id);
        let event = place.and_then(|place| Some((place, self.event(room.number, place)?)));
        let Some((place, event)) = event else {
            return self.forget_aside(room, &aside.user_id);
        };
        // A member of whom nobody had told is counted already, unless this is news.
        let is_news = place.timeline && place.sequence > self.started.0;
        let is_counted = !is_news && !self.is_in_state(room, &aside.user_id);
        let counts = (room.joined_count, room.invited_count);
        self.set_entry(room, (MEMBER, &aside.user_id), &event.json, (place, true));
        if is_counted {
            (room.joined_count, room.invited_count) = counts;
        }
    }
}
