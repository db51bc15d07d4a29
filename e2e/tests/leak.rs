//! Clients that try to see what they may not, in each dialect. Each test has somebody else's device bring the secret
//! to Luge first, so that only Luge's own care keeps it from the wrong user.

#![recursion_limit = "256"]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use luge_e2e::harness::account::{Account, escaped};
use luge_e2e::harness::dialect::Dialect;
use luge_e2e::harness::raw::{Answer, Connection};
use luge_e2e::harness::stack::{SharedStack, Stack, synapse_is_the_target};
use reqwest::Method;
use serde_json::{Value, json};

static SERVERS: SharedStack = SharedStack::new();

/// Occurs in nothing that the curious user of a test may see.
const SECRET: &str = "top-secret";

async fn servers() -> Result<Stack> {
    SERVERS.get(false).await
}

/// A request for all there is: every room by list, `rooms` by subscription, and all extensions.
fn everything(rooms: &[&str]) -> Value {
    let wanted = json!({ "timeline_limit": 50, "required_state": [["*", "*"]] });
    let subscriptions: serde_json::Map<String, Value> =
        rooms.iter().map(|room| ((*room).to_owned(), wanted.clone())).collect();
    json!({
        "lists": { "all": {
            "ranges": [[0, 99]], "timeline_limit": 50, "required_state": [["*", "*"]], "filters": {},
        } },
        "room_subscriptions": subscriptions,
        "extensions": {
            "account_data": { "enabled": true },
            "receipts": { "enabled": true, "rooms": ["*"] },
            "typing": { "enabled": true },
            "to_device": { "enabled": true },
            "e2ee": { "enabled": true },
        },
    })
}

fn holds(answer: &Answer, room: &str, event: &str) -> Option<()> {
    answer.timeline(room).iter().any(|found| found["event_id"] == event).then_some(())
}

/// Waits until the owner's connection has shown an event, so that Luge certainly knows it.
async fn luge_knows(owner: &mut Connection, room: &str, event: &str) -> Result<()> {
    let awaited = format!("{event} to reach its room's owner");
    owner.until(&awaited, &everything(&[]), |answer| holds(answer, room, event)).await.map(drop)
}

/// A connection of the account's device in each dialect.
fn in_each_dialect(account: &Account, stack: &Stack, conn_id: &str) -> Vec<Connection> {
    let client = account.sliding(stack.url());
    let open = |dialect: &Dialect| client.speaking(*dialect).connection(conn_id);
    Dialect::served().iter().map(open).collect()
}

/// How long a connection waits that has nothing to be told.
const A_WHILE: Duration = Duration::from_millis(200);

/// Asks a few times on existing connections and on new ones, and fails at any trace of the secret.
async fn sees_no_secret(
    curious: &Account,
    stack: &Stack,
    room: &str,
    connections: &mut [Connection],
) -> Result<()> {
    for body in [everything(&[]), everything(&[room])] {
        for connection in &mut *connections {
            for _ in 0..2 {
                let answer = connection.next(&body, A_WHILE).await?;
                ensure!(!answer.mentions(SECRET), "an old connection shows {}", answer.value);
            }
        }
        for mut fresh in in_each_dialect(curious, stack, "fresh") {
            for _ in 0..2 {
                let answer = fresh.next(&body, A_WHILE).await?;
                ensure!(!answer.mentions(SECRET), "a new connection shows {}", answer.value);
            }
        }
    }
    Ok(())
}

/// A private room of alice's with bob in it; both are known to Luge, bob in each dialect.
async fn shared_room(
    stack: &Stack,
    alice: &Account,
    bob: &Account,
) -> Result<(String, Connection, Vec<Connection>)> {
    let room = alice.create_room(json!({ "name": "Shared", "invite": [bob.user_id] })).await?;
    bob.join(&room).await?;
    let hello = alice.send(&room, "hello").await?;
    let mut owner = alice.sliding(stack.url()).connection("main");
    let mut guests = in_each_dialect(bob, stack, "main");
    for connection in [&mut owner].into_iter().chain(&mut guests) {
        let body = everything(&[]);
        connection.until("the greeting", &body, |answer| holds(answer, &room, &hello)).await?;
    }
    Ok((room, owner, guests))
}

/// Everything that alice can do in a room for somebody to see; gives the last event's id.
async fn do_secret_things(alice: &Account, room: &str) -> Result<String> {
    alice.set_state(room, "m.room.topic", json!({ "topic": SECRET })).await?;
    alice.set_state(room, "org.example.state", json!({ "value": SECRET })).await?;
    alice.typing(room, true).await?;
    let event = alice.send(room, SECRET).await?;
    alice.receipt(room, "m.read", &event).await?;
    Ok(event)
}

