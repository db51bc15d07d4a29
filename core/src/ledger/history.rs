//! What came before a segment of a timeline, fetched apart for one user.
//!
//! Each segment that begins with a gap has [`HISTORY_MAX`] numbers in front of
//! it that were given to nothing: history is put there, so that it is older than
//! the segment and newer than all that was numbered before it. It is nobody's
//! news, and only who was given it may see it.

use rustc_hash::FxHashSet;

use super::{
    command::{History, Reply},
    fold::Fold,
    hidden::begins_stay,
    timeline::{LOOKED_AT_MAX, record},
};
use crate::{
    id::RoomNumber,
    record::{EventRecord, Membership, Place, UserRoomRecord, key},
    upstream::SyncEvent,
    view::Table,
    world::Room,
};

/// Events in front of one segment at most, and the numbers that are skipped for
/// them: it is part of the format.
pub(crate) const HISTORY_MAX: u64 = 100;

/// What of fetched events goes in front of a segment.
#[derive(Default)]
struct Page<'a> {
    /// The newest first.
    fill: Vec<(&'a SyncEvent, Option<Place>)>,
    /// The known events among them.
    known: FxHashSet<u64>,
    /// The newest known one that is older than the segment.
    met: Option<u64>,
    /// Whether the segment's first event was reached.
    at_first: bool,
    /// Whether something was left out, for want of numbers or since the room may hide
    /// what lies between.
    cut: bool,
}

