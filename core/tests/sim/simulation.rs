//! Virtual time, and everything that travels in it: requests, answers, polls,
//! deltas, commands. Whatever is late or lost is so by the seed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use luge_core::{
    connection::Want,
    id::{DeviceNumber, UserNumber},
    ledger::Command,
    shard::{
        Effect, Event, PollOrder, PollOutcome, Refusal, Shard, ShardLimits, Ticket, Token,
        Validation,
    },
    upstream::{Limits, SyncBatch, parse, parse_news},
    view::MemoryTables,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    client::Connection,
    exchange::{Delivery, Exchange},
    harness::{Book, book::Group},
    homeserver::Homeserver,
    random::Random,
    settings::Settings,
    taking::polled,
    visibility::{Heard, Visibility},
};

pub(crate) const START_MS: u64 = 1_800_000_000_000;
const SECRET: u64 = 7;

/// Who waits for the ledger.
#[derive(Debug)]
pub(crate) enum Then {
    Nothing,
    /// A poll, and what there is to hand over again where a copy was more than that.
    Polled(PollOrder, Box<SyncBatch>),
    /// The same, which was not taken in.
    PolledAgain(PollOrder, Box<SyncBatch>, Heard),
    /// The homeserver is to be asked again.
    Again(PollOrder),
    Fetched(UserNumber, Want),
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Job {
    Activity,
    Poll(PollOrder, u64),
    Ledger,
    Commit,
    Shard(usize, Box<Event>),
    Tick(usize),
    Client(usize),
    Answer(usize, Box<Delivery>),
    Crash,
    Stop,
    Stopped,
}

impl Job {
    /// Whether something is done, and not only waited for.
    fn is_step(&self) -> bool {
        match self {
            Self::Shard(_, event) => matches!(**event, Event::Delta(_)),
            Self::Activity | Self::Answer(..) => true,
            _ => false,
        }
    }

    /// Whether it ends with the process.
    fn is_inside(&self) -> bool {
        matches!(
            self,
            Self::Poll(..)
                | Self::Ledger
                | Self::Commit
                | Self::Shard(..)
                | Self::Tick(_)
                | Self::Stopped
        )
    }
}

/// A device as Luge knows it.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    pub(crate) user: UserNumber,
    pub(crate) device: DeviceNumber,
    /// Which of its tokens is the valid one.
    pub(crate) token: u64,
}

/// One run.
pub(crate) struct Simulation {
    pub(crate) random: Random,
    /// Chance beside: for what runs with one dialect do not have, and for what rooms
    /// hide.
    pub(crate) choices: Random,
    pub(crate) settings: Settings,
    pub(crate) now_ms: u64,
    pub(crate) homeserver: Homeserver,
    pub(crate) connections: Vec<Connection>,
    /// Whether nothing goes wrong any more, so that everything comes to rest.
    pub(crate) calm: bool,
    /// Whether clients ask for all that is checked, and for nothing else any more.
    pub(crate) settles: bool,
    /// Rooms in which somebody has begun to type since.
    pub(crate) typed: BTreeSet<usize>,
    /// Users of whose devices one had its position rejected.
    pub(crate) rejected: BTreeSet<usize>,
    pub(crate) actions: usize,
    /// Actions, requests, answers, polls and deltas so far.
    pub(crate) steps: u64,
    /// Answers to polls that were nothing but a copy.
    pub(crate) copies: u64,
    pub(crate) book: Book,
    pub(crate) jobs: BTreeMap<(u64, u64), Job>,
    pub(crate) order: u64,
    pub(crate) tickets: u64,
    pub(crate) numbers: Vec<Numbers>,
    pub(crate) by_device: BTreeMap<DeviceNumber, usize>,
    pub(crate) exchange: Exchange,
    pub(crate) shards: Vec<Shard>,
    pub(crate) polls: BTreeMap<DeviceNumber, u64>,
    /// When the last delta reaches each shard: they stay in order.
    pub(crate) deltas_ms: Vec<u64>,
    /// When the last request of each connection reaches its shard.
    pub(crate) requests_ms: Vec<u64>,
    pub(crate) commands: VecDeque<(Command, Then, Heard)>,
    /// The version of the world that each shard has.
    pub(crate) versions: Vec<u64>,
    pub(crate) group: Option<(Group, Vec<Then>)>,
    pub(crate) drained: Vec<bool>,
    pub(crate) stopping: bool,
    pub(crate) visibility: Visibility,
    pub(crate) trace: u64,
    /// Whether it is told what happens.
    pub(crate) logs: bool,
}

