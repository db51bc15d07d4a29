//! Connections into the store, and memory back.

use super::{Effects, Shard, device::Device, event::Effect, poller::Phase};
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

    fn save(&mut self, max: usize, out: &mut Effects) -> bool {
        let mut writes = Vec::new();
        let devices = self.users.values_mut().flat_map(|on_shard| &mut on_shard.devices);
        'all: for (number, device) in devices {
            for (conn_id, slot) in &mut device.slots {
                if writes.len() >= max.max(1) {
                    break 'all;
                }
                if std::mem::take(&mut slot.unsaved) {
                    let state = slot.connection.as_ref().map(ConnectionRecord::encode);
                    writes.push(ConnectionWrite {
                        device: *number,
                        conn_id: conn_id.clone(),
                        state,
                    });
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
        let now_ms = self.now_ms;
        self.fetching.retain(|_, until| *until > now_ms);
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
        let idle = it.slots.iter().filter(|(_, slot)| slot.held.is_none());
        let oldest = idle.min_by_key(|(_, slot)| slot.used_ms).map(|(conn_id, _)| conn_id.clone());
        if let Some(conn_id) = oldest {
            it.slots.remove(&conn_id);
            let write = ConnectionWrite { device, conn_id, state: None };
            out.push(Effect::Ledger(Command::Connections(vec![write])));
        }
    }
}
