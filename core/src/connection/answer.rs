//! A request and what was sent before, into a response and what is sent then.

use std::{collections::BTreeSet, sync::Arc};

use imbl::OrdMap;
use rustc_hash::FxHashMap;

use super::{
    left, member,
    state::{SentList, SentRoom, State, digest},
};
use crate::{
    extension,
    gate::Gate,
    id::{DeviceNumber, RoomNumber, Sequence, UserNumber},
    list::{self, Operation, Source},
    record::{DeviceRecord, Membership},
    request::{ListRequest, Request, RoomConfig},
    response::{self, List, Response, Window},
    user::Rank,
};

/// What a request is answered from.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The world, the user and the tables.
    pub source: Source<'a>,
    /// The device that asks.
    pub device: DeviceNumber,
    /// What is known of it.
    pub of_device: &'a DeviceRecord,
    /// When its device lists last changed, or later.
    pub device_lists_changed: Sequence,
    /// How long an event of the user's own waits for the device's poller to
    /// tell of it, in milliseconds; 0 where nothing is to wait.
    pub transaction_id_wait_ms: u64,
    /// The request.
    pub request: &'a Request,
    /// The time, unix milliseconds.
    pub now_ms: u64,
    /// What the client holds; `None` where it starts anew.
    pub base: Option<&'a State>,
}

/// A response, and what goes with it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What to send, but for its position.
    pub response: Response,
    /// What the client holds once it has that.
    pub next: State,
    /// What the response lacks because it is not stored.
    pub wants: Vec<Want>,
    /// When to answer anew at the latest, unix milliseconds: something is held
    /// back until then.
    pub again_ms: Option<u64>,
}

/// Something to fetch from the homeserver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// The whole member list of a room.
    Members(RoomNumber),
    /// One member of a room.
    Member(RoomNumber, String),
    /// The token for paging back from before an event: its number and id.
    PrevBatch(RoomNumber, u64, String),
    /// What came before the events that a user may see of a room.
    History(HistoryWant),
    /// The whole state of a room, which the stored one is compared with.
    State(RoomNumber),
    /// The rooms that a user is in.
    JoinedRooms(UserNumber),
}

/// See [`Want::History`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryWant {
    /// The room.
    pub room: RoomNumber,
    /// Who wants it, and may see it then.
    pub user: UserNumber,
    /// The number of the oldest event that they may see.
    pub before: u64,
    /// Its id.
    pub event_id: String,
    /// The homeserver's token for paging back from before it, where it is known.
    pub prev_batch: Option<String>,
    /// How many events are wanted.
    pub limit: u64,
}

impl Want {
    /// What tells this want from others: the history of one room is fetched for
    /// one user once at a time, from wherever it is.
    #[must_use]
    pub fn key(&self) -> Self {
        match self {
            Self::History(HistoryWant { room, user, .. }) => {
                let (room, user) = (*room, *user);
                Self::History(HistoryWant { room, user, ..HistoryWant::default() })
            }
            other => other.clone(),
        }
    }

    /// The room that it is of, where it is of one.
    pub fn room(&self) -> Option<RoomNumber> {
        match self {
            Self::JoinedRooms(_) => None,
            Self::Members(room)
            | Self::Member(room, _)
            | Self::PrevBatch(room, ..)
            | Self::State(room)
            | Self::History(HistoryWant { room, .. }) => Some(*room),
        }
    }
}