impl Fold<'_> {
    /// Takes in what the homeserver gave one user from before an event.
    pub(super) fn history(&mut self, history: History) -> Reply {
        let Some(room) = self.ledger.world.room(history.room).cloned() else { return Reply::Done };
        let Some(before) = self.user_room(history.user, &room) else { return Reply::Done };
        let anchor = history.before;
        let is_there = before.membership == Membership::Join
            && before.visible_from.min(before.history_from) <= anchor
            && self.event(room.number, timeline(anchor)).is_some();
        // A stay that has ended meanwhile, or a room that was joined again.
        if !is_there {
            return Reply::Done;
        }
        let oldest_first: Vec<&SyncEvent> = history.events.iter().rev().collect();
        self.old_ends(history.user, &room, &oldest_first);
        let first = self.segment_start(room.number, anchor);
        let floor = self.number_before(room.number, first).unwrap_or(0);
        let page = self.page(&history, &room, first, floor);
        self.put_in_front(room.number, first, floor, &page, history.end.as_deref());
        let mut given = page.known;
        given.extend((1..=page.fill.len() as u64).map(|at| first - at));
        let oldest = self.oldest_given(room.number, anchor, &given);
        let is_all = history.end.is_none() || oldest == anchor;
        let (mut history_from, mut history_until) = (before.history_from, before.history_until);
        if oldest < anchor {
            // What was given before belongs to it only where the two meet.
            let meets = oldest <= history_until && anchor >= history_from;
            history_from = if meets { oldest.min(history_from) } else { oldest };
            history_until = if meets { anchor.max(history_until) } else { anchor };
        }
        let after = UserRoomRecord {
            history_from,
            history_until,
            history_end: if is_all { oldest } else { 0 },
            ..before.clone()
        };
        self.set_user_room(history.user, &room, Some(&before), after);
        Reply::Done
    }

    /// Sorts what was given: what is unknown and older than the segment goes in
    /// front of it, until a known event is met. What is unknown and lies within
    /// it has no place. Nor has what the room may have shown with holes, since it was
    /// before the user came.
    fn page<'h>(&self, history: &'h History, room: &Room, first: u64, floor: u64) -> Page<'h> {
        let max = self.ledger.limits.history_max.min(HISTORY_MAX);
        let left = max.saturating_sub(self.history_from(history.room, first));
        let space = (first - floor).saturating_sub(1).min(left);
        let mut page = Page { at_first: first == history.before, ..Page::default() };
        let mut seen = FxHashSet::default();
        let user_id = self.ledger.world.user_id(history.user).cloned().unwrap_or_default();
        let hides = self.may_hide(room, first, &history.events);
        let mut is_before = hides && self.came_since(room, &user_id, first);
        for event in &history.events {
            if is_before {
                break;
            }
            is_before = hides && begins_stay(event, &user_id);
            match self.place(history.room, &event.event_id) {
                _ if !seen.insert(&*event.event_id) => {}
                Some(place) if place.timeline => {
                    page.at_first |= place.sequence == first;
                    if page.at_first && place.sequence < first {
                        page.met.get_or_insert(place.sequence);
                    }
                    page.known.insert(place.sequence);
                }
                _ if !page.at_first || page.met.is_some() => {}
                _ if page.fill.len() as u64 >= space => page.cut = true,
                before => page.fill.push((event, before)),
            }
        }
        // The page's token may stand before what it hides, which others see.
        page.cut |= is_before && page.met.is_none();
        page
    }

    /// Puts a page's new events in front of the segment that begins at `first`;
    /// the event before it is at `floor`.
    fn put_in_front(
        &mut self,
        room: RoomNumber,
        first: u64,
        floor: u64,
        page: &Page<'_>,
        end: Option<&str>,
    ) {
        let closes = !page.cut && page.met.is_some_and(|met| met == floor);
        let Some(mut segment) = self.event(room, timeline(first)) else { return };
        if page.fill.is_empty() && !closes {
            return;
        }
        // Whoever sees more of the room for it has to look at it again.
        self.room_told(room);
        segment.gap_before = false;
        self.put(Table::Events, key::event(room, timeline(first)), segment.encode());
        let count = page.fill.len();
        for (at, (event, before)) in page.fill.iter().enumerate() {
            let place = timeline(first - 1 - at as u64);
            if let Some(before) = before {
                self.promote(room, event, *before, place);
            }
            let is_oldest = at + 1 == count;
            let gap = is_oldest && !closes && event.kind != "m.room.create";
            let token = end.filter(|_| is_oldest && !page.cut && page.met.is_none());
            let of_event = record(event, self.now_ms, gap, token.map(str::to_owned));
            let of_event = EventRecord { history: true, ..of_event };
            self.put(Table::Events, key::event(room, place), of_event.encode());
            let id = key::event_id(room, &event.event_id);
            self.put(Table::EventIds, id, &*key::place_bytes(place));
        }
    }

    /// The first number of the segment that has the event at `anchor`.
    fn segment_start(&self, room: RoomNumber, anchor: u64) -> u64 {
        let (mut first, mut looked_at) = (anchor, 0);
        let (from, to) = (timeline(0), timeline(anchor.saturating_add(1)));
        let (from, to) = (key::event(room, from), key::event(room, to));
        self.scan_back(Table::Events, &from, &to, &mut |key, archive| {
            looked_at += 1;
            first = key::sequence_of(key).unwrap_or(first);
            let opens = EventRecord::access(archive).is_none_or(|event| event.gap_before);
            !opens && looked_at < LOOKED_AT_MAX
        });
        first
    }

    /// How many events of history a segment that begins at `first` has already.
    fn history_from(&self, room: RoomNumber, first: u64) -> u64 {
        let mut count = 0;
        let (from, to) = (timeline(first), timeline(first.saturating_add(HISTORY_MAX)));
        let (from, to) = (key::event(room, from), key::event(room, to));
        self.scan_back(Table::Events, &from, &to, &mut |_, archive| {
            count += u64::from(EventRecord::access(archive).is_some_and(|event| event.history));
            true
        });
        count
    }

    fn number_before(&self, room: RoomNumber, sequence: u64) -> Option<u64> {
        let mut before = None;
        let (from, to) = (key::event(room, timeline(0)), key::event(room, timeline(sequence)));
        self.scan_back(Table::Events, &from, &to, &mut |key, _| {
            before = key::sequence_of(key);
            false
        });
        before
    }

    /// The oldest number from which on, up to `anchor`, the user was given all
    /// that is stored, without a gap.
    fn oldest_given(&self, room: RoomNumber, anchor: u64, given: &FxHashSet<u64>) -> u64 {
        let mut oldest = anchor;
        let (from, to) = (timeline(0), timeline(anchor.saturating_add(1)));
        let (from, to) = (key::event(room, from), key::event(room, to));
        self.scan_back(Table::Events, &from, &to, &mut |key, archive| {
            let Some(sequence) = key::sequence_of(key) else { return false };
            if sequence != anchor && !given.contains(&sequence) {
                return false;
            }
            oldest = sequence;
            EventRecord::access(archive).is_some_and(|event| !event.gap_before)
        });
        oldest
    }
}

fn timeline(sequence: u64) -> Place {
    Place { timeline: true, sequence }
}
