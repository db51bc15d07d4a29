//! The ledger's logic: commands in, writes and a delta out.
//!
//! One thread owns a [`Ledger`]; it is the only writer of global facts, of
//! user-scoped facts on the shards' behalf, and of the sequence. Everything
//! here is pure: the clock's reading and the tables come in as arguments, and
//! what is to be written goes out. No protocol rule of a *response* lives here.

mod apart;
mod asides;
mod coming;
mod command;
mod copies;
mod device;
mod doubt;
mod ending;
mod fold;
mod hidden;
mod history;
mod limits;
mod placing;
mod polled;
mod receipts;
mod repair;
mod replaced;
mod state;
mod summary;
mod suspicion;
mod timeline;
mod user_room;
mod vouching;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub(crate) use command::HELD_MS;
pub use command::{
    Applied, Change, Command, ConnectionWrite, Delta, DeviceChange, History, MemberList, Polled,
    Reply, RoomState, SignIn, UserChange, WholeList,
};
use fold::Fold;
pub(crate) use history::HISTORY_MAX;
pub use limits::LedgerLimits;
pub use repair::WholeState;

use crate::{
    id::{DeviceNumber, RoomNumber, Sequence, UserNumber},
    record::{RoomRecord, UserRoomRecord, key},
    view::{Direction, Pending, Table, View},
    world::{Room, World},
};

/// The newest world, and what numbers come next.
#[derive(Clone, Debug)]
pub struct Ledger {
    limits: LedgerLimits,
    world: World,
    devices: u32,
    /// The sequence at the start. Whatever is answered was asked for later.
    opened: u64,
    /// What the homeserver knew when it last answered a device of a user that
    /// follows all rooms: up to there no other device of theirs leaves a hole.
    followed: BTreeMap<UserNumber, u64>,
    /// The last gap of each room that has one, by the number behind it, and the
    /// member events that are not part of its state yet, by when they were told.
    gaps: BTreeSet<(u64, RoomNumber)>,
    /// Up to which gaps every room that a user is joined to was looked at. Who is
    /// not here is looked at whole.
    vouched: BTreeMap<UserNumber, u64>,
    /// With which number the last of the stays in a room began that began since the start;
    /// one entry for each room at most.
    came: BTreeMap<RoomNumber, u64>,
    /// Stays of which nothing says whether they are over ([`doubt`]).
    doubted: BTreeMap<(UserNumber, RoomNumber), UserRoomRecord>,
    /// The rooms that the parts of an initial answer have told of so far.
    unfinished: BTreeMap<DeviceNumber, BTreeSet<RoomNumber>>,
    /// The rooms of which it is known what was told lately, the oldest first.
    lively: VecDeque<RoomNumber>,
}

/// The tables do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Numbers of rooms or users have a hole, or stand for nothing.
    #[error(
        "{what} {number} is missing from the names: restore a backup, or start with an empty data folder (everything is fetched from the homeserver again)"
    )]
    Names {
        /// `room` or `user`.
        what: &'static str,
        /// The number.
        number: u32,
    },
}

/// How far the sequence jumps at each start. Numbers that were published and
/// not yet durable when the last run ended are never given to anything else: a
/// client may hold them in a position.
const SEQUENCE_JUMP: u64 = 1 << 20;

/// Where in `Table::Meta` the last number is that was given out.
pub(crate) const SEQUENCE: &[u8] = b"sequence";
const DEVICES: &[u8] = b"devices";

