//! Positions, and what a connection remembers of a room: live, previously, never.

use luge_core::shard::ShardLimits;
use serde_json::{Value, json};

use crate::{
    answers::{position, required, rooms, timeline, window},
    driver::{Client, Luge},
    events::{ALICE, BOB, all, at, beginning, joined, list, message, name, state, waiting},
};

const UNKNOWN: (u16, &str) = (400, "M_UNKNOWN_POS");

fn refused(luge: &mut Luge, client: &Client, request: Value) {
    let (status, errcode) = luge.refused(client, request);
    assert_eq!((status, &*errcode), UNKNOWN);
}

/// Alice in `!a:x` and then `!b:x`.
fn two_rooms() -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "DEV");
    luge.sync(
        &alice,
        all([
            joined("!a:x", &beginning("$a", &[ALICE])),
            joined("!b:x", &beginning("$b", &[ALICE])),
        ]),
    );
    (luge, alice)
}

/// The newest room alone.
fn top(limit: u64) -> Value {
    let state = json!([["m.room.create", ""], ["m.room.name", ""], ["m.room.topic", ""]]);
    json!({"lists": {"all": {"ranges": [[0, 0]], "timeline_limit": limit, "required_state": state}}})
}

fn topic(id: &str, topic: &str) -> Value {
    state(id, "m.room.topic", "", ALICE, json!({"topic": topic}))
}

/// Goal: of a room that is there already, only what changed comes.
#[test]
fn a_live_room_gets_only_what_changed() {
    let (mut luge, alice) = two_rooms();
    let answer = luge.ask(&alice, top(2));
    assert_eq!(required(&answer, "!b:x"), ["$b-create"]);
    luge.sync(&alice, joined("!b:x", &[name("$n", ALICE, "B")]));
    let answer = luge.ask(&alice, at(position(&answer), top(2)));
    let room = &answer["rooms"]["!b:x"];
    assert_eq!((required(&answer, "!b:x"), timeline(&answer, "!b:x")), (vec!["$n"], vec!["$n"]));
    assert_eq!((room.get("initial"), room.get("limited")), (None, None));
    assert_eq!(room["num_live"], 1);
}

/// Goal: a room that comes back gets what it missed.
#[test]
fn a_room_that_comes_back_gets_what_it_missed() {
    let (mut luge, alice) = two_rooms();
    let answer = luge.ask(&alice, top(2));
    luge.sync(&alice, joined("!b:x", &[topic("$t", "T"), message("$m1", ALICE)]));
    luge.sync(&alice, joined("!a:x", &[message("$m", ALICE)]));
    let answer = luge.ask(&alice, at(position(&answer), top(2)));
    assert_eq!((rooms(&answer), &answer["rooms"]["!a:x"]["initial"]), (vec!["!a:x"], &true.into()));
    luge.sync(&alice, joined("!b:x", &[message("$m2", ALICE)]));
    let answer = luge.ask(&alice, at(position(&answer), top(2)));
    let room = &answer["rooms"]["!b:x"];
    assert_eq!(room.get("initial"), None);
    assert_eq!(required(&answer, "!b:x"), ["$t"]);
    assert_eq!(timeline(&answer, "!b:x"), ["$m1", "$m2"]);
    assert_eq!((&room["limited"], &room["num_live"]), (&true.into(), &1.into()));
}

/// Goal: not limited where all that was missed fits.
#[test]
fn a_room_that_missed_little_is_not_limited() {
    let (mut luge, alice) = two_rooms();
    let answer = luge.ask(&alice, top(3));
    luge.sync(&alice, joined("!b:x", &[message("$m1", ALICE)]));
    luge.sync(&alice, joined("!a:x", &[message("$m", ALICE)]));
    let answer = luge.ask(&alice, at(position(&answer), top(3)));
    luge.sync(&alice, joined("!b:x", &[message("$m2", ALICE)]));
    let answer = luge.ask(&alice, at(position(&answer), top(3)));
    assert_eq!(timeline(&answer, "!b:x"), ["$m1", "$m2"]);
    assert_eq!(answer["rooms"]["!b:x"].get("limited"), None);
}

