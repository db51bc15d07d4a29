//! A model client of each dialect: it believes what it is sent, and nothing
//! else.

use std::collections::{BTreeMap, BTreeSet};

use luge_core::{request::Dialect, shard::Ticket};
use serde_json::{Value, json};

use crate::{
    entry::{Held, Receiver},
    homeserver::{MEMBER, room_of, user_id},
    lists::Windows,
    order,
    sticky::Sticky,
    wanted::{StateWanted, Wanted},
};

/// One connection of a device.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) device: usize,
    pub(crate) user: usize,
    /// Whether it is the one for encryption, without rooms.
    pub(crate) encryption: bool,
    pub(crate) dialect: Dialect,
    pub(crate) position: Option<String>,
    pub(crate) wanted: Wanted,
    /// Whether the rooms' members are loaded lazily.
    pub(crate) lazy: bool,
    /// Whether it asks for the same until the end.
    pub(crate) is_settled: bool,
    /// The request that is on its way, and what it asked for.
    pub(crate) waiting: Option<(Ticket, Wanted)>,
    /// The last request, while its answer was not taken in: its position, and
    /// what it asked for.
    pub(crate) last: Option<(Option<String>, Asking)>,
    /// Whether its answer is on its way.
    pub(crate) answered: bool,
    /// The last ticket before a crash that may have cost the position.
    pub(crate) may_forget: Option<Ticket>,
    pub(crate) sticky: Sticky,
    pub(crate) rooms: BTreeMap<usize, Held>,
    /// The orders that MSC3575's operations come to, by list.
    pub(crate) orders: BTreeMap<String, order::Held>,
    /// The rooms in each list's windows.
    pub(crate) listed: BTreeMap<String, Vec<usize>>,
    pub(crate) counts: BTreeMap<String, u64>,
    /// Listed rooms that were never sent.
    pub(crate) unsent: BTreeMap<usize, Unsent>,
    /// Events that came as news.
    pub(crate) news: BTreeSet<(usize, usize)>,
    pub(crate) account_data: BTreeMap<String, u64>,
    pub(crate) room_account_data: BTreeMap<(usize, String), u64>,
    pub(crate) typing: BTreeMap<usize, BTreeSet<String>>,
    /// The event that the user has read last, openly or for themselves.
    pub(crate) own_receipts: BTreeMap<(usize, bool), String>,
    /// Whose devices changed (false) or are out of sight (true).
    pub(crate) told: BTreeMap<usize, bool>,
    /// Changes of device lists up to here may have been before the start.
    pub(crate) floor: u64,
    /// What acknowledges the messages that were taken in.
    pub(crate) since: Option<String>,
    /// How many messages were taken in.
    pub(crate) received: u64,
}

/// A room that is listed and was never sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsent {
    /// How many polls of the device were answered since.
    polls: u32,
    /// Since when it is on its way.
    since_ms: u64,
}

/// How long a room may be listed whose invite is over in the tables and not yet
/// in the shard's world: nothing true could be said of it.
const ON_THE_WAY_MS: u64 = 2_000;

/// Behind a gap nobody can know that the user is still there before their own poller
/// was answered. One answer may have been on its way.
const POLLS_AWAITED: u32 = 2;

impl Unsent {
    pub(crate) fn since(now_ms: u64) -> Self {
        Self { polls: 0, since_ms: now_ms }
    }

    /// A poll of the device is answered.
    pub(crate) fn polled(&mut self, now_ms: u64) {
        self.polls += 1;
        if self.polls <= POLLS_AWAITED {
            self.since_ms = now_ms;
        }
    }

    pub(crate) fn is_overdue(self, now_ms: u64) -> bool {
        self.polls >= POLLS_AWAITED && now_ms - self.since_ms >= ON_THE_WAY_MS
    }
}

/// Rooms that one response tells of: so few that many a response leaves some over.
pub(crate) const ROOMS_MAX: usize = 2;

/// A request's body, and what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) body: Value,
    pub(crate) wanted: Wanted,
}

impl Connection {
    pub(crate) fn new(device: usize, user: usize, encryption: bool, dialect: Dialect) -> Self {
        Self {
            device,
            user,
            encryption,
            dialect,
            position: None,
            wanted: Wanted::default(),
            lazy: true,
            is_settled: false,
            waiting: None,
            last: None,
            answered: false,
            may_forget: None,
            sticky: Sticky::default(),
            rooms: BTreeMap::new(),
            orders: BTreeMap::new(),
            listed: BTreeMap::new(),
            counts: BTreeMap::new(),
            unsent: BTreeMap::new(),
            news: BTreeSet::new(),
            account_data: BTreeMap::new(),
            room_account_data: BTreeMap::new(),
            typing: BTreeMap::new(),
            own_receipts: BTreeMap::new(),
            told: BTreeMap::new(),
            floor: 0,
            since: None,
            received: 0,
        }
    }

