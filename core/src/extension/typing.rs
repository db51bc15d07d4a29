//! `typing` (MSC3961): who is typing now, in the rooms in scope; an empty list
//! when the last has stopped.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Scoping, note};
use crate::{
    connection::State,
    gate::Gate,
    id::RoomNumber,
    json::{push_comma, push_string},
    request::Scope,
};

pub(super) fn answer(
    scoping: Scoping<'_>,
    scope: &Scope,
    next: &mut State,
) -> Vec<(Arc<str>, String)> {
    let mut rooms = Vec::new();
    // Where only changed rooms are looked at, the scope is the same as before.
    if scoping.is_whole && scoping.asked.request.dialect.forgets_typing_out_of_scope() {
        forget_out_of_scope(&scoping.in_scope(scope), next);
    }
    for gate in scoping.gates(scope).filter(Gate::is_joined) {
        let room = gate.room_number();
        let ever = next.scopes.get(&room).and_then(|told| told.typing);
        let before = gate.told_in_stay(ever);
        if before.is_some_and(|before| gate.typing_changed() <= before) {
            continue;
        }
        note(next, room, |told| told.typing = Some(scoping.asked.source.world.sequence));
        // That nobody types is news only to who was told of somebody. After another
        // stay it is always told, so that it does not tell of typing in between.
        if ever.is_some() || !gate.typing().is_empty() {
            rooms.push((Arc::clone(gate.room_id()), event(gate.typing())));
        }
    }
    rooms
}

/// What a client was told of a room that has left the scope is gone from it.
fn forget_out_of_scope(in_scope: &[RoomNumber], next: &mut State) {
    let in_scope: FxHashSet<RoomNumber> = in_scope.iter().copied().collect();
    let told = next
        .scopes
        .iter()
        .filter(|(room, scope)| scope.typing.is_some() && !in_scope.contains(*room));
    let gone: Vec<RoomNumber> = told.map(|(room, _)| *room).collect();
    for room in gone {
        note(next, room, |told| told.typing = None);
    }
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