/// The lists, the subscriptions, the rooms that they select, and the extensions.
pub fn answer(asked: Asked<'_>) -> Answer {
    let mut selection = Selection::new(asked);
    let answers = selection.lists();
    selection.subscriptions();
    selection.old_rooms();
    selection.departed();
    let mut lists = FxHashMap::default();
    if asked.request.dialect.tells_of_lists() {
        lists = lists_of_rooms(&selection.windows);
    }

    let mut next = asked.base.cloned().unwrap_or_default();
    next.configs = std::mem::take(&mut selection.configs);
    next.lists = std::mem::take(&mut selection.orders);
    next.sticky.clone_from(&asked.request.sticky);
    let txn_id = asked.request.changes.as_ref().and_then(|changes| changes.txn_id.clone());
    let mut response = Response { lists: answers, txn_id, ..Response::default() };
    let stamps = Stamps::of(asked.request);
    let mut wants = Vec::new();
    let mut again_ms: Option<u64> = None;
    let mut sent_events = extension::SentEvents::default();
    for (room, config) in &selection.rooms {
        let Some(gate) = gate(asked, *room) else { continue };
        let before = asked.base.and_then(|base| base.rooms.get(room));
        let turn = RoomTurn { asked, gate, before, config };
        let Some(outcome) = turn.outcome() else { continue };
        next.rooms.insert(*room, Arc::new(outcome.sent));
        wants.extend(outcome.wants);
        again_ms = again_ms.into_iter().chain(outcome.again_ms).min();
        if let Some(mut entry) = outcome.entry {
            entry.lists = lists.remove(room).unwrap_or_default();
            entry.timestamp = stamps.stamp(gate);
            let expanded = entry.timeline.as_ref().is_some_and(|timeline| timeline.expanded);
            let (event_ids, anew) = (outcome.event_ids, entry.initial || expanded);
            sent_events.insert(*room, extension::SentTimeline { event_ids, anew });
            response.rooms.push(entry);
        }
    }
    if asked.request.dialect.tells_of_unread() {
        unread_elsewhere(asked, &selection.index, &mut response, &mut next);
    }
    let scope = extension::Scoping { asked, windows: &selection.windows, rooms: &selection.rooms };
    response.extensions = extension::answer(scope, &sent_events, &mut next);
    next.cursor = asked.source.world.sequence;
    Answer { response, next, wants, again_ms }
}

/// Which events an entry's `timestamp` is of.
enum Stamps {
    /// There is none.
    None,
    /// Of any event.
    Any,
    /// Of these types of events: those of all lists together.
    Types(BTreeSet<String>),
}

impl Stamps {
    fn of(request: &Request) -> Self {
        if !request.dialect.names_rooms() {
            return Self::None;
        }
        let types = request.lists.iter().map(|(_, list)| list.bump_event_types.as_ref());
        let types: Option<Vec<_>> = types.collect();
        match types {
            Some(types) if !types.is_empty() => {
                Self::Types(types.into_iter().flatten().cloned().collect())
            }
            _ => Self::Any,
        }
    }

    fn stamp(&self, gate: Gate<'_>) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Any => Some(gate.recency_ms(None)),
            Self::Types(types) => Some(gate.recency_ms(Some(types))),
        }
    }
}

/// The unread counts of rooms that the client has and that are in no window.
fn unread_elsewhere(
    asked: Asked<'_>,
    selected: &FxHashMap<RoomNumber, usize>,
    response: &mut Response,
    next: &mut State,
) {
    let elsewhere = asked.base.into_iter().flat_map(|base| &base.rooms);
    for (room, sent) in elsewhere.filter(|(room, _)| !selected.contains_key(*room)) {
        let Some(of_user) = asked.source.user.rooms.get(room) else { continue };
        let same_stay = of_user.membership == Membership::Join
            && (sent.membership, sent.since) == (Membership::Join, of_user.since);
        let Some(facts) = asked.source.world.room(*room) else { continue };
        if same_stay && sent.unread != of_user.unread {
            let sent = SentRoom { unread: of_user.unread, ..(**sent).clone() };
            next.rooms.insert(*room, Arc::new(sent));
            response.rooms.push(response::Room {
                room_id: Arc::clone(&facts.id),
                unread: Some(of_user.unread),
                ..response::Room::default()
            });
        }
    }
}

