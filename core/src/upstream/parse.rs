//! A whole `/sync` answer: found room by room, then taken piece by piece.
//!
//! [`Scanned::scan`] checks the body's grammar once and notes where things are;
//! nothing of a room is built before it is asked for.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::batch::{RoomBatch, Section, SetAside, SyncBatch, SyncEvent};
use super::copy::{Known, copy_of};
use super::event::Reader;
use super::identifier::is_room_id;
use super::room::parse_room;
use super::scan::{Cursor, Fault, Kind, TOO_DEEP};
use super::sound::Unsound;
use super::taker::Taker;

/// How much of an answer is taken. Beyond a limit a thing is set aside, except
/// [`Limits::body_depth_max`], beyond which the answer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an id, an event type or a state key; 255.
    pub id_bytes_max: usize,
    /// Bytes of `next_batch` and `prev_batch`; 4,096.
    pub token_bytes_max: usize,
    /// Bytes of an event; 128 KiB, twice what federation allows, since servers
    /// add to `unsigned`.
    pub event_bytes_max: usize,
    /// Bytes of an account data event or a to-device message, which users of
    /// the homeserver itself may make larger; 1 MiB.
    pub typed_bytes_max: usize,
    /// Objects and arrays in one another within one event; 64.
    pub depth_max: usize,
    /// The same within the whole answer; 65,536, which one event of the size
    /// that federation allows cannot reach.
    pub body_depth_max: usize,
    /// How many [`SetAside`] are kept of one answer; 100. All are counted.
    pub set_aside_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            id_bytes_max: 255,
            token_bytes_max: 4096,
            event_bytes_max: 128 * 1024,
            typed_bytes_max: 1024 * 1024,
            depth_max: 64,
            body_depth_max: 65_536,
            set_aside_max: 100,
        }
    }
}

/// Why nothing of an answer can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes are not text.
    #[error("the body is not UTF-8 from byte {at} on")]
    NotUtf8 {
        /// The first byte that is not.
        at: usize,
    },
    /// The text is not JSON, or ends too early.
    #[error("the body is not JSON: {what} at byte {at}")]
    NotJson {
        /// Where.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// It is JSON, but not what the answer should be.
    #[error("the body is {found}, not {wanted}")]
    OtherKind {
        /// What it should be, with its article.
        wanted: &'static str,
        /// What it is, with its article.
        found: &'static str,
    },
    /// More containers in one another than [`Limits::body_depth_max`].
    #[error("the body is nested too deeply at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
    },
}

impl From<Fault> for ParseError {
    fn from(Fault { at, what }: Fault) -> Self {
        if what == TOO_DEEP { Self::TooDeep { at } } else { Self::NotJson { at, what } }
    }
}

/// What was not used: the first few, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAsides {
    /// At most [`Limits::set_aside_max`], the first ones.
    pub kept: Vec<SetAside>,
    /// How many there were in all.
    pub count: u64,
    kept_max: usize,
}

impl SetAsides {
    pub(crate) fn new(kept_max: usize) -> Self {
        Self { kept_max, ..Self::default() }
    }

    pub(crate) fn add(&mut self, set_aside: impl FnOnce() -> SetAside) {
        self.count += 1;
        if self.kept.len() < self.kept_max {
            self.kept.push(set_aside());
        }
    }
}

impl SyncBatch {
    /// Adds what was set aside elsewhere in the same answer, keeping at most
    /// [`Limits::set_aside_max`] of all.
    pub fn add_set_aside(&mut self, asides: SetAsides, limits: &Limits) {
        let room_left = limits.set_aside_max.saturating_sub(self.set_aside.len());
        self.set_aside.extend(asides.kept.into_iter().take(room_left));
        self.set_aside_count += asides.count;
    }
}

/// Where a room stands in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRange<'a> {
    /// The section it is in.
    pub section: Section,
    /// Its id, which begins with `!` and is within its length.
    pub room_id: Cow<'a, str>,
    /// The bytes of its object in the body.
    pub range: Range<usize>,
}

/// A body that was found to be a JSON object, and where its parts are.
#[derive(Debug)]
pub struct Scanned<'a> {
    text: &'a str,
    limits: Limits,
    rooms: Vec<RoomRange<'a>>,
    sections: Vec<(&'static str, Cursor<'a>)>,
    asides: SetAsides,
}

/// The top-level members that [`Scanned::rest`] reads.
const SECTIONS: [&str; 7] = [
    "next_batch",
    "account_data",
    "to_device",
    "device_lists",
    "device_one_time_keys_count",
    "device_unused_fallback_key_types",
    "org.matrix.msc2732.device_unused_fallback_key_types",
];

