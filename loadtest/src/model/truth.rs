//! What a user ought to have been shown, so that a test can compare it with what a client saw.
//!
//! Computed from the history alone, and by none of the code that answers `/sync`.

use std::collections::BTreeMap;

use super::event::{Event, Membership};
use super::{Homeserver, Room};

/// Everything that one user may know of rooms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    /// Every room that the user has ever had to do with and not forgotten.
    pub rooms: BTreeMap<String, RoomTruth>,
}

/// What one user may know of one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomTruth {
    /// The user's membership now.
    pub membership: Membership,
    /// The ids of the events since the user's last joining, that one included, oldest first; up to and including
    /// the departure of a user who has left.
    pub timeline: Vec<String>,
    /// The room's explicit name, as far as the user may know it.
    pub name: Option<String>,
    /// The event ids of the state by (type, state key), as of now or of the user's departure; empty for a user who
    /// was never in the room.
    pub state: BTreeMap<(String, String), String>,
}

impl Homeserver {
    /// What a user ought to have been shown by now.
    pub fn truth(&self, user_id: &str) -> Truth {
        let mut truth = Truth::default();
        let Some(user) = self.users.get(user_id) else { return truth };
        for (room_id, user_room) in &user.rooms {
            let Some(room) = self.rooms.get(room_id).filter(|_| !user_room.forgotten) else {
                continue;
            };
            if let Some(membership) = room.membership(user_id) {
                truth.rooms.insert(room_id.clone(), room_truth(room, user_id, membership));
            }
        }
        truth
    }
}

fn room_truth(room: &Room, user_id: &str, membership: Membership) -> RoomTruth {
    let nothing =
        RoomTruth { membership, timeline: Vec::new(), name: None, state: BTreeMap::new() };
    let invited = matches!(membership, Membership::Invite | Membership::Knock);
    let Some(start) = room.stay_start(user_id).filter(|_| !invited) else { return nothing };
    let is_departure = |event: &Event| {
        event.state_key.as_deref() == Some(user_id)
            && event.membership.is_some_and(|membership| membership != Membership::Join)
    };
    let departure = room.events[start..].iter().position(is_departure);
    let end = departure.map_or(room.events.len(), |after| start + after + 1);
    let timeline = room.events[start..end].iter().map(|event| event.event_id.to_string()).collect();
    let mut state = BTreeMap::new();
    for event in &room.events[..end] {
        if let Some(state_key) = &event.state_key {
            let key = (event.kind.to_string(), state_key.to_string());
            state.insert(key, event.event_id.to_string());
        }
    }
    let name = room.state_at("m.room.name", "", end).and_then(|event| event.content_str("name"));
    RoomTruth { membership, timeline, name, state }
}
