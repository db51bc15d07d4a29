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

/// A client that does what the protocol asks of one, and notes what it is given.
struct Receiver {
    bob: Account,
    client: RawClient,
    pos: Option<String>,
    /// What the next request acknowledges.
    since: Option<String>,
    /// Every event ever seen, by room.
    events: BTreeMap<String, BTreeSet<String>>,
    /// The events that this connection has delivered, by room, in order.
    delivered: BTreeMap<String, Vec<String>>,
    /// Every to-device message ever seen.
    messages: BTreeSet<u64>,
    /// To-device messages that came with the answer that carried [`Receiver::since`].
    unacknowledged: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    resets: u32,
    interruptions: u32,
}

impl Receiver {
    fn new(bob: Account, client: RawClient) -> Self {
        Self {
            bob,
            client,
            pos: None,
            since: None,
            events: BTreeMap::new(),
            delivered: BTreeMap::new(),
            messages: BTreeSet::new(),
            unacknowledged: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            resets: 0,
            interruptions: 0,
        }
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
            let missing = self.missing(&sent.lock().unwrap_or_else(PoisonError::into_inner));
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
            self.messages.len(),
            self.interruptions,
            self.resets
        );
        Ok(())
    }

    fn missing(&self, sent: &Sent) -> Option<String> {
        let mut missing = Vec::new();
        for (room, events) in &sent.events {
            let seen = self.events.get(room);
            missing.extend(
                events
                    .iter()
                    .filter(|event| seen.is_none_or(|seen| !seen.contains(*event)))
                    .cloned(),
            );
        }
        missing.extend(
            sent.messages.difference(&self.messages).map(|number| format!("to-device {number}")),
        );
        (!missing.is_empty()).then(|| missing.join(", "))
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
        let Ok(answer) = self.client.sync("main", body, self.pos.as_deref(), timeout).await else {
            // Killed under our feet: the same request again, as every client does.
            self.interruptions += 1;
            sleep(Duration::from_millis(50)).await;
            return Ok(());
        };
        match (answer.status, answer.errcode()) {
            (200, _) => self.take(&answer).await,
            (400, "M_UNKNOWN_POS") => {
                ensure!(self.pos.is_some(), "a request without a position got M_UNKNOWN_POS");
                self.resets += 1;
                self.pos = None;
                self.delivered.clear();
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
        self.take_messages(answer)?;
        for room in answer.value["rooms"].as_object().into_iter().flat_map(serde_json::Map::keys) {
            self.take_room(answer, room).await?;
        }
        self.pos = Some(answer.pos()?.to_owned());
        Ok(())
    }

    fn take_messages(&mut self, answer: &Answer) -> Result<()> {
        // This answer is to a request that acknowledged all messages of the answers before it.
        self.acknowledged.append(&mut self.unacknowledged);
        let next = answer.value["extensions"]["to_device"]["next_batch"].as_str();
        let mut last = None;
        for message in answer.to_device() {
            let number =
                message["content"]["number"].as_u64().context("a message without number")?;
            ensure!(
                !self.acknowledged.contains(&number),
                "message {number} after its acknowledgement"
            );
            ensure!(last < Some(number), "message {number} after {last:?} in one answer");
            last = Some(number);
            self.messages.insert(number);
            self.unacknowledged.insert(number);
        }
        if let Some(next) = next {
            self.since = Some(next.to_owned());
        } else {
            ensure!(last.is_none(), "messages without a token to acknowledge them by");
        }
        Ok(())
    }

    async fn take_room(&mut self, answer: &Answer, room: &str) -> Result<()> {
        let entry = answer.room(room).context("no such room")?;
        let (initial, limited) = (entry["initial"] == true, entry["limited"] == true);
        let ids: Vec<String> = answer
            .timeline(room)
            .iter()
            .filter_map(|event| event["event_id"].as_str().map(str::to_owned))
            .collect();
        let delivered = self.delivered.entry(room.to_owned()).or_default();
        if initial {
            delivered.clear();
        } else {
            let repeated: Vec<_> = ids.iter().filter(|id| delivered.contains(id)).collect();
            ensure!(limited || repeated.is_empty(), "shown as new again: {repeated:?} in {entry}");
        }
        let fresh: Vec<String> = ids.iter().filter(|id| !delivered.contains(id)).cloned().collect();
        delivered.extend(fresh);
        in_order(answer.timeline(room))?;
        let known = self.events.entry(room.to_owned()).or_default().clone();
        if (initial || limited) && !ids.iter().any(|id| known.contains(id)) {
            let prev_batch = entry["prev_batch"].as_str();
            self.page_back(room, prev_batch, &known).await?;
        }
        self.events.entry(room.to_owned()).or_default().extend(ids);
        Ok(())
    }

    /// Fetches what a gap left out, as a client does when its user scrolls up.
    async fn page_back(
        &mut self,
        room: &str,
        from: Option<&str>,
        known: &BTreeSet<String>,
    ) -> Result<()> {
        let mut from = from.map(str::to_owned);
        while let Some(token) = from {
            let token = escaped(&token);
            let path = format!("rooms/{}/messages?dir=b&limit=100&from={token}", escaped(room));
            let page = self.bob.call(Method::GET, &path, &Value::Null).await?;
            let chunk = page["chunk"].as_array().context("no chunk")?;
            let ids: Vec<String> = chunk
                .iter()
                .filter_map(|event| event["event_id"].as_str().map(str::to_owned))
                .collect();
            let met = ids.iter().any(|id| known.contains(id));
            self.events.entry(room.to_owned()).or_default().extend(ids);
            from = page["end"].as_str().filter(|_| !met).map(str::to_owned);
        }
        Ok(())
    }
}

/// One sender's messages are numbered, and must come in that order.
fn in_order(timeline: &[Value]) -> Result<()> {
    let numbers: Vec<u64> = timeline
        .iter()
        .filter_map(|event| {
            event["content"]["body"].as_str()?.strip_prefix("message ")?.parse().ok()
        })
        .collect();
    ensure!(numbers.is_sorted(), "out of order: {numbers:?}");
    Ok(())
}
