//! A user on their shard: rooms in order, account data, what changed when.
//!
//! Lives on the user's shard and nowhere else (INV-1). Everything is rebuilt
//! from the tables; nothing here is sent to anybody or written anywhere.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    id::{RoomNumber, Sequence, UserNumber},
    ledger::UserChange,
    record::{AccountDataRecord, Membership, Place, UserRecord, UserRoomRecord, key},
    view::{Direction, Table, View},
    world::World,
};

/// Where a room stands in a user's list: the one of the last event first.
pub type Rank = (Reverse<u64>, Reverse<Sequence>, RoomNumber);

/// One user.
#[derive(Clone, Debug)]
pub struct User {
    /// Their number.
    pub number: UserNumber,
    /// Their id.
    pub id: Arc<str>,
    /// Whether the homeserver has told of all their rooms.
    pub rooms_known: bool,
    /// Every room they have a relation to.
    pub rooms: BTreeMap<RoomNumber, UserRoom>,
    /// The rooms that lists are made of, in order.
    pub order: BTreeSet<Rank>,
    /// The rooms that they left by themselves, in order: shown to connections
    /// that have yet to learn of it.
    pub left: BTreeSet<Rank>,
    /// Rooms in `m.direct`.
    pub direct: BTreeSet<Arc<str>>,
    /// Users in `m.ignored_user_list`.
    pub ignored: BTreeSet<String>,
    /// When global account data last changed.
    pub account_data_changed: Sequence,
    /// When anything last changed that a response could show.
    pub changed: Sequence,
}

/// One user in one room: what of [`UserRoomRecord`] is needed at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRoom {
    /// The membership.
    pub membership: Membership,
    /// When it became that.
    pub since: Sequence,
    /// When it became that, unix milliseconds.
    pub since_ms: u64,
    /// The user's member event.
    pub own_event: Option<Place>,
    /// The first visible number of the timeline.
    pub visible_from: u64,
    /// The first visible number of what was fetched as history; `u64::MAX`
    /// where nothing was.
    pub history_from: u64,
    /// The first number behind that.
    pub history_until: u64,
    /// The number of an event before which there is no more of it; 0 for none.
    pub history_end: u64,
    /// Whether the user was ever joined, invited or knocking.
    pub ever_member: bool,
    /// Unread notifications and highlights.
    pub unread: (u64, u64),
    /// When the record last changed.
    pub changed: Sequence,
    /// Who invited, where invited.
    inviter: Option<String>,
    /// When the room's account data last changed.
    pub account_data_changed: Sequence,
    /// The room's tags.
    pub tags: Arc<[String]>,
    rank: Option<Rank>,
}

impl UserRoom {
    fn new(user: UserNumber, record: UserRoomRecord, view: &dyn View, room: RoomNumber) -> Self {
        let inviter = (record.membership == Membership::Invite)
            .then(|| record.stripped.last().and_then(|event| sender_of(event)))
            .flatten();
        let (account_data_changed, tags) = room_account_data(user, room, view);
        Self {
            membership: record.membership,
            since: Sequence(record.since),
            since_ms: record.since_ms,
            own_event: record.own_event,
            visible_from: record.visible_from,
            history_from: record.history_from,
            history_until: record.history_until,
            history_end: record.history_end,
            ever_member: record.ever_member,
            unread: (record.notification_count, record.highlight_count),
            changed: Sequence(record.changed),
            inviter,
            account_data_changed,
            tags,
            rank: None,
        }
    }

    /// Whether the user is or was in the room.
    pub fn was_joined(&self) -> bool {
        self.visible_from <= self.since.0 || self.membership == Membership::Join
    }

    /// The stripped state of an invite or knock, as the store has it.
    pub(crate) fn stripped(
        &self,
        view: &dyn View,
        user: UserNumber,
        room: RoomNumber,
    ) -> Vec<String> {
        if !matches!(self.membership, Membership::Invite | Membership::Knock) {
            return Vec::new();
        }
        let archive = view.get(Table::UserRooms, &key::user_room(user, room));
        archive.and_then(UserRoomRecord::decode).map(|record| record.stripped).unwrap_or_default()
    }
}

fn is_ignored(ignored: &BTreeSet<String>, of_user: &UserRoom) -> bool {
    of_user.inviter.as_ref().is_some_and(|inviter| ignored.contains(inviter))
}

/// `sender` of an event.
fn sender_of(json: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Sender {
        sender: String,
    }
    serde_json::from_str::<Sender>(json).ok().map(|event| event.sender)
}

impl User {
    /// The user as the tables know them.
    pub fn load(number: UserNumber, id: Arc<str>, world: &World, view: &dyn View) -> Self {
        let known = view.get(Table::Devices, &key::user(number)).and_then(UserRecord::decode);
        let mut user = Self {
            number,
            id,
            rooms_known: known.is_some_and(|record| record.rooms_known),
            rooms: BTreeMap::new(),
            order: BTreeSet::new(),
            left: BTreeSet::new(),
            direct: BTreeSet::new(),
            ignored: BTreeSet::new(),
            account_data_changed: Sequence::default(),
            changed: world.sequence,
        };
        let from = key::of_user(number);
        let to = key::after_prefix(&from);
        let mut records = Vec::new();
        view.scan(Table::UserRooms, &from, &to, Direction::Forward, &mut |key, archive| {
            if let (Some(room), Some(record)) = (key::room_of(key), UserRoomRecord::decode(archive))
            {
                records.push((room, record));
            }
            true
        });
        for (room, record) in records {
            user.rooms.insert(room, UserRoom::new(number, record, view, room));
        }
        user.read_global_account_data(view);
        let rooms: Vec<RoomNumber> = user.rooms.keys().copied().collect();
        for room in rooms {
            user.place(room, world);
        }
        user
    }