impl<'a> Scanned<'a> {
    /// Checks the whole body's grammar and finds its parts.
    pub fn scan(body: &'a [u8], limits: &Limits) -> Result<Self, ParseError> {
        let (text, mut cursor) = open(body)?;
        let mut taker = Taker::new(text, limits, None);
        let (mut rooms, mut sections) = (Vec::new(), Vec::new());
        taker.object(&mut cursor, "body", |taker, cursor, key| {
            if key == "rooms" {
                taker.rooms(cursor, &mut rooms)?;
                return Ok(true);
            }
            let Some(name) = SECTIONS.into_iter().find(|name| *name == key) else {
                return Ok(false);
            };
            sections.push((name, cursor.clone()));
            taker.skip(cursor)?;
            Ok(true)
        })?;
        cursor.end()?;
        Ok(Self { text, limits: *limits, rooms, sections, asides: taker.asides })
    }

    /// Every room of `rooms.{join,invite,knock,leave}`, in the body's order.
    pub fn rooms(&self) -> impl ExactSizeIterator<Item = &RoomRange<'a>> {
        self.rooms.iter()
    }

    /// Builds one room.
    pub fn room(&self, room: &RoomRange<'_>) -> (RoomBatch, SetAsides) {
        let text = self.text.get(room.range.clone()).unwrap_or_default();
        parse_room(text, room.section, &room.room_id, &self.limits)
    }

    /// Everything but the rooms, and what the scan itself set aside.
    pub fn rest(&self) -> SyncBatch {
        let mut batch = SyncBatch::default();
        let mut taker = Taker::new(self.text, &self.limits, None);
        for (name, cursor) in &self.sections {
            // The scan has been over these very bytes: there is no fault left.
            if let Err(fault) = taker.section(&mut cursor.clone(), name, &mut batch) {
                taker.aside(name, Unsound::Fault(fault));
            }
        }
        batch.add_set_aside(self.asides.clone(), &self.limits);
        batch.add_set_aside(taker.asides, &self.limits);
        batch
    }
}

/// The whole answer at once.
///
/// Fails only where the body is no JSON object; otherwise what is sound is
/// taken and the rest is in [`SyncBatch::set_aside`].
pub fn parse(body: &[u8], limits: &Limits) -> Result<SyncBatch, ParseError> {
    let scanned = Scanned::scan(body, limits)?;
    let mut batch = scanned.rest();
    batch.rooms.reserve(scanned.rooms.len());
    for range in scanned.rooms() {
        let (room, asides) = scanned.room(range);
        batch.rooms.push(room);
        batch.add_set_aside(asides, limits);
    }
    Ok(batch)
}

/// As [`parse`], but what is nothing but a copy of what `known` has of a room, by
/// its id, is among [`SyncBatch::copies`]. `user_id` is whom the answer is for.
pub fn parse_news<'k>(
    body: &[u8],
    limits: &Limits,
    user_id: &str,
    known: impl Fn(&str) -> Option<Known<'k>>,
) -> Result<SyncBatch, ParseError> {
    let scanned = Scanned::scan(body, limits)?;
    let mut batch = scanned.rest();
    for range in scanned.rooms() {
        let copy = known(&range.room_id)
            .and_then(|known| copy_of(scanned.text, range, known, user_id, limits));
        if let Some(copy) = copy {
            batch.copies.push(copy);
            continue;
        }
        let (room, asides) = scanned.room(range);
        batch.rooms.push(room);
        batch.add_set_aside(asides, limits);
    }
    Ok(batch)
}

/// The events of another endpoint's answer: those of the array `member` of a
/// JSON object, such as the `chunk` of `/members` and `/messages`.
pub fn parse_events(
    body: &[u8],
    member: &'static str,
    limits: &Limits,
) -> Result<(Vec<SyncEvent>, SetAsides), ParseError> {
    let (text, mut cursor) = open(body)?;
    let mut taker = Taker::new(text, limits, None);
    let mut events = Vec::new();
    taker.object(&mut cursor, "body", |taker, cursor, key| {
        if key != member {
            return Ok(false);
        }
        taker.array(cursor, member, |taker, cursor| {
            events.push(taker.reader.event(cursor)?);
            Ok(())
        })?;
        Ok(true)
    })?;
    cursor.end()?;
    Ok((events, taker.asides))
}

/// The events of an answer that is nothing but an array of them, such as that of
/// `/rooms/{roomId}/state`.
pub fn parse_event_array(
    body: &[u8],
    limits: &Limits,
) -> Result<(Vec<SyncEvent>, SetAsides), ParseError> {
    let (text, mut cursor) = open_as(body, Kind::Array)?;
    let mut taker = Taker::new(text, limits, None);
    let mut events = Vec::new();
    taker.array(&mut cursor, "body", |taker, cursor| {
        events.push(taker.reader.event(cursor)?);
        Ok(())
    })?;
    cursor.end()?;
    Ok((events, taker.asides))
}

/// One event, or why it is not used.
pub fn parse_event(json: &str, limits: &Limits) -> Result<SyncEvent, String> {
    let mut cursor = Cursor::new(json);
    let event = Reader::new(json, *limits).event(&mut cursor);
    event
        .and_then(|event| cursor.end().map(|()| event).map_err(Unsound::from))
        .map_err(|reason| reason.to_string())
}

