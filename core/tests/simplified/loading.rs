//! Users who come into memory turn by turn.

use luge_core::shard::{Hint, Refusal, ShardLimits, Validation};
use serde_json::{Value, json};

use crate::{
    answers::{position, rooms},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, all, at, beginning, joined, joined_with, left, list, made, member, message,
        name,
    },
};

fn room_id(at: usize) -> String {
    format!("!{at}:x")
}

fn request() -> Value {
    let mut request = list(5, json!([["m.room.name", ""], ["m.room.member", "$ME"]]));
    request["extensions"] = json!({"account_data": {"enabled": true}});
    request
}

/// Alice and Bob in six rooms, after a start: nobody is in memory, and so many
/// rooms come into it in a turn.
fn after_a_start(load_rooms_max: usize) -> (Luge, Client, Client) {
    let mut luge = Luge::with(ShardLimits { load_rooms_max, ..ShardLimits::default() });
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.sign_in(BOB, "B"));
    let room = |at: usize| {
        let tag = json!({"type": "m.tag", "content": {"tags": {format!("u.{at}"): {}}}});
        let tags = json!({"account_data": {"events": [tag]}});
        joined_with(&room_id(at), &beginning(&format!("${at}"), &[ALICE, BOB]), tags)
    };
    let answer = all((0..6).map(room));
    luge.sync(&alice, answer.clone());
    luge.sync(&bob, answer);
    luge.restart();
    (luge, alice, bob)
}

/// What happens while Alice comes into memory: to rooms that are there, and to
/// rooms that are not.
fn meanwhile(luge: &mut Luge, alice: &Client, bob: &Client) {
    let news = |at: usize| joined(&room_id(at), &[message(&format!("$m{at}"), BOB)]);
    luge.sync(bob, all([news(0), news(5)]));
    luge.sync(
        bob,
        all([0, 5].map(|at| joined(&room_id(at), &[name(&format!("$n{at}"), BOB, "N")]))),
    );
    luge.sync(alice, left(&room_id(1), &[member("$l1", ALICE, "leave")]));
    luge.sync(alice, left(&room_id(4), &[made("$k4", BOB, ALICE, "leave")]));
    luge.sync(alice, joined(&room_id(6), &beginning("$6", &[ALICE])));
    let tag = |at: usize| {
        let tag =
            json!({"type": "m.tag", "content": {"tags": {"u.new": {}, format!("u.{at}"): {}}}});
        joined_with(&room_id(at), &[], json!({"account_data": {"events": [tag]}}))
    };
    luge.sync(alice, all([tag(0), tag(5)]));
    let direct = json!({"type": "m.direct", "content": {BOB: [room_id(0), room_id(5)]}});
    luge.sync(alice, json!({"account_data": {"events": [direct]}}));
}

/// Goal: who comes into memory over many turns is answered as who comes at once,
/// whatever happens in between.
#[test]
fn nothing_is_missed_that_happens_while_a_user_comes_into_memory() {
    let answer = |load_rooms_max: usize, turns_before: usize, turns_expected: usize| {
        let (mut luge, alice, bob) = after_a_start(load_rooms_max);
        let ticket = luge.send(&alice, request());
        let is_there = luge.answered(ticket).is_some();
        for _ in 0..turns_before {
            assert!(luge.continues());
        }
        meanwhile(&mut luge, &alice, &bob);
        let mut turns = turns_before;
        while luge.continues() {
            turns += 1;
        }
        assert_eq!(is_there, turns_expected == 0);
        // There may be a seventh room by now.
        assert!((turns_expected..=turns_expected + 1).contains(&turns), "{turns}");
        let told = if is_there { luge.ask(&alice, request()) } else { luge.body(ticket) };
        let then = luge.ask(&alice, at(position(&told), request()));
        let list = then["lists"]["all"]["ops"].clone();
        (told["rooms"].clone(), told["extensions"].clone(), list, rooms(&then).len())
    };
    let at_once = answer(100, 0, 0);
    for (load_rooms_max, turns) in [(1, 5), (2, 2), (4, 1)] {
        for turns_before in 0..turns {
            let by_turns = answer(load_rooms_max, turns_before, turns);
            assert_eq!(by_turns, at_once, "{load_rooms_max} rooms a turn, {turns_before} before");
        }
    }
}

/// Goal: users share a turn, and the first comes first.
#[test]
fn a_turn_reads_no_more_rooms_for_many_users() {
    let (mut luge, alice, bob) = after_a_start(4);
    let first = luge.send(&alice, request());
    assert!(luge.answered(first).is_none(), "four of the rooms are there");
    let second = luge.send(&bob, request());
    assert_eq!(rooms(&luge.body(first)).len(), 6);
    assert!(luge.answered(second).is_none(), "two of this turn's rooms were Alice's");
    assert!(luge.continues());
    assert_eq!(rooms(&luge.body(second)).len(), 6);
    assert!(!luge.continues(), "nobody is on the way");
}

/// Goal: what waits counts, and goes with its client.
#[test]
fn requests_that_wait_for_their_user_are_bounded_and_given_up() {
    let limits = ShardLimits { load_rooms_max: 1, held_max: 1, ..ShardLimits::default() };
    let mut luge = Luge::with(limits);
    let alice = luge.sign_in(ALICE, "A");
    let room = |at: usize| joined(&room_id(at), &beginning(&format!("${at}"), &[ALICE]));
    luge.sync(&alice, all((0..3).map(room)));
    luge.restart();
    let waits = luge.send(&alice, request());
    assert_eq!(luge.refused(&alice, request()).0, 429);
    luge.abandon(waits);
    let other = luge.send(&alice, request());
    while luge.continues() {}
    assert!(luge.answered(waits).is_none());
    luge.body(other);
}

/// Goal: a shard that ends keeps nobody waiting.
#[test]
fn who_waits_for_their_user_is_told_that_luge_stops() {
    let (mut luge, alice, _) = after_a_start(1);
    let waits = luge.send(&alice, request());
    luge.restart();
    assert_eq!(luge.answered(waits).map(|got| got.status), Some(503));
    let again = luge.send(&alice, request());
    while luge.continues() {}
    luge.body(again);
}

/// Goal: the homeserver is asked about a token once, however long its user takes to
/// come into memory; what it said is as old then as when the request came.
#[test]
fn what_was_said_of_a_token_holds_until_the_user_is_there() {
    for (waits_ms, is_answered) in [(1_000, true), (61_000, false)] {
        let (mut luge, alice, _) = after_a_start(1);
        let waits = luge.send(&alice, request());
        luge.validates = false;
        luge.wait(waits_ms);
        while luge.continues() {}
        assert_eq!(luge.answered(waits).is_some(), is_answered, "{waits_ms}");
    }
}

/// Goal: a device that is logged out meanwhile is not answered for what was said
/// of its token before.
#[test]
fn a_token_is_looked_at_again_when_the_user_is_there() {
    let (mut luge, alice, _) = after_a_start(1);
    let waits = luge.send(&alice, request());
    luge.validates = false;
    luge.hint(&alice, Hint::Purge(vec![alice.device]));
    while luge.continues() {}
    assert!(luge.answered(waits).is_none(), "the homeserver is asked");
    let refusal = Refusal::new(401, "M_UNKNOWN_TOKEN", "gone");
    luge.validate(&alice, Validation::Refused(refusal));
    assert_eq!(luge.answered(waits).map(|got| got.status), Some(401));
}
