//! `m.direct`: which rooms are direct chats.
//!
//! It may name thousands, and is read while other users of the shard wait: no
//! tree of values is made of it.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The rooms that the event names; what is not as it should be names none.
pub(super) fn rooms(json: &str) -> BTreeSet<Arc<str>> {
    let event: Option<Event> = serde_json::from_str(json).ok();
    event.map(|event| event.content.0.into_iter().collect()).unwrap_or_default()
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    content: Rooms,
}

#[derive(Default)]
struct Rooms(Vec<Arc<str>>);

impl<'de> Deserialize<'de> for Rooms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut rooms = Vec::new();
        Collect { part: Part::Content, rooms: &mut rooms }.deserialize(deserializer)?;
        Ok(Self(rooms))
    }
}

/// What of the event is at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Lists by user.
    Content,
    /// The rooms with one user.
    List,
    /// The id of one.
    Room,
}

/// Collects ids of rooms, and passes over what is of another kind.
struct Collect<'a> {
    part: Part,
    rooms: &'a mut Vec<Arc<str>>,
}

impl<'de> DeserializeSeed<'de> for Collect<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            if self.part == Part::Content {
                map.next_value_seed(Collect { part: Part::List, rooms: self.rooms })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.part != Part::List {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        loop {
            let room = Collect { part: Part::Room, rooms: &mut *self.rooms };
            if list.next_element_seed(room)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.part == Part::Room {
            self.rooms.push(text.into());
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_rooms_is_passed_over() {
        for (content, expected) in [
            (r#"{"@a:x":["!1:x","!2:x"],"@b:x":["!1:x"]}"#, &["!1:x", "!2:x"][..]),
            (r#"{"@a:x":"!1:x","@b:x":{"c":["!2:x"]},"@c:x":null,"@d:x":[]}"#, &[]),
            (r#"{"@a:x":[1,-1,1.5,true,null,["!1:x"],{"a":"!2:x"},"!3:x"]}"#, &["!3:x"]),
            (r#"{"@a:x":["!\u0031\"😀:x"]}"#, &["!1\"😀:x"]),
            (r#"["!1:x"]"#, &[]),
            (r#""!1:x""#, &[]),
            ("null", &[]),
        ] {
            for json in [
                format!(r#"{{"type":"m.direct","content":{content}}}"#),
                format!(r#"{{"content":{content},"type":"m.direct"}}"#),
            ] {
                let named = rooms(&json);
                assert!(named.iter().map(|room| &**room).eq(expected.iter().copied()), "{json}");
            }
        }
        assert!(rooms(r#"{"type":"m.direct"}"#).is_empty());
        assert!(rooms("[]").is_empty());
    }
}