/// Goal: a room that was never sent comes whole.
#[test]
fn a_room_that_was_never_sent_comes_whole() {
    let (mut luge, alice) = two_rooms();
    let answer = luge.ask(&alice, top(2));
    luge.sync(&alice, joined("!a:x", &[message("$m", ALICE)]));
    let answer = luge.ask(&alice, at(position(&answer), top(2)));
    let room = &answer["rooms"]["!a:x"];
    assert_eq!((&room["initial"], &room["limited"]), (&true.into(), &true.into()));
    assert_eq!(timeline(&answer, "!a:x"), ["$a-levels", "$m"]);
    assert_eq!(room["num_live"], 1, "the message alone came after the position");
    assert_eq!(required(&answer, "!a:x"), ["$a-create"]);
}

/// Goal: INV-7: what a lost answer said is said again.
#[test]
fn a_retry_of_a_position_says_everything_again() {
    let (mut luge, alice) = two_rooms();
    let first = luge.ask(&alice, top(2));
    luge.sync(&alice, joined("!b:x", &[name("$n", ALICE, "B")]));
    let lost = luge.ask(&alice, at(position(&first), top(2)));
    luge.sync(&alice, joined("!b:x", &[message("$m", ALICE)]));
    let again = luge.ask(&alice, at(position(&first), top(2)));
    assert_eq!(timeline(&lost, "!b:x"), ["$n"]);
    assert_eq!(timeline(&again, "!b:x"), ["$n", "$m"]);
    assert_eq!(
        (required(&again, "!b:x"), &again["rooms"]["!b:x"]["name"]),
        (vec!["$n"], &"B".into())
    );
    assert_ne!(position(&lost), position(&again));
}

/// Goal: using one branch ends the others.
#[test]
fn a_position_that_is_used_ends_its_siblings_and_elders() {
    let (mut luge, alice) = two_rooms();
    let first = luge.ask(&alice, top(2));
    let one = luge.ask(&alice, at(position(&first), top(2)));
    let other = luge.ask(&alice, at(position(&first), top(2)));
    luge.ask(&alice, at(position(&other), top(2)));
    refused(&mut luge, &alice, at(position(&one), top(2)));
    refused(&mut luge, &alice, at(position(&first), top(2)));
    luge.ask(&alice, at(position(&other), top(2)));
}

/// Goal: whatever was not issued here is unknown, in whatever form.
#[test]
fn positions_of_others_and_garbage_are_unknown() {
    let (mut luge, alice) = two_rooms();
    let other_device = luge.sign_in(ALICE, "OTHER");
    let bob = luge.fresh(BOB);
    let answer = luge.ask(&alice, top(1));
    let pos = position(&answer);
    refused(&mut luge, &other_device, at(pos, top(1)));
    refused(&mut luge, &bob, at(pos, top(1)));
    let mut named = top(1);
    named["conn_id"] = "another".into();
    refused(&mut luge, &alice, at(pos, named));
    for garbage in
        ["", "0", "25/s989_10_0_1", "s12_3", "0_0_0", "-1_-1", "null", "0_5_0_0000000000000000"]
    {
        refused(&mut luge, &alice, at(garbage, top(1)));
    }
    luge.ask(&alice, at(pos, top(1)));
}

/// Goal: a request without position forgets the connection.
#[test]
fn starting_anew_forgets_the_old_positions() {
    let (mut luge, alice) = two_rooms();
    let old = luge.ask(&alice, top(1));
    let new = luge.ask(&alice, top(1));
    assert_eq!(new["rooms"]["!b:x"]["initial"], true);
    refused(&mut luge, &alice, at(position(&old), top(1)));
}

/// Goal: two processes of one app may share a connection without rooms.
#[test]
fn positions_without_rooms_survive_another_start() {
    let (mut luge, alice) = two_rooms();
    let request = || {
        json!({"conn_id": "encryption", "extensions": {
            "to_device": {"enabled": true}, "e2ee": {"enabled": true},
        }})
    };
    let first = luge.ask(&alice, request());
    let other = luge.ask(&alice, request());
    let next = luge.ask(&alice, at(position(&first), request()));
    luge.ask(&alice, at(position(&other), request()));
    luge.ask(&alice, at(position(&first), request()));
    luge.ask(&alice, at(position(&next), request()));
    let mut foreign = request();
    foreign["conn_id"] = "other".into();
    refused(&mut luge, &alice, at(position(&first), foreign));
}

