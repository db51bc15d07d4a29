//! The snapshot of everything global: what is the same for everyone.
//!
//! The ledger makes worlds; everyone else reads them. A published world never
//! changes (INV-4), and versions share what did not change. No event bodies, no
//! member lists, and nothing that depends on who asks.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};

use crate::{
    id::{RoomNumber, Sequence, UserNumber},
    record::RoomRecord,
    upstream::{Known, Lately},
    view::Pending,
};

/// One version of the global facts.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Grows by one with every publication.
    pub version: u64,
    /// The last number that the ledger has given out in this version.
    pub sequence: Sequence,
    /// Every room, by number.
    pub rooms: Vector<Arc<Room>>,
    /// Every room's number, by id.
    pub room_numbers: OrdMap<Arc<str>, RoomNumber>,
    /// Every local user's id, by number.
    pub user_ids: Vector<Arc<str>>,
    /// Every local user's number, by id.
    pub user_numbers: OrdMap<Arc<str>, UserNumber>,
    /// What is part of this version and not yet in the store.
    pub pending: Pending,
}

impl World {
    /// A room by number.
    pub fn room(&self, room: RoomNumber) -> Option<&Arc<Room>> {
        self.rooms.get(room.0 as usize)
    }

    /// A room by id.
    pub fn find_room(&self, room_id: &str) -> Option<&Arc<Room>> {
        self.room_numbers.get(room_id).and_then(|room| self.room(*room))
    }

    /// What was told of a room lately, by its id.
    pub fn lately(&self, room_id: &str) -> Option<Known<'_>> {
        let room = self.find_room(room_id)?;
        let (number, state_changed) = (room.number, room.state_changed);
        let lately = room.lately.as_deref()?;
        Some(Known { room: number, state_changed, lately })
    }

    /// A user's id.
    pub fn user_id(&self, user: UserNumber) -> Option<&Arc<str>> {
        self.user_ids.get(user.0 as usize)
    }
}

/// A member who may give a room without a name its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hero {
    /// Who.
    pub user_id: Arc<str>,
    /// `displayname` of the member event, where it is a string.
    pub displayname: Option<Arc<str>>,
    /// `avatar_url` of the member event, where it is a string.
    pub avatar_url: Option<Arc<str>>,
}

/// How many heroes are kept, so that five remain without the one who asks.
pub const HEROES_MAX: usize = 6;

/// An entry of a room's state that is there no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// `type`.
    pub kind: Arc<str>,
    /// `state_key`.
    pub state_key: Arc<str>,
    /// When it was found to be gone, in the ledger's sequence.
    pub changed: Sequence,
}

/// A member event that is not part of a room's state yet: the end of a stay of which its
/// user's own poller alone has told, beside the timeline, or a member that was fetched for
/// one user. Whoever else is taken for a member may have been out by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Whose it is.
    pub user_id: Arc<str>,
    /// Their member event.
    pub event_id: Arc<str>,
    /// When it was told, in the ledger's sequence.
    pub changed: Sequence,
    /// For whom the homeserver gave it when it was asked for it: they may see it. Not kept
    /// over a restart.
    pub given_to: OrdSet<UserNumber>,
}

