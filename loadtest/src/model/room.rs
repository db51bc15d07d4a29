//! One room: its events in order, its state at any moment, and who may see which event.
//!
//! Rules about who may *do* what are in `act`; nothing here refuses anything.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Event, Membership};

/// Where an event stands in its room's list of events.
pub type EventIndex = usize;

/// A room's whole history. Events are never taken out; state is looked up by where one stands in the list.
#[derive(Debug, Default)]
pub struct Room {
    /// `!…`
    pub room_id: String,
    /// The room version, which decides how redactions work.
    pub version: String,
    /// Every event, state included, oldest first.
    pub events: Vec<Event>,
    /// For each type and state key, the places of the events that set it, oldest first.
    pub history: BTreeMap<Box<str>, BTreeMap<Box<str>, Vec<EventIndex>>>,
    /// Who is in the room now.
    pub joined: BTreeSet<String>,
    /// Who is invited now.
    pub invited: BTreeSet<String>,
    /// Read receipts by (user, private, thread).
    pub receipts: BTreeMap<(String, bool, Option<String>), Receipt>,
    /// Who is typing, and until when, in unix milliseconds.
    pub typing: BTreeMap<String, u64>,
    /// When the set of who is typing last changed.
    pub typing_stream: u64,
    /// When anything that everybody in the room may see last changed.
    pub stream: u64,
}

/// How far somebody has read.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The event that the receipt is on.
    pub event_id: String,
    /// Its place in the room.
    pub index: EventIndex,
    /// Unix milliseconds.
    pub ts: u64,
    /// When the receipt came.
    pub stream: u64,
}

impl Room {
    /// The event that set this state as of just before `end`.
    pub fn state_at(&self, kind: &str, state_key: &str, end: EventIndex) -> Option<&Event> {
        let places = self.history.get(kind)?.get(state_key)?;
        let before = places.partition_point(|place| *place < end);
        before.checked_sub(1).map(|last| &self.events[places[last]])
    }

    /// The event that sets this state now.
    pub fn state(&self, kind: &str, state_key: &str) -> Option<&Event> {
        self.state_at(kind, state_key, self.events.len())
    }

    /// The places of the events that make up the state just before `end`.
    pub fn state_places_at(&self, end: EventIndex) -> impl Iterator<Item = EventIndex> + '_ {
        self.history.values().flat_map(BTreeMap::values).filter_map(move |places| {
            let before = places.partition_point(|place| *place < end);
            before.checked_sub(1).map(|last| places[last])
        })
    }

    /// A user's membership just before `end`.
    pub fn membership_at(&self, user_id: &str, end: EventIndex) -> Option<Membership> {
        self.state_at("m.room.member", user_id, end).and_then(|event| event.membership)
    }

    /// A user's membership now.
    pub fn membership(&self, user_id: &str) -> Option<Membership> {
        self.membership_at(user_id, self.events.len())
    }

    /// The place of the first event that came after `stream`.
    pub fn first_after(&self, stream: u64) -> EventIndex {
        self.events.partition_point(|event| event.stream <= stream)
    }

    /// The place of an event.
    pub fn find(&self, event_id: &str) -> Option<EventIndex> {
        self.events.iter().rposition(|event| &*event.event_id == event_id)
    }

    /// The place just after the last event that a user may see: the end while joined, else their departure.
    pub fn end_for(&self, user_id: &str) -> EventIndex {
        match self.membership(user_id) {
            Some(Membership::Leave | Membership::Ban) => self
                .history
                .get("m.room.member")
                .and_then(|members| members.get(user_id))
                .and_then(|places| places.last())
                .map_or(0, |place| place + 1),
            _ => self.events.len(),
        }
    }

    /// Whether `history_visibility` lets a user see the event at `place`.
    pub fn visible(&self, user_id: &str, place: EventIndex) -> bool {
        let event = &self.events[place];
        if event.membership.is_some() && event.state_key.as_deref() == Some(user_id) {
            return true;
        }
        let before = self.membership_at(user_id, place);
        if before == Some(Membership::Join) {
            return true;
        }
        let visibility = self
            .state_at("m.room.history_visibility", "", place)
            .and_then(|event| event.content_str("history_visibility"));
        match visibility.as_deref() {
            Some("world_readable") => true,
            Some("joined") => false,
            Some("invited") => before == Some(Membership::Invite),
            _ => self.joins_after(user_id, place),
        }
    }

    /// The place of the join event that began a user's present or last stay.
    pub fn stay_start(&self, user_id: &str) -> Option<EventIndex> {
        let places = self.history.get("m.room.member")?.get(user_id)?;
        let is_join = |place: &EventIndex| self.events[*place].membership == Some(Membership::Join);
        let last = places.iter().rposition(is_join)?;
        let first = places[..last].iter().rposition(|place| !is_join(place)).map_or(0, |at| at + 1);
        Some(places[first])
    }

    /// The room's explicit name.
    pub fn name(&self) -> Option<String> {
        self.state("m.room.name", "").and_then(|event| event.content_str("name"))
    }

    /// Whether messages are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.state("m.room.encryption", "").is_some()
    }

    /// Up to five others who stand for the room when it has no name: those in it or invited, longest first, else
    /// those who have left.
    pub fn heroes(&self, user_id: &str, end: EventIndex) -> Vec<&str> {
        let Some(members) = self.history.get("m.room.member") else { return Vec::new() };
        let mut present = Vec::new();
        let mut gone = Vec::new();
        for (member, places) in members.iter().filter(|(member, _)| &***member != user_id) {
            let before = places.partition_point(|place| *place < end);
            let Some(place) = before.checked_sub(1).map(|last| places[last]) else { continue };
            match self.events[place].membership {
                Some(Membership::Join | Membership::Invite) => present.push((place, &**member)),
                Some(Membership::Leave | Membership::Ban) => gone.push((place, &**member)),
                _ => {}
            }
        }
        let mut heroes = if present.is_empty() { gone } else { present };
        heroes.sort_unstable();
        heroes.into_iter().take(5).map(|(_, member)| member).collect()
    }

    /// Takes a new event in, and gives its place.
    pub(crate) fn push(&mut self, event: Event) -> EventIndex {
        let place = self.events.len();
        self.stream = event.stream;
        if let Some(state_key) = &event.state_key {
            if let Some(membership) = event.membership {
                self.joined.remove(&**state_key);
                self.invited.remove(&**state_key);
                match membership {
                    Membership::Join => _ = self.joined.insert(state_key.to_string()),
                    Membership::Invite => _ = self.invited.insert(state_key.to_string()),
                    _ => {}
                }
            }
            self.history
                .entry(event.kind.clone())
                .or_default()
                .entry(state_key.clone())
                .or_default()
                .push(place);
        }
        self.events.push(event);
        place
    }

    fn joins_after(&self, user_id: &str, place: EventIndex) -> bool {
        self.history.get("m.room.member").and_then(|members| members.get(user_id)).is_some_and(
            |places| {
                places
                    .iter()
                    .rev()
                    .take_while(|own| **own >= place)
                    .any(|own| self.events[*own].membership == Some(Membership::Join))
            },
        )
    }
}
