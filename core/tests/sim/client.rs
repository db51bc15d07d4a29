//! A model client: it believes what it is sent, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use luge_core::shard::Ticket;
use serde_json::{Value, json};

use crate::homeserver::{MEMBER, event_of, room_of, user_id};

/// What a connection asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) end: u64,
    pub(crate) limit: u64,
    /// How much state: 0 to 2.
    pub(crate) state: usize,
    pub(crate) subscriptions: BTreeSet<usize>,
    pub(crate) timeout_ms: u64,
}

/// A room as the client has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Indices of the events, oldest first.
    pub(crate) events: Vec<usize>,
    /// Events that came behind newer ones: another user's poller had a gap
    /// there, and was faster.
    pub(crate) late: BTreeSet<usize>,
    /// Whether older events may be missing before the first.
    pub(crate) limited: bool,
    pub(crate) state: BTreeMap<(String, String), String>,
    pub(crate) name: Option<String>,
    pub(crate) avatar: Option<String>,
    pub(crate) counts: (u64, u64),
    pub(crate) unread: u64,
    pub(crate) invited: bool,
    pub(crate) joined: bool,
}

/// One connection of a device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    pub(crate) device: usize,
    pub(crate) user: usize,
    /// Whether it is the one for encryption, without rooms.
    pub(crate) encryption: bool,
    pub(crate) position: Option<String>,
    pub(crate) wanted: Wanted,
    /// The request that is on its way, and what it asked for.
    pub(crate) waiting: Option<(Ticket, Wanted)>,
    /// Whether its answer is on its way.
    pub(crate) answered: bool,
    /// The last ticket before a crash that may have cost the position.
    pub(crate) may_forget: Option<Ticket>,
    pub(crate) rooms: BTreeMap<usize, Held>,
    pub(crate) window: Vec<usize>,
    pub(crate) count: u64,
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

/// Rooms that one response tells of: so few that many a response leaves some over.
pub(crate) const ROOMS_MAX: usize = 2;

fn required_state(level: usize) -> Value {
    let mut state = vec![json!([MEMBER, "$ME"]), json!([MEMBER, "$LAZY"])];
    match level {
        0 => state.push(json!(["m.room.name", ""])),
        1 => state.extend([
            json!(["m.room.name", ""]),
            json!(["m.room.topic", ""]),
            json!(["m.room.avatar", ""]),
            json!(["org.widget", "*"]),
        ]),
        _ => state.push(json!(["*", "*"])),
    }
    state.into()
}

impl Connection {
    pub(crate) fn body(&self) -> String {
        if self.encryption {
            let mut to_device = json!({"enabled": true, "limit": 3});
            if let Some(since) = &self.since {
                to_device["since"] = since.as_str().into();
            }
            let extensions = json!({"to_device": to_device, "e2ee": {"enabled": true}});
            return json!({"conn_id": "encryption", "extensions": extensions}).to_string();
        }
        let wanted = &self.wanted;
        let of_room = json!({
            "timeline_limit": wanted.limit, "required_state": required_state(wanted.state),
        });
        let mut list = of_room.clone();
        list["ranges"] = json!([[0, wanted.end]]);
        let subscriptions: BTreeMap<String, &Value> =
            wanted.subscriptions.iter().map(|room| (format!("!r{room}:x"), &of_room)).collect();
        let on = json!({"enabled": true});
        json!({
            "conn_id": "rooms", "lists": {"all": list}, "room_subscriptions": subscriptions,
            "extensions": {"account_data": on, "receipts": on, "typing": on},
        })
        .to_string()
    }

