//! MSC3575's orders. Total: what the asked for leave open, the last event
//! decides.

use std::{cmp::Reverse, rc::Rc};

use super::Source;
use crate::{
    gate::Gate,
    id::RoomNumber,
    name,
    record::Membership,
    request::{ListRequest, Sort},
};

/// What one order says of a room.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(Reverse<u64>),
    Name(Rc<str>),
}

/// Sorts `rooms`, which are in order of their last event.
pub(crate) fn sort(source: Source<'_>, rooms: &mut [RoomNumber], wanted: &ListRequest) {
    let as_they_are = |sort: &Sort| *sort == Sort::Recency && wanted.bump_event_types.is_none();
    if wanted.sort.first().is_none_or(as_they_are) {
        return;
    }
    // The sort is stable: rooms that are alike keep the order that they are in.
    rooms.sort_by_cached_key(|room| {
        let of_room = |sort: &Sort| key(source, *room, *sort, wanted);
        wanted.sort.iter().map_while(of_room).collect::<Vec<_>>()
    });
}

/// `None` where the order is that of the last event, which ends all others.
fn key(source: Source<'_>, room: RoomNumber, sort: Sort, wanted: &ListRequest) -> Option<Key> {
    let gate = source
        .world
        .room(room)
        .and_then(|facts| Gate::new(source.view, facts, source.user, source.world.sequence));
    let number = |number: u64| Some(Key::Number(Reverse(number)));
    let Some(gate) = gate else { return number(0) };
    let (notifications, highlights) = unread(gate);
    match sort {
        Sort::Recency => {
            let types = wanted.bump_event_types.as_ref()?;
            number(gate.recency_ms(Some(types)))
        }
        Sort::Name => {
            let name = || name::sorted_by(&name::of(gate).text).into();
            Some(Key::Name(source.memo.sorted_by(room, name)))
        }
        Sort::NotificationCount => number(notifications),
        Sort::HighlightCount => number(highlights),
        Sort::NotificationLevel if highlights > 0 => number(3),
        Sort::NotificationLevel if notifications > 0 => number(1 + u64::from(gate.is_encrypted())),
        Sort::NotificationLevel => number(0),
    }
}

/// Unread notifications and highlights. An invite asks for attention as a
/// highlight does.
pub(crate) fn unread(gate: Gate<'_>) -> (u64, u64) {
    match gate.of_user().membership {
        Membership::Invite => (0, 1),
        _ => gate.of_user().unread,
    }
}
