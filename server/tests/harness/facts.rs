//! What a user ought to have been shown, as the model tells it.

use std::collections::BTreeMap;

use luge_loadtest::model::{Homeserver, Membership, RoomTruth};

/// Everything that is known of one user's rooms.
pub(crate) struct Facts {
    pub(crate) rooms: BTreeMap<String, RoomFacts>,
}

/// The same of one room.
pub(crate) struct RoomFacts {
    pub(crate) truth: RoomTruth,
    /// All events up to the user's departure, oldest first: id, and what it is.
    pub(crate) events: Vec<(String, String)>,
    /// Whether it was somebody else who ended the user's stay.
    pub(crate) put_out: bool,
    pub(crate) joined_count: usize,
    pub(crate) invited_count: usize,
}

impl Facts {
    pub(crate) fn of(homeserver: &Homeserver, user_id: &str) -> Self {
        let rooms = homeserver.truth(user_id).rooms.into_iter().filter_map(|(room_id, truth)| {
            let room = homeserver.room(&room_id)?;
            let end = room.end_for(user_id);
            let events = room.events[..end].iter().map(|event| {
                let state_key = event.state_key.as_deref().unwrap_or("-");
                let what = format!("{} {state_key} {:?}", event.kind, event.membership);
                (event.event_id.to_string(), what)
            });
            let own = room.state("m.room.member", user_id)?;
            let facts = RoomFacts {
                truth,
                events: events.collect(),
                put_out: *own.sender != *user_id,
                joined_count: room.joined.len(),
                invited_count: room.invited.len(),
            };
            Some((room_id, facts))
        });
        Self { rooms: rooms.collect() }
    }
}

impl RoomFacts {
    /// Whether the room is in the user's list. One that they left of themselves is not.
    pub(crate) fn is_listed(&self) -> bool {
        match self.truth.membership {
            Membership::Join | Membership::Invite | Membership::Knock => true,
            Membership::Leave | Membership::Ban => self.put_out,
        }
    }
}

impl RoomFacts {
    /// What is wrong with a timeline that was assembled, if anything: it must be, from its first
    /// event on, everything that the user may see, in order. Of what came before the user's stay
    /// they may see a part, which only the order of is known here.
    pub(crate) fn fault_of(&self, timeline: &[&str], wanted: usize) -> Option<String> {
        let stay = self.events.len() - self.truth.timeline.len().min(self.events.len());
        let place = |id: &str| self.events.iter().position(|(event_id, _)| event_id == id);
        let places: Option<Vec<usize>> = timeline.iter().map(|id| place(id)).collect();
        let Some(places) = places else {
            let strange: Vec<_> = timeline.iter().filter(|id| place(id).is_none()).collect();
            return Some(format!("shows {strange:?}, which the user may not see"));
        };
        if !places.is_sorted_by(|left, right| left < right) {
            return Some(format!("is out of order: {places:?}"));
        }
        let from = places.first().map_or(self.events.len(), |first| (*first).max(stay));
        let lacks: Vec<_> = (from..self.events.len())
            .filter(|at| !places.contains(at))
            .map(|at| (at, &self.events[at]))
            .collect();
        if !lacks.is_empty() {
            return Some(format!(
                "has {places:?} of {} from {stay} on and lacks {lacks:?}",
                self.events.len()
            ));
        }
        (timeline.len() < wanted.min(self.truth.timeline.len()))
            .then(|| format!("is {} events long: {places:?}", timeline.len()))
    }
}
