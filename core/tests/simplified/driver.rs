//! One shard and one ledger, driven by hand: time moves when a test says so,
//! polls are answered when a test answers them, everything else at once.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use luge_core::{
    connection::{HistoryWant, Want},
    dialect::{self, RequestLimits},
    id::{DeviceNumber, RoomNumber, UserNumber},
    ledger::{Command, Delta, History, LedgerLimits, MemberList, Polled, Reply, RoomState, SignIn},
    request::Dialect,
    shard::{
        Answered, ClientRequest, Effect, Event, FetchOrder, FetchOutcome, Hint, PollOrder,
        PollOutcome, Refusal, Shard, ShardLimits, Ticket, Token, Validation,
    },
    upstream::{Limits, parse, parse_event_array, parse_events, parse_news},
    view::{Direction, KeyRanges, MemoryTables, Table, View, Visit},
};
use serde_json::{Value, json};

use crate::harness::{Book, strict};

const START_MS: u64 = 1_800_000_000_000;
const SECRET: u64 = 7;

/// A signed-in device of a user.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) user_id: Arc<str>,
    pub(crate) user: UserNumber,
    pub(crate) device: DeviceNumber,
    token: Token,
}

/// An answer as the client gets it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// A Luge in a test's hand.
pub(crate) struct Luge {
    dialect: Dialect,
    book: Book,
    shard: Shard,
    limits: ShardLimits,
    now_ms: u64,
    event_ms: u64,
    tickets: u64,
    syncs: u64,
    since: BTreeMap<DeviceNumber, String>,
    polls: BTreeMap<DeviceNumber, PollOrder>,
    answers: BTreeMap<Ticket, Got>,
    /// What was ordered to be fetched and not yet given.
    pub(crate) fetches: Vec<FetchOrder>,
    /// Whether tokens are found valid as soon as somebody asks.
    pub(crate) validates: bool,
    /// What the homeserver gives for paging back, where it is asked.
    pub(crate) paging_token: Option<&'static str>,
    /// Whether it gives a token that names the event in front of which it is.
    pub(crate) pages_by_event: bool,
    pub(crate) drained: bool,
    /// Changes that are in the tables and have yet to reach the shard, where they are
    /// to be late.
    late: Option<VecDeque<Arc<Delta>>>,
    /// Whether the shard has asked for a further turn.
    continues: bool,
    /// Users whose requests are looked at in one turn.
    pub(crate) settled_max: usize,
    /// Entries of the tables that were looked at.
    reads: Cell<u64>,
}

/// A view that counts the entries that are looked at.
struct Counting<'a> {
    below: &'a dyn View,
    reads: &'a Cell<u64>,
}

impl Counting<'_> {
    fn count(&self) {
        self.reads.set(self.reads.get() + 1);
    }

    fn counting(&self, visit: Visit<'_>) -> impl FnMut(&[u8], &[u8]) -> bool {
        |key, value| {
            self.count();
            visit(key, value)
        }
    }
}

impl View for Counting<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        self.count();
        self.below.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>) {
        self.below.scan(table, from, to, direction, &mut self.counting(visit));
    }

    fn scan_ranges(&self, table: Table, ranges: &KeyRanges, visit: Visit<'_>) {
        self.below.scan_ranges(table, ranges, &mut self.counting(visit));
    }
}

impl Luge {
    pub(crate) fn new() -> Self {
        Self::with(ShardLimits::default())
    }

    /// A Luge that is asked in another dialect.
    pub(crate) fn speaking(dialect: Dialect) -> Self {
        Self { dialect, ..Self::new() }
    }

    /// From here on the ledger has these limits.
    pub(crate) fn limit_ledger(&mut self, limits: LedgerLimits) {
        self.book.ledger.set_limits(limits);
    }

