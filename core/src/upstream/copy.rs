//! What of an answer is nothing but a copy of what another poller has told.
//!
//! In a room with many local users each event comes once for each of them. What
//! is known by its id is not read further, and of it nothing goes to the ledger
//! but what is the poller's own. In doubt it is no copy: then all of it is read,
//! and the ledger finds out. [`Lately`] is what is known, [`Copy`] what is left.

use std::{borrow::Cow, sync::Arc};

use super::{
    batch::Section,
    event::integer,
    parse::{Limits, RoomRange},
    scan::{Cursor, Fault, Kind, Literal},
};
use crate::id::{RoomNumber, Sequence};

/// Events of a room that are known again, and as many entries of its state.
const LATELY_MAX: usize = 8;

/// What was told of a room lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lately {
    /// Events of the timeline that say nothing of state and redact nothing, the
    /// newest last.
    timeline: Vec<Arc<Told>>,
    /// Ids of events that are entries of the state.
    state: Vec<Arc<str>>,
    /// When the state last changed as `state` was noted.
    state_as_of: Sequence,
}

/// One event of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `event_id`.
    pub event_id: Arc<str>,
    /// `sender`.
    pub sender: Arc<str>,
    /// Its number in the room's timeline.
    pub sequence: u64,
    /// Whether the token for paging back from before it is known.
    pub has_token: bool,
}

impl Lately {
    /// Adds an event of the timeline; the oldest is forgotten.
    pub fn note_event(&mut self, told: Told) {
        if self.timeline.len() >= LATELY_MAX {
            self.timeline.remove(0);
        }
        self.timeline.push(Arc::new(told));
    }

    /// Adds an event that is an entry of the state, which last changed at `as_of`.
    pub fn note_state(&mut self, event_id: &str, as_of: Sequence) {
        if self.state_as_of != as_of {
            self.state.clear();
            self.state_as_of = as_of;
        }
        if self.state.iter().any(|known| **known == *event_id) {
            return;
        }
        if self.state.len() >= LATELY_MAX {
            self.state.remove(0);
        }
        self.state.push(event_id.into());
    }

    /// Notes that the token for paging back from before an event is known.
    #[must_use]
    pub fn with_token(&self, sequence: u64) -> Self {
        let note = |told: &Arc<Told>| {
            let mut told = Arc::clone(told);
            if told.sequence == sequence {
                Arc::make_mut(&mut told).has_token = true;
            }
            told
        };
        Self { timeline: self.timeline.iter().map(note).collect(), ..self.clone() }
    }

    /// The ids of the events, and of the entries of the state.
    pub fn event_ids(&self) -> (Vec<String>, Vec<String>) {
        let of_state = self.state.iter().map(ToString::to_string).collect();
        (self.timeline.iter().map(|told| told.event_id.to_string()).collect(), of_state)
    }

    /// Whether an event is an entry of the state, which last changed at `as_of`.
    fn has_entry(&self, event_id: &str, as_of: Sequence) -> bool {
        self.state_as_of == as_of && self.state.iter().any(|known| **known == *event_id)
    }

    fn event(&self, event_id: &str) -> Option<&Told> {
        let told = self.timeline.iter().rfind(|told| *told.event_id == *event_id);
        told.map(|told| &**told)
    }
}

/// A room that is known.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its number.
    pub room: RoomNumber,
    /// When its state last changed.
    pub state_changed: Sequence,
    /// What was told of it lately.
    pub lately: &'a Lately,
}

/// A room of an answer of which nothing is new but what is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The room.
    pub room: RoomNumber,
    /// The smallest number of the events that the answer has of it.
    pub first: u64,
    /// When the room's state last changed, where the answer has entries of it:
    /// these they were then.
    pub state_as_of: Option<Sequence>,
    /// `unread_notifications.notification_count`.
    pub notification_count: Option<u64>,
    /// `unread_notifications.highlight_count`.
    pub highlight_count: Option<u64>,
}

