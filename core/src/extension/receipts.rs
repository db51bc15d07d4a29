//! `receipts` (MSC3960): one `m.receipt` a room. The first time in a stay, or
//! when the room is sent anew, those on the events of the response and the
//! user's own; later every one that came.

use std::{collections::BTreeMap, sync::Arc};

use super::{Scoping, SentEvents, note, told};
use crate::{
    connection::State,
    gate::Gate,
    id::Sequence,
    json::{push_free_key, push_string},
    record::ArchivedReceiptRecord,
    request::Scope,
};

/// Receipts of one room that are looked at for the events of a response, the
/// newest first.
const LOOKED_AT_MAX: usize = 256;
/// Receipts of one room in one response, the newest first.
const SENT_MAX: usize = 1_000;

pub(super) fn answer(
    scoping: Scoping<'_>,
    scope: &Scope,
    sent_events: &SentEvents,
    next: &mut State,
) -> Vec<(Arc<str>, String)> {
    let mut rooms = Vec::new();
    for gate in scoping.gates(scope).filter(Gate::is_joined) {
        let room = gate.room_number();
        let before = told(scoping.asked, &gate).receipts;
        let sent = sent_events.get(&room);
        let anew = sent.is_some_and(|sent| sent.anew);
        if !anew && before.is_some_and(|before| gate.receipts_changed() <= before) {
            continue;
        }
        note(next, room, |told| told.receipts = Some(scoping.asked.source.world.sequence));
        let mut receipts = Receipts::default();
        if let Some(before) = before {
            gate.receipts(before, &mut |receipt| receipts.add(receipt));
        }
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
    gate.receipts(Sequence::default(), &mut |receipt| {
        looked_at += 1;
        if event_ids.iter().any(|event_id| receipt.event_id == **event_id) {
            receipts.add(receipt);
        }
        looked_at < LOOKED_AT_MAX
    });
    gate.own_receipts(&mut |receipt| {
        receipts.add(receipt);
    });
}

/// Receipts by event, type and user, each with its JSON.
#[derive(Default)]
struct Receipts {
    by_event: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
    count: usize,
}

impl Receipts {
    /// Adds one, unless a newer one is there; false once there are enough.
    fn add(&mut self, receipt: &ArchivedReceiptRecord) -> bool {
        let by_kind = self.by_event.entry(receipt.event_id.as_str().to_owned()).or_default();
        let by_user = by_kind.entry(receipt.kind.as_str().to_owned()).or_default();
        let user = by_user.entry(receipt.user_id.as_str().to_owned());
        user.or_insert_with(|| receipt.json.as_str().to_owned());
        self.count += 1;
        self.count < SENT_MAX
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
