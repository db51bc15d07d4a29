//! `required_state`: the state that a client asked for, as far as it lacks it.

use std::{collections::BTreeSet, sync::Arc};

use imbl::OrdSet;

use super::{
    answer::{RoomTurn, Want},
    member::TimelineTurn,
    removed,
    state::SentRoom,
};
pub(super) use crate::request::MEMBER;
use crate::{
    id::{RoomNumber, Sequence},
    record::key,
    request::RequiredState,
    response::Objects,
    view::KeyRanges,
};

/// Members remembered of a room as told for the timeline's sake; beyond it some
/// are told again.
const LAZY_MEMBERS_MAX: usize = 100;

/// What the state of a usual room comes to.
const EVENTS_BYTES: usize = 3 * 1024;

/// The state to send, and the lazy members that the client holds then.
pub(super) struct Required {
    pub(super) events: Objects,
    pub(super) held: Held,
    /// Whether the client lacks members that it was told to lack before.
    pub(super) lacks_members: bool,
}

/// The lazy members that the client holds, and those that it needs and nobody
/// has.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) members: OrdSet<Arc<str>>,
    pub(super) missing: OrdSet<Arc<str>>,
}

/// The wanted entries that changed since `before`, all of those that were not
/// wanted before, and the members that the timeline needs.
pub(super) fn state(
    turn: RoomTurn<'_>,
    before: Option<&SentRoom>,
    timeline: &TimelineTurn,
    wants: &mut Vec<Want>,
) -> Required {
    let wanted = &turn.config.required_state;
    let mut required = Required {
        events: Objects::default(),
        held: before.map_or_else(Held::default, |sent| Held {
            members: sent.lazy_members.clone(),
            missing: sent.missing_members.clone(),
        }),
        lacks_members: false,
    };
    let is_new = |kind: &str, state_key: &str, changed: Sequence| match before {
        None => true,
        Some(sent) => {
            is_between(turn, sent, changed)
                || !(Arc::ptr_eq(&sent.config, turn.config)
                    || sent.config.required_state.matches(kind, state_key))
        }
    };
    let unchanged = before.is_some_and(|sent| {
        turn.gate.state_changed() <= sent.cursor
            && (Arc::ptr_eq(&sent.config, turn.config) || sent.config.required_state.covers(wanted))
    });
    if !unchanged {
        if before.is_none() && wanted.types.len() > 4 {
            required.events.reserve(EVENTS_BYTES);
        }
        each_wanted(turn, wanted, &is_new, &mut |event| required.events.push(event));
        if let Some(sent) = before {
            removed::stubs(turn, sent, &mut |removed, stub| {
                required.events.push(stub);
                if *removed.kind == *MEMBER {
                    required.held.members.remove(&*removed.state_key);
                }
            });
        }
    }
    if turn.lacks_members() {
        required.lacks_members = unchanged;
        if !unchanged {
            wants.push(Want::Members(turn.gate.room_number()));
        }
    }
    if wanted.lazy_members && !wanted.wants_all_members() {
        let people = &timeline.people;
        if !timeline.is_limited() {
            corrected_members(turn, before, people, &mut required.events);
        }
        lazy_members(turn, before, people, &mut required, wants);
    } else {
        required.held = Held::default();
    }
    required
}

/// Whether an entry changed since the client was told of the room. What is newer
/// than this shard's world comes with the next: whether the user may see it is
/// not known here yet.
pub(super) fn is_between(turn: RoomTurn<'_>, sent: &SentRoom, changed: Sequence) -> bool {
    changed > sent.cursor && changed <= turn.asked.source.world.sequence
}

/// Visits the events of the wanted entries that are new to the client, each once.
pub(super) fn each_wanted(
    turn: RoomTurn<'_>,
    wanted: &RequiredState,
    is_new: &dyn Fn(&str, &str, Sequence) -> bool,
    visit: &mut dyn FnMut(&str),
) {
    let room = turn.gate.room_number();
    let mut wants = |kind: &str, state_key: &str, changed| {
        wanted.matches(kind, state_key) && is_new(kind, state_key, changed)
    };
    if is_alike_in_all_rooms(wanted) {
        let memo = turn.asked.source.memo;
        memo.state_ranges(
            room,
            turn.config,
            || ranges(room, wanted),
            |ranges| {
                turn.gate.each_state(ranges, &mut wants, visit);
            },
        );
    } else {
        turn.gate.each_state(&ranges(room, wanted), &mut wants, visit);
    }
}