/// A room's global facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Its number.
    pub number: RoomNumber,
    /// Its id.
    pub id: Arc<str>,
    /// `room_version` of the create event.
    pub version: Option<Arc<str>>,
    /// `type` of the create event.
    pub room_type: Option<Arc<str>>,
    /// Whether the create event was seen.
    pub created: bool,
    /// `m.room.name`, where it is a string that is not empty.
    pub name: Option<Arc<str>>,
    /// `m.room.canonical_alias`.
    pub canonical_alias: Option<Arc<str>>,
    /// `url` of `m.room.avatar`, where it is a string that is not empty.
    pub avatar: Option<Arc<str>>,
    /// `algorithm` of `m.room.encryption`; empty where it is malformed, and
    /// once set never unset.
    pub encryption: Option<Arc<str>>,
    /// `replacement_room` of `m.room.tombstone`; empty where it is malformed.
    pub successor: Option<Arc<str>>,
    /// Joined members.
    pub joined_count: u64,
    /// Invited members.
    pub invited_count: u64,
    /// Whether the counts started from a homeserver's summary.
    pub counts_exact: bool,
    /// Up to [`HEROES_MAX`] members, in the homeserver's order.
    pub heroes: Arc<[Hero]>,
    /// Whether every joined and invited member is in the stored state.
    pub members_complete: bool,
    /// The number of the last timeline event; 0 where there is none.
    pub last_event: Sequence,
    /// The number of the first event behind the timeline's last gap; 0 where it has
    /// none. What lies from there on is for members of whom it is known that the gap
    /// does not hide their end.
    pub last_gap: Sequence,
    /// Whether events were told that have no place in the timeline, since nothing says
    /// whether they are newer. What comes next begins behind a gap.
    pub lacks_newest: bool,
    /// When the last timeline event came, unix milliseconds, never falling:
    /// with `last_event` it orders lists.
    pub recency_ms: u64,
    /// `bump_stamp`: when the last bump event came, unix milliseconds, never
    /// falling.
    pub bump_stamp: u64,
    /// When an entry of the state last changed.
    pub state_changed: Sequence,
    /// When a member that was known last changed otherwise than by a new event of
    /// the timeline.
    pub members_corrected: Sequence,
    /// When a fact of this summary that clients see last changed: name, alias,
    /// avatar, counts, heroes.
    pub summary_changed: Sequence,
    /// Entries of the state that were removed and not set again, oldest first; at
    /// most as many as the ledger's limits say.
    pub removed: Arc<[Removed]>,
    /// Entries may have been removed up to this number that are not among them.
    pub removed_before: Sequence,
    /// Member events that become part of the state when somebody else's answer stands
    /// for them, oldest first and one for each user; at most as many as the ledger's
    /// limits say.
    pub asides: Arc<[Aside]>,
    /// When the stored state last came to be in doubt.
    pub suspected: Sequence,
    /// Up to here it was compared with the homeserver's.
    pub repaired: Sequence,
    /// When that was, unix milliseconds.
    pub repaired_ms: u64,
    /// When the last receipt came.
    pub receipts_changed: Sequence,
    /// Who is typing.
    pub typing: Arc<[Arc<str>]>,
    /// When that last changed. Not kept over a restart.
    pub typing_changed: Sequence,
    /// Local users who have a relation to the room, whichever it is.
    pub local_users: OrdMap<UserNumber, ()>,
    /// What was told of it lately, where several users may be told the same. Not
    /// kept over a restart.
    pub lately: Option<Arc<Lately>>,
}

impl Room {
    /// The number after which nothing of the room has changed for anyone.
    pub fn changed(&self) -> Sequence {
        let facts =
            [self.state_changed, self.summary_changed, self.receipts_changed, self.typing_changed];
        facts.into_iter().fold(self.last_event, Sequence::max)
    }

    /// Whether the stored state is in doubt.
    pub fn is_suspect(&self) -> bool {
        self.suspected > self.repaired
    }

    /// Notes that an entry of the state is there no more. `max` of them are known.
    pub fn note_removed(&mut self, removed: Removed, max: usize) {
        let mut all: Vec<Removed> = self.removed.to_vec();
        all.retain(|it| (&it.kind, &it.state_key) != (&removed.kind, &removed.state_key));
        all.push(removed);
        let surplus = all.len().saturating_sub(max);
        for removed in all.drain(..surplus) {
            self.removed_before = self.removed_before.max(removed.changed);
        }
        self.removed = all.into();
    }

    /// Notes that an entry of the state is there.
    pub fn note_set(&mut self, kind: &str, state_key: &str) {
        let is_it = |it: &Removed| *it.kind == *kind && *it.state_key == *state_key;
        if self.removed.iter().any(is_it) {
            self.removed = self.removed.iter().filter(|it| !is_it(it)).cloned().collect();
        }
    }

