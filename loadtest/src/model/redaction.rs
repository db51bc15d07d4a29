//! What is left of an event's content once it is redacted, by room version.
//!
//! Only the algorithm; finding the event and telling clients is `act`'s business.

use serde_json::{Map, Value};

/// The content that a redaction leaves.
pub(crate) fn redacted_content(version: &str, kind: &str, content: &Value) -> Value {
    let number = version.parse::<u32>().unwrap_or(1);
    if kind == "m.room.create" && number >= 11 {
        return content.clone();
    }
    let kept: &[&str] = match kind {
        "m.room.member" if number >= 9 => &["membership", "join_authorised_via_users_server"],
        "m.room.member" => &["membership"],
        "m.room.create" => &["creator"],
        "m.room.join_rules" if number >= 8 => &["join_rule", "allow"],
        "m.room.join_rules" => &["join_rule"],
        "m.room.history_visibility" => &["history_visibility"],
        "m.room.aliases" if number <= 5 => &["aliases"],
        "m.room.redaction" if number >= 11 => &["redacts"],
        "m.room.power_levels" => &[
            "ban",
            "events",
            "events_default",
            "kick",
            "redact",
            "state_default",
            "users",
            "users_default",
        ],
        _ => &[],
    };
    let mut left = Map::new();
    for key in kept {
        if let Some(value) = content.get(*key) {
            left.insert((*key).to_owned(), value.clone());
        }
    }
    Value::Object(left)
}
