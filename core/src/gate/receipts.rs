//! The receipts of a room that one user may see.

use std::collections::BTreeSet;

use super::Gate;
use crate::{
    id::Sequence,
    record::{ArchivedReceiptRecord, ReceiptRecord, key},
    view::{Direction, Table},
};

impl Gate<'_> {
    fn shows(&self, receipt: &ArchivedReceiptRecord) -> bool {
        receipt.kind != "m.read.private" || receipt.user_id == *self.user.id
    }

    /// Visits the visible receipts, newest first, until `visit` returns false.
    pub fn newest_receipts(&self, visit: &mut dyn FnMut(&ArchivedReceiptRecord) -> bool) {
        let mut visit = |_, receipt: &ArchivedReceiptRecord| visit(receipt);
        self.each_receipt(Sequence::default(), Direction::Backward, &mut visit);
    }

    /// Visits the visible receipts after `after` with their numbers, oldest first,
    /// until `visit` returns false.
    pub fn receipts_since(
        &self,
        after: Sequence,
        visit: &mut dyn FnMut(Sequence, &ArchivedReceiptRecord) -> bool,
    ) {
        self.each_receipt(after, Direction::Forward, visit);
    }

    fn each_receipt(
        &self,
        after: Sequence,
        direction: Direction,
        visit: &mut dyn FnMut(Sequence, &ArchivedReceiptRecord) -> bool,
    ) {
        if !self.is_joined() {
            return;
        }
        let from = key::receipt_order(self.room.number, after.0.saturating_add(1));
        let to = key::after_prefix(&key::room(self.room.number));
        self.view.scan(Table::ReceiptOrder, &from, &to, direction, &mut |key, archive| {
            let number = Sequence(key::sequence_of(key).unwrap_or(0));
            ReceiptRecord::access(archive)
                .is_none_or(|receipt| !self.shows(receipt) || visit(number, receipt))
        });
    }

    /// Visits the user's own receipts, the newest first: those of the room as a
    /// whole and of its main timeline, and the newest of those of threads.
    pub fn own_receipts(&self, visit: &mut dyn FnMut(&ArchivedReceiptRecord)) {
        if !self.is_joined() {
            return;
        }
        let from = key::receipts_of(self.room.number, &self.user.id);
        let to = key::after_prefix(&from);
        let (mut looked_at, mut newest) = (0, BTreeSet::new());
        self.view.scan(Table::Receipts, &from, &to, Direction::Forward, &mut |_, value| {
            newest.extend(key::sequence_of(value));
            if newest.len() > OWN_RECEIPTS_MAX {
                newest.pop_first();
            }
            looked_at += 1;
            looked_at < OWN_RECEIPTS_LOOKED_AT_MAX
        });
        // However old: without them all of the room is unread.
        for kind in ["m.read", "m.read.private"] {
            for thread_id in [None, Some("main")] {
                let key = key::receipt(self.room.number, &self.user.id, kind, thread_id);
                newest.extend(self.view.get(Table::Receipts, &key).and_then(key::sequence_of));
            }
        }
        for number in newest.into_iter().rev() {
            let order = key::receipt_order(self.room.number, number);
            let archive = self.view.get(Table::ReceiptOrder, &order);
            if let Some(receipt) = archive.and_then(ReceiptRecord::access) {
                visit(receipt);
            }
        }
    }
}

/// Own receipts of one room that are shown besides those that always are: one
/// for each thread.
const OWN_RECEIPTS_MAX: usize = 100;
/// Own receipts of one room among which those are looked for.
const OWN_RECEIPTS_LOOKED_AT_MAX: usize = 10_000;
