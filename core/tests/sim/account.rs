//! Account data that decides which lists a room is in. Its content follows from
//! the one number that every piece of account data has here.

use serde_json::{Value, json};

/// The tags that there are.
pub(crate) const TAGS: [&str; 2] = ["m.favourite", "m.lowpriority"];

/// Whether `m.direct` of this value names a room.
pub(crate) fn is_direct(value: u64, room: usize) -> bool {
    (value / 7 + room as u64).is_multiple_of(3)
}

/// Whether `m.tag` of this value has a tag.
pub(crate) fn has_tag(value: u64, tag: &str) -> bool {
    TAGS.iter().zip([1, 2]).any(|(it, bit)| *it == tag && value & bit != 0)
}

/// The content of account data.
pub(crate) fn content(kind: &str, value: u64) -> Value {
    match kind {
        "m.direct" => {
            let rooms = (0..ROOMS_MAX).filter(|room| is_direct(value, *room));
            let rooms: Vec<String> = rooms.map(crate::wanted::room_id).collect();
            json!({"value": value, "@somebody:x": rooms})
        }
        "m.tag" => {
            let tags = TAGS.iter().filter(|tag| has_tag(value, tag));
            let tags: serde_json::Map<String, Value> =
                tags.map(|tag| ((*tag).to_owned(), json!({}))).collect();
            json!({"value": value, "tags": tags})
        }
        _ => json!({"value": value}),
    }
}

/// Rooms that `m.direct` speaks of.
const ROOMS_MAX: usize = 100;
