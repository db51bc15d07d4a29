//! What can go wrong with a user's next `/sync` answers.
//!
//! A fault never loses data that the client was to get, unless it says so: an answer that arrives damaged keeps its
//! sound parts, and one that does not arrive leaves `since` where it was. So a test may compare with the truth
//! after any of them.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

use crate::api::Reply;
use crate::model::Homeserver;

/// One thing that goes wrong with one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status instead of an answer, with a Matrix error in the body.
    Status(u16),
    /// 429 with `Retry-After` and `retry_after_ms`.
    RateLimited {
        /// How long to stay away.
        retry_after_seconds: u64,
    },
    /// 200 with an HTML page.
    NotJson,
    /// 200 with `null`.
    NullBody,
    /// The connection ends without a whole answer.
    Dropped,
    /// The connection ends in the middle of the body.
    Truncated,
    /// The answer comes this many milliseconds late.
    Slow(u64),
    /// `next_batch` is an empty string.
    EmptyNextBatch,
    /// There is no `next_batch`.
    NoNextBatch,
    /// This room's timeline and state hold, beside the sound events, all sorts of malformed ones. Those of them that
    /// have an id have one that starts with `$malformed`.
    Malformed {
        /// The room.
        room_id: String,
    },
    /// Each timeline event comes twice.
    Duplicated,
    /// Each timeline comes in reverse.
    OutOfOrder,
    /// There is one more room, `!without-create:simulated.test`, that has messages and no create event.
    RoomWithoutCreate,
    /// What the answer has not is `null` in it, at the top and in each room.
    NullSections,
}

/// How an answer's body reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// As it should.
    #[default]
    Whole,
    /// The connection ends before the body does.
    Truncated,
    /// The connection ends before the body begins.
    Dropped,
    /// After so many milliseconds.
    Delayed(u64),
}

/// The faults that wait for their syncs.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: BTreeMap<String, VecDeque<Fault>>,
    struck_count: u64,
}

impl Homeserver {
    /// Lets a fault strike a user's next `syncs` answers, after those that were asked for before.
    ///
    /// A long poll that waits fails at once, where the fault comes instead of an answer.
    pub fn inject(&mut self, user_id: &str, fault: &Fault, syncs: usize) {
        let waiting = self.faults.waiting.entry(user_id.to_owned()).or_default();
        waiting.extend(std::iter::repeat_n(fault.clone(), syncs));
        self.woken.insert(user_id.to_owned());
    }
}

impl Faults {
    /// How many faults have struck.
    pub fn struck_count(&self) -> u64 {
        self.struck_count
    }

    /// How many faults still wait for a user's syncs.
    pub fn waiting_count(&self, user_id: &str) -> usize {
        self.waiting.get(user_id).map_or(0, VecDeque::len)
    }

    /// Takes back every fault that has not struck yet.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The answer that comes instead of a sync, if that is the user's next fault.
    pub(crate) fn take_instead(&mut self, user_id: &str) -> Option<Reply> {
        let reply = match self.waiting.get(user_id)?.front()? {
            Fault::Status(status) => {
                let body = json!({"errcode": "M_UNKNOWN", "error": "Internal server error"});
                Reply::new(*status, body.to_string())
            }
            Fault::RateLimited { retry_after_seconds } => {
                let body = json!({
                    "errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests",
                    "retry_after_ms": retry_after_seconds * 1_000,
                });
                let retry_after_seconds = Some(*retry_after_seconds);
                Reply { retry_after_seconds, ..Reply::new(429, body.to_string()) }
            }
            Fault::NotJson => Reply::new(200, "<html><body>It works!</body></html>"),
            Fault::NullBody => Reply::new(200, "null"),
            Fault::Dropped => Reply { delivery: Delivery::Dropped, ..Reply::new(200, "") },
            _ => return None,
        };
        self.take(user_id);
        Some(reply)
    }

    /// Does to a sync answer what the user's next fault does.
    pub(crate) fn damage(&mut self, user_id: &str, body: String) -> Reply {
        let Some(fault) = self.take(user_id) else { return Reply::new(200, body) };
        match fault {
            Fault::Truncated => {
                return Reply { delivery: Delivery::Truncated, ..Reply::new(200, body) };
            }
            Fault::Slow(milliseconds) => {
                return Reply {
                    delivery: Delivery::Delayed(milliseconds),
                    ..Reply::new(200, body)
                };
            }
            _ => {}
        }
        let mut answer: Value = serde_json::from_str(&body).unwrap_or_default();
        match fault {
            Fault::EmptyNextBatch => answer["next_batch"] = "".into(),
            Fault::NoNextBatch => {
                if let Some(answer) = answer.as_object_mut() {
                    answer.remove("next_batch");
                }
            }
            Fault::Malformed { room_id } => add_malformed(&mut answer, &room_id),
            Fault::Duplicated => each_timeline(&mut answer, |events| {
                *events = events.iter().flat_map(|event| [event.clone(), event.clone()]).collect();
            }),
            Fault::OutOfOrder => each_timeline(&mut answer, |events| events.reverse()),
            Fault::RoomWithoutCreate => add_room_without_create(&mut answer),
            Fault::NullSections => add_nulls(&mut answer),
            _ => {}
        }
        Reply::new(200, answer.to_string())
    }

