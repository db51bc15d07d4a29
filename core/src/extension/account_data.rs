//! `account_data` (MSC3959): global, and of the rooms in scope. Everything the
//! first time and when a room is joined again, what changed from then on.

use std::sync::Arc;

use super::{Scoping, note, told};
use crate::{
    connection::State,
    id::{RoomNumber, Sequence},
    record::{AccountDataRecord, key},
    request::Scope,
    response::{AccountData, Objects},
    view::{Direction, Table},
};

pub(super) fn answer(scoping: Scoping<'_>, scope: &Scope, next: &mut State) -> AccountData {
    let source = scoping.asked.source;
    let mut answer = AccountData::default();
    let before = scoping.asked.base.and_then(|base| base.account_data);
    if before.is_none_or(|before| source.user.account_data_changed > before) {
        answer.global = changed_since(scoping, None, before);
    }
    next.account_data = Some(source.world.sequence);
    for gate in scoping.gates(scope) {
        let room = gate.room_number();
        let before = told(scoping.asked, &gate).account_data;
        let changed = gate.of_user().account_data_changed;
        if before.is_some_and(|before| changed <= before) {
            continue;
        }
        note(next, room, |told| told.account_data = Some(source.world.sequence));
        if changed == Sequence::default() {
            continue;
        }
        let events = changed_since(scoping, Some(room), before);
        if !events.is_empty() {
            answer.rooms.push((Arc::clone(gate.room_id()), events));
        }
    }
    answer
}

fn changed_since(
    scoping: Scoping<'_>,
    room: Option<RoomNumber>,
    before: Option<Sequence>,
) -> Objects {
    let source = scoping.asked.source;
    let from = key::account_data_of(source.user.number, room);
    let to = key::after_prefix(&from);
    let mut events = Objects::default();
    source.view.scan(Table::AccountData, &from, &to, Direction::Forward, &mut |_, archive| {
        if let Some(record) = AccountDataRecord::access(archive)
            && before.is_none_or(|before| record.changed.to_native() > before.0)
        {
            events.push(&record.json);
        }
        true
    });
    events
}
