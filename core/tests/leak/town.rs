//! Alice's room, Bob's own rooms, and what comes of asking for everything.

use std::{collections::BTreeSet, sync::Arc};

use luge_core::{
    connection::Want,
    request::Dialect,
    shard::{FetchOrder, ShardLimits},
};
use serde_json::{Value, json};

use crate::{
    answers::position,
    driver::{Client, Luge},
    events::{ALICE, BOB, at, beginning, joined, joined_with, member, merge, message, name, state},
    requests,
};

/// Part of every text that only some may see. Lower case, so that it is a
/// matrix id too.
pub(crate) const SECRET: &str = "s3cret";

/// The room with secrets.
pub(crate) const ROOM: &str = "!r:x";

/// A room that Alice may be invited to.
pub(crate) const INVITE: &str = "!i:x";

/// A room of Bob's that says it replaced [`ROOM`].
pub(crate) const REPLACED_BY: &str = "!new:x";

/// A room of Bob's alone.
pub(crate) const OWN: &str = "!own:x";

/// Somebody in the room whom Luge does not serve.
pub(crate) const DORA: &str = "@dora:y";

/// Whose answers are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Observer {
    Bob,
    Alice,
    /// Alice's other device.
    SecondDevice,
}

/// An answer, and how it came to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// The request's name.
    pub(crate) request: &'static str,
    /// On which connection, and when.
    pub(crate) how: &'static str,
    /// The answer without its position; null where there was none.
    pub(crate) answer: Value,
}

/// A Luge and those whom it serves.
pub(crate) struct Town {
    pub(crate) luge: Luge,
    pub(crate) alice: Client,
    second: Client,
    pub(crate) bob: Client,
    dialect: Dialect,
    events: u64,
    /// The room's state, where it was looked at.
    state: Vec<Value>,
}

/// A connection that has been answered, and what it asks.
struct Open {
    request: &'static str,
    body: Value,
    position: String,
}

impl Town {
    pub(crate) fn new(dialect: Dialect) -> Self {
        let mut luge = Luge::with(ShardLimits { connections_max: 64, ..ShardLimits::default() });
        luge.speak(dialect);
        let (alice, second) = (luge.sign_in(ALICE, "A"), luge.sign_in(ALICE, "A2"));
        let bob = luge.sign_in(BOB, "B");
        let mut town = Self { luge, alice, second, bob, dialect, events: 0, state: Vec::new() };
        town.alice_hears(joined(ROOM, &beginning("$r", &[ALICE, DORA])));
        let alone = |prefix: &str, user, named: &str| {
            let mut events = beginning(prefix, &[user]);
            events.push(name(&format!("{prefix}-name"), user, named));
            events
        };
        town.alice_hears(joined("!alices:x", &alone("$alices", ALICE, "Mine")));
        town.bob_hears(joined(OWN, &alone("$own", BOB, "Mine")));
        let mut replaced_by = alone("$new", BOB, "New");
        replaced_by[0]["content"]["predecessor"] = json!({"room_id": ROOM});
        town.bob_hears(joined(REPLACED_BY, &replaced_by));
        let second = town.second.clone();
        town.luge.sync_without_rooms(&second, json!({}));
        town
    }

    /// The homeserver answers Alice's first device.
    pub(crate) fn alice_hears(&mut self, answer: Value) {
        let alice = self.alice.clone();
        self.luge.sync(&alice, answer);
    }

    /// The homeserver answers Bob's device.
    pub(crate) fn bob_hears(&mut self, answer: Value) {
        let bob = self.bob.clone();
        self.luge.sync(&bob, answer);
    }

    /// Alice's first device is told of new events in the room, whose ids are made
    /// unlike. Their times do not move on those of later events.
    pub(crate) fn happens(&mut self, events: &[Value]) {
        let events: Vec<Value> = events.iter().map(|event| self.dated(event)).collect();
        self.alice_hears(joined(ROOM, &events));
    }

    /// As [`Self::happens`], behind a gap that can be filled from `prev_batch`.
    pub(crate) fn happens_later(&mut self, events: &[Value], prev_batch: &str) {
        let events: Vec<Value> = events.iter().map(|event| self.dated(event)).collect();
        let more = json!({"timeline": {"limited": true, "prev_batch": prev_batch}});
        self.alice_hears(joined_with(ROOM, &events, more));
    }

    fn dated(&mut self, event: &Value) -> Value {
        self.events += 1;
        let mut event = event.clone();
        event["origin_server_ts"] = (self.luge.now_ms() - 1_000 + self.events).into();
        let event_id = event["event_id"].as_str().expect("an event has an id");
        event["event_id"] = format!("{event_id}-{}", self.events).into();
        event
    }

