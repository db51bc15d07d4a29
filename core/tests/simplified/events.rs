//! What a homeserver says: events and `/sync` answers, as JSON.

use serde_json::{Value, json};

pub(crate) const ALICE: &str = "@alice:x";
pub(crate) const BOB: &str = "@bob:x";
pub(crate) const CAROL: &str = "@carol:x";

/// A state event.
pub(crate) fn state(id: &str, kind: &str, key: &str, sender: &str, content: Value) -> Value {
    let mut event = event(id, kind, sender, content);
    event["state_key"] = key.into();
    event
}

/// An event that is not state. Its time is filled in when it is sent.
pub(crate) fn event(id: &str, kind: &str, sender: &str, content: Value) -> Value {
    json!({"event_id": id, "type": kind, "sender": sender, "content": content})
}

/// A message.
pub(crate) fn message(id: &str, sender: &str) -> Value {
    event(id, "m.room.message", sender, json!({"msgtype": "m.text", "body": id}))
}

/// Somebody's own change of membership.
pub(crate) fn member(id: &str, user_id: &str, membership: &str) -> Value {
    made(id, user_id, user_id, membership)
}

/// A change of membership that `sender` makes.
pub(crate) fn made(id: &str, sender: &str, user_id: &str, membership: &str) -> Value {
    let content = json!({"membership": membership, "displayname": &user_id[1..2]});
    state(id, "m.room.member", user_id, sender, content)
}

/// `m.room.name`.
pub(crate) fn name(id: &str, sender: &str, name: &str) -> Value {
    state(id, "m.room.name", "", sender, json!({"name": name}))
}

/// The first events of a room of `members`, the first of whom created it. Ids
/// begin with `prefix`.
pub(crate) fn beginning(prefix: &str, members: &[&str]) -> Vec<Value> {
    let creator = members[0];
    let id = |what: &str| format!("{prefix}-{what}");
    let create = json!({"room_version": "10", "creator": creator});
    let mut events = vec![state(&id("create"), "m.room.create", "", creator, create)];
    for user_id in members {
        events.push(member(&id(&format!("join-{}", &user_id[1..2])), user_id, "join"));
        if *user_id == creator {
            let levels = json!({"users": {creator: 100}});
            events.push(state(&id("levels"), "m.room.power_levels", "", creator, levels));
        }
    }
    events
}

/// An answer in which `room_id` is joined and has these new events.
pub(crate) fn joined(room_id: &str, timeline: &[Value]) -> Value {
    joined_with(room_id, timeline, json!({}))
}

/// As [`joined`], with what else the room's object says.
pub(crate) fn joined_with(room_id: &str, timeline: &[Value], more: Value) -> Value {
    let timeline = json!({"events": timeline, "limited": false, "prev_batch": "before"});
    let mut room = json!({"timeline": timeline});
    merge(&mut room, more);
    json!({"rooms": {"join": {room_id: room}}})
}

/// An answer in which the homeserver left out events before `timeline`;
/// `state` is what changed meanwhile.
pub(crate) fn gap(room_id: &str, state: &[Value], timeline: &[Value], prev_batch: &str) -> Value {
    let more = json!({
        "state": {"events": state},
        "timeline": {"limited": true, "prev_batch": prev_batch},
    });
    joined_with(room_id, timeline, more)
}

/// An answer in which the user's time in `room_id` ended with `timeline`.
pub(crate) fn left(room_id: &str, timeline: &[Value]) -> Value {
    let timeline = json!({"events": timeline, "limited": false, "prev_batch": "before"});
    json!({"rooms": {"leave": {room_id: {"timeline": timeline}}}})
}

/// An answer in which `inviter` has invited `user_id`.
pub(crate) fn invited(room_id: &str, inviter: &str, user_id: &str) -> Value {
    let content = |event: &mut Value| event.as_object_mut().map(|event| event.remove("event_id"));
    let mut events = vec![
        state("", "m.room.create", "", inviter, json!({"room_version": "10"})),
        state("", "m.room.name", "", inviter, json!({"name": "Invited"})),
        made("", inviter, user_id, "invite"),
    ];
    events.iter_mut().for_each(|event| drop(content(event)));
    json!({"rooms": {"invite": {room_id: {"invite_state": {"events": events}}}}})
}

/// All of several answers in one.
pub(crate) fn all(answers: impl IntoIterator<Item = Value>) -> Value {
    let mut whole = json!({});
    answers.into_iter().for_each(|answer| merge(&mut whole, answer));
    whole
}

/// Puts `from` into `into`, object by object; arrays are joined.
pub(crate) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from),
        (into, from) => *into = from,
    }
}

/// A request for the first ten rooms with `limit` events and this state.
pub(crate) fn list(limit: u64, required_state: Value) -> Value {
    json!({"lists": {"all": {
        "ranges": [[0, 9]], "timeline_limit": limit, "required_state": required_state,
    }}})
}

/// `request` at a position.
pub(crate) fn at(pos: &str, mut request: Value) -> Value {
    request["pos"] = pos.into();
    request
}

/// `request` at a position, waiting for news.
pub(crate) fn waiting(pos: &str, request: Value) -> Value {
    let mut request = at(pos, request);
    request["timeout"] = 30_000.into();
    request
}
