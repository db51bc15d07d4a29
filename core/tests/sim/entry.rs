//! A room's entry, and what a client makes of it, by the rules of its dialect.

use std::collections::{BTreeMap, BTreeSet};

use luge_core::request::Dialect;
use serde_json::Value;

use crate::homeserver::{MEMBER, event_of};

/// A room as the client has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Indices of the events, oldest first.
    pub(crate) events: Vec<usize>,
    /// Events that came behind newer ones: another user's poller had a gap
    /// there, and was faster.
    pub(crate) late: BTreeSet<usize>,
    /// Whether older events may be missing before the first.
    pub(crate) limited: bool,
    /// How many events were asked for when the last entry came.
    pub(crate) limit: u64,
    pub(crate) state: BTreeMap<(String, String), String>,
    /// Senders and targets of the timeline, where members are lazy.
    pub(crate) people: BTreeSet<String>,
    pub(crate) name: Option<String>,
    pub(crate) avatar: Option<String>,
    /// User ids.
    pub(crate) heroes: BTreeSet<String>,
    pub(crate) counts: (u64, u64),
    pub(crate) unread: u64,
    pub(crate) is_dm: bool,
    pub(crate) invited: bool,
    pub(crate) joined: bool,
    pub(crate) bump_stamp: u64,
}

/// What an entry is taken in with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver<'a> {
    pub(crate) dialect: Dialect,
    /// The user's id.
    pub(crate) own: &'a str,
    /// Whether the request had no position.
    pub(crate) from_start: bool,
    /// Whether what is asked of the room has its members lazily.
    pub(crate) lazy: bool,
    /// How many events are asked for; `None` where nobody asks for the room.
    pub(crate) limit: Option<u64>,
}

/// The greatest integer that JSON carries everywhere.
const INTEGER_MAX: u64 = (1 << 53) - 1;

impl Held {
    /// Takes in an entry. `known` says whether the client had the room, `news`
    /// which events it ever had.
    pub(crate) fn take_in(
        &mut self,
        to: Receiver<'_>,
        room: usize,
        known: bool,
        entry: &Value,
        news: &mut BTreeSet<(usize, usize)>,
    ) {
        let initial = entry["initial"] == true;
        let stripped = if to.dialect == Dialect::V4 { "stripped_state" } else { "invite_state" };
        let is_stripped = entry.get(stripped).is_some();
        let may_be_new = initial || (is_stripped && to.dialect == Dialect::V4);
        assert!(known || may_be_new, "an unknown room comes as initial: {entry:#}");
        let replaces = match to.dialect {
            Dialect::Simplified => initial,
            Dialect::V4 => initial || is_stripped,
            // What more is asked of a room comes as initial too, and alone.
            Dialect::Msc3575 => is_stripped || (initial && !self.joined),
        };
        let bump_stamp = self.bump_stamp;
        let limit = to.limit.unwrap_or(self.limit);
        if replaces {
            *self = Self::default();
        }
        self.limit = limit;
        if is_stripped {
            return self.stripped(to, entry, &entry[stripped]);
        }
        self.membership(to, entry);
        self.state(to, entry);
        self.facts(to, entry, initial);
        if let Some(stamp) = entry.get("bump_stamp") {
            self.bump_stamp = stamp.as_u64().expect("a bump stamp is a natural number");
            assert!(self.bump_stamp <= INTEGER_MAX, "a bump stamp fits");
            assert!(replaces || self.bump_stamp >= bump_stamp, "a bump stamp goes up: {entry:#}");
        }
        self.timeline(to, room, entry, !known || replaces, news);
    }

    fn stripped(&mut self, to: Receiver<'_>, entry: &Value, stripped: &Value) {
        for absent in ["timeline", "required_state", "limited", "num_live", "prev_batch"] {
            assert_eq!(entry.get(absent), None, "stripped state comes without {absent}");
        }
        let last = stripped.as_array().and_then(|events| events.last()).expect("stripped state");
        assert_eq!(last["type"], MEMBER, "the own member event is the last: {entry:#}");
        assert_eq!(last["state_key"], *to.own, "the own member event is the last: {entry:#}");
        self.joined = false;
        self.invited = last["content"]["membership"] == "invite";
        match to.dialect {
            Dialect::V4 => {
                assert_eq!(entry["membership"], last["content"]["membership"], "{entry:#}");
                assert_eq!(entry.get("joined_count"), None, "who is not there counts nobody");
            }
            Dialect::Simplified => {
                assert_eq!(entry.get("joined_count"), None, "who is not there counts nobody");
            }
            Dialect::Msc3575 => self.name = Some(text(&entry["name"])),
        }
    }

