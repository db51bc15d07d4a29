//! `receipts` (MSC3960): one `m.receipt` a room. The first time in a stay, or
//! when the room is sent anew, those on the events of the response and the
//! user's own; later every one that came, in order. Those of a room that one
//! response has no place for come with the next.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use super::{Scoping, SentEvents, note, told};
use crate::{
    connection::State,
    gate::Gate,
    id::{RoomNumber, Sequence},
    json::{push_free_key, push_string},
    record::ArchivedReceiptRecord,
    request::Scope,
};

/// Receipts of one room that are looked at for the events of a response, the
/// newest first.
const LOOKED_AT_MAX: usize = 256;
pub(super) fn answer(
    scoping: Scoping<'_>,
    scope: &Scope,
    sent_events: &SentEvents,
    next: &mut State,
    unsettled: &mut Vec<RoomNumber>,
) -> Vec<(Arc<str>, String)> {
    let mut rooms = Vec::new();
    let max = scoping.asked.limits.receipts_max.max(1);
    for gate in scoping.gates(scope).filter(Gate::is_joined) {
        let room = gate.room_number();
        let before = told(scoping.asked, &gate).receipts;
        let sent = sent_events.get(&room);
        let anew = sent.is_some_and(|sent| sent.anew);
        if !anew && before.is_some_and(|before| gate.receipts_changed() <= before) {
            continue;
        }
        let mut receipts = Receipts::default();
        let mut told_to = scoping.asked.source.world.sequence;
        if let Some(before) = before {
            let mut last = before;
            gate.receipts_since(before, &mut |number, receipt| {
                if receipts.count == max {
                    // The tables may be ahead of the world.
                    told_to = last.min(told_to);
                    unsettled.push(room);
                    return false;
                }
                receipts.put(receipt);
                last = number;
                true
            });
        }
        note(next, room, |told| told.receipts = Some(told_to));
        if anew || before.is_none() {
            let on = sent.map_or(&[][..], |sent| &sent.event_ids);
            first(&gate, on, &mut receipts);
        }
        if receipts.count > 0 {
            rooms.push((Arc::clone(gate.room_id()), receipts.event()));
        }
    }
    rooms
}

fn first(gate: &Gate<'_>, event_ids: &[String], receipts: &mut Receipts) {
    if gate.receipts_changed() == Sequence::default() {
        return;
    }
    let mut looked_at = 0;
    gate.newest_receipts(&mut |receipt| {
        looked_at += 1;
        if event_ids.iter().any(|event_id| receipt.event_id == **event_id) {
            receipts.add_older(receipt);
        }
        looked_at < LOOKED_AT_MAX
    });
    gate.own_receipts(&mut |receipt| receipts.add_older(receipt));
}

/// Receipts by event, type and user, each with its JSON.
#[derive(Default)]
struct Receipts {
    by_event: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
    count: usize,
}

impl Receipts {
    /// Adds one that is newer than all before.
    fn put(&mut self, receipt: &ArchivedReceiptRecord) {
        self.entry(receipt).insert_entry(receipt.json.as_str().to_owned());
    }

    /// Adds one, unless a newer one is there.
    fn add_older(&mut self, receipt: &ArchivedReceiptRecord) {
        self.entry(receipt).or_insert_with(|| receipt.json.as_str().to_owned());
    }

    /// The place of one. Of several threads' on one event a client can be told
    /// one.
    fn entry(&mut self, receipt: &ArchivedReceiptRecord) -> Entry<'_, String, String> {
        self.count += 1;
        let by_kind = self.by_event.entry(receipt.event_id.as_str().to_owned()).or_default();
        let by_user = by_kind.entry(receipt.kind.as_str().to_owned()).or_default();
        by_user.entry(receipt.user_id.as_str().to_owned())
    }

    fn event(&self) -> String {
        let mut out = String::from("{\"type\":");
        push_string(&mut out, "m.receipt");
        out.push_str(",\"content\":{");
        for (event_id, by_kind) in &self.by_event {
            push_free_key(&mut out, event_id);
            out.push('{');
            for (kind, by_user) in by_kind {
                push_free_key(&mut out, kind);
                out.push('{');
                for (user_id, json) in by_user {
                    push_free_key(&mut out, user_id);
                    out.push_str(json);
                }
                out.push('}');
            }
            out.push('}');
        }
        out.push_str("}}");
        out
    }
}
