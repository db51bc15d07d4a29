//! A request and what was sent before, into a response and what is sent then.

use std::{collections::BTreeSet, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    covered::Covered,
    left, member,
    selection::Selection,
    state::{SentRoom, State},
};
use crate::{
    extension,
    gate::Gate,
    id::{DeviceNumber, RoomNumber, Sequence, UserNumber},
    list::Source,
    record::{DeviceRecord, Membership},
    request::{Request, RoomConfig},
    response::{self, Objects, Response},
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
    /// How much of it all one response tells.
    pub limits: &'a AnswerLimits,
}

/// How much one response tells. The rooms that are left over come with the next,
/// for which nobody waits.
#[derive(Clone, Debug)]
pub struct AnswerLimits {
    /// Rooms with something to tell.
    pub rooms_max: usize,
    /// Bytes of events; the last room may pass it.
    pub bytes_max: usize,
    /// Bytes of memory, about, of what a connection asked of rooms before its
    /// last request; beyond it that is forgotten, and the state of such a room
    /// is sent again when the room is asked for again.
    pub earlier_bytes_max: usize,
    /// Receipts of one room that came since the client was last told of them.
    pub receipts_max: usize,
}

impl Default for AnswerLimits {
    fn default() -> Self {
        Self {
            rooms_max: 1_000,
            bytes_max: 16 << 20,
            earlier_bytes_max: 2 << 20,
            receipts_max: 1_000,
        }
    }
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
    /// What it lacks likewise and did so when it was told last, so that nobody waits
    /// for it now.
    pub unawaited: Vec<Want>,
    /// What it lacks still of rooms of which there is nothing to tell.
    pub lacking: Vec<Want>,
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
    let (mut selection, answers) = Selection::of(asked);
    let mut next = asked.base.cloned().unwrap_or_default();
    next.configs = std::mem::take(&mut selection.configs);
    next.lists = std::mem::take(&mut selection.orders);
    next.sticky.clone_from(&asked.request.sticky);
    let txn_id = asked.request.changes.as_ref().and_then(|changes| changes.txn_id.clone());
    let response = Response { lists: answers, txn_id, ..Response::default() };
    let mut telling = Telling {
        asked,
        response,
        next,
        wants: Vec::new(),
        unawaited: Vec::new(),
        lacking: Vec::new(),
        again_ms: None,
        sent_events: extension::SentEvents::default(),
        unsettled: Vec::new(),
        bytes: 0,
        selected: selection.rooms.len(),
    };
    let left_over = telling.rooms(&selection);
    let Telling { mut response, mut next, again_ms, sent_events, mut unsettled, .. } = telling;
    let (wants, unawaited, lacking) = (telling.wants, telling.unawaited, telling.lacking);
    if asked.request.dialect.tells_of_unread() {
        unread_elsewhere(asked, &selection.index, &mut response, &mut next);
    }
    let scope = extension::Scoping {
        asked,
        windows: &selection.windows,
        rooms: &selection.rooms,
        is_whole: selection.looked_at.is_none(),
        left_over: &left_over,
    };
    response.extensions = extension::answer(scope, &sent_events, &mut next, &mut unsettled);
    next.cursor = asked.source.world.sequence;
    if let Some(base) = asked.base {
        next.note_earlier(&base.configs, asked.limits.earlier_bytes_max);
    }
    // Where responses form an order, each looks at every room.
    next.covered = (!asked.request.dialect.keeps_responses()).then(|| {
        let before = asked.base.and_then(|base| base.covered.as_ref());
        Covered::new(asked, before, selection.told, unsettled)
    });
    Answer { response, next, wants, unawaited, lacking, again_ms }
}

/// An answer on its way: what the rooms have told so far.
struct Telling<'a> {
    asked: Asked<'a>,
    response: Response,
    next: State,
    wants: Vec<Want>,
    unawaited: Vec<Want>,
    lacking: Vec<Want>,
    again_ms: Option<u64>,
    sent_events: extension::SentEvents,
    /// Rooms that have more to tell, or lack something.
    unsettled: Vec<RoomNumber>,
    /// Bytes of the events so far.
    bytes: usize,
    /// How many rooms are looked at.
    selected: usize,
}

