//! One conversation, followed in each dialect at once by connections of one device: what the
//! dialects have in common must reach all of them, and the list that an MSC3575 client makes of its
//! operations must be the true one, also when Luge is restarted and when it is killed.

#![recursion_limit = "256"]

use std::time::Duration;

use anyhow::{Result, ensure};
use luge_e2e::harness::account::{Account, escaped};
use luge_e2e::harness::dialect::Dialect;
use luge_e2e::harness::raw::{Answer, Connection};
use luge_e2e::harness::stack::Stack;
use reqwest::Method;
use serde_json::{Value, json};

/// A device's connections, one in each dialect.
struct Guests(Vec<(Dialect, Connection)>);

fn body() -> Value {
    let on = json!({ "enabled": true });
    json!({
        "lists": { "all": {
            "ranges": [[0, 19]], "timeline_limit": 10, "required_state": [["m.room.name", ""]],
        } },
        "extensions": {
            "account_data": on, "receipts": on, "typing": on, "to_device": on, "e2ee": on,
        },
    })
}

fn holds(answer: &Answer, room: &str, event: &str) -> Option<()> {
    answer.timeline(room).iter().any(|found| found["event_id"] == event).then_some(())
}

impl Guests {
    fn of(account: &Account, stack: &Stack) -> Self {
        let client = account.sliding(stack.url());
        let open = |dialect: &Dialect| (*dialect, client.speaking(*dialect).connection("main"));
        Self(Dialect::served().iter().map(open).collect())
    }

    /// Waits until each connection has been told.
    async fn all_see(
        &mut self,
        awaited: &str,
        found: impl Fn(&Answer) -> Option<()> + Copy,
    ) -> Result<()> {
        for (dialect, connection) in &mut self.0 {
            connection.until(&format!("{awaited}, in {dialect:?}"), &body(), found).await?;
        }
        Ok(())
    }

    /// The list that operations have made is this one.
    fn hold_the_list(&self, expected: &[&str]) -> Result<()> {
        for (dialect, connection) in &self.0 {
            if *dialect == Dialect::Msc3575 {
                let held = connection.list("all")?;
                ensure!(held == expected, "the client has {held:?}, the truth is {expected:?}");
            }
        }
        Ok(())
    }
}

/// Sends to each of `rooms`, and waits until each guest has been told of it. The last is then the
/// first of every list.
async fn talk(
    alice: &Account,
    guests: &mut Guests,
    rooms: &[&String],
    truth: &[&str],
) -> Result<String> {
    let mut last = String::new();
    for room in rooms {
        last = alice.send(room, "talk").await?;
        let sent = last.clone();
        guests.all_see("a live message", |answer| holds(answer, room, &sent)).await?;
    }
    guests.hold_the_list(truth)?;
    Ok(last)
}

async fn three_rooms(alice: &Account, bob: &Account) -> Result<Vec<String>> {
    let mut rooms = Vec::new();
    for number in 0..3 {
        let invite = json!({ "name": format!("Room {number}"), "invite": [bob.user_id] });
        let room = alice.create_room(invite).await?;
        bob.join(&room).await?;
        rooms.push(room);
    }
    Ok(rooms)
}