/// Nothing in these answers tells of alice's event, receipt or typing.
fn tells_nothing(answers: &[Answer], room: &str, event: &str) -> Result<()> {
    for answer in answers {
        ensure!(!answer.mentions(SECRET), "leaked: {}", answer.value);
        // Synapse shows receipts and typing to those who have left or were only invited.
        if synapse_is_the_target() {
            continue;
        }
        ensure!(!answer.mentions(event), "leaked: {}", answer.value);
        let typing = &answer.value["extensions"]["typing"]["rooms"][room]["content"]["user_ids"];
        let somebody = typing.as_array().is_some_and(|users| !users.is_empty());
        ensure!(!somebody, "typing leaked: {}", answer.value);
    }
    Ok(())
}

/// Whether the answer says that this user is out of the room, by their own member event.
fn says_gone(answer: &Answer, room: &str, user: &Account) -> Option<()> {
    let mut events = answer.timeline(room).iter().chain(answer.required_state(room));
    events
        .any(|event| {
            event["type"] == "m.room.member"
                && event["state_key"] == user.user_id
                && event["content"]["membership"] == "leave"
        })
        .then_some(())
}

/// Goal: somebody kicked learns that, and nothing that happened later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kicked_user_sees_nothing_later() -> Result<()> {
    let stack = servers().await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let (room, mut owner, mut guests) = shared_room(&stack, &alice, &bob).await?;
    alice.kick(&room, &bob).await?;
    let event = do_secret_things(&alice, &room).await?;
    luge_knows(&mut owner, &room, &event).await?;
    let body = everything(&[&room]);
    for guest in &mut guests {
        let ((), answers) =
            guest.until("bob's own kick", &body, |answer| says_gone(answer, &room, &bob)).await?;
        tells_nothing(&answers, &room, &event)?;
    }
    sees_no_secret(&bob, &stack, &room, &mut guests).await
}

/// Goal: somebody who left learns that, and nothing that happened later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_left_sees_nothing_later() -> Result<()> {
    let stack = servers().await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let (room, mut owner, mut guests) = shared_room(&stack, &alice, &bob).await?;
    bob.leave(&room).await?;
    let event = do_secret_things(&alice, &room).await?;
    luge_knows(&mut owner, &room, &event).await?;
    let body = everything(&[&room]);
    for guest in &mut guests {
        let ((), answers) =
            guest.until("bob's own leave", &body, |answer| says_gone(answer, &room, &bob)).await?;
        tells_nothing(&answers, &room, &event)?;
    }
    sees_no_secret(&bob, &stack, &room, &mut guests).await
}

/// Goal: a subscription to a room that one was never in gives nothing, not even that it exists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_nothing_by_subscription() -> Result<()> {
    let stack = servers().await?;
    let (alice, carol) = (stack.account("alice").await?, stack.account("carol").await?);
    let room = alice.create_room(json!({ "name": SECRET })).await?;
    let event = do_secret_things(&alice, &room).await?;
    luge_knows(&mut alice.sliding(stack.url()).connection("main"), &room, &event).await?;
    let mut strangers = in_each_dialect(&carol, &stack, "main");
    let body = everything(&[&room]);
    for stranger in &mut strangers {
        for _ in 0..3 {
            let answer = stranger.next(&body, A_WHILE).await?;
            ensure!(answer.room(&room).is_none(), "a stranger sees {}", answer.value);
            ensure!(!answer.mentions(SECRET), "leaked: {}", answer.value);
            ensure!(!answer.mentions(&room), "leaked: {}", answer.value);
        }
    }
    sees_no_secret(&carol, &stack, &room, &mut strangers).await
}

/// Goal: an invited user sees the invite, and nothing of the room beside its stripped state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invited_user_sees_only_stripped_state() -> Result<()> {
    let stack = servers().await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let room = alice.create_room(json!({ "name": "Party" })).await?;
    alice.set_state(&room, "org.example.state", json!({ "value": SECRET })).await?;
    alice.send(&room, SECRET).await?;
    alice.invite(&room, &bob).await?;
    alice.typing(&room, true).await?;
    let event = alice.send(&room, SECRET).await?;
    alice.receipt(&room, "m.read", &event).await?;
    luge_knows(&mut alice.sliding(stack.url()).connection("main"), &room, &event).await?;
    let mut guests = in_each_dialect(&bob, &stack, "main");
    let body = everything(&[&room]);
    for guest in &mut guests {
        let (entry, answers) =
            guest.until("the invite", &body, |answer| answer.room(&room).cloned()).await?;
        tells_nothing(&answers, &room, &event)?;
        let stripped =
            entry["invite_state"].as_array().context("an invite without stripped state")?;
        let own = stripped.iter().any(|event| {
            event["state_key"] == bob.user_id && event["content"]["membership"] == "invite"
        });
        ensure!(own, "the invite itself is missing: {entry}");
        for field in ["timeline", "required_state"] {
            let empty = entry[field].as_array().is_none_or(Vec::is_empty);
            ensure!(empty, "{field} of an invite: {entry}");
        }
    }
    sees_no_secret(&bob, &stack, &room, &mut guests).await
}

