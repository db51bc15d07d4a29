//! Element X, twice, without a screen: what its users do in their first minutes, and what they must
//! not notice when Luge is restarted.

#![recursion_limit = "256"]
#![expect(clippy::large_futures, reason = "those of the SDK are, and a test makes few of them")]

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use luge_e2e::harness::eventually;
use luge_e2e::harness::sdk::{ElementX, session_resets, watch_session_resets};
use luge_e2e::harness::stack::Stack;
use matrix_sdk::RoomState;
use matrix_sdk::ruma::api::client::receipt::create_receipt::v3::ReceiptType;
use matrix_sdk::ruma::events::receipt::ReceiptThread;
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
use matrix_sdk::ruma::events::{AnySyncMessageLikeEvent, AnySyncTimelineEvent};
use matrix_sdk::ruma::{OwnedEventId, OwnedRoomId, UserId};
use matrix_sdk_ui::notification_client::{NotificationEvent, NotificationStatus};
use serde_json::json;

/// Goal: each of a large account's rooms is listed with its name; two users then talk encrypted; a
/// restart in between loses nothing and resets nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_list_rooms_and_talk_encrypted_across_a_restart() -> Result<()> {
    const ROOMS: u32 = 120;
    watch_session_resets();
    let stack = Stack::start(false).await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let room_ids: Vec<String> = stream::iter(0..ROOMS)
        .map(|number| alice.create_room(json!({ "name": format!("Room {number}") })))
        .buffer_unordered(6)
        .try_collect()
        .await?;

    let alice_app = ElementX::log_in(stack.url(), &alice.name).await?;
    let bob_app = ElementX::log_in(stack.url(), &bob.name).await?;
    for app in [&alice_app, &bob_app] {
        let homeserver = app.client.homeserver();
        let reached = homeserver.as_str().trim_end_matches('/');
        ensure!(reached == stack.url(), "the log-in made the app talk to {reached}");
    }
    all_are_listed(&alice_app, ROOMS).await?;

    let room = talk(&alice_app, &bob_app).await?;
    alice_app.look_at(&[&room]).await;
    bob_app.look_at(&[&room]).await;
    typing_and_receipts_are_seen(&alice_app, &bob_app, &room).await?;
    pushed_message_is_fetched(&alice_app, &bob_app, &room).await?;

    if let Some(mut luge) = stack.luge().await {
        luge.stop().await?;
        // Somebody goes on while Luge is away.
        alice.send(&room_ids[0], "sent while luge was away").await?;
        luge.start_again().await?;
    } else {
        alice.send(&room_ids[0], "sent while luge was away").await?;
    }
    let first: OwnedRoomId = room_ids[0].parse()?;
    alice_app.message(&first, "sent while luge was away").await?;
    send(&alice_app, &room, "after the restart, from alice").await?;
    ensure!(bob_app.message(&room, "after the restart, from alice").await?.encrypted);
    send(&bob_app, &room, "after the restart, from bob").await?;
    ensure!(alice_app.message(&room, "after the restart, from bob").await?.encrypted);
    for app in [&alice_app, &bob_app] {
        for body in ["first, from alice", "second, from bob"] {
            app.message(&room, body).await?;
        }
    }
    ensure!(session_resets() == 0, "the restart made {} sessions start anew", session_resets());

    // The app itself is started again too, and goes on from the position that it has kept.
    let suspended = alice_app.suspend(stack.url()).await?;
    send(&bob_app, &room, "sent while alice slept").await?;
    let alice_app = ElementX::resume(suspended).await?;
    alice_app.room(&room, RoomState::Joined).await?;
    ensure!(alice_app.message(&room, "sent while alice slept").await?.encrypted);
    ensure!(
        session_resets() == 0,
        "the app's restart made {} sessions start anew",
        session_resets()
    );
    Ok(())
}