impl Simulation {
    pub(crate) fn new(seed: u64, settings: Settings) -> Self {
        let mut simulation = Self {
            random: Random::new(seed),
            choices: Random::new(!seed),
            settings,
            now_ms: START_MS,
            homeserver: Homeserver::default(),
            connections: Vec::new(),
            calm: false,
            settles: false,
            typed: BTreeSet::new(),
            rejected: BTreeSet::new(),
            actions: 0,
            steps: 0,
            copies: 0,
            book: Book::open(MemoryTables::default()),
            jobs: BTreeMap::new(),
            order: 0,
            tickets: 0,
            numbers: Vec::new(),
            by_device: BTreeMap::new(),
            exchange: Exchange::default(),
            shards: Vec::new(),
            polls: BTreeMap::new(),
            deltas_ms: Vec::new(),
            requests_ms: Vec::new(),
            commands: VecDeque::new(),
            versions: Vec::new(),
            group: None,
            drained: Vec::new(),
            stopping: false,
            visibility: Visibility::default(),
            trace: seed,
            logs: std::env::var_os("LUGE_SIM_LOG").is_some(),
        };
        simulation.homeserver.state_after = simulation.random.chance(500);
        simulation.homeserver.behind_ms = settings.clocks(seed);
        simulation.homeserver.says_replaced = settings.clocks_behind || seed.is_multiple_of(2);
        simulation.populate();
        simulation.sign_in();
        simulation.start();
        simulation
    }

    /// Actions, requests, answers, polls and deltas so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Answers to polls that were nothing but a copy.
    pub(crate) fn copies(&self) -> u64 {
        self.copies
    }

    pub(crate) fn trace(&self) -> u64 {
        self.trace
    }

    pub(crate) fn events(&self) -> u64 {
        self.homeserver.rooms.iter().map(|room| room.events.len() as u64).sum()
    }

    /// The process starts, with what the tables hold.
    fn start(&mut self) {
        self.jobs.retain(|_, job| !job.is_inside());
        self.book = Book::open(self.book.tables().clone());
        self.book.ledger.set_limits(self.settings.ledger_limits());
        let limits = ShardLimits {
            answers: self.settings.answer_limits(),
            backoff_max_ms: 2_000,
            save_every_ms: 1_000,
            repair_interval_ms: 5_000,
            refetch_after_ms: 5_000,
            load_rooms_max: 2,
            poll_repeats_max: self.settings.poll_repeats_max(),
            ..ShardLimits::default()
        };
        let shard =
            || Shard::new(limits.clone(), Arc::clone(self.book.world()), self.now_ms, SECRET);
        self.shards = (0..self.settings.shards).map(|_| shard()).collect();
        self.deltas_ms = vec![self.now_ms; self.shards.len()];
        self.versions = vec![self.book.world().version; self.shards.len()];
        self.visibility.start();
        self.polls.clear();
        self.exchange.forget_given();
        self.commands.clear();
        self.group = None;
        self.drained = vec![false; self.shards.len()];
        self.stopping = false;
        for shard in 0..self.shards.len() {
            self.push(0, Job::Tick(shard));
        }
        for at in 0..self.connections.len() {
            let connection = &mut self.connections[at];
            // An answer that is on its way arrives; a request that waits is cut off.
            if !connection.answered {
                connection.waiting = None;
                let delay = self.random.between(1, 1_000);
                self.push(delay, Job::Client(at));
            }
        }
    }

    pub(crate) fn push(&mut self, delay_ms: u64, job: Job) {
        self.push_at(self.now_ms + delay_ms, job);
    }

    pub(crate) fn push_at(&mut self, at_ms: u64, job: Job) {
        self.order += 1;
        self.jobs.insert((at_ms, self.order), job);
    }

    /// From the first event to the check of everything.
    pub(crate) fn run(&mut self) {
        self.push(0, Job::Activity);
        if self.settings.crashes {
            for _ in 0..2 {
                let at = self.random.between(1, 60_000);
                self.push(at, Job::Crash);
            }
        }
        let at = self.random.between(1, 60_000);
        self.push(at, Job::Stop);
        while !self.is_over() {
            self.step();
        }
        self.come_to_rest();
    }