    /// A user's member event that is not part of the state yet.
    pub fn aside(&self, user_id: &str) -> Option<&Aside> {
        self.asides.iter().find(|it| *it.user_id == *user_id)
    }

    /// What the store keeps of it.
    pub fn to_record(&self) -> RoomRecord {
        let text = |value: &Option<Arc<str>>| value.as_deref().map(str::to_owned);
        let hero = |hero: &Hero| {
            (hero.user_id.to_string(), text(&hero.displayname), text(&hero.avatar_url))
        };
        let removed = |it: &Removed| (it.kind.to_string(), it.state_key.to_string(), it.changed.0);
        let aside = |it: &Aside| (it.user_id.to_string(), it.event_id.to_string(), it.changed.0);
        RoomRecord {
            version: text(&self.version),
            room_type: text(&self.room_type),
            created: self.created,
            name: text(&self.name),
            canonical_alias: text(&self.canonical_alias),
            avatar: text(&self.avatar),
            encryption: text(&self.encryption),
            successor: text(&self.successor),
            joined_count: self.joined_count,
            invited_count: self.invited_count,
            counts_exact: self.counts_exact,
            heroes: self.heroes.iter().map(hero).collect(),
            members_complete: self.members_complete,
            last_event: self.last_event.0,
            last_gap: self.last_gap.0,
            lacks_newest: self.lacks_newest,
            recency_ms: self.recency_ms,
            bump_stamp: self.bump_stamp,
            state_changed: self.state_changed.0,
            members_corrected: self.members_corrected.0,
            summary_changed: self.summary_changed.0,
            removed: self.removed.iter().map(removed).collect(),
            removed_before: self.removed_before.0,
            asides: self.asides.iter().map(aside).collect(),
            suspected: self.suspected.0,
            repaired: self.repaired.0,
            repaired_ms: self.repaired_ms,
            receipts_changed: self.receipts_changed.0,
        }
    }

    /// The room that the store kept as `record`; its local users are not part
    /// of it.
    pub fn from_record(number: RoomNumber, id: Arc<str>, record: RoomRecord) -> Self {
        let text = |value: Option<String>| value.map(Arc::<str>::from);
        let hero = |(user_id, displayname, avatar_url): (String, _, _)| Hero {
            user_id: user_id.into(),
            displayname: text(displayname),
            avatar_url: text(avatar_url),
        };
        let removed = |(kind, state_key, changed): (String, String, u64)| Removed {
            kind: kind.into(),
            state_key: state_key.into(),
            changed: Sequence(changed),
        };
        let aside = |(user_id, event_id, changed): (String, String, u64)| Aside {
            user_id: user_id.into(),
            event_id: event_id.into(),
            changed: Sequence(changed),
            given_to: OrdSet::new(),
        };
        Self {
            number,
            id,
            version: text(record.version),
            room_type: text(record.room_type),
            created: record.created,
            name: text(record.name),
            canonical_alias: text(record.canonical_alias),
            avatar: text(record.avatar),
            encryption: text(record.encryption),
            successor: text(record.successor),
            joined_count: record.joined_count,
            invited_count: record.invited_count,
            counts_exact: record.counts_exact,
            heroes: record.heroes.into_iter().map(hero).collect(),
            members_complete: record.members_complete,
            last_event: Sequence(record.last_event),
            last_gap: Sequence(record.last_gap),
            lacks_newest: record.lacks_newest,
            recency_ms: record.recency_ms,
            bump_stamp: record.bump_stamp,
            state_changed: Sequence(record.state_changed),
            members_corrected: Sequence(record.members_corrected),
            summary_changed: Sequence(record.summary_changed),
            removed: record.removed.into_iter().map(removed).collect(),
            removed_before: Sequence(record.removed_before),
            asides: record.asides.into_iter().map(aside).collect(),
            suspected: Sequence(record.suspected),
            repaired: Sequence(record.repaired),
            repaired_ms: record.repaired_ms,
            receipts_changed: Sequence(record.receipts_changed),
            typing: Arc::default(),
            typing_changed: Sequence::default(),
            local_users: OrdMap::default(),
            lately: None,
        }
    }
}