async fn all_are_listed(app: &ElementX, rooms: u32) -> Result<()> {
    let counted = app.loaded_rooms().await?;
    ensure!(counted == rooms, "the list counts {counted} rooms, not {rooms}");
    let mut wanted: Vec<String> = (0..rooms).map(|number| format!("Room {number}")).collect();
    wanted.sort();
    eventually(&format!("{rooms} rooms with their names"), async || {
        let mut names: Vec<String> = app.room_names().into_iter().flatten().collect();
        names.sort();
        Ok((names == wanted).then_some(()))
    })
    .await
    .with_context(|| format!("the list shows {:?}", app.room_names()))
}

/// Alice makes an encrypted room with Bob in it, and each reads a message of the other.
async fn talk(alice: &ElementX, bob: &ElementX) -> Result<OwnedRoomId> {
    let bob_id = bob.client.user_id().context("bob is not logged in")?;
    let created = alice.client.create_dm(bob_id).await?;
    let room = created.room_id().to_owned();
    alice.room(&room, RoomState::Joined).await?;
    bob.room(&room, RoomState::Invited).await?.join().await?;
    let joined = bob.room(&room, RoomState::Joined).await?;
    eventually("bob to know that the room is encrypted", async || {
        Ok(joined.encryption_state().is_encrypted().then_some(()))
    })
    .await?;
    alice_sees_member(alice, &room, bob_id).await?;

    send(alice, &room, "first, from alice").await?;
    ensure!(bob.message(&room, "first, from alice").await?.encrypted, "alice's was not encrypted");
    send(bob, &room, "second, from bob").await?;
    ensure!(alice.message(&room, "second, from bob").await?.encrypted, "bob's was not encrypted");
    Ok(room)
}

async fn alice_sees_member(alice: &ElementX, room: &OwnedRoomId, bob: &UserId) -> Result<()> {
    let room = alice.room(room, RoomState::Joined).await?;
    eventually("alice to see that bob has joined", async || {
        let member = room.get_member_no_sync(bob).await?;
        let joined = member.is_some_and(|member| member.membership().as_str() == "join");
        Ok((joined && room.joined_members_count() == 2).then_some(()))
    })
    .await
}

async fn send(app: &ElementX, room: &OwnedRoomId, body: &str) -> Result<String> {
    let room = app.client.get_room(room).context("no such room")?;
    let sent = room.send(RoomMessageEventContent::text_plain(body)).await?;
    Ok(sent.response.event_id.to_string())
}

async fn typing_and_receipts_are_seen(
    alice: &ElementX,
    bob: &ElementX,
    room: &OwnedRoomId,
) -> Result<()> {
    let bob_id = bob.client.user_id().context("bob is not logged in")?.as_str();
    let bobs_room = bob.client.get_room(room).context("no such room")?;
    bobs_room.typing_notice(true).await?;
    alice.sees_typing(room, bob_id).await?;
    bobs_room.typing_notice(false).await?;

    let event = send(alice, room, "read me").await?;
    bob.message(room, "read me").await?;
    let event_id = event.parse()?;
    bobs_room.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, event_id).await?;
    alice.sees_receipt(room, &event, bob_id).await
}

/// A push tells only an event's id; what it says is fetched by a connection of its own.
async fn pushed_message_is_fetched(
    alice: &ElementX,
    bob: &ElementX,
    room: &OwnedRoomId,
) -> Result<()> {
    let event = send(alice, room, "pushed").await?;
    let event: OwnedEventId = event.parse()?;
    match bob.notification(room, &event).await? {
        NotificationStatus::Event(item) => {
            let NotificationEvent::Timeline(event) = &item.event else {
                bail!("the notification is of an invite");
            };
            let AnySyncTimelineEvent::MessageLike(AnySyncMessageLikeEvent::RoomMessage(message)) =
                event.as_ref()
            else {
                bail!("the notification was not decrypted: {event:?}");
            };
            let body = message.as_original().map(|message| message.content.body());
            ensure!(body == Some("pushed"), "the notification says {body:?}");
            Ok(())
        }
        other => bail!("the notification's event was not found: {other:?}"),
    }
}
