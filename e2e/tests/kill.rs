//! Luge killed again and again while messages flow. Whatever the moment: nothing is lost, and nothing
//! is shown as new twice.

#![recursion_limit = "256"]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use luge_e2e::harness::PATIENCE;
use luge_e2e::harness::account::{Account, escaped};
use luge_e2e::harness::raw::{Answer, RawClient};
use luge_e2e::harness::stack::Stack;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How often Luge is killed.
const KILLS: u32 = 20;

/// How long messages flow where there is no Luge to kill.
const FLOW_WITHOUT_KILLS: Duration = Duration::from_secs(10);

/// How many rooms the messages are spread over.
const ROOMS: usize = 3;

/// What was sent so far: event ids by room in the order of sending, and numbers of to-device messages.
#[derive(Debug, Default)]
struct Sent {
    events: BTreeMap<String, Vec<String>>,
    messages: BTreeSet<u64>,
}

/// Goal: through twenty kills at any moment, a client that follows the protocol gets every event and
/// every to-device message, none twice as new, and each room's in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_repeated_when_luge_is_killed() -> Result<()> {
    let stack = Stack::start(false).await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        let invite = json!({ "name": format!("Room {number}"), "invite": [bob.user_id] });
        let room = alice.create_room(invite).await?;
        bob.join(&room).await?;
        rooms.push(room);
    }
    let sent = Arc::new(Mutex::new(Sent::default()));
    let stopped = Arc::new(AtomicBool::new(false));
    let sender = tokio::spawn(send(alice, bob.clone(), rooms, sent.clone(), stopped.clone()));
    let receiver = tokio::spawn({
        let mut receiver = Receiver::new(bob.clone(), bob.sliding(stack.url()));
        let (sent, stopped) = (sent.clone(), stopped.clone());
        async move { receiver.run(&sent, &stopped).await }
    });
    kill_again_and_again(&stack).await?;
    stopped.store(true, Ordering::SeqCst);
    sender.await??;
    receiver.await?
}

async fn kill_again_and_again(stack: &Stack) -> Result<()> {
    let Some(mut luge) = stack.luge().await else {
        sleep(FLOW_WITHOUT_KILLS).await;
        return Ok(());
    };
    for kill in 0..KILLS {
        // Spread over everything that Luge does: some come in the middle of its start-up.
        let life = Duration::from_millis(u64::from(kill * 337 % 20) * 90 + 20);
        sleep(life).await;
        luge.kill().with_context(|| format!("before kill {kill}"))?;
        luge.start_again().await.with_context(|| format!("after kill {kill}"))?;
    }
    Ok(())
}

/// Sends straight to the homeserver, so that what is sent does not depend on Luge.
async fn send(
    alice: Account,
    bob: Account,
    rooms: Vec<String>,
    sent: Arc<Mutex<Sent>>,
    stopped: Arc<AtomicBool>,
) -> Result<()> {
    for number in 0_u64.. {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        let room = &rooms[number as usize % rooms.len()];
        let event = alice.send(room, &format!("message {number}")).await?;
        alice.send_to_device("org.example.note", &bob, json!({ "number": number })).await?;
        {
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.events.entry(room.clone()).or_default().push(event);
            sent.messages.insert(number);
        }
        sleep(Duration::from_millis(40)).await;
    }
    Ok(())
}

/// A client that does what the protocol asks of one.
struct Receiver {
    bob: Account,
    client: RawClient,
    pos: Option<String>,
    /// What the next request acknowledges.
    since: Option<String>,
    witness: Witness,
    resets: u32,
    interruptions: u32,
}

impl Receiver {
    fn new(bob: Account, client: RawClient) -> Self {
        let witness = Witness::default();
        Self { bob, client, pos: None, since: None, witness, resets: 0, interruptions: 0 }
    }