    /// An entry that does not say otherwise is of a room that the user is in.
    fn membership(&mut self, to: Receiver<'_>, entry: &Value) {
        self.invited = false;
        let own = entry["required_state"].as_array().into_iter().flatten();
        let mut own = own.filter(|it| it["type"] == MEMBER && it["state_key"] == *to.own);
        let own = own.next_back().map(|event| event["content"]["membership"] == "join");
        self.joined = own.unwrap_or(true);
        if to.dialect == Dialect::V4 {
            let membership = entry["membership"].as_str().expect("each entry has a membership");
            let is_join = membership == "join";
            assert!(own.is_none_or(|own| own == is_join), "the state says the same: {entry:#}");
            self.joined = is_join;
        }
    }

    fn state(&mut self, to: Receiver<'_>, entry: &Value) {
        for event in entry["required_state"].as_array().into_iter().flatten() {
            let key = (text(&event["type"]), text(&event["state_key"]));
            if to.dialect == Dialect::V4 && event.get("content").is_none() {
                self.state.remove(&key);
                continue;
            }
            // A removed name is told by the state alone.
            if to.dialect == Dialect::Simplified && key.0 == "m.room.name" {
                self.name = event["content"]["name"].as_str().map(str::to_owned);
            }
            self.state.insert(key, text(&event["event_id"]));
        }
    }

    fn facts(&mut self, to: Receiver<'_>, entry: &Value, initial: bool) {
        let string = |key: &str| {
            let value = entry.get(key)?;
            assert!(value.is_string() || value.is_null(), "{key} is a string: {entry:#}");
            Some(value.as_str().map(str::to_owned))
        };
        match (string("name"), to.dialect) {
            (Some(None), Dialect::Simplified | Dialect::Msc3575) => {
                panic!("a name is a string: {entry:#}")
            }
            (Some(name), _) => self.name = name,
            (None, _) => {}
        }
        if let Some(avatar) = string("avatar") {
            self.avatar = avatar;
        }
        if let Some(heroes) = entry["heroes"].as_array() {
            self.heroes = heroes.iter().map(|hero| text(&hero["user_id"])).collect();
            assert_eq!(self.heroes.len(), heroes.len(), "each hero once");
            assert!(heroes.len() <= 5, "five heroes at most");
            assert!(!self.heroes.contains(to.own), "nobody is their own hero");
        }
        let number = |key: &str| entry.get(key).map(|it| it.as_u64().expect("a natural number"));
        self.counts.0 = number("joined_count").unwrap_or(self.counts.0);
        self.counts.1 = number("invited_count").unwrap_or(self.counts.1);
        self.unread = number("notification_count").unwrap_or(self.unread);
        let is_dm = entry.get("is_dm").map(|it| it.as_bool().expect("a flag"));
        match to.dialect {
            Dialect::Simplified => self.is_dm = is_dm == Some(true),
            Dialect::V4 if initial => self.is_dm = is_dm == Some(true),
            Dialect::V4 | Dialect::Msc3575 => self.is_dm = is_dm.unwrap_or(self.is_dm),
        }
    }

    fn timeline(
        &mut self,
        to: Receiver<'_>,
        room: usize,
        entry: &Value,
        is_new: bool,
        news: &mut BTreeSet<(usize, usize)>,
    ) {
        let events = entry["timeline"].as_array().map_or(&[][..], Vec::as_slice);
        let index = |event: &Value| {
            let (of, index) = event_of(event["event_id"].as_str().expect("an event id"));
            assert_eq!(of, room, "an event stands in its own room");
            index
        };
        let indices: Vec<usize> = events.iter().map(index).collect();
        let marker = match to.dialect {
            Dialect::V4 => "expanded_timeline",
            _ => "unstable_expanded_timeline",
        };
        let expanded = entry[marker] == true;
        let (initial, limited) = (entry["initial"] == true, entry["limited"] == true);
        let live = entry["num_live"].as_u64().unwrap_or(0);
        let live = usize::try_from(live).expect("a count of events");
        assert!(live <= indices.len(), "no more events are live than there are");
        assert!(live == 0 || !to.from_start, "nothing is live at the start");
        for index in &indices[indices.len() - live..] {
            assert!(!news.contains(&(room, *index)), "$r{room}-{index} is live again: {entry:#}");
        }
        if !initial && !expanded {
            for index in &indices {
                let is_news = news.insert((room, *index));
                assert!(is_news, "$r{room}-{index} comes as new again: {entry:#}");
            }
        }
        news.extend(indices.iter().map(|index| (room, *index)));
        let anew = match to.dialect {
            Dialect::Msc3575 => is_new || limited,
            _ => initial || expanded || limited,
        };
        if anew {
            self.limited = limited;
            self.events.clear();
            self.late.clear();
            self.people.clear();
        }
        for index in indices {
            if self.events.contains(&index) {
                continue;
            }
            if self.events.last().is_none_or(|last| *last < index) {
                self.events.push(index);
            } else {
                self.late.insert(index);
            }
        }
        if to.lazy {
            for event in events {
                self.people.insert(text(&event["sender"]));
                if event["type"] == MEMBER {
                    self.people.insert(text(&event["state_key"]));
                }
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
