//! A user on their shard: rooms in order, account data, what changed when.
//!
//! Lives on the user's shard and nowhere else (INV-1). Everything is rebuilt
//! from the tables; nothing here is sent to anybody or written anywhere.

mod direct;
mod loading;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use loading::{Loading, ReadRooms};

use crate::{
    id::{RoomNumber, Sequence, UserNumber},
    ledger::UserChange,
    record::{AccountDataRecord, Membership, Place, UserRecord, UserRoomRecord, key},
    view::{Direction, Table, View},
    world::{Room, World},
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
    pub order: Order,
    /// The rooms that they left by themselves, or were banned from as an invite,
    /// in order: where lists do not have them, shown to connections that have yet
    /// to learn of it.
    pub left: Order,
    /// Rooms in `m.direct`.
    pub direct: BTreeSet<Arc<str>>,
    /// Users in `m.ignored_user_list`.
    pub ignored: BTreeSet<String>,
    /// When global account data last changed.
    pub account_data_changed: Sequence,
    /// When anything last changed that a response could show.
    pub changed: Sequence,
    news: News,
}

/// Rooms in the order of lists.
#[derive(Clone, Debug, Default)]
pub struct Order {
    ranks: BTreeSet<Rank>,
    digest: u64,
}

impl Order {
    /// The rooms, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rank> {
        self.ranks.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// Tells sets of rooms apart, whatever their order: the sum of
    /// [`digest_of_room`] of each.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn insert(&mut self, rank: Rank) {
        if self.ranks.insert(rank) {
            self.digest = self.digest.wrapping_add(digest_of_room(rank.2));
        }
    }

    fn remove(&mut self, rank: Rank) {
        if self.ranks.remove(&rank) {
            self.digest = self.digest.wrapping_sub(digest_of_room(rank.2));
        }
    }
}

