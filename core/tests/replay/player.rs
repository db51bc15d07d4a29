//! A conversation, had again with Luge.

use std::collections::{BTreeMap, BTreeSet};

use luge_core::{connection::Want, shard::FetchOrder};
use serde_json::{Value, json};

use crate::{
    driver::{Client, Got, Luge},
    homeserver::Homeserver,
    recording::{Conversation, Exchange, Stand, elements, text},
};

/// An exchange with both answers.
pub(crate) struct Answered<'a> {
    pub(crate) exchange: &'a Exchange,
    /// The homeserver's.
    pub(crate) recorded: &'a Value,
    /// Luge's.
    pub(crate) luges: Value,
    /// Where the homeserver stood.
    pub(crate) stand: Stand,
    /// The state that Luge had sent on the connection before: ids of events.
    pub(crate) held: BTreeSet<String>,
    /// Whether the news that the homeserver answered with did not make Luge
    /// answer: the timeout did.
    pub(crate) timed_out: bool,
}

/// Whether Luge is left alone or starts again before every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restarts {
    Never,
    Always,
}

struct Player<'a> {
    luge: Luge,
    homeserver: &'a Homeserver,
    restarts: Restarts,
    now_ms: u64,
    /// Where the homeserver stands.
    stand: Stand,
    devices: BTreeMap<String, Device>,
}

/// A device as it is known to Luge and to its poller.
struct Device {
    client: Client,
    /// Up to where its poller has been told.
    told: Option<Stand>,
    /// What Luge gave in place of the recorded positions, by connection.
    positions: BTreeMap<(String, String), Value>,
    /// What Luge gave in place of the recorded `to_device` tokens.
    tokens: BTreeMap<String, Value>,
    /// The state that was sent, by connection: ids of events.
    held: BTreeMap<String, BTreeSet<String>>,
}

/// Has a conversation with a Luge of its own.
pub(crate) fn play<'a>(
    conversation: &'a Conversation,
    homeserver: &Homeserver,
    restarts: Restarts,
) -> Vec<Answered<'a>> {
    let mut luge = Luge::new();
    luge.pages_by_event = true;
    let mut player = Player {
        luge,
        homeserver,
        restarts,
        now_ms: 0,
        stand: Stand::default(),
        devices: BTreeMap::new(),
    };
    let play = |exchange| player.play(exchange);
    let answers = conversation.exchanges.iter().filter_map(play).collect();
    let is_token = |order: &FetchOrder| matches!(order.want, Want::PrevBatch(..));
    assert!(player.luge.fetches.iter().all(is_token), "what Luge asked for was given");
    answers
}

