//! A room's timeline: known events are dropped, new ones numbered, gaps marked.

use rustc_hash::FxHashSet;

use super::{coming::Behind, fold::Fold, history::HISTORY_MAX, polled::Poll};
use crate::{
    id::{RoomNumber, Sequence},
    record::{EventRecord, Place, StateRecord, key},
    redaction::redacted_with_because,
    request::MEMBER,
    upstream::{RoomBatch, SyncEvent},
    view::Table,
    world::Room,
};

/// What became of a batch's timeline.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// For each event of the batch: where it is, and whether it is new there;
    /// `None` for one that was dropped.
    pub(super) places: Vec<Option<(Place, bool)>>,
    /// The oldest number from which on the chunk has all that is stored.
    pub(super) oldest: Option<u64>,
    /// How the answer's knowledge of the room relates to what was stored.
    pub(super) standing: Standing,
    /// Whether the chunk is older than what is stored, and lies in a gap of it
    /// or before it: its events were dropped for that.
    pub(super) stale: bool,
    /// Whether that is only for want of a place: nothing says that it is older.
    pub(super) unplaced: bool,
    /// The same, where nothing newer is stored either.
    pub(super) whole_from: Option<u64>,
    /// Whether something is missing between it and what was stored.
    pub(super) opened_gap: bool,
    /// A number of the timeline up to which the answer knew everything, as far as
    /// its own events tell; 0 where they do not.
    pub(super) reaches: u64,
    /// What its new events are newer than.
    pub(super) behind: Behind,
}

/// How much an answer knew of a room, told by its timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is no telling, or less than was stored.
    #[default]
    Unsure,
    /// Everything that was stored.
    Level,
    /// More than was stored.
    Ahead,
}

/// Events that are looked at in search of a gap. Behind so many there may as
/// well be one.
pub(super) const LOOKED_AT_MAX: usize = 10_000;

/// The greatest integer that every client reads right.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Whether an event moves a room up in a client's list (MSC4186).
fn is_bump(kind: &str) -> bool {
    matches!(
        kind,
        "m.room.create"
            | "m.room.message"
            | "m.room.encrypted"
            | "m.sticker"
            | "m.call.invite"
            | "m.poll.start"
            | "org.matrix.msc3381.poll.start"
            | "m.beacon_info"
            | "org.matrix.msc3672.beacon_info"
    )
}

