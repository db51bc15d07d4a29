//! Parsing compared with plain implementations over generated input: what is
//! kept of an event, whole bodies, and bodies that were damaged.

use std::fmt::Write;

use luge_core::upstream::{Limits, RoomBatch, Section, SyncBatch, SyncEvent, parse, parse_event};
use proptest::prelude::*;
use serde_json::{Value, json};

const SYNC: &str = include_str!("data/sync.json");

/// JSON as it is written: the order of keys and the spelling of strings count.
#[derive(Clone, Debug)]
enum Json {
    Plain(String),
    Array(Vec<Json>),
    /// Each key beside the way it is spelled.
    Object(Vec<(String, String, Json)>),
}

/// A string literal, with some characters escaped though they need not be.
fn spell(text: &str, style: u8) -> String {
    let mut spelled = String::from('"');
    for (index, character) in text.chars().enumerate() {
        let needless = style & (1 << (index % 8)) != 0;
        match character {
            '"' | '\\' => spelled.extend(['\\', character]),
            '/' if needless => spelled.push_str("\\/"),
            _ if needless || character < ' ' => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(spelled, "\\u{unit:04x}").expect("a string takes all");
                }
            }
            _ => spelled.push(character),
        }
    }
    spelled.push('"');
    spelled
}

impl Json {
    /// The tokens of this value, in order.
    fn tokens(&self, tokens: &mut Vec<String>) {
        let separate = |tokens: &mut Vec<String>, index| {
            if index > 0 {
                tokens.push(",".to_owned());
            }
        };
        match self {
            Self::Plain(text) => tokens.push(text.clone()),
            Self::Array(elements) => {
                tokens.push("[".to_owned());
                for (index, element) in elements.iter().enumerate() {
                    separate(tokens, index);
                    element.tokens(tokens);
                }
                tokens.push("]".to_owned());
            }
            Self::Object(members) => {
                tokens.push("{".to_owned());
                for (index, (_, spelled, value)) in members.iter().enumerate() {
                    separate(tokens, index);
                    tokens.push(spelled.clone());
                    tokens.push(":".to_owned());
                    value.tokens(tokens);
                }
                tokens.push("}".to_owned());
            }
        }
    }

    fn compact(&self) -> String {
        let mut tokens = Vec::new();
        self.tokens(&mut tokens);
        tokens.concat()
    }

    /// The text with whitespace between the tokens, from a seed.
    fn spaced(&self, mut seed: u64) -> String {
        let mut tokens = Vec::new();
        self.tokens(&mut tokens);
        let mut text = String::new();
        for token in tokens {
            text.push_str(&token);
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(["", "", "", " ", "\n", "\t \r"][(seed >> 33) as usize % 6]);
        }
        text
    }

    /// The event without what is private to a device or a moment.
    fn stripped(&self) -> Self {
        let Self::Object(members) = self else { return self.clone() };
        let private = ["age", "membership", "io.element.msc4115.membership", "transaction_id"];
        let mut kept = Vec::new();
        for (key, spelled, value) in members {
            match (key.as_str(), value) {
                ("unsigned", Self::Object(inner)) => {
                    let mut left = inner.clone();
                    left.retain(|(key, ..)| !private.contains(&key.as_str()));
                    if !left.is_empty() || inner.is_empty() {
                        kept.push((key.clone(), spelled.clone(), Self::Object(left)));
                    }
                }
                ("room_id" | "unsigned", _) => {}
                _ => kept.push((key.clone(), spelled.clone(), value.clone())),
            }
        }
        Self::Object(kept)
    }
}

/// JSON without the whitespace between its tokens.
fn squeezed(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    text.chars()
        .filter(|&character| {
            let keep = in_string || !character.is_ascii_whitespace();
            if character == '"' && !escaped {
                in_string = !in_string;
            }
            escaped = in_string && character == '\\' && !escaped;
            keep
        })
        .collect()
}

fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z\"\\\\/{}\\[\\],: ]{0,12}",
        any::<String>(),
        Just("room_id".to_owned()),
        Just("unsigned".to_owned()),
        Just("age".to_owned()),
        Just("\u{1f600}\u{0}\u{7f}\u{2028}".to_owned()),
    ]
}

fn key_and_spelling(key: impl Strategy<Value = String>) -> impl Strategy<Value = (String, String)> {
    (key, prop_oneof![4 => Just(0_u8), 1 => any::<u8>()]).prop_map(|(key, style)| {
        let spelled = spell(&key, style);
        (key, spelled)
    })
}

