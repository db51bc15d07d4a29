//! A room's current state: which event holds for each type and state key.
//!
//! Several pollers tell of one room, and each may be a moment behind: a stale
//! answer must not undo a newer one.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    fold::Fold,
    polled::Poll,
    summary::{GONE, content},
    timeline::{Chunk, Standing},
    user_room::is_over,
};
use crate::{
    id::Sequence,
    record::{EventRecord, Membership, Place, StateRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, Section, SyncEvent},
    view::Table,
    world::{Aside, Removed, Room},
};

/// For how long a member list may be on its way while answers overtake it.
const RACE_MS: u64 = 60_000;

/// What is said of one entry, and by whom.
#[derive(Clone, Copy)]
struct Claim<'a> {
    event: &'a SyncEvent,
    by: Source,
    /// What whoever says it knew for certain.
    knew: u64,
    /// Whether it is put aside where the timeline does not have it: the end of the stay of
    /// the user whose poller says it, or a member that was fetched for one user.
    is_aside: bool,
    /// Whether the user's own poller tells by it that they are in the room, and nobody
    /// has told that they are out. They have come behind an invite that others told
    /// meanwhile, unless that was sent later.
    comes_in: bool,
    /// See [`StateRecord::apart`].
    apart: bool,
}

impl<'a> Claim<'a> {
    /// What was fetched apart says.
    fn fetched(event: &'a SyncEvent, by: Source, knew: u64) -> Self {
        Self { event, by, knew, is_aside: false, comes_in: false, apart: true }
    }
}

/// Who says what holds.
#[derive(Clone, Copy)]
enum Source {
    /// An answer that knew more of the room than was stored.
    Newest,
    /// Another answer, which knew what was stored up to a number.
    Answer { knew: u64, asked_ms: u64 },
    /// The same, of the end of its own user's stay. That is over whatever others
    /// told meanwhile, unless they told of something later.
    Own { knew: u64, asked_ms: u64 },
    /// The same as an answer, by an event that came in front of known ones: it may be an old
    /// one, or one that other pollers were not told of.
    Skipped { knew: u64, asked_ms: u64 },
    /// A list that was fetched apart, at a moment that is not known.
    List,
    /// The whole state, fetched apart after everything up to this number was
    /// known.
    State { knew: u64 },
}