    /// Syncs until everything that was sent is here, with [`PATIENCE`] for the rest once the sender
    /// has stopped.
    #[expect(clippy::print_stderr, reason = "tells what the run was like; no assertion is on it")]
    async fn run(&mut self, sent: &Mutex<Sent>, stopped: &AtomicBool) -> Result<()> {
        let mut deadline = None;
        loop {
            self.step().await?;
            if !stopped.load(Ordering::SeqCst) {
                continue;
            }
            let missing =
                self.witness.missing(&sent.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(missing) = missing else {
                break;
            };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
            ensure!(Instant::now() < deadline, "lost: {missing}");
        }
        // What is acknowledged must stay so for those that come later.
        for _ in 0..3 {
            self.step().await?;
        }
        eprintln!(
            "{} to-device messages; {} interruptions, {} connections started anew",
            self.witness.messages.len(),
            self.interruptions,
            self.resets
        );
        Ok(())
    }

    async fn step(&mut self) -> Result<()> {
        let mut to_device = json!({ "enabled": true });
        if let Some(since) = &self.since {
            to_device["since"] = json!(since);
        }
        let body = json!({
            "lists": { "all": {
                "ranges": [[0, 19]], "timeline_limit": 20, "required_state": [["m.room.name", ""]],
            } },
            "extensions": { "to_device": to_device },
        });
        let timeout = Duration::from_secs(2);
        let answer = match self.client.sync("main", body, self.pos.as_deref(), timeout).await {
            Ok(answer) => answer,
            // Killed under our feet: the same request again, as every client does.
            Err(error) if error.is::<reqwest::Error>() => {
                self.interruptions += 1;
                sleep(Duration::from_millis(50)).await;
                return Ok(());
            }
            Err(unreadable) => return Err(unreadable),
        };
        match (answer.status, answer.errcode()) {
            (200, _) => self.take(&answer).await,
            (400, "M_UNKNOWN_POS") => {
                ensure!(self.pos.is_some(), "a request without a position got M_UNKNOWN_POS");
                self.resets += 1;
                self.pos = None;
                self.witness.start_anew();
                Ok(())
            }
            // Luge's own way of saying that it is not ready, or that the homeserver is not.
            (429 | 502..=504, _) => {
                sleep(Duration::from_millis(200)).await;
                Ok(())
            }
            (status, _) => bail!("{status} {}", answer.value),
        }
    }

    async fn take(&mut self, answer: &Answer) -> Result<()> {
        if let Some(next) = self.witness.take_messages(&answer.value)? {
            self.since = Some(next);
        }
        for (room, entry) in answer.value["rooms"].as_object().into_iter().flatten() {
            if let Some(hole) = self.witness.take_room(room, entry)? {
                self.page_back(room, hole).await?;
            }
        }
        self.pos = Some(answer.pos()?.to_owned());
        Ok(())
    }

    /// Fetches what a gap left out, as a client does when its user scrolls up.
    async fn page_back(&mut self, room: &str, hole: Hole) -> Result<()> {
        let mut from = hole.prev_batch;
        while let Some(token) = from {
            let token = escaped(&token);
            let path = format!("rooms/{}/messages?dir=b&limit=100&from={token}", escaped(room));
            let page = self.bob.call(Method::GET, &path, &Value::Null).await?;
            let ids = event_ids(&page["chunk"]);
            let met = ids.iter().any(|id| hole.known.contains(id));
            self.witness.events.entry(room.to_owned()).or_default().extend(ids);
            from = page["end"].as_str().filter(|_| !met).map(str::to_owned);
        }
        Ok(())
    }
}

/// A timeline that does not join on to what was known before.
struct Hole {
    prev_batch: Option<String>,
    known: BTreeSet<String>,
}

/// Notes what a client is given, and says what is wrong with it.
#[derive(Default)]
struct Witness {
    /// Every event ever seen, by room.
    events: BTreeMap<String, BTreeSet<String>>,
    /// The events that this connection has delivered, by room.
    delivered: BTreeMap<String, BTreeSet<String>>,
    /// Every to-device message ever seen.
    messages: BTreeSet<u64>,
    /// To-device messages that the next request acknowledges.
    unacknowledged: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
}

impl Witness {
    /// A connection is not bound by what another one has delivered.
    fn start_anew(&mut self) {
        self.delivered.clear();
    }

