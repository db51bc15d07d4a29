//! What a connection asks for, and how each dialect says it.

use std::collections::{BTreeMap, BTreeSet};

use luge_core::request::Dialect;
use serde_json::{Map, Value, json};

use crate::homeserver::{MEMBER, user_id};

/// Everything that one request asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) lists: BTreeMap<String, ListWanted>,
    pub(crate) subscriptions: BTreeMap<usize, RoomWanted>,
    /// The extensions about rooms that are enabled.
    pub(crate) extensions: BTreeMap<&'static str, ScopeWanted>,
    pub(crate) timeout_ms: u64,
}

/// One list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ListWanted {
    /// One at most in MSC4186 as accepted; none there is every room.
    pub(crate) ranges: Vec<(u64, u64)>,
    pub(crate) room: RoomWanted,
    pub(crate) filters: FiltersWanted,
    /// MSC3575 alone, as the two below.
    pub(crate) sort: Vec<&'static str>,
    /// Whether messages alone make a room recent.
    pub(crate) bumped_by_messages: bool,
    pub(crate) slow_get_all_rooms: bool,
}

/// What is wanted of a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RoomWanted {
    pub(crate) limit: u64,
    pub(crate) state: StateWanted,
}

/// Which state is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StateWanted {
    /// Everything; every member only where they are not lazy.
    pub(crate) all: bool,
    /// Everything but [`EXCEPTED`] (not in the simplified dialect).
    pub(crate) except: bool,
    pub(crate) pairs: BTreeSet<(&'static str, &'static str)>,
    /// The user's own member event.
    pub(crate) own: bool,
    pub(crate) lazy: bool,
}

/// What `except` leaves out.
pub(crate) const EXCEPTED: (&str, &str) = ("org.widget", "b");

/// Which rooms a list has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FiltersWanted {
    pub(crate) is_dm: Option<bool>,
    pub(crate) is_invite: Option<bool>,
    pub(crate) is_encrypted: Option<bool>,
    pub(crate) tag: Option<&'static str>,
    pub(crate) not_tag: Option<&'static str>,
    /// The simplified dialect alone.
    pub(crate) name_like: Option<&'static str>,
}

/// Which rooms an extension is for; `None` for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ScopeWanted {
    pub(crate) lists: Option<BTreeSet<String>>,
    pub(crate) rooms: Option<BTreeSet<usize>>,
}

/// The extensions about rooms.
pub(crate) const EXTENSIONS: [&str; 3] = ["account_data", "receipts", "typing"];

