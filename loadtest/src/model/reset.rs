//! State that changes without an event that says so, as a state reset does: no `/sync` ever tells of it.

use super::event::Membership;
use super::{Homeserver, Room};

impl Homeserver {
    /// Takes an entry out of a room's state; true where there was one. A member event takes its user out of the room.
    pub fn take_state_away(&mut self, room_id: &str, kind: &str, state_key: &str) -> bool {
        let Some(room) = self.rooms.get_mut(room_id) else { return false };
        let of_kind = room.history.get_mut(kind);
        let taken = of_kind.is_some_and(|entries| entries.remove(state_key).is_some());
        settle_member(room, kind, state_key);
        taken
    }

    /// Has the event hold again that came before the present one; true where there is one.
    pub fn take_state_back(&mut self, room_id: &str, kind: &str, state_key: &str) -> bool {
        let Some(room) = self.rooms.get_mut(room_id) else { return false };
        let places = room.history.get_mut(kind).and_then(|entries| entries.get_mut(state_key));
        let Some(places) = places.filter(|places| places.len() > 1) else { return false };
        places.pop();
        settle_member(room, kind, state_key);
        true
    }
}

/// Has who is in the room agree with what the state says of them.
fn settle_member(room: &mut Room, kind: &str, state_key: &str) {
    if kind != "m.room.member" {
        return;
    }
    room.joined.remove(state_key);
    room.invited.remove(state_key);
    match room.membership(state_key) {
        Some(Membership::Join) => _ = room.joined.insert(state_key.to_owned()),
        Some(Membership::Invite) => _ = room.invited.insert(state_key.to_owned()),
        _ => {}
    }
}