impl Telling<'_> {
    /// Has each selected room tell what there is; which ones are left over.
    fn rooms(&mut self, selection: &Selection<'_>) -> BTreeSet<RoomNumber> {
        let mut lists = FxHashMap::default();
        if self.asked.request.dialect.tells_of_lists() {
            lists = lists_of_rooms(&selection.windows);
        }
        let stamps = Stamps::of(self.asked.request);
        let mut left_over = BTreeSet::new();
        for (room, config) in &selection.rooms {
            let Some(gate) = gate(self.asked, *room) else { continue };
            let before = self.asked.base.and_then(|base| base.rooms.get(room));
            let turn = RoomTurn { asked: self.asked, gate, before, config };
            let lacks_members = turn.lacks_members();
            if lacks_members {
                self.unsettled.push(*room);
            }
            if self.is_full() {
                if turn.has_something() {
                    left_over.insert(*room);
                }
                continue;
            }
            let Some(outcome) = turn.outcome() else {
                self.lacking.extend(lacks_members.then_some(Want::Members(*room)));
                continue;
            };
            self.take(*room, outcome, |entry| {
                entry.lists = lists.remove(room).unwrap_or_default();
                entry.timestamp = stamps.stamp(gate);
            });
        }
        self.unsettled.extend(&left_over);
        left_over
    }

    fn is_full(&self) -> bool {
        let limits = self.asked.limits;
        self.response.rooms.len() >= limits.rooms_max.max(1) || self.bytes >= limits.bytes_max
    }

    fn take(
        &mut self,
        room: RoomNumber,
        outcome: Outcome,
        finish: impl FnOnce(&mut response::Room),
    ) {
        if outcome.sent.cursor < self.asked.source.world.sequence {
            self.unsettled.push(room);
        }
        self.next.rooms.insert(room, Arc::new(outcome.sent));
        self.wants.extend(outcome.wants);
        self.unawaited.extend(outcome.unawaited);
        self.again_ms = self.again_ms.into_iter().chain(outcome.again_ms).min();
        let Some(mut entry) = outcome.entry else { return };
        finish(&mut entry);
        // Many wait for one change of one room, and are told of it at the same time.
        if self.response.rooms.is_empty() {
            self.response.rooms.reserve_exact(self.selected.clamp(1, 4));
        }
        let timeline = entry.timeline.as_ref();
        self.bytes += entry.required_state.bytes();
        self.bytes += timeline.map_or(0, |timeline| timeline.events.bytes());
        self.bytes += entry.stripped.as_ref().map_or(0, Objects::bytes);
        let anew = entry.initial || timeline.is_some_and(|timeline| timeline.expanded);
        let told = extension::SentTimeline { event_ids: outcome.event_ids, anew };
        self.sent_events.insert(room, told);
        self.response.rooms.push(entry);
    }
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
    /// As [`Answer::unawaited`].
    pub(super) unawaited: Vec<Want>,
    /// When what is held back is shown at the latest.
    pub(super) again_ms: Option<u64>,
}

impl<'a> RoomTurn<'a> {
    /// Whether there may be something to tell.
    fn has_something(self) -> bool {
        match self.gate.of_user().membership {
            Membership::Join => !member::holds_all(self),
            Membership::Invite | Membership::Knock => self.of_this_stay().is_none(),
            Membership::Leave | Membership::Kick | Membership::Ban => !left::holds_all(self),
        }
    }

    /// `None` where the client already holds everything.
    fn outcome(self) -> Option<Outcome> {
        match self.gate.of_user().membership {
            Membership::Join => member::outcome(self),
            Membership::Invite | Membership::Knock => left::stripped_outcome(self),
            Membership::Leave | Membership::Kick | Membership::Ban => left::outcome(self),
        }
    }

    /// Whether all members are asked for, and some of them nobody has.
    pub(super) fn lacks_members(&self) -> bool {
        self.gate.is_joined()
            && self.config.required_state.wants_all_members()
            && !self.gate.members_complete()
    }

    /// What was sent of this very stay.
    pub(super) fn of_this_stay(&self) -> Option<&'a SentRoom> {
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
