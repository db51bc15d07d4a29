//! A Luge without a runtime, a network or a disk: one ledger, one shard, tables
//! in memory. What would wait for the world outside is answered at once.

use std::sync::Arc;

use luge_core::{
    dialect::{KnownRequests, RequestLimits},
    id::{DeviceNumber, UserNumber},
    ledger::{Change, Command, Delta, Ledger, Polled, Reply, SignIn},
    request::Dialect,
    response::Response,
    shard::{
        Answered, ClientRequest, Effect, Event, Shard, ShardLimits, Ticket, Token, Validation,
    },
    upstream::{Limits, SyncBatch, parse},
    view::{Layered, MemoryTables, Pending, View, Write},
    world::World,
};

use crate::account::{START_MS, Shape, USER_ID, initial_body_of};

/// Lists as Element X asks for them; `RANGE` is replaced.
const LISTS: &str = r#""lists":{"all_rooms":{"ranges":[RANGE],"timeline_limit":1,"filters":{},"required_state":[["m.room.name",""],["m.room.encryption",""],["m.room.member","$LAZY"],["m.room.member","$ME"],["m.room.topic",""],["m.room.avatar",""],["m.room.canonical_alias",""],["m.room.power_levels",""],["org.matrix.msc3401.call.member","*"],["m.room.join_rules",""],["m.room.tombstone",""],["m.room.create",""],["m.room.history_visibility",""],["io.element.functional_members",""],["m.space.parent","*"],["m.space.child","*"],["org.matrix.msc3672.beacon_info","*"]]}}"#;
const EXTENSIONS: &str = r#""extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true,"rooms":["*"]},"typing":{"enabled":true}}"#;

/// The ledger, the shard and the tables, with one user signed in.
pub struct Luge {
    ledger: Ledger,
    tables: MemoryTables,
    world: Arc<World>,
    shard: Shard,
    user: UserNumber,
    device: DeviceNumber,
    since: Option<String>,
    polls: u64,
    tickets: u64,
    now_ms: u64,
    unwritten: Vec<Write>,
    known: KnownRequests,
}

impl Luge {
    /// A Luge whose user has the account that `initial` tells of.
    pub fn with_account(initial: &str) -> Self {
        let tables = MemoryTables::default();
        let mut ledger = Ledger::open(&tables).expect("empty tables fit together");
        let world = ledger.publish(Pending::default());
        let shard = Shard::new(ShardLimits::default(), Arc::clone(&world), START_MS, 7);
        let (user, device) = (UserNumber::default(), DeviceNumber::default());
        let mut luge = Self {
            ledger,
            tables,
            world,
            shard,
            user,
            device,
            since: None,
            polls: 0,
            tickets: 0,
            now_ms: START_MS + 2_000_000_000,
            unwritten: Vec::new(),
            known: KnownRequests::new(1 << 20),
        };
        let tick = luge.tick();
        luge.apply(tick);
        (luge.user, luge.device) = luge.sign_in(USER_ID, [1; 32]);
        luge.poll(initial);
        luge
    }

    /// Lets so many other users wait for news, each with a room of their own.
    pub fn crowd(&mut self, count: usize) {
        for number in 0..count {
            let mut token_key = [2; 32];
            token_key[..8].copy_from_slice(&(number as u64).to_le_bytes());
            let user_id = format!("@neighbour{number}:bench.test");
            let (user, device) = self.sign_in(&user_id, token_key);
            let neighbour = Asker { user, user_id: &user_id, device, token_key };
            let body = initial_body_of(&user_id, Shape::lean(1), NEIGHBOURS_FROM + number);
            let command = Command::Polled(Box::new(polled(user, device, None, batch(&body))));
            self.take_in(command);
            let mut position = None;
            for timeout_ms in [0, 0, 60_000] {
                let request = self.request_of(&neighbour, position.as_deref(), (0, 19), timeout_ms);
                let answer = self.apply(request);
                assert_eq!(answer.is_none(), timeout_ms > 0, "a neighbour waits in the end");
                position = answer.map(|answer| answer.position);
            }
        }
    }