    /// Everything starts anew, but for what outlives a connection.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            device: self.device,
            user: self.user,
            encryption: self.encryption,
            wanted: self.wanted.clone(),
            since: self.since.clone(),
            received: self.received,
            ..Self::default()
        };
    }

    /// Takes in an answer to a request that asked for `wanted`.
    pub(crate) fn take_in(&mut self, answer: &Value, wanted: &Wanted) {
        self.position = Some(answer["pos"].as_str().expect("a position").to_owned());
        for (room_id, entry) in answer["rooms"].as_object().into_iter().flatten() {
            self.entry(room_of(room_id), entry);
        }
        if !self.encryption {
            self.list(&answer["lists"]["all"], wanted);
            // A response that is full leaves the rest to the next.
            let told = answer["rooms"].as_object().map_or(0, serde_json::Map::len);
            let mut unknown = self.window.iter().filter(|room| !self.rooms.contains_key(room));
            let unknown = unknown.next();
            assert!(told >= ROOMS_MAX || unknown.is_none(), "!r{unknown:?}:x was never sent");
        }
        self.extensions(&answer["extensions"]);
    }

    fn list(&mut self, list: &Value, wanted: &Wanted) {
        self.count = list["count"].as_u64().expect("a list has a count");
        let window = list["ops"][0]["room_ids"].as_array().expect("a window");
        self.window =
            window.iter().map(|room| room_of(room.as_str().expect("a room id"))).collect();
        let fits = self.count.min(wanted.end + 1);
        assert_eq!(self.window.len() as u64, fits, "a window is as full as it can be");
        let distinct: BTreeSet<_> = self.window.iter().collect();
        assert_eq!(distinct.len(), self.window.len(), "a window has each room once");
    }

    fn entry(&mut self, room: usize, entry: &Value) {
        let initial = entry["initial"] == true;
        assert!(initial || self.rooms.contains_key(&room), "an unknown room comes as initial");
        let held = self.rooms.entry(room).or_default();
        if initial {
            *held = Held::default();
        }
        held.invited = entry.get("invite_state").is_some();
        if held.invited {
            for absent in ["timeline", "required_state", "joined_count", "limited", "num_live"] {
                assert_eq!(entry.get(absent), None, "an invite has no {absent}");
            }
            return;
        }
        let own = user_id(self.user);
        held.joined = held.joined || initial;
        for event in entry["required_state"].as_array().into_iter().flatten() {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            if event["type"] == MEMBER && event["state_key"] == *own {
                held.joined = event["content"]["membership"] == "join";
            }
            held.state.insert((text("type"), text("state_key")), text("event_id"));
        }
        if let Some(name) = entry["name"].as_str() {
            held.name = Some(name.to_owned());
        }
        match entry.get("avatar") {
            None => {}
            Some(avatar) => held.avatar = avatar.as_str().map(str::to_owned),
        }
        if let Some(count) = entry["joined_count"].as_u64() {
            held.counts.0 = count;
        }
        if let Some(count) = entry["invited_count"].as_u64() {
            held.counts.1 = count;
        }
        if let Some(count) = entry["notification_count"].as_u64() {
            held.unread = count;
        }
        timeline(held, room, entry, initial, &mut self.news);
    }

    fn extensions(&mut self, extensions: &Value) {
        if let Some(to_device) = extensions.get("to_device") {
            for event in to_device["events"].as_array().expect("events") {
                assert_eq!(
                    event["content"]["number"], self.received,
                    "each message comes once and in order"
                );
                self.received += 1;
            }
            self.since = to_device["next_batch"].as_str().map(str::to_owned);
        }
        let lists = &extensions["e2ee"]["device_lists"];
        for (key, left) in [("changed", false), ("left", true)] {
            for user in lists[key].as_array().into_iter().flatten() {
                self.told.insert(number(user), left);
            }
        }
        let value = |event: &Value| {
            let kind = event["type"].as_str().expect("a type").to_owned();
            (kind, event["content"]["value"].as_u64().expect("a value"))
        };
        let account_data = &extensions["account_data"];
        let global = account_data["global"].as_array();
        self.account_data.extend(global.into_iter().flatten().map(value));
        for (room, events) in account_data["rooms"].as_object().into_iter().flatten() {
            for event in events.as_array().into_iter().flatten() {
                let (kind, value) = value(event);
                self.room_account_data.insert((room_of(room), kind), value);
            }
        }
        for (room, event) in extensions["typing"]["rooms"].as_object().into_iter().flatten() {
            let users = event["content"]["user_ids"].as_array().expect("user ids");
            let users = users.iter().filter_map(Value::as_str).map(str::to_owned);
            self.typing.insert(room_of(room), users.collect());
        }
        let own = user_id(self.user);
        for (room, event) in extensions["receipts"]["rooms"].as_object().into_iter().flatten() {
            for (event_id, kinds) in event["content"].as_object().into_iter().flatten() {
                for (kind, users) in kinds.as_object().into_iter().flatten() {
                    let private = kind == "m.read.private";
                    for user in users.as_object().into_iter().flatten().map(|(user, _)| user) {
                        assert!(!private || *user == own, "another's private receipt");
                        if *user == own {
                            let read = (room_of(room), private);
                            self.own_receipts.insert(read, event_id.clone());
                        }
                    }
                }
            }
        }
    }
}

fn number(user: &Value) -> usize {
    let user_id = user.as_str().expect("a user id");
    user_id[2..].split_once(':').expect("a user id").0.parse().expect("a number")
}

fn timeline(
    held: &mut Held,
    room: usize,
    entry: &Value,
    initial: bool,
    news: &mut BTreeSet<(usize, usize)>,
) {
    let indices: Vec<usize> = entry["timeline"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|event| {
            let (of, index) = event_of(event["event_id"].as_str().expect("an event id"));
            assert_eq!(of, room, "an event stands in its own room");
            index
        })
        .collect();
    let expanded = entry["unstable_expanded_timeline"] == true;
    let limited = entry["limited"] == true;
    if !initial && !expanded {
        for index in &indices {
            let is_news = news.insert((room, *index));
            assert!(is_news, "$r{room}-{index} comes as new again: {entry:#}");
        }
    }
    news.extend(indices.iter().map(|index| (room, *index)));
    if initial || expanded || limited {
        held.limited = limited;
        held.events.clear();
        held.late.clear();
    }
    for index in indices {
        if held.events.last().is_none_or(|last| *last < index) {
            held.events.push(index);
        } else {
            held.late.insert(index);
        }
    }
}