    fn is_over(&self) -> bool {
        self.actions >= self.settings.actions || self.events() >= self.settings.events as u64
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.jobs.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.step();
        }
        self.now_ms = until;
    }

    fn step(&mut self) {
        let Some(((at, _), job)) = self.jobs.pop_first() else { panic!("nothing ever happens") };
        self.now_ms = self.now_ms.max(at);
        self.homeserver.now_ms = self.homeserver.now_ms.max(self.now_ms);
        self.steps += u64::from(job.is_step());
        match job {
            Job::Activity => {
                if !self.calm {
                    self.actions += 1;
                    self.act();
                    let pause_ms = self.random.between(0, self.settings.pause_ms);
                    self.push(pause_ms, Job::Activity);
                }
            }
            Job::Poll(order, until) => self.poll(order, until),
            Job::Ledger => self.take_in(),
            Job::Commit => self.commit(),
            Job::Shard(shard, event) => self.turn(shard, *event),
            Job::Tick(shard) => {
                self.turn(shard, Event::Tick(self.now_ms));
                self.push(250, Job::Tick(shard));
            }
            Job::Client(connection) => self.client(connection),
            Job::Answer(connection, reply) => self.answer(connection, &reply),
            Job::Crash if !self.calm => {
                let last = Ticket(self.tickets);
                self.connections.iter_mut().for_each(|it| it.may_forget = Some(last));
                self.start();
            }
            Job::Stop if !self.calm => {
                self.stopping = true;
                for shard in 0..self.shards.len() {
                    self.send(shard, Event::Stop);
                }
                self.push(50, Job::Stopped);
            }
            Job::Stopped => {
                let idle = self.commands.is_empty() && self.group.is_none();
                if idle && self.drained.iter().all(|drained| *drained) {
                    self.start();
                } else {
                    self.push(50, Job::Stopped);
                }
            }
            Job::Crash | Job::Stop => {}
        }
    }

    // Shards.

    pub(crate) fn shard_of(&self, user: UserNumber) -> usize {
        user.0 as usize % self.shards.len()
    }

    /// An event that may overtake others.
    pub(crate) fn send(&mut self, shard: usize, event: Event) {
        let delay_ms = self.random.between(0, 40);
        self.push(delay_ms, Job::Shard(shard, Box::new(event)));
    }

    fn turn(&mut self, shard: usize, event: Event) {
        if self.drained[shard] {
            return;
        }
        self.note(&format!("{shard} {}", name_of(&event)));
        if let Event::Delta(delta) = &event {
            self.versions[shard] = self.versions[shard].max(delta.world.version);
        }
        let is_tick = matches!(event, Event::Tick(_));
        let early = is_tick && self.now_ms < self.shards[shard].due_ms();
        let mut effects = Vec::new();
        self.shards[shard].apply(event, self.book.tables(), &mut effects);
        assert!(!early || effects.is_empty(), "a tick before anything is due does nothing");
        assert!(!is_tick || self.now_ms < self.shards[shard].due_ms(), "a tick does what is due");
        if self.random.chance(800) {
            self.shards[shard].settle(self.book.tables(), &mut effects);
        }
        for effect in effects {
            self.carry_out(shard, effect);
        }
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.trace = xxh3_64_with_seed(text.as_bytes(), self.trace);
    }

    fn carry_out(&mut self, shard: usize, effect: Effect) {
        match effect {
            Effect::Respond { ticket, answer } => self.respond(shard, ticket, &answer),
            Effect::Poll(order) => {
                self.note(&format!("{:?} {:?} {}", order.device, order.since, order.with_rooms));
                let until = self.now_ms + order.timeout_ms;
                let again = self.polls.insert(order.device, until);
                assert_eq!(again, None, "a device has one poll in flight");
                let delay_ms = self.random.between(1, 60);
                self.push(delay_ms, Job::Poll(order, until));
            }
            Effect::CancelPoll(device) => drop(self.polls.remove(&device)),
            Effect::Validate { user, device, token: asked } => {
                let number = self.by_device[&device];
                let valid = asked == token(number, self.numbers[number].token);
                let validation = match (valid, !self.calm && self.random.chance(30)) {
                    (true, false) => Validation::Valid,
                    (true, true) => Validation::Unknown(down()),
                    (false, _) => Validation::Refused(unauthorized()),
                };
                self.send(shard, Event::Validated { user, device, token: asked, validation });
            }
            Effect::Fetch(order) => self.fetch(order),
            Effect::Ledger(command) => self.command(command, Then::Nothing, Heard::default()),
            Effect::Continue => {
                // Not by chance: that is for what there was before.
                let delay_ms = self.order % 40;
                self.push(delay_ms, Job::Shard(shard, Box::new(Event::Continue)));
            }
            Effect::Drained => self.drained[shard] = true,
        }
    }

    // The homeserver.

    fn poll(&mut self, order: PollOrder, until: u64) {
        if self.polls.get(&order.device) != Some(&until) {
            return;
        }
        let number = self.by_device[&order.device];
        let since = order.since.as_deref().map(position);
        let outcome = if order.token != token(number, self.numbers[number].token) {
            Some(PollOutcome::Unauthorized(unauthorized()))
        } else if since.is_some_and(|since| self.homeserver.has_lost(number, since)) {
            Some(PollOutcome::SinceRejected)
        } else if self.calm || !self.random.chance(30) {
            None
        } else {
            Some(self.failure(number, since))
        };
        if let Some(outcome) = outcome {
            return self.poll_ended(&order, outcome);
        }
        if since.is_some_and(|since| !self.homeserver.has_news(number, since))
            && self.now_ms < until
        {
            let delay_ms = self.random.between(20, 400).min(until - self.now_ms);
            return self.push(delay_ms, Job::Poll(order, until));
        }
        self.steps += 1;
        let answer = self.homeserver.sync(number, since, order.with_rooms);
        let whole = parse(answer.body.as_bytes(), &Limits::default()).expect("an object");
        assert_eq!(whole.set_aside, [], "the homeserver is sound");
        let batch = self.news(&order, &answer.body).unwrap_or_else(|| whole.clone());
        for connection in self.connections.iter_mut().filter(|it| it.device == number) {
            // An initial answer says nothing of what devices changed before it.
            if since.is_none() {
                connection.floor = connection.floor.max(answer.heard.next);
            }
        }
        if order.is_known(&batch, self.now_ms) {
            return self.poll_advanced(&order, &whole);
        }
        let command = polled(&order, batch);
        self.command(command, Then::Polled(order, Box::new(whole)), answer.heard);
    }

    /// An answer less what of it is known, as a shard reads it.
    fn news(&self, order: &PollOrder, body: &str) -> Option<SyncBatch> {
        let world = self.book.world();
        let user_id = world.user_id(order.user).filter(|_| order.since.is_some())?;
        let known = |room_id: &str| world.lately(room_id);
        let batch = parse_news(body.as_bytes(), &Limits::default(), user_id, known);
        Some(batch.expect("an object"))
    }

    pub(crate) fn poll_advanced(&mut self, order: &PollOrder, whole: &SyncBatch) {
        let number = self.by_device[&order.device];
        for connection in self.connections.iter_mut().filter(|it| it.device == number) {
            connection.unsent.values_mut().for_each(|room| room.polled(order.asked_ms));
        }
        let silence = whole.silence(order.since.as_deref());
        let since = whole.next_batch.clone();
        self.poll_ended(order, PollOutcome::Advanced { since, silence });
    }

    fn failure(&mut self, number: usize, since: Option<u64>) -> PollOutcome {
        match self.random.below(5) {
            0 => PollOutcome::Limited { wait_ms: self.random.between(1, 1_000) },
            1 => {
                self.numbers[number].token += 1;
                PollOutcome::Unauthorized(unauthorized())
            }
            2 if since.is_some() => {
                self.homeserver.reject(number, since.unwrap_or(0));
                self.rejected.insert(self.homeserver.devices[number].user);
                PollOutcome::SinceRejected
            }
            3 => PollOutcome::Refused(Refusal::new(403, "M_RESOURCE_LIMIT_EXCEEDED", "full")),
            _ => PollOutcome::Failed(down()),
        }
    }

    pub(crate) fn poll_ended(&mut self, order: &PollOrder, outcome: PollOutcome) {
        self.polls.remove(&order.device);
        let (user, device) = (order.user, order.device);
        let shard = self.shard_of(user);
        self.send(shard, Event::PollFinished { user, device, outcome });
    }
}

/// A device's token.
pub(crate) fn token(device: usize, version: u64) -> Token {
    let secret: Arc<str> = format!("token-{device}-{version}").into();
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(device as u64).to_be_bytes());
    key[8..16].copy_from_slice(&version.to_be_bytes());
    Token { key, secret }
}

fn position(since: &str) -> u64 {
    since.trim_start_matches('s').parse().expect("a position of the homeserver's")
}

fn unauthorized() -> Refusal {
    Refusal::new(401, "M_UNKNOWN_TOKEN", "an old token")
}

fn down() -> Refusal {
    Refusal::new(502, "M_UNKNOWN", "down")
}

/// What a trace says of an event.
fn name_of(event: &Event) -> String {
    match event {
        Event::Delta(delta) => format!("delta {} {:?}", delta.world.version, delta.change),
        other => format!("{other:?}"),
    }
}