    fn missing(&self, sent: &Sent) -> Option<String> {
        let mut missing = Vec::new();
        for (room, events) in &sent.events {
            let seen = self.events.get(room);
            let seen = |event: &&String| seen.is_some_and(|seen| seen.contains(*event));
            missing.extend(events.iter().filter(|event| !seen(event)).cloned());
        }
        let messages = sent.messages.difference(&self.messages);
        missing.extend(messages.map(|number| format!("to-device {number}")));
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    /// Takes an answer's to-device messages, and gives the token that acknowledges them.
    fn take_messages(&mut self, answer: &Value) -> Result<Option<String>> {
        // This answer is to a request that acknowledged all messages of the answers before it.
        self.acknowledged.append(&mut self.unacknowledged);
        let to_device = &answer["extensions"]["to_device"];
        let mut last = None;
        for message in to_device["events"].as_array().into_iter().flatten() {
            let number =
                message["content"]["number"].as_u64().context("a message without number")?;
            let again = self.acknowledged.contains(&number);
            ensure!(!again, "message {number} after its acknowledgement");
            ensure!(last < Some(number), "message {number} after {last:?} in one answer");
            last = Some(number);
            self.messages.insert(number);
            self.unacknowledged.insert(number);
        }
        let next = to_device["next_batch"].as_str();
        ensure!(next.is_some() || last.is_none(), "messages without a token to acknowledge them");
        Ok(next.map(str::to_owned))
    }

    /// Takes a room's timeline, and gives the hole before it, if there is one.
    fn take_room(&mut self, room: &str, entry: &Value) -> Result<Option<Hole>> {
        let (initial, limited) = (entry["initial"] == true, entry["limited"] == true);
        let ids = event_ids(&entry["timeline"]);
        in_order(&entry["timeline"])?;
        let delivered = self.delivered.entry(room.to_owned()).or_default();
        if initial {
            delivered.clear();
        }
        let repeated: Vec<_> = ids.iter().filter(|id| delivered.contains(*id)).collect();
        ensure!(limited || repeated.is_empty(), "shown as new again: {repeated:?} in {entry}");
        delivered.extend(ids.iter().cloned());
        let known = self.events.entry(room.to_owned()).or_default();
        let joins = ids.iter().any(|id| known.contains(id));
        let hole = ((initial || limited) && !joins).then(|| Hole {
            prev_batch: entry["prev_batch"].as_str().map(str::to_owned),
            known: known.clone(),
        });
        known.extend(ids);
        Ok(hole)
    }
}

fn event_ids(events: &Value) -> Vec<String> {
    let events = events.as_array().into_iter().flatten();
    events.filter_map(|event| event["event_id"].as_str().map(str::to_owned)).collect()
}

/// One sender's messages are numbered, and must come in that order.
fn in_order(timeline: &Value) -> Result<()> {
    let events = timeline.as_array().into_iter().flatten();
    let numbers: Vec<u64> = events
        .filter_map(|event| {
            event["content"]["body"].as_str()?.strip_prefix("message ")?.parse().ok()
        })
        .collect();
    ensure!(numbers.is_sorted(), "out of order: {numbers:?}");
    Ok(())
}

fn to_device(numbers: &[u64], next: &str) -> Value {
    let events: Vec<Value> =
        numbers.iter().map(|number| json!({ "content": { "number": number } })).collect();
    json!({ "extensions": { "to_device": { "events": events, "next_batch": next } } })
}

/// Goal: the witness of these tests notices a message that comes after its acknowledgement, and does
/// not mind one that comes again before it.
#[test]
fn a_message_after_its_acknowledgement_is_noticed() {
    let mut witness = Witness::default();
    witness.take_messages(&to_device(&[0, 1], "2")).unwrap();
    witness.take_messages(&to_device(&[2], "3")).unwrap();
    assert!(witness.take_messages(&to_device(&[1, 3], "4")).is_err());
}

/// Goal: the witness of these tests notices an event that is shown as new twice, one that comes out
/// of order, and one that never comes.
#[test]
fn repeated_misplaced_and_lost_events_are_noticed() {
    let event = |number: u64| json!({ "event_id": format!("${number}"), "content": { "body": format!("message {number}") } });
    let room = "!a:b";
    let mut witness = Witness::default();
    let initial = json!({ "initial": true, "timeline": [event(1), event(2)] });
    assert!(witness.take_room(room, &initial).unwrap().is_some());
    assert!(witness.take_room(room, &json!({ "timeline": [event(2), event(3)] })).is_err());
    assert!(witness.take_room(room, &json!({ "timeline": [event(5), event(4)] })).is_err());
    let gap = json!({ "limited": true, "prev_batch": "p", "timeline": [event(8)] });
    assert!(witness.take_room(room, &gap).unwrap().is_some());
    let events = BTreeMap::from([(room.to_owned(), vec!["$8".to_owned(), "$9".to_owned()])]);
    let sent = Sent { events, messages: BTreeSet::new() };
    assert_eq!(witness.missing(&sent).as_deref(), Some("$9"));
}