fn members(
    keys: impl Strategy<Value = String>,
    value: impl Strategy<Value = Json>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Json> {
    prop::collection::vec((key_and_spelling(keys), value), count).prop_map(|members| {
        let mut distinct: Vec<(String, String, Json)> = Vec::new();
        for ((key, spelled), value) in members {
            if distinct.iter().all(|(other, ..)| *other != key) {
                distinct.push((key, spelled, value));
            }
        }
        Json::Object(distinct)
    })
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (-1_000_000_i32..1_000_000, 0_u32..1000)
            .prop_map(|(whole, part)| format!("{whole}.{part:03}")),
        (1_u32..100, -300_i32..300).prop_map(|(digits, power)| format!("{digits}E{power:+}")),
        Just("-0".to_owned()),
    ]
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["true", "false", "null"])
            .prop_map(|word| Json::Plain(word.to_owned())),
        number().prop_map(Json::Plain),
        (string(), any::<u8>()).prop_map(|(text, style)| Json::Plain(spell(&text, style))),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            members(string(), inner, 0..6),
        ]
    })
}

fn unsigned() -> impl Strategy<Value = Json> {
    let keys = prop_oneof![
        prop::sample::select(vec![
            "age",
            "membership",
            "io.element.msc4115.membership",
            "transaction_id",
            "prev_content",
            "room_id",
        ])
        .prop_map(str::to_owned),
        string(),
    ];
    prop_oneof![9 => members(keys, any_json(), 0..7), 1 => any_json()]
}

/// A sound event with its members in any order.
fn event() -> impl Strategy<Value = Json> {
    let text = |text: &str| Json::Plain(format!("\"{text}\""));
    let required = vec![
        ("event_id".to_owned(), text("$event")),
        ("type".to_owned(), text("m.room.message")),
        ("sender".to_owned(), text("@alice:example.org")),
    ];
    let others = prop::collection::vec(
        (string().prop_filter("read by the parser", |key| key != "content"), any_json()),
        0..4,
    );
    let content = members(string(), any_json(), 0..6);
    let parts = (
        content,
        prop::option::of(unsigned()),
        prop::option::of(any_json()),
        others,
        prop::collection::vec(prop_oneof![4 => Just(0_u8), 1 => any::<u8>()], 12),
    );
    parts
        .prop_map(move |(content, unsigned, room_id, others, styles)| {
            let mut named = required.clone();
            named.push(("content".to_owned(), content));
            named.extend(unsigned.map(|value| ("unsigned".to_owned(), value)));
            named.extend(room_id.map(|value| ("room_id".to_owned(), value)));
            for (key, value) in others {
                if named.iter().all(|(other, _)| *other != key) {
                    named.push((key, value));
                }
            }
            let spelled = named.into_iter().zip(styles);
            spelled.map(|((key, value), style)| (key.clone(), spell(&key, style), value)).collect()
        })
        .prop_flat_map(|members: Vec<_>| Just(members).prop_shuffle())
        .prop_map(Json::Object)
}

fn is_subsequence(part: &[u8], whole: &[u8]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|byte| whole.any(|other| other == byte))
}

/// Each event of a batch, however it came.
fn kept_json(batch: &SyncBatch) -> Vec<&str> {
    let mut kept: Vec<&str> = Vec::new();
    for room in &batch.rooms {
        kept.extend(room.timeline.iter().chain(&room.state).map(|event| &*event.json));
        kept.extend(room.stripped.iter().map(|event| &*event.json));
        kept.extend(room.receipts.iter().map(|receipt| &*receipt.json));
        kept.extend(room.account_data.iter().map(|data| &*data.json));
    }
    kept.extend(batch.account_data.iter().map(|data| &*data.json));
    kept.extend(batch.to_device.iter().map(|message| &**message));
    kept.extend(batch.one_time_keys_count.as_deref());
    kept.extend(batch.fallback_key_types.as_deref());
    kept
}

/// An event as serde_json reads it, or nothing where it is malformed.
fn plain_event(event: &Value) -> Option<(Value, SyncEvent)> {
    let text = |name: &str| event.get(name)?.as_str().filter(|text| text.len() <= 255);
    let event_id = text("event_id").filter(|id| id.starts_with('$'))?;
    let kind = text("type").filter(|kind| !kind.is_empty())?;
    let sender = text("sender").filter(|sender| sender.starts_with('@') && sender.contains(':'))?;
    event.get("content").filter(|content| content.is_object())?;
    let state_key = match event.get("state_key") {
        Some(_) => Some(text("state_key")?.to_owned()),
        None => None,
    };
    let mut kept = event.clone();
    let members = kept.as_object_mut()?;
    members.remove("room_id");
    if let Some(unsigned) = members.get_mut("unsigned").and_then(Value::as_object_mut) {
        for private in ["age", "membership", "io.element.msc4115.membership", "transaction_id"] {
            unsigned.remove(private);
        }
        if unsigned.is_empty() {
            members.remove("unsigned");
        }
    }
    let timestamp = event.get("origin_server_ts").and_then(Value::as_u64);
    let fields = SyncEvent {
        event_id: event_id.to_owned(),
        kind: kind.to_owned(),
        state_key,
        sender: sender.to_owned(),
        origin_server_ts: timestamp.filter(|&timestamp| timestamp < 1 << 53).unwrap_or(0),
        transaction_id: event
            .pointer("/unsigned/transaction_id")
            .and_then(Value::as_str)
            .map(str::to_owned),
        redacts: None,
        json: Box::default(),
    };
    Some((kept, fields))
}