/// Reads a room of an answer to `user_id`, as far as it is a copy; `None` where
/// it is more than that, or may be.
pub(crate) fn copy_of(
    text: &str,
    range: &RoomRange<'_>,
    known: Known<'_>,
    user_id: &str,
    limits: &Limits,
) -> Option<Copy> {
    if range.section != Section::Join {
        return None;
    }
    let copy = Copy {
        room: known.room,
        first: u64::MAX,
        state_as_of: None,
        notification_count: None,
        highlight_count: None,
    };
    let mut reading = Reading { known, user_id, depth_max: limits.depth_max, copy, opens: None };
    let text = text.get(range.range.clone())?;
    reading.room(&mut Cursor::new(text)).ok().flatten()?;
    (reading.copy.first != u64::MAX).then_some(reading.copy)
}

/// A room being read. Each step is `None` where it finds more than a copy.
struct Reading<'a> {
    known: Known<'a>,
    user_id: &'a str,
    depth_max: usize,
    copy: Copy,
    /// Whether the token from before the first event is known; `None` before it
    /// was met.
    opens: Option<bool>,
}

type Step = Result<Option<()>, Fault>;

impl Reading<'_> {
    fn room(&mut self, cursor: &mut Cursor<'_>) -> Step {
        let mut has_timeline = false;
        let plain = members(cursor, |cursor, key| match key {
            // What stands there twice is set aside, and said so in the log.
            "timeline" if std::mem::replace(&mut has_timeline, true) => Ok(None),
            "timeline" => self.timeline(cursor),
            "state" | "state_after" | "org.matrix.msc4222.state_after" => {
                events(cursor, |cursor| self.entry(cursor))
            }
            "account_data" | "ephemeral" => events(cursor, |_| Ok(None)),
            "summary" => members(cursor, |_, _| Ok(None)),
            "unread_notifications" => self.unread(cursor),
            _ => self.skip(cursor),
        })?;
        cursor.end()?;
        Ok(plain)
    }

    fn timeline(&mut self, cursor: &mut Cursor<'_>) -> Step {
        let mut has_token = false;
        let plain = members(cursor, |cursor, key| match (key, cursor.kind()?) {
            ("events", _) => elements(cursor, |cursor| self.event(cursor)),
            ("limited", Kind::Bool) => Ok((cursor.word()? == "false").then_some(())),
            ("prev_batch", Kind::String) => {
                has_token = true;
                cursor.string().map(|_| Some(()))
            }
            ("limited" | "prev_batch", _) => Ok(None),
            _ => self.skip(cursor),
        })?;
        let is_token_known = !has_token || self.opens == Some(true);
        Ok(plain.filter(|()| is_token_known))
    }

    /// An event of the timeline. One of the user's own tells their device more
    /// than others are told.
    fn event(&mut self, cursor: &mut Cursor<'_>) -> Step {
        let event_id = self.event_id(cursor)?;
        let told = event_id.and_then(|event_id| self.known.lately.event(&event_id));
        let Some(told) = told.filter(|told| *told.sender != *self.user_id) else { return Ok(None) };
        self.copy.first = self.copy.first.min(told.sequence);
        self.opens.get_or_insert(told.has_token);
        Ok(Some(()))
    }

    fn entry(&mut self, cursor: &mut Cursor<'_>) -> Step {
        let event_id = self.event_id(cursor)?;
        let as_of = self.known.state_changed;
        self.copy.state_as_of = Some(as_of);
        let is_entry = |event_id: &str| self.known.lately.has_entry(event_id, as_of);
        Ok(event_id.filter(|event_id| is_entry(event_id)).map(|_| ()))
    }

    fn unread(&mut self, cursor: &mut Cursor<'_>) -> Step {
        members(cursor, |cursor, key| {
            let count = match key {
                "notification_count" => &mut self.copy.notification_count,
                "highlight_count" => &mut self.copy.highlight_count,
                _ => return cursor.skip(self.depth_max).map(|_| Some(())),
            };
            if count.is_some() || cursor.kind()? != Kind::Number {
                return Ok(None);
            }
            *count = integer(cursor.number()?);
            Ok(count.map(|_| ()))
        })
    }

    /// Passes an event; its id, unless it is written in an odd way.
    fn event_id<'a>(&self, cursor: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, Fault> {
        let mut event_id = None;
        let plain = members(cursor, |cursor, key| {
            if key != "event_id" || event_id.is_some() || cursor.kind()? != Kind::String {
                return self.skip(cursor);
            }
            event_id = plain_text(cursor.string()?);
            Ok(event_id.as_ref().map(|_| ()))
        })?;
        Ok(plain.and(event_id))
    }

    fn skip(&self, cursor: &mut Cursor<'_>) -> Step {
        cursor.skip(self.depth_max).map(|_| Some(()))
    }
}

