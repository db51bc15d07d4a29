//! The three dialects of sliding sync, as a client speaks them: where each is served, and how each
//! says what the simplified one says. Written from the proposals, apart from the server's own code.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::raw::SIMPLIFIED;
use super::stack::synapse_is_the_target;

/// A dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `org.matrix.simplified_msc3575`, in which the tests write their requests.
    Simplified,
    /// MSC4186 as accepted.
    V4,
    /// MSC3575.
    Msc3575,
}

const TYPING: &str = "org.matrix.msc4508.typing";

impl Dialect {
    /// Those that the target serves.
    pub fn served() -> &'static [Self] {
        if synapse_is_the_target() {
            &[Self::Simplified]
        } else {
            &[Self::Simplified, Self::V4, Self::Msc3575]
        }
    }

    /// The path to post to.
    pub fn path(self) -> &'static str {
        match self {
            Self::Simplified => SIMPLIFIED,
            Self::V4 => "/_matrix/client/v4/sync",
            Self::Msc3575 => "/_matrix/client/unstable/org.matrix.msc3575/sync",
        }
    }

    /// Whether the position and the timeout are part of the body.
    pub fn asks_in_body(self) -> bool {
        self == Self::V4
    }

    /// Whether what was asked for once need not be asked for again.
    pub fn is_sticky(self) -> bool {
        self == Self::Msc3575
    }

    /// A simplified request in this dialect's words.
    pub fn request(self, mut body: Value) -> Value {
        if self != Self::V4 {
            return body;
        }
        for part in ["lists", "room_subscriptions"] {
            let configs = body.get_mut(part).and_then(Value::as_object_mut);
            for (_, config) in configs.into_iter().flatten() {
                if let Some(config) = config.as_object_mut() {
                    to_v4(config);
                }
            }
        }
        if let Some(extensions) = body.get_mut("extensions").and_then(Value::as_object_mut) {
            if let Some(typing) = extensions.remove("typing") {
                extensions.insert(TYPING.to_owned(), typing);
            }
            // There is no wildcard: what is absent is everything.
            for (_, extension) in extensions {
                if extension["rooms"] == json!(["*"]) {
                    extension.as_object_mut().map(|extension| extension.remove("rooms"));
                }
            }
        }
        body
    }

    /// An answer with the names that the simplified dialect gives to what it has in common.
    pub fn answer(self, mut answer: Value) -> Value {
        if self != Self::V4 {
            return answer;
        }
        if let Some(extensions) = answer.get_mut("extensions").and_then(Value::as_object_mut)
            && let Some(typing) = extensions.remove(TYPING)
        {
            extensions.insert("typing".to_owned(), typing);
        }
        let rooms = answer.get_mut("rooms").and_then(Value::as_object_mut);
        for (_, room) in rooms.into_iter().flatten() {
            if let Some(room) = room.as_object_mut()
                && let Some(stripped) = room.remove("stripped_state")
            {
                room.insert("invite_state".to_owned(), stripped);
            }
        }
        answer
    }
}

/// One range, and patterns instead of pairs.
fn to_v4(config: &mut Map<String, Value>) {
    if let Some(ranges) = config.remove("ranges") {
        config.insert("range".to_owned(), ranges[0].clone());
    }
    let Some(pairs) = config.remove("required_state") else { return };
    let (mut include, mut lazy_members) = (Vec::new(), false);
    for pair in pairs.as_array().into_iter().flatten() {
        if pair[1] == "$LAZY" {
            lazy_members = true;
            continue;
        }
        let mut pattern = json!({});
        for (name, value) in [("type", &pair[0]), ("state_key", &pair[1])] {
            if value != "*" {
                pattern[name] = value.clone();
            }
        }
        include.push(pattern);
    }
    let required = json!({ "include": include, "lazy_members": lazy_members });
    config.insert("required_state".to_owned(), required);
}

/// A list as an MSC3575 client holds it: it applies operations, and believes them.
#[derive(Clone, Debug, Default)]
pub struct HeldList {
    rooms: BTreeMap<u64, String>,
    /// Where the last `DELETE` left room for an `INSERT`.
    gap: Option<u64>,
}

impl HeldList {
    /// The rooms in order; fails where an index is empty.
    pub fn rooms(&self) -> Result<Vec<&str>> {
        let is_whole = self.rooms.keys().copied().eq(0..self.rooms.len() as u64);
        ensure!(is_whole, "a list with holes: {:?}", self.rooms);
        Ok(self.rooms.values().map(String::as_str).collect())
    }

