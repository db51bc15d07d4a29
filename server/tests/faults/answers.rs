//! Answers to `/sync` that fail or come damaged: the device goes on, other rooms are unharmed, and
//! nothing is lost or comes twice.

use luge_io::time::{clock, sleep};
use luge_loadtest::{
    faults::Fault,
    model::{Membership, Session},
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{
    harness::{
        device::PATIENCE,
        follower::{Follower, Trouble},
    },
    log,
    town::{self, Plan, Town, impatient, on_each_driver},
};

/// Every fault that loses nothing, and what the log must say of it.
fn faults(town: &Town) -> Vec<(Fault, Vec<String>)> {
    let says = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let malformed = Fault::Malformed { room_id: town.anns.clone() };
    vec![
        (Fault::Status(500), says(&[])),
        (Fault::Status(502), says(&[])),
        (Fault::RateLimited { retry_after_seconds: 1 }, says(&[])),
        (Fault::NotJson, says(&["sync answer", "JSON"])),
        (Fault::NullBody, says(&["sync answer", "object"])),
        (Fault::Dropped, says(&[])),
        (Fault::Truncated, says(&[])),
        (Fault::Slow(300), says(&[])),
        (Fault::EmptyNextBatch, says(&["next_batch"])),
        (Fault::NoNextBatch, says(&["next_batch"])),
        (malformed, says(&[&town.anns, "reason"])),
        (Fault::Duplicated, says(&[])),
        (Fault::NullSections, says(&[])),
        (Fault::RoomWithoutCreate, says(&["!without-create:simulated.test", "m.room.create"])),
    ]
}

#[test]
fn fault_on_a_live_device_loses_nothing_and_repeats_nothing() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut ann = town.setup.follower(&town.ann);
        let mut bob = town.setup.follower(&town.bob);
        ann.must_step(0).await;
        bob.must_step(0).await;
        for (number, (fault, words)) in faults(&town).into_iter().enumerate() {
            strike(&town, &fault, number);
            for when in ["struck", "after"] {
                let text = format!("{when} {number}");
                if when == "after" {
                    town.say(&town.anns, &text);
                    town.say(&town.shared, &text);
                }
                let what = format!("{text}, {fault:?}");
                ann.until(&what, |ann| {
                    ann.has_text(&town.anns, &text) && ann.has_text(&town.shared, &text)
                })
                .await;
                bob.until(&what, |bob| bob.has_text(&town.shared, &text)).await;
            }
            let told = |ann: &Follower| ann.to_device.len() > number;
            ann.until(&format!("a message to the device, {fault:?}"), told).await;
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert!(words.is_empty() || log::says(&words), "{fault:?} is logged with {words:?}");
        }
        compare(&town, &mut [ann, bob]).await;
        town.setup.end().await;
    });
}

/// The fault strikes the answer that brings messages to both rooms and to the device.
fn strike(town: &Town, fault: &Fault, number: usize) {
    let (fault, text) = (fault.clone(), format!("struck {number}"));
    let (user_id, device_id) = (town.ann.user_id.clone(), town.ann.device_id.clone());
    let rooms = [town.anns.clone(), town.shared.clone()];
    town.setup.act(move |homeserver, now| {
        homeserver.inject(&user_id, &fault, 2);
        for room_id in rooms {
            town::say(homeserver, &room_id, &text, now);
        }
        let (sender, content) = (town::STRANGER, json!({"number": number}));
        homeserver.send_to_device(sender, "test.number", (&user_id, &device_id), &content);
    });
}

/// Holds what they keep against the truth, and the messages to Ann's device against what was sent.
async fn compare(town: &Town, followers: &mut [Follower]) {
    for follower in followers {
        follower.drain().await;
        // Some of what the fault calls malformed is merely odd, and may be shown.
        follower.forget_events(|id| id.starts_with("$malformed"));
        follower.compare(&town.setup.facts(&follower.user_id));
        let problems = &follower.problems;
        assert!(problems.is_empty(), "{} problems: {problems:#?}", problems.len());
        let numbers: Vec<u64> = follower
            .to_device
            .iter()
            .filter_map(|message| message["content"]["number"].as_u64())
            .collect();
        let expected: Vec<u64> = (0..numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "each message to the device came once, in order");
    }
}

