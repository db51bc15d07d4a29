//! A room's summary: what lists and entries show of it without looking at
//! events. Malformed content counts as absent.

use std::sync::Arc;

use serde_json::Value;

use super::{
    fold::Fold,
    polled::Poll,
    timeline::{Chunk, Standing},
};
use crate::{
    id::{Sequence, UserNumber},
    record::{EventRecord, StateRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, Section, Summary},
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

    /// The member whose event has this content.
    pub(super) fn hero(&self, user_id: &str) -> Hero {
        Hero {
            user_id: user_id.into(),
            displayname: self.filled("displayname"),
            avatar_url: self.filled("avatar_url"),
        }
    }
}

/// Members whom a homeserver's summary names at most.
const SUMMARY_HEROES_MAX: usize = 5;

/// Members that are looked at in search of one who takes a hero's place.
const MEMBERS_LOOKED_AT_MAX: usize = 1_000;

/// In place of an event where the state has none any more.
pub(super) const GONE: &str = "{}";

/// What of a summary is part of an entry: texts, counts and heroes.
type Visible = ([Option<Arc<str>>; 3], (u64, u64), Arc<[Hero]>);

fn visible(room: &Room) -> Visible {
    let texts = [&room.name, &room.canonical_alias, &room.avatar].map(Clone::clone);
    (texts, (room.joined_count, room.invited_count), Arc::clone(&room.heroes))
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
            "m.room.encryption" if json == GONE => {}
            "m.room.encryption" => {
                let algorithm = content(json).filled("algorithm");
                room.encryption = algorithm.or(room.encryption.take()).or_else(|| Some("".into()));
            }
            "m.room.tombstone" if json == GONE => room.successor = None,
            "m.room.tombstone" => {
                let successor = content(json).filled("replacement_room");
                room.successor = successor.or_else(|| Some("".into()));
            }
            _ => {}
        }
    }

    /// Takes in the homeserver's summary, and notes whether what entries show
    /// has changed.
    pub(super) fn summary_polled(
        &mut self,
        poll: Poll,
        room: &mut Room,
        batch: &RoomBatch,
        chunk: &Chunk,
    ) {
        let knew = if batch.section == Section::Leave { 0 } else { poll.knew };
        if self.is_current(knew, room, chunk) {
            self.take_summary(poll, room, &batch.summary);
        }
        self.note_summary(room);
    }

    /// Notes whether what entries show of a room has changed.
    pub(super) fn note_summary(&mut self, room: &mut Room) {
        let known = self.ledger.world.room(room.number).map(|known| visible(known));
        if known.as_ref() != Some(&visible(room)) {
            room.summary_changed = self.next();
        }
    }

    /// Whether no other poller has told of anything that an answer did not
    /// know.
    fn is_current(&self, knew: u64, room: &Room, chunk: &Chunk) -> bool {
        let before = self.ledger.world.room(room.number);
        chunk.standing != Standing::Unsure
            || before.is_none_or(|before| before.last_event.0 <= knew)
    }

    fn take_summary(&mut self, poll: Poll, room: &mut Room, summary: &Summary) {
        if let Some(ids) = &summary.heroes {
            self.heroes(poll, room, ids);
        }
        if let Some(joined) = summary.joined {
            room.joined_count = joined;
            room.counts_exact = true;
        }
        if let Some(invited) = summary.invited {
            room.invited_count = invited;
        }
    }

    /// Adds the heroes that one user was given to those that others were: no
    /// user is a hero to themselves, so each user's are different. Those that
    /// stay keep their places, so that no answer changes a name needlessly; the
    /// first summary goes before what was guessed without one. Who leaves a room that
    /// nobody else here is in may do so without an event that anybody is told of:
    /// where a summary names all others, it has the last word.
    fn heroes(&mut self, poll: Poll, room: &mut Room, ids: &[String]) {
        let given = |user_id: &str| ids.iter().any(|id| *id == *user_id);
        let own = self.ledger.world.user_id(poll.user).cloned().unwrap_or_default();
        let names_all = ids.len() < SUMMARY_HEROES_MAX;
        let mut heroes: Vec<Hero> = room.heroes.to_vec();
        let before = heroes.len();
        heroes.retain(|known| {
            let membership = self.member(room, &known.user_id).and_then(|it| it.membership);
            let is_there = matches!(membership.as_deref(), Some("join" | "invite"));
            given(&known.user_id) || (is_there && (!names_all || known.user_id == own))
        });
        let has_lost = heroes.len() < before;
        if !room.counts_exact {
            let guessed = std::mem::take(&mut heroes);
            heroes.extend(ids.iter().take(HEROES_MAX).map(|user_id| self.hero(room, user_id)));
            heroes.extend(guessed.into_iter().filter(|hero| !given(&hero.user_id)));
            heroes.truncate(HEROES_MAX);
        }
        for user_id in ids {
            let is_there = heroes.iter().any(|hero| *hero.user_id == **user_id);
            if !is_there && heroes.len() < HEROES_MAX {
                heroes.push(self.hero(room, user_id));
            }
        }
        room.heroes = heroes.into();
        // Another user of the room may have none to put in the place of who went.
        if has_lost && !names_all {
            self.add_heroes(room, HEROES_MAX.saturating_sub(room.heroes.len()));
        }
    }

    /// Before a hero goes: fills empty places, and theirs, with members who are known
    /// to be there. The homeserver's next summary may be long in coming, or may have
    /// come before it was known that they go.
    pub(super) fn fill_heroes(&self, room: &mut Room, goes: &str) {
        if room.heroes.iter().any(|hero| *hero.user_id == *goes) {
            self.add_heroes(room, (HEROES_MAX + 1).saturating_sub(room.heroes.len()));
        }
    }

    /// Adds as many members who are known to be there, or fewer where there are no more.
    fn add_heroes(&self, room: &mut Room, lacking: usize) {
        let is_hero = |user_id: &str| room.heroes.iter().any(|hero| *hero.user_id == *user_id);
        if lacking == 0 {
            return;
        }
        let (mut found, mut looked_at): (Vec<String>, usize) = (Vec::new(), 0);
        self.scan(Table::State, &key::state_of_type(room.number, MEMBER), &mut |_, archive| {
            looked_at += 1;
            if let Some(member) = StateRecord::access(archive)
                && member.kind == *MEMBER
                && matches!(member.membership.as_deref(), Some("join" | "invite"))
                && !is_hero(&member.state_key)
            {
                found.push(member.state_key.to_string());
            }
            found.len() < lacking && looked_at < MEMBERS_LOOKED_AT_MAX
        });
        found.truncate(lacking);
        let others = found.iter().map(|user_id| self.hero(room, user_id));
        room.heroes = room.heroes.iter().cloned().chain(others).collect();
    }

    fn hero(&self, room: &Room, user_id: &str) -> Hero {
        let entry = self.get(Table::State, &key::state(room.number, MEMBER, user_id));
        let place = entry.and_then(StateRecord::decode).map(|entry| entry.place);
        let event = place.and_then(|place| self.event(room.number, place));
        let content = event.map_or(Content(None), |event: EventRecord| content(&event.json));
        content.hero(user_id)
    }

    /// Puts the state of a room in doubt that has lost a hero, or was named others, and now
    /// has too few: of members whom a summary alone has named the stored state has nothing.
    /// Likewise one whose heroes are not `confirmed`.
    pub(super) fn doubt_heroes(&mut self, user: UserNumber, room: &mut Room, confirmed: bool) {
        let before = self.ledger.world.room(room.number).map(|known| Arc::clone(&known.heroes));
        let has_changed = before.is_some_and(|before| before != room.heroes);
        if confirmed && !(has_changed && self.lacks_heroes(room)) {
            return;
        }
        // Who brought an earlier doubt may be out since.
        if !room.is_suspect() {
            room.suspected = self.next();
        }
        self.suspect(user, room.number);
    }

    /// Whether the heroes of a room that is named after them are there for all that an answer
    /// says: behind a gap one whom its summary does not name may be out.
    pub(super) fn are_confirmed(
        &self,
        poll: Poll,
        room: &Room,
        (batch, chunk): (&RoomBatch, &Chunk),
    ) -> bool {
        let Some(ids) = batch.summary.heroes.as_ref().filter(|_| chunk.opened_gap) else {
            return true;
        };
        let own = self.ledger.world.user_id(poll.user);
        let is_named =
            |hero: &Hero| own == Some(&hero.user_id) || ids.iter().any(|id| **id == *hero.user_id);
        is_named_otherwise(room) || room.heroes.iter().all(is_named)
    }

    /// Whether a room that is named after its members has too few to name for somebody
    /// here, who is no hero to themselves.
    fn lacks_heroes(&self, room: &Room) -> bool {
        if is_named_otherwise(room) || !room.counts_exact || room.heroes.len() >= HEROES_MAX {
            return false;
        }
        let is_here = |hero: &Hero| {
            let user = self.ledger.world.user_numbers.get(&hero.user_id);
            user.is_some_and(|user| room.local_users.contains_key(user))
        };
        let others = (room.joined_count + room.invited_count).saturating_sub(1);
        let wanted = usize::try_from(others).unwrap_or(usize::MAX).min(SUMMARY_HEROES_MAX);
        room.heroes.len() - usize::from(room.heroes.iter().any(is_here)) < wanted
    }

    /// Names members who are there after those that a room has, as far as there are places.
    pub(super) fn fill_heroes_from(room: &mut Room, members: &[Hero]) {
        let is_hero = |it: &&Hero| room.heroes.iter().any(|hero| hero.user_id == it.user_id);
        let others = members.iter().filter(|it| !is_hero(it)).cloned();
        room.heroes = room.heroes.iter().cloned().chain(others).take(HEROES_MAX).collect();
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

fn is_named_otherwise(room: &Room) -> bool {
    room.name.is_some() || room.canonical_alias.is_some()
}

/// Keeps the heroes true when a member changes: one that stays has the newest
/// name, one that comes fills an empty place, one that goes leaves it unless
/// nobody else would be left to name the room after.
fn member(room: &mut Room, user_id: &str, content: &Content) {
    let mut heroes: Vec<Hero> = room.heroes.to_vec();
    let at = heroes.iter().position(|hero| *hero.user_id == *user_id);
    let is_there = matches!(content.text("membership"), Some("join" | "invite"));
    let hero = content.hero(user_id);
    match (at, is_there) {
        (Some(at), true) => heroes[at] = hero,
        (None, true) if heroes.len() < HEROES_MAX => heroes.push(hero),
        (Some(at), false) if heroes.len() > 2 => drop(heroes.remove(at)),
        _ => return,
    }
    room.heroes = heroes.into();
}
