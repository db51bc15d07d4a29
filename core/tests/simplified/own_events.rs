//! A user's own events, and the transaction ids that only the sending device's
//! own poller knows.

use luge_core::shard::{PollOutcome, Refusal, ShardLimits};
use serde_json::{Value, json};

use crate::{
    answers::{position, timeline},
    driver::{Client, Luge},
    events::{ALICE, BOB, at, beginning, joined, list, message, waiting},
};

const WAIT_MS: u64 = 400;

/// Alice's devices and Bob's, each polled, each with a position.
struct Chat {
    luge: Luge,
    phone: Client,
    laptop: Client,
    bob: Client,
    position: String,
    laptop_position: String,
}

fn request() -> Value {
    list(9, json!([]))
}

fn chat(limits: ShardLimits) -> Chat {
    let mut luge = Luge::with(limits);
    let room = joined("!r:x", &beginning("$r", &[ALICE, BOB]));
    let [phone, laptop] = ["PHONE", "LAPTOP"].map(|device_id| luge.sign_in(ALICE, device_id));
    let bob = luge.sign_in(BOB, "B");
    for client in [&phone, &laptop, &bob] {
        luge.sync(client, room.clone());
    }
    let [position, laptop_position] =
        [&phone, &laptop].map(|client| position(&luge.ask(client, request())).to_owned());
    Chat { luge, phone, laptop, bob, position, laptop_position }
}

fn short_wait() -> ShardLimits {
    ShardLimits { transaction_id_wait_ms: WAIT_MS, ..ShardLimits::default() }
}

fn own(transaction_id: Option<&str>) -> Value {
    let mut event = message("$own", ALICE);
    if let Some(transaction_id) = transaction_id {
        event["unsigned"] = json!({"transaction_id": transaction_id});
    }
    event
}

fn shown_transaction_id(answer: &Value) -> Option<&str> {
    answer["rooms"]["!r:x"]["timeline"][0]["unsigned"]["transaction_id"].as_str()
}

/// Goal: an own event that another's poller brings first waits for the device's
/// own poller, and what comes behind it waits with it; then it has its id, which
/// no other device is shown.
#[test]
fn an_own_event_waits_for_its_transaction_id() {
    let Chat { mut luge, phone, laptop, bob, position, laptop_position } = chat(short_wait());
    let ticket = luge.send(&phone, waiting(&position, request()));
    let on_laptop = luge.send(&laptop, waiting(&laptop_position, request()));
    let both = joined("!r:x", &[own(None), message("$answer", BOB)]);
    luge.sync(&bob, both.clone());
    luge.wait(WAIT_MS - 1);
    assert_eq!((luge.answered(ticket), luge.answered(on_laptop)), (None, None));
    luge.sync(&phone, joined("!r:x", &[own(Some("t1")), message("$answer", BOB)]));
    let answer = luge.body(ticket);
    assert_eq!(timeline(&answer, "!r:x"), ["$own", "$answer"]);
    assert_eq!(shown_transaction_id(&answer), Some("t1"));
    assert_eq!(luge.answered(on_laptop), None, "its own poller has yet to tell");
    luge.sync(&laptop, both);
    let answer = luge.body(on_laptop);
    assert_eq!(timeline(&answer, "!r:x"), ["$own", "$answer"]);
    assert_eq!(shown_transaction_id(&answer), None, "another device sent it");
    let of_bob = luge.ask(&bob, request());
    assert!(!of_bob.to_string().contains("transaction_id"), "{of_bob}");
}

/// Goal: the device's own poller may be late: at the limit the event is shown
/// without an id.
#[test]
fn an_own_event_waits_no_longer_than_the_limit() {
    let Chat { mut luge, phone, bob, position, .. } = chat(short_wait());
    let ticket = luge.send(&phone, waiting(&position, request()));
    luge.sync(&bob, joined("!r:x", &[own(None)]));
    luge.wait(WAIT_MS - 1);
    assert_eq!(luge.answered(ticket), None);
    luge.wait(1);
    let answer = luge.body(ticket);
    assert_eq!(timeline(&answer, "!r:x"), ["$own"]);
    assert_eq!(shown_transaction_id(&answer), None);
    luge.sync(&phone, joined("!r:x", &[own(Some("t1"))]));
    let answer = luge.ask(&phone, at(crate::answers::position(&answer), request()));
    assert_eq!(timeline(&answer, "!r:x"), [] as [&str; 0], "it is not told twice");
}

/// Goal: the limit is a second unless it is configured, and may be none.
#[test]
fn the_wait_for_transaction_ids_is_configured() {
    assert_eq!(ShardLimits::default().transaction_id_wait_ms, 1_000);
    let none = ShardLimits { transaction_id_wait_ms: 0, ..ShardLimits::default() };
    let Chat { mut luge, phone, bob, position, .. } = chat(none);
    let ticket = luge.send(&phone, waiting(&position, request()));
    luge.sync(&bob, joined("!r:x", &[own(None)]));
    assert_eq!(timeline(&luge.body(ticket), "!r:x"), ["$own"]);
}

/// Goal: nothing waits for a poller that is not running.
#[test]
fn an_own_event_does_not_wait_where_the_device_is_not_polled() {
    let Chat { mut luge, phone, bob, position, .. } = chat(short_wait());
    let refusal = Refusal::new(502, "M_UNKNOWN", "the homeserver is gone");
    luge.end_poll(&phone, PollOutcome::Failed(refusal));
    assert!(luge.poll(&phone).is_none(), "it waits before it tries again");
    let ticket = luge.send(&phone, waiting(&position, request()));
    luge.sync(&bob, joined("!r:x", &[own(None)]));
    assert_eq!(timeline(&luge.body(ticket), "!r:x"), ["$own"]);
}
