//! One command on its way: what it has written so far, and whom it concerns.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use super::{
    Change, DEVICES, Ledger, SEQUENCE,
    command::{Applied, DeviceChange, Reply, SignIn, UserChange},
};
use crate::{
    id::{DeviceNumber, RoomNumber, Sequence, UserNumber},
    record::{DeviceRecord, RoomRecord, TokenRecord, key},
    view::{Direction, Layered, Pending, Table, View, Visit, Write, pending_or},
    world::Room,
};

/// A command being applied. Its own writes are seen by its own reads.
pub(super) struct Fold<'a> {
    pub(super) ledger: &'a mut Ledger,
    view: &'a dyn View,
    own: Pending,
    writes: Vec<Write>,
    pub(super) now_ms: u64,
    /// The last number that was given out before.
    pub(super) started: Sequence,
    /// Numbers for the state events of the room at hand.
    pub(super) reserved: Range<u64>,
    rooms: BTreeSet<RoomNumber>,
    users: BTreeMap<UserNumber, UserChange>,
    devices: BTreeMap<DeviceNumber, DeviceChange>,
    suspects: Vec<(UserNumber, RoomNumber)>,
    pub(super) early: bool,
}

impl<'a> Fold<'a> {
    pub(super) fn new(ledger: &'a mut Ledger, view: &'a dyn View, now_ms: u64) -> Self {
        let started = ledger.world.sequence;
        Self {
            ledger,
            view,
            own: Pending::default(),
            writes: Vec::new(),
            now_ms,
            started,
            reserved: 0..0,
            rooms: BTreeSet::new(),
            users: BTreeMap::new(),
            devices: BTreeMap::new(),
            suspects: Vec::new(),
            early: false,
        }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        pending_or(&self.own, (table, key), || self.view.get(table, key))
    }

    pub(super) fn scan(&self, table: Table, prefix: &[u8], visit: Visit<'_>) {
        let view = Layered { pending: &self.own, below: self.view };
        view.scan(table, prefix, &key::after_prefix(prefix), Direction::Forward, visit);
    }

    /// Visits what lies from one key up to another, the first first.
    pub(super) fn scan_on(&self, table: Table, from: &[u8], to: &[u8], visit: Visit<'_>) {
        let view = Layered { pending: &self.own, below: self.view };
        view.scan(table, from, to, Direction::Forward, visit);
    }

    pub(super) fn scan_back(&self, table: Table, from: &[u8], to: &[u8], visit: Visit<'_>) {
        let view = Layered { pending: &self.own, below: self.view };
        view.scan(table, from, to, Direction::Backward, visit);
    }

    pub(super) fn put(&mut self, table: Table, key: key::Key, value: impl Into<Arc<[u8]>>) {
        let value = Some(value.into());
        self.own.insert((table, key.clone()), value.clone());
        self.writes.push(Write { table, key, value });
    }

    pub(super) fn remove(&mut self, table: Table, key: key::Key) {
        self.own.insert((table, key.clone()), None);
        self.writes.push(Write { table, key, value: None });
    }

    /// The next number of the one sequence.
    pub(super) fn next(&mut self) -> Sequence {
        self.ledger.world.sequence = self.ledger.world.sequence.next();
        self.ledger.world.sequence
    }

    pub(super) fn write_counters(&mut self, (sequence, devices): (Sequence, u32)) {
        if self.ledger.world.sequence != sequence {
            let bytes = self.ledger.world.sequence.0.to_be_bytes();
            self.put(Table::Meta, SEQUENCE.into(), bytes.as_slice());
        }
        if self.ledger.devices != devices {
            let bytes = self.ledger.devices.to_be_bytes();
            self.put(Table::Meta, DEVICES.into(), bytes.as_slice());
        }
    }

    pub(super) fn finish(self, reply: Reply) -> Applied {
        let change = Change {
            rooms: self.rooms.into_iter().collect(),
            users: self.users.into_values().collect(),
            devices: self.devices.into_values().collect(),
            suspects: self.suspects,
        };
        Applied { writes: self.writes, change, early: self.early, reply }
    }

    // Names.

