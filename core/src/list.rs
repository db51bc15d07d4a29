//! Lists: which rooms, in which order, and the windows into them.
//!
//! Pure functions over a user and a world. What is sent of a room, and whether,
//! is [`crate::connection`]'s business.

mod memo;
mod operations;
mod sort;

use std::{collections::BTreeSet, rc::Rc};

pub use memo::Memo;
pub use operations::{Operation, Runs, operations, runs};
pub(crate) use sort::{sort, unread};

use crate::{
    gate::Gate,
    id::RoomNumber,
    name,
    record::{ArchivedStateRecord, EventRecord, Membership, Place, StateRecord, key},
    request::{Dialect, Filters},
    user::{Order, Rank, User, UserRoom},
    view::{Direction, Table, View},
    world::{Room, World},
};

/// What lists are computed from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The global facts.
    pub world: &'a World,
    /// Whose lists.
    pub user: &'a User,
    /// The tables.
    pub view: &'a dyn View,
    /// What was computed of them.
    pub memo: &'a Memo,
}

/// The rooms of a list in order, newest first. `newly_left` are rooms, in order,
/// that the user has left and the connection has yet to learn of; each is a
/// member this once.
pub fn members(
    source: Source<'_>,
    dialect: Dialect,
    filters: &Filters,
    newly_left: &[Rank],
) -> Vec<RoomNumber> {
    let filter = Filter {
        source,
        dialect,
        filters,
        children: filters.spaces.as_ref().map(|spaces| space_children(source, spaces)),
        like: filters.room_name_like.as_ref().map(|like| like.to_lowercase()),
    };
    let is_listed = |room: &RoomNumber| {
        source.user.rooms.get(room).is_some_and(|of_user| dialect.lists(of_user))
    };
    let is_unfiltered = filters.is_empty();
    let passes = |rank: &&Rank| {
        let room = &rank.2;
        let is_shown =
            !dialect.hides_rooms() || is_listed(room) || newly_left.binary_search(*rank).is_ok();
        is_shown
            && !(dialect.hides_old_rooms() && is_old(source, *room))
            && (is_unfiltered || filter.lets_pass(*room))
    };
    let ranks = merged(&source.user.order, newly_left).filter(|rank| passes(rank));
    let mut rooms: Vec<RoomNumber> = ranks.map(|(_, _, room)| *room).collect();
    // One that the order has too, although this dialect does not list it.
    rooms.dedup();
    rooms
}

/// The beginning of a list.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Those of the [`members`] that windows reach.
    pub rooms: Vec<RoomNumber>,
    /// How many members there are in all.
    pub count: usize,
    /// The digest of the set of all members, where it is at hand.
    pub digest: Option<u64>,
}

/// Those of [`members`] that windows up to `end` reach, and how many there are
/// in all: a long list is not collected to show its beginning.
pub fn head(
    source: Source<'_>,
    dialect: Dialect,
    filters: &Filters,
    newly_left: &[Rank],
    end: u64,
) -> Head {
    let is_order = filters.is_empty() && !dialect.hides_rooms() && !dialect.hides_old_rooms();
    if !is_order {
        let rooms = members(source, dialect, filters, newly_left);
        return Head { count: rooms.len(), rooms, digest: None };
    }
    let order = &source.user.order;
    let end = usize::try_from(end).unwrap_or(usize::MAX).saturating_add(1);
    let rooms = merged(order, newly_left).take(end).map(|(_, _, room)| *room).collect();
    let digest = newly_left.is_empty().then(|| order.digest());
    Head { rooms, count: order.len() + newly_left.len(), digest }
}

/// Both in one order.
fn merged<'a>(order: &'a Order, newly_left: &'a [Rank]) -> impl Iterator<Item = &'a Rank> {
    let (mut order, mut left) = (order.iter().peekable(), newly_left.iter().peekable());
    std::iter::from_fn(move || match (order.peek(), left.peek()) {
        (Some(one), Some(other)) if other < one => left.next(),
        (None, _) => left.next(),
        _ => order.next(),
    })
}

