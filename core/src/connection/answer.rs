//! A request and what was sent before, into a response and what is sent then.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    left, member,
    state::{SentRoom, State},
};
use crate::{
    extension,
    gate::Gate,
    id::{DeviceNumber, RoomNumber, Sequence},
    list::{self, Source},
    record::{DeviceRecord, Membership},
    request::{Request, RoomConfig},
    response::{List, Response, Window},
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
}

/// The lists, the subscriptions, the rooms that they select, and the extensions.
pub fn answer(asked: Asked<'_>) -> Answer {
    let mut selection = Selection::new(asked);
    let answers = selection.lists();
    selection.subscriptions();
    let mut lists = FxHashMap::default();
    if asked.request.dialect.tells_of_lists() {
        lists = lists_of_rooms(&selection.windows);
    }

    let mut next = asked.base.cloned().unwrap_or_default();
    next.configs = std::mem::take(&mut selection.configs);
    let mut response = Response { lists: answers, ..Response::default() };
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
            let expanded = entry.timeline.as_ref().is_some_and(|timeline| timeline.expanded);
            let (event_ids, anew) = (outcome.event_ids, entry.initial || expanded);
            sent_events.insert(*room, extension::SentTimeline { event_ids, anew });
            response.rooms.push(entry);
        }
    }
    let scope = extension::Scoping { asked, windows: &selection.windows, rooms: &selection.rooms };
    response.extensions = extension::answer(scope, &sent_events, &mut next);
    next.cursor = asked.source.world.sequence;
    Answer { response, next, wants, again_ms }
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
}

impl<'a> Selection<'a> {
    fn new(asked: Asked<'a>) -> Self {
        Self {
            asked,
            rooms: Vec::new(),
            index: FxHashMap::default(),
            windows: Vec::new(),
            configs: Vec::new(),
        }
    }

    fn lists(&mut self) -> Vec<(String, List)> {
        let newly_left = newly_left(self.asked);
        let request = self.asked.request;
        let mut lists = Vec::with_capacity(request.lists.len());
        for (key, wanted) in &request.lists {
            let members =
                list::members(self.asked.source, request.dialect, &wanted.filters, &newly_left);
            let config = self.shared(&wanted.config);
            let mut answer = List { count: members.len() as u64, windows: Vec::new() };
            let mut in_windows = Vec::new();
            for range in &wanted.ranges {
                let rooms = list::window(&members, *range);
                rooms.iter().for_each(|room| self.select(*room, &config));
                in_windows.extend_from_slice(rooms);
                let id = |room: &RoomNumber| self.asked.source.world.room(*room);
                let ids = rooms.iter().filter_map(id).map(|room| Arc::clone(&room.id));
                answer.windows.push(Window { range: *range, room_ids: ids.collect() });
            }
            self.windows.push((key.clone(), in_windows));
            lists.push((key.clone(), answer));
        }
        lists
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