/// Takes the `events` of an object, and nothing else of it.
fn events<'a>(cursor: &mut Cursor<'a>, each: impl FnMut(&mut Cursor<'a>) -> Step) -> Step {
    let mut each = Some(each);
    members(cursor, |cursor, key| match each.take().filter(|_| key == "events") {
        Some(each) => elements(cursor, each),
        None => Ok(None),
    })
}

fn elements<'a>(cursor: &mut Cursor<'a>, mut each: impl FnMut(&mut Cursor<'a>) -> Step) -> Step {
    if cursor.kind()? != Kind::Array {
        return Ok(None);
    }
    let mut walk = cursor.array()?;
    while cursor.element(&mut walk)? {
        if each(cursor)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

fn members<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&mut Cursor<'a>, &str) -> Step,
) -> Step {
    if cursor.kind()? != Kind::Object {
        return Ok(None);
    }
    let mut walk = cursor.object()?;
    while let Some(key) = cursor.key(&mut walk)? {
        let Some(key) = plain_text(key) else { return Ok(None) };
        if each(cursor, &key)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// What a literal stands for, where it stands for itself.
fn plain_text(literal: Literal<'_>) -> Option<Cow<'_, str>> {
    (!literal.escaped()).then(|| literal.decode()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::parse_news;

    const ROOM: &str = "!r:x";

    /// Of Bob's messages `$1` and `$2` the token before the first is known.
    fn lately() -> Lately {
        let mut lately = Lately::default();
        for (event_id, sequence) in [("$1", 5), ("$2", 6)] {
            let has_token = sequence == 5;
            let (event_id, sender) = (event_id.into(), "@bob:x".into());
            lately.note_event(Told { event_id, sender, sequence, has_token });
        }
        lately.note_state("$bob", Sequence(3));
        lately
    }

    fn news(user_id: &str, body: &str) -> (Vec<Copy>, usize) {
        news_as_of(Sequence(3), user_id, body)
    }

    fn news_as_of(state_changed: Sequence, user_id: &str, body: &str) -> (Vec<Copy>, usize) {
        let known = Known { room: RoomNumber(7), state_changed, lately: &lately() };
        let known = |room_id: &str| (room_id == ROOM).then_some(known);
        let batch = parse_news(body.as_bytes(), &Limits::default(), user_id, known).unwrap();
        (batch.copies, batch.rooms.len())
    }

    fn joined(room: &str) -> String {
        format!(r#"{{"next_batch":"s","rooms":{{"join":{{"!r:x":{room}}}}}}}"#)
    }

    fn event(event_id: &str) -> String {
        format!(
            r#"{{"type":"m.room.message","sender":"@bob:x","content":{{"event_id":"$9"}},"unsigned":{{"age":7}},"event_id":"{event_id}"}}"#
        )
    }

    fn timeline(events: &[&str], more: &str) -> String {
        let events: Vec<String> = events.iter().map(|it| event(it)).collect();
        format!(r#""timeline":{{"events":[{}]{more}}}"#, events.join(","))
    }

    #[test]
    fn what_is_known_by_its_ids_is_a_copy() {
        let copy = Copy {
            room: RoomNumber(7),
            first: 5,
            state_as_of: None,
            notification_count: None,
            highlight_count: None,
        };
        let bare = timeline(&["$1", "$2"], "");
        let with_token = timeline(&["$1"], r#","limited":false,"prev_batch":"p""#);
        let state = format!(r#""state_after":{{"events":[{}]}}"#, event("$bob"));
        let quiet =
            r#""ephemeral":{"events":[]},"account_data":{"events":[]},"summary":{},"else":[1]"#;
        let counts = r#""unread_notifications":{"notification_count":2,"highlight_count":1}"#;
        for (room, copy) in [
            (format!("{{{bare}}}"), copy.clone()),
            (format!("{{{with_token},{quiet}}}"), copy.clone()),
            (
                format!("{{{state},{}}}", timeline(&["$2"], "")),
                Copy { first: 6, state_as_of: Some(Sequence(3)), ..copy.clone() },
            ),
            (
                format!("{{{bare},{counts}}}"),
                Copy { notification_count: Some(2), highlight_count: Some(1), ..copy },
            ),
        ] {
            assert_eq!(news("@alice:x", &joined(&room)), (vec![copy], 0), "{room}");
        }
    }

    /// Goal: in doubt all of a room is read.
    #[test]
    fn what_says_anything_else_is_no_copy() {
        let bare = timeline(&["$1"], "");
        let typing = r#"{"type":"m.typing","content":{"user_ids":[]}}"#;
        for room in [
            timeline(&["$1", "$3"], ""),
            timeline(&[], ""),
            timeline(&["$1"], r#","limited":true"#),
            timeline(&["$1"], r#","limited":0"#),
            timeline(&["$2"], r#","prev_batch":"p""#),
            timeline(&["\\u00241"], ""),
            r#""timeline":{"events":[{"type":"a"}]}"#.to_owned(),
            r#""timeline":{"events":{}}"#.to_owned(),
            format!("{bare},{bare}"),
            format!(r#"{bare},"state":{{"events":[{}]}}"#, event("$1")),
            format!(r#"{bare},"state_after":{{"events":[{},{}]}}"#, event("$bob"), event("$eve")),
            format!(r#"{bare},"ephemeral":{{"events":[{typing}]}}"#),
            format!(r#"{bare},"account_data":{{"events":[{typing}]}}"#),
            format!(r#"{bare},"summary":{{"m.joined_member_count":2}}"#),
            format!(r#"{bare},"unread_notifications":{{"notification_count":-1}}"#),
            format!(r#"{bare},"unread_notifications":{{"notification_count":"1"}}"#),
        ] {
            let found = news("@alice:x", &joined(&format!("{{{room}}}")));
            assert_eq!(found, (Vec::new(), 1), "{room}");
        }
        let copy = joined(&format!("{{{bare}}}"));
        assert_eq!(news("@bob:x", &copy).1, 1, "it is their own");
        let entry = joined(&format!(r#"{{{bare},"state":{{"events":[{}]}}}}"#, event("$bob")));
        assert_eq!(news_as_of(Sequence(4), "@alice:x", &entry).1, 1, "it may be one no more");
        assert_eq!(news("@alice:x", &copy.replace("join", "leave")).1, 1);
        assert_eq!(news("@alice:x", &copy.replace("!r:x", "!s:x")).1, 1);
    }

    #[test]
    fn only_the_last_few_are_kept_in_mind() {
        let mut lately = lately();
        for sequence in 10..10 + LATELY_MAX as u64 {
            let (event_id, sender) = (format!("$e{sequence}").into(), "@bob:x".into());
            lately.note_event(Told { event_id, sender, sequence, has_token: false });
            lately.note_state(&format!("$s{sequence}"), Sequence(3));
        }
        assert!(lately.event("$2").is_none() && lately.event("$e10").is_some());
        assert_eq!((lately.timeline.len(), lately.state.len()), (LATELY_MAX, LATELY_MAX));
        assert!(lately.with_token(11).event("$e11").is_some_and(|told| told.has_token));
        lately.note_state("$new", Sequence(4));
        assert_eq!(lately.state, ["$new".into()], "the others may be entries no more");
    }
}
