//! Lists as each dialect tells of them, and what that means for extensions'
//! scopes.

use std::collections::{BTreeMap, BTreeSet};

use luge_core::{request::Dialect, response::Response};
use serde_json::Value;

use crate::{
    client::{Connection, Unsent},
    homeserver::room_of,
    order,
    wanted::{EXTENSIONS, ListWanted, ScopeWanted, Wanted, extension_name},
};

/// The rooms that the server has at the indices of each list's windows: what a
/// client must come to, or is not told of at all.
pub(crate) type Windows = BTreeMap<String, Vec<(u64, usize)>>;

/// The windows that a response was made of.
pub(crate) fn windows(response: &Response) -> Windows {
    let lists = response.lists.iter().map(|(key, list)| {
        let in_windows = list.windows.iter().flat_map(|window| {
            let rooms = window.room_ids.iter().map(|room_id| room_of(room_id));
            (window.range.0..).zip(rooms)
        });
        (key.clone(), in_windows.collect())
    });
    lists.collect()
}

impl Connection {
    /// Takes in what an answer says of the lists that `wanted` asks for.
    pub(crate) fn lists(&mut self, lists: &Value, wanted: &Wanted, windows: &Windows, now_ms: u64) {
        let empty = serde_json::Map::new();
        let lists = lists.as_object().unwrap_or(&empty);
        let told: BTreeSet<&String> = lists.keys().collect();
        let asked: BTreeSet<&String> = wanted.lists.keys().collect();
        assert_eq!(told, asked, "the lists that were asked for, and no other");
        self.orders.retain(|key, _| lists.contains_key(key));
        self.listed.clear();
        self.unsent.retain(|room, _| windows.values().flatten().any(|(_, it)| it == room));
        self.counts.clear();
        for (key, list) in lists {
            let count = list["count"].as_u64().expect("a list has a count");
            let (of, truth) = (&wanted.lists[key], &windows[key]);
            let rooms = match self.dialect {
                Dialect::Simplified => simplified(list, count, of, truth),
                Dialect::V4 => {
                    assert_eq!(list.get("ops"), None, "a list has its count alone");
                    truth.iter().map(|(_, room)| *room).collect()
                }
                Dialect::Msc3575 => {
                    msc3575(self.orders.entry(key.clone()).or_default(), list, of, truth)
                }
            };
            let distinct: BTreeSet<usize> = rooms.iter().copied().collect();
            assert_eq!(distinct.len(), rooms.len(), "a list has each room once");
            for room in &rooms {
                if !self.rooms.contains_key(room) {
                    let unsent = *self.unsent.entry(*room).or_insert(Unsent::since(now_ms));
                    let is_overdue = unsent.is_overdue(now_ms);
                    assert!(!is_overdue, "!r{room}:x is listed and was never sent");
                }
            }
            self.listed.insert(key.clone(), rooms);
            self.counts.insert(key.clone(), count);
        }
    }

    /// Extensions speak of rooms in their scope and of no other.
    pub(crate) fn check_scopes(&mut self, answer: &Value, wanted: &Wanted, windows: &Windows) {
        for name in EXTENSIONS {
            let told = answer["extensions"].get(extension_name(self.dialect, name));
            let scope = wanted.extensions.get(name);
            assert_eq!(told.is_some(), scope.is_some(), "{name} answers where it is enabled");
            let (Some(told), Some(scope)) = (told, scope) else { continue };
            let allowed = in_scope(self.dialect, scope, wanted, windows);
            for (room, _) in told["rooms"].as_object().into_iter().flatten() {
                assert!(allowed.contains(&room_of(room)), "{name} of {room} is out of its scope");
            }
            if name == "typing" && self.dialect == Dialect::V4 {
                self.typing.retain(|room, _| allowed.contains(room));
            }
        }
    }
}

/// The rooms that an extension is for.
fn in_scope(
    dialect: Dialect,
    scope: &ScopeWanted,
    wanted: &Wanted,
    windows: &Windows,
) -> BTreeSet<usize> {
    let subscribed = wanted.subscriptions.keys();
    let everything = dialect == Dialect::Simplified && scope.rooms.is_none();
    let is_named = |key: &String| scope.lists.as_ref().is_none_or(|lists| lists.contains(key));
    let named = windows.iter().filter(|(key, _)| everything || is_named(key));
    let in_windows = named.flat_map(|(_, rooms)| rooms).map(|(_, room)| *room);
    let selected: BTreeSet<usize> = windows
        .values()
        .flatten()
        .map(|(_, room)| *room)
        .chain(subscribed.clone().copied())
        .collect();
    let is_named = |room: &usize| scope.rooms.as_ref().is_none_or(|rooms| rooms.contains(room));
    let rooms: BTreeSet<usize> = match dialect {
        // Any room that the request selects may be named.
        Dialect::Simplified => selected.into_iter().filter(is_named).collect(),
        _ => subscribed.copied().filter(is_named).collect(),
    };
    in_windows.chain(rooms).collect()
}

/// One operation a range, with the whole window in it.
fn simplified(list: &Value, count: u64, wanted: &ListWanted, truth: &[(u64, usize)]) -> Vec<usize> {
    let operations = list["ops"].as_array().expect("operations");
    assert_eq!(operations.len(), wanted.ranges.len(), "one operation a range");
    let mut rooms = Vec::new();
    for (operation, (from, to)) in operations.iter().zip(&wanted.ranges) {
        assert_eq!(operation["op"], "SYNC", "a window comes whole");
        assert_eq!(operation["range"], serde_json::json!([from, to]), "the range as it was asked");
        let window = operation["room_ids"].as_array().expect("a window");
        let fits = count.min(to + 1).saturating_sub(*from);
        assert_eq!(window.len() as u64, fits, "a window is as full as it can be");
        rooms.extend(window.iter().map(|room| room_of(room.as_str().expect("a room id"))));
    }
    assert!(rooms.iter().eq(truth.iter().map(|(_, room)| room)), "the windows that there are");
    rooms
}

/// Operations, applied to what the client holds.
fn msc3575(
    held: &mut order::Held,
    list: &Value,
    wanted: &ListWanted,
    truth: &[(u64, usize)],
) -> Vec<usize> {
    held.apply(&list["ops"]);
    if wanted.slow_get_all_rooms {
        // The client keeps the order itself.
        held.invalidate((0, u64::MAX));
        return truth.iter().map(|(_, room)| *room).collect();
    }
    let rooms: BTreeMap<u64, usize> =
        held.rooms().iter().map(|(index, room)| (*index, room_of(room))).collect();
    let there: BTreeMap<u64, usize> = truth.iter().copied().collect();
    assert_eq!(rooms, there, "the operations come to the server's order: {list}");
    rooms.into_values().collect()
}
