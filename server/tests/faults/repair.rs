//! What a homeserver does not tell of, or not at first: state that is reset, rooms that somebody is
//! silently out of, history, and tokens for paging back. In every dialect.

use std::collections::BTreeSet;

use luge_io::{driver::Choice, time::clock};
use luge_loadtest::{
    api::{Answer, Request, encode},
    model::{Homeserver, NewEvent, Session},
};
use luge_server::config::Config;
use serde_json::{Value, json};

use crate::{
    harness::device::{Device, PATIENCE},
    log,
    town::{Plan, STRANGER, Town, impatient, on_each_driver, say},
};

/// One connection of a device.
struct Client {
    device: Device,
    dialect: Dialect,
    body: Value,
    pos: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Simplified,
    V4,
    Msc3575,
}

const DIALECTS: [Dialect; 3] = [Dialect::Simplified, Dialect::V4, Dialect::Msc3575];

impl Client {
    /// Asks for the first ten rooms with so many events, and their topic and creation.
    fn new(town: &Town, session: &Session, dialect: Dialect, limit: u64) -> Self {
        let device = town.setup.device(session);
        let wanted = [["m.room.topic", ""], ["m.room.create", ""]];
        let state = match dialect {
            Dialect::V4 => json!({"include": [
                {"type": "m.room.topic"}, {"type": "m.room.create"},
            ]}),
            _ => json!(wanted),
        };
        let mut list = json!({"timeline_limit": limit, "required_state": state});
        match dialect {
            Dialect::V4 => list["range"] = json!([0, 9]),
            _ => list["ranges"] = json!([[0, 9]]),
        }
        Self { device, dialect, body: json!({"lists": {"all": list}}), pos: None }
    }

    async fn step(&mut self) -> Value {
        let mut body = self.body.clone();
        let (path, pos) = match self.dialect {
            Dialect::V4 => {
                if let Some(pos) = &self.pos {
                    body["pos"] = pos.as_str().into();
                    body["timeout"] = 1_000.into();
                }
                ("/_matrix/client/v4/sync", None)
            }
            Dialect::Simplified => {
                let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
                (path, self.pos.as_deref())
            }
            Dialect::Msc3575 => {
                ("/_matrix/client/unstable/org.matrix.msc3575/sync", self.pos.as_deref())
            }
        };
        let answer = self.device.ask_at(path, pos, 1_000, body.to_string()).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        self.pos = answer["pos"].as_str().map(str::to_owned);
        answer
    }

    /// Asks until an answer is as wanted.
    async fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = clock::monotonic() + PATIENCE;
        loop {
            let answer = self.step().await;
            if is_it(&answer) {
                return answer;
            }
            let dialect = self.dialect;
            assert!(clock::monotonic() < deadline, "{dialect:?} never learned of {what}");
        }
    }
}

fn town(driver: Choice) -> Town {
    Plan::new(clock::now_ms()).serve(|config| quick(config, driver))
}

/// What is in doubt is looked at at once.
fn quick(config: &mut Config, driver: Choice) {
    impatient(config, driver);
    config.shard_limits.repair_delay_ms = 50;
    config.shard_limits.refetch_after_ms = 100;
}

/// More than one `/sync` answer takes of a room: there is a gap.
fn talk(homeserver: &mut Homeserver, room_id: &str, now: u64) {
    for at in 0..60 {
        say(homeserver, room_id, &format!("talk {at}"), now);
    }
}