    /// There is state whose end a gap hides: the homeserver is asked for the whole.
    pub(crate) fn hides_end_of_state(&mut self) {
        let content = json!({"v": SECRET});
        self.happens(&[state("$s3cret-state", "org.example.s3", SECRET, DORA, content)]);
        // Her shard knows Alice from then on.
        let (alice, request) = (self.alice.clone(), requests::all_of_room(self.dialect));
        let answer = self.ask(&alice, "state", &request);
        let state = answer["rooms"][ROOM]["required_state"].as_array();
        state.expect("Alice is in the room").clone_into(&mut self.state);
        self.happens_later(&[message("$s3cret-after", DORA)], "s3cret-token");
        self.luge.wait(2_000);
    }

    /// It turns out that the state has gone.
    pub(crate) fn misses_state(&mut self) {
        let is_left = |event: &&Value| event["state_key"] != SECRET;
        let left: Vec<Value> = self.state.iter().filter(is_left).cloned().collect();
        assert_eq!(left.len(), self.state.len() - 1, "it was there");
        self.luge.give_state(&left);
    }

    /// A gap hides messages, and Alice asks for more than there is.
    pub(crate) fn asks_for_history(&mut self) {
        self.happens_later(&[message("$later", DORA)], "later");
        let (alice, request) = (self.alice.clone(), requests::all_of_room(self.dialect));
        self.ask(&alice, "history", &request);
    }

    /// She is given what came before.
    pub(crate) fn is_given_history(&mut self) {
        let is_hers = |order: &FetchOrder| {
            matches!(order.want, Want::History(_)) && order.user == self.alice.user
        };
        let at = self.luge.fetches.iter().position(is_hers).expect("Alice's history is fetched");
        let Want::History(want) = self.luge.fetches.remove(at).want else { unreachable!() };
        let messages = ["$s3cret-2", "$s3cret-1"].map(|id| message(id, DORA));
        self.luge.answer_history(&want, &messages, Some("s3cret-end"));
    }

    /// Somebody of whom no member event is known speaks, and Alice and Bob ask for it.
    pub(crate) fn lacks_a_member(&mut self) {
        self.happens(&[message("$hello", "@stranger:x")]);
        let request = requests::all(self.dialect).swap_remove(3).1;
        for observer in [Observer::Alice, Observer::Bob] {
            let client = self.client(observer);
            self.ask(&client, "lacking", &request);
        }
    }

    /// Alice is given it. By its sender's clock it is older than all that is known.
    pub(crate) fn is_given_a_member(&mut self) {
        let room = self.luge.room_number(ROOM);
        let mut join = member("$s3cret", "@stranger:x", "join");
        join["content"]["displayname"] = SECRET.into();
        join["origin_server_ts"] = 1.into();
        let alice = self.alice.clone();
        self.luge.answer_member(&alice, room, &join);
    }

    /// Something else happens in rooms of Alice's and of Bob's, so that the room
    /// is not the first of their lists.
    pub(crate) fn life_goes_on(&mut self) {
        self.luge.wait(1_000);
        let [of_alice, of_bob] = ["$alices-later", "$own-later"].map(|id| {
            let mut event = message(id, DORA);
            event["origin_server_ts"] = self.luge.now_ms().into();
            [event]
        });
        self.alice_hears(joined("!alices:x", &of_alice));
        self.bob_hears(joined(OWN, &of_bob));
        self.luge.wait(5_000);
    }

    /// The create event with more to it, as if it had been so from the start.
    pub(crate) fn was_created_with(&mut self, more: Value) {
        let mut content = json!({"room_version": "10", "creator": ALICE});
        merge(&mut content, more);
        self.happens(&[state("$s3cret-create", "m.room.create", "", ALICE, content)]);
    }

    pub(crate) fn client(&self, observer: Observer) -> Client {
        match observer {
            Observer::Bob => self.bob.clone(),
            Observer::Alice => self.alice.clone(),
            Observer::SecondDevice => self.second.clone(),
        }
    }

    /// Asks, and waits for as long as it takes.
    pub(crate) fn ask(&mut self, client: &Client, connection: &str, request: &Value) -> Value {
        let mut request = request.clone();
        request["conn_id"] = connection.into();
        request["timeout"] = 0.into();
        let ticket = self.luge.send(client, request);
        for _ in 0..3 {
            if let Some(got) = self.luge.answered(ticket) {
                assert_eq!(got.status, 200, "{}", got.body);
                return got.body;
            }
            self.luge.wait(3_000);
        }
        panic!("a request that waits for nothing is answered")
    }
}

/// A look from outside, begun before something happens and ended after it.
pub(crate) struct Look {
    client: Client,
    /// The requests that are made.
    requests: Vec<requests::Named>,
    /// Connections that have seen the beginning alone.
    early: Vec<Open>,
    /// Connections that have seen all but what happens, and wait for it.
    late: Vec<Open>,
    seen: Vec<Seen>,
}

