//! What one `/sync` answer says, in Luge's own words.
//!
//! Everything here is owned and `Send`: a batch is made on a shard or a helper
//! thread and consumed by the ledger. Nothing here is trusted beyond its shape:
//! ids are within their lengths, JSON is well-formed, and that is all.

use super::copy::Copy;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// An event as the homeserver gave it: its bytes, and the few fields that the
/// pipeline reads. `json` is the original text less what is private to one
/// device or one moment (`room_id`, `unsigned.age`, `unsigned.membership` and
/// its unstable twin, `unsigned.transaction_id`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncEvent {
    /// `event_id`, at most 255 bytes.
    pub event_id: String,
    /// `type`, at most 255 bytes.
    pub kind: String,
    /// Present on state events, at most 255 bytes.
    pub state_key: Option<String>,
    /// `sender`, at most 255 bytes.
    pub sender: String,
    /// Milliseconds; 0 where absent or not an integer in 0..2^53.
    pub origin_server_ts: u64,
    /// `unsigned.transaction_id`, which is for the receiving device alone.
    pub transaction_id: Option<String>,
    /// What a redaction redacts (`redacts`, else `content.redacts`).
    pub redacts: Option<String>,
    /// The event's JSON object, ready to be spliced into a response.
    pub json: Box<str>,
}

/// Which section of `rooms` the homeserver put a room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `rooms.join`.
    Join,
    /// `rooms.invite`.
    Invite,
    /// `rooms.knock`.
    Knock,
    /// `rooms.leave`: left, kicked, banned, or an invite rejected.
    Leave,
}

/// `rooms.join.*.summary`; absent fields are unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// `m.heroes`.
    pub heroes: Option<Vec<String>>,
    /// `m.joined_member_count`.
    pub joined: Option<u64>,
    /// `m.invited_member_count`.
    pub invited: Option<u64>,
}

/// One (receipt type, thread, user) of an `m.receipt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event that was read.
    pub event_id: String,
    /// `m.read`, `m.read.private`, …
    pub kind: String,
    /// Who read it.
    pub user_id: String,
    /// `thread_id`, where the receipt has one.
    pub thread_id: Option<String>,
    /// The receipt's own object (`{"ts":…}`), as it was sent.
    pub json: Box<str>,
}

/// A typed JSON object: account data, a stripped event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// `type`.
    pub kind: String,
    /// The whole object, as it was sent.
    pub json: Box<str>,
}

/// One room of a `/sync` answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomBatch {
    /// The room id, at most 255 bytes.
    pub room_id: String,
    /// Which section it came in.
    pub section: Section,
    /// The `state` block, or `state_after` where that was given.
    pub state: Vec<SyncEvent>,
    /// Whether `state` is the state after the timeline (MSC4222).
    pub state_is_after: bool,
    /// `timeline.events`, oldest first.
    pub timeline: Vec<SyncEvent>,
    /// `timeline.limited`.
    pub limited: bool,
    /// `timeline.prev_batch`.
    pub prev_batch: Option<String>,
    /// `summary`.
    pub summary: Summary,
    /// `m.typing`'s `user_ids`, where an `m.typing` came.
    pub typing: Option<Vec<String>>,
    /// Every receipt of every `m.receipt`.
    pub receipts: Vec<Receipt>,
    /// Room account data.
    pub account_data: Vec<Typed>,
    /// `unread_notifications.notification_count`.
    pub notification_count: Option<u64>,
    /// `unread_notifications.highlight_count`.
    pub highlight_count: Option<u64>,
    /// `invite_state.events` or `knock_state.events`, each with `type`,
    /// `state_key`, `sender` and `content`.
    pub stripped: Vec<Stripped>,
}

impl RoomBatch {
    /// A batch that says nothing of a room but its section.
    pub fn new(room_id: impl Into<String>, section: Section) -> Self {
        Self {
            room_id: room_id.into(),
            section,
            state: Vec::new(),
            state_is_after: false,
            timeline: Vec::new(),
            limited: false,
            prev_batch: None,
            summary: Summary::default(),
            typing: None,
            receipts: Vec::new(),
            account_data: Vec::new(),
            notification_count: None,
            highlight_count: None,
            stripped: Vec::new(),
        }
    }
}

/// A stripped state event of an invite or a knock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripped {
    /// `type`.
    pub kind: String,
    /// `state_key`.
    pub state_key: String,
    /// `sender`.
    pub sender: String,
    /// The whole object, as it was sent.
    pub json: Box<str>,
}

/// Something that was not used, and why: logged and counted, never fatal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The room it was found in, where there is one.
    pub room_id: Option<String>,
    /// The section it was found in, such as `timeline.events`.
    pub place: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// One `/sync` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncBatch {
    /// `next_batch`; `None` where absent, null, not a string or empty.
    pub next_batch: Option<String>,
    /// Every room of every section, less `copies`.
    pub rooms: Vec<RoomBatch>,
    /// Rooms of which nothing is new but the poller's own.
    pub copies: Vec<Copy>,
    /// Global account data.
    pub account_data: Vec<Typed>,
    /// To-device messages, each a JSON object, in order.
    pub to_device: Vec<Box<str>>,
    /// `device_lists.changed`.
    pub device_lists_changed: Vec<String>,
    /// `device_lists.left`.
    pub device_lists_left: Vec<String>,
    /// `device_one_time_keys_count`, as a JSON object of integers.
    pub one_time_keys_count: Option<Box<str>>,
    /// `device_unused_fallback_key_types` (or its unstable name), as a JSON
    /// array of strings.
    pub fallback_key_types: Option<Box<str>>,
    /// What was not used; the first few of it.
    pub set_aside: Vec<SetAside>,
    /// How many things were not used.
    pub set_aside_count: u64,
}

impl SyncBatch {
    /// Whether the answer says nothing beside how far it reaches, and how many
    /// keys there are.
    pub fn says_nothing(&self) -> bool {
        self.rooms.is_empty()
            && self.copies.is_empty()
            && self.account_data.is_empty()
            && self.to_device.is_empty()
            && self.device_lists_changed.is_empty()
            && self.device_lists_left.is_empty()
    }

    /// A digest of an answer to `since` that says nothing and leads nowhere: of
    /// that, and of what it says of keys. `None` for any other answer.
    pub fn silence(&self, since: Option<&str>) -> Option<u64> {
        let since = since.filter(|since| self.next_batch.as_deref() == Some(*since))?;
        let keys = [&self.one_time_keys_count, &self.fallback_key_types];
        let digest = |digest, text: Option<&str>| {
            // What is absent is not what is empty.
            let part = text.map_or(0, |text| xxh3_64(text.as_bytes()).max(1));
            xxh3_64_with_seed(&part.to_le_bytes(), digest)
        };
        let keys = keys.iter().map(|text| text.as_deref());
        self.says_nothing().then(|| [Some(since)].into_iter().chain(keys).fold(0, digest))
    }
}