/// The name of an extension on the wire.
pub(crate) fn extension_name(dialect: Dialect, extension: &'static str) -> &'static str {
    match (dialect, extension) {
        (Dialect::V4, "typing") => "org.matrix.msc4508.typing",
        _ => extension,
    }
}

pub(crate) fn room_id(room: usize) -> String {
    format!("!r{room}:x")
}

impl StateWanted {
    /// Whether an entry of the state is wanted for itself.
    pub(crate) fn matches(&self, kind: &str, key: &str, own: &str) -> bool {
        let excepted = self.except && (kind, key) == EXCEPTED;
        let all = self.all && !excepted && (kind != MEMBER || !self.lazy);
        let is_own = self.own && kind == MEMBER && key == own;
        all || is_own || self.pairs.contains(&(kind, key))
    }

    /// In pairs; beside everything they filter in MSC3575.
    pub(crate) fn pairs(&self, dialect: Dialect) -> Value {
        let mut pairs: Vec<(&str, &str)> = self.pairs.iter().copied().collect();
        let every_member = self.all && !self.lazy;
        if self.all {
            if dialect == Dialect::Msc3575 {
                pairs.clear();
            }
            pairs.push(("*", "*"));
        }
        if self.all && self.except {
            pairs.push(("org.widget", "a"));
        }
        if self.own && !(every_member && dialect == Dialect::Msc3575) {
            pairs.push((MEMBER, "$ME"));
        }
        if self.lazy {
            pairs.push((MEMBER, "$LAZY"));
        }
        json!(pairs)
    }

    fn patterns(&self, own: &str) -> Value {
        let pattern = |(kind, key): &(&str, &str)| json!({"type": kind, "state_key": key});
        let mut include: Vec<Value> = self.pairs.iter().map(pattern).collect();
        let mut exclude = Vec::new();
        if self.all {
            // The accepted form has no word for "all but members".
            include.push(json!({}));
            if self.lazy {
                exclude.push(json!({"type": MEMBER}));
            }
        } else if self.own {
            include.push(pattern(&(MEMBER, own)));
        }
        if self.except {
            exclude.push(pattern(&EXCEPTED));
        }
        json!({"include": include, "exclude": exclude, "lazy_members": self.lazy})
    }
}

impl FiltersWanted {
    pub(crate) fn json(&self, dialect: Dialect) -> Value {
        let mut filters = Map::new();
        let is_invite = if dialect == Dialect::V4 { "is_invited" } else { "is_invite" };
        for (key, flag) in [
            ("is_dm", self.is_dm),
            (is_invite, self.is_invite),
            ("is_encrypted", self.is_encrypted),
        ] {
            filters.extend(flag.map(|flag| (key.to_owned(), flag.into())));
        }
        for (key, tag) in [("tags", self.tag), ("not_tags", self.not_tag)] {
            filters.extend(tag.map(|tag| (key.to_owned(), json!([tag]))));
        }
        filters.extend(self.name_like.map(|like| ("room_name_like".to_owned(), like.into())));
        filters.into()
    }
}

impl RoomWanted {
    pub(crate) fn json(&self, dialect: Dialect, own: &str) -> Value {
        let state = match dialect {
            Dialect::V4 => self.state.patterns(own),
            _ => self.state.pairs(dialect),
        };
        json!({"timeline_limit": self.limit, "required_state": state})
    }
}

impl ListWanted {
    fn json(&self, dialect: Dialect, own: &str) -> Value {
        let mut list = self.room.json(dialect, own);
        if dialect == Dialect::V4 {
            if let Some(range) = self.ranges.first() {
                list["range"] = json!(range);
            }
        } else {
            list["ranges"] = json!(self.ranges);
        }
        list["filters"] = self.filters.json(dialect);
        list
    }
}

impl ScopeWanted {
    fn json(&self) -> Value {
        let mut scope = json!({"enabled": true});
        if let Some(lists) = &self.lists {
            scope["lists"] = json!(lists);
        }
        if let Some(rooms) = &self.rooms {
            scope["rooms"] = rooms.iter().map(|room| room_id(*room)).collect();
        }
        scope
    }
}

impl Wanted {
    /// The body where nothing is sticky, less what says where it goes on.
    pub(crate) fn body(&self, dialect: Dialect, user: usize) -> Value {
        let own = user_id(user);
        let lists: Map<String, Value> =
            self.lists.iter().map(|(key, list)| (key.clone(), list.json(dialect, &own))).collect();
        let subscriptions: Map<String, Value> = self
            .subscriptions
            .iter()
            .map(|(room, wanted)| (room_id(*room), wanted.json(dialect, &own)))
            .collect();
        let extensions: Map<String, Value> = self
            .extensions
            .iter()
            .map(|(name, scope)| (extension_name(dialect, name).to_owned(), scope.json()))
            .collect();
        json!({
            "conn_id": "rooms", "lists": lists, "room_subscriptions": subscriptions,
            "extensions": extensions,
        })
    }

    /// What is asked of a room by each that selects it, where the windows of the
    /// lists are these.
    pub(crate) fn of_room<'a>(
        &'a self,
        room: usize,
        windows: &'a BTreeMap<String, Vec<(u64, usize)>>,
    ) -> impl Iterator<Item = &'a RoomWanted> {
        let lists = self.lists.iter().filter(move |(key, _)| {
            windows.get(*key).is_some_and(|rooms| rooms.iter().any(|(_, it)| *it == room))
        });
        lists.map(|(_, list)| &list.room).chain(self.subscriptions.get(&room))
    }
}
