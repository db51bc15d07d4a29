//! A sliding sync response in Luge's own words, whichever dialect it goes out
//! in. What is already JSON (events) is carried as text, to be spliced.

use std::sync::Arc;

use crate::{list::Operation, record::Membership, world::Hero};

/// One response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// `pos`.
    pub position: String,
    /// `txn_id` of the request that made the response.
    pub txn_id: Option<String>,
    /// The lists that were asked for.
    pub lists: Vec<(String, List)>,
    /// The rooms that have something to say.
    pub rooms: Vec<Room>,
    /// The extensions that were asked for.
    pub extensions: Extensions,
}

/// A list's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// How many rooms the list has.
    pub count: u64,
    /// Each window as it was asked for, and the rooms in it.
    pub windows: Vec<Window>,
    /// What makes of the order that the client holds the one that there is, in
    /// the dialect that has it.
    pub operations: Vec<Operation<Arc<str>>>,
}

/// A window of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The range, both ends included, as it was asked for.
    pub range: (u64, u64),
    /// The rooms in it, in order.
    pub room_ids: Vec<Arc<str>>,
}

/// A JSON array of objects, being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    json: String,
    count: usize,
}

impl Objects {
    /// Makes room for so many more bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.json.reserve(bytes);
    }

    /// Adds an object.
    pub fn push(&mut self, json: &str) {
        self.json.push(if self.count == 0 { '[' } else { ',' });
        self.json.push_str(json);
        self.count += 1;
    }

    /// Whether this very object is among them.
    pub fn contains(&self, json: &str) -> bool {
        self.json.contains(json)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes they have together.
    pub fn bytes(&self) -> usize {
        self.json.len()
    }

    /// Appends the array.
    pub fn write(&self, out: &mut String) {
        out.push_str(if self.count == 0 { "[" } else { &self.json });
        out.push(']');
    }
}

/// A value that was set, removed, or is not mentioned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mention<T> {
    /// Unchanged.
    #[default]
    Silent,
    /// Removed.
    Removed,
    /// Set.
    Set(T),
}

/// A room's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Which room.
    pub room_id: Arc<str>,
    /// Whether the entry replaces what the client has.
    pub initial: bool,
    /// `m.room.name`.
    pub name: Mention<Arc<str>>,
    /// `m.room.avatar`.
    pub avatar: Mention<Arc<str>>,
    /// Members who name a room without a name.
    pub heroes: Option<Vec<Hero>>,
    /// In `m.direct`.
    pub is_dm: bool,
    /// Whether the client believed otherwise.
    pub is_dm_changed: bool,
    /// The user's membership.
    pub membership: Option<Membership>,
    /// When the room was last bumped, unix milliseconds, in the dialect that has
    /// it.
    pub timestamp: Option<u64>,
    /// The lists in whose windows the room is.
    pub lists: Vec<String>,
    /// Joined members, where that changed.
    pub joined_count: Option<u64>,
    /// Invited members, where that changed.
    pub invited_count: Option<u64>,
    /// `bump_stamp`, where that changed.
    pub bump_stamp: Option<u64>,
    /// The state that was asked for, as far as it is new to the client.
    pub required_state: Objects,
    /// The timeline, where the user may see one and asked for one.
    pub timeline: Option<Timeline>,
    /// The stripped state of an invite or knock, in place of all that is for
    /// members.
    pub stripped: Option<Objects>,
    /// `notification_count` and `highlight_count`, for members.
    pub unread: Option<(u64, u64)>,
}

/// A room's timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The events, oldest first.
    pub events: Objects,
    /// Whether something is missing before the first event.
    pub limited: bool,
    /// For paging back from before the first event.
    pub prev_batch: Option<String>,
    /// How many of the last events came after the request's position.
    pub num_live: u64,
    /// Whether older events came because the client asks for more of them.
    pub expanded: bool,
}

/// The extensions' answers; `None` for what was not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `to_device`.
    pub to_device: Option<ToDevice>,
    /// `e2ee`.
    pub e2ee: Option<E2ee>,
    /// `account_data`.
    pub account_data: Option<AccountData>,
    /// `receipts`: a whole `m.receipt` a room.
    pub receipts: Option<Vec<(Arc<str>, String)>>,
    /// `typing`: a whole `m.typing` a room.
    pub typing: Option<Vec<(Arc<str>, String)>>,
}

/// `to_device`'s answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToDevice {
    /// The token for the next request.
    pub next_batch: String,
    /// The messages.
    pub events: Objects,
}

/// `e2ee`'s answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct E2ee {
    /// `changed` and `left`; absent on a request without position.
    pub device_lists: Option<(Vec<String>, Vec<String>)>,
    /// A JSON object, once known.
    pub one_time_keys_count: Option<String>,
    /// A JSON array, once known.
    pub fallback_key_types: Option<String>,
}

/// `account_data`'s answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountData {
    /// Global.
    pub global: Objects,
    /// By room.
    pub rooms: Vec<(Arc<str>, Objects)>,
}

impl Response {
    /// Whether a long poll is answered with this: room data or extension data.
    /// Lists, key counts and tokens alone are not worth a wake-up.
    pub fn is_news(&self) -> bool {
        let extensions = &self.extensions;
        !self.rooms.is_empty()
            || extensions.to_device.as_ref().is_some_and(|it| !it.events.is_empty())
            || extensions.e2ee.as_ref().is_some_and(|it| {
                let lists = it.device_lists.as_ref();
                lists.is_some_and(|(changed, left)| !changed.is_empty() || !left.is_empty())
            })
            || extensions
                .account_data
                .as_ref()
                .is_some_and(|it| !it.global.is_empty() || !it.rooms.is_empty())
            || extensions.receipts.as_ref().is_some_and(|it| !it.is_empty())
            || extensions.typing.as_ref().is_some_and(|it| !it.is_empty())
    }
}
