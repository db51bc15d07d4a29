//! What a redaction leaves of an event, by the room version's algorithm.
//!
//! Works on events as clients get them, as text: what stays, stays byte for
//! byte. Whether a redaction is allowed is not decided here.

use crate::upstream::scan::{Cursor, Fault, Kind};

/// Top-level members that every version keeps.
const KEPT: [&str; 11] = [
    "event_id",
    "type",
    "room_id",
    "sender",
    "state_key",
    "hashes",
    "signatures",
    "depth",
    "prev_events",
    "auth_events",
    "origin_server_ts",
];

/// Top-level members that versions before 11 keep as well.
const KEPT_BEFORE_11: [&str; 3] = ["prev_state", "membership", "origin"];

const POWER_LEVELS: [&str; 8] = [
    "ban",
    "events",
    "events_default",
    "kick",
    "redact",
    "state_default",
    "users",
    "users_default",
];

/// The number of the newest room version that is known here.
const NEWEST: u8 = 12;

/// Far more than an event that was taken in can hold.
const DEPTH_MAX: usize = 65_536;

/// The event without what a redaction removes, its `unsigned` included.
///
/// A room version that is not known counts as the newest. Of a `json` that is
/// no object, `{"content":{}}` is left.
pub fn redact(json: &str, kind: &str, room_version: &str) -> String {
    redacted(json, kind, room_version, None)
}

/// As [`redact`], with the redaction event as `unsigned.redacted_because`,
/// unless it is no JSON object.
pub fn redacted_with_because(
    json: &str,
    kind: &str,
    room_version: &str,
    redaction_event_json: &str,
) -> String {
    redacted(json, kind, room_version, Some(redaction_event_json.trim()))
}

fn redacted(json: &str, kind: &str, room_version: &str, because: Option<&str>) -> String {
    let version = version_number(room_version);
    let mut output = ObjectWriter::new(json.len() + because.map_or(0, str::len));
    let mut content = None;
    let kept = filter(json, &mut output, |key, value| match key {
        "content" => {
            content = Some(redacted_content(value, kind, version));
            Keep::Nothing
        }
        _ if KEPT.contains(&key) || version < 11 && KEPT_BEFORE_11.contains(&key) => Keep::Whole,
        _ => Keep::Nothing,
    });
    if kept.is_err() {
        return "{\"content\":{}}".to_owned();
    }
    output.member("content", content.as_deref().unwrap_or("{}"));
    if let Some(because) = because.filter(|because| is_object(because)) {
        output.member("unsigned", &format!("{{\"redacted_because\":{because}}}"));
    }
    output.finish()
}

fn version_number(room_version: &str) -> u8 {
    room_version.parse().ok().filter(|number| (1..=NEWEST).contains(number)).unwrap_or(NEWEST)
}

fn redacted_content(content: &str, kind: &str, version: u8) -> String {
    let mut output = ObjectWriter::new(0);
    let kept = filter(content, &mut output, |key, value| {
        let whole = match kind {
            "m.room.member" => match key {
                "membership" => true,
                "join_authorised_via_users_server" => version >= 9,
                "third_party_invite" if version >= 11 => return only_signed(value),
                _ => false,
            },
            "m.room.create" => version >= 11 || key == "creator",
            "m.room.join_rules" => key == "join_rule" || version >= 8 && key == "allow",
            "m.room.power_levels" => {
                POWER_LEVELS.contains(&key) || version >= 11 && key == "invite"
            }
            "m.room.history_visibility" => key == "history_visibility",
            "m.room.aliases" => version < 6 && key == "aliases",
            "m.room.redaction" => version >= 11 && key == "redacts",
            _ => false,
        };
        if whole { Keep::Whole } else { Keep::Nothing }
    });
    if kept.is_err() { "{}".to_owned() } else { output.finish() }
}

