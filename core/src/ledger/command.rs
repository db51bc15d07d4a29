//! What the ledger is asked, and what it answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    id::{DeviceNumber, RoomNumber, Sequence, UserNumber},
    ledger::WholeState,
    upstream::{SyncBatch, SyncEvent},
    view::Write,
    world::World,
};

/// Something for the ledger to take in. Each is applied whole or not at all.
#[derive(Debug)]
pub enum Command {
    /// A token was accepted by the homeserver: names get numbers, the token is
    /// remembered.
    SignIn(SignIn),
    /// An answer of the homeserver's `/sync`, or a part of a large one.
    Polled(Box<Polled>),
    /// Members that were fetched apart.
    Members(MemberList),
    /// The state of a room, or a part of it, that was fetched apart.
    State(Box<RoomState>),
    /// The rooms that the homeserver has a user in, fetched apart.
    JoinedRooms {
        /// Whose.
        user: UserNumber,
        /// The homeserver knew everything up to this number when it was asked.
        knew: Sequence,
        /// The ids of the rooms.
        rooms: BTreeSet<String>,
    },
    /// Events from before one that a user may see, fetched for that user.
    History(Box<History>),
    /// The homeserver's token for paging back from just before an event.
    PrevBatch {
        /// The event's room.
        room: RoomNumber,
        /// The event, which is in the timeline.
        sequence: u64,
        /// The token.
        token: String,
    },
    /// The client has acknowledged to-device messages, or its first token has
    /// settled what tokens look like.
    ToDevice {
        /// The device.
        device: DeviceNumber,
        /// Every message up to this number is no longer needed.
        acknowledged: u64,
        /// The offset from now on.
        offset: u64,
    },
    /// Connections to remember over a restart, or to forget.
    Connections(Vec<ConnectionWrite>),
    /// What a `/keys/upload` answer said of one-time keys.
    KeyCounts {
        /// The device.
        device: DeviceNumber,
        /// The JSON object of counts.
        counts: String,
    },
    /// The homeserver refuses a token, by its keyed hash.
    ForgetToken([u8; 32]),
    /// The homeserver does not know this device's `since` any more.
    SinceRejected(DeviceNumber),
    /// The device is gone: everything of its own is forgotten.
    Purge(DeviceNumber),
    /// The user has forgotten a room that they are not in.
    Forget {
        /// Who.
        user: UserNumber,
        /// What.
        room: RoomNumber,
    },
}

/// See [`Command::SignIn`].
#[derive(Debug)]
pub struct SignIn {
    /// `user_id` of the homeserver's answer.
    pub user_id: String,
    /// `device_id` of the homeserver's answer.
    pub device_id: String,
    /// The token's keyed hash.
    pub token_key: [u8; 32],
    /// The token, encrypted.
    pub token_sealed: Vec<u8>,
}

/// See [`Command::Polled`].
#[derive(Debug)]
pub struct Polled {
    /// Whose device polled.
    pub user: UserNumber,
    /// The device that polled.
    pub device: DeviceNumber,
    /// The `since` of the request; `None` for an initial sync.
    pub since: Option<String>,
    /// Whether the request asked for rooms (a second device's first does not).
    pub with_rooms: bool,
    /// Whether this is the last or only part: only then does its `next_batch`
    /// become the device's `since` (INV-6).
    pub last_part: bool,
    /// When it was asked for, unix milliseconds: what others have told since is
    /// newer than what it says.
    pub asked_ms: u64,
    /// Whether the homeserver may be asked again where the answer's place among what
    /// others have told cannot be known: see [`Reply::Again`].
    pub may_repeat: bool,
    /// What it said.
    pub batch: SyncBatch,
}

/// How long the homeserver must have had nothing to tell, in milliseconds, for
/// the answer that says so to wait for others, or to be left out.
pub(crate) const HELD_MS: u64 = 10_000;

impl Command {
    /// Whether nobody waits for the command to be durable: it is the answer to a
    /// poll that ended only because its time was over, and says nothing but how
    /// far it reaches.
    pub fn can_wait(&self, now_ms: u64) -> bool {
        let Self::Polled(polled) = self else { return false };
        let held_ms = now_ms.saturating_sub(polled.asked_ms);
        polled.since.is_some() && held_ms >= HELD_MS && polled.batch.says_nothing()
    }
}

/// See [`Command::Members`].
#[derive(Debug)]
pub struct MemberList {
    /// The room.
    pub room: RoomNumber,
    /// For whom they were fetched: they were in the room.
    pub user: UserNumber,
    /// Member events, state only.
    pub events: Vec<SyncEvent>,
    /// Whom the whole list has, where this is one or a part of one. Single members are
    /// that user's alone until somebody else's answer stands for them.
    pub whole: Option<WholeList>,
}

