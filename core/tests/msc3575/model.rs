//! A model client's list: it applies operations and believes them.

use std::collections::BTreeMap;

use serde_json::Value;

/// An order as a client has it, read in the two ways in which clients read an
/// `INSERT` at an index that is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Rooms shift towards the closest empty index, as the proposal says.
    closest: BTreeMap<u64, String>,
    /// Rooms shift towards the index of the last `DELETE`, as a web client does.
    deleted: BTreeMap<u64, String>,
    gap: Option<u64>,
}

impl Held {
    /// The rooms by index; the two readings are the same.
    pub(crate) fn rooms(&self) -> &BTreeMap<u64, String> {
        assert_eq!(self.closest, self.deleted, "clients read the operations alike");
        &self.closest
    }

    /// Applies the operations of an answer.
    pub(crate) fn apply(&mut self, operations: &Value) {
        for operation in operations.as_array().into_iter().flatten() {
            let index = || operation["index"].as_u64().expect("an index");
            let range = || {
                let range = &operation["range"];
                (range[0].as_u64().expect("a number"), range[1].as_u64().expect("a number"))
            };
            match operation["op"].as_str().expect("an operation") {
                "SYNC" => {
                    let rooms = operation["room_ids"].as_array().expect("rooms");
                    let rooms = rooms.iter().map(|room| room.as_str().expect("an id").to_owned());
                    self.sync(range(), rooms.collect());
                }
                "INVALIDATE" => self.invalidate(range()),
                "DELETE" => self.delete(index()),
                "INSERT" => {
                    self.insert(index(), operation["room_id"].as_str().expect("an id").to_owned());
                }
                other => panic!("{other} is not an operation"),
            }
        }
    }

    pub(crate) fn sync(&mut self, (from, to): (u64, u64), rooms: Vec<String>) {
        assert_eq!(rooms.len() as u64, to - from + 1, "a range is as long as its rooms");
        for (index, room) in (from..).zip(rooms) {
            self.closest.insert(index, room.clone());
            self.deleted.insert(index, room);
        }
    }

    pub(crate) fn invalidate(&mut self, (from, to): (u64, u64)) {
        assert!(from <= to, "a range does not end before it begins");
        self.closest.retain(|index, _| !(from..=to).contains(index));
        self.deleted.retain(|index, _| !(from..=to).contains(index));
    }

    pub(crate) fn delete(&mut self, index: u64) {
        assert!(self.closest.remove(&index).is_some(), "what is deleted was there");
        self.deleted.remove(&index);
        self.gap = Some(index);
    }

    pub(crate) fn insert(&mut self, index: u64, room: String) {
        let gap = self.gap.take().expect("an insertion follows a deletion");
        shift(&mut self.deleted, index, gap);
        self.deleted.insert(index, room.clone());
        if self.closest.contains_key(&index) {
            let is_empty = |at: &u64| !self.closest.contains_key(at);
            let before = (0..index).rev().find(is_empty);
            let behind = (index..=u64::MAX).find(is_empty).expect("an order ends");
            let empty = match before {
                Some(before) if index - before < behind - index => before,
                before => {
                    let tie = before.is_some_and(|before| index - before == behind - index);
                    assert!(!tie, "no two empty indices are as close");
                    behind
                }
            };
            shift(&mut self.closest, index, empty);
        }
        self.closest.insert(index, room);
    }
}

/// Moves what is between `index` and `gap` one towards the gap.
fn shift(rooms: &mut BTreeMap<u64, String>, index: u64, gap: u64) {
    let moved: Vec<(u64, u64)> = if gap < index {
        (gap..index).map(|to| (to + 1, to)).collect()
    } else {
        (index..gap).rev().map(|from| (from, from + 1)).collect()
    };
    for (from, to) in moved {
        match rooms.remove(&from) {
            Some(room) => rooms.insert(to, room),
            None => rooms.remove(&to),
        };
    }
}
