//! One event: its fields, and its bytes less what is private to one device.
//!
//! Knows events' shape and no room. What is refused comes back as a reason.

use std::borrow::Cow;
use std::ops::Range;

use super::batch::{Stripped, SyncEvent, Typed};
use super::identifier::{is_event_id, is_user_id};
use super::parse::Limits;
use super::scan::{Cursor, Kind};
use super::sound::{self, Keys, Unsound};

/// The greatest integer that every JSON reader holds exactly, and one more.
pub(crate) const INTEGER_END: u64 = 1 << 53;

/// What of `unsigned` is for one device or one moment.
const UNSIGNED_CUT: [&str; 4] =
    ["age", "membership", "io.element.msc4115.membership", "transaction_id"];

/// The text of an event with some of its members left out.
#[derive(Debug, Default)]
struct Cuts(Vec<Range<usize>>);

impl Cuts {
    /// Leaves out the member from `start` to the cursor, which stands behind
    /// it, with one of the commas around it. `kept_end` is the end of the last
    /// member of the same object that stays.
    fn member(&mut self, cursor: &mut Cursor<'_>, start: usize, kept_end: Option<usize>) {
        let end = cursor.position();
        if cursor.peek() == Some(b',') {
            let mut next = cursor.clone();
            next.step();
            next.peek();
            self.add(start..next.position());
        } else {
            self.add(kept_end.unwrap_or(start)..end);
        }
    }

    /// Adds a cut that begins in or before every cut that it overlaps.
    fn add(&mut self, cut: Range<usize>) {
        while self.0.last().is_some_and(|last| last.start >= cut.start) {
            self.0.pop();
        }
        match self.0.last_mut() {
            Some(last) if last.end >= cut.start => last.end = cut.end.max(last.end),
            _ => self.0.push(cut),
        }
    }

    fn apply(&self, text: &str, range: Range<usize>) -> Box<str> {
        let cut: usize = self.0.iter().map(ExactSizeIterator::len).sum();
        let mut kept = String::with_capacity(range.len() - cut);
        let mut from = range.start;
        for cut in &self.0 {
            kept.push_str(&text[from..cut.start]);
            from = cut.end;
        }
        kept.push_str(&text[from..range.end]);
        kept.into_boxed_str()
    }
}

/// The fields of an event as they are met.
#[derive(Debug, Default)]
struct Fields<'a> {
    event_id: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    state_key: Option<Cow<'a, str>>,
    sender: Option<Cow<'a, str>>,
    origin_server_ts: Option<u64>,
    transaction_id: Option<String>,
    redacts: Option<String>,
    content_redacts: Option<String>,
    content: bool,
}