/// A member list that was fetched apart: all but those who have left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WholeList {
    /// The homeserver knew everything up to this number when it was asked.
    pub knew: Sequence,
    /// The user ids, and whether each is joined.
    pub user_ids: Arc<BTreeMap<String, bool>>,
    /// Whether this is the last part of it.
    pub is_last: bool,
}

/// See [`Command::State`]; [`RoomState::in_parts`] makes them.
#[derive(Debug)]
pub struct RoomState {
    /// The room.
    pub room: RoomNumber,
    /// For whom it was fetched: they were in the room.
    pub user: UserNumber,
    /// The homeserver knew everything up to this number when it was asked.
    pub knew: Sequence,
    /// State events.
    pub events: Vec<SyncEvent>,
    /// Where more parts follow: who is joined by all of them. The last one alone puts
    /// out who is not.
    pub joined: Option<Arc<BTreeSet<String>>>,
    /// With the last part: what there is altogether. What is not in it is gone.
    pub whole: Option<WholeState>,
}

/// See [`Command::History`].
#[derive(Debug)]
pub struct History {
    /// The room.
    pub room: RoomNumber,
    /// For whom it was fetched: nobody else may see it for that.
    pub user: UserNumber,
    /// The number of the event that it comes before.
    pub before: u64,
    /// The events, the newest first, as `/messages` gives them.
    pub events: Vec<SyncEvent>,
    /// The homeserver's token for going on; `None` where there is nothing more.
    pub end: Option<String>,
}

/// One connection to remember (`Some`) or forget (`None`).
#[derive(Debug)]
pub struct ConnectionWrite {
    /// Whose.
    pub device: DeviceNumber,
    /// Its name within the device.
    pub conn_id: String,
    /// The connection, as [`crate::connection`] writes it.
    pub state: Option<Arc<[u8]>>,
}

/// What the ledger says to the one who asked, once the data is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// Nothing was taken in: more comes of a room than what its copy says. The
    /// answer has to be handed over without [`SyncBatch::copies`].
    Whole,
    /// Nothing was taken in: a room's timeline in the answer shares no event with what is
    /// stored, and others have told of the room since the answer was asked for, so that
    /// nothing says which is newer. The homeserver is to be asked again from the same
    /// `since`.
    Again,
    /// The numbers of the user and the device that signed in.
    SignedIn(UserNumber, DeviceNumber),
}

/// What came of one command.
#[derive(Debug)]
pub struct Applied {
    /// What to write, in order; part of one transaction.
    pub writes: Vec<Write>,
    /// Whom it concerns.
    pub change: Change,
    /// Whether it may be shown before it is durable. To-device messages and
    /// anything of size may not.
    pub early: bool,
    /// For the one who asked.
    pub reply: Reply,
}

/// Whom a change concerns. Only names: the facts are in the world and the
/// tables.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Rooms with changed global facts, ascending, once each.
    pub rooms: Vec<RoomNumber>,
    /// Users with changed facts of their own.
    pub users: Vec<UserChange>,
    /// Devices with changed facts of their own.
    pub devices: Vec<DeviceChange>,
    /// Rooms whose stored state came to be in doubt, and the member whose poller
    /// gave cause.
    pub suspects: Vec<(UserNumber, RoomNumber)>,
}

impl Change {
    /// Adds what another command of the same group changed.
    pub fn extend(&mut self, other: Self) {
        self.rooms.extend(other.rooms);
        self.rooms.sort_unstable();
        self.rooms.dedup();
        self.users.extend(other.users);
        self.devices.extend(other.devices);
        self.suspects.extend(other.suspects);
    }

    /// Whether nobody is concerned.
    pub fn is_empty(&self) -> bool {
        let facts = self.rooms.is_empty() && self.users.is_empty() && self.devices.is_empty();
        facts && self.suspects.is_empty()
    }
}

/// Facts of one user that changed.
#[derive(Clone, Debug)]
pub struct UserChange {
    /// Who.
    pub user: UserNumber,
    /// Rooms whose `UserRoomRecord` changed, appeared or vanished.
    pub rooms: Vec<RoomNumber>,
    /// Rooms whose account data changed.
    pub room_account_data: Vec<RoomNumber>,
    /// Types of global account data that changed.
    pub account_data: Vec<String>,
    /// Whether the initial sync with all rooms has just become complete.
    pub rooms_known: bool,
}

/// Facts of one device that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceChange {
    /// Which.
    pub device: DeviceNumber,
    /// Whose.
    pub user: UserNumber,
    /// Whether to-device messages came.
    pub to_device: bool,
    /// Whether device lists changed.
    pub device_lists: bool,
    /// Whether the device is gone.
    pub purged: bool,
}

/// What a shard is sent: a newer world, and whom it concerns.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The world that has the change.
    pub world: Arc<World>,
    /// The change.
    pub change: Change,
}