    /// A room's facts, to be changed and handed back to [`Self::set_room`]. A
    /// room that was never heard of gets its number.
    pub(super) fn room(&mut self, room_id: &str) -> Room {
        if let Some(room) = self.ledger.world.find_room(room_id) {
            return (**room).clone();
        }
        let number = u32::try_from(self.ledger.world.rooms.len()).unwrap_or(u32::MAX);
        let number = RoomNumber(number);
        let id: Arc<str> = room_id.into();
        let room = Room { number, id: Arc::clone(&id), ..Room::default() };
        self.put(Table::Names, key::room_name(room_id), number.0.to_be_bytes().as_slice());
        self.put(Table::Names, key::room_number(number), room_id.as_bytes());
        self.ledger.world.rooms.push_back(Arc::new(room.clone()));
        self.ledger.world.room_numbers.insert(id, number);
        room
    }

    /// Makes `room` the newest version of its facts, if it differs.
    pub(super) fn set_room(&mut self, room: Room) {
        let number = room.number;
        let Some(known) = self.ledger.world.rooms.get(number.0 as usize) else { return };
        if **known == room {
            return;
        }
        let (before, after) = (known.to_record(), room.to_record());
        let has_typing = known.typing_changed != room.typing_changed;
        if before != after {
            self.put(Table::Rooms, key::room(number), after.encode());
        }
        // What is in doubt, and what is to be behind a gap, shows nowhere.
        let before = RoomRecord {
            suspected: after.suspected,
            lacks_newest: after.lacks_newest,
            repaired: after.repaired,
            repaired_ms: after.repaired_ms,
            ..before
        };
        let visible = before != after || has_typing;
        if visible {
            self.rooms.insert(number);
        }
        self.ledger.world.rooms.set(number.0 as usize, Arc::new(room));
    }

    fn user(&mut self, user_id: &str) -> UserNumber {
        if let Some(user) = self.ledger.world.user_numbers.get(user_id) {
            return *user;
        }
        let number = u32::try_from(self.ledger.world.user_ids.len()).unwrap_or(u32::MAX);
        let number = UserNumber(number);
        let id: Arc<str> = user_id.into();
        self.put(Table::Names, key::user_name(user_id), number.0.to_be_bytes().as_slice());
        self.put(Table::Names, key::user_number(number), user_id.as_bytes());
        self.ledger.world.user_ids.push_back(Arc::clone(&id));
        self.ledger.world.user_numbers.insert(id, number);
        number
    }

    fn device(&mut self, user: UserNumber, device_id: &str) -> DeviceNumber {
        let name = key::device_name(user, device_id);
        let known = self.get(Table::Names, &name).and_then(key::number_from);
        let number = known.unwrap_or(self.ledger.devices);
        let device = DeviceNumber(number);
        if known.is_none() {
            self.ledger.devices += 1;
            self.put(Table::Names, name, number.to_be_bytes().as_slice());
        }
        if self.device_record(device).is_none() {
            let device_id = device_id.to_owned();
            let answered = self.ledger.world.sequence.0;
            let user = user.0;
            let record = DeviceRecord { user, device_id, answered, ..DeviceRecord::default() };
            self.put(Table::Devices, key::device(device), record.encode());
        }
        device
    }

    pub(super) fn sign_in(&mut self, sign_in: SignIn) -> Reply {
        let user = self.user(&sign_in.user_id);
        let device = self.device(user, &sign_in.device_id);
        let token = TokenRecord { user: user.0, device: device.0, sealed: sign_in.token_sealed };
        self.put(Table::Tokens, sign_in.token_key.into(), token.encode());
        Reply::SignedIn(user, device)
    }

    // Whom it concerns.

    /// Whoever waits for something of a room looks again.
    pub(super) fn room_told(&mut self, room: RoomNumber) {
        self.rooms.insert(room);
    }

    /// The shard of `user` sees to it that the room's state is fetched.
    pub(super) fn suspect(&mut self, user: UserNumber, room: RoomNumber) {
        self.suspects.push((user, room));
    }

    pub(super) fn user_change(&mut self, user: UserNumber) -> &mut UserChange {
        self.users.entry(user).or_insert_with(|| UserChange {
            user,
            rooms: Vec::new(),
            room_account_data: Vec::new(),
            account_data: Vec::new(),
            rooms_known: false,
        })
    }

    pub(super) fn device_change(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
    ) -> &mut DeviceChange {
        self.devices.entry(device).or_insert(DeviceChange {
            device,
            user,
            to_device: false,
            device_lists: false,
            purged: false,
        })
    }
}
