//! Taking what is sound from a JSON section and setting the rest aside.
//!
//! Every method leaves the cursor behind the value it was given, whatever that
//! was; a [`Fault`] means that the text is not JSON at all.

use std::borrow::Cow;
use std::fmt::Display;

use super::batch::SetAside;
use super::event::{Reader, integer};
use super::identifier::is_user_id;
use super::parse::{Limits, SetAsides};
use super::scan::{Cursor, Fault, Kind};
use super::sound::Unsound;

/// Reads sections of one text on behalf of one room, or of none.
#[derive(Debug)]
pub(crate) struct Taker<'a> {
    pub(crate) reader: Reader<'a>,
    pub(crate) asides: SetAsides,
    room_id: Option<&'a str>,
}

impl<'a> Taker<'a> {
    pub(crate) fn new(text: &'a str, limits: &Limits, room_id: Option<&'a str>) -> Self {
        let asides = SetAsides::new(limits.set_aside_max);
        Self { reader: Reader::new(text, *limits), asides, room_id }
    }

    /// Notes that something at `place` was not used.
    pub(crate) fn aside(&mut self, place: &'static str, reason: impl Display) {
        let room_id = self.room_id;
        self.asides.add(|| SetAside {
            room_id: room_id.map(str::to_owned),
            place,
            reason: reason.to_string(),
        });
    }

    pub(crate) fn skip(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        cursor.skip(self.reader.limits.body_depth_max).map(|_| ())
    }

    /// Whether a value of the wanted kind is at the cursor; anything else is
    /// set aside and passed.
    fn wanted(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
        wanted: Kind,
    ) -> Result<bool, Fault> {
        let kind = cursor.kind()?;
        if kind == wanted {
            return Ok(true);
        }
        self.aside(place, format_args!("it is {}, not {}", kind.name(), wanted.name()));
        self.skip(cursor)?;
        Ok(false)
    }

    /// Takes an object of named members: `member` is asked for each, and says
    /// whether it took the value. One that was taken is not taken again.
    /// `false` where there is no object.
    pub(crate) fn object(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
        mut member: impl FnMut(&mut Self, &mut Cursor<'a>, &str) -> Result<bool, Fault>,
    ) -> Result<bool, Fault> {
        let mut taken: Vec<Cow<'a, str>> = Vec::new();
        self.entries(cursor, place, |taker, cursor, key| {
            if taken.contains(&key) {
                taker.aside(place, format_args!("{key} stands there twice; the first was used"));
                return taker.skip(cursor);
            }
            if member(taker, cursor, &key)? {
                taken.push(key);
                Ok(())
            } else {
                taker.skip(cursor)
            }
        })
    }

    /// Takes an object of any keys: `entry` takes each value. `false` where
    /// there is no object.
    pub(crate) fn entries(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
        mut entry: impl FnMut(&mut Self, &mut Cursor<'a>, Cow<'a, str>) -> Result<(), Fault>,
    ) -> Result<bool, Fault> {
        if !self.wanted(cursor, place, Kind::Object)? {
            return Ok(false);
        }
        let mut walk = cursor.object()?;
        while let Some(key) = cursor.key(&mut walk)? {
            if let Some(key) = key.decode() {
                entry(self, cursor, key)?;
            } else {
                self.aside(place, "a key holds half a surrogate pair");
                self.skip(cursor)?;
            }
        }
        Ok(true)
    }

    /// Takes an array: `element` takes each of its values or refuses it.
    /// `false` where there is no array.
    pub(crate) fn array(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
        mut element: impl FnMut(&mut Self, &mut Cursor<'a>) -> Result<(), Unsound>,
    ) -> Result<bool, Fault> {
        if !self.wanted(cursor, place, Kind::Array)? {
            return Ok(false);
        }
        let mut walk = cursor.array()?;
        while cursor.element(&mut walk)? {
            self.each(cursor, place, &mut element)?;
        }
        Ok(true)
    }

    /// Takes one value, or sets it aside.
    pub(crate) fn each<T>(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
        read: impl FnOnce(&mut Self, &mut Cursor<'a>) -> Result<T, Unsound>,
    ) -> Result<Option<T>, Fault> {
        let start = cursor.clone();
        match read(self, cursor) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => {
                self.reader.give_up();
                *cursor = start;
                self.skip(cursor)?;
                self.aside(place, reason);
                Ok(None)
            }
        }
    }

    /// Takes one value, or sets it aside; `null` is as good as absent.
    fn scalar<T>(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
        read: impl FnOnce(&mut Self, &mut Cursor<'a>) -> Result<T, Unsound>,
    ) -> Result<Option<T>, Fault> {
        if cursor.kind()? == Kind::Null {
            return self.skip(cursor).map(|()| None);
        }
        self.each(cursor, place, read)
    }

    /// Takes an integer in 0..2^53.
    pub(crate) fn count(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
    ) -> Result<Option<u64>, Fault> {
        self.scalar(cursor, place, |_, cursor| {
            let kind = cursor.kind()?;
            if kind != Kind::Number {
                return Err(format!("it is {}, not a number", kind.name()).into());
            }
            let count = integer(cursor.number()?);
            count.ok_or_else(|| Unsound::from("it is not an integer in 0..2^53"))
        })
    }

    /// Takes a boolean.
    pub(crate) fn boolean(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
    ) -> Result<Option<bool>, Fault> {
        self.scalar(cursor, place, |_, cursor| match cursor.kind()? {
            Kind::Bool => Ok(cursor.word()? == "true"),
            other => Err(format!("it is {}, not a boolean", other.name()).into()),
        })
    }

    /// Takes a token that is not empty.
    pub(crate) fn token(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
    ) -> Result<Option<String>, Fault> {
        self.scalar(cursor, place, |taker, cursor| {
            let token = Reader::text(cursor, "it", taker.reader.limits.token_bytes_max)?;
            if token.is_empty() {
                return Err(Unsound::from("it is empty"));
            }
            Ok(token.into_owned())
        })
    }

    /// Takes an array of user ids; `None` where there is no array.
    pub(crate) fn user_ids(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
    ) -> Result<Option<Vec<String>>, Fault> {
        let mut user_ids = Vec::new();
        let array = self.array(cursor, place, |taker, cursor| {
            let user_id = Reader::text(cursor, "a user id", taker.reader.limits.id_bytes_max)?;
            if !is_user_id(&user_id) {
                return Err(Unsound::from("a user id has not the form of one"));
            }
            user_ids.push(user_id.into_owned());
            Ok(())
        })?;
        Ok(array.then_some(user_ids))
    }
}
