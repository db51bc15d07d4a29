//! A user on the way into memory, some rooms at a time.

use std::{collections::btree_map::Entry, sync::Arc};

use super::{RoomAccountData, User, UserRoom, room_account_data};
use crate::{
    id::{RoomNumber, UserNumber},
    record::{UserRoomRecord, key},
    view::{Direction, Table, View},
    world::World,
};

/// A user of whose rooms some are in memory.
///
/// What was read is kept up to date by whoever holds this: they tell the
/// [user](Self::user) of every change from when it was begun on, as they would
/// one who is there whole. A room that changes before it was read is taken in
/// then; reading passes over it.
#[derive(Debug)]
pub struct Loading {
    user: User,
    /// The first room that is yet to be read.
    next: RoomNumber,
}

/// What was read at once.
#[derive(Debug)]
pub struct ReadRooms {
    /// The rooms, in order.
    pub rooms: Vec<RoomNumber>,
    /// Whether these are the last.
    pub is_whole: bool,
}

impl Loading {
    /// A user of whom all is in memory but the rooms.
    pub fn begin(number: UserNumber, id: Arc<str>, world: &World, view: &dyn View) -> Self {
        Self { user: User::without_rooms(number, id, world, view), next: RoomNumber(0) }
    }

    /// What is there of the user.
    pub fn user(&mut self) -> &mut User {
        &mut self.user
    }

    /// Reads at most so many further rooms.
    pub fn read(&mut self, rooms_max: usize, world: &World, view: &dyn View) -> ReadRooms {
        let (number, first) = (self.user.number, self.next);
        let mut next = None;
        let mut records = Vec::with_capacity(rooms_max.min(AT_ONCE));
        let (from, to) = (key::user_room(number, first), key::after_prefix(&key::of_user(number)));
        view.scan(Table::UserRooms, &from, &to, Direction::Forward, &mut |key, archive| {
            let Some(room) = key::room_of(key) else { return true };
            if records.len() >= rooms_max {
                next = Some(room);
                return false;
            }
            records.extend(UserRoomRecord::decode(archive).map(|record| (room, record)));
            true
        });
        let from = key::account_data_of(number, Some(first));
        // Global account data lies behind that of the last room.
        let account_data = room_account_data(&from, &key::account_data_of(number, next), view);
        let mut account_data = account_data.into_iter().peekable();
        let mut rooms = Vec::with_capacity(records.len());
        for (room, record) in records {
            while account_data.next_if(|(other, _)| *other < room).is_some() {}
            let of_room = account_data.next_if(|(other, _)| *other == room);
            let of_room = of_room.map(|(_, it)| it).unwrap_or_default();
            self.add(room, record, of_room, world);
            rooms.push(room);
        }
        self.next = next.unwrap_or(first);
        ReadRooms { rooms, is_whole: next.is_none() }
    }

    fn add(
        &mut self,
        room: RoomNumber,
        record: UserRoomRecord,
        of_room: RoomAccountData,
        world: &World,
    ) {
        if let Entry::Vacant(entry) = self.user.rooms.entry(room) {
            entry.insert(UserRoom::new(record, of_room, world));
            self.user.place(room, world);
        }
    }

    /// The user, once all rooms were read.
    pub fn finish(self) -> User {
        self.user
    }
}

/// Rooms that [`User::load`] reads at once.
pub(super) const AT_ONCE: usize = 1_000;