impl Fold<'_> {
    /// Appends the new events of `batch` to the room's timeline.
    pub(super) fn timeline(&mut self, poll: Poll, room: &mut Room, batch: &RoomBatch) -> Chunk {
        let mut seen = FxHashSet::default();
        let known: Vec<Option<Place>> =
            batch.timeline.iter().map(|event| self.place(room.number, &event.event_id)).collect();
        let in_timeline = |place: &Option<Place>| place.is_some_and(|place| place.timeline);
        let last_known = known.iter().rposition(in_timeline);
        let follows = self.follows(poll, room, batch);
        let mut chunk =
            self.chunk(poll, room, (batch, follows), last_known.and_then(|last| known[last]));
        let is_level = chunk.standing == Standing::Level && last_known.is_some();
        // Where it vouches for nothing that is withheld, that is not worth a look.
        let may_vouch = poll.knew < room.last_gap.0
            || starts_segment(room, batch, follows)
            || room.lacks_newest;
        let is_certain = last_known.is_none()
            && may_vouch
            && (self.knew_all(poll, room) || !self.was_joined(poll, room));
        let starts = |room: &Room| {
            starts_segment(room, batch, follows) || (room.lacks_newest && last_known.is_none())
        };
        let mut leaves_out = false;
        for (index, event) in batch.timeline.iter().enumerate() {
            let is_first_sight = seen.insert(&*event.event_id);
            let is_old = last_known.is_some_and(|last| index < last);
            let place = match known[index] {
                _ if !is_first_sight => None,
                Some(place) if place.timeline => {
                    if std::mem::take(&mut leaves_out) {
                        self.open_gap(room.number, place);
                    }
                    if index == 0 {
                        self.note_prev_batch(room, place, batch.prev_batch.as_deref());
                    }
                    Some((place, false))
                }
                // What comes in front of known events is old: it is not shown.
                // A poller that follows the room without a hole tells nothing
                // old, and was only told of more than others were.
                _ if is_old && !(follows && self.is_continuous(room, &known[index..])) => {
                    leaves_out = true;
                    None
                }
                _ if !is_old && chunk.stale => None,
                before => {
                    if !is_old && (is_level || last_known.is_none()) {
                        chunk.standing = Standing::Ahead;
                    }
                    let opens = index == 0;
                    let gap = opens && starts(room);
                    let prev_batch = batch.prev_batch.as_ref().filter(|_| opens);
                    chunk.opened_gap |= gap && room.last_event > Sequence::default();
                    let marks = Marks { gap, prev_batch: prev_batch.cloned(), before };
                    Some((self.append(poll, room, event, marks), true))
                }
            };
            self.note_own_event(poll, room.number, event, place);
            chunk.places.push(place);
        }
        room.lacks_newest |= chunk.unplaced;
        self.hide_late(room, &late_events(&chunk));
        self.hide_from_newcomers(poll, room, (batch, &chunk));
        chunk.oldest = self.oldest_shown(room.number, &chunk);
        let newest = chunk.places.iter().flatten().map(|(place, _)| place.sequence).max();
        let is_newest = newest == Some(room.last_event.0);
        chunk.whole_from = chunk.oldest.filter(|_| is_newest);
        // What is appended behind a known event follows it without a gap. That a chunk
        // is newer than all that is stored clocks alone may have said: that is enough
        // only for who has just come, and sees nothing from before it.
        let comes_anew = matches!(chunk.places.first(), Some(Some((_, true))))
            && self.begins_with_coming(poll, batch);
        chunk.reaches = match last_known.and_then(|last| known[last]) {
            _ if comes_anew => newest.unwrap_or(0),
            Some(last) => last.sequence,
            None if is_certain => newest.unwrap_or(0),
            None => 0,
        };
        chunk
    }

    /// The oldest number from which on the chunk has all that is stored: what
    /// lies before was kept from this user, or from this poller.
    fn oldest_shown(&self, room: RoomNumber, chunk: &Chunk) -> Option<u64> {
        let numbers = chunk.places.iter().flatten().map(|(place, _)| place.sequence);
        let told: FxHashSet<u64> = numbers.collect();
        let (first, last) = (*told.iter().min()?, *told.iter().max()?);
        let place = |sequence| Place { timeline: true, sequence };
        let from = key::event(room, place(first));
        let to = key::event(room, place(last.saturating_add(1)));
        let mut oldest = last;
        self.scan_back(Table::Events, &from, &to, &mut |key, _| {
            let sequence = key::sequence_of(key).filter(|sequence| told.contains(sequence));
            oldest = sequence.unwrap_or(oldest);
            sequence.is_some()
        });
        Some(oldest)
    }

    /// Notes that the sender's own device was told of its event, and by which
    /// transaction id: an empty one where it has none.
    pub(super) fn note_own_event(
        &mut self,
        poll: Poll,
        room: RoomNumber,
        event: &SyncEvent,
        place: Option<(Place, bool)>,
    ) {
        let user_id = self.ledger.world.user_id(poll.user);
        let is_own = user_id.is_some_and(|user_id| **user_id == *event.sender);
        // Of old events nobody awaits it.
        let is_due = event.transaction_id.is_some() || !poll.initial;
        if let Some((place, _)) = place.filter(|_| is_own && is_due) {
            let key = key::transaction_id(poll.device, room, place.sequence);
            let transaction_id = event.transaction_id.as_deref();
            if transaction_id.is_some() || self.get(Table::TransactionIds, &key).is_none() {
                let bytes = transaction_id.unwrap_or_default().as_bytes();
                self.put(Table::TransactionIds, key, bytes);
                // A response may be waiting for it.
                self.device_change(poll.user, poll.device);
            }
        }
    }

    /// Where an event is, if it is known.
    pub(super) fn place(&self, room: RoomNumber, event_id: &str) -> Option<Place> {
        self.get(Table::EventIds, &key::event_id(room, event_id)).and_then(key::place_from)
    }

    fn append(&mut self, poll: Poll, room: &mut Room, event: &SyncEvent, marks: Marks) -> Place {
        if marks.gap {
            // Numbers in front of the segment, for its history.
            self.ledger.world.sequence.0 += HISTORY_MAX;
        }
        let place = Place { timeline: true, sequence: self.next().0 };
        if let Some(before) = marks.before {
            self.promote(room.number, event, before, place);
        }
        let record = record(event, self.now_ms, marks.gap, marks.prev_batch);
        self.put(Table::Events, key::event(room.number, place), record.encode());
        let id = key::event_id(room.number, &event.event_id);
        self.put(Table::EventIds, id, &*key::place_bytes(place));
        let sent_ms = event.origin_server_ts.min(self.now_ms);
        let came_ms = if poll.initial { sent_ms } else { self.now_ms }.min(INTEGER_MAX);
        let is_first = room.last_event == Sequence::default();
        if marks.gap {
            // Who came or went meanwhile, the homeserver does not say.
            room.members_complete = false;
            room.lacks_newest = false;
            self.note_gap(room, place.sequence);
        }
        room.last_event = Sequence(place.sequence);
        room.recency_ms = room.recency_ms.max(came_ms);
        if is_bump(&event.kind) || is_first {
            room.bump_stamp = room.bump_stamp.max(came_ms);
        }
        place
    }

    /// Notes that something is missing before a stored event: who told of it
    /// first was not shown all of the room (history visibility).
    fn open_gap(&mut self, room: RoomNumber, place: Place) {
        if let Some(event) = self.event(room, place).filter(|event| !event.gap_before) {
            let record = EventRecord { gap_before: true, ..event };
            self.put(Table::Events, key::event(room, place), record.encode());
        }
    }

    /// Keeps the token for paging back from before a stored event that had none:
    /// a chunk begins with it, and those that were stored did not.
    fn note_prev_batch(&mut self, room: &mut Room, place: Place, token: Option<&str>) {
        let Some(token) = token else { return };
        let key = key::event(room.number, place);
        let archive = self.get(Table::Events, &key);
        let has_none =
            archive.and_then(EventRecord::access).is_some_and(|it| it.prev_batch.is_none());
        if has_none && let Some(event) = self.event(room.number, place) {
            let record = EventRecord { prev_batch: Some(token.to_owned()), ..event };
            self.put(Table::Events, key, record.encode());
            Self::note_token(room, place.sequence);
        }
    }

    /// An event that was only seen in a state block comes in a timeline.
    pub(super) fn promote(
        &mut self,
        room: RoomNumber,
        event: &SyncEvent,
        before: Place,
        place: Place,
    ) {
        // Until the change has reached it, a shard looks for a user's own member
        // event where it was.
        if event.kind != MEMBER {
            self.remove(Table::Events, key::event(room, before));
        }
        let Some(state_key) = &event.state_key else { return };
        let key = key::state(room, &event.kind, state_key);
        let entry = self.get(Table::State, &key).and_then(StateRecord::decode);
        if let Some(entry) = entry.filter(|entry| entry.place == before) {
            self.put(Table::State, key, StateRecord { place, ..entry }.encode());
        }
        self.own_event_moved(room, event, before, place);
    }

    /// Puts numbers aside for the state events of a batch that are not known,
    /// before its timeline is numbered: they happened before its end, so that
    /// one who left with it may see them, and before what came after they left.
    pub(super) fn reserve(&mut self, room: &Room, batch: &RoomBatch) {
        let own: FxHashSet<&str> = batch.timeline.iter().map(|event| &*event.event_id).collect();
        let events = batch.state.iter().chain(&batch.timeline);
        let unknown = events.filter(|event| {
            let is_state = event.state_key.is_some() && !own.contains(&*event.event_id);
            is_state && self.place(room.number, &event.event_id).is_none()
        });
        let count = unknown.count() as u64;
        let first = self.ledger.world.sequence.0 + 1;
        self.reserved = first..first + count;
        self.ledger.world.sequence.0 += count;
    }

    /// Keeps an event that is state and was not seen in a timeline.
    pub(super) fn keep_state_event(&mut self, room: RoomNumber, event: &SyncEvent) -> Place {
        let sequence = self.reserved.next().unwrap_or_else(|| self.next().0);
        let place = Place { timeline: false, sequence };
        let record = record(event, self.now_ms, false, None);
        self.put(Table::Events, key::event(room, place), record.encode());
        let id = key::event_id(room, &event.event_id);
        self.put(Table::EventIds, id, &*key::place_bytes(place));
        place
    }

    pub(super) fn event(&self, room: RoomNumber, place: Place) -> Option<EventRecord> {
        self.get(Table::Events, &key::event(room, place)).and_then(EventRecord::decode)
    }

    /// Applies the redactions among a chunk's new events to what is stored.
    pub(super) fn redactions(&mut self, room: &mut Room, batch: &RoomBatch, chunk: &Chunk) {
        for (event, place) in batch.timeline.iter().zip(&chunk.places) {
            if let (Some(target), Some((place, true))) = (&event.redacts, place)
                && event.kind == "m.room.redaction"
            {
                self.redact(room, target, event, *place);
            }
        }
    }

    fn redact(&mut self, room: &mut Room, target: &str, because: &SyncEvent, at: Place) {
        let Some(place) = self.place(room.number, target) else { return };
        let Some(mut event) = self.event(room.number, place) else { return };
        let version = room.version.as_deref().unwrap_or_default();
        event.json = redacted_with_because(&event.json, &event.kind, version, &because.json);
        self.put(Table::Events, key::event(room.number, place), event.encode());
        let Some(state_key) = &event.state_key else { return };
        let key = key::state(room.number, &event.kind, state_key);
        let entry = self.get(Table::State, &key).and_then(StateRecord::decode);
        if let Some(mut entry) = entry.filter(|entry| entry.place == place) {
            entry.changed = at.sequence;
            self.put(Table::State, key, entry.encode());
            room.state_changed = room.state_changed.max(Sequence(at.sequence));
            Self::summarize(room, &event.kind, state_key, &event.json);
        }
    }
}

