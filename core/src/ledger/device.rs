//! What is a device's own: its `since`, to-device messages, device lists, keys.

use super::{command::Reply, fold::Fold, polled::Poll};
use crate::{
    id::{DeviceNumber, UserNumber},
    record::{DeviceListRecord, DeviceRecord, TokenRecord, key},
    upstream::SyncBatch,
    view::Table,
};

/// Acknowledged messages that one command deletes; the rest goes with the next.
const DELETED_MAX: usize = 1_000;

impl Fold<'_> {
    pub(super) fn device_record(&self, device: DeviceNumber) -> Option<DeviceRecord> {
        self.get(Table::Devices, &key::device(device)).and_then(DeviceRecord::decode)
    }

    fn set_device_record(&mut self, device: DeviceNumber, record: &DeviceRecord) {
        self.put(Table::Devices, key::device(device), record.encode());
    }

    /// Takes in the device's part of an answer. An answer to a `since` that is
    /// not the device's any more was taken in before.
    pub(super) fn device_polled(
        &mut self,
        poll: Poll,
        since: Option<&str>,
        (with_rooms, last_part): (bool, bool),
        batch: &SyncBatch,
    ) {
        let Some(mut record) = self.device_record(poll.device) else { return };
        // After a rejection there is none, and what an older one brings is not
        // brought again: to-device messages are deleted once it is used.
        let is_due = record.since.is_none() || record.since.as_deref() == since;
        if !is_due || !last_part {
            return;
        }
        let before = record.clone();
        // Without a new `since` the homeserver gives the same messages again, and nothing tells them
        // from new ones.
        let to_device = batch.next_batch.as_ref().map(|_| &batch.to_device);
        for json in to_device.into_iter().flatten() {
            record.to_device_last += 1;
            let key = key::to_device(poll.device, record.to_device_last);
            self.put(Table::ToDevice, key, json.as_bytes());
            self.device_change(poll.user, poll.device).to_device = true;
        }
        let changed = batch.device_lists_changed.iter().map(|user_id| (user_id, false));
        let left = batch.device_lists_left.iter().map(|user_id| (user_id, true));
        for (user_id, left) in changed.chain(left) {
            let record = DeviceListRecord { changed: self.next().0, left };
            self.put(Table::DeviceLists, key::device_list(poll.device, user_id), record.encode());
            self.device_change(poll.user, poll.device).device_lists = true;
        }
        if let Some(counts) = &batch.one_time_keys_count {
            record.one_time_keys_count = Some(counts.to_string());
        }
        if let Some(types) = &batch.fallback_key_types {
            record.fallback_key_types = Some(types.to_string());
        }
        if let Some(next_batch) = &batch.next_batch {
            record.since = Some(next_batch.clone());
            // One that goes nowhere could be taken in twice unnoticed.
            if Some(&**next_batch) != since {
                record.answered = self.ledger.world.sequence.0;
            }
        }
        record.rooms_from = match (poll.initial, with_rooms) {
            (true, true) => 0,
            (true, false) => self.ledger.world.sequence.0,
            (false, _) => poll.rooms_from,
        };
        if record.rooms_from == 0 {
            let followed = self.ledger.followed.entry(poll.user).or_default();
            *followed = poll.knew.max(*followed);
            self.vouch_for_untold(poll.user, poll.knew);
        }
        // The answer of a homeserver where nothing happens is not worth a commit.
        if record != before {
            self.set_device_record(poll.device, &record);
        }
        // How far the homeserver has told, the shard reads when the poll is over, and
        // nobody else waits for.
        if record.one_time_keys_count != before.one_time_keys_count
            || record.fallback_key_types != before.fallback_key_types
        {
            self.device_change(poll.user, poll.device);
        }
    }

    pub(super) fn settle_to_device(
        &mut self,
        device: DeviceNumber,
        acknowledged: u64,
        offset: u64,
    ) -> Reply {
        let Some(mut record) = self.device_record(device) else { return Reply::Done };
        let was_adopted = record.adopted;
        record.to_device_acknowledged = record.to_device_acknowledged.max(acknowledged);
        record.to_device_offset = record.to_device_offset.max(offset);
        record.adopted = true;
        let mut gone = Vec::new();
        self.scan(Table::ToDevice, &key::of_device(device), &mut |key, _| {
            let done = key::sequence_of(key).is_some_and(|it| it <= record.to_device_acknowledged);
            if done {
                gone.push(Box::from(key));
            }
            done && gone.len() < DELETED_MAX
        });
        for key in gone {
            self.remove(Table::ToDevice, key);
        }
        let user = UserNumber(record.user);
        self.set_device_record(device, &record);
        self.device_change(user, device).to_device |= !was_adopted;
        Reply::Done
    }

    pub(super) fn key_counts(&mut self, device: DeviceNumber, counts: String) -> Reply {
        if let Some(mut record) = self.device_record(device) {
            record.one_time_keys_count = Some(counts);
            self.set_device_record(device, &record);
            self.device_change(UserNumber(record.user), device);
        }
        Reply::Done
    }

    pub(super) fn forget_token(&mut self, key: [u8; 32]) -> Reply {
        if self.get(Table::Tokens, &key).is_some() {
            self.remove(Table::Tokens, key.into());
        }
        Reply::Done
    }

    pub(super) fn since_rejected(&mut self, device: DeviceNumber) -> Reply {
        if let Some(mut record) = self.device_record(device) {
            record.since = None;
            record.answered = self.ledger.world.sequence.0;
            self.set_device_record(device, &record);
        }
        Reply::Done
    }

    /// Forgets all that is the device's own. Its number stays its name's.
    pub(super) fn purge(&mut self, device: DeviceNumber) -> Reply {
        let Some(record) = self.device_record(device) else { return Reply::Done };
        for table in
            [Table::ToDevice, Table::DeviceLists, Table::Connections, Table::TransactionIds]
        {
            self.remove_all(table, &key::of_device(device), |_| true);
        }
        self.remove_all(Table::Tokens, &[], |archive| {
            TokenRecord::decode(archive).is_none_or(|token| token.device == device.0)
        });
        self.remove(Table::Devices, key::device(device));
        self.device_change(UserNumber(record.user), device).purged = true;
        Reply::Done
    }

    pub(super) fn remove_all(
        &mut self,
        table: Table,
        prefix: &[u8],
        which: impl Fn(&[u8]) -> bool,
    ) {
        let mut gone: Vec<key::Key> = Vec::new();
        self.scan(table, prefix, &mut |key, value| {
            if which(value) {
                gone.push(Box::from(key));
            }
            true
        });
        gone.into_iter().for_each(|key| self.remove(table, key));
    }
}