/// The part of `rooms` in a range with both ends included; nothing where the
/// range is inverted or beyond the end.
pub fn window(rooms: &[RoomNumber], (from, to): (u64, u64)) -> &[RoomNumber] {
    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let end = index(to).saturating_add(1).min(rooms.len());
    rooms.get(index(from)..end).unwrap_or_default()
}

fn is_in(source: Source<'_>, room: RoomNumber) -> bool {
    let (facts, of_user) = (source.world.room(room), source.user.rooms.get(&room));
    facts.zip(of_user).is_some_and(|(facts, of_user)| of_user.is_in(facts))
}

/// Whether the user has joined the room that replaced this one. That it was
/// replaced is known to its members alone.
fn is_old(source: Source<'_>, room: RoomNumber) -> bool {
    let is_joined = |room: RoomNumber| is_in(source, room);
    let successor = source.world.room(room).and_then(|facts| facts.successor.as_deref());
    let successor = successor.and_then(|room_id| source.world.find_room(room_id));
    successor.is_some_and(|successor| {
        successor.number != room && is_joined(successor.number) && is_joined(room)
    })
}

/// A list's filters, and what is the same for every room.
struct Filter<'a> {
    source: Source<'a>,
    dialect: Dialect,
    filters: &'a Filters,
    /// The rooms in the spaces that are asked for.
    children: Option<BTreeSet<RoomNumber>>,
    /// What names are to have in them, in small letters.
    like: Option<String>,
}

impl Filter<'_> {
    fn lets_pass(&self, room: RoomNumber) -> bool {
        let Self { source, filters, .. } = *self;
        let (Some(facts), Some(of_user)) = (source.world.room(room), source.user.rooms.get(&room))
        else {
            return false;
        };
        let invited = of_user.membership == Membership::Invite;
        let joined = of_user.is_in(facts);
        let is = |wanted: Option<bool>, is: Option<bool>| wanted.is_none() || wanted == is;
        let tagged = |tags: &BTreeSet<String>| of_user.tags.iter().any(|tag| tags.contains(tag));
        is(filters.is_dm, Some(source.user.direct.contains(&facts.id)))
            && is(filters.is_invite, Some(invited))
            && is(filters.is_tombstoned, Some(joined && facts.successor.is_some()))
            && (filters.is_encrypted.is_none()
                || is(filters.is_encrypted, is_encrypted(source, facts, of_user)))
            && type_passes(source, filters, facts, of_user)
            && filters.tags.as_ref().is_none_or(tagged)
            && !filters.not_tags.as_ref().is_some_and(tagged)
            && self.children.as_ref().is_none_or(|children| children.contains(&room))
            && self.like.as_ref().is_none_or(|like| {
                let name =
                    source.memo.searched(room, || self.searched_name(facts, of_user).map(small));
                name.is_some_and(|name| name.contains(&**like))
            })
    }

    /// The name that is searched; `None` where there is none that the dialect
    /// tells the user.
    fn searched_name(&self, room: &Room, of_user: &UserRoom) -> Option<String> {
        let Source { world, user, view, .. } = self.source;
        if self.dialect.names_rooms() {
            return Gate::new(view, room, user, world.sequence).map(|gate| name::of(gate).text);
        }
        let name = room.name.as_ref().or(room.canonical_alias.as_ref());
        let name = name.filter(|_| of_user.is_in(room));
        name.map(ToString::to_string)
    }
}

fn small(name: String) -> Rc<str> {
    name.to_lowercase().into()
}

/// What may be told of a room's facts: those of the room itself to who is or
/// was in it, those of the stripped state to who is not.
fn is_stripped(of_user: &UserRoom) -> bool {
    matches!(of_user.membership, Membership::Invite | Membership::Knock)
}