/// Goal: where history is for members alone, what was said before a user's join stays unknown to
/// them, however well Luge knows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_from_before_the_join_is_not_shown() -> Result<()> {
    let stack = servers().await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let room = private_history(&alice, "Quiet").await?;
    let event = alice.send(&room, SECRET).await?;
    let mut owner = alice.sliding(stack.url()).connection("main");
    luge_knows(&mut owner, &room, &event).await?;
    alice.invite(&room, &bob).await?;
    bob.join(&room).await?;
    let welcome = alice.send(&room, "welcome").await?;
    luge_knows(&mut owner, &room, &welcome).await?;
    let mut guests = in_each_dialect(&bob, &stack, "main");
    let body = everything(&[&room]);
    for guest in &mut guests {
        let ((), answers) =
            guest.until("the welcome", &body, |answer| holds(answer, &room, &welcome)).await?;
        tells_nothing(&answers, &room, &event)?;
    }
    sees_no_secret(&bob, &stack, &room, &mut guests).await
}

/// Goal: who leaves and comes back does not see what was said in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_between_two_stays_is_not_shown() -> Result<()> {
    let stack = servers().await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let room = private_history(&alice, "Revolving door").await?;
    alice.invite(&room, &bob).await?;
    bob.join(&room).await?;
    let hello = alice.send(&room, "hello").await?;
    let mut owner = alice.sliding(stack.url()).connection("main");
    let mut guests = in_each_dialect(&bob, &stack, "main");
    let body = everything(&[]);
    for guest in &mut guests {
        guest.until("the greeting", &body, |answer| holds(answer, &room, &hello)).await?;
    }
    bob.leave(&room).await?;
    let event = alice.send(&room, SECRET).await?;
    luge_knows(&mut owner, &room, &event).await?;
    alice.invite(&room, &bob).await?;
    bob.join(&room).await?;
    let welcome = alice.send(&room, "welcome back").await?;
    luge_knows(&mut owner, &room, &welcome).await?;
    for guest in &mut guests {
        let ((), answers) =
            guest.until("the welcome", &body, |answer| holds(answer, &room, &welcome)).await?;
        tells_nothing(&answers, &room, &event)?;
    }
    sees_no_secret(&bob, &stack, &room, &mut guests).await
}

async fn private_history(alice: &Account, name: &str) -> Result<String> {
    let visibility = json!({
        "type": "m.room.history_visibility",
        "state_key": "",
        "content": { "history_visibility": "joined" },
    });
    alice.create_room(json!({ "name": name, "initial_state": [visibility] })).await
}

/// Goal: a private receipt is shown to its owner and to nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_receipts_are_shown_to_their_owner_alone() -> Result<()> {
    let stack = servers().await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let (room, mut owner, mut guests) = shared_room(&stack, &alice, &bob).await?;
    let event = bob.send(&room, "read me privately").await?;
    luge_knows(&mut owner, &room, &event).await?;
    alice.receipt(&room, "m.read.private", &event).await?;
    let body = everything(&[]);
    let private = |answer: &Answer| {
        let receipts = &answer.value["extensions"]["receipts"]["rooms"][&room]["content"];
        receipts[&event]["m.read.private"][&alice.user_id].is_object().then_some(())
    };
    owner.until("alice's own private receipt", &body, private).await?;
    // Something public after it, so that bob's side has certainly gone past it.
    let later = alice.send(&room, "something else").await?;
    let fresh = in_each_dialect(&bob, &stack, "fresh");
    for (guest, mut fresh) in guests.iter_mut().zip(fresh) {
        let ((), answers) =
            guest.until("a later message", &body, |answer| holds(answer, &room, &later)).await?;
        let fresh = fresh.next(&body, Duration::ZERO).await?;
        for answer in answers.iter().chain([&fresh]) {
            ensure!(!answer.mentions("m.read.private"), "leaked: {}", answer.value);
        }
    }
    for mut own in in_each_dialect(&alice, &stack, "fresh") {
        own.until("alice's own private receipt on a new connection", &body, private).await?;
    }
    Ok(())
}

