//! A homeserver as simple as it can be: a list of everything that happened, and
//! what `/sync` makes of it. History is visible to whoever joins.

use std::collections::BTreeMap;

use luge_core::upstream::{RoomBatch, Section, Summary, SyncBatch, SyncEvent};

use crate::table;

const MEMBER: &str = "m.room.member";

/// Something that happened in a room. Its position is its index in the list
/// plus one.
#[derive(Clone, Debug)]
struct Happened {
    room: usize,
    event: SyncEvent,
    membership: &'static str,
}

#[derive(Debug)]
pub(crate) struct Homeserver {
    stream: Vec<Happened>,
    /// Events of a room in one answer.
    limit: usize,
    /// Whether answers carry the state after the timeline.
    state_after: bool,
}

pub(crate) fn room_id(room: usize) -> String {
    format!("!{room}:example.org")
}

impl Homeserver {
    pub(crate) fn new(limit: usize, state_after: bool) -> Self {
        Self { stream: Vec::new(), limit, state_after }
    }

    /// The newest position.
    pub(crate) fn now(&self) -> usize {
        self.stream.len()
    }

    fn push(&mut self, room: usize, now_ms: u64, mut event: SyncEvent, membership: &'static str) {
        event.origin_server_ts = now_ms;
        self.stream.push(Happened { room, event, membership });
    }

    pub(crate) fn create(&mut self, room: usize, now_ms: u64) {
        let id = self.id("create", room);
        let content = serde_json::json!({ "room_version": "10" });
        let event = table::event(&id, "m.room.create", Some(""), &content);
        self.push(room, now_ms, event, "");
    }

    pub(crate) fn say(&mut self, room: usize, now_ms: u64) {
        let event = table::message(&self.id("message", room));
        self.push(room, now_ms, event, "");
    }

    pub(crate) fn set(&mut self, room: usize, now_ms: u64, kind: &str) {
        let id = self.id("state", room);
        let content = serde_json::json!({ "name": id, "topic": id });
        self.push(room, now_ms, table::event(&id, kind, Some(""), &content), "");
    }

    /// Somebody's membership becomes another; false where it cannot.
    pub(crate) fn member(&mut self, room: usize, now_ms: u64, user_id: &str, is: &'static str) {
        let before = self.membership(room, user_id, self.now());
        let may = match is {
            "invite" => !matches!(before, "join" | "invite"),
            "join" => before != "ban",
            _ => matches!(before, "join" | "invite"),
        };
        if may {
            let id = self.id(is, room);
            let event = table::member_after(&id, user_id, before, is);
            self.push(room, now_ms, event, is);
        }
    }

    fn id(&self, word: &str, room: usize) -> String {
        format!("${word}-{room}-{}", self.now() + 1)
    }

    fn of_room(
        &self,
        room: usize,
        after: usize,
        upto: usize,
    ) -> impl DoubleEndedIterator<Item = (usize, &Happened)> {
        let events = self.stream.iter().enumerate().map(|(index, it)| (index + 1, it));
        events.filter(move |(at, it)| it.room == room && after < *at && *at <= upto)
    }

    /// Everything that happened in a room.
    pub(crate) fn timeline(&self, room: usize) -> Vec<&str> {
        self.of_room(room, 0, self.now()).map(|(_, it)| &*it.event.event_id).collect()
    }

    /// What set each entry of a room's state, between two positions.
    fn state(&self, room: usize, after: usize, upto: usize) -> BTreeMap<(&str, &str), &Happened> {
        let state = self.of_room(room, after, upto).filter_map(|(_, it)| {
            let state_key = it.event.state_key.as_deref()?;
            Some(((&*it.event.kind, state_key), it))
        });
        state.collect()
    }

    pub(crate) fn state_now(&self, room: usize) -> BTreeMap<(&str, &str), &str> {
        let state = self.state(room, 0, self.now());
        state.into_iter().map(|(key, it)| (key, &*it.event.event_id)).collect()
    }