/// Reads values one after another under one set of limits.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) text: &'a str,
    pub(crate) limits: Limits,
    keys: Keys<'a>,
    cuts: Cuts,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, limits: Limits) -> Self {
        Self { text, limits, keys: Keys::default(), cuts: Cuts::default() }
    }

    /// Takes the string at the cursor if it has at most `bytes_max` bytes.
    pub(crate) fn text(
        cursor: &mut Cursor<'a>,
        name: &str,
        bytes_max: usize,
    ) -> Result<Cow<'a, str>, Unsound> {
        let kind = cursor.kind()?;
        if kind != Kind::String {
            return Err(format!("{name} is {}, not a string", kind.name()).into());
        }
        let text = cursor.string()?.decode();
        let text = text.ok_or_else(|| format!("{name} holds half a surrogate pair"))?;
        if text.len() > bytes_max {
            return Err(format!("{name} has more than {bytes_max} bytes").into());
        }
        Ok(text)
    }

    fn id(&self, cursor: &mut Cursor<'a>, name: &str) -> Result<Option<Cow<'a, str>>, Unsound> {
        Self::text(cursor, name, self.limits.id_bytes_max).map(Some)
    }

    /// Takes the value at the cursor if it is sound.
    pub(crate) fn sound(&mut self, cursor: &mut Cursor<'a>) -> Result<Range<usize>, Unsound> {
        sound::take(cursor, &mut self.keys, self.limits.depth_max)
    }

    /// Forgets what was noted of a value that was given up half-way.
    pub(crate) fn give_up(&mut self) {
        self.keys.clear();
    }

    /// Takes the event at the cursor.
    pub(crate) fn event(&mut self, cursor: &mut Cursor<'a>) -> Result<SyncEvent, Unsound> {
        object_wanted(cursor)?;
        let start = cursor.position();
        let mut fields = Fields::default();
        let mut kept_end = None;
        self.cuts.0.clear();
        let base = self.keys.open();
        let mut walk = cursor.object()?;
        while let Some(key) = cursor.key(&mut walk)? {
            let member_start = key.start();
            let key = self.keys.note(key)?;
            if self.event_member(cursor, &key, &mut fields)? {
                kept_end = Some(cursor.position());
            } else {
                self.cuts.member(cursor, member_start, kept_end);
            }
        }
        self.keys.close(base)?;
        let range = start..cursor.position();
        Self::check_size(&range, self.limits.event_bytes_max)?;
        fields.finish(|| self.cuts.apply(self.text, range))
    }

    /// Takes one top-level member's value; `false` where the member is cut out.
    fn event_member(
        &mut self,
        cursor: &mut Cursor<'a>,
        key: &str,
        fields: &mut Fields<'a>,
    ) -> Result<bool, Unsound> {
        match key {
            "event_id" => fields.event_id = self.id(cursor, "event_id")?,
            "type" => fields.kind = self.id(cursor, "type")?,
            "state_key" => fields.state_key = self.id(cursor, "state_key")?,
            "sender" => fields.sender = self.id(cursor, "sender")?,
            "content" => {
                self.content(cursor, &mut fields.content_redacts)?;
                fields.content = true;
            }
            "unsigned" => return self.unsigned(cursor, &mut fields.transaction_id),
            "room_id" => {
                self.nested(cursor)?;
                return Ok(false);
            }
            "origin_server_ts" => {
                let range = self.nested(cursor)?;
                fields.origin_server_ts = integer(cursor.slice(range));
            }
            "redacts" => fields.redacts = self.event_id_or_nothing(cursor)?,
            _ => {
                self.nested(cursor)?;
            }
        }
        Ok(true)
    }

    /// Takes a value that is one level below the event.
    fn nested(&mut self, cursor: &mut Cursor<'a>) -> Result<Range<usize>, Unsound> {
        sound::take(cursor, &mut self.keys, self.limits.depth_max.saturating_sub(1))
    }

    fn event_id_or_nothing(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<String>, Unsound> {
        let mut ahead = cursor.clone();
        self.nested(cursor)?;
        let id = Self::text(&mut ahead, "redacts", self.limits.id_bytes_max).ok();
        Ok(id.filter(|id| is_event_id(id)).map(Cow::into_owned))
    }

    fn content(
        &mut self,
        cursor: &mut Cursor<'a>,
        redacts: &mut Option<String>,
    ) -> Result<(), Unsound> {
        let kind = cursor.kind()?;
        if kind != Kind::Object {
            return Err(format!("content is {}, not an object", kind.name()).into());
        }
        let base = self.keys.open();
        let depth_left = self.limits.depth_max.saturating_sub(2);
        let mut walk = cursor.object()?;
        while let Some(key) = cursor.key(&mut walk)? {
            if self.keys.note(key)?.as_ref() == "redacts" {
                *redacts = self.event_id_or_nothing(cursor)?;
            } else {
                sound::take(cursor, &mut self.keys, depth_left)?;
            }
        }
        self.keys.close(base)
    }

    /// Takes `unsigned`, cutting from it; `false` where nothing of it is left,
    /// or it is no object, which strict clients refuse and nobody signed.
    fn unsigned(
        &mut self,
        cursor: &mut Cursor<'a>,
        transaction_id: &mut Option<String>,
    ) -> Result<bool, Unsound> {
        if cursor.kind()? != Kind::Object {
            self.nested(cursor)?;
            return Ok(false);
        }
        let base = self.keys.open();
        let depth_left = self.limits.depth_max.saturating_sub(2);
        let (mut kept_end, mut any_cut) = (None, false);
        let mut walk = cursor.object()?;
        while let Some(key) = cursor.key(&mut walk)? {
            let member_start = key.start();
            let key = self.keys.note(key)?;
            let cut = UNSIGNED_CUT.contains(&key.as_ref());
            if key == "transaction_id" {
                let mut ahead = cursor.clone();
                let id = Self::text(&mut ahead, "transaction_id", self.limits.id_bytes_max);
                *transaction_id = id.ok().map(Cow::into_owned);
            }
            sound::take(cursor, &mut self.keys, depth_left)?;
            any_cut |= cut;
            if cut {
                self.cuts.member(cursor, member_start, kept_end);
            } else {
                kept_end = Some(cursor.position());
            }
        }
        self.keys.close(base)?;
        Ok(kept_end.is_some() || !any_cut)
    }

    /// Refuses a value of more than `bytes_max` bytes.
    pub(crate) fn check_size(range: &Range<usize>, bytes_max: usize) -> Result<(), Unsound> {
        if range.len() > bytes_max {
            return Err(format!("{} bytes, more than {bytes_max}", range.len()).into());
        }
        Ok(())
    }

    /// Takes the stripped state event at the cursor.
    pub(crate) fn stripped(&mut self, cursor: &mut Cursor<'a>) -> Result<Stripped, Unsound> {
        let mut fields = Fields::default();
        let range = self.outline(cursor, &mut fields, self.limits.event_bytes_max)?;
        if !fields.content {
            return Err(Unsound::from("it has no content"));
        }
        let sender = fields.sender.ok_or("it has no sender")?;
        if !is_user_id(&sender) {
            return Err(Unsound::from("its sender is not a user id"));
        }
        Ok(Stripped {
            kind: present(fields.kind, "type")?,
            state_key: fields.state_key.ok_or("it has no state_key")?.into_owned(),
            sender: sender.into_owned(),
            json: cursor.slice(range).into(),
        })
    }

    /// Takes the account data or to-device event at the cursor.
    pub(crate) fn typed(&mut self, cursor: &mut Cursor<'a>) -> Result<Typed, Unsound> {
        let mut fields = Fields::default();
        let range = self.outline(cursor, &mut fields, self.limits.typed_bytes_max)?;
        Ok(Typed { kind: present(fields.kind, "type")?, json: cursor.slice(range).into() })
    }

    /// Takes an object of which every byte is kept, reading the fields that
    /// all kinds of events share.
    fn outline(
        &mut self,
        cursor: &mut Cursor<'a>,
        fields: &mut Fields<'a>,
        bytes_max: usize,
    ) -> Result<Range<usize>, Unsound> {
        object_wanted(cursor)?;
        let start = cursor.position();
        let base = self.keys.open();
        let mut walk = cursor.object()?;
        while let Some(key) = cursor.key(&mut walk)? {
            match self.keys.note(key)?.as_ref() {
                "type" => fields.kind = self.id(cursor, "type")?,
                "state_key" => fields.state_key = self.id(cursor, "state_key")?,
                "sender" => fields.sender = self.id(cursor, "sender")?,
                "content" => {
                    self.content(cursor, &mut fields.content_redacts)?;
                    fields.content = true;
                }
                _ => {
                    self.nested(cursor)?;
                }
            }
        }
        self.keys.close(base)?;
        let range = start..cursor.position();
        Self::check_size(&range, bytes_max)?;
        Ok(range)
    }
}

impl Fields<'_> {
    fn finish(self, json: impl FnOnce() -> Box<str>) -> Result<SyncEvent, Unsound> {
        let event_id = present(self.event_id, "event_id")?;
        if !is_event_id(&event_id) {
            return Err(Unsound::from("its event_id has not the form of one"));
        }
        let with_id = |what: &str| Unsound::from(format!("event {event_id} {what}"));
        let kind = self.kind.filter(|kind| !kind.is_empty());
        let kind = kind.ok_or_else(|| with_id("has no type"))?.into_owned();
        let sender = self.sender.ok_or_else(|| with_id("has no sender"))?.into_owned();
        if !is_user_id(&sender) {
            return Err(with_id("has a sender that is not a user id"));
        }
        if !self.content {
            return Err(with_id("has no content"));
        }
        // Anybody may write a `redacts` into other events.
        let redaction = kind == "m.room.redaction";
        Ok(SyncEvent {
            state_key: self.state_key.map(Cow::into_owned),
            origin_server_ts: self.origin_server_ts.unwrap_or(0),
            transaction_id: self.transaction_id,
            redacts: self.redacts.or(self.content_redacts).filter(|_| redaction),
            json: json(),
            event_id,
            kind,
            sender,
        })
    }
}

fn object_wanted(cursor: &mut Cursor<'_>) -> Result<(), Unsound> {
    match cursor.kind()? {
        Kind::Object => Ok(()),
        other => Err(format!("it is {}, not an object", other.name()).into()),
    }
}

fn present(field: Option<Cow<'_, str>>, name: &str) -> Result<String, Unsound> {
    match field {
        Some(text) if !text.is_empty() => Ok(text.into_owned()),
        _ => Err(format!("it has no {name}").into()),
    }
}

/// An integer in 0..2^53, written as one.
pub(crate) fn integer(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&integer| digits && integer < INTEGER_END)
}