    fn take(&mut self, user_id: &str) -> Option<Fault> {
        let fault = self.waiting.get_mut(user_id)?.pop_front()?;
        self.struck_count += 1;
        Some(fault)
    }
}

fn each_timeline(answer: &mut Value, mut change: impl FnMut(&mut Vec<Value>)) {
    for section in ["join", "leave"] {
        for (_, room) in answer["rooms"][section].as_object_mut().into_iter().flatten() {
            if let Some(events) = room["timeline"]["events"].as_array_mut() {
                change(events);
            }
        }
    }
    // Reading a missing `rooms` through an index puts a `null` there, which is another fault's business.
    remove_nulls(answer);
}

fn remove_nulls(answer: &mut Value) {
    let Some(members) = answer.as_object_mut() else { return };
    if let Some(rooms) = members.get_mut("rooms").and_then(Value::as_object_mut) {
        rooms.retain(|_, section| !section.is_null());
    }
    members.retain(|_, member| {
        !member.is_null() && member.as_object().is_none_or(|member| !member.is_empty())
    });
}

fn add_malformed(answer: &mut Value, room_id: &str) {
    let sound = |id: &str| {
        json!({
            "type": "m.room.message", "event_id": id, "sender": "@malformed:elsewhere.test",
            "origin_server_ts": 1_700_000_000_000_u64, "content": {"msgtype": "m.text", "body": "?"},
        })
    };
    let with = |id: &str, key: &str, value: Value| {
        let mut event = sound(id);
        event[key] = value;
        event
    };
    let without = |id: &str, key: &str| {
        let mut event = sound(id);
        event.as_object_mut().and_then(|event: &mut Map<String, Value>| event.remove(key));
        event
    };
    let events = vec![
        Value::Null,
        json!(42),
        json!("an event"),
        json!([]),
        json!({}),
        without("$malformed-0", "event_id"),
        without("$malformed-1", "type"),
        without("$malformed-2", "sender"),
        without("$malformed-3", "content"),
        without("$malformed-4", "origin_server_ts"),
        with("$malformed-5", "type", json!(5)),
        with("$malformed-6", "sender", json!({"user": 1})),
        with("$malformed-7", "content", json!("text")),
        with("$malformed-8", "origin_server_ts", json!("yesterday")),
        with("$malformed-9", "origin_server_ts", json!(-1)),
        with("$malformed-10", "state_key", json!(7)),
        with("$malformed-11", "unsigned", json!([1, 2])),
        with("$malformed-12", "event_id", json!(12)),
        with("$malformed-13", "event_id", json!("")),
    ];
    let room = &mut answer["rooms"]["join"][room_id];
    let state = if room["state"].is_object() { "state" } else { "org.matrix.msc4222.state_after" };
    for block in ["timeline", state] {
        if !room[block]["events"].is_array() {
            room[block]["events"] = json!([]);
        }
        if let Some(present) = room[block]["events"].as_array_mut() {
            present.extend(events.iter().cloned());
        }
    }
    if room["state"].is_null()
        && let Some(room) = room.as_object_mut()
    {
        room.remove("state");
    }
}

fn add_room_without_create(answer: &mut Value) {
    let message = |id: &str| {
        json!({
            "type": "m.room.message", "event_id": id, "sender": "@malformed:elsewhere.test",
            "origin_server_ts": 1_700_000_000_000_u64, "content": {"msgtype": "m.text", "body": "?"},
        })
    };
    answer["rooms"]["join"]["!without-create:simulated.test"] = json!({
        "timeline": {
            "events": [message("$malformed-a"), message("$malformed-b")],
            "limited": false, "prev_batch": "t0-0_0",
        },
        "state": {"events": []},
    });
}

fn add_nulls(answer: &mut Value) {
    const TOP: &[&str] = &[
        "rooms",
        "to_device",
        "account_data",
        "presence",
        "device_lists",
        "groups",
        "device_one_time_keys_count",
    ];
    const ROOM: &[&str] = &[
        "state",
        "org.matrix.msc4222.state_after",
        "timeline",
        "ephemeral",
        "account_data",
        "summary",
        "unread_notifications",
        "unread_thread_notifications",
    ];
    let add = |target: &mut Map<String, Value>, keys: &[&str]| {
        for key in keys {
            target.entry(*key).or_insert(Value::Null);
        }
    };
    let Some(answer) = answer.as_object_mut() else { return };
    if let Some(rooms) = answer.get_mut("rooms").and_then(Value::as_object_mut) {
        for section in ["join", "leave"] {
            let rooms = rooms.get_mut(section).and_then(Value::as_object_mut);
            for (_, room) in rooms.into_iter().flatten() {
                if let Some(room) = room.as_object_mut() {
                    add(room, ROOM);
                }
            }
        }
        add(rooms, &["join", "invite", "knock", "leave"]);
    }
    add(answer, TOP);
}
