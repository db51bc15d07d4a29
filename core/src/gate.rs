//! The visibility gate (INV-8): the only way from a room's records into a
//! response.
//!
//! A [`Gate`] is made for one user and one room and knows the user's
//! membership. It gives out timeline, state, receipts and typing as far as that
//! user may see them, and nothing else does. Nothing here knows what a client
//! asked for.

mod ending;
mod receipts;

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    id::{RoomNumber, Sequence},
    list::stripped_content,
    record::{ArchivedStateRecord, EventRecord, Membership, Place, StateRecord, key},
    redaction::redact,
    request::MEMBER,
    user::{User, UserRoom},
    view::{Direction, KeyRanges, Table, View},
    world::{Hero, Removed, Room},
};

/// What one user may see of one room.
#[derive(Clone, Copy)]
pub struct Gate<'a> {
    view: &'a dyn View,
    room: &'a Room,
    user: &'a User,
    of_user: &'a UserRoom,
    /// The first and the last number that may be seen; nothing where the first
    /// is greater.
    visible: (u64, u64),
}

/// One visible event of a timeline.
#[derive(Clone, Debug)]
pub struct TimelineEvent {
    /// Its number.
    pub sequence: u64,
    /// What it says.
    pub record: EventRecord,
}

impl TimelineEvent {
    /// Whether it is news to who knows everything up to `cursor`.
    pub fn is_after(&self, cursor: Sequence) -> bool {
        self.sequence > cursor.0 && !self.record.history
    }
}

/// A stretch of the newest visible segment.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// The events, oldest first.
    pub events: Vec<TimelineEvent>,
    /// Whether something is missing before the first: events that were not
    /// asked for, a gap, or history that the homeserver has.
    pub more_before: bool,
}

impl<'a> Gate<'a> {
    /// The gate of `user` to `room`; `None` where they have no relation to it
    /// that shows anything, and as long as it is not known whether they are in it.
    ///
    /// The tables may be ahead of the world: an event behind `newest` is left
    /// to the response that is computed from a world that has it. Else it would
    /// be told twice, and to who is known to have left before it only there.
    pub fn new(
        view: &'a dyn View,
        room: &'a Room,
        user: &'a User,
        newest: Sequence,
    ) -> Option<Self> {
        let of_user = user.rooms.get(&room.number)?;
        let visible = match of_user.membership {
            Membership::Join if of_user.is_withheld(room) => return None,
            Membership::Join => (of_user.visible_from, newest.0),
            Membership::Invite if user.ignores(of_user) => return None,
            Membership::Invite | Membership::Knock => (u64::MAX, 0),
            Membership::Leave | Membership::Kick | Membership::Ban if of_user.ever_member => {
                (of_user.visible_from, of_user.since.0)
            }
            _ => return None,
        };
        Some(Self { view, room, user, of_user, visible })
    }

