//! All that can be asked for, in each dialect. One request asks for one thing
//! alone, since what several ask of a room is united.

use luge_core::request::Dialect;
use serde_json::{Map, Value, json};

use crate::{
    events::BOB,
    town::{INVITE, REPLACED_BY, ROOM, SECRET},
};

/// A request and the name that it goes by.
pub(crate) type Named = (&'static str, Value);

/// State that is asked for, as pairs of type and state key.
type Pairs = &'static [(&'static str, &'static str)];

const EVERYTHING: Pairs = &[("*", "*")];

/// Every kind of request in `dialect`.
pub(crate) fn all(dialect: Dialect) -> Vec<Named> {
    let one = |pairs| request(dialect, json!({}), &[ROOM], &config(dialect, 50, pairs));
    let mut all = vec![
        ("everything", everything(dialect)),
        ("filters", filters(dialect)),
        ("orders", orders(dialect)),
        ("lazy", one(&[("m.room.member", "$LAZY")])),
        ("me", one(&[("m.room.member", "$ME")])),
        ("types", one(&[("m.room.topic", ""), ("org.example.s3", "*"), ("m.room.member", "*")])),
        ("keys", one(&[("*", "key")])),
    ];
    if dialect == Dialect::Msc3575 {
        let config = with_old_rooms(config(dialect, 1, &[]));
        all.push(("old rooms", request(dialect, json!({}), &[ROOM], &config)));
        all.push(("replaced", request(dialect, json!({}), &[REPLACED_BY], &config)));
    }
    all
}

/// The room with much of its timeline, and all of its state.
pub(crate) fn all_of_room(dialect: Dialect) -> Value {
    request(dialect, json!({}), &[ROOM], &config(dialect, 50, EVERYTHING))
}

/// Those that ask for the most.
pub(crate) const MAIN: [&str; 3] = ["everything", "filters", "orders"];

/// `request` with one event of each room at most.
pub(crate) fn small(mut request: Value) -> Value {
    limit(&mut request);
    request
}

fn limit(value: &mut Value) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(key, value)| match &**key {
            "timeline_limit" => *value = 1.into(),
            _ => limit(value),
        }),
        Value::Array(elements) => elements.iter_mut().for_each(limit),
        _ => {}
    }
}

/// The name of the typing extension.
pub(crate) fn typing(dialect: Dialect) -> &'static str {
    if dialect == Dialect::V4 { "org.matrix.msc4508.typing" } else { "typing" }
}

fn everything(dialect: Dialect) -> Value {
    let mut config = config(dialect, 50, EVERYTHING);
    if dialect == Dialect::Msc3575 {
        config["include_heroes"] = true.into();
        config = with_old_rooms(config);
    }
    let rooms = [ROOM, INVITE, "!nowhere:x"];
    let mut request = request(dialect, json!({"all": list(dialect, &config)}), &rooms, &config);
    let on = json!({"enabled": true});
    request["extensions"] = json!({
        "to_device": on, "e2ee": on, "account_data": on, "receipts": on, typing(dialect): on,
    });
    request
}

fn filters(dialect: Dialect) -> Value {
    let mut filters = vec![
        ("encrypted", json!({"is_encrypted": true})),
        ("plain", json!({"is_encrypted": false})),
        ("typed", json!({"room_types": [SECRET]})),
        ("untyped", json!({"not_room_types": [SECRET]})),
        ("named", json!({"room_name_like": SECRET})),
        ("tagged", json!({"tags": [SECRET]})),
        ("untagged", json!({"not_tags": [SECRET]})),
        ("direct", json!({"is_dm": true})),
        ("indirect", json!({"is_dm": false})),
        ("children", json!({"spaces": [ROOM]})),
    ];
    let is_invite = if dialect == Dialect::V4 { "is_invited" } else { "is_invite" };
    filters.push(("invites", json!({is_invite: true})));
    filters.push(("others", json!({is_invite: false})));
    if dialect == Dialect::Msc3575 {
        filters.push(("replaced", json!({"is_tombstoned": true})));
        filters.push(("current", json!({"is_tombstoned": false})));
    }
    let of = |(name, filters): (&str, Value)| {
        let mut list = list(dialect, &config(dialect, 0, &[]));
        list["filters"] = filters;
        (name.to_owned(), list)
    };
    let lists: Map<String, Value> = filters.into_iter().map(of).collect();
    json!({"lists": lists})
}

/// Each order, and the room that comes first in it.
fn orders(dialect: Dialect) -> Value {
    let config = config(dialect, 0, &[]);
    let mut top = list(dialect, &config);
    let range = if dialect == Dialect::V4 { "range" } else { "ranges" };
    top[range] = if dialect == Dialect::V4 { json!([0, 0]) } else { json!([[0, 0]]) };
    let mut lists = json!({"top": top});
    if dialect == Dialect::Msc3575 {
        for sort in [
            "by_recency",
            "by_name",
            "by_notification_level",
            "by_notification_count",
            "by_highlight_count",
        ] {
            lists[sort] = list(dialect, &config);
            lists[sort]["sort"] = json!([sort]);
        }
        lists["bumped"] = list(dialect, &config);
        lists["bumped"]["bump_event_types"] = json!(["m.room.message"]);
        lists["slow"] = list(dialect, &config);
        lists["slow"]["slow_get_all_rooms"] = true.into();
    }
    json!({"lists": lists})
}

fn request(dialect: Dialect, lists: Value, rooms: &[&str], config: &Value) -> Value {
    let lists = if lists == json!({}) && dialect == Dialect::Msc3575 { Value::Null } else { lists };
    let subscriptions: Map<String, Value> =
        rooms.iter().map(|room| ((*room).to_owned(), config.clone())).collect();
    json!({"lists": lists, "room_subscriptions": subscriptions})
}

fn list(dialect: Dialect, config: &Value) -> Value {
    let mut list = config.clone();
    if dialect != Dialect::V4 {
        list["ranges"] = json!([[0, 99]]);
    }
    list
}

fn config(dialect: Dialect, limit: u64, pairs: Pairs) -> Value {
    let pairs_of = || pairs.iter().map(|(kind, key)| json!([kind, key])).collect::<Vec<_>>();
    let required = if dialect == Dialect::V4 { patterns(pairs) } else { pairs_of().into() };
    json!({"timeline_limit": limit, "required_state": required})
}

/// The same state in the words of MSC4186.
fn patterns(pairs: Pairs) -> Value {
    let mut lazy = false;
    let mut include = Vec::new();
    for (kind, key) in pairs {
        let mut pattern = json!({});
        if *kind != "*" {
            pattern["type"] = (*kind).into();
        }
        match *key {
            "*" => {}
            "$ME" => pattern["state_key"] = BOB.into(),
            _ => pattern["state_key"] = (*key).into(),
        }
        if *key == "$LAZY" {
            lazy = true;
        } else {
            include.push(pattern);
        }
    }
    json!({"include": include, "lazy_members": lazy})
}

fn with_old_rooms(mut config: Value) -> Value {
    let required = config["required_state"].clone();
    config["include_old_rooms"] = json!({"timeline_limit": 50, "required_state": required});
    config
}
