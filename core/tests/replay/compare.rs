//! Two answers beside each other: where they differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::recording::elements;

/// In what way two answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Luge's answer lacks it.
    Missing,
    /// Luge's answer alone has it.
    Added,
    /// Both have it, with other values.
    Value,
    /// Both have it, of another JSON type.
    Type,
}

/// One difference.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// Where: keys and `[]` for elements; ids of rooms and keys of lists are `*`.
    pub(crate) at: String,
    /// The room's entry that it is in.
    pub(crate) room: Option<String>,
    pub(crate) kind: Kind,
    /// What the homeserver said; null where it said nothing.
    pub(crate) recorded: Value,
    /// What Luge said; null where it said nothing.
    pub(crate) luges: Value,
}

/// All differences of two bodies.
pub(crate) fn compare(recorded: &Value, luges: &Value) -> Vec<Difference> {
    let mut comparison = Comparison { room: None, found: Vec::new() };
    comparison.walk("", recorded, luges);
    comparison.found
}

struct Comparison {
    room: Option<String>,
    found: Vec<Difference>,
}

/// Objects whose keys are ids.
const MAPS: [&str; 5] = [
    "lists",
    "rooms",
    "extensions.account_data.rooms",
    "extensions.receipts.rooms",
    "extensions.typing.rooms",
];

impl Comparison {
    fn walk(&mut self, at: &str, recorded: &Value, luges: &Value) {
        match (recorded, luges) {
            (Value::Object(_), Value::Object(_)) => self.objects(at, recorded, luges),
            (Value::Array(recorded_elements), Value::Array(luges_elements)) => match at {
                "rooms.*.timeline" => {
                    self.order(at, recorded, luges, |event| event["event_id"].clone());
                    self.elements(at, recorded, luges, |event| event["event_id"].to_string());
                }
                "rooms.*.required_state" => self.elements(at, recorded, luges, state_name),
                "rooms.*.invite_state" => {
                    self.order(at, recorded, luges, |event| state_name(event).into());
                    self.elements(at, recorded, luges, state_name);
                }
                "extensions.account_data.global" => {
                    self.elements(at, recorded, luges, |item| item["type"].to_string());
                }
                "extensions.e2ee.device_lists.changed" | "extensions.e2ee.device_lists.left" => {
                    self.elements(at, recorded, luges, Value::to_string);
                }
                "lists.*.ops[].room_ids" => self.order(at, recorded, luges, Value::clone),
                _ if recorded_elements.len() == luges_elements.len() => {
                    let at = format!("{at}[]");
                    for (recorded, luges) in recorded_elements.iter().zip(luges_elements) {
                        self.walk(&at, recorded, luges);
                    }
                }
                _ => self.note(at, Kind::Value, recorded, luges),
            },
            _ if std::mem::discriminant(recorded) != std::mem::discriminant(luges) => {
                self.note(at, Kind::Type, recorded, luges);
            }
            _ if recorded != luges => self.note(at, Kind::Value, recorded, luges),
            _ => {}
        }
    }

    fn objects(&mut self, at: &str, recorded: &Value, luges: &Value) {
        let keys = |value: &Value| {
            value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        let all: BTreeSet<_> = keys(recorded).into_iter().chain(keys(luges)).collect();
        for key in all {
            if at == "rooms" {
                self.room = Some(key.clone());
            }
            let name = if MAPS.contains(&at) { "*" } else { &key };
            let inner = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
            self.pair(&inner, recorded.get(&key), luges.get(&key));
            if at == "rooms" {
                self.room = None;
            }
        }
    }

    /// Elements with names of their own, in any order.
    fn elements(
        &mut self,
        at: &str,
        recorded: &Value,
        luges: &Value,
        name: impl Fn(&Value) -> String,
    ) {
        let names = |value| elements(value).iter().map(&name).collect::<BTreeSet<_>>().len();
        let is_twice = |value| names(value) != elements(value).len();
        if is_twice(recorded) || is_twice(luges) {
            if recorded != luges {
                self.note(at, Kind::Value, recorded, luges);
            }
            return;
        }
        let named = |value| elements(value).iter().map(|it| (name(it), it));
        let (recorded, luges): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (named(recorded).collect(), named(luges).collect());
        let all: BTreeSet<_> = recorded.keys().chain(luges.keys()).collect();
        let at = format!("{at}[]");
        for name in all {
            self.pair(&at, recorded.get(name).copied(), luges.get(name).copied());
        }
    }

    /// The same elements come in the same order.
    fn order(&mut self, at: &str, recorded: &Value, luges: &Value, name: fn(&Value) -> Value) {
        let names = |value| elements(value).iter().map(name).collect::<Vec<_>>();
        let (recorded, luges) = (names(recorded), names(luges));
        if recorded != luges {
            self.note(at, Kind::Value, &recorded.into(), &luges.into());
        }
    }

    fn pair(&mut self, at: &str, recorded: Option<&Value>, luges: Option<&Value>) {
        match (recorded, luges) {
            (Some(recorded), Some(luges)) => self.walk(at, recorded, luges),
            (Some(recorded), None) => self.note(at, Kind::Missing, recorded, &Value::Null),
            (None, Some(luges)) => self.note(at, Kind::Added, &Value::Null, luges),
            (None, None) => {}
        }
    }

    fn note(&mut self, at: &str, kind: Kind, recorded: &Value, luges: &Value) {
        let (recorded, luges) = (recorded.clone(), luges.clone());
        let (at, room) = (at.to_owned(), self.room.clone());
        self.found.push(Difference { at, room, kind, recorded, luges });
    }
}

/// What a state event is about.
fn state_name(event: &Value) -> String {
    format!("{}/{}", event["type"], event["state_key"])
}