/// What a room adds to the digest of a set of rooms: its number, its bits mixed
/// so that no two small sets have the same sum.
pub fn digest_of_room(room: RoomNumber) -> u64 {
    let mut mixed = u64::from(room.0).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Which rooms changed, in the order in which this user was told of it.
#[derive(Clone, Debug, Default)]
struct News {
    /// How often the user was told of something.
    count: u64,
    /// The rooms that changed since the user is in memory, each by its last
    /// change.
    rooms: BTreeSet<(u64, RoomNumber)>,
    /// The last change that may concern every room.
    everywhere: u64,
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
    /// The last events of a stay that has ended, by id, where the timeline lacks
    /// some of them.
    pub ending: Vec<String>,
    /// Up to where they were told that they are joined, as far as gaps go.
    pub vouched: Sequence,
    /// Whether the user was ever joined, invited or knocking.
    pub ever_member: bool,
    /// Unread notifications and highlights.
    pub unread: (u64, u64),
    /// When the record last changed.
    pub changed: Sequence,
    /// When anything of it but the unread counts last changed, as far as is known:
    /// not later than `changed`.
    pub changed_but_unread: Sequence,
    /// Whether the tables were ahead of the world when it was read: what came of it
    /// then may lack what that world did not have.
    is_ahead: bool,
    /// Who invited, where invited.
    inviter: Option<String>,
    /// When the room's account data last changed.
    pub account_data_changed: Sequence,
    /// The room's tags.
    pub tags: Arc<[String]>,
    rank: Option<Rank>,
    /// The room's last change among the user's news; 0 for none.
    heard: u64,
}

impl UserRoom {
    fn new(
        record: UserRoomRecord,
        (account_data_changed, tags): RoomAccountData,
        world: &World,
    ) -> Self {
        let inviter = (record.membership == Membership::Invite)
            .then(|| record.stripped.last().and_then(|event| sender_of(event)))
            .flatten();
        Self {
            membership: record.membership,
            since: Sequence(record.since),
            since_ms: record.since_ms,
            own_event: record.own_event,
            visible_from: record.visible_from,
            history_from: record.history_from,
            history_until: record.history_until,
            history_end: record.history_end,
            ending: record.ending,
            vouched: Sequence(record.vouched),
            ever_member: record.ever_member,
            unread: (record.notification_count, record.highlight_count),
            changed: Sequence(record.changed),
            changed_but_unread: Sequence(record.changed),
            is_ahead: record.changed > world.sequence.0,
            inviter,
            account_data_changed,
            tags,
            rank: None,
            heard: 0,
        }
    }

    /// Takes in a record of a member that differs in its unread counts alone; false,
    /// and nothing is taken in, where it is another, or where the known one was ahead
    /// of the world when it was read, which had told of changes up to `known_to`.
    fn counts_changed(&mut self, record: &UserRoomRecord, known_to: Sequence) -> bool {
        let UserRoomRecord {
            membership,
            since,
            since_ms,
            own_event,
            visible_from,
            history_from,
            history_until,
            history_end,
            vouched,
            ever_member,
            notification_count,
            highlight_count,
            changed,
            // Members have none.
            stripped: _,
            ending,
        } = record;
        let is_alone = !self.is_ahead
            && self.changed <= known_to
            && (self.membership, *membership) == (Membership::Join, Membership::Join)
            && (self.since.0, self.since_ms, self.vouched.0) == (*since, *since_ms, *vouched)
            && (self.own_event, self.ever_member) == (*own_event, *ever_member)
            && self.visible_from == *visible_from
            && (self.history_from, self.history_until, self.history_end)
                == (*history_from, *history_until, *history_end)
            && self.ending == *ending;
        if is_alone {
            self.unread = (*notification_count, *highlight_count);
            self.changed = Sequence(*changed);
        }
        is_alone
    }

    /// Whether the user is or was in the room.
    pub fn was_joined(&self) -> bool {
        self.visible_from <= self.since.0
            || !self.ending.is_empty()
            || self.membership == Membership::Join
    }

    /// Whether the user is joined as far as is known, and the room's last gap may
    /// hide that they are not: of what came since nothing is theirs until their own
    /// poller tells.
    pub fn is_withheld(&self, room: &Room) -> bool {
        self.membership == Membership::Join && self.vouched < room.last_gap
    }

    /// Whether what the user's own poller says next lets more of the room be seen, also
    /// where it says nothing: it vouches for them, or for a member event of another's.
    pub fn is_waited_for(&self, room: &Room) -> bool {
        self.membership == Membership::Join && (self.is_withheld(room) || !room.asides.is_empty())
    }

    /// Whether the user is joined for certain, and sees the room as it is.
    pub fn is_in(&self, room: &Room) -> bool {
        self.membership == Membership::Join && !self.is_withheld(room)
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
        let mut loading = Loading::begin(number, id, world, view);
        while !loading.read(loading::AT_ONCE, world, view).is_whole {}
        loading.finish()
    }

    /// All of the user but their rooms.
    fn without_rooms(number: UserNumber, id: Arc<str>, world: &World, view: &dyn View) -> Self {
        let known = view.get(Table::Devices, &key::user(number)).and_then(UserRecord::decode);
        let mut user = Self {
            number,
            id,
            rooms_known: known.is_some_and(|record| record.rooms_known),
            rooms: BTreeMap::new(),
            order: Order::default(),
            left: Order::default(),
            direct: BTreeSet::new(),
            ignored: BTreeSet::new(),
            account_data_changed: Sequence::default(),
            changed: world.sequence,
            news: News::default(),
        };
        user.read_global_account_data(view);
        user
    }

    /// Takes in that records of the user's own changed: whether anything did beside
    /// unread counts, which are news in one dialect alone.
    pub fn apply(&mut self, change: &UserChange, world: &World, view: &dyn View) -> bool {
        let facts = change.account_data.len() + change.room_account_data.len();
        let mut is_news = change.rooms_known || facts > 0;
        let known_to = self.changed;
        self.changed = world.sequence;
        self.rooms_known |= change.rooms_known;
        if !change.account_data.is_empty() {
            let ignored = std::mem::take(&mut self.ignored);
            let direct = std::mem::take(&mut self.direct);
            self.read_global_account_data(view);
            self.account_data_changed = self.account_data_changed.max(world.sequence);
            if ignored != self.ignored || direct != self.direct {
                self.news.count += 1;
                self.news.everywhere = self.news.count;
            }
            if ignored != self.ignored {
                let invites =
                    self.rooms.iter().filter(|(_, it)| it.membership == Membership::Invite);
                let invites: Vec<RoomNumber> = invites.map(|(room, _)| *room).collect();
                invites.into_iter().for_each(|room| self.place(room, world));
            }
        }
        for room in &change.rooms {
            let archive = view.get(Table::UserRooms, &key::user_room(self.number, *room));
            let record = archive.and_then(UserRoomRecord::decode);
            let known = self.rooms.get_mut(room).zip(record.as_ref());
            if known.is_some_and(|(known, record)| known.counts_changed(record, known_to)) {
                continue;
            }
            is_news = true;
            let previous = self.rooms.remove(room);
            self.unrank(previous.as_ref().and_then(|room| room.rank));
            if let Some(previous) = &previous {
                self.news.rooms.remove(&(previous.heard, *room));
            }
            if let Some(record) = record {
                let account_data = self.room_account_data(*room, view);
                let mut of_user = UserRoom::new(record, account_data, world);
                let same_stay = |it: &UserRoom| {
                    (it.membership, it.since) == (of_user.membership, of_user.since)
                };
                of_user.rank = previous.filter(same_stay).and_then(|previous| previous.rank);
                self.rooms.insert(*room, of_user);
                self.place(*room, world);
                self.hear(*room);
            }
        }
        for room in &change.room_account_data {
            let (changed, tags) = self.room_account_data(*room, view);
            if let Some(of_user) = self.rooms.get_mut(room) {
                of_user.account_data_changed = changed;
                of_user.tags = tags;
                self.hear(*room);
            }
        }
        is_news
    }

    /// Takes in that a room's global facts changed.
    pub fn room_changed(&mut self, room: RoomNumber, world: &World) {
        if self.rooms.contains_key(&room) {
            self.changed = world.sequence;
            self.place(room, world);
            self.hear(room);
        }
    }

    /// Whether this is an invite by somebody whom the user ignores.
    pub(crate) fn ignores(&self, of_user: &UserRoom) -> bool {
        is_ignored(&self.ignored, of_user)
    }

    /// How much the user was told of so far. Numbers of one run of the user's
    /// time in memory: they mean nothing to another.
    pub fn news(&self) -> u64 {
        self.news.count
    }

    /// The rooms that changed behind `news`, in no particular order; `None`
    /// where every room may have.
    pub fn rooms_since(&self, news: u64) -> Option<impl Iterator<Item = RoomNumber>> {
        let behind = (news.saturating_add(1), RoomNumber(0));
        let rooms = self.news.rooms.range(behind..).map(|(_, room)| *room);
        (self.news.everywhere <= news).then_some(rooms)
    }

    /// Notes that something about a room changed.
    fn hear(&mut self, room: RoomNumber) {
        let Some(of_user) = self.rooms.get_mut(&room) else { return };
        self.news.count += 1;
        let before = std::mem::replace(&mut of_user.heard, self.news.count);
        self.news.rooms.remove(&(before, room));
        self.news.rooms.insert((self.news.count, room));
    }

    fn room_account_data(&self, room: RoomNumber, view: &dyn View) -> RoomAccountData {
        let from = key::account_data_of(self.number, Some(room));
        let found = room_account_data(&from, &key::after_prefix(&from), view);
        found.into_iter().next().map(|(_, it)| it).unwrap_or_default()
    }

    fn unrank(&mut self, rank: Option<Rank>) {
        if let Some(rank) = rank {
            self.order.remove(rank);
            self.left.remove(rank);
        }
    }

    /// Puts a room where it belongs in the lists.
    fn place(&mut self, room: RoomNumber, world: &World) {
        let (Some(of_user), Some(facts)) = (self.rooms.get_mut(&room), world.room(room)) else {
            return;
        };
        let (recency_ms, sequence) = match of_user.membership {
            Membership::Join if of_user.is_withheld(facts) => match of_user.rank {
                // It stays where it was.
                Some((Reverse(recency_ms), Reverse(sequence), _)) => (recency_ms, sequence),
                None => (of_user.since_ms, of_user.since),
            },
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
            Membership::Kick => (of_user.ever_member, false),
            Membership::Ban => (of_user.ever_member, of_user.ever_member && !of_user.was_joined()),
            Membership::Leave => (false, of_user.ever_member),
        };
        let previous = of_user.rank.replace(rank);
        if previous != Some(rank) {
            self.unrank(previous);
        }
        let set = |order: &mut Order, is_in| {
            if is_in { order.insert(rank) } else { order.remove(rank) }
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
        let event = |kind: &str| {
            let archive = view.get(Table::AccountData, &key::account_data(self.number, None, kind));
            AccountDataRecord::access(archive?).map(|record| &*record.json)
        };
        self.direct = event("m.direct").map(direct::rooms).unwrap_or_default();
        self.ignored = event("m.ignored_user_list")
            .and_then(|json| {
                let content = content_of(json)?;
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

/// When a room's account data last changed, and its tags.
type RoomAccountData = (Sequence, Arc<[String]>);

/// The account data of rooms whose keys lie from one on up to another, in order
/// of the rooms.
fn room_account_data(
    from: &[u8],
    to: &[u8],
    view: &dyn View,
) -> Vec<(RoomNumber, RoomAccountData)> {
    let mut rooms = Vec::<(RoomNumber, RoomAccountData)>::new();
    view.scan(Table::AccountData, from, to, Direction::Forward, &mut |key, archive| {
        if let Some(room) = key::room_of(key)
            && let Some(record) = AccountDataRecord::access(archive)
        {
            if rooms.last().is_none_or(|(last, _)| *last != room) {
                rooms.push((room, RoomAccountData::default()));
            }
            if let Some((_, (changed, tags))) = rooms.last_mut() {
                *changed = (*changed).max(Sequence(record.changed.to_native()));
                if key::is_account_data_of_type(key, "m.tag") {
                    *tags = self::tags(&record.json);
                }
            }
        }
        true
    });
    rooms
}

/// The names of the tags in an `m.tag`.
fn tags(json: &str) -> Arc<[String]> {
    #[derive(serde::Deserialize)]
    struct Event {
        content: Content,
    }
    #[derive(serde::Deserialize)]
    struct Content {
        tags: serde_json::Map<String, serde_json::Value>,
    }
    let event: Option<Event> = serde_json::from_str(json).ok();
    event
        .map(|event| event.content.tags.into_iter().map(|(tag, _)| tag).collect())
        .unwrap_or_default()
}
