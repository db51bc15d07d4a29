//! The homeserver's state, as a pure, seeded, synchronous state machine.
//!
//! `act` (rooms) and `personal` (accounts) hold everything that changes it, `reset` is what no event tells of, `populate` fills it from a [`Size`], `truth` tells what a client ought to
//! have seen. What the client-server API makes of it is in `crate::sync` and `crate::api`. No I/O and no clock: the
//! time is handed in with every action.

mod act;
mod event;
mod personal;
mod populate;
mod redaction;
mod reset;
mod room;
mod truth;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

pub use act::{NewEvent, NewRoom};
pub(crate) use event::push_string;
pub use event::{Event, Membership, Viewer};
pub use populate::Size;
pub(crate) use populate::spoken as populate_spoken;
pub use room::{EventIndex, Receipt, Room};
pub use truth::{RoomTruth, Truth};

use crate::faults::Faults;
use crate::random::{Random, mix};
use crate::traffic::Traffic;

/// Unix milliseconds.
pub type Milliseconds = u64;

/// A simulated homeserver.
#[derive(Debug)]
pub struct Homeserver {
    pub(crate) server_name: String,
    /// Where clients reach it; goes into `well_known`.
    pub(crate) base_url: String,
    pub(crate) seed: u64,
    pub(crate) random: Random,
    /// Counts everything that happens; the one order of all streams.
    pub(crate) stream: u64,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) tokens: BTreeMap<String, TokenOwner>,
    pub(crate) rooms: BTreeMap<String, Room>,
    pub(crate) aliases: BTreeMap<String, String>,
    pub(crate) device_changes: Vec<(u64, String)>,
    /// Rooms in which somebody types.
    pub(crate) typing_rooms: BTreeSet<String>,
    pub(crate) woken: BTreeSet<String>,
    pub(crate) syncs_count: u64,
    pub(crate) initial_syncs_count: u64,
    pub(crate) traffic: Traffic,
    /// First answers that were made beforehand, by user.
    pub(crate) prepared: BTreeMap<String, Vec<u8>>,
    /// How the server answers.
    pub options: Options,
    /// What goes wrong, and for whom.
    pub faults: Faults,
}

/// How the simulated homeserver answers; may be changed at any time.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether `use_state_after` is honoured (MSC4222). Default: true. Off, the answer has `state`, as a server has
    /// that does not know the parameter.
    pub state_after: bool,
    /// Messages to a device in one answer at most. Default: 100.
    pub to_device_events_max: usize,
    /// What a client may ask for with `timeline.limit` at most. Default: 100.
    pub timeline_limit_max: usize,
    /// The longest long poll, in milliseconds. Default: 60,000.
    pub timeout_ms_max: u64,
    /// Whether filters can be stored (`POST …/filter`). Default: true.
    pub stores_filters: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            state_after: true,
            to_device_events_max: 100,
            timeline_limit_max: 100,
            timeout_ms_max: 60_000,
            stores_filters: true,
        }
    }
}

/// An account.
#[derive(Debug, Default)]
pub struct User {
    /// `@…`
    pub user_id: String,
    /// The name that goes into member events.
    pub display_name: String,
    /// The picture that goes into member events.
    pub avatar_url: Option<String>,
    /// What `/login` wants.
    pub password: String,
    /// Logged-in devices by id.
    pub devices: BTreeMap<String, Device>,
    /// Every room that the user has ever had to do with.
    pub rooms: BTreeMap<String, UserRoom>,
    /// Global account data by type, with when it changed.
    pub account_data: BTreeMap<String, (u64, Value)>,
    /// Filters that were stored, each by its place, as they were sent.
    pub filters: Vec<String>,
    /// When anything last changed that a `/sync` of this user may show.
    pub stream: u64,
}

/// What a room is to one user.
#[derive(Debug, Default)]
pub struct UserRoom {
    /// Left, and not to be shown any more.
    pub forgotten: bool,
    /// Tags, `m.fully_read` and the like by type, with when they changed.
    pub account_data: BTreeMap<String, (u64, Value)>,
    /// The stripped state that came with the last invite or knock, as JSON objects with commas between.
    pub stripped_state: String,
    /// When anything last changed here for this user alone.
    pub stream: u64,
}

/// A logged-in device.
#[derive(Debug, Default)]
pub struct Device {
    /// One-time keys left, by algorithm.
    pub one_time_keys: BTreeMap<String, u64>,
    /// Algorithms with an unused fallback key.
    pub fallback_keys: Vec<String>,
    /// Messages that no `since` has acknowledged, with when they came.
    pub to_device: VecDeque<(u64, Value)>,
    /// What `/sync` already gave of lazily loaded members, by room.
    pub sent_members: BTreeMap<String, BTreeSet<String>>,
    /// What a transaction id led to.
    pub transactions: BTreeMap<String, String>,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOwner {
    /// The user.
    pub user_id: String,
    /// The device.
    pub device_id: String,
    /// Set once the token is refused, to the `soft_logout` of the refusal.
    pub refused: Option<bool>,
}

/// What a login gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// `@…`
    pub user_id: String,
    /// The new token.
    pub access_token: String,
    /// The new device, or the one that was named.
    pub device_id: String,
}