/// The gate of the one who asks to a room.
pub(crate) fn gate(asked: Asked<'_>, room: RoomNumber) -> Option<Gate<'_>> {
    let facts = asked.source.world.room(room)?;
    let world = asked.source.world;
    Gate::new(asked.source.view, facts, asked.source.user, world.sequence)
}

/// The rooms of each list's windows, by the list's key.
pub(crate) type Windows = Vec<(String, Vec<RoomNumber>)>;

/// The keys of the lists in whose windows each room is.
fn lists_of_rooms(windows: &Windows) -> FxHashMap<RoomNumber, Vec<String>> {
    let mut lists: FxHashMap<RoomNumber, Vec<String>> = FxHashMap::default();
    for (key, rooms) in windows {
        for room in rooms {
            let keys = lists.entry(*room).or_default();
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }
    lists
}

/// Which rooms a request selects, and what it asks of each.
struct Selection<'a> {
    asked: Asked<'a>,
    rooms: Vec<(RoomNumber, Arc<RoomConfig>)>,
    index: FxHashMap<RoomNumber, usize>,
    windows: Windows,
    configs: Vec<Arc<RoomConfig>>,
    /// The orders that the client holds then.
    orders: OrdMap<String, Arc<SentList>>,
}

impl<'a> Selection<'a> {
    fn new(asked: Asked<'a>) -> Self {
        Self {
            asked,
            rooms: Vec::new(),
            index: FxHashMap::default(),
            windows: Vec::new(),
            configs: Vec::new(),
            orders: OrdMap::new(),
        }
    }

    fn lists(&mut self) -> Vec<(String, List)> {
        let request = self.asked.request;
        let mut newly_left = Vec::new();
        if request.dialect.lists_left_rooms() {
            newly_left = self::newly_left(self.asked);
        }
        let mut lists = Vec::with_capacity(request.lists.len());
        for (key, wanted) in &request.lists {
            let end = wanted.ranges.iter().map(|(_, to)| *to).max().unwrap_or(0);
            let end = if request.dialect.keeps_responses() { u64::MAX } else { end };
            let (source, filters) = (self.asked.source, &wanted.filters);
            let (mut members, count) =
                list::head(source, request.dialect, filters, &newly_left, end);
            let config = self.shared(&wanted.config);
            let mut answer = List { count: count as u64, ..List::default() };
            if request.dialect.keeps_responses() {
                list::sort(self.asked.source, &mut members, wanted);
                answer.operations = self.operations(key, wanted, &members);
            }
            let all = [(0, u64::MAX)];
            let ranges = if wanted.slow_get_all_rooms { &all[..] } else { &wanted.ranges };
            let mut in_windows = Vec::new();
            for range in ranges {
                let rooms = list::window(&members, *range);
                rooms.iter().for_each(|room| self.select(*room, &config));
                in_windows.extend_from_slice(rooms);
                let ids = rooms.iter().filter_map(|room| self.room_id(*room));
                answer.windows.push(Window { range: *range, room_ids: ids.collect() });
            }
            self.windows.push((key.clone(), in_windows));
            lists.push((key.clone(), answer));
        }
        lists
    }

    fn room_id(&self, room: RoomNumber) -> Option<Arc<str>> {
        self.asked.source.world.room(room).map(|room| Arc::clone(&room.id))
    }

    /// What makes of the order that the client holds the one that there is.
    fn operations(
        &mut self,
        key: &str,
        wanted: &ListRequest,
        members: &[RoomNumber],
    ) -> Vec<Operation<Arc<str>>> {
        let nothing = Arc::default();
        let before = self.asked.base.and_then(|base| base.lists.get(key)).unwrap_or(&nothing);
        let next = SentList {
            kind: kind(wanted),
            runs: if wanted.slow_get_all_rooms {
                Vec::new()
            } else {
                list::runs(members, &wanted.ranges)
            },
        };
        let anew = before.kind != next.kind;
        let mut operations = list::operations(&before.runs, &next.runs, anew);
        // Who wants every room is told once which they are, and sorts them.
        if wanted.slow_get_all_rooms && anew && !members.is_empty() {
            operations.push(Operation::Sync((0, members.len() as u64 - 1), members.to_vec()));
        }
        self.orders.insert(key.to_owned(), Arc::new(next));
        let named = |operation| {
            Some(match operation {
                Operation::Sync(range, rooms) => {
                    let rooms = rooms.into_iter().filter_map(|room| self.room_id(room)).collect();
                    Operation::Sync(range, rooms)
                }
                Operation::Insert(index, room) => Operation::Insert(index, self.room_id(room)?),
                Operation::Delete(index) => Operation::Delete(index),
                Operation::Invalidate(range) => Operation::Invalidate(range),
            })
        };
        operations.into_iter().filter_map(named).collect()
    }

    /// The joined rooms that selected ones replaced, where they are asked for.
    fn old_rooms(&mut self) {
        for at in 0..self.rooms.len() {
            let (mut room, config) = (self.rooms[at].0, Arc::clone(&self.rooms[at].1));
            let Some(wanted) = &config.old_rooms else { continue };
            let wanted = self.shared(wanted);
            let mut seen = BTreeSet::from([room]);
            while seen.len() <= PREDECESSORS_MAX
                && let Some(old) = self.predecessor(room)
                && seen.insert(old)
            {
                self.select(old, &wanted);
                room = old;
            }
        }
    }

    fn predecessor(&self, room: RoomNumber) -> Option<RoomNumber> {
        let predecessor = gate(self.asked, room).filter(Gate::is_joined)?.predecessor()?;
        let old = self.asked.source.world.find_room(&predecessor)?.number;
        gate(self.asked, old).is_some_and(|gate| gate.is_joined()).then_some(old)
    }

    /// Rooms that the user has left and the connection has yet to learn of,
    /// where no list holds them.
    fn departed(&mut self) {
        if self.asked.request.dialect.lists_left_rooms() {
            return;
        }
        for (room, sent) in self.asked.base.into_iter().flat_map(|base| &base.rooms) {
            let is_over = |it| matches!(it, Membership::Leave | Membership::Kick | Membership::Ban);
            let now = self.asked.source.user.rooms.get(room).map(|of_user| of_user.membership);
            if now.is_some_and(is_over) && !is_over(sent.membership) {
                let config = self.shared(&sent.config);
                self.select(*room, &config);
            }
        }
    }

    fn subscriptions(&mut self) {
        let request = self.asked.request;
        for (room_id, wanted) in &request.subscriptions {
            if let Some(room) = self.asked.source.world.find_room(room_id) {
                let config = self.shared(wanted);
                self.select(room.number, &config);
            }
        }
    }

    fn select(&mut self, room: RoomNumber, config: &Arc<RoomConfig>) {
        match self.index.get(&room) {
            None => {
                self.index.insert(room, self.rooms.len());
                self.rooms.push((room, Arc::clone(config)));
            }
            Some(at) if Arc::ptr_eq(&self.rooms[*at].1, config) => {}
            Some(at) => {
                let at = *at;
                let union = self.rooms[at].1.union(config);
                self.rooms[at].1 = self.shared(&union);
            }
        }
    }

    /// The configuration, as the last request or this one already has it: that
    /// two are the same is then seen at a glance.
    fn shared(&mut self, config: &RoomConfig) -> Arc<RoomConfig> {
        let known = self.configs.iter().find(|known| ***known == *config);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let before = self.asked.base.into_iter().flat_map(|base| &base.configs);
        let mut before = before.filter(|known| ***known == *config);
        let shared = before.next().map_or_else(|| Arc::new(config.clone()), Arc::clone);
        self.configs.push(Arc::clone(&shared));
        shared
    }
}

/// Predecessors of one room that are followed.
const PREDECESSORS_MAX: usize = 16;

/// A digest that tells lists apart which have nothing to do with each other.
fn kind(list: &ListRequest) -> u64 {
    let parts = (&list.filters, &list.sort, list.slow_get_all_rooms);
    serde_json::to_string(&parts).map_or(0, |parts| digest(Some(&parts)))
}

/// Rooms that the user has left and the connection has yet to learn of.
fn newly_left(asked: Asked<'_>) -> Vec<Rank> {
    let Some(base) = asked.base else { return Vec::new() };
    let unknown = |(_, _, room): &&Rank| {
        base.rooms.get(room).is_some_and(|sent| sent.membership != Membership::Leave)
    };
    asked.source.user.left.iter().filter(unknown).copied().collect()
}

/// One room's part in an answer.
#[derive(Clone, Copy)]
pub(super) struct RoomTurn<'a> {
    pub(super) asked: Asked<'a>,
    pub(super) gate: Gate<'a>,
    pub(super) before: Option<&'a Arc<SentRoom>>,
    pub(super) config: &'a Arc<RoomConfig>,
}