fn split(event: &SyncEvent) -> (Value, SyncEvent) {
    let kept = serde_json::from_str(&event.json).expect("what is kept is JSON");
    (kept, SyncEvent { json: Box::default(), ..event.clone() })
}

/// Compares one room with what serde_json makes of its text.
fn compare_room(room: &RoomBatch, plain: &Value) -> Result<(), TestCaseError> {
    let events = |pointer: &str| plain.pointer(pointer).and_then(Value::as_array).cloned();
    let timeline: Vec<_> =
        events("/timeline/events").unwrap_or_default().iter().filter_map(plain_event).collect();
    prop_assert_eq!(room.timeline.iter().map(split).collect::<Vec<_>>(), timeline);
    let after = events("/state_after/events");
    prop_assert_eq!(room.state_is_after, after.is_some());
    let state: Vec<_> = after
        .or(events("/state/events"))
        .unwrap_or_default()
        .iter()
        .filter_map(plain_event)
        .filter(|(_, event)| event.state_key.is_some())
        .collect();
    prop_assert_eq!(room.state.iter().map(split).collect::<Vec<_>>(), state);
    let limited = plain.pointer("/timeline/limited").and_then(Value::as_bool);
    prop_assert_eq!(room.limited, limited.unwrap_or(false));
    let prev_batch = plain.pointer("/timeline/prev_batch").and_then(Value::as_str);
    prop_assert_eq!(room.prev_batch.as_deref(), prev_batch);
    let count = |pointer: &str| plain.pointer(pointer).and_then(Value::as_u64);
    prop_assert_eq!(room.summary.joined, count("/summary/m.joined_member_count"));
    prop_assert_eq!(room.notification_count, count("/unread_notifications/notification_count"));
    Ok(())
}

/// An event that is often sound and sometimes lacks or misspells something.
fn perhaps_event() -> impl Strategy<Value = Value> {
    let maybe = |good: Value| prop_oneof![12 => Just(Some(good)), 1 => Just(None), 1 => Just(Some(json!(7))), 1 => Just(Some(Value::Null))];
    let parts = (
        maybe(json!("$e")),
        maybe(json!("m.room.message")),
        maybe(json!("@a:x")),
        maybe(json!({"body": "é\"\\", "room_id": 1})),
        prop::option::of(maybe(json!("key"))),
        prop::option::of(any::<i64>()),
        prop::option::of(prop::sample::subsequence(
            vec!["age", "membership", "transaction_id", "m.relations", "prev_content"],
            1..5,
        )),
    );
    let event = parts.prop_map(|(event_id, kind, sender, content, state_key, ts, unsigned)| {
        let mut event = serde_json::Map::new();
        let fields = [
            ("event_id", event_id),
            ("type", kind),
            ("sender", sender),
            ("content", content),
            ("state_key", state_key.flatten()),
            ("origin_server_ts", ts.map(Value::from)),
            ("room_id", Some(json!("!r:x"))),
        ];
        for (name, value) in fields {
            event.extend(value.map(|value| (name.to_owned(), value)));
        }
        if let Some(keys) = unsigned {
            let unsigned = keys.into_iter().map(|key| (key.to_owned(), json!("m")));
            event.insert("unsigned".to_owned(), Value::Object(unsigned.collect()));
        }
        Value::Object(event)
    });
    prop_oneof![20 => event, 1 => Just(Value::Null), 1 => Just(json!([{}]))]
}

fn perhaps_room() -> impl Strategy<Value = Value> {
    let events = || prop::collection::vec(perhaps_event(), 0..6);
    let parts = (
        prop::option::of((events(), any::<bool>(), prop::option::of("[a-z0-9_]{1,9}"))),
        prop::option::of(events()),
        prop::option::of(events()),
        prop::option::of(0_u64..1 << 53),
    );
    parts.prop_map(|(timeline, state, state_after, count)| {
        let mut room = serde_json::Map::new();
        if let Some((events, limited, prev_batch)) = timeline {
            let timeline = json!({"events": events, "limited": limited, "prev_batch": prev_batch});
            room.insert("timeline".to_owned(), timeline);
        }
        for (name, events) in [("state", state), ("state_after", state_after)] {
            room.extend(events.map(|events| (name.to_owned(), json!({"events": events}))));
        }
        if let Some(count) = count {
            room.insert("summary".to_owned(), json!({"m.joined_member_count": count}));
            room.insert("unread_notifications".to_owned(), json!({"notification_count": count}));
        }
        Value::Object(room)
    })
}

