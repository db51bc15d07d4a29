//! Between clients and shards: requests, their cancelling, answers, losses.

use std::collections::BTreeMap;

use luge_core::{
    dialect::{self, RequestLimits},
    request::{Dialect, Request},
    shard::{Answered, ClientRequest, Event, Ticket},
};
use serde_json::Value;

use crate::{
    client::{Asking, Connection},
    harness::strict,
    homeserver::user_id,
    lists::{Windows, windows},
    log,
    simulation::{Job, Simulation, token},
    wanted::extension_name,
};

/// An answer on its way to a client.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) ticket: Ticket,
    status: u16,
    body: String,
    windows: Windows,
}

/// What is known of requests and their answers.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// By ticket: the connection, its position, and MSC3575's transaction.
    sent: BTreeMap<Ticket, (usize, Option<String>, Option<String>)>,
    /// What each connection of MSC3575 was answered at a position, since the
    /// process started.
    given: BTreeMap<(usize, String), String>,
    /// The version of the world that the response to a transaction was made from,
    /// since the process started.
    made: BTreeMap<(usize, String), u64>,
}

impl Exchange {
    /// What only the process knew is gone.
    pub(crate) fn forget_given(&mut self) {
        self.given.clear();
        self.made.clear();
    }

    /// A connection that is answered in order gets the same answer at a position,
    /// whatever it asks, until it has taken it in.
    fn check_given(&mut self, at: usize, position: Option<&String>, body: &str) {
        let Some(position) = position else { return };
        let before = self.given.entry((at, position.clone())).or_insert_with(|| body.to_owned());
        assert_eq!(before, body, "the answer at {position} changes");
    }
}

impl Simulation {
    pub(crate) fn client(&mut self, at: usize) {
        if self.stopping {
            return;
        }
        if let Some((ticket, _)) = self.connections[at].waiting.clone() {
            // Cancel, and ask again, with the same position.
            let abandons = !self.calm && self.random.chance(150);
            if !abandons || self.connections[at].answered {
                return;
            }
            self.connections[at].waiting = None;
            self.request(at, Event::Abandoned(ticket));
        }
        if !self.calm && self.random.chance(20) {
            self.connections[at].reset();
        }
        self.choose(at);
        self.tickets += 1;
        self.steps += 1;
        let ticket = Ticket(self.tickets);
        let asking = self.ask(at);
        let connection = &mut self.connections[at];
        connection.waiting = Some((ticket, asking.wanted.clone()));
        connection.answered = false;
        let connection = &self.connections[at];
        let position = connection.position.clone();
        let transaction = asking.body["txn_id"].as_str().map(str::to_owned);
        self.exchange.sent.insert(ticket, (at, position, transaction));
        if self.logs {
            log::request(self.now_ms, connection, &asking);
        }
        let request = request(connection, &asking);
        let numbers = &self.numbers[connection.device];
        let request = ClientRequest {
            ticket,
            user: numbers.user,
            user_id: user_id(connection.user).into(),
            device: numbers.device,
            token: token(connection.device, numbers.token),
            confirmed: false,
            request,
        };
        self.request(at, Event::Request(Box::new(request)));
        let delay_ms = self.random.between(10, 4_000);
        self.push(delay_ms, Job::Client(at));
    }

    /// The next request; the last one again where its answer was not taken in,
    /// and chance wants it.
    fn ask(&mut self, at: usize) -> Asking {
        let connection = &mut self.connections[at];
        if self.settings.dialects
            && let Some((position, last)) = &connection.last
            && *position == connection.position
            && position.is_some()
            && self.choices.chance(500)
        {
            return last.clone();
        }
        let asking = connection.asking();
        connection.last = Some((connection.position.clone(), asking.clone()));
        asking
    }

    /// What one connection sends stays in order.
    fn request(&mut self, at: usize, event: Event) {
        let shard = self.shard_of(self.numbers[self.connections[at].device].user);
        let at_ms = self.now_ms + self.random.between(1, 30);
        self.requests_ms[at] = self.requests_ms[at].max(at_ms);
        self.push_at(self.requests_ms[at], Job::Shard(shard, Box::new(event)));
    }

