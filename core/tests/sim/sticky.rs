//! What an MSC3575 client says of what it asks for, so that it knows what the
//! server remembers whatever was lost.

use std::collections::{BTreeMap, BTreeSet};

use luge_core::request::Dialect;
use serde_json::{Map, Value, json};

use crate::{
    homeserver::user_id,
    wanted::{EXTENSIONS, ListWanted, Wanted, room_id},
};

/// What the server is known to remember, and what it may.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sticky {
    /// What it remembered when it made the last response that was taken in.
    confirmed: Wanted,
    /// What requests since then have said something of: they may have arrived.
    doubts: BTreeMap<u64, Touched>,
    /// What is asked for once a transaction is taken in.
    asked: BTreeMap<u64, Wanted>,
    transactions: u64,
}

#[derive(Clone, Debug, Default)]
struct Touched {
    lists: BTreeSet<String>,
    rooms: BTreeSet<usize>,
    extensions: bool,
}

impl Sticky {
    /// Nothing is remembered: the connection starts anew.
    pub(crate) fn forget(&mut self) {
        *self = Self { transactions: self.transactions, ..Self::default() };
    }

    /// The body of the next transaction: what is not known to be remembered.
    pub(crate) fn body(&mut self, wanted: &Wanted, user: usize) -> Value {
        self.transactions += 1;
        let own = user_id(user);
        let mut touched = Touched::default();
        let mut lists = Map::new();
        let in_doubt = |pick: &dyn Fn(&Touched) -> bool| self.doubts.values().any(pick);
        for (key, list) in &wanted.lists {
            let before = self.confirmed.lists.get(key);
            let before = before.filter(|_| !in_doubt(&|it| it.lists.contains(key)));
            if before != Some(list) {
                lists.insert(key.clone(), change(before, list, &own));
            }
        }
        let doubtful = self.doubts.values().flat_map(|it| &it.lists);
        for key in self.confirmed.lists.keys().chain(doubtful) {
            if !wanted.lists.contains_key(key) {
                lists.insert(key.clone(), json!({"deleted": true}));
            }
        }
        touched.lists.extend(lists.keys().cloned());
        let mut subscriptions = Map::new();
        for (room, config) in &wanted.subscriptions {
            let is_known = self.confirmed.subscriptions.get(room) == Some(config);
            if !is_known || in_doubt(&|it| it.rooms.contains(room)) {
                subscriptions.insert(room_id(*room), config.json(Dialect::Msc3575, &own));
                touched.rooms.insert(*room);
            }
        }
        let mut unsubscriptions = BTreeSet::new();
        let doubtful = self.doubts.values().flat_map(|it| &it.rooms);
        for room in self.confirmed.subscriptions.keys().chain(doubtful) {
            if !wanted.subscriptions.contains_key(room) {
                unsubscriptions.insert(room_id(*room));
                touched.rooms.insert(*room);
            }
        }
        let mut body = json!({"conn_id": "rooms", "txn_id": self.transactions.to_string()});
        if self.confirmed.extensions != wanted.extensions || in_doubt(&|it| it.extensions) {
            body["extensions"] = extensions(wanted);
            touched.extensions = true;
        }
        for (key, map) in [("lists", lists), ("room_subscriptions", subscriptions)] {
            if !map.is_empty() {
                body[key] = map.into();
            }
        }
        if !unsubscriptions.is_empty() {
            body["unsubscribe_rooms"] = json!(unsubscriptions);
        }
        self.doubts.insert(self.transactions, touched);
        self.asked.insert(self.transactions, wanted.clone());
        body
    }

    /// A response of this transaction was taken in: what it was made for.
    pub(crate) fn heard(&mut self, transaction: u64) -> Wanted {
        self.doubts.retain(|of, _| *of > transaction);
        self.asked.retain(|of, _| *of >= transaction);
        self.confirmed = self.asked.get(&transaction).expect("it was asked for").clone();
        self.confirmed.clone()
    }
}

/// What of a list is not remembered; everything where it may not be there.
fn change(before: Option<&ListWanted>, list: &ListWanted, own: &str) -> Value {
    let dialect = Dialect::Msc3575;
    let mut said = list.room.json(dialect, own);
    said["ranges"] = json!(list.ranges);
    said["filters"] = list.filters.json(dialect);
    said["sort"] = json!(list.sort);
    said["slow_get_all_rooms"] = list.slow_get_all_rooms.into();
    if list.bumped_by_messages {
        said["bump_event_types"] = json!(["m.room.message"]);
    }
    if let Some(before) = before {
        let said = said.as_object_mut().expect("an object");
        let mut same = |key: &str, same: bool| drop(same.then(|| said.remove(key)));
        same("timeline_limit", before.room.limit == list.room.limit);
        same("required_state", before.room.state == list.room.state);
        same("ranges", before.ranges == list.ranges);
        same("filters", before.filters == list.filters);
        same("sort", before.sort == list.sort);
        same("slow_get_all_rooms", before.slow_get_all_rooms == list.slow_get_all_rooms);
        same("bump_event_types", true);
    }
    said
}

/// Every extension: what is not said would stay as it was.
fn extensions(wanted: &Wanted) -> Value {
    let all = || BTreeSet::from(["*".to_owned()]);
    let extension = |name: &&'static str| {
        let said = match wanted.extensions.get(name) {
            None => json!({"enabled": false}),
            Some(scope) => {
                let rooms = scope.rooms.as_ref();
                let rooms = rooms.map(|rooms| rooms.iter().map(|room| room_id(*room)).collect());
                let lists = scope.lists.clone().unwrap_or_else(all);
                json!({"enabled": true, "lists": lists, "rooms": rooms.unwrap_or_else(all)})
            }
        };
        ((*name).to_owned(), said)
    };
    EXTENSIONS.iter().map(extension).collect::<Map<_, _>>().into()
}
