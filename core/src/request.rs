//! A sliding sync request in Luge's own words, whichever dialect it came in.

mod dialect;
mod required_state;
mod size;
mod sticky;

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

pub use dialect::Dialect;
pub use required_state::{MEMBER, PartialState, RequiredState, StatePattern};
pub use size::{SharedConfigs, SizeLimits};
pub use sticky::{Changes, ExtensionChange, ExtensionName, ListChange, Sticky};

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What it speaks.
    pub dialect: Dialect,
    /// Names one of the device's connections; empty where the client gave none.
    pub conn_id: String,
    /// `pos`, untouched; `None` starts the connection anew.
    pub position: Option<String>,
    /// How long the client waits for something new, in milliseconds.
    pub timeout_ms: u64,
    /// The lists, by key, each key once. Like what follows they are shared: by
    /// the requests of a client that asks for the same again and again.
    pub lists: Arc<[(String, ListRequest)]>,
    /// The subscribed rooms, by room id, each once. Equal configurations are one.
    pub subscriptions: Arc<[(String, Arc<RoomConfig>)]>,
    /// The extensions.
    pub extensions: Arc<Extensions>,
    /// What is asked for beyond what the connection has asked for before
    /// (MSC3575 alone); [`Self::settle`] makes a whole request of both.
    pub changes: Option<Box<Changes>>,
    /// Everything that the connection asks for, where the dialect has it
    /// remembered.
    pub sticky: Option<Arc<Sticky>>,
}

/// One list of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    /// Windows into the list, both ends included; empty where the request has
    /// no ranges.
    pub ranges: Vec<(u64, u64)>,
    /// What is wanted of the rooms in the windows.
    pub config: Arc<RoomConfig>,
    /// Which rooms are members.
    pub filters: Filters,
    /// The order: the first decides, the others where those before it do not
    /// (MSC3575 alone; else the room of the last event comes first).
    pub sort: Vec<Sort>,
    /// The types of events that make a room recent; `None` for every one.
    pub bump_event_types: Option<BTreeSet<String>>,
    /// Whether the client wants every room and keeps the order itself.
    pub slow_get_all_rooms: bool,
}

/// What rooms are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sort {
    /// The room of the last event first.
    Recency,
    /// By name, letter case and signs around it aside.
    Name,
    /// Highlights first, then notifications, of which encrypted rooms first.
    NotificationLevel,
    /// Most notifications first.
    NotificationCount,
    /// Most highlights first.
    HighlightCount,
}

/// What is wanted of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomConfig {
    /// At most this many events.
    pub timeline_limit: u64,
    /// Which state.
    pub required_state: RequiredState,
    /// What is wanted of the rooms that this one replaced; `None` for nothing
    /// (MSC3575 alone).
    pub old_rooms: Option<Arc<RoomConfig>>,
    /// Whether those who name a room without a name are wanted (MSC3575 alone;
    /// else they always are).
    pub include_heroes: bool,
}

impl RoomConfig {
    /// What satisfies both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            timeline_limit: self.timeline_limit.max(other.timeline_limit),
            required_state: self.required_state.union(&other.required_state),
            old_rooms: match (&self.old_rooms, &other.old_rooms) {
                (Some(one), Some(other)) => Some(Arc::new(one.union(other))),
                (one, other) => one.as_ref().or(other.as_ref()).cloned(),
            },
            include_heroes: self.include_heroes || other.include_heroes,
        }
    }
}

/// Which rooms a list holds; an absent filter lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filters {
    /// In `m.direct`.
    pub is_dm: Option<bool>,
    /// Encrypted. A room of which that is unknown passes neither way.
    pub is_encrypted: Option<bool>,
    /// Invited.
    pub is_invite: Option<bool>,
    /// Replaced by another room, whether the user is there or not.
    pub is_tombstoned: Option<bool>,
    /// One of these types (`None`: no type).
    pub room_types: Option<Vec<Option<String>>>,
    /// None of these types.
    pub not_room_types: Option<Vec<Option<String>>>,
    /// A part of the name, letter case aside.
    pub room_name_like: Option<String>,
    /// With one of these tags.
    pub tags: Option<BTreeSet<String>>,
    /// With none of these tags.
    pub not_tags: Option<BTreeSet<String>>,
    /// A child of one of these spaces.
    pub spaces: Option<BTreeSet<String>>,
}

impl Filters {
    /// Whether every room passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The extensions that a request enables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `to_device` (MSC3885).
    pub to_device: Option<ToDevice>,
    /// `e2ee` (MSC3884).
    pub e2ee: bool,
    /// `account_data` (MSC3959).
    pub account_data: Option<Scope>,
    /// `receipts` (MSC3960).
    pub receipts: Option<Scope>,
    /// `typing` (MSC3961).
    pub typing: Option<Scope>,
}

/// What a request asks of `to_device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToDevice {
    /// The token of the last response that the client has taken in, untouched.
    pub since: Option<String>,
    /// At most this many messages.
    pub limit: u64,
}

/// Which rooms an extension is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The lists whose windows count; `None` for all.
    pub lists: Option<BTreeSet<String>>,
    /// The rooms that count; `None` for every one that the request selects.
    pub rooms: Option<BTreeSet<String>>,
}
