//! A user on the shard: their state and their devices.

use std::collections::BTreeMap;

use super::{Shard, device::Device};
use crate::{
    id::{DeviceNumber, RoomNumber, UserNumber},
    user::User,
};

/// One user.
#[derive(Debug)]
pub(super) struct OnShard {
    pub(super) user: User,
    /// Boxed, since a map keeps room for eleven.
    pub(super) devices: BTreeMap<DeviceNumber, Box<Device>>,
    /// When anything was last asked for them, unix milliseconds.
    pub(super) used_ms: u64,
    /// When their rooms were last compared with the homeserver's, unix
    /// milliseconds; 0 for never.
    pub(super) rooms_checked_ms: u64,
    /// When they are next.
    pub(super) rooms_check_ms: u64,
}

impl OnShard {
    /// Whether a request is held that unread counts are news to.
    pub(super) fn waits_for_counts(&self) -> bool {
        let held = self.devices.values().flat_map(|device| device.held());
        held.into_iter().any(|held| held.request.dialect.tells_of_unread())
    }
}

impl Shard {
    /// Takes in a user who has been read whole, and whose rooms know of them.
    pub(super) fn add_user(&mut self, user: User) {
        let number = user.number;
        let on_shard = OnShard {
            user,
            devices: BTreeMap::new(),
            used_ms: self.now_ms,
            rooms_checked_ms: 0,
            rooms_check_ms: 0,
        };
        self.users.insert(number, on_shard);
        self.plan_rooms_check(number);
        self.note_suspects_of(number);
    }

    pub(super) fn unload_user(&mut self, number: UserNumber) {
        let Some(on_shard) = self.users.remove(&number) else { return };
        self.forget_rooms_check(number, on_shard.rooms_check_ms);
        for room in on_shard.user.rooms.keys() {
            self.forget_room_user(*room, number);
        }
    }

    pub(super) fn forget_room_user(&mut self, room: RoomNumber, user: UserNumber) {
        if let Some(users) = self.room_users.get_mut(&room) {
            users.remove(&user);
            if users.is_empty() {
                self.room_users.remove(&room);
            }
        }
    }

    pub(super) fn device(&self, user: UserNumber, device: DeviceNumber) -> Option<&Device> {
        self.users.get(&user)?.devices.get(&device).map(Box::as_ref)
    }

    pub(super) fn device_mut(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
    ) -> Option<&mut Device> {
        self.users.get_mut(&user)?.devices.get_mut(&device).map(Box::as_mut)
    }
}
