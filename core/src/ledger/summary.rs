//! A room's summary: what lists and entries show of it without looking at
//! events. Malformed content counts as absent.

use std::sync::Arc;

use serde_json::Value;

use super::fold::Fold;
use crate::{
    id::Sequence,
    record::{EventRecord, StateRecord, key},
    request::MEMBER,
    upstream::RoomBatch,
    view::Table,
    world::{HEROES_MAX, Hero, Room},
};

/// An event's content.
pub(super) struct Content(Option<Value>);

/// The content of an event.
pub(super) fn content(json: &str) -> Content {
    let event = serde_json::from_str::<Value>(json).ok();
    Content(event.and_then(|mut event| Some(event.get_mut("content")?.take())))
}

impl Content {
    /// A string of it.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.as_ref()?.get(key)?.as_str()
    }

    fn filled(&self, key: &str) -> Option<Arc<str>> {
        self.text(key).filter(|text| !text.is_empty()).map(Arc::from)
    }
}

/// What of a summary is part of an entry.
type Visible = (Option<Arc<str>>, Option<Arc<str>>, u64, u64, Arc<[Hero]>);

fn visible(room: &Room) -> Visible {
    let counts = (room.joined_count, room.invited_count);
    (room.name.clone(), room.avatar.clone(), counts.0, counts.1, Arc::clone(&room.heroes))
}

impl Fold<'_> {
    /// Takes in that an entry of the state is now `json`.
    pub(super) fn summarize(room: &mut Room, kind: &str, state_key: &str, json: &str) {
        if kind == MEMBER {
            return member(room, state_key, &content(json));
        }
        if !state_key.is_empty() {
            return;
        }
        match kind {
            "m.room.create" => {
                let content = content(json);
                room.created = true;
                room.version = content.filled("room_version").or_else(|| Some("1".into()));
                room.room_type = content.filled("type");
            }
            "m.room.name" => room.name = content(json).filled("name"),
            "m.room.canonical_alias" => room.canonical_alias = content(json).filled("alias"),
            "m.room.avatar" => room.avatar = content(json).filled("url"),
            // Once encrypted, always encrypted.
            "m.room.encryption" => {
                let algorithm = content(json).filled("algorithm");
                room.encryption = algorithm.or(room.encryption.take()).or_else(|| Some("".into()));
            }
            "m.room.tombstone" => {
                let successor = content(json).filled("replacement_room");
                room.successor = successor.or_else(|| Some("".into()));
            }
            _ => {}
        }
    }

    /// Takes in the homeserver's summary, and notes whether what entries show
    /// has changed.
    pub(super) fn summary_polled(&mut self, room: &mut Room, batch: &RoomBatch) {
        let summary = &batch.summary;
        if let Some(joined) = summary.joined {
            room.joined_count = joined;
            room.counts_exact = true;
        }
        if let Some(invited) = summary.invited {
            room.invited_count = invited;
        }
        if let Some(ids) = &summary.heroes {
            self.heroes(room, ids);
        }
        let known = self.ledger.world.room(room.number).map(|known| visible(known));
        if known.as_ref() != Some(&visible(room)) {
            room.summary_changed = self.next();
        }
    }

    /// The heroes that one user was given, and behind them those that others
    /// were: no user is a hero to themselves, so each user's are different.
    fn heroes(&mut self, room: &mut Room, ids: &[String]) {
        let mut heroes: Vec<Hero> = Vec::new();
        for user_id in ids.iter().take(HEROES_MAX) {
            heroes.push(self.hero(room, user_id));
        }
        for known in room.heroes.iter() {
            let is_there = heroes.iter().any(|hero| hero.user_id == known.user_id);
            let membership = self.member(room, &known.user_id).and_then(|it| it.membership);
            let stays = matches!(membership.as_deref(), Some("join" | "invite"));
            if !is_there && stays && heroes.len() < HEROES_MAX {
                heroes.push(known.clone());
            }
        }
        room.heroes = heroes.into();
    }

    fn hero(&self, room: &Room, user_id: &str) -> Hero {
        let entry = self.get(Table::State, &key::state(room.number, MEMBER, user_id));
        let place = entry.and_then(StateRecord::decode).map(|entry| entry.place);
        let event = place.and_then(|place| self.event(room.number, place));
        let content = event.map(|event: EventRecord| content(&event.json));
        let filled = |key| content.as_ref().and_then(|content| content.filled(key));
        Hero {
            user_id: user_id.into(),
            displayname: filled("displayname"),
            avatar_url: filled("avatar_url"),
        }
    }

    /// Notes that a member list was taken in.
    pub(super) fn members_complete(&mut self, room: &mut Room) {
        if !room.members_complete {
            room.members_complete = true;
            let changed: Sequence = self.next();
            room.state_changed = room.state_changed.max(changed);
        }
    }
}

/// Keeps the heroes true when a member changes: one that stays has the newest
/// name, one that comes fills an empty place, one that goes leaves it unless
/// nobody else would be left to name the room after.
fn member(room: &mut Room, user_id: &str, content: &Content) {
    let mut heroes: Vec<Hero> = room.heroes.to_vec();
    let at = heroes.iter().position(|hero| *hero.user_id == *user_id);
    let is_there = matches!(content.text("membership"), Some("join" | "invite"));
    let hero = Hero {
        user_id: user_id.into(),
        displayname: content.filled("displayname"),
        avatar_url: content.filled("avatar_url"),
    };
    match (at, is_there) {
        (Some(at), true) => heroes[at] = hero,
        (None, true) if heroes.len() < HEROES_MAX => heroes.push(hero),
        (Some(at), false) if heroes.len() > 2 => drop(heroes.remove(at)),
        _ => return,
    }
    room.heroes = heroes.into();
}