/// The new events that stand before known ones, and the number of the known one
/// that each stands before: another poller, to which they were not given, was
/// faster.
fn late_events(chunk: &Chunk) -> Vec<(u64, u64)> {
    let mut late = Vec::new();
    let mut next_known = None;
    for (place, is_new) in chunk.places.iter().rev().flatten() {
        if !is_new {
            next_known = Some(place.sequence);
        } else if let Some(next_known) = next_known {
            late.push((place.sequence, next_known));
        }
    }
    late
}

/// What is special about an appended event.
struct Marks {
    gap: bool,
    prev_batch: Option<String>,
    /// Where it was kept as state.
    before: Option<Place>,
}

/// Whether something is missing between what is stored and a batch's first
/// event, which is not known.
fn starts_segment(room: &Room, batch: &RoomBatch, follows: bool) -> bool {
    if room.last_event == Sequence::default() {
        let begins = batch.timeline.first().is_some_and(|event| event.kind == "m.room.create");
        return !begins && (batch.limited || batch.prev_batch.is_some());
    }
    !follows
}

pub(super) fn record(
    event: &SyncEvent,
    first_seen_ms: u64,
    gap_before: bool,
    prev_batch: Option<String>,
) -> EventRecord {
    EventRecord {
        event_id: event.event_id.clone(),
        kind: event.kind.clone(),
        state_key: event.state_key.clone(),
        sender: event.sender.clone(),
        origin_server_ts: event.origin_server_ts,
        first_seen_ms,
        gap_before,
        history: false,
        prev_batch,
        json: event.json.to_string(),
    }
}