fn is_encrypted(source: Source<'_>, room: &Room, of_user: &UserRoom) -> Option<bool> {
    if of_user.is_in(room) {
        return Some(room.encryption.is_some());
    }
    if !is_stripped(of_user) {
        let gate = Gate::new(source.view, room, source.user, source.world.sequence);
        return gate.map(|gate| gate.is_encrypted());
    }
    let stripped = of_user.stripped(source.view, source.user.number, room.number);
    let has = |kind: &str| stripped.iter().any(|event| stripped_content(event, kind).is_some());
    has("m.room.create").then(|| has("m.room.encryption"))
}

fn type_passes(source: Source<'_>, filters: &Filters, room: &Room, of_user: &UserRoom) -> bool {
    if filters.room_types.is_none() && filters.not_room_types.is_none() {
        return true;
    }
    let gate = Gate::new(source.view, room, source.user, source.world.sequence);
    // A room's type never changes: who was in it knows it.
    let known = of_user.is_withheld(room).then(|| room.room_type.as_deref().map(str::to_owned));
    let room_type = known.or_else(|| gate.and_then(|gate| gate.room_type()));
    let Some(room_type) = room_type else { return false };
    filters.room_types.as_ref().is_none_or(|types| types.contains(&room_type))
        && !filters.not_room_types.as_ref().is_some_and(|types| types.contains(&room_type))
}

pub(crate) fn stripped_content(event: &str, kind: &str) -> Option<serde_json::Value> {
    #[derive(serde::Deserialize)]
    struct Stripped {
        #[serde(rename = "type")]
        kind: String,
        content: serde_json::Value,
    }
    let event: Stripped = serde_json::from_str(event).ok()?;
    (event.kind == kind).then_some(event.content)
}

/// The children of those of `spaces` that the user has joined.
fn space_children(source: Source<'_>, spaces: &BTreeSet<String>) -> BTreeSet<RoomNumber> {
    let is_joined = |space: &RoomNumber| is_in(source, *space);
    let spaces = spaces.iter().filter_map(|space| Some(source.world.find_room(space)?.number));
    source.memo.children(spaces.filter(is_joined), |space| children(source, space))
}

/// The direct children of one space.
fn children(source: Source<'_>, space: RoomNumber) -> Rc<[RoomNumber]> {
    let mut children = Vec::new();
    let from = key::state_of_type(space, "m.space.child");
    let to = key::after_prefix(&from);
    source.view.scan(Table::State, &from, &to, Direction::Forward, &mut |_, archive| {
        if let Some(child) = StateRecord::access(archive)
            && is_child(source, space, child)
            && let Some(child_room) = source.world.find_room(child.state_key.as_str())
        {
            children.push(child_room.number);
        }
        true
    });
    children.into()
}

/// Whether an `m.space.child` still says that there is one: it names servers.
fn is_child(source: Source<'_>, space: RoomNumber, child: &ArchivedStateRecord) -> bool {
    let sequence = child.place.sequence.to_native();
    let place = Place { timeline: child.place.timeline, sequence };
    let archive = source.view.get(Table::Events, &key::event(space, place));
    let content = archive
        .and_then(EventRecord::access)
        .and_then(|event| stripped_content(&event.json, "m.space.child"));
    content.is_some_and(|content| content.get("via").is_some_and(serde_json::Value::is_array))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_include_both_ends_and_never_reach_outside() {
        let rooms: Vec<RoomNumber> = (0..5).map(RoomNumber).collect();
        for (range, expected) in [
            ((0, 0), 0..1),
            ((0, 1), 0..2),
            ((3, 100), 3..5),
            ((0, u64::MAX), 0..5),
            ((5, 9), 0..0),
            ((4, 2), 0..0),
            ((u64::MAX, u64::MAX), 0..0),
        ] {
            let expected: Vec<RoomNumber> = expected.map(RoomNumber).collect();
            assert_eq!(window(&rooms, range), &*expected, "{range:?}");
        }
    }
}