/// Of a `third_party_invite`, `signed` alone stays.
fn only_signed(invite: &str) -> Keep {
    let mut output = ObjectWriter::new(0);
    let mut signed = false;
    let kept = filter(invite, &mut output, |key, _| {
        signed |= key == "signed";
        if key == "signed" { Keep::Whole } else { Keep::Nothing }
    });
    if kept.is_ok() && signed { Keep::Instead(output.finish()) } else { Keep::Nothing }
}

/// What stays of a member.
enum Keep {
    Whole,
    Instead(String),
    Nothing,
}

/// Writes the members of an object that stay, in their order.
fn filter(
    json: &str,
    output: &mut ObjectWriter,
    mut keep: impl FnMut(&str, &str) -> Keep,
) -> Result<(), Fault> {
    let mut cursor = Cursor::new(json);
    let mut walk = cursor.object()?;
    while let Some(key) = cursor.key(&mut walk)? {
        let range = cursor.skip(DEPTH_MAX)?;
        let value = cursor.slice(range);
        let Some(key) = key.decode() else { continue };
        match keep(&key, value) {
            Keep::Whole => output.member(&key, value),
            Keep::Instead(value) => output.member(&key, &value),
            Keep::Nothing => {}
        }
    }
    cursor.end()
}

fn is_object(json: &str) -> bool {
    let mut cursor = Cursor::new(json);
    cursor.kind() == Ok(Kind::Object) && cursor.skip(DEPTH_MAX).is_ok() && cursor.end().is_ok()
}

/// An object being written.
struct ObjectWriter(String);