    /// From here on it is asked in another dialect.
    pub(crate) fn speak(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    pub(crate) fn with(limits: ShardLimits) -> Self {
        let book = Book::open(MemoryTables::default());
        let shard = Shard::new(limits.clone(), Arc::clone(book.world()), START_MS, SECRET);
        Self {
            dialect: Dialect::Simplified,
            book,
            shard,
            limits,
            now_ms: START_MS,
            event_ms: START_MS - 1_000_000,
            tickets: 0,
            syncs: 0,
            since: BTreeMap::new(),
            polls: BTreeMap::new(),
            answers: BTreeMap::new(),
            fetches: Vec::new(),
            validates: true,
            paging_token: None,
            pages_by_event: false,
            drained: false,
            late: None,
            continues: false,
            settled_max: usize::MAX,
            reads: Cell::new(0),
        }
    }

    /// From here on what changes is in the tables before the shard hears of it.
    pub(crate) fn hold_deltas(&mut self) {
        self.late = Some(VecDeque::new());
    }

    /// The shard hears of the oldest change that it has yet to hear of.
    pub(crate) fn release_delta(&mut self) {
        let delta = self.late.as_mut().and_then(VecDeque::pop_front);
        self.apply(Event::Delta(delta.expect("a change is on its way")));
    }

    /// How many entries of the tables a request looks at that is answered at
    /// once.
    pub(crate) fn reads_for(&mut self, client: &Client, request: Value) -> u64 {
        let before = self.reads.get();
        self.ask(client, request);
        self.reads.get() - before
    }

    /// Stops in order and starts again from the tables.
    pub(crate) fn restart(&mut self) {
        self.apply(Event::Stop);
        assert!(self.drained, "nothing is left to do");
        self.kill();
    }

    /// Starts again from the tables, as after a crash.
    pub(crate) fn kill(&mut self) {
        let book = Book::open(self.book.tables().clone());
        self.now_ms += 1_000;
        self.shard = Shard::new(self.limits.clone(), Arc::clone(book.world()), self.now_ms, SECRET);
        self.book = book;
        self.polls.clear();
        self.drained = false;
        self.continues = false;
        self.apply(Event::Tick(self.now_ms));
    }

    /// A device that has logged in at the homeserver.
    pub(crate) fn sign_in(&mut self, user_id: &str, device_id: &str) -> Client {
        self.sign_in_with(user_id, device_id, "")
    }

    /// As [`Self::sign_in`], with another of the device's tokens.
    pub(crate) fn sign_in_with(&mut self, user_id: &str, device_id: &str, token: &str) -> Client {
        let mut key = [0; 32];
        let name = format!("{user_id}/{device_id}{token}");
        for (byte, of_name) in key.iter_mut().zip(name.bytes()) {
            *byte = of_name;
        }
        let command = Command::SignIn(SignIn {
            user_id: user_id.to_owned(),
            device_id: device_id.to_owned(),
            token_key: key,
            token_sealed: b"sealed".to_vec(),
        });
        let Reply::SignedIn(user, device) = self.command(command) else {
            panic!("a sign-in is answered with numbers");
        };
        let token = Token { key, secret: name.into() };
        Client { user_id: user_id.into(), user, device, token }
    }

    /// A device whose user is in no room, after its first sync.
    pub(crate) fn fresh(&mut self, user_id: &str) -> Client {
        let client = self.sign_in(user_id, "DEV");
        self.sync(&client, json!({}));
        client
    }

    /// The homeserver answers the device's next poll with `answer`. What lacks
    /// a time gets one, each later than the one before.
    pub(crate) fn sync(&mut self, client: &Client, answer: Value) {
        self.sync_as(client, answer, true);
    }

    /// As [`Self::sync`], to a poll that asked for no rooms.
    pub(crate) fn sync_without_rooms(&mut self, client: &Client, answer: Value) {
        self.sync_as(client, answer, false);
    }

    fn sync_as(&mut self, client: &Client, mut answer: Value, with_rooms: bool) {
        self.date(&mut answer);
        self.syncs += 1;
        let next_batch = format!("s{}", self.syncs);
        answer["next_batch"] = next_batch.clone().into();
        let body = answer.to_string();
        let whole = parse(body.as_bytes(), &Limits::default()).expect("the answer is an object");
        assert_eq!(whole.set_aside, [], "a test's answers are sound");
        let since = self.since.insert(client.device, next_batch.clone());
        let world = Arc::clone(self.book.world());
        let known = |room_id: &str| world.lately(room_id).filter(|_| since.is_some());
        let news = parse_news(body.as_bytes(), &Limits::default(), &client.user_id, known);
        let asked_ms = self.now_ms;
        let polled = |batch| {
            let (user, device, since) = (client.user, client.device, since.clone());
            let polled = Polled {
                user,
                device,
                since,
                with_rooms,
                last_part: true,
                asked_ms,
                may_repeat: false,
                batch,
            };
            Command::Polled(Box::new(polled))
        };
        if self.command(polled(news.expect("the answer is an object"))) == Reply::Whole {
            self.command(polled(whole));
        }
        self.end_poll(client, PollOutcome::Advanced { since: Some(next_batch), silence: None });
    }

    /// The device's poll, if one is in flight, ends with `outcome`.
    pub(crate) fn end_poll(&mut self, client: &Client, outcome: PollOutcome) {
        if self.polls.remove(&client.device).is_some() {
            let (user, device) = (client.user, client.device);
            self.apply(Event::PollFinished { user, device, outcome });
        }
    }

    /// The device's poll in flight.
    pub(crate) fn poll(&self, client: &Client) -> Option<&PollOrder> {
        self.polls.get(&client.device)
    }

    /// Gives every event without `origin_server_ts` its own.
    fn date(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                let is_dated = members.contains_key("origin_server_ts");
                if members.contains_key("event_id") && !is_dated {
                    self.event_ms += 1_000;
                    members.insert("origin_server_ts".to_owned(), self.event_ms.into());
                }
                members.values_mut().for_each(|value| self.date(value));
            }
            Value::Array(elements) => elements.iter_mut().for_each(|value| self.date(value)),
            _ => {}
        }
    }

    /// What time it is.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.apply(Event::Tick(self.now_ms));
    }

    /// The shard gets the further turn that it has asked for; whether it had.
    pub(crate) fn continues(&mut self) -> bool {
        let continues = std::mem::take(&mut self.continues);
        if continues {
            self.apply(Event::Continue);
        }
        continues
    }

    /// Front mode saw something go through.
    pub(crate) fn hint(&mut self, client: &Client, hint: Hint) {
        self.apply(Event::Hint { user: client.user, hint });
    }

    /// The user forgets a room.
    pub(crate) fn forget(&mut self, client: &Client, room_id: &str) {
        let room = self.book.world().find_room(room_id).expect("the room is known").number;
        self.hint(client, Hint::Forget(room));
    }

    /// The homeserver says what it thinks of a device's token.
    pub(crate) fn validate(&mut self, client: &Client, validation: Validation) {
        let (user, device, token) = (client.user, client.device, client.token.clone());
        self.apply(Event::Validated { user, device, token, validation });
    }

    /// The members of a room that were ordered are there.
    pub(crate) fn give_members(&mut self, members: &mut [Value], complete: bool) {
        let at = self
            .fetches
            .iter()
            .position(|it| matches!(it.want, Want::Members(_) | Want::Member(..)));
        let order = self.fetches.remove(at.expect("members were asked for"));
        let (Want::Members(room) | Want::Member(room, _)) = order.want else { unreachable!() };
        members.iter_mut().for_each(|member| self.date(member));
        let events = members.iter().map(|member| {
            luge_core::upstream::parse_event(&member.to_string(), &Limits::default())
                .expect("the event is sound")
        });
        let events: Vec<_> = events.collect();
        let mut list = MemberList { room, user: order.user, events, whole: None };
        if complete {
            let who = (order.user, order.knew);
            let parts = MemberList::in_parts(room, who, &list.events, usize::MAX);
            list = parts.into_iter().next().expect("a list has one part at least");
        }
        self.command(Command::Members(list));
        self.fetched(order.want, FetchOutcome::Done);
    }

    /// The number of a room.
    pub(crate) fn room_number(&self, room_id: &str) -> RoomNumber {
        self.book.world().find_room(room_id).expect("the room is known").number
    }

    /// The homeserver gives a user a member of a room who was asked for apart.
    pub(crate) fn answer_member(&mut self, client: &Client, room: RoomNumber, member: &Value) {
        let event = luge_core::upstream::parse_event(&member.to_string(), &Limits::default());
        let event = event.expect("the event is sound");
        let user_id = event.state_key.clone().expect("a member event has a state key");
        let (user, events) = (client.user, vec![event]);
        self.command(Command::Members(MemberList { room, user, events, whole: None }));
        self.fetched(Want::Member(room, user_id), FetchOutcome::Done);
    }

    /// The state of a room that was ordered is this.
    pub(crate) fn give_state(&mut self, state: &[Value]) {
        let order = self.take_state_order();
        self.answer_state(&order, state);
    }

    /// The order for a room's state, to be answered later.
    pub(crate) fn take_state_order(&mut self) -> FetchOrder {
        let at = self.fetches.iter().position(|it| matches!(it.want, Want::State(_)));
        self.fetches.remove(at.expect("a room's state was asked for"))
    }

    /// The order is answered with `state`, which was put together at the moment
    /// that the order says.
    pub(crate) fn answer_state(&mut self, order: &FetchOrder, state: &[Value]) {
        let mut state = Value::Array(state.to_vec());
        self.date(&mut state);
        let (events, set_asides) =
            parse_event_array(state.to_string().as_bytes(), &Limits::default())
                .expect("the state is an array");
        assert_eq!(set_asides.count, 0, "a test's state is sound");
        let Want::State(room) = order.want else { panic!("another order") };
        let user_id = self.book.world().user_id(order.user).cloned().expect("a user has an id");
        let parts = RoomState::in_parts((room, order.user), &user_id, order.knew, events);
        let succeeded = parts.is_some();
        for part in parts.into_iter().flatten() {
            self.command(Command::State(Box::new(part)));
        }
        let outcome = if succeeded { FetchOutcome::Done } else { FetchOutcome::Failed };
        self.fetched(order.want.clone(), outcome);
    }

    /// The order for a room's history, to be answered later.
    pub(crate) fn take_history_order(&mut self) -> HistoryWant {
        let at = self.fetches.iter().position(|it| matches!(it.want, Want::History(_)));
        let order = self.fetches.remove(at.expect("history was asked for"));
        let Want::History(want) = order.want else { unreachable!() };
        want
    }

    /// The order is answered with `events`, the newest first.
    pub(crate) fn answer_history(
        &mut self,
        want: &HistoryWant,
        events: &[Value],
        end: Option<&str>,
    ) {
        let mut answer = json!({"chunk": events});
        self.date(&mut answer);
        let (events, set_asides) =
            parse_events(answer.to_string().as_bytes(), "chunk", &Limits::default())
                .expect("the answer is an object");
        assert_eq!(set_asides.count, 0, "a test's history is sound");
        let HistoryWant { room, user, before, .. } = *want;
        let end = end.map(str::to_owned);
        self.command(Command::History(Box::new(History { room, user, before, events, end })));
        self.fetched(Want::History(want.clone()), FetchOutcome::Done);
    }

    /// The rooms of a user that were ordered are these.
    pub(crate) fn give_joined_rooms(&mut self, rooms: &[&str]) {
        let at = self.fetches.iter().position(|it| matches!(it.want, Want::JoinedRooms(_)));
        let order = self.fetches.remove(at.expect("rooms were asked for"));
        let rooms = rooms.iter().map(|room_id| (*room_id).to_owned()).collect();
        self.command(Command::JoinedRooms { user: order.user, knew: order.knew, rooms });
        self.fetched(order.want, FetchOutcome::Done);
    }

    /// The oldest order that is for a room cannot be carried out.
    pub(crate) fn fail_fetch(&mut self) {
        self.end_fetch(FetchOutcome::Failed);
    }

    /// The oldest order that is for a room ends without what was wanted.
    pub(crate) fn end_fetch(&mut self, outcome: FetchOutcome) -> FetchOrder {
        let at = self.fetches.iter().position(|it| it.want.room().is_some());
        let order = self.fetches.remove(at.expect("something was asked for"));
        self.fetched(order.want.clone(), outcome);
        order
    }

    fn fetched(&mut self, want: Want, outcome: FetchOutcome) {
        self.apply(Event::Fetched { want, outcome });
    }

    /// Asks, with `pos` and `timeout` as members of `request`.
    pub(crate) fn send(&mut self, client: &Client, mut request: Value) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let members = request.as_object_mut().expect("a request is an object");
        let mut query = Vec::new();
        let in_query: &[&str] = if self.dialect == Dialect::V4 { &[] } else { &["pos", "timeout"] };
        for name in in_query.iter().copied() {
            match members.remove(name) {
                Some(Value::String(value)) => query.push((name.to_owned(), value)),
                Some(value) => query.push((name.to_owned(), value.to_string())),
                None => {}
            }
        }
        let body = request.to_string();
        let limits = RequestLimits::default();
        match dialect::parse(self.dialect, &query, body.as_bytes(), &client.user_id, &limits) {
            Ok(request) => self.apply(Event::Request(Box::new(ClientRequest {
                ticket,
                user: client.user,
                user_id: Arc::clone(&client.user_id),
                device: client.device,
                token: client.token.clone(),
                confirmed: self.validates,
                request,
            }))),
            Err(error) => {
                let refusal = Refusal::new(400, error.errcode(), &error.to_string());
                self.answer(ticket, &Answered::Refused(refusal));
            }
        }
        ticket
    }

    /// The answer to a request, once.
    pub(crate) fn answered(&mut self, ticket: Ticket) -> Option<Got> {
        self.answers.remove(&ticket)
    }

    /// The client goes away.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        self.apply(Event::Abandoned(ticket));
    }

    /// Asks, and is answered at once.
    pub(crate) fn ask(&mut self, client: &Client, request: Value) -> Value {
        let ticket = self.send(client, request);
        self.body(ticket)
    }

    /// The answer that has come to a request.
    pub(crate) fn body(&mut self, ticket: Ticket) -> Value {
        let got = self.answered(ticket).expect("the request is answered");
        assert_eq!(got.status, 200, "{}", got.body);
        got.body
    }

    /// Asks, and is refused at once: the error code.
    pub(crate) fn refused(&mut self, client: &Client, request: Value) -> (u16, String) {
        let ticket = self.send(client, request);
        let got = self.answered(ticket).expect("the request is answered");
        (got.status, got.body["errcode"].as_str().unwrap_or_default().to_owned())
    }

    fn command(&mut self, command: Command) -> Reply {
        let (reply, delta) = self.book.take_in(command, self.now_ms);
        match (delta, &mut self.late) {
            (Some(delta), Some(late)) => late.push_back(delta),
            (Some(delta), None) => self.apply(Event::Delta(delta)),
            (None, _) => {}
        }
        reply
    }

    pub(crate) fn apply(&mut self, event: Event) {
        let mut effects = Vec::new();
        let view = Counting { below: self.book.tables(), reads: &self.reads };
        self.shard.apply(event, &view, &mut effects);
        self.shard.settle_some(self.settled_max, &view, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    /// A turn without events; whether there has to be another.
    pub(crate) fn turn(&mut self) -> bool {
        let mut effects = Vec::new();
        let max = self.settled_max;
        let left = self.shard.settle_some(max, self.book.tables(), &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
        left
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Respond { ticket, answer } => self.answer(ticket, &answer),
            Effect::Poll(order) => {
                assert!(
                    self.polls.insert(order.device, order).is_none(),
                    "a device has one poll in flight"
                );
            }
            Effect::CancelPoll(device) => drop(self.polls.remove(&device)),
            Effect::Validate { user, device, token } if self.validates => {
                let validation = Validation::Valid;
                self.apply(Event::Validated { user, device, token, validation });
            }
            Effect::Validate { .. } => {}
            Effect::Fetch(order) => {
                let want = order.want.clone();
                self.fetches.push(order);
                if let Want::PrevBatch(room, sequence, event_id) = &want {
                    let (room, sequence) = (*room, *sequence);
                    let token = self.paging_token.map(str::to_owned);
                    let token =
                        token.or_else(|| self.pages_by_event.then(|| format!("before-{event_id}")));
                    let succeeded = token.is_some();
                    if let Some(token) = token {
                        self.command(Command::PrevBatch { room, sequence, token });
                    }
                    let outcome = if succeeded { FetchOutcome::Done } else { FetchOutcome::Failed };
                    self.fetched(want, outcome);
                }
            }
            Effect::Ledger(command) => drop(self.command(command)),
            Effect::Continue => self.continues = true,
            Effect::Drained => self.drained = true,
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: &Answered) {
        let (status, body) = match answer {
            Answered::Response(dialect, response) => {
                let body = dialect::write(*dialect, response);
                strict(&body);
                (200, body)
            }
            Answered::Refused(refusal) => (refusal.status, refusal.body.clone()),
        };
        let body = serde_json::from_str(&body).expect("a body is JSON");
        let again = self.answers.insert(ticket, Got { status, body });
        assert!(again.is_none(), "a request is answered once");
    }
}