impl Ledger {
    /// The world that the tables hold.
    ///
    /// # Errors
    /// The tables do not fit together.
    pub fn open(view: &dyn View) -> Result<Self, OpenError> {
        let mut world = World::default();
        let sequence = view.get(Table::Meta, SEQUENCE).and_then(key::sequence_of);
        world.sequence = Sequence(sequence.map_or(0, |last| last.saturating_add(SEQUENCE_JUMP)));
        for (index, room_id) in names(view, b'R', "room")?.into_iter().enumerate() {
            let number = RoomNumber(u32::try_from(index).unwrap_or(u32::MAX));
            let record = view.get(Table::Rooms, &key::room(number)).and_then(RoomRecord::decode);
            let room = Room::from_record(number, Arc::clone(&room_id), record.unwrap_or_default());
            world.rooms.push_back(Arc::new(room));
            world.room_numbers.insert(room_id, number);
        }
        for (index, user_id) in names(view, b'U', "user")?.into_iter().enumerate() {
            let number = UserNumber(u32::try_from(index).unwrap_or(u32::MAX));
            world.user_ids.push_back(Arc::clone(&user_id));
            world.user_numbers.insert(user_id, number);
        }
        view.scan(Table::UserRooms, &[], &[], Direction::Forward, &mut |key, _| {
            let user = key.first_chunk::<4>().map(|bytes| UserNumber(u32::from_be_bytes(*bytes)));
            if let (Some(user), Some(room)) = (user, key::room_of(key))
                && let Some(room) = world.rooms.get_mut(room.0 as usize)
            {
                Arc::make_mut(room).local_users.insert(user, ());
            }
            true
        });
        let devices = view.get(Table::Meta, DEVICES).and_then(key::number_from).unwrap_or(0);
        let opened = world.sequence.0;
        let gaps = world.rooms.iter().flat_map(|room| {
            let asides = room.asides.iter().map(|aside| aside.changed);
            let numbers = asides.chain([room.last_gap]).filter(|it| *it > Sequence::default());
            numbers.map(|number| (number.0, room.number))
        });
        let gaps = gaps.collect();
        Ok(Self {
            limits: LedgerLimits::default(),
            world,
            devices,
            opened,
            followed: BTreeMap::new(),
            gaps,
            vouched: BTreeMap::new(),
            came: BTreeMap::new(),
            doubted: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            lively: VecDeque::new(),
        })
    }

    /// Sets other limits than the default ones.
    pub fn set_limits(&mut self, limits: LedgerLimits) {
        self.limits = limits;
    }

    /// Applies one command. `view` shows everything that was applied before,
    /// durable or not. `now_ms` is unix milliseconds.
    pub fn apply(&mut self, view: &dyn View, now_ms: u64, command: Command) -> Applied {
        let before = (self.world.sequence, self.devices);
        let mut fold = Fold::new(self, view, now_ms);
        let reply = match command {
            Command::SignIn(sign_in) => fold.sign_in(sign_in),
            Command::Polled(polled) => fold.polled(*polled),
            Command::Members(list) => fold.members(list),
            Command::State(state) => fold.room_state(*state),
            Command::JoinedRooms { user, knew, rooms } => fold.joined_rooms(user, knew, &rooms),
            Command::History(history) => fold.history(*history),
            Command::PrevBatch { room, sequence, token } => fold.prev_batch(room, sequence, token),
            Command::ToDevice { device, acknowledged, offset } => {
                fold.settle_to_device(device, acknowledged, offset)
            }
            Command::Connections(writes) => fold.connections(writes),
            Command::KeyCounts { device, counts } => fold.key_counts(device, counts),
            Command::ForgetToken(key) => fold.forget_token(key),
            Command::SinceRejected(device) => fold.since_rejected(device),
            Command::Purge(device) => fold.purge(device),
            Command::Forget { user, room } => fold.forget(user, room),
        };
        fold.write_counters(before);
        fold.finish(reply)
    }

    /// The next version of the world, with `pending` as what is not yet in the
    /// store.
    pub fn publish(&mut self, pending: Pending) -> Arc<World> {
        self.world.version += 1;
        let mut world = self.world.clone();
        world.pending = pending;
        Arc::new(world)
    }
}

/// The names behind numbers, in order, without a hole.
fn names(view: &dyn View, letter: u8, what: &'static str) -> Result<Vec<Arc<str>>, OpenError> {
    let mut names = Vec::new();
    let mut missing = None;
    view.scan(Table::Names, &[letter], &[letter + 1], Direction::Forward, &mut |key, name| {
        let number = key.get(1..).and_then(key::number_from);
        let name = std::str::from_utf8(name).ok();
        match (number, name) {
            (Some(number), Some(name)) if number as usize == names.len() => {
                names.push(Arc::from(name));
                true
            }
            _ => {
                missing = Some(u32::try_from(names.len()).unwrap_or(u32::MAX));
                false
            }
        }
    });
    missing.map_or(Ok(names), |number| Err(OpenError::Names { what, number }))
}
