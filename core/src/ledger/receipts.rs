//! Receipts and typing.

use std::sync::Arc;

use super::{fold::Fold, polled::Poll};
use crate::{
    id::Sequence,
    record::{ReceiptRecord, key},
    upstream::Receipt,
    view::Table,
    world::Room,
};

impl Fold<'_> {
    /// Who is typing, where the batch says so. It is not stored: the first word
    /// about it is news even where it is that nobody is, since a client may have
    /// been told otherwise before Luge started.
    pub(super) fn typing(&mut self, room: &mut Room, typing: Option<&[String]>) {
        let Some(typing) = typing else { return };
        let is_known = room.typing_changed != Sequence::default();
        let same = room.typing.len() == typing.len()
            && room.typing.iter().zip(typing).all(|(known, user_id)| **known == **user_id);
        if !(is_known && same) {
            room.typing = typing.iter().map(|user_id| Arc::from(&**user_id)).collect();
            room.typing_changed = self.next();
        }
    }

    /// The newest receipt of each user, type and thread.
    pub(super) fn receipts(&mut self, poll: Poll, room: &mut Room, receipts: &[Receipt]) {
        for receipt in receipts {
            let Receipt { event_id, kind, user_id, thread_id, json } = receipt;
            let record = ReceiptRecord {
                event_id: event_id.clone(),
                kind: kind.clone(),
                user_id: user_id.clone(),
                thread_id: thread_id.clone(),
                json: json.to_string(),
            };
            let key = key::receipt(room.number, user_id, kind, thread_id.as_deref());
            let known = self.get(Table::Receipts, &key).and_then(key::sequence_of);
            if let Some(known) = known {
                let order = key::receipt_order(room.number, known);
                let stored = self.get(Table::ReceiptOrder, &order).and_then(ReceiptRecord::decode);
                let is_older = |stored: &ReceiptRecord| {
                    let sent = (sent_ms(&record.json), sent_ms(&stored.json));
                    known > poll.knew && matches!(sent, (Some(new), Some(old)) if new <= old)
                };
                if stored.as_ref().is_some_and(|it| *it == record || is_older(it)) {
                    continue;
                }
                self.remove(Table::ReceiptOrder, order);
            }
            let changed = self.next();
            self.put(Table::Receipts, key, changed.0.to_be_bytes().as_slice());
            let order = key::receipt_order(room.number, changed.0);
            self.put(Table::ReceiptOrder, order, record.encode());
            room.receipts_changed = changed;
        }
    }
}

/// `ts` of a receipt.
fn sent_ms(json: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Sent {
        ts: u64,
    }
    serde_json::from_str::<Sent>(json).ok().map(|sent| sent.ts)
}