impl Look {
    /// Opens the connections that go on later. Those requests are made that ask
    /// for the most, and those of `names`.
    pub(crate) fn begin(town: &mut Town, observer: Observer, names: &BTreeSet<&str>) -> Self {
        let client = town.client(observer);
        let mut requests = requests::all(town.dialect);
        requests.retain(|(name, _)| requests::MAIN.contains(name) || names.contains(name));
        let (early, late, seen) = (Vec::new(), Vec::new(), Vec::new());
        let mut look = Self { client, requests, early, late, seen };
        look.early = look.open(town, "early", look.requests.clone());
        look
    }

    fn main_requests(&self) -> Vec<requests::Named> {
        let is_main = |(name, _): &&requests::Named| requests::MAIN.contains(name);
        self.requests.iter().filter(is_main).cloned().collect()
    }

    /// Opens those that know of everything up to here. They ask for little, so
    /// that they can ask for more.
    pub(crate) fn go_on(&mut self, town: &mut Town) {
        self.late = self.open(town, "late", self.main_requests());
    }

    fn open(
        &mut self,
        town: &mut Town,
        connection: &'static str,
        requests: Vec<requests::Named>,
    ) -> Vec<Open> {
        let open = |(request, body): requests::Named| {
            let name = format!("{connection} {request}");
            let asked =
                if connection == "late" { requests::small(body.clone()) } else { body.clone() };
            let answer = town.ask(&self.client, &name, &asked);
            let position = position(&answer).to_owned();
            self.see(request, connection, answer);
            Open { request, body, position }
        };
        requests.into_iter().map(open).collect()
    }

    fn see(&mut self, request: &'static str, how: &'static str, mut answer: Value) {
        if let Some(members) = answer.as_object_mut() {
            members.remove("pos");
        }
        self.seen.push(Seen { request, how, answer });
    }

    /// `happens` happens while the connections wait. Then everything is asked
    /// for in every way.
    pub(crate) fn end(mut self, town: &mut Town, happens: impl FnOnce(&mut Town)) -> Vec<Seen> {
        self.wait_for_it(town, happens);
        for mut open in std::mem::take(&mut self.early) {
            self.ask(town, "early", "early, after it", &mut open);
        }
        let mut late = std::mem::take(&mut self.late);
        for open in &mut late {
            let before = open.position.clone();
            self.ask(town, "late", "late, for more", open);
            open.position = before;
            self.ask(town, "late", "late, again from before", open);
        }
        for (request, body) in self.requests.clone() {
            self.fresh(town, "fresh", request, &body);
        }
        town.luge.restart();
        for open in &mut late {
            self.ask(town, "late", "late, after a restart", open);
        }
        for (request, body) in self.main_requests() {
            self.fresh(town, "fresh, after a restart", request, &body);
        }
        let fetches: Vec<Value> = town
            .luge
            .fetches
            .iter()
            .filter(|order| order.user == self.client.user)
            .map(|order| format!("{:?} of {}", order.want, order.room_id).into())
            .collect();
        self.see("fetches", "", fetches.into());
        self.seen
    }

    fn wait_for_it(&mut self, town: &mut Town, happens: impl FnOnce(&mut Town)) {
        let mut held = Vec::new();
        for open in &self.late {
            let mut request = at(&open.position, requests::small(open.body.clone()));
            request["conn_id"] = format!("late {}", open.request).into();
            request["timeout"] = 2_000.into();
            held.push(town.luge.send(&self.client, request));
        }
        happens(town);
        for (index, ticket) in held.into_iter().enumerate() {
            let request = self.late[index].request;
            let woken = town.luge.answered(ticket);
            let at_once = woken.as_ref().map_or(Value::Null, |got| got.body.clone());
            self.see(request, "late, woken", at_once);
            let got = woken.unwrap_or_else(|| {
                town.luge.wait(3_000);
                town.luge.answered(ticket).expect("a request is answered at its timeout")
            });
            assert_eq!(got.status, 200, "{}", got.body);
            position(&got.body).clone_into(&mut self.late[index].position);
            self.see(request, "late, in the end", got.body);
        }
    }

    fn fresh(&mut self, town: &mut Town, how: &'static str, request: &'static str, body: &Value) {
        let answer = town.ask(&self.client, &format!("fresh {request}"), body);
        self.see(request, how, answer);
    }

    fn ask(&mut self, town: &mut Town, connection: &str, how: &'static str, open: &mut Open) {
        let name = format!("{connection} {}", open.request);
        let answer = town.ask(&self.client, &name, &at(&open.position, open.body.clone()));
        position(&answer).clone_into(&mut open.position);
        self.see(open.request, how, answer);
    }
}

/// Everything that was seen, in one text.
pub(crate) fn text_of(seen: &[Seen]) -> Arc<str> {
    seen.iter().map(|it| it.answer.to_string()).collect::<Vec<_>>().join("\n").into()
}
