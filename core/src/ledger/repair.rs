//! The whole state of a room, fetched apart: what is stored is made to agree
//! with it.
//!
//! Deltas alone cannot: a homeserver does not tell of entries that a state
//! reset took away, nor of members that moved in a gap. What came after the
//! state was asked for is newer than it, and stays.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    command::{Reply, RoomState},
    fold::Fold,
    state::StateClaim,
};
use crate::{
    id::{RoomNumber, Sequence, UserNumber},
    record::{StateRecord, key},
    request::MEMBER,
    upstream::SyncEvent,
    view::Table,
    world::{HEROES_MAX, Hero, Room},
};

/// Entries that go to the ledger at once: others wait behind them.
const ENTRIES_AT_ONCE: usize = 1_000;

/// Everything that the homeserver says a room's state has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WholeState {
    /// Type and state key of each entry.
    pub entries: BTreeSet<(String, String)>,
    /// Joined members.
    pub joined_count: u64,
    /// Invited members.
    pub invited_count: u64,
    /// Some of these, for whom a room without a name can be named after.
    pub some: Vec<Hero>,
}

/// So many that as many as there may be heroes are none yet.
const SOME_MAX: usize = 2 * HEROES_MAX;

impl RoomState {
    /// A fetched state in parts that go to the ledger one after another; `None`
    /// where it is not the present state of a room that `user_id` is in: who has
    /// left gets the state of when they left.
    pub fn in_parts(
        (room, user): (RoomNumber, UserNumber),
        user_id: &str,
        knew: Sequence,
        events: Vec<SyncEvent>,
    ) -> Option<Vec<Self>> {
        let mut whole = WholeState::default();
        let mut joined = BTreeSet::new();
        for event in &events {
            let Some(state_key) = &event.state_key else { continue };
            if event.kind == MEMBER {
                let content = super::summary::content(&event.json);
                let is_there = matches!(content.text("membership"), Some("join" | "invite"));
                if is_there && whole.some.len() < SOME_MAX {
                    whole.some.push(content.hero(state_key));
                }
                match content.text("membership") {
                    Some("join") => {
                        whole.joined_count += 1;
                        joined.insert(state_key.clone());
                    }
                    Some("invite") => whole.invited_count += 1,
                    _ => {}
                }
            }
            whole.entries.insert((event.kind.clone(), state_key.clone()));
        }
        let has_create = whole.entries.contains(&("m.room.create".to_owned(), String::new()));
        if !joined.contains(user_id) || !has_create {
            return None;
        }
        let joined = Arc::new(joined);
        let part = |events: &[SyncEvent]| Self {
            room,
            user,
            knew,
            events: events.to_vec(),
            joined: Some(Arc::clone(&joined)),
            whole: None,
        };
        let mut parts: Vec<Self> = events.chunks(ENTRIES_AT_ONCE).map(part).collect();
        if let Some(last) = parts.last_mut() {
            last.joined = None;
            last.whole = Some(whole);
        }
        Some(parts)
    }
}

impl Fold<'_> {
    /// Takes in the state of a room, or a part of it.
    pub(super) fn room_state(&mut self, state: RoomState) -> Reply {
        let Some(room) = self.ledger.world.room(state.room) else { return Reply::Done };
        let mut room = (**room).clone();
        if let Some(joined) = &state.joined {
            self.withhold_unless(&mut room, state.knew, |id| joined.contains(id));
        }
        let counts = (room.joined_count, room.invited_count);
        for event in &state.events {
            let Some(state_key) = event.state_key.as_deref() else { continue };
            if self.is_due(&room, event, state_key, state.knew) {
                let claim = StateClaim { event, knew: state.knew.0 };
                self.claim_fetched(&mut room, state_key, claim);
            }
        }
        (room.joined_count, room.invited_count) = counts;
        // Somebody's end may be newer than a join that was told meanwhile.
        let told: Vec<&SyncEvent> = state.events.iter().filter(|it| it.kind == MEMBER).collect();
        self.old_ends(state.user, &room, &told);
        if let Some(whole) = &state.whole {
            // Whoever was out by then has been put out just now.
            self.show_asides(&mut room, |end| end.changed <= state.knew);
            self.drop_untold(&mut room, whole, state.knew);
            Self::fill_heroes_from(&mut room, &whole.some);
            if room.last_event <= state.knew {
                room.joined_count = whole.joined_count;
                room.invited_count = whole.invited_count;
                room.counts_exact = true;
            }
            room.repaired = room.repaired.max(state.knew);
            room.repaired_ms = self.now_ms;
            // Who asked for it learns so that the doubt is over, also where nothing else
            // says so.
            self.suspect(state.user, state.room);
        }
        self.note_summary(&mut room);
        self.set_room(room);
        Reply::Done
    }

    /// Whether an entry of a fetched state is one to be kept. Members are loaded
    /// lazily: those that are not known are of no interest while the list is
    /// incomplete.
    fn is_due(&self, room: &Room, event: &SyncEvent, state_key: &str, knew: Sequence) -> bool {
        let was_removed_since = room.removed.iter().any(|removed| {
            removed.changed > knew
                && *removed.kind == *event.kind
                && *removed.state_key == *state_key
        });
        let key = key::state(room.number, &event.kind, state_key);
        let is_wanted =
            event.kind != MEMBER || room.members_complete || self.get(Table::State, &key).is_some();
        is_wanted && !was_removed_since
    }

    /// Drops the entries that the homeserver does not have, and that were known
    /// when it was asked.
    fn drop_untold(&mut self, room: &mut Room, whole: &WholeState, knew: Sequence) {
        let mut gone: Vec<(key::Key, String, String)> = Vec::new();
        self.scan(Table::State, &key::room(room.number), &mut |key, archive| {
            if let Some(entry) = StateRecord::access(archive)
                && entry.changed.to_native() <= knew.0
            {
                let entry = (entry.kind.to_string(), entry.state_key.to_string());
                if !whole.entries.contains(&entry) {
                    gone.push((key.into(), entry.0, entry.1));
                }
            }
            true
        });
        for (key, kind, state_key) in gone {
            self.drop_entry(room, key, &kind, &state_key);
            if kind == MEMBER {
                self.member_gone(room, &state_key, knew);
            }
        }
    }
}