    /// Other users of the homeserver who are in the room in which messages are sent.
    pub fn members(&mut self, count: usize) {
        for number in 0..count {
            let mut token_key = [3; 32];
            token_key[..8].copy_from_slice(&(number as u64).to_le_bytes());
            let user_id = format!("@local{number}:bench.test");
            let (user, device) = self.sign_in(&user_id, token_key);
            let body = initial_body_of(&user_id, Shape::lean(1), LIVELY);
            self.take_in(Command::Polled(Box::new(polled(user, device, None, batch(&body)))));
        }
    }

    fn sign_in(&mut self, user_id: &str, token_key: [u8; 32]) -> (UserNumber, DeviceNumber) {
        let command = Command::SignIn(SignIn {
            user_id: user_id.to_owned(),
            device_id: "BENCH".to_owned(),
            token_key,
            token_sealed: b"sealed".to_vec(),
        });
        let Reply::SignedIn(user, device) = self.take_in(command) else {
            panic!("a sign-in gives numbers");
        };
        (user, device)
    }

    /// The newest world.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The tables.
    pub fn view(&self) -> &dyn View {
        &self.tables
    }

    /// Time moves on, so far that what is done from time to time is due.
    pub fn tick(&mut self) -> Event {
        self.now_ms += 10_001;
        Event::Tick(self.now_ms)
    }

    /// The user's number.
    pub fn user(&self) -> UserNumber {
        self.user
    }

    /// How many polls were taken in.
    pub fn polls(&self) -> u64 {
        self.polls
    }

    /// The homeserver answers a poll; everybody learns of it.
    pub fn poll(&mut self, body: &str) {
        let command = self.polled(body);
        self.take_in(command);
    }

    /// The same, but the shard is yet to be told: what it would be sent.
    pub fn poll_apart(&mut self, body: &str) -> Event {
        let command = self.polled(body);
        let change = self.fold(command).0;
        Event::Delta(Arc::new(Delta { world: Arc::clone(&self.world), change }))
    }

    /// A homeserver's answer as a command to the ledger.
    pub fn polled(&mut self, body: &str) -> Command {
        self.write();
        let batch = batch(body);
        self.polls += 1;
        let since = std::mem::replace(&mut self.since, batch.next_batch.clone());
        Command::Polled(Box::new(polled(self.user, self.device, since, batch)))
    }

    /// Applies a command to the ledger and stops there: how much is to be
    /// written, which happens before anything else.
    pub fn ledger_apply(&mut self, command: Command) -> usize {
        let pending = Pending::default();
        let view = Layered { pending: &pending, below: &self.tables };
        self.unwritten = self.ledger.apply(&view, START_MS, command).writes;
        self.unwritten.len()
    }

    fn write(&mut self) {
        let writes = std::mem::take(&mut self.unwritten);
        self.tables.apply(&writes);
    }

    /// Publishes the world as it is.
    pub fn publish(&mut self) -> Arc<World> {
        self.ledger.publish(Pending::default())
    }

    /// The whole list's answer as far as `until`, asked anew and then until
    /// there is no more: the last position.
    pub fn all_rooms(&mut self, until: usize) -> String {
        let mut answer = self.ask(None, (0, 19), 0);
        while !answer.rooms.is_empty() {
            answer = self.ask(Some(&answer.position), (0, until), 0);
        }
        answer.position
    }

    /// Asks, and is answered at once.
    pub fn ask(&mut self, position: Option<&str>, range: (usize, usize), timeout: u64) -> Response {
        let request = self.request(position, range, timeout);
        let effects = self.turn(request);
        self.response(effects).expect("the request is answered at once")
    }

    /// A request for the rooms of a range.
    pub fn request(
        &mut self,
        position: Option<&str>,
        range: (usize, usize),
        timeout_ms: u64,
    ) -> Event {
        let asker =
            Asker { user: self.user, user_id: USER_ID, device: self.device, token_key: [1; 32] };
        self.request_of(&asker, position, range, timeout_ms)
    }