/// An entry of a state that was fetched apart.
#[derive(Clone, Copy)]
pub(super) struct StateClaim<'a> {
    pub(super) event: &'a SyncEvent,
    /// What the homeserver knew for certain.
    pub(super) knew: u64,
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
        self.ends_of_stays(poll, room, batch, chunk);
        let user_id = self.ledger.world.user_id(poll.user).cloned();
        let is_own = |event: &SyncEvent| {
            event.kind == MEMBER && event.state_key.as_deref() == user_id.as_deref()
        };
        let by = |event: &SyncEvent| {
            match chunk.standing {
                Standing::Ahead => Source::Newest,
                // The state is that of when the user left, and only that they
                // left holds now.
                _ if batch.section == Section::Leave && !is_own(event) => {
                    Source::Answer { knew: 0, asked_ms: 0 }
                }
                _ if batch.section == Section::Leave => {
                    Source::Own { knew: poll.knew, asked_ms: poll.asked_ms }
                }
                _ => Source::Answer { knew: poll.knew, asked_ms: poll.asked_ms },
            }
        };
        let comes_in = |event: &SyncEvent| {
            let of_user = || self.user_room(poll.user, room);
            let is_out = || of_user().is_some_and(|it| is_over(it.membership));
            batch.section == Section::Join && is_own(event) && !is_out()
        };
        // An end that comes behind a known event and lies in a gap of what follows that:
        // whoever sees the room was vouched for behind it.
        let reaches = chunk.reaches;
        let is_in_gap = chunk.stale && (1..room.last_gap.0).contains(&reaches);
        let claim = |event| Claim {
            event,
            by: by(event),
            knew: poll.knew,
            is_aside: batch.section == Section::Leave && is_own(event) && !is_in_gap,
            comes_in: comes_in(event),
            apart: chunk.unplaced,
        };
        let mut claims: BTreeMap<(&str, &str), Claim<'_>> = BTreeMap::new();
        for event in &batch.state {
            if let Some(state_key) = &event.state_key {
                claims.insert((&event.kind, state_key), claim(event));
            }
        }
        // The state after has members only as far as they are senders: of others
        // that move, such as one who is kicked, the timeline alone tells.
        let settled: BTreeSet<(&str, &str)> = claims.keys().copied().collect();
        let is_settled = |event: &SyncEvent, state_key: &str| {
            batch.state_is_after && (event.kind != MEMBER || settled.contains(&(MEMBER, state_key)))
        };
        for (event, place) in batch.timeline.iter().zip(&chunk.places) {
            let Some(state_key) = &event.state_key else { continue };
            if is_settled(event, state_key) {
                continue;
            }
            if place.is_some() || chunk.stale {
                claims.insert((&event.kind, state_key), claim(event));
            } else if self.place(room.number, &event.event_id).is_none_or(|it| !it.timeline) {
                let by = Source::Skipped { knew: poll.knew, asked_ms: poll.asked_ms };
                claims.insert((&event.kind, state_key), Claim { by, ..claim(event) });
            }
        }
        if is_whole(poll, batch, chunk) && claims.contains_key(&("m.room.create", "")) {
            self.drop_state(room, |kind, state_key| claims.contains_key(&(kind, state_key)));
        }
        for ((kind, state_key), claim) in claims {
            self.claim(room, kind, state_key, claim);
        }
    }

    /// Drops the entries of the state that do not stay. Members do: they are
    /// loaded lazily.
    fn drop_state(&mut self, room: &mut Room, stays: impl Fn(&str, &str) -> bool) {
        let mut gone: Vec<(key::Key, String, String)> = Vec::new();
        self.scan(Table::State, &key::room(room.number), &mut |key, archive| {
            if let Some(entry) = StateRecord::access(archive)
                && entry.kind != *MEMBER
                && !stays(&entry.kind, &entry.state_key)
            {
                gone.push((key.into(), entry.kind.to_string(), entry.state_key.to_string()));
            }
            true
        });
        for (key, kind, state_key) in gone {
            self.drop_entry(room, key, &kind, &state_key);
        }
    }

    /// Drops one entry of the state, and keeps in mind that it was there: who
    /// was told of it is told that it is gone.
    pub(super) fn drop_entry(
        &mut self,
        room: &mut Room,
        key: key::Key,
        kind: &str,
        state_key: &str,
    ) {
        self.remove(Table::State, key);
        if kind == MEMBER {
            self.forget_aside(room, state_key);
            self.fill_heroes(room, state_key);
        }
        Self::summarize(room, kind, state_key, GONE);
        let changed = self.next();
        room.state_changed = room.state_changed.max(changed);
        let removed = Removed { kind: kind.into(), state_key: state_key.into(), changed };
        room.note_removed(removed, self.ledger.limits.removed_max);
    }

    /// Ends the stays that a timeline ends, also where it goes on to tell of a new
    /// invite or join: what lies between is not for who was out.
    fn ends_of_stays(&mut self, poll: Poll, room: &Room, batch: &RoomBatch, chunk: &Chunk) {
        let told = || batch.timeline.iter().zip(&chunk.places);
        for (index, (event, place)) in told().enumerate() {
            if let Some((place, true)) = place
                && event.kind == MEMBER
            {
                let later = told().skip(index + 1).filter(|(later, _)| {
                    later.kind == MEMBER && later.state_key == event.state_key
                });
                let later = later.filter_map(|(later, place)| Some((later, place.as_ref()?.0)));
                if self.is_told_of(room, event, later) {
                    continue;
                }
                let content = content(&event.json);
                let membership = content.text("membership");
                let next = chunk.places.get(index + 1..).into_iter().flatten().flatten();
                let next = next.map(|(place, _)| place.sequence).min();
                let next = next.filter(|next| *next < place.sequence);
                let is_sure = next.is_none() && self.is_after_given(room, event, chunk);
                let knew = if is_sure { u64::MAX } else { poll.knew };
                self.member_changed(room, (event, *place), membership, (knew, next));
            }
        }
    }

    /// Whether a user's own poller has told of the invite or join that came
    /// after `event`.
    fn is_told_of<'b>(
        &self,
        room: &Room,
        event: &SyncEvent,
        mut later: impl Iterator<Item = (&'b SyncEvent, Place)>,
    ) -> bool {
        let user_id = event.state_key.as_deref().unwrap_or_default();
        let user = self.ledger.world.user_numbers.get(user_id);
        let Some(of_user) = user.and_then(|user| self.user_room(*user, room)) else { return false };
        later.any(|(later, place)| match of_user.membership {
            Membership::Join => of_user.own_event == Some(place),
            Membership::Invite => content(&later.json).text("membership") == Some("invite"),
            _ => false,
        })
    }

    fn claim(&mut self, room: &mut Room, kind: &str, state_key: &str, claim: Claim<'_>) {
        let known = self.place(room.number, &claim.event.event_id);
        let current = self.entry(room, kind, state_key);
        if let Some(current) = &current
            && (known == Some(current.place) || !self.prevails(room, &claim, known, current))
        {
            return;
        }
        let place = known.unwrap_or_else(|| self.keep_state_event(room.number, claim.event));
        if claim.is_aside && !place.timeline {
            self.put_aside(room, claim.event, place);
        } else {
            let at = (place, claim.apart);
            self.set_entry(room, (kind, state_key), &claim.event.json, at);
        }
        if kind == MEMBER {
            let content = content(&claim.event.json);
            let knew = (claim.knew, None);
            self.member_changed(room, (claim.event, place), content.text("membership"), knew);
        }
    }

    /// Has an entry of the state hold the event at `place` from now on, which came `apart`
    /// or did not.
    pub(super) fn set_entry(
        &mut self,
        room: &mut Room,
        (kind, state_key): (&str, &str),
        json: &str,
        (place, apart): (Place, bool),
    ) {
        let key = key::state(room.number, kind, state_key);
        let current = self.get(Table::State, &key).and_then(StateRecord::decode);
        let is_new = place.sequence > self.started.0;
        let changed = if is_new { place.sequence } else { self.next().0 };
        let was_known = current.is_some();
        let before = current.and_then(|current| current.membership);
        let membership = (kind == MEMBER)
            .then(|| content(json))
            .and_then(|content| content.text("membership").map(str::to_owned));
        let entry = StateRecord {
            kind: kind.to_owned(),
            state_key: state_key.to_owned(),
            place,
            changed,
            membership: membership.clone(),
            apart,
        };
        self.put(Table::State, key, entry.encode());
        room.state_changed = room.state_changed.max(Sequence(changed));
        room.note_set(kind, state_key);
        if kind == MEMBER && !matches!(membership.as_deref(), Some("join" | "invite")) {
            self.fill_heroes(room, state_key);
        }
        Self::summarize(room, kind, state_key, json);
        if kind == MEMBER {
            self.forget_aside(room, state_key);
            if was_known && !(is_new && place.timeline) {
                room.members_corrected = room.members_corrected.max(Sequence(changed));
            }
            // Of members that were never seen, only an exact count has any.
            let exact = room.counts_exact;
            if (is_new && place.timeline) || !exact {
                let unseen = || previous_membership(json).filter(|_| exact);
                let before = before.or_else(unseen);
                count(room, before.as_deref(), membership.as_deref());
            }
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
        let first_seen_ms = holds.first_seen_ms.to_native();
        let was_known = |knew, asked_ms| current.changed <= knew || first_seen_ms < asked_ms;
        // Not worth a look where it is the newest in any case.
        let order = || self.order(room, claim.event, current.place);
        let is_sent_later = || {
            order().map_or_else(
                || claim.event.origin_server_ts >= holds.origin_server_ts.to_native(),
                Ordering::is_gt,
            )
        };
        let is_asked_in = || matches!(current.membership.as_deref(), Some("invite" | "knock"));
        if claim.comes_in && is_asked_in() && is_sent_later() {
            return true;
        }
        match claim.by {
            Source::Newest => true,
            Source::Answer { knew, asked_ms } => {
                order().map_or_else(|| was_known(knew, asked_ms), Ordering::is_gt)
            }
            Source::Own { knew, asked_ms } => was_known(knew, asked_ms) || is_sent_later(),
            Source::Skipped { knew, asked_ms } => was_known(knew, asked_ms) && is_sent_later(),
            Source::State { knew } => current.changed <= knew,
            Source::List => known.map_or_else(
                || {
                    let races = self.now_ms.saturating_sub(first_seen_ms) < RACE_MS;
                    !races || is_sent_later()
                },
                |known| known.sequence > current.place.sequence,
            ),
        }
    }

    /// What holds for an entry, whether or not it is part of the state yet.
    pub(super) fn entry(&self, room: &Room, kind: &str, state_key: &str) -> Option<StateRecord> {
        let aside = (kind == MEMBER).then(|| self.aside(room, state_key)).flatten();
        aside.or_else(|| {
            let key = key::state(room.number, kind, state_key);
            self.get(Table::State, &key).and_then(StateRecord::decode)
        })
    }

    /// The member event that holds for somebody, as [`Self::entry`].
    pub(super) fn member(&self, room: &Room, user_id: &str) -> Option<StateRecord> {
        self.entry(room, MEMBER, user_id)
    }

    /// Takes in members of a list that was fetched apart.
    pub(super) fn fetched_members(&mut self, room: &mut Room, events: &[SyncEvent]) {
        for event in events {
            let Some(state_key) = event.state_key.as_deref() else { continue };
            if event.kind != MEMBER {
                continue;
            }
            let is_it = |it: &Aside| *it.user_id == *state_key && *it.event_id == *event.event_id;
            if self.is_in_state(room, state_key) || !room.asides.iter().any(is_it) {
                let claim = Claim::fetched(event, Source::List, 0);
                self.claim_quietly(room, state_key, claim);
            } else {
                self.show_asides(room, is_it);
            }
        }
    }

    /// Takes in a member that was fetched for one user, and of whom the state has no entry.
    pub(super) fn claim_aside(&mut self, room: &mut Room, user_id: &str, event: &SyncEvent) {
        let claim = Claim { is_aside: true, ..Claim::fetched(event, Source::List, 0) };
        self.claim_quietly(room, user_id, claim);
    }

    /// Takes in an entry of a state that was fetched apart.
    pub(super) fn claim_fetched(&mut self, room: &mut Room, state_key: &str, it: StateClaim<'_>) {
        let by = Source::State { knew: it.knew };
        let claim = Claim::fetched(it.event, by, it.knew);
        self.claim(room, &it.event.kind, state_key, claim);
    }

    /// As [`Self::claim`], for a member list: it is old news, and its members
    /// are counted already.
    fn claim_quietly(&mut self, room: &mut Room, state_key: &str, claim: Claim<'_>) {
        let counts = (room.joined_count, room.invited_count);
        self.claim(room, MEMBER, state_key, claim);
        (room.joined_count, room.invited_count) = counts;
    }
}

/// Whether a batch has all of the state but members, and is newer than
/// everything that is stored: what it does not have is gone.
fn is_whole(poll: Poll, batch: &RoomBatch, chunk: &Chunk) -> bool {
    poll.initial
        && batch.section == Section::Join
        && (batch.state_is_after || batch.limited)
        && chunk.standing == Standing::Ahead
        && chunk.places.iter().flatten().all(|(_, is_new)| *is_new)
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
