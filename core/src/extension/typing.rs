//! `typing` (MSC3961): who is typing now, in the rooms in scope; an empty list
//! when the last has stopped.

use std::sync::Arc;

use super::{Scoping, note, told};
use crate::{
    connection::State,
    gate::Gate,
    json::{push_comma, push_string},
    request::Scope,
};

pub(super) fn answer(
    scoping: Scoping<'_>,
    scope: &Scope,
    next: &mut State,
) -> Vec<(Arc<str>, String)> {
    let mut rooms = Vec::new();
    for gate in scoping.gates(scope).filter(Gate::is_joined) {
        let room = gate.room_number();
        let before = told(scoping.asked, room).typing;
        if before.is_some_and(|before| gate.typing_changed() <= before) {
            continue;
        }
        note(next, room, |told| told.typing = Some(scoping.asked.source.world.sequence));
        // That nobody types is news only to who was told of somebody.
        if before.is_some() || !gate.typing().is_empty() {
            rooms.push((Arc::clone(gate.room_id()), event(gate.typing())));
        }
    }
    rooms
}

fn event(user_ids: &[Arc<str>]) -> String {
    let mut out = String::from(r#"{"type":"m.typing","content":{"user_ids":["#);
    for user_id in user_ids {
        push_comma(&mut out);
        push_string(&mut out, user_id);
    }
    out.push_str("]}}");
    out
}