    /// Takes in that records of the user's own changed.
    pub fn apply(&mut self, change: &UserChange, world: &World, view: &dyn View) {
        self.changed = world.sequence;
        self.rooms_known |= change.rooms_known;
        if !change.account_data.is_empty() {
            let ignored = self.ignored.clone();
            self.read_global_account_data(view);
            self.account_data_changed = self.account_data_changed.max(world.sequence);
            if ignored != self.ignored {
                let rooms: Vec<RoomNumber> = self.rooms.keys().copied().collect();
                rooms.into_iter().for_each(|room| self.place(room, world));
            }
        }
        for room in &change.rooms {
            let archive = view.get(Table::UserRooms, &key::user_room(self.number, *room));
            let previous = self.rooms.remove(room);
            self.unrank(previous.and_then(|room| room.rank));
            if let Some(record) = archive.and_then(UserRoomRecord::decode) {
                self.rooms.insert(*room, UserRoom::new(self.number, record, view, *room));
                self.place(*room, world);
            }
        }
        for room in &change.room_account_data {
            if let Some(of_user) = self.rooms.get_mut(room) {
                let (changed, tags) = room_account_data(self.number, *room, view);
                of_user.account_data_changed = changed;
                of_user.tags = tags;
            }
        }
    }

    /// Takes in that a room's global facts changed.
    pub fn room_changed(&mut self, room: RoomNumber, world: &World) {
        if self.rooms.contains_key(&room) {
            self.changed = world.sequence;
            self.place(room, world);
        }
    }

    /// Whether this is an invite by somebody whom the user ignores.
    pub(crate) fn ignores(&self, of_user: &UserRoom) -> bool {
        is_ignored(&self.ignored, of_user)
    }

    fn unrank(&mut self, rank: Option<Rank>) {
        if let Some(rank) = rank {
            self.order.remove(&rank);
            self.left.remove(&rank);
        }
    }

    /// Puts a room where it belongs in the lists.
    fn place(&mut self, room: RoomNumber, world: &World) {
        let (Some(of_user), Some(facts)) = (self.rooms.get_mut(&room), world.room(room)) else {
            return;
        };
        let (recency_ms, sequence) = match of_user.membership {
            Membership::Join if facts.last_event > Sequence::default() => {
                (facts.recency_ms, facts.last_event)
            }
            _ => (of_user.since_ms, of_user.since),
        };
        let rank = (Reverse(recency_ms), Reverse(sequence), room);
        let ignored = is_ignored(&self.ignored, of_user);
        let (in_order, in_left) = match of_user.membership {
            Membership::Join | Membership::Knock => (true, false),
            Membership::Invite => (!ignored, false),
            Membership::Kick | Membership::Ban => (of_user.ever_member, false),
            Membership::Leave => (false, of_user.ever_member),
        };
        let previous = of_user.rank.replace(rank);
        if previous != Some(rank) {
            self.unrank(previous);
        }
        let set = |set: &mut BTreeSet<Rank>, is_in| {
            if is_in {
                set.insert(rank)
            } else {
                set.remove(&rank)
            };
        };
        set(&mut self.order, in_order);
        set(&mut self.left, in_left);
    }

    fn read_global_account_data(&mut self, view: &dyn View) {
        let from = key::account_data_of(self.number, None);
        let to = key::after_prefix(&from);
        let mut changed = Sequence::default();
        view.scan(Table::AccountData, &from, &to, Direction::Forward, &mut |_, archive| {
            if let Some(record) = AccountDataRecord::access(archive) {
                changed = changed.max(Sequence(record.changed.to_native()));
            }
            true
        });
        self.account_data_changed = changed;
        let content = |kind: &str| {
            let archive = view.get(Table::AccountData, &key::account_data(self.number, None, kind));
            content_of(&AccountDataRecord::access(archive?)?.json)
        };
        self.direct = content("m.direct").map(|content| direct_rooms(&content)).unwrap_or_default();
        self.ignored = content("m.ignored_user_list")
            .and_then(|content| {
                let users = content.get("ignored_users")?.as_object()?;
                Some(users.keys().cloned().collect())
            })
            .unwrap_or_default();
    }
}

fn content_of(json: &str) -> Option<serde_json::Value> {
    let mut event: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(event.get_mut("content")?.take())
}

fn direct_rooms(content: &serde_json::Value) -> BTreeSet<Arc<str>> {
    let lists = content.as_object().into_iter().flat_map(serde_json::Map::values);
    let rooms = lists.filter_map(serde_json::Value::as_array).flatten();
    rooms.filter_map(serde_json::Value::as_str).map(Arc::from).collect()
}

/// When a room's account data last changed, and its tags.
fn room_account_data(
    user: UserNumber,
    room: RoomNumber,
    view: &dyn View,
) -> (Sequence, Arc<[String]>) {
    let from = key::account_data_of(user, Some(room));
    let to = key::after_prefix(&from);
    let mut changed = Sequence::default();
    let mut any = false;
    view.scan(Table::AccountData, &from, &to, Direction::Forward, &mut |_, archive| {
        if let Some(record) = AccountDataRecord::access(archive) {
            any = true;
            changed = changed.max(Sequence(record.changed.to_native()));
        }
        true
    });
    if !any {
        return (changed, Arc::default());
    }
    let archive = view.get(Table::AccountData, &key::account_data(user, Some(room), "m.tag"));
    let tags = archive.and_then(AccountDataRecord::access).and_then(|it| content_of(&it.json));
    let tags = tags.as_ref().and_then(|content| content.get("tags")?.as_object());
    (changed, tags.map(|tags| tags.keys().cloned().collect()).unwrap_or_default())
}
