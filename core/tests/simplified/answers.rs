//! Looking at answers.

use serde_json::Value;

/// The ids of the events in `room`'s timeline; empty where it has none.
pub(crate) fn timeline<'a>(answer: &'a Value, room_id: &str) -> Vec<&'a str> {
    ids(&answer["rooms"][room_id]["timeline"])
}

/// The ids of the events in `room`'s required state, in order of id.
pub(crate) fn required<'a>(answer: &'a Value, room_id: &str) -> Vec<&'a str> {
    let mut ids = ids(&answer["rooms"][room_id]["required_state"]);
    ids.sort_unstable();
    ids
}

/// The rooms that have an entry, in order of id.
pub(crate) fn rooms(answer: &Value) -> Vec<&str> {
    let rooms = answer["rooms"].as_object();
    rooms.into_iter().flat_map(|rooms| rooms.keys().map(String::as_str)).collect()
}

/// The rooms in the `at`-th window of a list.
pub(crate) fn window<'a>(answer: &'a Value, list: &str, at: usize) -> Vec<&'a str> {
    let ids = answer["lists"][list]["ops"][at]["room_ids"].as_array();
    ids.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Where an answer can be continued from.
pub(crate) fn position(answer: &Value) -> &str {
    answer["pos"].as_str().expect("an answer has a position")
}

fn ids(events: &Value) -> Vec<&str> {
    let events = events.as_array();
    events.into_iter().flatten().filter_map(|event| event["event_id"].as_str()).collect()
}