fn ids(events: &Value) -> Vec<String> {
    let events = events.as_array().into_iter().flatten();
    events.filter_map(|event| event["event_id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn state_that_is_reset_is_repaired_in_every_dialect() {
    on_each_driver(|driver| async move {
        let town = town(driver);
        let room_id = town.shared.clone();
        town.setup.act(move |homeserver, now| {
            let topic = json!({"topic": "T"});
            let topic = NewEvent::state(STRANGER, "m.room.topic", "", topic);
            homeserver.append(&room_id, topic, now);
        });
        let mut clients = DIALECTS.map(|dialect| Client::new(&town, &town.ann, dialect, 2));
        for client in &mut clients {
            let what = "the topic";
            client.until(what, |answer| answer.to_string().contains("m.room.topic")).await;
        }
        let room_id = town.shared.clone();
        town.setup.act(move |homeserver, now| {
            assert!(homeserver.take_state_away(&room_id, "m.room.topic", ""));
            assert!(homeserver.take_state_away(&room_id, "m.room.name", ""));
            talk(homeserver, &room_id, now);
        });
        for client in &mut clients {
            let shared = |answer: &Value| answer["rooms"][&town.shared].clone();
            match client.dialect {
                Dialect::V4 => {
                    let stub = json!({"type": "m.room.topic", "state_key": ""});
                    let has_stub = |room: &Value| {
                        room["required_state"].as_array().is_some_and(|it| it.contains(&stub))
                    };
                    let answer = client.until("the end", |it| has_stub(&shared(it))).await;
                    let room = shared(&answer);
                    assert_eq!(room.get("name"), Some(&Value::Null), "{room}");
                }
                dialect => {
                    let answer = client.until("the end", |it| shared(it)["initial"] == true).await;
                    let room = shared(&answer);
                    assert!(!room.to_string().contains("m.room.topic"), "{dialect:?} {room}");
                    assert!(room.to_string().contains("m.room.create"), "{dialect:?} {room}");
                    assert_ne!(room["name"], "Harbour", "{dialect:?}");
                }
            }
        }
        town.setup.end().await;
    });
}

#[test]
fn state_that_is_too_large_is_named_and_the_room_goes_on() {
    log::keep();
    on_each_driver(|driver| async move {
        let town = Plan::new(clock::now_ms()).serve(|config| {
            quick(config, driver);
            config.limits.answer_bytes_max = 300;
        });
        let mut ann = Client::new(&town, &town.ann, Dialect::Simplified, 2);
        ann.until("the room", |answer| answer["rooms"][&town.shared].is_object()).await;
        let room_id = town.shared.clone();
        town.setup.act(move |homeserver, now| {
            assert!(homeserver.take_state_away(&room_id, "m.room.name", ""));
            talk(homeserver, &room_id, now);
        });
        ann.until("the news", |answer| answer.to_string().contains("talk 59")).await;
        let deadline = clock::monotonic() + PATIENCE;
        while !log::says(&["a room's state", &town.shared, "max=300", "raise --answer-max"]) {
            assert!(clock::monotonic() < deadline, "it is said what to raise");
            ann.step().await;
        }
        town.say(&town.shared, "later");
        ann.until("what is said later", |answer| answer.to_string().contains("later")).await;
        town.setup.end().await;
    });
}

#[test]
fn user_who_is_reset_out_of_a_room_is_told_so() {
    on_each_driver(|driver| async move {
        // They have been there for a while.
        let town = Plan::new(clock::now_ms() - 3_600_000).serve(|config| quick(config, driver));
        let mut clients = DIALECTS.map(|dialect| Client::new(&town, &town.ann, dialect, 2));
        for client in &mut clients {
            let answer = client.step().await;
            assert_eq!(answer["lists"]["all"]["count"], 2, "{answer}");
        }
        let (shared, anns) = (town.shared.clone(), town.anns.clone());
        let user_id = town.ann.user_id.clone();
        town.setup.act(move |homeserver, now| {
            assert!(homeserver.take_state_away(&shared, "m.room.member", &user_id));
            talk(homeserver, &anns, now);
        });
        for client in &mut clients {
            let is_out = |answer: &Value| answer["lists"]["all"]["count"] == 1;
            match client.dialect {
                Dialect::V4 => {
                    let is_told = |it: &Value| it["rooms"][&town.shared]["membership"] == "leave";
                    let answer = client.until("their end", is_told).await;
                    assert_eq!(answer["rooms"][&town.shared]["initial"], true);
                    client.until("their end", is_out).await;
                }
                _ => drop(client.until("their end", is_out).await),
            }
        }
        town.setup.end().await;
    });
}

#[test]
fn short_timeline_is_filled_in_from_history_in_every_dialect() {
    on_each_driver(|driver| async move {
        let town = town(driver);
        let room_id = town.shared.clone();
        town.setup.act(move |homeserver, now| talk(homeserver, &room_id, now));
        let room_id = town.shared.clone();
        let all = town.setup.act(move |homeserver, _| {
            let events = &homeserver.room(&room_id).unwrap().events;
            events.iter().map(|event| event.event_id.to_string()).collect::<Vec<_>>()
        });
        // Bob's poller tells of the same room: what Ann was given is not for him.
        let mut bob = Client::new(&town, &town.bob, Dialect::Simplified, 2);
        bob.step().await;
        for dialect in DIALECTS {
            let limit = 30 + 5 * dialect as u64;
            let mut ann = Client::new(&town, &town.ann, dialect, limit);
            let wanted = usize::try_from(limit).unwrap();
            let is_whole =
                |answer: &Value| ids(&answer["rooms"][&town.shared]["timeline"]).len() == wanted;
            let first = ann.step().await;
            assert!(!is_whole(&first), "the homeserver gave 20 events");
            assert_eq!(first["rooms"][&town.shared]["limited"], true);
            let answer = ann.until("what came before", is_whole).await;
            let room = &answer["rooms"][&town.shared];
            assert_eq!(ids(&room["timeline"]), all[all.len() - wanted..], "{dialect:?}");
            let marker = match dialect {
                Dialect::Simplified => "unstable_expanded_timeline",
                Dialect::V4 => "expanded_timeline",
                Dialect::Msc3575 => "initial",
            };
            assert_eq!((&room[marker], &room["num_live"]), (&true.into(), &0.into()));
        }
        town.setup.end().await;
    });
}

#[test]
fn prev_batch_continues_just_before_the_first_event() {
    on_each_driver(|driver| async move {
        let town = town(driver);
        let mut ann = Client::new(&town, &town.ann, Dialect::Simplified, 1);
        ann.step().await;
        for text in ["one", "two", "three"] {
            town.say(&town.anns, text);
            ann.until(text, |answer| answer.to_string().contains(text)).await;
        }
        let room_id = town.anns.clone();
        town.setup.act(move |homeserver, now| {
            for at in 0..10 {
                say(homeserver, &room_id, &format!("last {at}"), now);
            }
        });
        ann.until("the last", |answer| answer.to_string().contains("last 9")).await;
        let mut anew = Client::new(&town, &town.ann, Dialect::Simplified, 4);
        let answer = anew.step().await;
        let room = &answer["rooms"][&town.anns];
        let shown = ids(&room["timeline"]);
        assert_eq!((shown.len(), &room["limited"]), (4, &true.into()));
        let prev_batch = room["prev_batch"].as_str().expect("a token").to_owned();
        let (room_id, token) = (town.anns.clone(), town.ann.access_token.clone());
        let (all, before) = town.setup.act(move |homeserver, now| {
            let events = &homeserver.room(&room_id).unwrap().events;
            let all: Vec<String> = events.iter().map(|it| it.event_id.to_string()).collect();
            let target = format!(
                "/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100&from={}",
                encode(&room_id),
                encode(&prev_batch)
            );
            let Answer::Ready(reply) = homeserver.handle(&Request::get(&target, Some(&token)), now)
            else {
                panic!("messages are given at once");
            };
            (all, ids(&reply.json()["chunk"]))
        });
        let known: BTreeSet<&String> = shown.iter().chain(&before).collect();
        assert_eq!(known.len(), all.len(), "there is no hole: {shown:?} {before:?}");
        assert_eq!(before.first(), Some(&all[all.len() - 5]), "nor an overlap");
        town.setup.end().await;
    });
}
