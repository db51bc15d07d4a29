//! matrix-js-sdk, as Element Web uses it: several lists that widen, one connection, an encrypted chat.

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use luge_e2e::harness::account::{Account, PASSWORD};
use luge_e2e::harness::eventually;
use luge_e2e::harness::node::NodeClient;
use luge_e2e::harness::stack::Stack;
use serde_json::{Value, json};

/// Goal: Element Web finds the server, lists every room with its name, takes part in an encrypted
/// chat, and never has to start anew, not even after a restart of Luge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_list_rooms_and_talk_encrypted_across_a_restart() -> Result<()> {
    const ROOMS: usize = 70;
    let stack = Stack::start(false).await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let _rooms: Vec<String> = stream::iter(0..ROOMS)
        .map(|number| alice.create_room(json!({ "name": format!("Room {number}") })))
        .buffer_unordered(6)
        .try_collect()
        .await?;
    let mut alice_app = log_in(&stack, &alice).await?;
    let mut bob_app = log_in(&stack, &bob).await?;
    all_are_listed(&mut alice_app, ROOMS).await?;

    let created = alice_app.call("create", json!({ "invite": [bob.user_id] })).await?;
    let room = created["room"].as_str().context("no room was created")?;
    membership(&mut bob_app, room, "invite").await?;
    bob_app.call("join", json!({ "room": room })).await?;
    membership(&mut bob_app, room, "join").await?;
    alice_app.call("look", json!({ "room": room })).await?;
    bob_app.call("look", json!({ "room": room })).await?;
    let alice_app = tokio::sync::Mutex::new(alice_app);
    eventually("alice to see that bob has joined", async || {
        let members = alice_app.lock().await.call("members", json!({ "room": room })).await?;
        Ok(members.as_array().filter(|members| members.len() == 2).map(drop))
    })
    .await?;
    let mut alice_app = alice_app.into_inner();
    // Each client must know of the encryption before it sends.
    for app in [&mut alice_app, &mut bob_app] {
        let rooms = app.call("rooms", json!({})).await?;
        let chat =
            rooms.as_array().and_then(|rooms| rooms.iter().find(|found| found["id"] == room));
        ensure!(chat.is_some_and(|chat| chat["encrypted"] == true), "not encrypted: {chat:?}");
    }
    let mut text = "hello from alice";
    for _ in 0..2 {
        alice_app.call("send", json!({ "room": room, "body": text })).await?;
        reads(&mut bob_app, room, text).await?;
        text = "hello again from alice";
    }
    bob_app.call("send", json!({ "room": room, "body": "hello from bob" })).await?;
    reads(&mut alice_app, room, "hello from bob").await?;
    let restarted = if let Some(mut luge) = stack.luge().await {
        luge.stop().await?;
        luge.start_again().await?;
        true
    } else {
        false
    };
    bob_app.call("send", json!({ "room": room, "body": "after the restart" })).await?;
    reads(&mut alice_app, room, "after the restart").await?;
    for app in [&alice_app, &bob_app] {
        let mut errors = app.events().iter().filter(|event| event["event"] == "error");
        // While nobody listens there is no status, and what came as Luge stopped was told so:
        // either is asked again. Every other error is Luge's.
        let error = errors.find(|error| {
            let text = error["text"].as_str().unwrap_or_default();
            let of_the_stop = error["status"] == 503 && text.contains("Luge is stopping");
            !(restarted && (error["status"].is_null() || of_the_stop))
        });
        ensure!(error.is_none(), "the sync loop met {error:?}");
    }
    Ok(())
}

async fn log_in(stack: &Stack, account: &Account) -> Result<NodeClient> {
    let mut app = NodeClient::start().await?;
    let arguments = json!({ "url": stack.url(), "name": account.name, "password": PASSWORD });
    let session = app.call("login", arguments).await?;
    ensure!(session["baseUrl"] == stack.url(), "log-in leads to {}", session["baseUrl"]);
    ensure!(session["supported"] == true, "/versions does not offer sliding sync");
    app.call("start", json!({})).await?;
    app.event("the js client's first sync", |event| {
        (event["event"] == "sync" && event["state"] == "SYNCING").then_some(())
    })
    .await?;
    Ok(app)
}

async fn all_are_listed(app: &mut NodeClient, rooms: usize) -> Result<()> {
    let mut wanted: Vec<String> = (0..rooms).map(|number| format!("Room {number}")).collect();
    wanted.sort();
    let app = tokio::sync::Mutex::new(app);
    eventually(&format!("{rooms} rooms with their names"), async || {
        let listed = app.lock().await.call("rooms", json!({})).await?;
        let mut names: Vec<&str> = listed
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|room| room["name"].as_str())
            .collect();
        names.sort_unstable();
        Ok((names == wanted).then_some(()))
    })
    .await
}

async fn membership(app: &mut NodeClient, room: &str, wanted: &str) -> Result<()> {
    app.event(&format!("membership {wanted} in {room}"), |event: &Value| {
        (event["event"] == "membership" && event["room"] == room && event["membership"] == wanted)
            .then_some(())
    })
    .await
}

async fn reads(app: &mut NodeClient, room: &str, body: &str) -> Result<()> {
    let encrypted = app
        .event(&format!("{body:?} in {room}"), |event: &Value| {
            (event["event"] == "message" && event["room"] == room && event["body"] == body)
                .then(|| event["encrypted"].as_bool())
        })
        .await?;
    ensure!(encrypted == Some(true), "{body:?} came in clear");
    Ok(())
}