/// Why the homeserver says no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {errcode}: {message}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Matrix's code.
    pub errcode: &'static str,
    /// For people.
    pub message: String,
    /// Only with `M_UNKNOWN_TOKEN`.
    pub soft_logout: Option<bool>,
}

impl Refusal {
    pub(crate) fn new(status: u16, errcode: &'static str, message: impl Into<String>) -> Self {
        Self { status, errcode, message: message.into(), soft_logout: None }
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "M_FORBIDDEN", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "M_NOT_FOUND", message)
    }
}

impl Homeserver {
    /// A homeserver without users or rooms.
    pub fn empty(seed: u64) -> Self {
        Self {
            server_name: "simulated.test".to_owned(),
            base_url: "http://localhost".to_owned(),
            seed,
            random: Random::new(seed),
            stream: 0,
            users: BTreeMap::new(),
            tokens: BTreeMap::new(),
            rooms: BTreeMap::new(),
            aliases: BTreeMap::new(),
            device_changes: Vec::new(),
            typing_rooms: BTreeSet::new(),
            woken: BTreeSet::new(),
            syncs_count: 0,
            initial_syncs_count: 0,
            traffic: Traffic::default(),
            prepared: BTreeMap::new(),
            options: Options::default(),
            faults: Faults::default(),
        }
    }

    /// The part after the colon in the ids of this homeserver's users and rooms.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Says where clients reach this homeserver.
    pub fn set_base_url(&mut self, url: &str) {
        url.clone_into(&mut self.base_url);
    }

    /// A user.
    pub fn user(&self, user_id: &str) -> Option<&User> {
        self.users.get(user_id)
    }

    /// The ids of all local users, in order.
    pub fn user_ids(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// A session of each user whose token is still good, in the order of user ids.
    pub fn sessions(&self) -> Vec<Session> {
        let mut sessions: Vec<Session> = self
            .tokens
            .iter()
            .filter(|(_, owner)| owner.refused.is_none())
            .map(|(token, owner)| Session {
                user_id: owner.user_id.clone(),
                access_token: token.clone(),
                device_id: owner.device_id.clone(),
            })
            .collect();
        sessions.sort_by(|left, right| left.user_id.cmp(&right.user_id));
        sessions.dedup_by(|left, right| left.user_id == right.user_id);
        sessions
    }

    /// A room.
    pub fn room(&self, room_id: &str) -> Option<&Room> {
        self.rooms.get(room_id)
    }

    /// All rooms, in the order of their ids.
    pub fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values()
    }

    /// Whose token this is, be it still good or not.
    pub fn token_owner(&self, token: &str) -> Option<&TokenOwner> {
        self.tokens.get(token)
    }

    /// Makes this the answer to a user's next `/sync` without `since`, whatever it asks for: where the making of a large
    /// answer is not to be measured.
    pub fn prepare_first_answer(&mut self, user_id: &str, body: Vec<u8>) {
        self.prepared.insert(user_id.to_owned(), body);
    }

    /// How many `/sync` requests were answered, long polls counted once.
    pub fn syncs_count(&self) -> u64 {
        self.syncs_count
    }

    /// How many of them had no `since`.
    pub fn initial_syncs_count(&self) -> u64 {
        self.initial_syncs_count
    }

    /// The users for whom something has happened since this was last asked: their long polls ought to look again.
    pub fn take_woken(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.woken)
    }

    /// The rooms that a user is in.
    pub fn joined_rooms<'a>(&'a self, user_id: &'a str) -> impl Iterator<Item = &'a Room> {
        self.users
            .get(user_id)
            .into_iter()
            .flat_map(|user| user.rooms.keys())
            .filter_map(|room_id| self.rooms.get(room_id))
            .filter(move |room| room.joined.contains(user_id))
    }

    /// Whether two users are in a room together.
    pub(crate) fn share_a_room(&self, user_id: &str, other: &str) -> bool {
        self.joined_rooms(user_id).any(|room| room.joined.contains(other))
    }

    /// Digits that show whether a token was issued by this homeserver.
    pub(crate) fn check_digits(&self, left: u64, right: u64) -> u64 {
        mix(mix(self.seed ^ left).wrapping_add(right)) % 100_000
    }

    pub(crate) fn next_stream(&mut self) -> u64 {
        self.stream += 1;
        self.stream
    }

    /// Notes that a user's `/sync` has something new.
    pub(crate) fn touch(&mut self, user_id: &str, stream: u64) {
        if let Some(user) = self.users.get_mut(user_id) {
            user.stream = stream;
            self.woken.insert(user_id.to_owned());
        }
    }

    /// The same for everybody in a room.
    pub(crate) fn touch_room(&mut self, room_id: &str, stream: u64) {
        let Some(room) = self.rooms.get(room_id) else { return };
        for user_id in &room.joined {
            if let Some(user) = self.users.get_mut(user_id) {
                user.stream = stream;
                self.woken.insert(user_id.clone());
            }
        }
    }
}
