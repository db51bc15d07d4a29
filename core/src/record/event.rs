//! Rooms, events, state and receipts.

use rkyv::{Archive, Deserialize, Serialize};

use super::record;

/// Where an event's record lies in its room.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub struct Place {
    /// Whether it was seen in a timeline. What was only seen in a state block
    /// is kept apart, so that it never shows in one.
    pub timeline: bool,
    /// Its number, which orders the events of a room, and the room's events
    /// among those of other rooms.
    pub sequence: u64,
}

/// An event, in `Table::Events`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// `event_id`.
    pub event_id: String,
    /// `type`.
    pub kind: String,
    /// `state_key` of a state event.
    pub state_key: Option<String>,
    /// `sender`.
    pub sender: String,
    /// `origin_server_ts`, unix milliseconds.
    pub origin_server_ts: u64,
    /// When this server first saw it, unix milliseconds.
    pub first_seen_ms: u64,
    /// Whether the homeserver left something out between the event before and
    /// this one: a timeline is never read across it.
    pub gap_before: bool,
    /// Whether it was fetched as history, and put in front of a segment of the
    /// timeline. It is no news to anybody.
    pub history: bool,
    /// The homeserver's token for paging back from just before this event.
    pub prev_batch: Option<String>,
    /// The event, as it is served.
    pub json: String,
}

/// An entry of a room's current state, in `Table::State`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// `type`.
    pub kind: String,
    /// `state_key`.
    pub state_key: String,
    /// The event that holds.
    pub place: Place,
    /// When the entry last changed, in the ledger's sequence. A redaction of
    /// the event is a change.
    pub changed: u64,
    /// `content.membership` of a member event.
    pub membership: Option<String>,
    /// Whether the event came beside all timelines, so that its number says when it was
    /// known and not what it came before: fetched apart, or with an answer that has no
    /// place among others. Who is out by then is not shown it.
    pub apart: bool,
}

/// A receipt, in `Table::ReceiptOrder`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRecord {
    /// The event that was read.
    pub event_id: String,
    /// `m.read`, `m.read.private`, …
    pub kind: String,
    /// Who read it.
    pub user_id: String,
    /// `thread_id`.
    pub thread_id: Option<String>,
    /// The receipt's own object.
    pub json: String,
}

/// A room's summary, in `Table::Rooms`: what [`crate::world::Room`] is rebuilt
/// from at a start. The fields mean what they mean there.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "world::Room says what each field means")]
pub struct RoomRecord {
    pub version: Option<String>,
    pub room_type: Option<String>,
    pub created: bool,
    pub name: Option<String>,
    pub canonical_alias: Option<String>,
    pub avatar: Option<String>,
    pub encryption: Option<String>,
    pub successor: Option<String>,
    pub joined_count: u64,
    pub invited_count: u64,
    pub counts_exact: bool,
    pub heroes: Vec<(String, Option<String>, Option<String>)>,
    pub members_complete: bool,
    pub last_event: u64,
    pub last_gap: u64,
    pub lacks_newest: bool,
    pub recency_ms: u64,
    pub bump_stamp: u64,
    pub state_changed: u64,
    pub members_corrected: u64,
    pub summary_changed: u64,
    pub removed: Vec<(String, String, u64)>,
    pub removed_before: u64,
    pub asides: Vec<(String, String, u64)>,
    pub suspected: u64,
    pub repaired: u64,
    pub repaired_ms: u64,
    pub receipts_changed: u64,
}

record! {
    EventRecord => ArchivedEventRecord,
    StateRecord => ArchivedStateRecord,
    ReceiptRecord => ArchivedReceiptRecord,
    RoomRecord => ArchivedRoomRecord,
}