impl ObjectWriter {
    fn new(capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity);
        text.push('{');
        Self(text)
    }

    /// Adds a member whose value is JSON. Keys that stay are plain ASCII words
    /// but for those of a create event, which may be anything.
    fn member(&mut self, key: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&serde_json::Value::from(key).to_string());
        self.0.push(':');
        self.0.push_str(value);
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// For each kind, a content in which everything that any version keeps
    /// stands beside something that none keeps.
    fn full_content(kind: &str) -> Value {
        match kind {
            "m.room.member" => json!({
                "membership": "join", "displayname": "A", "avatar_url": "mxc://a/b", "reason": "x",
                "join_authorised_via_users_server": "@a:b",
                "third_party_invite": {"display_name": "a", "signed": {"mxid": "@a:b", "token": "t"}},
            }),
            "m.room.create" => json!({
                "creator": "@a:b", "room_version": "9", "m.federate": false, "a\"b": {"c": [1]},
            }),
            "m.room.join_rules" => {
                json!({"join_rule": "restricted", "allow": [{"x": 1}], "other": 1})
            }
            "m.room.power_levels" => json!({
                "ban": 1, "events": {"a": 2}, "events_default": 3, "kick": 4, "redact": 5,
                "state_default": 6, "users": {"@a:b": 7}, "users_default": 8, "invite": 9,
                "notifications": {"room": 10}, "historical": 11,
            }),
            "m.room.history_visibility" => json!({"history_visibility": "shared", "other": 1}),
            "m.room.aliases" => json!({"aliases": ["#a:b"], "other": 1}),
            "m.room.redaction" => json!({"redacts": "$a", "reason": "spam"}),
            _ => {
                json!({"body": "hello", "msgtype": "m.text", "membership": "join", "creator": "@a:b"})
            }
        }
    }

    fn expected_content(kind: &str, version: u8) -> Value {
        let mut content = full_content(kind);
        let kept: Vec<&str> = match (kind, version) {
            ("m.room.member", 11..) => {
                content["third_party_invite"] = json!({"signed": {"mxid": "@a:b", "token": "t"}});
                vec!["membership", "join_authorised_via_users_server", "third_party_invite"]
            }
            ("m.room.member", 9..) => vec!["membership", "join_authorised_via_users_server"],
            ("m.room.member", _) => vec!["membership"],
            ("m.room.create", 11..) => return content,
            ("m.room.create", _) => vec!["creator"],
            ("m.room.join_rules", 8..) => vec!["join_rule", "allow"],
            ("m.room.join_rules", _) => vec!["join_rule"],
            ("m.room.power_levels", version) => {
                let mut kept = vec![
                    "ban",
                    "events",
                    "events_default",
                    "kick",
                    "redact",
                    "state_default",
                    "users",
                    "users_default",
                ];
                kept.extend((version >= 11).then_some("invite"));
                kept
            }
            ("m.room.history_visibility", _) => vec!["history_visibility"],
            ("m.room.aliases", ..6) => vec!["aliases"],
            ("m.room.redaction", 11..) => vec!["redacts"],
            _ => vec![],
        };
        content.as_object_mut().unwrap().retain(|key, _| kept.contains(&key.as_str()));
        content
    }

    const KINDS: [&str; 9] = [
        "m.room.member",
        "m.room.create",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.history_visibility",
        "m.room.aliases",
        "m.room.redaction",
        "m.room.message",
        "m.room.name",
    ];

    /// Goal: every version's table, for every kind it names.
    #[test]
    fn each_version_keeps_its_own_keys() {
        let versions: Vec<(String, u8)> = (1..=12)
            .map(|version| (version.to_string(), version))
            .chain(["", "13", "0", "org.example.special"].map(|name| (name.to_owned(), 12)))
            .collect();
        for (name, version) in versions {
            for kind in KINDS {
                let event = json!({
                    "event_id": "$e", "type": kind, "sender": "@a:b", "state_key": "",
                    "origin_server_ts": 5, "content": full_content(kind), "redacts": "$x",
                    "room_id": "!r", "hashes": {"sha256": "h"}, "signatures": {}, "depth": 3,
                    "prev_events": [], "auth_events": [], "prev_state": [], "membership": "join",
                    "origin": "b", "unsigned": {"age": 1}, "user_id": "@a:b", "extra": [1],
                });
                let mut expected = event.clone();
                expected["content"] = expected_content(kind, version);
                let members = expected.as_object_mut().unwrap();
                for gone in ["redacts", "unsigned", "user_id", "extra"] {
                    members.remove(gone);
                }
                if version >= 11 {
                    for gone in ["prev_state", "membership", "origin"] {
                        members.remove(gone);
                    }
                }
                let once = redact(&event.to_string(), kind, &name);
                let value: Value = serde_json::from_str(&once).unwrap();
                assert_eq!(value, expected, "version {name:?}, {kind}");
                assert_eq!(redact(&once, kind, &name), once, "redacting again changes nothing");
            }
        }
    }

    /// Goal: the redaction event is where clients look for it.
    #[test]
    fn redacted_because_is_the_redaction_event() {
        let event = r#"{ "type" : "m.room.message", "content": {"body":"x"}, "event_id":"$e" }"#;
        let because = r#" {"type":"m.room.redaction","content":{"reason":"a } \" b"}} "#;
        let redacted = redacted_with_because(event, "m.room.message", "10", because);
        assert_eq!(
            redacted,
            concat!(
                r#"{"type":"m.room.message","event_id":"$e","content":{},"#,
                r#""unsigned":{"redacted_because":{"type":"m.room.redaction","#,
                r#""content":{"reason":"a } \" b"}}}}"#,
            )
        );
        for not_an_event in ["", "null", "[]", "{", "{}{}"] {
            let redacted = redacted_with_because(event, "m.room.message", "10", not_an_event);
            assert_eq!(redacted, redact(event, "m.room.message", "10"));
        }
    }

    /// Goal: whatever comes in, an object comes out.
    #[test]
    fn malformed_events_leave_an_empty_one() {
        for json in ["", "null", "[1]", "{", "{\"content\":", "{} x"] {
            assert_eq!(redact(json, "m.room.message", "11"), "{\"content\":{}}", "{json}");
        }
        let odd = r#"{"content":[1],"type":"m.room.member"}"#;
        assert_eq!(redact(odd, "m.room.member", "11"), r#"{"type":"m.room.member","content":{}}"#);
        let odd = r#"{"content":{"third_party_invite":7,"membership":"join"}}"#;
        assert_eq!(redact(odd, "m.room.member", "11"), r#"{"content":{"membership":"join"}}"#);
    }
}