    /// The user's relation to the room.
    pub fn of_user(&self) -> &'a UserRoom {
        self.of_user
    }

    /// The room's number.
    pub fn room_number(&self) -> RoomNumber {
        self.room.number
    }

    /// When anything but unread counts last changed that an entry for a member could
    /// say.
    pub fn entry_changed(&self) -> Sequence {
        let of_user = self.of_user.changed_but_unread;
        let facts = [self.room.state_changed, self.room.summary_changed, of_user];
        facts.into_iter().fold(self.room.last_event, Sequence::max)
    }

    /// When an entry of the state last changed.
    pub fn state_changed(&self) -> Sequence {
        self.room.state_changed
    }

    /// When a member that was known last changed without a new event of the
    /// timeline, or later.
    pub fn members_corrected(&self) -> Sequence {
        self.room.members_corrected
    }

    /// When the last receipt came.
    pub fn receipts_changed(&self) -> Sequence {
        self.room.receipts_changed
    }

    /// When the set of who is typing last changed.
    pub fn typing_changed(&self) -> Sequence {
        self.room.typing_changed
    }

    /// The room's id.
    pub fn room_id(&self) -> &'a Arc<str> {
        &self.room.id
    }

    /// Whether the user is in the room: what is live in it may be seen.
    pub fn is_joined(&self) -> bool {
        self.of_user.membership == Membership::Join
    }

    /// Whether the user was in the room, and sees it as it was.
    pub fn has_left(&self) -> bool {
        let saw_it = self.visible.0 <= self.visible.1 || !self.of_user.ending.is_empty();
        !self.is_joined() && saw_it
    }

    /// What was told of the room so far, unless it was told in another stay than
    /// the one that the user is in: nothing goes on from there, since what came
    /// between the stays is not theirs.
    pub fn told_in_stay(&self, told: Option<Sequence>) -> Option<Sequence> {
        told.filter(|told| !self.is_joined() || *told >= self.of_user.since)
    }

    fn sees_summary(&self) -> bool {
        self.is_joined() || (self.has_left() && self.room.summary_changed.0 <= self.visible.1)
    }

    /// `m.room.name`.
    pub fn name(&self) -> Option<&'a Arc<str>> {
        self.room.name.as_ref().filter(|_| self.sees_summary())
    }

    /// `m.room.avatar`.
    pub fn avatar(&self) -> Option<&'a Arc<str>> {
        self.room.avatar.as_ref().filter(|_| self.sees_summary())
    }

    /// `m.room.canonical_alias`.
    pub fn canonical_alias(&self) -> Option<&'a Arc<str>> {
        self.room.canonical_alias.as_ref().filter(|_| self.sees_summary())
    }

    /// The name, or else the alias, that an invite or knock shows.
    pub fn stripped_name(&self) -> Option<String> {
        self.stripped_given_name().or_else(|| self.stripped_text("m.room.canonical_alias", "alias"))
    }

    /// `m.room.name` that an invite or knock shows.
    pub fn stripped_given_name(&self) -> Option<String> {
        self.stripped_text("m.room.name", "name")
    }

    /// A text in the content of the stripped event of type `kind`, if not empty.
    fn stripped_text(&self, kind: &str, key: &str) -> Option<String> {
        let stripped = self.stripped();
        let content = stripped.iter().find_map(|event| stripped_content(event, kind))?;
        let text = content.get(key)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// `url` of the avatar that an invite or knock shows.
    pub fn stripped_avatar(&self) -> Option<String> {
        let stripped = self.stripped();
        let content = stripped.iter().find_map(|event| stripped_content(event, "m.room.avatar"));
        content?.get("url")?.as_str().map(str::to_owned)
    }

    /// Whether the room is encrypted, as far as the user may know: for who has
    /// left, whether it was.
    pub fn is_encrypted(&self) -> bool {
        if self.is_joined() {
            return self.room.encryption.is_some();
        }
        if self.has_left() {
            return self.state("m.room.encryption", "").is_some();
        }
        self.stripped().iter().any(|event| stripped_content(event, "m.room.encryption").is_some())
    }

    /// The room's type, or that it has none; `None` where the user does not know.
    pub fn room_type(&self) -> Option<Option<String>> {
        if self.is_joined() || self.has_left() {
            return Some(self.room.room_type.as_deref().map(str::to_owned));
        }
        let stripped = self.stripped();
        let create = stripped.iter().find_map(|event| stripped_content(event, "m.room.create"))?;
        Some(create.get("type").and_then(|kind| kind.as_str()).map(str::to_owned))
    }

    /// The members who give a room without a name its name: others, or who
    /// invited.
    pub fn named_by(&self) -> Vec<Hero> {
        if !self.is_joined() {
            return self.stripped_members();
        }
        let others = self.room.heroes.iter().filter(|hero| *hero.user_id != *self.user.id);
        others.take(5).cloned().collect()
    }

    /// The other members whom an invite or knock shows.
    fn stripped_members(&self) -> Vec<Hero> {
        #[derive(serde::Deserialize)]
        struct Member {
            #[serde(rename = "type")]
            kind: String,
            state_key: String,
            content: serde_json::Value,
        }
        let hero = |event: &String| {
            let member: Member = serde_json::from_str(event).ok()?;
            let is_other = member.kind == "m.room.member" && *member.state_key != *self.user.id;
            let text = |key: &str| member.content.get(key)?.as_str().map(Arc::from);
            is_other.then(|| Hero {
                displayname: text("displayname"),
                avatar_url: text("avatar_url"),
                user_id: member.state_key.into(),
            })
        };
        self.stripped().iter().filter_map(hero).take(5).collect()
    }

    /// When the last event of one of `types` came, or any event: unix
    /// milliseconds, and not before the user's stay began.
    pub fn recency_ms(&self, types: Option<&BTreeSet<String>>) -> u64 {
        if !self.is_joined() {
            return self.of_user.since_ms;
        }
        let Some(types) = types else { return self.room.recency_ms };
        let place = |sequence| Place { timeline: true, sequence };
        let from = key::event(self.room.number, place(self.visible.0));
        let to = match self.visible.1.checked_add(1) {
            Some(end) => key::event(self.room.number, place(end)),
            None => key::after_prefix(&from[..5]),
        };
        let (mut looked_at, mut last_ms) = (0, None);
        self.view.scan(Table::Events, &from, &to, Direction::Backward, &mut |_, archive| {
            looked_at += 1;
            if let Some(event) = EventRecord::access(archive)
                && !event.history
                && types.contains(event.kind.as_str())
            {
                let sent_ms = event.origin_server_ts.to_native();
                last_ms = Some(sent_ms.min(event.first_seen_ms.to_native()));
            }
            last_ms.is_none() && looked_at < BUMPS_LOOKED_AT_MAX
        });
        last_ms.map_or(self.of_user.since_ms, |ms| ms.max(self.of_user.since_ms))
    }

    /// The room that this one replaced.
    pub fn predecessor(&self) -> Option<String> {
        let create = self.state("m.room.create", "")?;
        let content = stripped_content(&create.json, "m.room.create")?;
        content.get("predecessor")?.get("room_id")?.as_str().map(str::to_owned)
    }

    /// Joined and invited members.
    pub fn counts(&self) -> Option<(u64, u64)> {
        self.is_joined().then_some((self.room.joined_count, self.room.invited_count))
    }

    /// At most five members besides the user, for a room without a name.
    pub fn heroes(&self) -> Vec<Hero> {
        if !self.is_joined() || self.room.name.is_some() {
            return Vec::new();
        }
        let others = self.room.heroes.iter().filter(|hero| *hero.user_id != *self.user.id);
        others.take(5).cloned().collect()
    }

    /// `bump_stamp`.
    pub fn bump_stamp(&self) -> u64 {
        if self.is_joined() { self.room.bump_stamp } else { self.of_user.since_ms }
    }

    /// The stripped state of an invite or knock.
    pub fn stripped(&self) -> Vec<String> {
        self.of_user.stripped(self.view, self.user.number, self.room.number)
    }

    /// The newest `limit` events after `after` and up to `until`.
    pub fn timeline(&self, after: Sequence, until: Sequence, limit: u64) -> Stretch {
        let first = self.visible.0.min(self.of_user.history_from);
        let mut last = self.visible.1.min(until.0);
        let more_before = self.is_another_stay(after, first);
        let mut stretch = Stretch { more_before, ..Stretch::default() };
        if !self.is_joined() && !self.of_user.ending.is_empty() {
            let Some(before) = self.ending(after, limit, &mut stretch) else {
                stretch.more_before = true;
                stretch.events.reverse();
                return stretch;
            };
            last = last.min(before);
        }
        if first > last {
            stretch.events.reverse();
            return stretch;
        }
        let place = |sequence| Place { timeline: true, sequence };
        let from = key::event(self.room.number, place(first.max(after.0.saturating_add(1))));
        let to = match last.checked_add(1) {
            Some(end) => key::event(self.room.number, place(end)),
            None => key::after_prefix(&from[..5]),
        };
        let mut closed = false;
        self.view.scan(Table::Events, &from, &to, Direction::Backward, &mut |key, value| {
            if closed || stretch.events.len() as u64 >= limit {
                stretch.more_before = true;
                return false;
            }
            let (Some(sequence), Some(record)) = (key::sequence_of(key), self.event(value)) else {
                return true;
            };
            // What was fetched for somebody else is theirs.
            if record.history && !self.was_given(sequence) {
                stretch.more_before = true;
                return false;
            }
            closed = record.gap_before;
            if record.state_key.is_none() && self.user.ignored.contains(&record.sender) {
                return true;
            }
            stretch.events.push(TimelineEvent { sequence, record });
            true
        });
        // A segment that begins with a gap has history before it, stored or not.
        stretch.more_before |= closed;
        stretch.events.reverse();
        stretch
    }

    /// Whether history was given to this user.
    fn was_given(&self, sequence: u64) -> bool {
        (self.of_user.history_from..self.of_user.history_until).contains(&sequence)
    }

    /// Whether history was put directly in front of an event, whoever was given it.
    pub fn follows_history(&self, sequence: u64) -> bool {
        let key = |sequence| key::event(self.room.number, Place { timeline: true, sequence });
        let mut is_history = false;
        let (from, to) = (key(0), key(sequence));
        self.view.scan(Table::Events, &from, &to, Direction::Backward, &mut |_, archive| {
            is_history = EventRecord::access(archive).is_some_and(|event| event.history);
            false
        });
        is_history
    }

    /// An event of the timeline by its number, where it may be seen.
    pub fn timeline_event(&self, sequence: u64) -> Option<TimelineEvent> {
        let first = self.visible.0.min(self.of_user.history_from);
        let key = key::event(self.room.number, Place { timeline: true, sequence });
        let is_seen = (first..=self.visible.1).contains(&sequence);
        let record = self.view.get(Table::Events, &key).filter(|_| is_seen)?;
        let record = self.event(record)?;
        let is_given = !record.history || self.was_given(sequence);
        is_given.then_some(TimelineEvent { sequence, record })
    }

    /// The first number that the user may see of what was fetched for them as
    /// history; `u64::MAX` where nothing was.
    pub fn history_from(&self) -> u64 {
        self.of_user.history_from
    }

    /// Whether the homeserver has nothing for the user from before `first`, as
    /// far as is known.
    pub fn ends_history(&self, first: &TimelineEvent) -> bool {
        self.begins_with(first) || self.of_user.history_end == first.sequence
    }

    /// Whether the room's stored timeline shows the user its very beginning
    /// when it begins with `first`.
    pub fn begins_with(&self, first: &TimelineEvent) -> bool {
        first.record.kind == "m.room.create"
    }

    /// An entry of the current state, where it may be seen.
    pub fn state(&self, kind: &str, state_key: &str) -> Option<VisibleState> {
        let archive = self.view.get(Table::State, &key::state(self.room.number, kind, state_key));
        let entry = archive.and_then(StateRecord::access);
        match entry.filter(|it| it.kind == *kind && it.state_key == *state_key) {
            Some(entry) => self.visible_state(entry),
            None if kind == MEMBER => self.given_member(state_key),
            None => None,
        }
    }

    /// A member event that the homeserver gave the user when it was asked for it, and that
    /// others are not shown yet.
    fn given_member(&self, user_id: &str) -> Option<VisibleState> {
        let aside = self.room.aside(user_id).filter(|_| self.is_joined())?;
        let key = key::event_id(self.room.number, &aside.event_id);
        let place = self.view.get(Table::EventIds, &key).and_then(key::place_from);
        let place = place.filter(|_| aside.given_to.contains(&self.user.number))?;
        Some(VisibleState { changed: aside.changed, json: self.event_json(place)? })
    }

    /// Visits the events of the entries in `ranges` of the state table that may
    /// be seen and that `wanted` lets through (type, state key, changed), in no
    /// order that means something.
    pub fn each_state(
        &self,
        ranges: &KeyRanges,
        wanted: &mut dyn FnMut(&str, &str, Sequence) -> bool,
        visit: &mut dyn FnMut(&str),
    ) {
        let mut events = KeyRanges::with_capacity(16, 14);
        self.view.scan_ranges(Table::State, ranges, &mut |_, archive| {
            let Some(entry) = StateRecord::access(archive) else { return true };
            if wanted(&entry.kind, &entry.state_key, Sequence(entry.changed.to_native()))
                && let Some(place) = self.visible_place(entry)
            {
                key::add_event(&mut events, self.room.number, place);
            }
            true
        });
        events.settle();
        self.view.scan_ranges(Table::Events, &events, &mut |_, archive| {
            if let Some(record) = EventRecord::access(archive) {
                let seen = self.without_later_reason(&record.json, &record.kind);
                visit(seen.as_deref().unwrap_or(&record.json));
            }
            true
        });
    }

    /// The entries of the state that were removed, as far as the user may know:
    /// what was gone when their stay began they may never have seen.
    pub fn removed_state(&self) -> impl Iterator<Item = &'a Removed> {
        let known = if self.is_joined() {
            self.of_user.since.0..=u64::MAX
        } else {
            self.visible.0..=self.visible.1
        };
        self.room.removed.iter().filter(move |removed| known.contains(&removed.changed.0))
    }

    /// Up to which number entries may have been removed that
    /// [`Self::removed_state`] does not name.
    pub fn removed_before(&self) -> Sequence {
        let last = if self.is_joined() { u64::MAX } else { self.visible.1 };
        Sequence(self.room.removed_before.0.min(last))
    }

    /// Where the event of an entry lies, if the entry may be seen.
    fn visible_place(&self, entry: &ArchivedStateRecord) -> Option<Place> {
        let place =
            Place { timeline: entry.place.timeline, sequence: entry.place.sequence.to_native() };
        // What the tables have ahead of the world is shown with the world that
        // has it: whether the user is in the room then is not known here yet.
        let own = !self.is_joined() && self.of_user.own_event == Some(place);
        let is_there = self.is_joined() || self.has_left();
        // The end of a stay may not be part of the state yet.
        let is_former = !own
            && !self.is_joined()
            && self.of_user.own_event.is_some()
            && entry.kind == *MEMBER
            && entry.state_key == *self.user.id;
        // Who is out is not told of what came in a timeline later than in a state
        // block, nor of what came beside all timelines when they may have been out, or
        // was sent then.
        let is_later = || {
            let is_out = !self.is_joined();
            let in_timeline = if is_out && place.timeline { place.sequence } else { 0 };
            let changed = entry.changed.to_native();
            let is_sure = place.timeline || changed <= self.of_user.vouched.0;
            changed.max(in_timeline) > self.visible.1
                || (is_out && !is_sure && (entry.apart || self.is_sent_later(place)))
        };
        let is_seen = is_there && !is_former && (own || !is_later());
        is_seen.then_some(place)
    }

    fn visible_state(&self, entry: &ArchivedStateRecord) -> Option<VisibleState> {
        let place = self.visible_place(entry)?;
        Some(VisibleState {
            changed: Sequence(entry.changed.to_native()),
            json: self.event_json(place)?,
        })
    }

    /// Whether an event that no timeline had was sent after the user's end. Such
    /// a one may have come from anywhere, such as a list of members, and its
    /// number says only that it was known then.
    fn is_sent_later(&self, place: Place) -> bool {
        let sent_ms = |place| {
            let archive = self.view.get(Table::Events, &key::event(self.room.number, place))?;
            EventRecord::access(archive).map(|event| event.origin_server_ts.to_native())
        };
        let end_ms = self.of_user.own_event.and_then(sent_ms);
        !place.timeline && sent_ms(place) > end_ms
    }

    /// The user's own member event, whatever the membership.
    pub fn own_member_event(&self) -> Option<String> {
        self.event_json(self.of_user.own_event?)
    }

    fn event_json(&self, place: Place) -> Option<String> {
        let archive = self.view.get(Table::Events, &key::event(self.room.number, place))?;
        let record = EventRecord::access(archive)?;
        let seen = self.without_later_reason(&record.json, &record.kind);
        Some(seen.unwrap_or_else(|| record.json.as_str().to_owned()))
    }

    /// A stored event as the user may see it.
    fn event(&self, archive: &[u8]) -> Option<EventRecord> {
        let record = EventRecord::decode(archive)?;
        let seen = self.without_later_reason(&record.json, &record.kind);
        Some(match seen {
            Some(json) => EventRecord { json, ..record },
            None => record,
        })
    }

    /// A redacted event without the redaction, where that came after the user's
    /// time in the room: that something was taken back is no secret, by whom and
    /// why is. `None` where the event may be seen as it is.
    fn without_later_reason(&self, json: &str, kind: &str) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Redacted {
            unsigned: Unsigned,
        }
        #[derive(serde::Deserialize)]
        struct Unsigned {
            redacted_because: Because,
        }
        #[derive(serde::Deserialize)]
        struct Because {
            event_id: Option<String>,
        }
        if self.is_joined() || !json.contains("redacted_because") {
            return None;
        }
        let redacted: Redacted = serde_json::from_str(json).ok()?;
        let because = redacted.unsigned.redacted_because.event_id;
        let place = because.and_then(|event_id| {
            let key = key::event_id(self.room.number, &event_id);
            self.view.get(Table::EventIds, &key).and_then(key::place_from)
        });
        let is_seen = place.is_some_and(|it| it.timeline && it.sequence <= self.visible.1);
        let version = self.room.version.as_deref().unwrap_or_default();
        (!is_seen).then(|| redact(json, kind, version))
    }

    /// Whether every member is in the stored state.
    pub fn members_complete(&self) -> bool {
        self.room.members_complete
    }

    /// Who is typing, where the user is there to see it.
    pub fn typing(&self) -> &'a [Arc<str>] {
        if self.is_joined() { &self.room.typing } else { &[] }
    }
}

/// Events of one room that are looked at for the last that bumps it.
const BUMPS_LOOKED_AT_MAX: usize = 100;

/// An entry of the state that may be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleState {
    /// When it last changed.
    pub changed: Sequence,
    /// The event.
    pub json: String,
}