impl Player<'_> {
    fn play<'a>(&mut self, exchange: &'a Exchange) -> Option<Answered<'a>> {
        if self.restarts == Restarts::Always {
            self.luge.restart();
        }
        let passed = exchange.ended_ms - self.now_ms;
        self.luge.wait(passed);
        self.now_ms = exchange.ended_ms;
        let Some(recorded) = &exchange.response else {
            self.abandon(exchange);
            return None;
        };
        self.stand = self.stand.max(exchange.answered_at().expect("it was answered"));
        let (luges, timed_out) = self.ask(exchange, recorded);
        assert_eq!(luges.status, 200, "{:?}: {}", exchange.request, luges.body);
        let held = self.device(exchange).remember(exchange, recorded, &luges.body);
        // Once the one who asked has been told, everybody is. Who is typing is
        // forgotten by a restart: then each is told when they ask.
        if self.restarts == Restarts::Never {
            let users: Vec<_> = self.devices.keys().cloned().collect();
            users.iter().for_each(|user| self.tell(user, &json!({})));
        }
        let (stand, luges) = (self.stand, luges.body);
        Some(Answered { exchange, recorded, luges, stand, held, timed_out })
    }

    /// The client went away while it was waiting, and it still was.
    fn abandon(&mut self, exchange: &Exchange) {
        let request = self.device(exchange).request(exchange);
        let client = self.device(exchange).client.clone();
        let ticket = self.luge.send(&client, request);
        assert_eq!(self.luge.answered(ticket), None, "the homeserver kept the client waiting");
        self.luge.abandon(ticket);
    }

    /// The answer, and whether it took the timeout. A request that can wait is
    /// there before the news, and is released by it: unless part of it was told
    /// already.
    fn ask(&mut self, exchange: &Exchange, recorded: &Value) -> (Got, bool) {
        let timeout_ms = exchange.query.timeout.as_ref().map_or(0, |it| it.parse().unwrap_or(0));
        // Other pollers may have told of part of it before the restart.
        let is_alone = self.restarts == Restarts::Never;
        let can_wait = is_alone && exchange.query.pos.is_some() && timeout_ms > 0;
        let device = self.device(exchange);
        let (client, request) = (device.client.clone(), device.request(exchange));
        let told = device.told;
        let is_news = self.homeserver.sync(&exchange.user, told, self.stand).is_some();
        let waits = told.is_none() || (can_wait && (is_news || recorded["rooms"] == json!({})));
        let keys = keys(exchange);
        if !waits {
            self.tell(&exchange.user, &keys);
        }
        let ticket = self.luge.send(&client, request);
        if waits {
            self.tell(&exchange.user, &keys);
        }
        self.give_members(&exchange.user);
        if let Some(answer) = self.luge.answered(ticket) {
            return (answer, false);
        }
        self.luge.wait(timeout_ms);
        let answer = self.luge.answered(ticket).expect("a request is answered at its timeout");
        (answer, true)
    }

    /// The member lists that Luge asks the homeserver for.
    fn give_members(&mut self, user: &str) {
        let room_of = |order: &FetchOrder| match order.want {
            Want::Members(_) => Some(order.room_id.to_string()),
            _ => None,
        };
        while let Some(room_id) = self.luge.fetches.iter().find_map(room_of) {
            let mut members = self.homeserver.members(&room_id, user, self.stand);
            self.luge.give_members(&mut members, true);
        }
    }

    fn device(&mut self, exchange: &Exchange) -> &mut Device {
        let luge = &mut self.luge;
        self.devices.entry(exchange.user.clone()).or_insert_with(|| Device {
            client: luge.sign_in(&exchange.user, &exchange.device),
            told: None,
            positions: BTreeMap::new(),
            tokens: BTreeMap::new(),
            held: BTreeMap::new(),
        })
    }

    /// The poller of the user's device is told what there is by now, and of
    /// `keys` beside it.
    fn tell(&mut self, user: &str, keys: &Value) {
        let device = self.devices.get_mut(user).expect("the device has signed in");
        let answer = self.homeserver.sync(user, device.told, self.stand);
        device.told = Some(self.stand);
        let mut answer = match answer {
            None if *keys == json!({}) => return,
            answer => answer.unwrap_or_else(|| json!({})),
        };
        for (key, value) in keys.as_object().expect("keys are an object") {
            answer[key] = value.clone();
        }
        let client = device.client.clone();
        self.luge.sync(&client, answer);
    }
}

/// What the answer told of keys, in the words of `/sync`.
fn keys(exchange: &Exchange) -> Value {
    let e2ee = exchange.response.as_ref().map(|it| &it["extensions"]["e2ee"]);
    let mut keys = e2ee.filter(|it| it.is_object()).cloned().unwrap_or_else(|| json!({}));
    let lists = &keys["device_lists"];
    let is_empty = elements(&lists["changed"]).is_empty() && elements(&lists["left"]).is_empty();
    if let Some(keys) = keys.as_object_mut().filter(|_| is_empty) {
        keys.remove("device_lists");
    }
    keys
}

impl Device {
    /// The recorded request, with what Luge gave in place of what the homeserver
    /// did.
    fn request(&self, exchange: &Exchange) -> Value {
        let mut request = exchange.request.clone();
        if let Some(pos) = &exchange.query.pos {
            let key = (exchange.conn_id().to_owned(), pos.clone());
            request["pos"] = self.positions.get(&key).expect("the position was given").clone();
        }
        if let Some(timeout) = &exchange.query.timeout {
            request["timeout"] = timeout.clone().into();
        }
        if let Some(since) = request.pointer_mut("/extensions/to_device/since") {
            *since = self.tokens.get(text(since)).expect("the token was given").clone();
        }
        request
    }

    /// Takes over what Luge's answer gave; returns the state that was sent before.
    fn remember(
        &mut self,
        exchange: &Exchange,
        recorded: &Value,
        luges: &Value,
    ) -> BTreeSet<String> {
        let conn_id = exchange.conn_id().to_owned();
        let key = (conn_id.clone(), text(&recorded["pos"]).to_owned());
        self.positions.insert(key, luges["pos"].clone());
        if let Some(token) = recorded["extensions"]["to_device"]["next_batch"].as_str() {
            let luges = &luges["extensions"]["to_device"]["next_batch"];
            self.tokens.insert(token.to_owned(), luges.clone());
        }
        let held = self.held.entry(conn_id).or_default();
        if exchange.query.pos.is_none() {
            held.clear();
        }
        let before = held.clone();
        for (_, entry) in luges["rooms"].as_object().into_iter().flatten() {
            let events = elements(&entry["required_state"]).iter();
            held.extend(events.map(|event| text(&event["event_id"]).to_owned()));
        }
        before
    }
}
