//! Which of two events for one entry of the state is newer, by what they say themselves.
//!
//! A homeserver that says which event another took the place of
//! (`unsigned.replaces_state`: Synapse, Dendrite and others do) leaves no doubt, where
//! the clocks of those who sent the two say what they like.

use std::cmp::Ordering;

use super::fold::Fold;
use crate::{id::RoomNumber, record::Place, upstream::SyncEvent, world::Room};

/// How many events are followed from one to what it took the place of.
const STEPS_MAX: usize = 10;

impl Fold<'_> {
    /// Whether `event` came before or behind the stored one at `other`, which is of the
    /// same entry of the state; `None` where nothing says so.
    pub(super) fn order(&self, room: &Room, event: &SyncEvent, other: Place) -> Option<Ordering> {
        let stored = self.event(room.number, other)?;
        if stored.event_id == event.event_id {
            return Some(Ordering::Equal);
        }
        if self.leads_back(room.number, &event.json, &stored.event_id) {
            return Some(Ordering::Greater);
        }
        let is_older = self.leads_back(room.number, &stored.json, &event.event_id);
        is_older.then_some(Ordering::Less)
    }

    /// Whether `event` is newer than the stored one at `other`: by the clocks of those who
    /// sent the two, where nothing else says so.
    pub(super) fn is_newer(&self, room: &Room, event: &SyncEvent, other: Place) -> bool {
        match self.order(room, event, other) {
            Some(order) => order == Ordering::Greater,
            None => event.origin_server_ts > self.sent_ms(room, other),
        }
    }

    /// Whether an event took the place of another, or of one that did, and so on.
    pub(super) fn leads_back(&self, room: RoomNumber, json: &str, to: &str) -> bool {
        let mut next = replaces_state(json);
        for _ in 0..STEPS_MAX {
            let Some(event_id) = next else { return false };
            if event_id == to {
                return true;
            }
            let place = self.place(room, &event_id);
            let event = place.and_then(|place| self.event(room, place));
            next = event.and_then(|event| replaces_state(&event.json));
        }
        false
    }
}

/// `unsigned.replaces_state`.
pub(super) fn replaces_state(json: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Event {
        unsigned: Unsigned,
    }
    #[derive(serde::Deserialize)]
    struct Unsigned {
        replaces_state: String,
    }
    if !json.contains("replaces_state") {
        return None;
    }
    serde_json::from_str::<Event>(json).ok().map(|event| event.unsigned.replaces_state)
}
