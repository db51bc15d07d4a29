//! Connections into the store, and memory back.

use std::ops::Bound;

use super::{Effects, Refusal, Shard, device::Device, event::Effect, poller::Phase};
use crate::{
    connection::ConnectionRecord,
    id::{DeviceNumber, UserNumber},
    ledger::{Command, ConnectionWrite},
};

impl Shard {
    /// Writes some of the connections that changed; through the ledger, so that
    /// no number in them is newer than what is durable.
    pub(super) fn save_some(&mut self, out: &mut Effects) {
        self.save(self.limits.save_max, out);
    }

    /// Writes all of them.
    pub(super) fn save_all(&mut self, out: &mut Effects) {
        while self.save(self.limits.save_max, out) {}
    }

    /// One round, that begins where the last one ended: nobody waits for ever.
    fn save(&mut self, max: usize, out: &mut Effects) -> bool {
        let mut writes = Vec::new();
        let from = self.saved_to.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.users.range((from, Bound::Unbounded)).map(|(user, _)| *user);
        let before = self.users.keys().copied().take_while(|user| Some(*user) <= self.saved_to);
        let users: Vec<UserNumber> = behind.chain(before).collect();
        for user in users {
            if writes.len() >= max.max(1) {
                break;
            }
            self.saved_to = Some(user);
            let Some(on_shard) = self.users.get_mut(&user) else { continue };
            for (device, it) in &mut on_shard.devices {
                for (conn_id, slot) in &mut it.slots {
                    if std::mem::take(&mut slot.unsaved) {
                        let state = slot.connection.as_ref().map(ConnectionRecord::encode);
                        let conn_id = conn_id.clone();
                        writes.push(ConnectionWrite { device: *device, conn_id, state });
                    }
                }
            }
        }
        let any = !writes.is_empty();
        if any {
            out.push(Effect::Ledger(Command::Connections(writes)));
        }
        any
    }

    /// Lets go of what nobody has used for long: what is saved comes back from
    /// the store when it is asked for.
    pub(super) fn sweep(&mut self) {
        let before = self.now_ms.saturating_sub(self.limits.unload_after_ms);
        let idle = |device: &Device| {
            device.used_ms < before
                && device.poller.phase == Phase::Idle
                && device.arrivals.is_empty()
                && device.slots.values().all(|slot| slot.held.is_none() && !slot.unsaved)
        };
        let mut gone: Vec<UserNumber> = Vec::new();
        for (user, on_shard) in &mut self.users {
            on_shard.devices.retain(|_, device| !idle(device));
            if on_shard.devices.is_empty() && on_shard.used_ms < before {
                gone.push(*user);
            }
        }
        gone.into_iter().for_each(|user| self.unload_user(user));
        self.forget_fetches();
    }

    /// Makes room for one more connection of a device.
    pub(super) fn make_room_for_connection(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        conn_id: &str,
        out: &mut Effects,
    ) {
        let max = self.limits.connections_max.max(1);
        let Some(it) = self.device_mut(user, device) else { return };
        if it.slots.len() < max || it.slots.contains_key(conn_id) {
            return;
        }
        // One that is idle, else the one whose request waits longest.
        let oldest = it.slots.iter().min_by_key(|(_, slot)| (slot.held.is_some(), slot.used_ms));
        let oldest = oldest
            .map(|(conn_id, slot)| (conn_id.clone(), slot.held.as_ref().map(|held| held.ticket)));
        if let Some((conn_id, ticket)) = oldest {
            if let Some(ticket) = ticket {
                self.refuse_held(ticket, Refusal::too_many("connections of this device"), out);
            }
            let Some(it) = self.device_mut(user, device) else { return };
            it.slots.remove(&conn_id);
            let write = ConnectionWrite { device, conn_id, state: None };
            out.push(Effect::Ledger(Command::Connections(vec![write])));
        }
    }
}