/// Whether what is wanted lies at the same keys in all rooms, but for the room.
fn is_alike_in_all_rooms(wanted: &RequiredState) -> bool {
    let is_plain = |(kind, keys): (&String, &Option<BTreeSet<String>>)| {
        let mut keys = keys.iter().flatten();
        keys.all(|state_key| key::is_state_key_plain(kind, state_key))
    };
    !is_whole_room(wanted) && wanted.types.iter().all(is_plain)
}

/// Whether what is wanted may lie anywhere among a room's state.
fn is_whole_room(wanted: &RequiredState) -> bool {
    wanted.all || !wanted.state_keys.is_empty() || !wanted.partial.is_empty()
}

/// Where in the state table everything lies that is wanted of a room, and
/// perhaps more.
fn ranges(room: RoomNumber, wanted: &RequiredState) -> KeyRanges {
    let mut ranges = KeyRanges::with_capacity(wanted.types.len().max(1), 64);
    if is_whole_room(wanted) {
        ranges.add_prefix(&key::room(room));
        return ranges;
    }
    for (kind, keys) in &wanted.types {
        match keys {
            None => ranges.add_prefix(&key::state_of_type(room, kind)),
            Some(keys) => {
                keys.iter().for_each(|it| key::add_state(&mut ranges, room, kind, it));
            }
        }
    }
    ranges.settle();
    ranges
}

/// The members that changed without an event in the timeline, and that nothing
/// else brings: a client that misses no event takes the members that it has for
/// all.
fn corrected_members(
    turn: RoomTurn<'_>,
    before: Option<&SentRoom>,
    people: &[String],
    events: &mut Objects,
) {
    let sent = before.filter(|sent| turn.gate.members_corrected() > sent.cursor);
    let Some(sent) = sent else { return };
    let mut ranges = KeyRanges::default();
    ranges.add_prefix(&key::state_of_type(turn.gate.room_number(), MEMBER));
    let mut wants = |kind: &str, user_id: &str, changed| {
        is_between(turn, sent, changed)
            && !turn.config.required_state.matches(kind, user_id)
            && !sent.lazy_members.contains(user_id)
            && !people.iter().any(|it| it == user_id)
    };
    turn.gate.each_state(&ranges, &mut wants, &mut |event| events.push(event));
}

/// The members of `people` that the client does not hold, and those that it
/// holds and that changed.
fn lazy_members(
    turn: RoomTurn<'_>,
    before: Option<&SentRoom>,
    people: &[String],
    required: &mut Required,
    wants: &mut Vec<Want>,
) {
    let wanted = &turn.config.required_state;
    if let Some(sent) = before.filter(|sent| turn.gate.state_changed() > sent.cursor) {
        for user_id in &sent.lazy_members {
            let entry = turn.gate.state(MEMBER, user_id);
            let entry = entry.filter(|entry| is_between(turn, sent, entry.changed));
            if let Some(entry) = entry.filter(|_| !wanted.matches(MEMBER, user_id)) {
                required.events.push(&entry.json);
            }
        }
    }
    let missing = std::mem::take(&mut required.held.missing);
    let missing = missing.iter().map(|user_id| &**user_id);
    let held = &mut required.held;
    for user_id in missing.chain(people.iter().map(|user_id| &**user_id)) {
        if wanted.matches(MEMBER, user_id) || held.members.contains(user_id) {
            continue;
        }
        match turn.gate.state(MEMBER, user_id) {
            Some(entry) => {
                required.events.push(&entry.json);
                held.members.insert(Arc::from(user_id));
            }
            None if turn.gate.is_joined() && held.missing.len() < LAZY_MEMBERS_MAX => {
                wants.push(Want::Member(turn.gate.room_number(), user_id.to_owned()));
                held.missing.insert(Arc::from(user_id));
            }
            None => {}
        }
    }
    while held.members.len() > LAZY_MEMBERS_MAX {
        let surplus = held.members.iter().find(|it| !people.iter().any(|p| **p == ***it));
        let Some(surplus) = surplus.cloned() else { break };
        held.members.remove(&surplus);
    }
}