    fn request_of(
        &mut self,
        asker: &Asker<'_>,
        position: Option<&str>,
        range: (usize, usize),
        timeout_ms: u64,
    ) -> Event {
        self.write();
        self.tickets += 1;
        let range = format!("[{},{}]", range.0, range.1);
        let lists = LISTS.replace("RANGE", &range);
        let body = format!(r#"{{"conn_id":"room-list",{lists},{EXTENSIONS}}}"#);
        let mut query = vec![("timeout".to_owned(), timeout_ms.to_string())];
        query.extend(position.map(|position| ("pos".to_owned(), position.to_owned())));
        let limits = RequestLimits::default();
        let user = (asker.user, asker.user_id);
        let request = self.known.parse(Dialect::Simplified, &query, body.as_bytes(), user, &limits);
        Event::Request(Box::new(ClientRequest {
            ticket: Ticket(self.tickets),
            user: asker.user,
            user_id: Arc::from(asker.user_id),
            device: asker.device,
            token: Token { key: asker.token_key, secret: Arc::from("secret") },
            confirmed: true,
            request: request.expect("the request is sound"),
        }))
    }

    /// One turn of the shard with one event.
    pub fn turn(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.shard.apply(event, &self.tables, &mut effects);
        self.shard.settle(&self.tables, &mut effects);
        effects
    }

    /// Carries out what a turn asked for; the response, if there is one.
    pub fn response(&mut self, effects: Vec<Effect>) -> Option<Response> {
        let mut response = None;
        for effect in effects {
            match effect {
                Effect::Respond { answer: Answered::Response(_, answer), .. } => {
                    response = Some(*answer);
                }
                Effect::Ledger(command) => drop(self.take_in(command)),
                Effect::Continue => {
                    let effects = self.turn(Event::Continue);
                    response = self.response(effects).or(response);
                }
                Effect::Validate { user, device, token } => {
                    let validation = Validation::Valid;
                    let validated = Event::Validated { user, device, token, validation };
                    let effects = self.turn(validated);
                    response = self.response(effects).or(response);
                }
                _ => {}
            }
        }
        response
    }

    /// Takes in one event, whatever comes of it.
    pub fn apply(&mut self, event: Event) -> Option<Response> {
        let effects = self.turn(event);
        self.response(effects)
    }

    fn take_in(&mut self, command: Command) -> Reply {
        let (change, reply) = self.fold(command);
        if !change.is_empty() {
            let delta = Delta { world: Arc::clone(&self.world), change };
            self.apply(Event::Delta(Arc::new(delta)));
        }
        reply
    }

    fn fold(&mut self, command: Command) -> (Change, Reply) {
        let pending = Pending::default();
        let view = Layered { pending: &pending, below: &self.tables };
        let applied = self.ledger.apply(&view, START_MS, command);
        self.tables.apply(&applied.writes);
        self.world = self.ledger.publish(Pending::default());
        (applied.change, applied.reply)
    }
}

/// Who asks.
struct Asker<'a> {
    user: UserNumber,
    user_id: &'a str,
    device: DeviceNumber,
    token_key: [u8; 32],
}

/// The room in which messages are sent.
pub const LIVELY: usize = 7;

/// The first of the rooms that neighbours are in.
const NEIGHBOURS_FROM: usize = 500_000;

fn polled(
    user: UserNumber,
    device: DeviceNumber,
    since: Option<String>,
    batch: SyncBatch,
) -> Polled {
    Polled {
        user,
        device,
        since,
        with_rooms: true,
        last_part: true,
        asked_ms: START_MS,
        may_repeat: true,
        batch,
    }
}

/// A homeserver's answer, parsed.
fn batch(body: &str) -> SyncBatch {
    let batch = parse(body.as_bytes(), &Limits::default()).expect("an answer is an object");
    assert_eq!(batch.set_aside, [], "a measured answer is sound");
    batch
}
