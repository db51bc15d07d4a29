//! When a sync answer puts the stored state of a room in doubt.
//!
//! Only the rules are here: what comes of a doubt is [`super::repair`]'s
//! business, and when the homeserver is asked, the shard's.

use std::collections::BTreeMap;

use super::{fold::Fold, polled::Poll, replaced::replaces_state, timeline::Chunk};
use crate::{
    record::{EventRecord, Membership, key},
    request::MEMBER,
    upstream::{RoomBatch, Section},
    view::Table,
    world::Room,
};

/// What is stored of an entry, or was told of it earlier in the same timeline.
struct Before {
    event_id: String,
    origin_server_ts: u64,
}

impl Fold<'_> {
    /// Notes that the room's state is in doubt, where a batch gives cause. To be
    /// called before what the batch says of the state is taken in.
    pub(super) fn doubt(&mut self, poll: Poll, room: &mut Room, batch: &RoomBatch, chunk: &Chunk) {
        let is_member = || {
            let of_user = self.user_room(poll.user, room);
            of_user.is_some_and(|it| it.membership == Membership::Join)
        };
        if batch.section != Section::Join || poll.repeated || poll.initial || !is_member() {
            return;
        }
        let every_ms = self.ledger.limits.reset_check_every_ms;
        let is_due = self.now_ms.saturating_sub(room.repaired_ms) >= every_ms;
        let is_doubtful = if batch.state_is_after {
            chunk.opened_gap && is_due
        } else {
            chunk.opened_gap || self.contradicts(poll, room, batch, chunk)
        };
        if is_doubtful {
            room.suspected = self.next();
            self.suspect(poll.user, room.number);
        }
    }

    /// Whether the answer of a homeserver that gives no state after the timeline
    /// does not fit with what it knew of the state, which is stored.
    fn contradicts(&self, poll: Poll, room: &Room, batch: &RoomBatch, chunk: &Chunk) -> bool {
        let moved = batch.state.iter().any(|event| {
            // Without a gap nothing happens between two timelines, and members
            // alone are repeated.
            event.kind != MEMBER
                && !batch.limited
                && event.state_key.as_deref().is_some_and(|state_key| {
                    let before = self.before(poll, room, &event.kind, state_key);
                    before.is_some_and(|before| before.event_id != event.event_id)
                })
        });
        moved || self.is_out_of_line(poll, room, batch, chunk)
    }

    /// Whether a new state event of the timeline says that it takes the place of another
    /// than it does, or says nothing of that and is older.
    fn is_out_of_line(&self, poll: Poll, room: &Room, batch: &RoomBatch, chunk: &Chunk) -> bool {
        let mut told: BTreeMap<(&str, &str), Option<Before>> = BTreeMap::new();
        for (event, place) in batch.timeline.iter().zip(&chunk.places) {
            let (Some(state_key), Some((_, is_new))) = (event.state_key.as_deref(), place) else {
                continue;
            };
            let entry = (&*event.kind, state_key);
            let before = told.remove(&entry);
            let before = before.unwrap_or_else(|| self.before(poll, room, entry.0, entry.1));
            if let Some(before) = before.filter(|_| *is_new)
                && before.event_id != event.event_id
            {
                let is_out_of_line = replaces_state(&event.json).map_or_else(
                    || event.origin_server_ts < before.origin_server_ts,
                    |event_id| event_id != before.event_id,
                );
                if is_out_of_line {
                    return true;
                }
            }
            let now = Before {
                event_id: event.event_id.clone(),
                origin_server_ts: event.origin_server_ts,
            };
            told.insert(entry, Some(now));
        }
        false
    }

    /// The stored entry, where the homeserver knew of it when it answered: what
    /// another poller has told since may differ.
    fn before(&self, poll: Poll, room: &Room, kind: &str, state_key: &str) -> Option<Before> {
        let entry = self.entry(room, kind, state_key)?;
        let key = key::event(room.number, entry.place);
        let event = self.get(Table::Events, &key).and_then(EventRecord::access)?;
        (entry.changed <= poll.knew).then(|| Before {
            event_id: event.event_id.to_string(),
            origin_server_ts: event.origin_server_ts.to_native(),
        })
    }
}