    /// The next request, less its position and timeout.
    pub(crate) fn asking(&mut self) -> Asking {
        let wanted = self.wanted.clone();
        if self.encryption {
            let mut to_device = json!({"enabled": true, "limit": 3});
            if let Some(since) = &self.since {
                to_device["since"] = since.as_str().into();
            }
            let extensions = json!({"to_device": to_device, "e2ee": {"enabled": true}});
            let body = json!({"conn_id": "encryption", "extensions": extensions});
            return Asking { body, wanted };
        }
        if self.dialect == Dialect::Msc3575 {
            if self.position.is_none() {
                self.sticky.forget();
            }
            let body = self.sticky.body(&wanted, self.user);
            return Asking { body, wanted };
        }
        Asking { body: wanted.body(self.dialect, self.user), wanted }
    }

    /// Everything starts anew, but for what outlives a connection.
    pub(crate) fn reset(&mut self) {
        let mut sticky = self.sticky.clone();
        sticky.forget();
        *self = Self {
            wanted: self.wanted.clone(),
            lazy: self.lazy,
            is_settled: self.is_settled,
            sticky,
            since: self.since.clone(),
            received: self.received,
            ..Self::new(self.device, self.user, self.encryption, self.dialect)
        };
    }

    /// Takes in an answer to a request that asked for `asked`.
    pub(crate) fn take_in(
        &mut self,
        answer: &Value,
        asked: &Wanted,
        windows: &Windows,
        now_ms: u64,
    ) {
        let from_start = self.position.is_none();
        self.last = None;
        let position = Some(answer["pos"].as_str().expect("a position").to_owned());
        if self.encryption {
            self.position = position;
            return self.extensions(&answer["extensions"]);
        }
        let heard;
        let wanted = if self.dialect == Dialect::Msc3575 {
            let transaction = answer["txn_id"].as_str().expect("the transaction is named");
            heard = self.sticky.heard(transaction.parse().expect("a transaction"));
            &heard
        } else {
            asked
        };
        self.position = position;
        let own = user_id(self.user);
        for (room_id, entry) in answer["rooms"].as_object().into_iter().flatten() {
            let room = room_of(room_id);
            let to = Receiver {
                dialect: self.dialect,
                own: &own,
                from_start,
                lazy: self.lazy && wanted.of_room(room, windows).next().is_some(),
                limit: wanted.of_room(room, windows).map(|it| it.limit).max(),
            };
            check_lists(self.dialect, room, entry, windows);
            let states: Vec<_> = wanted.of_room(room, windows).map(|it| &it.state).collect();
            let known = self.rooms.contains_key(&room);
            self.unsent.remove(&room);
            let held = self.rooms.entry(room).or_default();
            held.take_in(to, room, known, entry, &mut self.news);
            if held.joined {
                check_state(room, entry, &states, &own);
            }
        }
        // Less may be asked of a room without an entry that says so. More comes with one,
        // which may be left to the next response.
        for (room, held) in self.rooms.iter_mut().filter(|(_, held)| held.joined) {
            let limit = wanted.of_room(*room, windows).map(|it| it.limit).max();
            held.limit = limit.map_or(held.limit, |limit| limit.min(held.limit));
        }
        // A response that is full leaves the rest to the next.
        let told = answer["rooms"].as_object().map_or(0, serde_json::Map::len);
        if told >= ROOMS_MAX {
            self.unsent.clear();
        }
        self.lists(&answer["lists"], wanted, windows, now_ms);
        self.check_scopes(answer, wanted, windows);
        self.extensions(&answer["extensions"]);
    }
}

/// MSC4186 as accepted says of each room in which lists' windows it is.
fn check_lists(dialect: Dialect, room: usize, entry: &Value, windows: &Windows) {
    if dialect != Dialect::V4 {
        return assert_eq!(entry.get("lists"), None, "no entry names lists");
    }
    let told: BTreeSet<&str> =
        entry["lists"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_in = |rooms: &[(u64, usize)]| rooms.iter().any(|(_, it)| *it == room);
    let lists = windows.iter().filter(|(_, rooms)| is_in(rooms));
    let lists: BTreeSet<&str> = lists.map(|(key, _)| &**key).collect();
    assert_eq!(told, lists, "the lists of !r{room}:x");
}

/// Nothing comes of a room that the user is in that nobody asked for, but members
/// for the timeline's sake and the user's own. (Its end is told as the room was
/// asked for before.)
fn check_state(room: usize, entry: &Value, states: &[&StateWanted], own: &str) {
    // A room that is in no window any more may have news of its counts alone.
    if states.is_empty() {
        return assert_eq!(entry.get("required_state"), None, "nobody asked for {room}");
    }
    for event in entry["required_state"].as_array().into_iter().flatten() {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let (kind, key) = (text("type"), text("state_key"));
        let may_be_lazy = kind == MEMBER && (key == own || states.iter().any(|it| it.lazy));
        let is_wanted = states.iter().any(|state| state.matches(kind, key, own));
        assert!(is_wanted || may_be_lazy, "{kind} {key:?} of {room} was not asked for");
    }
}
