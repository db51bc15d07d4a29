//! What lies behind a gap that another's poller brought: told as soon as one's own
//! poller has vouched for one, and not before.

use serde_json::{Value, json};

use crate::{
    answers::{position, required, rooms, timeline, window},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, at, beginning, gap, joined, joined_with, left, list, made, message, name,
        waiting,
    },
};

/// Alice and Bob, both served, in `!r:x`; Bob in `!own:x` as well, where something
/// happened last.
fn shared() -> (Luge, Client, Client) {
    let mut luge = Luge::new();
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.sign_in(BOB, "B"));
    let events = [beginning("$r", &[ALICE, BOB]), vec![message("$m1", ALICE)]].concat();
    luge.sync(&alice, joined("!r:x", &events));
    luge.sync(&bob, joined("!r:x", &events));
    luge.wait(1_000);
    luge.sync(&bob, joined("!own:x", &beginning("$own", &[BOB])));
    (luge, alice, bob)
}

fn request() -> Value {
    list(9, json!([["m.room.name", ""]]))
}

/// Alice is told of what happened behind a gap.
fn alice_has_a_gap(luge: &mut Luge, alice: &Client) {
    luge.wait(1_000);
    let dated = |mut event: Value, now_ms: u64| {
        event["origin_server_ts"] = now_ms.into();
        event
    };
    let now_ms = luge.now_ms();
    let events = [dated(name("$name", ALICE, "New"), now_ms), dated(message("$m9", ALICE), now_ms)];
    luge.sync(alice, gap("!r:x", &[], &events, "p"));
    let typing = json!({"type": "m.typing", "content": {"user_ids": [ALICE]}});
    luge.sync(alice, joined_with("!r:x", &[], json!({"ephemeral": {"events": [typing]}})));
}

/// The homeserver has nothing for Bob, as of a moment behind the gap.
fn bob_is_vouched_for(luge: &mut Luge, bob: &Client) {
    luge.sync(bob, json!({}));
    luge.sync(bob, json!({}));
}

/// Goal: who waits is not woken by what may not be theirs, and is as soon as it is.
#[test]
fn what_follows_a_gap_waits_for_the_own_poller() {
    let (mut luge, alice, bob) = shared();
    let request = || {
        let mut request = request();
        request["extensions"] = json!({"typing": {"enabled": true}});
        request
    };
    let answer = luge.ask(&bob, request());
    assert_eq!(window(&answer, "all", 0), ["!own:x", "!r:x"]);
    let held = luge.send(&bob, waiting(position(&answer), request()));
    alice_has_a_gap(&mut luge, &alice);
    assert_eq!(luge.answered(held), None);
    luge.sync(&bob, json!({}));
    assert_eq!(luge.answered(held), None, "this answer was on its way");
    luge.sync(&bob, json!({}));
    let answer = luge.body(held);
    assert_eq!(timeline(&answer, "!r:x"), ["$name", "$m9"]);
    assert_eq!(answer["rooms"]["!r:x"]["limited"], true);
    assert_eq!(required(&answer, "!r:x"), ["$name"]);
    assert_eq!(window(&answer, "all", 0), ["!r:x", "!own:x"]);
    let typing = &answer["extensions"]["typing"]["rooms"]["!r:x"]["content"]["user_ids"];
    assert_eq!(*typing, json!([ALICE]));
}

/// Goal: who starts anew has the room in their lists, where it was, and what there is
/// of it with the next response.
#[test]
fn a_room_that_is_withheld_keeps_its_place_and_comes_later() {
    let (mut luge, alice, bob) = shared();
    luge.ask(&bob, request());
    alice_has_a_gap(&mut luge, &alice);
    let answer = luge.ask(&bob, request());
    assert_eq!(window(&answer, "all", 0), ["!own:x", "!r:x"]);
    assert_eq!(answer["lists"]["all"]["count"], 2);
    assert_eq!(rooms(&answer), ["!own:x"]);
    bob_is_vouched_for(&mut luge, &bob);
    let answer = luge.ask(&bob, at(position(&answer), request()));
    assert_eq!(rooms(&answer), ["!r:x"]);
    assert_eq!(answer["rooms"]["!r:x"]["initial"], true);
    assert_eq!(answer["rooms"]["!r:x"]["name"], "New");
    assert_eq!(timeline(&answer, "!r:x"), ["$name", "$m9"]);
}

/// Goal: likewise after a restart, which knows no place where it was.
#[test]
fn a_room_that_is_withheld_is_so_after_a_restart() {
    let (mut luge, alice, bob) = shared();
    let before = luge.ask(&bob, request());
    alice_has_a_gap(&mut luge, &alice);
    luge.restart();
    let answer = luge.ask(&bob, at(position(&before), request()));
    assert_eq!(window(&answer, "all", 0), ["!own:x", "!r:x"]);
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    bob_is_vouched_for(&mut luge, &bob);
    let answer = luge.ask(&bob, at(position(&answer), request()));
    assert_eq!(timeline(&answer, "!r:x"), ["$name", "$m9"]);
}

/// Goal: who was kicked in the gap is told of that, and of nothing from behind it.
#[test]
fn who_was_kicked_in_the_gap_is_told_of_that_alone() {
    let (mut luge, alice, bob) = shared();
    let request = || list(9, json!([["m.room.member", "$ME"], ["m.room.name", ""]]));
    let answer = luge.ask(&bob, request());
    let held = luge.send(&bob, waiting(position(&answer), request()));
    alice_has_a_gap(&mut luge, &alice);
    luge.sync(&bob, left("!r:x", &[made("$kick", ALICE, BOB, "leave")]));
    let answer = luge.body(held);
    assert_eq!(required(&answer, "!r:x"), ["$kick"]);
    assert!(!answer.to_string().contains("$m9") && !answer.to_string().contains("New"));
}