/// What comes with a room, and what comes without one.
async fn extensions(
    alice: &Account,
    bob: &Account,
    guests: &mut Guests,
    (room, event): (&str, &str),
) -> Result<()> {
    let typists = |answer: &Answer| {
        let content = &answer.value["extensions"]["typing"]["rooms"][room]["content"];
        content["user_ids"].as_array().map(Vec::len)
    };
    alice.typing(room, true).await?;
    guests.all_see("typing", |answer| typists(answer).filter(|it| *it == 1).map(drop)).await?;
    alice.typing(room, false).await?;
    guests.all_see("its end", |answer| typists(answer).filter(|it| *it == 0).map(drop)).await?;

    alice.receipt(room, "m.read", event).await?;
    let read = |answer: &Answer| {
        let content = &answer.value["extensions"]["receipts"]["rooms"][room]["content"];
        content[event]["m.read"][&alice.user_id].is_object().then_some(())
    };
    guests.all_see("a receipt", read).await?;

    alice.send_to_device("org.example.note", bob, json!({ "number": 1 })).await?;
    let noted = |answer: &Answer| {
        let mut messages = answer.to_device().iter();
        messages.any(|message| message["content"]["number"] == 1).then_some(())
    };
    guests.all_see("a to-device message", noted).await?;

    let (user, value) = (escaped(&bob.user_id), json!({ "value": "kept" }));
    let of_room = format!("rooms/{}/account_data/org.example.own", escaped(room));
    for path in ["account_data/org.example.own".to_owned(), of_room] {
        bob.call(Method::PUT, &format!("user/{user}/{path}"), &value).await?;
        let kept = |answer: &Answer| {
            let data = &answer.value["extensions"]["account_data"];
            let data =
                if path.starts_with("rooms") { &data["rooms"][room] } else { &data["global"] };
            data.to_string().contains("org.example.own").then_some(())
        };
        guests.all_see("account data", kept).await?;
    }
    Ok(())
}

/// Goal: what happens reaches a client of each dialect: first contact, live messages, extensions,
/// an invite; and after a graceful restart their positions hold, and after a kill nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_followed_in_each_dialect() -> Result<()> {
    let stack = Stack::start(false).await?;
    let (alice, bob) = (stack.account("alice").await?, stack.account("bob").await?);
    let rooms = three_rooms(&alice, &bob).await?;
    let [a, b, c] = &rooms[..] else { unreachable!("there are three rooms") };
    let mut guests = Guests::of(&bob, &stack);
    let whole = |answer: &Answer| (answer.value["lists"]["all"]["count"] == 3).then_some(());
    guests.all_see("three rooms", whole).await?;
    let event = talk(&alice, &mut guests, &[a, c, b], &[b, c, a]).await?;
    extensions(&alice, &bob, &mut guests, (b, &event)).await?;

    let invite = alice.create_room(json!({ "name": "Party", "invite": [bob.user_id] })).await?;
    let invited = |answer: &Answer| answer.room(&invite)?.get("invite_state").map(drop);
    guests.all_see("an invite", invited).await?;
    guests.hold_the_list(&[&invite, b, c, a])?;
    talk(&alice, &mut guests, &[a], &[a, &invite, b, c]).await?;

    let Some(mut luge) = stack.luge().await else { return Ok(()) };
    luge.stop().await?;
    let missed = alice.send(c, "while it was down").await?;
    luge.start_again().await?;
    for (dialect, connection) in &mut guests.0 {
        let awaited = format!("what came while Luge was down, in {dialect:?}");
        let of_room = |answer: &Answer| holds(answer, c, &missed);
        let ((), answers) = connection.until(&awaited, &body(), of_room).await?;
        let initial = answers.iter().any(|it| it.room(c).is_some_and(|it| it["initial"] == true));
        ensure!(!initial, "{dialect:?} has to start anew: {answers:?}");
    }
    guests.hold_the_list(&[c, a, &invite, b])?;

    luge.kill()?;
    let missed = alice.send(b, "while it was dead").await?;
    luge.start_again().await?;
    for (dialect, connection) in &mut guests.0 {
        // What was acknowledged last may not have been saved: then a client starts anew.
        let answer = connection.next(&body(), Duration::ZERO).await;
        let told = answer.as_ref().is_ok_and(|answer| holds(answer, b, &missed).is_some());
        if answer.is_err_and(|error| error.to_string().contains("M_UNKNOWN_POS")) {
            connection.pos = None;
        }
        if !told {
            let awaited = format!("what came while Luge was dead, in {dialect:?}");
            connection.until(&awaited, &body(), |answer| holds(answer, b, &missed)).await?;
        }
    }
    guests.hold_the_list(&[b, c, a, &invite])
}