#[test]
fn fault_on_a_first_sync_delays_it_and_loses_nothing() {
    on_each_driver(|driver| async move {
        let now = clock::now_ms();
        let mut plan = Plan::new(now);
        let mut newcomers: Vec<(Session, String)> = Vec::new();
        for number in 0..14 {
            let homeserver = &mut plan.homeserver;
            let user_id = homeserver.register(&format!("new{number}"), "New", "password");
            let session = homeserver.log_in(&user_id, None).unwrap();
            newcomers.push((session, town::room(homeserver, "Pier", &[&user_id], now)));
        }
        let town = plan.serve(|config| impatient(config, driver));
        let all = faults(&town).into_iter().map(|(fault, _)| fault);
        for (fault, (session, room_id)) in all.zip(newcomers) {
            let fault = match fault {
                Fault::Malformed { .. } => Fault::Malformed { room_id: room_id.clone() },
                fault => fault,
            };
            let (user_id, injected) = (session.user_id.clone(), fault.clone());
            town.setup.act(move |homeserver, _| homeserver.inject(&user_id, &injected, 1));
            let mut newcomer = town.setup.follower(&session);
            first_step(&mut newcomer, &fault).await;
            let text = format!("welcome, {fault:?}");
            town.say(&room_id, &text);
            newcomer.until(&text, |it| it.has_text(&room_id, &text)).await;
            assert!(newcomer.has_text(&room_id, "hello"), "{fault:?} lost what was there before");
            compare(&town, &mut [newcomer]).await;
        }
        town.setup.end().await;
    });
}

/// Asks until there is a first response. Until then each answer says what the homeserver does.
async fn first_step(follower: &mut Follower, fault: &Fault) {
    let deadline = clock::monotonic() + PATIENCE;
    loop {
        let answer = match follower.step(0).await {
            Ok(_) => return,
            Err(Trouble::Refused(answer)) => answer,
            Err(Trouble::Broken(error)) => panic!("{fault:?}: {error}"),
        };
        assert!(clock::monotonic() < deadline, "{fault:?} never ends: {}", answer.text());
        let text = answer.text();
        assert!(matches!(answer.status, 502 | 504), "{fault:?}: {} {text}", answer.status);
        assert_eq!(answer.errcode(), "M_UNKNOWN");
        assert!(text.contains("the homeserver"), "{text}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn timeline_out_of_order_is_shown_whole_and_once() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut ann = town.setup.follower(&town.ann);
        ann.must_step(0).await;
        let (user_id, room_id) = (town.ann.user_id.clone(), town.anns.clone());
        town.setup.act(move |homeserver, now| {
            homeserver.inject(&user_id, &Fault::OutOfOrder, 1);
            for number in 0..5 {
                town::say(homeserver, &room_id, &format!("line {number}"), now);
            }
        });
        let all = |ann: &Follower| {
            (0..5).all(|number| ann.has_text(&town.anns, &format!("line {number}")))
        };
        ann.until("all lines", all).await;
        town.say(&town.anns, "after");
        ann.until("a line after", |ann| ann.has_text(&town.anns, "after")).await;
        ann.drain().await;
        let texts = &ann.rooms[&town.anns].texts;
        assert_eq!(texts.len(), 7, "each line once: {texts:?}");
        assert!(ann.problems.is_empty(), "{:#?}", ann.problems);
        town.setup.end().await;
    });
}

#[test]
fn since_that_is_rejected_costs_no_connection() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut ann = town.setup.follower(&town.ann);
        let (user_id, anns) = (town.ann.user_id.clone(), town.anns.clone());
        let gone = town.setup.act({
            let user_id = user_id.clone();
            move |homeserver, now| town::room(homeserver, "Gone", &[&user_id], now)
        });
        ann.must_step(0).await;
        assert_eq!(ann.list.len(), 3);
        let left = gone.clone();
        town.setup.act(move |homeserver, now| {
            homeserver.inject(&user_id, &Fault::Status(400), 1);
            town::say(homeserver, &anns, "meanwhile", now);
            let leaves = (user_id.as_str(), Membership::Leave);
            homeserver.set_membership(&left, &user_id, leaves, None, now).unwrap();
        });
        ann.until("what was said meanwhile", |ann| ann.has_text(&town.anns, "meanwhile")).await;
        ann.until("the room that was left", |ann| !ann.list.contains(&gone)).await;
        town.say(&town.anns, "after");
        ann.until("what was said after", |ann| ann.has_text(&town.anns, "after")).await;
        ann.rooms.remove(&gone);
        compare(&town, &mut [ann]).await;
        assert!(log::says(&["does not know a since token"]));
        town.setup.end().await;
    });
}

#[test]
fn no_token_is_ever_logged() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut ann = town.setup.follower(&town.ann);
        ann.must_step(0).await;
        let user_id = town.ann.user_id.clone();
        town.setup.act(move |homeserver, _| homeserver.inject(&user_id, &Fault::NotJson, 1));
        town.say(&town.anns, "after");
        ann.until("what was said", |ann| ann.has_text(&town.anns, "after")).await;
        let wrong = ann.device.ask(None, 0, "{".to_owned()).await.unwrap();
        assert_eq!((wrong.status, &*wrong.errcode()), (400, "M_NOT_JSON"));
        assert!(!log::says(&[&town.ann.access_token]), "INV-10");
        assert!(ann.account_data.values().all(Value::is_object));
        town.setup.end().await;
    });
}
