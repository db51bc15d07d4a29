//! A room's current state: which event holds for each type and state key.
//!
//! Several pollers tell of one room, and each may be a moment behind: a stale
//! answer must not undo a newer one.

use std::collections::{BTreeMap, BTreeSet};

use super::{fold::Fold, polled::Poll, summary::content, timeline::Chunk};
use crate::{
    id::Sequence,
    record::{EventRecord, Place, StateRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, SyncEvent},
    view::Table,
    world::Room,
};

/// For how long after its first sight an entry of the state withstands an older
/// one: another poller's answer may still be on its way.
const RACE_MS: u64 = 60_000;

/// What is said of one entry, and where that was said.
#[derive(Clone, Copy)]
struct Claim<'a> {
    event: &'a SyncEvent,
    /// Where it is, if it is stored, and whether it is new in the timeline.
    place: Option<(Place, bool)>,
    /// Whether the homeserver says that this holds now, and not only that it
    /// happened.
    authoritative: bool,
    /// When that was asked for, unix milliseconds.
    asked_ms: u64,
}

impl Fold<'_> {
    /// Applies what a batch says of the room's state.
    pub(super) fn state_polled(
        &mut self,
        poll: Poll,
        room: &mut Room,
        batch: &RoomBatch,
        chunk: &Chunk,
    ) {
        self.ends_of_stays(room, batch, chunk);
        let authoritative = batch.state_is_after || poll.initial || batch.limited;
        let mut claims: BTreeMap<(&str, &str), Claim<'_>> = BTreeMap::new();
        for event in &batch.state {
            if let Some(state_key) = &event.state_key {
                let claim = Claim { event, place: None, authoritative, asked_ms: poll.asked_ms };
                claims.insert((&event.kind, state_key), claim);
            }
        }
        // The state after has members only as far as they are senders: of others
        // that move, such as one who is kicked, the timeline alone tells.
        let settled: BTreeSet<(&str, &str)> = claims.keys().copied().collect();
        let is_settled = |event: &SyncEvent, state_key: &str| {
            batch.state_is_after && (event.kind != MEMBER || settled.contains(&(MEMBER, state_key)))
        };
        for (event, place) in batch.timeline.iter().zip(&chunk.places) {
            if let (Some(state_key), Some(_)) = (&event.state_key, place)
                && !is_settled(event, state_key)
            {
                let authoritative = authoritative && !batch.state_is_after;
                let asked_ms = poll.asked_ms;
                let claim = Claim { event, place: *place, authoritative, asked_ms };
                claims.insert((&event.kind, state_key), claim);
            }
        }
        for ((kind, state_key), claim) in claims {
            self.claim(room, kind, state_key, claim);
        }
    }

    /// Ends the stays that a timeline ends, also where it goes on to tell of a new
    /// invite or join: what lies between is not for who was out.
    fn ends_of_stays(&mut self, room: &Room, batch: &RoomBatch, chunk: &Chunk) {
        for (event, place) in batch.timeline.iter().zip(&chunk.places) {
            if let Some((place, true)) = place
                && event.kind == MEMBER
            {
                let content = content(&event.json);
                self.member_changed(room, event, *place, content.text("membership"));
            }
        }
    }

    fn claim(&mut self, room: &mut Room, kind: &str, state_key: &str, claim: Claim<'_>) {
        let key = key::state(room.number, kind, state_key);
        let known = self.place(room.number, &claim.event.event_id);
        let current = self.get(Table::State, &key).and_then(StateRecord::decode);
        if let Some(current) = &current
            && (known == Some(current.place) || !self.prevails(room, &claim, known, current))
        {
            return;
        }
        let place = known.unwrap_or_else(|| self.keep_state_event(room.number, claim.event));
        let is_new = known.is_none() || claim.place.is_some_and(|(_, is_new)| is_new);
        // State that came in the batch's timeline holds from there on.
        let last = self.ledger.world.room(room.number).map_or(0, |known| known.last_event.0);
        let came_now = place.timeline && place.sequence > last;
        let changed = if is_new || came_now { place.sequence } else { self.next().0 };
        let before = current.and_then(|current| current.membership);
        let membership = (kind == MEMBER)
            .then(|| content(&claim.event.json))
            .and_then(|content| content.text("membership").map(str::to_owned));
        let entry = StateRecord {
            kind: kind.to_owned(),
            state_key: state_key.to_owned(),
            place,
            changed,
            membership: membership.clone(),
        };
        self.put(Table::State, key, entry.encode());
        room.state_changed = room.state_changed.max(Sequence(changed));
        Self::summarize(room, kind, state_key, &claim.event.json);
        if kind == MEMBER {
            let counted = claim.place.is_some_and(|(_, is_new)| is_new) || !room.counts_exact;
            if counted {
                let before = before.or_else(|| previous_membership(&claim.event.json));
                count(room, before.as_deref(), membership.as_deref());
            }
            self.member_changed(room, claim.event, place, membership.as_deref());
        }
    }

    /// Whether a claim takes the place of what holds.
    fn prevails(
        &self,
        room: &Room,
        claim: &Claim<'_>,
        known: Option<Place>,
        current: &StateRecord,
    ) -> bool {
        let archive = self.get(Table::Events, &key::event(room.number, current.place));
        let Some(holds) = archive.and_then(EventRecord::access) else { return true };
        let fresh = holds.first_seen_ms.to_native() + RACE_MS > claim.asked_ms;
        if claim.place.is_some_and(|(_, is_new)| is_new) {
            // Another poller, that skipped this in a gap, may have told of the end
            // that came after it.
            let is_out = |membership: Option<&str>| matches!(membership, Some("leave" | "ban"));
            let ended = current.kind == MEMBER && is_out(current.membership.as_deref());
            let is_older = claim.event.origin_server_ts < holds.origin_server_ts.to_native();
            return !(ended && fresh && is_older)
                || is_out(previous_membership(&claim.event.json).as_deref());
        }
        match known {
            // It happened before what holds: only a reset makes it hold again.
            Some(place) if place.sequence < current.place.sequence => claim.authoritative && !fresh,
            Some(_) => true,
            None if claim.authoritative && !fresh => true,
            None => claim.event.origin_server_ts >= holds.origin_server_ts.to_native(),
        }
    }

    /// The membership that the state gives somebody.
    pub(super) fn member(&self, room: &Room, user_id: &str) -> Option<StateRecord> {
        let key = key::state(room.number, MEMBER, user_id);
        self.get(Table::State, &key).and_then(StateRecord::decode)
    }

    /// Takes in members that were fetched apart.
    pub(super) fn fetched_members(&mut self, room: &mut Room, events: &[SyncEvent]) {
        for event in events {
            let Some(state_key) = event.state_key.as_deref() else { continue };
            if event.kind == MEMBER {
                let asked_ms = self.now_ms;
                let claim = Claim { event, place: None, authoritative: false, asked_ms };
                self.claim_quietly(room, state_key, claim);
            }
        }
    }

    /// As [`Self::claim`], for a member list: it is old news, and its members
    /// are counted already.
    fn claim_quietly(&mut self, room: &mut Room, state_key: &str, claim: Claim<'_>) {
        let counts = (room.joined_count, room.invited_count);
        self.claim(room, MEMBER, state_key, claim);
        (room.joined_count, room.invited_count) = counts;
    }
}

/// The membership before a member event, as the event itself says it.
pub(super) fn previous_membership(json: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Event {
        unsigned: Unsigned,
    }
    #[derive(serde::Deserialize)]
    struct Unsigned {
        prev_content: Previous,
    }
    #[derive(serde::Deserialize)]
    struct Previous {
        membership: String,
    }
    serde_json::from_str::<Event>(json).ok().map(|event| event.unsigned.prev_content.membership)
}

/// Counts a member's change, until the homeserver's next summary.
fn count(room: &mut Room, before: Option<&str>, after: Option<&str>) {
    let of = |room: &mut Room, membership: Option<&str>, by: i64| {
        let count = match membership {
            Some("join") => &mut room.joined_count,
            Some("invite") => &mut room.invited_count,
            _ => return,
        };
        *count = count.saturating_add_signed(by);
    };
    of(room, before, -1);
    of(room, after, 1);
}
