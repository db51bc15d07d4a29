//! One room of a `/sync` answer.

use super::batch::{Receipt, RoomBatch, Section};
use super::event::{Reader, integer};
use super::identifier::{is_event_id, is_user_id};
use super::parse::{Limits, SetAsides};
use super::scan::{Cursor, Fault, Kind};
use super::sound::Unsound;
use super::taker::Taker;

/// One room's own JSON object, as it stood in `rooms.<section>`.
///
/// Never fails: what is malformed is set aside, and of a `text` that is no JSON
/// nothing is used.
pub fn parse_room(
    text: &str,
    section: Section,
    room_id: &str,
    limits: &Limits,
) -> (RoomBatch, SetAsides) {
    let mut taker = Taker::new(text, limits, Some(room_id));
    let mut batch = RoomBatch::new(room_id, section);
    if let Err(fault) = taker.room(&mut Cursor::new(text), &mut batch) {
        batch = RoomBatch::new(room_id, section);
        taker.aside("rooms", Unsound::Fault(fault));
    }
    (batch, taker.asides)
}

impl<'a> Taker<'a> {
    fn room(&mut self, cursor: &mut Cursor<'a>, batch: &mut RoomBatch) -> Result<(), Fault> {
        let mut state_before = None;
        self.object(cursor, "rooms", |taker, cursor, key| {
            match (batch.section, key) {
                (Section::Join | Section::Leave, "timeline") => taker.timeline(cursor, batch)?,
                (Section::Join | Section::Leave, "state") => {
                    state_before = Some(cursor.clone());
                    return Ok(false);
                }
                (
                    Section::Join | Section::Leave,
                    "state_after" | "org.matrix.msc4222.state_after",
                ) => {
                    if batch.state_is_after {
                        return Ok(false);
                    }
                    batch.state_is_after = taker.state(cursor, "state_after", batch)?;
                }
                (Section::Join | Section::Leave, "account_data") => {
                    taker.events(cursor, "account_data", |taker, cursor| {
                        batch.account_data.push(taker.reader.typed(cursor)?);
                        Ok(())
                    })?;
                }
                (Section::Join, "ephemeral") => {
                    taker.events(cursor, "ephemeral", |taker, cursor| {
                        Ok(taker.ephemeral(cursor, batch)?)
                    })?;
                }
                (Section::Join, "summary") => taker.summary(cursor, batch)?,
                (Section::Join, "unread_notifications") => taker.unread(cursor, batch)?,
                (Section::Invite, "invite_state") | (Section::Knock, "knock_state") => {
                    let place = if key == "invite_state" { "invite_state" } else { "knock_state" };
                    taker.events(cursor, place, |taker, cursor| {
                        batch.stripped.push(taker.reader.stripped(cursor)?);
                        Ok(())
                    })?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if let (false, Some(mut cursor)) = (batch.state_is_after, state_before) {
            self.state(&mut cursor, "state", batch)?;
        }
        cursor.end()
    }

    /// Takes an object whose `events` are an array; `false` where it is
    /// anything else. An object without `events` has none.
    pub(crate) fn events(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
        mut element: impl FnMut(&mut Self, &mut Cursor<'a>) -> Result<(), Unsound>,
    ) -> Result<bool, Fault> {
        let mut array = true;
        let object = self.object(cursor, place, |taker, cursor, key| {
            if key != "events" {
                return Ok(false);
            }
            array = taker.array(cursor, place, &mut element)?;
            Ok(true)
        })?;
        Ok(object && array)
    }

    fn state(
        &mut self,
        cursor: &mut Cursor<'a>,
        place: &'static str,
        batch: &mut RoomBatch,
    ) -> Result<bool, Fault> {
        self.events(cursor, place, |taker, cursor| {
            let event = taker.reader.event(cursor)?;
            if event.state_key.is_none() {
                return Err(format!("event {} has no state_key", event.event_id).into());
            }
            batch.state.push(event);
            Ok(())
        })
    }

    fn timeline(&mut self, cursor: &mut Cursor<'a>, batch: &mut RoomBatch) -> Result<(), Fault> {
        self.object(cursor, "timeline", |taker, cursor, key| {
            match key {
                "events" => {
                    taker.array(cursor, "timeline", |taker, cursor| {
                        batch.timeline.push(taker.reader.event(cursor)?);
                        Ok(())
                    })?;
                }
                "limited" => {
                    let limited = taker.boolean(cursor, "timeline.limited")?;
                    batch.limited = limited.unwrap_or(false);
                }
                "prev_batch" => batch.prev_batch = taker.token(cursor, "timeline.prev_batch")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(())
    }

    fn summary(&mut self, cursor: &mut Cursor<'a>, batch: &mut RoomBatch) -> Result<(), Fault> {
        let summary = &mut batch.summary;
        self.object(cursor, "summary", |taker, cursor, key| {
            match key {
                "m.heroes" if cursor.kind()? != Kind::Null => {
                    summary.heroes = taker.user_ids(cursor, "summary.m.heroes")?;
                }
                "m.joined_member_count" => {
                    summary.joined = taker.count(cursor, "summary.m.joined_member_count")?;
                }
                "m.invited_member_count" => {
                    summary.invited = taker.count(cursor, "summary.m.invited_member_count")?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(())
    }

    fn unread(&mut self, cursor: &mut Cursor<'a>, batch: &mut RoomBatch) -> Result<(), Fault> {
        self.object(cursor, "unread_notifications", |taker, cursor, key| {
            match key {
                "notification_count" => {
                    let place = "unread_notifications.notification_count";
                    batch.notification_count = taker.count(cursor, place)?;
                }
                "highlight_count" => {
                    let place = "unread_notifications.highlight_count";
                    batch.highlight_count = taker.count(cursor, place)?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(())
    }

    /// Takes one ephemeral event. It is not checked as a whole: a receipt that
    /// one user made up does not cost the room the others.
    fn ephemeral(&mut self, cursor: &mut Cursor<'a>, batch: &mut RoomBatch) -> Result<(), Fault> {
        let mut kind = None;
        let mut content = None;
        self.object(cursor, "ephemeral", |taker, cursor, key| {
            match key {
                "type" => {
                    kind = taker.each(cursor, "ephemeral", |taker, cursor| {
                        Reader::text(cursor, "type", taker.reader.limits.id_bytes_max)
                    })?;
                    return Ok(true);
                }
                "content" => content = Some(cursor.clone()),
                _ => {}
            }
            Ok(false)
        })?;
        match (kind.as_deref(), content) {
            (Some("m.typing"), Some(mut content)) => {
                let mut typing = None;
                self.object(&mut content, "m.typing", |taker, cursor, key| {
                    if key != "user_ids" {
                        return Ok(false);
                    }
                    typing = taker.user_ids(cursor, "m.typing")?;
                    Ok(true)
                })?;
                if typing.is_some() {
                    batch.typing = typing;
                } else {
                    self.aside("m.typing", "it has no user_ids");
                }
                Ok(())
            }
            (Some("m.receipt"), Some(mut content)) => self.receipts(&mut content, batch),
            (Some("m.typing" | "m.receipt"), None) => {
                self.aside("ephemeral", "it has no content");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn receipts(&mut self, cursor: &mut Cursor<'a>, batch: &mut RoomBatch) -> Result<(), Fault> {
        const PLACE: &str = "m.receipt";
        let id_bytes_max = self.reader.limits.id_bytes_max;
        self.entries(cursor, PLACE, |taker, cursor, event_id| {
            if event_id.len() > id_bytes_max || !is_event_id(&event_id) {
                taker.aside(PLACE, "a key has not the form of an event id");
                return taker.skip(cursor);
            }
            taker.entries(cursor, PLACE, |taker, cursor, kind| {
                if kind.len() > id_bytes_max {
                    taker.aside(PLACE, "a receipt type is too long");
                    return taker.skip(cursor);
                }
                taker.entries(cursor, PLACE, |taker, cursor, user_id| {
                    if user_id.len() > id_bytes_max || !is_user_id(&user_id) {
                        taker.aside(PLACE, "a key has not the form of a user id");
                        return taker.skip(cursor);
                    }
                    let receipt = taker.each(cursor, PLACE, |taker, cursor| {
                        taker.reader.receipt(cursor, &event_id, &kind, &user_id)
                    })?;
                    batch.receipts.extend(receipt);
                    Ok(())
                })?;
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(())
    }
}

impl<'a> Reader<'a> {
    fn receipt(
        &mut self,
        cursor: &mut Cursor<'a>,
        event_id: &str,
        kind: &str,
        user_id: &str,
    ) -> Result<Receipt, Unsound> {
        let mut ahead = cursor.clone();
        let range = self.sound(cursor)?;
        Self::check_size(&range, self.limits.event_bytes_max)?;
        if ahead.kind()? != Kind::Object {
            return Err(Unsound::from("a receipt is not an object"));
        }
        let mut thread_id = None;
        let mut walk = ahead.object()?;
        while let Some(key) = ahead.key(&mut walk)? {
            match (key.decode().as_deref(), ahead.kind()?) {
                (Some("thread_id"), _) => {
                    let text = Self::text(&mut ahead, "thread_id", self.limits.id_bytes_max)?;
                    thread_id = Some(text.into_owned());
                }
                (Some("ts"), Kind::Number) => {
                    integer(ahead.number()?).ok_or("ts is not an integer in 0..2^53")?;
                }
                (Some("ts"), _) => return Err(Unsound::from("ts is not a number")),
                _ => {
                    ahead.skip(self.limits.depth_max)?;
                }
            }
        }
        Ok(Receipt {
            event_id: event_id.to_owned(),
            kind: kind.to_owned(),
            user_id: user_id.to_owned(),
            thread_id,
            json: cursor.slice(range).into(),
        })
    }
}