    /// Applies the operations of an answer's list.
    pub fn apply(&mut self, list: &Value) -> Result<()> {
        for operation in list["ops"].as_array().into_iter().flatten() {
            self.apply_one(operation).with_context(|| format!("{operation} to {self:?}"))?;
        }
        Ok(())
    }

    fn apply_one(&mut self, operation: &Value) -> Result<()> {
        let range = || -> Result<(u64, u64)> {
            let bound = |at: usize| operation["range"][at].as_u64().context("no range");
            Ok((bound(0)?, bound(1)?))
        };
        let index = || operation["index"].as_u64().context("no index");
        match operation["op"].as_str() {
            Some("SYNC") => {
                let (from, _) = range()?;
                let rooms = operation["room_ids"].as_array().context("no rooms")?;
                for (at, room) in (from..).zip(rooms) {
                    let room = room.as_str().context("a room that is no string")?;
                    self.rooms.insert(at, room.to_owned());
                }
            }
            Some("INVALIDATE") => {
                let (from, to) = range()?;
                self.rooms.retain(|at, _| !(from..=to).contains(at));
            }
            Some("DELETE") => {
                let at = index()?;
                self.rooms.remove(&at).context("nothing there")?;
                self.gap = Some(at);
            }
            Some("INSERT") => {
                let at = index()?;
                let gap = self.gap.take().context("an insertion without a deletion")?;
                let room = operation["room_id"].as_str().context("no room")?;
                self.shift(at, gap);
                self.rooms.insert(at, room.to_owned());
            }
            _ => bail!("not an operation"),
        }
        Ok(())
    }

    /// Moves what is between `at` and `gap` one towards the gap.
    fn shift(&mut self, at: u64, gap: u64) {
        let moves: Vec<(u64, u64)> = if gap < at {
            (gap..at).map(|to| (to + 1, to)).collect()
        } else {
            (at..gap).rev().map(|from| (from, from + 1)).collect()
        };
        for (from, to) in moves {
            if let Some(room) = self.rooms.remove(&from) {
                self.rooms.insert(to, room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the model client moves rooms as the proposal says, and notices what it cannot apply.
    #[test]
    fn operations_are_applied_or_refused() {
        let mut list = HeldList::default();
        let sync = json!({ "op": "SYNC", "range": [0, 2], "room_ids": ["a", "b", "c"] });
        list.apply(&json!({ "ops": [sync] })).unwrap();
        let to_top = json!([
            { "op": "DELETE", "index": 2 }, { "op": "INSERT", "index": 0, "room_id": "c" },
        ]);
        list.apply(&json!({ "ops": to_top })).unwrap();
        assert_eq!(list.rooms().unwrap(), ["c", "a", "b"]);
        let down = json!([
            { "op": "DELETE", "index": 0 }, { "op": "INSERT", "index": 2, "room_id": "c" },
        ]);
        list.apply(&json!({ "ops": down })).unwrap();
        assert_eq!(list.rooms().unwrap(), ["a", "b", "c"]);
        let gone = json!([{ "op": "INVALIDATE", "range": [1, 1] }]);
        list.apply(&json!({ "ops": gone })).unwrap();
        assert!(list.rooms().is_err());
        for wrong in [
            json!({ "op": "DELETE", "index": 9 }),
            json!({ "op": "INSERT", "index": 0, "room_id": "d" }),
            json!({ "op": "MOVE" }),
        ] {
            assert!(list.clone().apply(&json!({ "ops": [wrong] })).is_err());
        }
    }

    /// Goal: a request says the same in MSC4186.
    #[test]
    fn requests_are_translated() {
        let config = json!({
            "ranges": [[0, 9]], "timeline_limit": 1,
            "required_state": [["m.room.name", ""], ["m.room.member", "$LAZY"], ["*", "k"]],
        });
        let on = json!({ "enabled": true, "rooms": ["*"] });
        let body = json!({ "lists": { "all": config }, "extensions": { "typing": on } });
        let list = json!({
            "range": [0, 9], "timeline_limit": 1, "required_state": {
                "include": [{ "type": "m.room.name", "state_key": "" }, { "state_key": "k" }],
                "lazy_members": true,
            },
        });
        let expected =
            json!({ "lists": { "all": list }, "extensions": { TYPING: { "enabled": true } } });
        assert_eq!(Dialect::V4.request(body.clone()), expected);
        assert_eq!(Dialect::Msc3575.request(body.clone()), body);
    }
}