/// One damage to a text: a byte replaced, removed or put in, or a piece moved.
fn damage(body: &mut Vec<u8>, (place, kind, byte): (u32, u8, u8)) {
    let at = place as usize % body.len().max(1);
    let telling = b"{}[]\",:\\u0-e\0\xff\x80dnull";
    let byte = if byte < 128 { telling[byte as usize % telling.len()] } else { byte };
    match kind % 5 {
        _ if body.is_empty() => body.push(byte),
        0 => body[at] = byte,
        1 => drop(body.remove(at)),
        2 => body.insert(at, byte),
        3 => {
            let end = (at + usize::from(byte)).min(body.len());
            let piece: Vec<u8> = body.drain(at..end).collect();
            let to = body.len() / 2;
            body.splice(to..to, piece);
        }
        _ => {
            let end = (at + usize::from(byte)).min(body.len());
            let piece = body[at..end].to_vec();
            body.splice(end..end, piece);
        }
    }
}

proptest! {
    /// Goal: what is kept is the event less its private members, and every
    /// other byte as it came.
    #[test]
    fn kept_event_is_the_original_less_its_private_members(event in event(), seed in any::<u64>()) {
        let text = event.spaced(seed);
        let kept = parse_event(&text, &Limits::default()).unwrap().json;
        prop_assert_eq!(squeezed(&kept), event.stripped().compact());
        prop_assert!(is_subsequence(kept.as_bytes(), text.as_bytes()));
        let mut plain: Value = serde_json::from_str(&text).unwrap();
        let members = plain.as_object_mut().unwrap();
        if members.get("unsigned").is_some_and(|unsigned| !unsigned.is_object()) {
            members.remove("unsigned");
        }
        let was_empty = plain.get("unsigned") == Some(&json!({}));
        let mut expected = plain_event(&plain).unwrap().0;
        if was_empty {
            expected["unsigned"] = json!({});
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), expected);
        // Nothing private at all: not one byte differs.
        let again = parse_event(&kept, &Limits::default()).unwrap().json;
        prop_assert_eq!(again, kept);
    }

    /// Goal: over whole bodies, the same as a plain implementation.
    #[test]
    fn batch_is_what_serde_json_makes_of_the_body(
        rooms in prop::collection::vec(
            (prop::sample::select(vec!["join", "leave"]), perhaps_room()), 0..5),
        pretty in any::<bool>(),
    ) {
        let mut body = json!({"next_batch": "s1", "rooms": {"join": {}, "leave": {}}});
        for (index, (section, room)) in rooms.iter().enumerate() {
            body["rooms"][section][format!("!room{index}:x")] = room.clone();
        }
        let text = if pretty { serde_json::to_vec_pretty(&body) } else { serde_json::to_vec(&body) };
        let batch = parse(&text.unwrap(), &Limits::default()).unwrap();
        prop_assert_eq!(batch.next_batch.as_deref(), Some("s1"));
        prop_assert_eq!(batch.rooms.len(), rooms.len());
        for room in &batch.rooms {
            let section = if room.section == Section::Join { "join" } else { "leave" };
            let mut plain = body["rooms"][section][&room.room_id].clone();
            // Only a room one has joined has these.
            if room.section == Section::Leave {
                let members = plain.as_object_mut().unwrap();
                members.remove("summary");
                members.remove("unread_notifications");
            }
            compare_room(room, &plain)?;
        }
    }

    /// Goal: no damage makes parsing panic, or makes it keep what a client's
    /// parser would refuse.
    #[test]
    fn damaged_body_never_panics_and_keeps_only_json(
        damages in prop::collection::vec(any::<(u32, u8, u8)>(), 1..6),
        cut in prop::option::of(any::<u32>()),
    ) {
        let mut body = SYNC.as_bytes().to_vec();
        for one in damages {
            damage(&mut body, one);
        }
        if let Some(cut) = cut {
            body.truncate(cut as usize % (body.len() + 1));
        }
        let plain = serde_json::from_slice::<serde::de::IgnoredAny>(&body);
        if let Ok(batch) = parse(&body, &Limits::default()) {
            prop_assert!(plain.is_ok(), "taken, but not by serde_json");
            for json in kept_json(&batch) {
                prop_assert!(serde_json::from_str::<Value>(json).is_ok(), "{}", json);
            }
        } else {
            let object = plain.is_ok() && body.trim_ascii_start().starts_with(b"{");
            prop_assert!(!object || std::str::from_utf8(&body).is_err());
        }
    }
}