/// What comes of a room's turn.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) entry: Option<crate::response::Room>,
    pub(super) sent: SentRoom,
    pub(super) event_ids: Vec<String>,
    pub(super) wants: Vec<Want>,
    /// When what is held back is shown at the latest.
    pub(super) again_ms: Option<u64>,
}

impl RoomTurn<'_> {
    /// `None` where the client already holds everything.
    fn outcome(self) -> Option<Outcome> {
        match self.gate.of_user().membership {
            Membership::Join => member::outcome(self),
            Membership::Invite | Membership::Knock => left::stripped_outcome(self),
            Membership::Leave | Membership::Kick | Membership::Ban => left::outcome(self),
        }
    }

    /// What was sent of this very stay.
    pub(super) fn of_this_stay(&self) -> Option<&SentRoom> {
        let of_user = self.gate.of_user();
        let same =
            |sent: &&SentRoom| sent.membership == of_user.membership && sent.since == of_user.since;
        self.before.map(|sent| &**sent).filter(same)
    }

    /// Whether the room is a direct chat.
    pub(super) fn is_dm(&self) -> bool {
        self.asked.source.user.direct.contains(self.gate.room_id())
    }

    /// The number behind which events came after the request's position.
    pub(super) fn live_after(&self) -> Sequence {
        self.asked.base.map_or(Sequence(u64::MAX), |base| base.cursor)
    }
}