/// Goal: a restart sends nobody back to the start.
#[test]
fn positions_survive_a_restart() {
    let (mut luge, alice) = two_rooms();
    let roomless = || json!({"conn_id": "e", "extensions": {"e2ee": {"enabled": true}}});
    let encryption = luge.ask(&alice, roomless());
    let first = luge.ask(&alice, top(2));
    let second = luge.ask(&alice, at(position(&first), top(2)));
    luge.restart();
    luge.sync(&alice, joined("!b:x", &[message("$m", ALICE)]));
    let answer = luge.ask(&alice, at(position(&second), top(2)));
    assert_eq!(timeline(&answer, "!b:x"), ["$m"]);
    assert_eq!(answer["rooms"]["!b:x"].get("initial"), None);
    luge.ask(&alice, at(position(&encryption), roomless()));
}

/// Goal: names do not change over a restart, nor does the order.
#[test]
fn a_restart_changes_nothing_that_is_shown() {
    let (mut luge, alice) = two_rooms();
    let request = || list(5, json!([["*", "*"], ["m.room.member", "$LAZY"]]));
    let before = luge.ask(&alice, request());
    luge.restart();
    let mut after = luge.ask(&alice, request());
    after["pos"] = before["pos"].clone();
    assert_eq!(before, after);
}

/// Goal: connections of a device are limited; the one idle longest goes.
#[test]
fn beyond_the_limit_the_connection_idle_longest_goes() {
    let limits = ShardLimits { connections_max: 2, ..ShardLimits::default() };
    let mut luge = Luge::with(limits);
    let alice = luge.sign_in(ALICE, "DEV");
    luge.sync(&alice, joined("!a:x", &beginning("$a", &[ALICE])));
    let named = |name: &str| {
        let mut request = list(1, json!([]));
        request["conn_id"] = name.into();
        request
    };
    let one = luge.ask(&alice, named("one"));
    luge.wait(1);
    let two = luge.ask(&alice, named("two"));
    luge.wait(1);
    let one = luge.ask(&alice, at(position(&one), named("one")));
    luge.wait(1);
    luge.ask(&alice, named("three"));
    luge.ask(&alice, at(position(&one), named("one")));
    refused(&mut luge, &alice, at(position(&two), named("two")));
}

/// Goal: a connection lives while it is used.
#[test]
fn a_connection_lives_a_week_after_its_last_use() {
    let (mut luge, alice) = two_rooms();
    let mut answer = luge.ask(&alice, top(1));
    let half_a_week = 7 * 24 * 3_600_000 / 2;
    for _ in 0..3 {
        luge.wait(half_a_week);
        answer = luge.ask(&alice, at(position(&answer), top(1)));
    }
    luge.wait(3 * half_a_week);
    refused(&mut luge, &alice, at(position(&answer), top(1)));
}

/// Goal: a retry may ask for something else, and is answered from the same state.
#[test]
fn a_retry_may_ask_for_other_windows() {
    let (mut luge, alice) = two_rooms();
    let first = luge.ask(&alice, top(1));
    let held = luge.send(&alice, waiting(position(&first), top(1)));
    luge.abandon(held);
    let answer = luge.ask(&alice, at(position(&first), list(1, json!([]))));
    assert_eq!(luge.answered(held), None);
    assert_eq!(window(&answer, "all", 0), ["!b:x", "!a:x"]);
    assert_eq!(rooms(&answer), ["!a:x"]);
}

/// Goal: a client may be away while much happens: nothing is queued for it, and
/// nothing ends its connection.
#[test]
fn a_client_that_is_far_behind_goes_on() {
    let (mut luge, alice) = two_rooms();
    let answer = luge.ask(&alice, top(2));
    for at in 0..2_500 {
        luge.sync(&alice, joined("!b:x", &[message(&format!("$m{at}"), ALICE)]));
    }
    let answer = luge.ask(&alice, at(position(&answer), top(2)));
    let room = &answer["rooms"]["!b:x"];
    assert_eq!(timeline(&answer, "!b:x"), ["$m2498", "$m2499"]);
    assert_eq!((&room["limited"], room.get("initial")), (&true.into(), None));
}