    /// A shard answers a request.
    pub(crate) fn respond(&mut self, shard: usize, ticket: Ticket, answer: &Answered) {
        let Some((at, position, transaction)) = self.exchange.sent.remove(&ticket) else {
            panic!("{ticket:?} is answered twice")
        };
        let (status, body, windows) = match answer {
            Answered::Response(dialect, response) => {
                (200, dialect::write(*dialect, response), windows(response))
            }
            Answered::Refused(refusal) => (refusal.status, refusal.body.clone(), Windows::new()),
        };
        self.note(&body);
        let connection = &self.connections[at];
        let user = connection.user;
        if status == 200 {
            let value = read(connection.dialect, &body);
            let mut version = self.versions[shard];
            if let Some(transaction) = transaction {
                self.exchange.made.entry((at, transaction)).or_insert(version);
            }
            if let Some(transaction) = value["txn_id"].as_str() {
                version = self.exchange.made[&(at, transaction.to_owned())];
            }
            if connection.dialect == Dialect::Msc3575 {
                self.exchange.check_given(at, position.as_ref(), &body);
            }
            self.visibility.check(&self.homeserver, user, &value, version);
        }
        let connection = &mut self.connections[at];
        if connection.waiting.as_ref().is_some_and(|(waiting, _)| *waiting == ticket) {
            connection.answered = true;
            if connection.position.is_none() {
                let device = &self.homeserver.devices[connection.device];
                connection.floor = connection.floor.max(device.answered);
            }
        }
        let delay_ms = self.random.between(1, 60);
        self.push(delay_ms, Job::Answer(at, Box::new(Delivery { ticket, status, body, windows })));
    }

    pub(crate) fn answer(&mut self, at: usize, reply: &Delivery) {
        let Delivery { ticket, status, body, windows } = reply;
        let connection = &mut self.connections[at];
        let Some((_, wanted)) = connection.waiting.take_if(|(waiting, _)| waiting == ticket) else {
            return;
        };
        connection.answered = false;
        let lost = !self.calm && self.random.chance(100);
        if self.logs {
            log::answer(self.now_ms, connection, *status, body, lost);
        }
        match status {
            200 if lost => {}
            200 => {
                let value: Value = serde_json::from_str(body).expect("an answer is JSON");
                connection.may_forget.take_if(|crashed| *ticket > *crashed);
                connection.take_in(&value, &wanted, windows, self.now_ms);
            }
            400 => {
                assert!(body.contains("M_UNKNOWN_POS"), "{body}");
                assert!(connection.may_forget.is_some(), "a position is lost without a crash");
                connection.reset();
            }
            _ => {}
        }
        let delay_ms = if *status == 200 { self.random.between(1, 30) } else { 200 };
        self.push(delay_ms, Job::Client(at));
    }
}

/// A request as it comes over the wire.
fn request(connection: &Connection, asking: &Asking) -> Request {
    let timeout_ms = asking.wanted.timeout_ms;
    let mut body = asking.body.clone();
    let mut query = Vec::new();
    if connection.dialect == Dialect::V4 {
        body["timeout"] = timeout_ms.into();
        if let Some(position) = &connection.position {
            body["pos"] = position.as_str().into();
        }
    } else {
        query.push(("timeout".to_owned(), timeout_ms.to_string()));
        query.extend(connection.position.iter().map(|pos| ("pos".to_owned(), pos.clone())));
    }
    let (body, limits) = (body.to_string(), RequestLimits::default());
    let own = user_id(connection.user);
    dialect::parse(connection.dialect, &query, body.as_bytes(), &own, &limits)
        .unwrap_or_else(|error| panic!("a sound request is refused: {error}\n{body}"))
}

/// An answer as ruma accepts it, with the extensions' common names.
fn read(dialect: Dialect, body: &str) -> Value {
    strict(body);
    let mut value: Value = serde_json::from_str(body).expect("an answer is JSON");
    let typing = value["extensions"][extension_name(dialect, "typing")].take();
    value["extensions"]["typing"] = typing;
    value
}