fn open(body: &[u8]) -> Result<(&str, Cursor<'_>), ParseError> {
    open_as(body, Kind::Object)
}

fn open_as(body: &[u8], wanted: Kind) -> Result<(&str, Cursor<'_>), ParseError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| ParseError::NotUtf8 { at: error.valid_up_to() })?;
    let mut cursor = Cursor::new(text);
    match cursor.kind()? {
        kind if kind == wanted => Ok((text, cursor)),
        other => Err(ParseError::OtherKind { wanted: wanted.name(), found: other.name() }),
    }
}

impl<'a> Taker<'a> {
    fn rooms(
        &mut self,
        cursor: &mut Cursor<'a>,
        rooms: &mut Vec<RoomRange<'a>>,
    ) -> Result<(), Fault> {
        self.object(cursor, "rooms", |taker, cursor, key| {
            let (section, place) = match key {
                "join" => (Section::Join, "rooms.join"),
                "invite" => (Section::Invite, "rooms.invite"),
                "knock" => (Section::Knock, "rooms.knock"),
                "leave" => (Section::Leave, "rooms.leave"),
                _ => return Ok(false),
            };
            let mut seen = BTreeSet::new();
            taker.entries(cursor, place, |taker, cursor, room_id| {
                let kind = cursor.kind()?;
                let range = cursor.skip(taker.reader.limits.body_depth_max)?;
                if room_id.len() > taker.reader.limits.id_bytes_max {
                    taker.aside(place, "a room id is too long");
                } else if !is_room_id(&room_id) {
                    taker.aside(place, format_args!("{room_id:?} has not the form of a room id"));
                } else if kind != Kind::Object {
                    let kind = kind.name();
                    taker.aside(place, format_args!("{room_id} is {kind}, not an object"));
                } else if seen.insert(room_id.clone()) {
                    rooms.push(RoomRange { section, room_id, range });
                } else {
                    taker.aside(place, format_args!("{room_id} stands there twice"));
                }
                Ok(())
            })?;
            Ok(true)
        })?;
        Ok(())
    }

    fn section(
        &mut self,
        cursor: &mut Cursor<'a>,
        name: &'static str,
        batch: &mut SyncBatch,
    ) -> Result<(), Fault> {
        match name {
            "next_batch" => batch.next_batch = self.token(cursor, name)?,
            "account_data" => {
                self.events(cursor, name, |taker, cursor| {
                    batch.account_data.push(taker.reader.typed(cursor)?);
                    Ok(())
                })?;
            }
            "to_device" => {
                self.events(cursor, name, |taker, cursor| {
                    batch.to_device.push(taker.reader.typed(cursor)?.json);
                    Ok(())
                })?;
            }
            "device_lists" => self.device_lists(cursor, batch)?,
            "device_one_time_keys_count" => {
                batch.one_time_keys_count = self.key_counts(cursor, name)?;
            }
            "device_unused_fallback_key_types" => {
                // The stable name has the last word, wherever it stands.
                batch.fallback_key_types =
                    self.key_types(cursor, name)?.or(batch.fallback_key_types.take());
            }
            _ => {
                let unstable = self.key_types(cursor, name)?;
                batch.fallback_key_types = batch.fallback_key_types.take().or(unstable);
            }
        }
        Ok(())
    }

    fn device_lists(
        &mut self,
        cursor: &mut Cursor<'a>,
        batch: &mut SyncBatch,
    ) -> Result<(), Fault> {
        self.object(cursor, "device_lists", |taker, cursor, key| {
            match key {
                "changed" => {
                    let changed = taker.user_ids(cursor, "device_lists.changed")?;
                    batch.device_lists_changed = changed.unwrap_or_default();
                }
                "left" => {
                    let left = taker.user_ids(cursor, "device_lists.left")?;
                    batch.device_lists_left = left.unwrap_or_default();
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(())
    }

    fn key_counts(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
    ) -> Result<Option<Box<str>>, Fault> {
        let mut counts = BTreeMap::new();
        let object = self.entries(cursor, place, |taker, cursor, algorithm| {
            let count = taker.count(cursor, place)?;
            if algorithm.len() > taker.reader.limits.id_bytes_max {
                taker.aside(place, "the name of an algorithm is too long");
            } else if let Some(count) = count {
                counts.insert(algorithm, count);
            }
            Ok(())
        })?;
        Ok(if object { json_of(&counts) } else { None })
    }

    fn key_types(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
    ) -> Result<Option<Box<str>>, Fault> {
        let mut types = Vec::new();
        let array = self.array(cursor, place, |taker, cursor| {
            let bytes_max = taker.reader.limits.id_bytes_max;
            types.push(Reader::text(cursor, "a key type", bytes_max)?);
            Ok(())
        })?;
        Ok(if array { json_of(&types) } else { None })
    }
}

fn json_of(value: &impl serde::Serialize) -> Option<Box<str>> {
    serde_json::to_string(value).ok().map(String::into_boxed_str)
}