    pub(crate) fn membership(&self, room: usize, user_id: &str, at: usize) -> &'static str {
        self.state(room, 0, at).get(&(MEMBER, user_id)).map_or("none", |it| it.membership)
    }

    pub(crate) fn count(&self, room: usize, at: usize, is: &str) -> u64 {
        let state = self.state(room, 0, at);
        state.values().filter(|it| it.event.kind == MEMBER && it.membership == is).count() as u64
    }

    /// The position of the newest event that somebody's membership is by.
    pub(crate) fn member_since(&self, room: usize, user_id: &str, at: usize) -> usize {
        let own = |it: &Happened| {
            it.event.kind == MEMBER && it.event.state_key.as_deref() == Some(user_id)
        };
        self.of_room(room, 0, at).rev().find(|(_, it)| own(it)).map_or(0, |(at, _)| at)
    }

    /// The answer to a request since a position, 0 for an initial sync.
    pub(crate) fn answer(&self, user_id: &str, since: usize, rooms: usize) -> SyncBatch {
        let now = self.now();
        let rooms = (0..rooms).filter_map(|room| self.room(room, user_id, since, now)).collect();
        SyncBatch { next_batch: Some(now.to_string()), rooms, ..SyncBatch::default() }
    }

    fn room(&self, room: usize, user_id: &str, since: usize, now: usize) -> Option<RoomBatch> {
        let was_joined = since > 0 && self.membership(room, user_id, since) == "join";
        let changed = self.member_since(room, user_id, now) > since;
        match self.membership(room, user_id, now) {
            "join" => {
                let left_between = self.of_room(room, since, now).any(|(_, it)| {
                    it.event.kind == MEMBER
                        && it.event.state_key.as_deref() == Some(user_id)
                        && it.membership != "join"
                });
                let stays = was_joined && !left_between;
                let since = if stays { since } else { 0 };
                self.chunk(room, since, now, Section::Join)
            }
            "invite" if changed => {
                let is = serde_json::json!({ "membership": "invite" });
                let event = table::stripped(MEMBER, user_id, table::CAROL, &is);
                let batch = RoomBatch::new(room_id(room), Section::Invite);
                Some(RoomBatch { stripped: vec![event], ..batch })
            }
            "leave" | "ban" if changed && since > 0 => {
                let left = self.member_since(room, user_id, now);
                let before = self.membership(room, user_id, left - 1);
                if before == "join" {
                    return self.chunk(
                        room,
                        if was_joined { since } else { 0 },
                        left,
                        Section::Leave,
                    );
                }
                // Who was only invited is told of the event alone.
                let batch = RoomBatch::new(room_id(room), Section::Leave);
                let timeline = vec![self.stream[left - 1].event.clone()];
                Some(RoomBatch { timeline, limited: true, ..batch })
            }
            _ => None,
        }
    }

    fn chunk(&self, room: usize, since: usize, upto: usize, section: Section) -> Option<RoomBatch> {
        let window: Vec<(usize, &Happened)> = self.of_room(room, since, upto).collect();
        let first = window.len().saturating_sub(self.limit);
        let (start, _) = window.get(first)?;
        let state_upto = if self.state_after { upto } else { start - 1 };
        let state = self.state(room, since, state_upto);
        let told = window.iter().any(|(_, it)| it.event.kind == MEMBER) || first > 0;
        let count = |is| (told || since == 0).then(|| self.count(room, upto, is));
        Some(RoomBatch {
            state: state.into_values().map(|it| it.event.clone()).collect(),
            state_is_after: self.state_after,
            timeline: window[first..].iter().map(|(_, it)| it.event.clone()).collect(),
            limited: first > 0,
            prev_batch: Some(format!("before-{start}")),
            summary: Summary { heroes: None, joined: count("join"), invited: count("invite") },
            ..RoomBatch::new(room_id(room), section)
        })
    }
}