/// Goal: the transaction id of an event is shown to the device that sent it, and to no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_ids_are_shown_to_the_sending_device_alone() -> Result<()> {
    let stack = servers().await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let other = alice.another_device().await?;
    let (room, mut owner, mut guests) = shared_room(&stack, &alice, &bob).await?;
    let mut seconds = in_each_dialect(&other, &stack, "main");
    let body = everything(&[]);
    for second in &mut seconds {
        second.until("the room", &body, |answer| answer.room(&room).map(drop)).await?;
    }
    let path = format!("rooms/{}/send/m.room.message/{SECRET}", escaped(&room));
    let content = json!({ "msgtype": "m.text", "body": "echo" });
    let sent = alice.call(Method::PUT, &path, &content).await?;
    let event = sent["event_id"].as_str().context("send gave no event id")?;
    let of_room = |answer: &Answer| {
        let mut events = answer.timeline(&room).iter();
        events.find(|found| found["event_id"] == event).cloned()
    };
    let mut fresh = in_each_dialect(&alice, &stack, "fresh");
    for own in [&mut owner].into_iter().chain(&mut fresh) {
        let (echo, _) = own.until("the echo", &body, of_room).await?;
        ensure!(echo["unsigned"]["transaction_id"] == SECRET, "the sender's own device got {echo}");
    }
    for connection in seconds.iter_mut().chain(&mut guests) {
        let ((), answers) =
            connection.until("the message", &body, |answer| holds(answer, &room, event)).await?;
        ensure!(!answers.iter().any(|answer| answer.mentions(SECRET)), "leaked: {answers:?}");
    }
    Ok(())
}

/// Goal: account data and to-device messages reach only the user or the device that they are for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_one_user_or_device_stays_there() -> Result<()> {
    let stack = servers().await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let other = alice.another_device().await?;
    let (room, mut owner, mut guests) = shared_room(&stack, &alice, &bob).await?;
    let body = everything(&[]);
    let mut seconds = in_each_dialect(&other, &stack, "main");
    for second in &mut seconds {
        second.until("the room", &body, |answer| answer.room(&room).map(drop)).await?;
    }

    bob.send_to_device("org.example.note", &alice, json!({ "text": SECRET })).await?;
    let arrived = |answer: &Answer| {
        let mut messages = answer.to_device().iter();
        messages.any(|message| message["content"]["text"] == SECRET).then_some(())
    };
    owner.until("the to-device message", &body, arrived).await?;
    for mut own in in_each_dialect(&alice, &stack, "fresh") {
        own.until("the to-device message, not acknowledged", &body, arrived).await?;
    }
    sees_no_secret(&other, &stack, &room, &mut seconds).await?;
    sees_no_secret(&bob, &stack, &room, &mut guests).await?;

    let user = escaped(&alice.user_id);
    let value = json!({ "value": SECRET });
    let global = format!("user/{user}/account_data/org.example.global");
    alice.call(Method::PUT, &global, &value).await?;
    let in_room = format!("user/{user}/rooms/{}/account_data/org.example.room", escaped(&room));
    alice.call(Method::PUT, &in_room, &value).await?;
    let kept = |answer: &Answer| {
        let data = &answer.value["extensions"]["account_data"]["rooms"][&room];
        data.to_string().contains(SECRET).then_some(())
    };
    for second in &mut seconds {
        second.until("room account data on another device", &body, kept).await?;
    }
    sees_no_secret(&bob, &stack, &room, &mut guests).await
}

/// Goal: messages of somebody ignored do not come through; the rest of the room does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_ignored_users_are_dropped() -> Result<()> {
    let stack = servers().await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let (room, mut owner, mut guests) = shared_room(&stack, &alice, &bob).await?;
    let path = format!("user/{}/account_data/m.ignored_user_list", escaped(&bob.user_id));
    bob.call(Method::PUT, &path, &json!({ "ignored_users": { &alice.user_id: {} } })).await?;
    let body = everything(&[]);
    let ignores = |answer: &Answer| {
        let global = answer.value["extensions"]["account_data"]["global"].to_string();
        global.contains("m.ignored_user_list").then_some(())
    };
    for guest in &mut guests {
        guest.until("the list of ignored users", &body, ignores).await?;
    }
    let event = alice.send(&room, SECRET).await?;
    luge_knows(&mut owner, &room, &event).await?;
    let own = bob.send(&room, "my own").await?;
    for guest in &mut guests {
        let ((), answers) =
            guest.until("bob's own message", &body, |answer| holds(answer, &room, &own)).await?;
        ensure!(!answers.iter().any(|answer| answer.mentions(SECRET)), "seen: {answers:?}");
    }
    sees_no_secret(&bob, &stack, &room, &mut guests).await
}
