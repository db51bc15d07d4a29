//! State that is there no more, and what a client has to be told of it.

use super::{
    answer::RoomTurn,
    required::{MEMBER, is_between},
    state::SentRoom,
};
use crate::{json::push_string, world::Removed};

/// Whether the client holds state that is gone and cannot be told so but by
/// sending the room again as new.
pub(super) fn begins_anew(turn: RoomTurn<'_>, sent: &SentRoom) -> bool {
    if turn.gate.state_changed() <= sent.cursor {
        return false;
    }
    turn.gate.removed_before() > sent.cursor
        || (!turn.asked.request.dialect.tells_of_removed_state()
            && turn.gate.removed_state().any(|removed| {
                is_between(turn, sent, removed.changed)
                    && (is_held(turn, sent, removed) || is_in_summary(turn, sent, removed))
            }))
}

/// The stubs of wanted entries that are gone, in the dialect that has them.
pub(super) fn stubs(turn: RoomTurn<'_>, sent: &SentRoom, visit: &mut dyn FnMut(&Removed, &str)) {
    if !turn.asked.request.dialect.tells_of_removed_state() {
        return;
    }
    let wanted = &turn.config.required_state;
    for removed in turn.gate.removed_state() {
        // What was removed while the client did not ask for it, it may have held
        // before.
        let is_new_to = |removed: &Removed| {
            wanted.matches(&removed.kind, &removed.state_key)
                && !sent.config.required_state.matches(&removed.kind, &removed.state_key)
        };
        let is_news = is_between(turn, sent, removed.changed) && is_held(turn, sent, removed);
        if is_news || is_new_to(removed) {
            visit(removed, &stub(removed));
        }
    }
}

/// Whether the client may have been sent the entry, and asks for it. What it
/// asked for before is not always known.
fn is_held(turn: RoomTurn<'_>, sent: &SentRoom, removed: &Removed) -> bool {
    let (kind, state_key) = (&*removed.kind, &*removed.state_key);
    turn.config.required_state.matches(kind, state_key)
        || (kind == MEMBER && sent.lazy_members.contains(state_key))
}

/// Whether the client was sent what the entry said as a part of the room's own
/// entry, where its removal cannot be said.
fn is_in_summary(turn: RoomTurn<'_>, sent: &SentRoom, removed: &Removed) -> bool {
    !turn.asked.request.dialect.names_rooms()
        && removed.state_key.is_empty()
        && match &*removed.kind {
            "m.room.name" => sent.name != 0,
            "m.room.avatar" => sent.avatar != 0,
            _ => false,
        }
}

/// `StateStub` (MSC4186).
fn stub(removed: &Removed) -> String {
    let mut json = String::from(r#"{"type":"#);
    push_string(&mut json, &removed.kind);
    json.push_str(r#","state_key":"#);
    push_string(&mut json, &removed.state_key);
    json.push('}');
    json
}
