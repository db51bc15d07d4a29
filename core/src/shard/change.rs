//! A newer world comes in: whom it concerns learns of it.

use std::sync::Arc;

use super::{Effects, Refusal, Shard, device::Device, layered};
use crate::{
    ledger::{Delta, DeviceChange, UserChange},
    record::DeviceRecord,
    view::View,
    world::World,
};

impl Shard {
    pub(super) fn on_delta(&mut self, delta: &Delta, below: &dyn View, out: &mut Effects) {
        // Two publications may overtake each other; the newer has what the
        // older had, and the change is taken in either way.
        if delta.world.version > self.world.version {
            self.world = Arc::clone(&delta.world);
        }
        let world = Arc::clone(&self.world);
        for change in &delta.change.users {
            self.on_user_change(change, &world, below);
        }
        for room in &delta.change.rooms {
            let Some(users) = self.room_users.get(room) else { continue };
            let facts = world.room(*room);
            for user in users {
                if let Some(on_shard) = self.users.get_mut(user) {
                    on_shard.user.room_changed(*room, &world);
                    let of_user = on_shard.user.rooms.get(room).zip(facts);
                    if of_user.is_some_and(|(of_user, facts)| of_user.is_waited_for(facts)) {
                        on_shard.devices.values_mut().for_each(|it| it.poller.note_news());
                    }
                    self.dirty.insert(*user);
                } else if let Some(user) = self.loads.user(*user) {
                    user.room_changed(*room, &world);
                }
            }
        }
        for (user, room) in &delta.change.suspects {
            if self.users.contains_key(user) {
                self.note_suspect(*user, *room);
                self.hurry_rooms_check(*user);
            }
        }
        for change in &delta.change.devices {
            self.on_device_change(*change, &world, below, out);
        }
    }

    fn on_user_change(&mut self, change: &UserChange, world: &World, below: &dyn View) {
        let on_shard = self.users.get_mut(&change.user);
        let wants_counts = on_shard.as_ref().is_some_and(|it| it.waits_for_counts());
        let Some(user) = on_shard.map(|it| &mut it.user).or_else(|| self.loads.user(change.user))
        else {
            return;
        };
        if user.apply(change, world, &layered(world, below)) || wants_counts {
            self.dirty.insert(change.user);
        }
        for room in &change.rooms {
            if user.rooms.contains_key(room) {
                self.room_users.entry(*room).or_default().insert(change.user);
            }
        }
        let gone: Vec<_> = {
            let rooms = &user.rooms;
            change.rooms.iter().filter(|room| !rooms.contains_key(room)).copied().collect()
        };
        gone.into_iter().for_each(|room| self.forget_room_user(room, change.user));
    }

    fn on_device_change(
        &mut self,
        change: DeviceChange,
        world: &World,
        below: &dyn View,
        out: &mut Effects,
    ) {
        if change.purged {
            self.park(change.user, change.device, out);
            self.answer_where(change.user, change.device, &Refusal::logged_out(), out, |_| true);
            if let Some(on_shard) = self.users.get_mut(&change.user) {
                on_shard.devices.remove(&change.device);
            }
            return;
        }
        let Some(device) = self.device_mut(change.user, change.device) else { return };
        // A world that was published before it was durable has the record as it was
        // then, and may come after the shard has read what is durable by now. An
        // older one would take messages back that the client has been given.
        let read = Device::read(change.device, &layered(world, below));
        if let Some(record) = read.filter(|read| !is_older(read, &device.record)) {
            device.record = record;
        }
        if change.device_lists {
            device.lists_changed = world.sequence;
        }
        self.dirty.insert(change.user);
    }
}

/// Whether a device's record is older than another one: none of these ever
/// falls.
fn is_older(record: &DeviceRecord, than: &DeviceRecord) -> bool {
    record.answered < than.answered
        || record.to_device_last < than.to_device_last
        || record.to_device_offset < than.to_device_offset
}
