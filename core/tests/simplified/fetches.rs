//! What is fetched apart and cannot be had: when it is asked for again.

use luge_core::{
    connection::Want,
    shard::{FetchOrder, FetchOutcome},
};
use serde_json::{Value, json};

use crate::{
    answers::{position, required},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, at, beginning, gap, joined, joined_with, list, member, message, name, waiting,
    },
};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Alice in `!r:x` with Bob.
fn room() -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    (luge, alice)
}

/// Orders that are for a room and have yet to be carried out.
fn orders(luge: &Luge) -> usize {
    luge.fetches.iter().filter(|order| order.want.room().is_some()).count()
}

fn all_members() -> Value {
    list(1, json!([["m.room.member", "*"]]))
}

/// Alice was told of the room, of which the members could not be had; where she is.
fn without_members(luge: &mut Luge, alice: &Client, outcome: FetchOutcome) -> String {
    let ticket = luge.send(alice, all_members());
    luge.end_fetch(outcome);
    position(&luge.body(ticket)).to_owned()
}

/// The members of the room are there, of whom Alice has yet to be told of one.
fn give_members(luge: &mut Luge) {
    let known = [("$r-join-a", ALICE), ("$r-join-b", BOB)];
    let members = known.into_iter().chain([("$old", "@old:x")]);
    let mut members: Vec<Value> = members.map(|(id, user)| member(id, user, "join")).collect();
    luge.give_members(&mut members, true);
}

/// Alice waits for so long, each time until there is nothing to tell; where she is
/// then.
fn waits(luge: &mut Luge, alice: &Client, mut pos: String, ms: u64) -> String {
    let until_ms = luge.now_ms() + ms;
    while luge.now_ms() < until_ms {
        let ticket = luge.send(alice, waiting(&pos, all_members()));
        let left_ms = until_ms - luge.now_ms();
        luge.wait(left_ms.min(30_000));
        match luge.answered(ticket) {
            Some(got) => position(&got.body).clone_into(&mut pos),
            None => luge.abandon(ticket),
        }
    }
    pos
}

/// Goal: who waits gets the members as soon as they can be had, though nothing
/// happens in the room.
#[test]
fn a_member_list_that_failed_is_asked_for_again_while_somebody_waits() {
    let (mut luge, alice) = room();
    let ticket = luge.send(&alice, all_members());
    luge.fail_fetch();
    let pos = position(&luge.body(ticket)).to_owned();
    let mut request = waiting(&pos, all_members());
    request["timeout"] = 200_000.into();
    let held = luge.send(&alice, request);
    luge.wait(MINUTE_MS - 1_000);
    assert_eq!(orders(&luge), 0, "too soon");
    luge.wait(2_000);
    assert_eq!(orders(&luge), 1);
    assert!(luge.answered(held).is_none(), "nobody waits for it in vain");
    luge.fail_fetch();
    luge.wait(2 * MINUTE_MS - 1_000);
    assert_eq!(orders(&luge), 0, "too soon");
    luge.wait(1_500);
    give_members(&mut luge);
    let answer = luge.body(held);
    assert_eq!(required(&answer, "!r:x"), ["$old"]);
    assert_eq!(answer["rooms"]["!r:x"].get("initial"), None);
    let pos = waits(&mut luge, &alice, position(&answer).to_owned(), HOUR_MS);
    assert_eq!(orders(&luge), 0, "{pos}");
}

/// Goal: nothing is asked for nobody, and who comes back is not forgotten, also
/// after a restart.
#[test]
fn a_member_list_that_failed_is_asked_for_again_when_its_client_comes_back() {
    for restarts in [false, true] {
        let (mut luge, alice) = room();
        let pos = without_members(&mut luge, &alice, FetchOutcome::Failed);
        if restarts {
            luge.restart();
        }
        luge.wait(2 * HOUR_MS);
        assert_eq!(orders(&luge), 0);
        let held = luge.send(&alice, waiting(&pos, all_members()));
        assert_eq!(orders(&luge), 1, "{restarts}");
        give_members(&mut luge);
        assert_eq!(required(&luge.body(held), "!r:x"), ["$old"]);
    }
}

/// Goal: what is not lacked any more is not asked for.
#[test]
fn a_member_list_that_failed_is_not_asked_for_when_nobody_wants_it_any_more() {
    let (mut luge, alice) = room();
    let pos = without_members(&mut luge, &alice, FetchOutcome::Failed);
    luge.send(&alice, waiting(&pos, list(1, json!([["m.room.name", ""]]))));
    luge.wait(2 * MINUTE_MS);
    assert_eq!(orders(&luge), 0);
}

/// Goal: a homeserver that says no is not asked by the clock, however long a client
/// waits; it is when there is news.
#[test]
fn a_member_list_that_is_refused_is_asked_for_with_news_alone() {
    let (mut luge, alice) = room();
    let pos = without_members(&mut luge, &alice, FetchOutcome::Refused);
    let pos = waits(&mut luge, &alice, pos, 3 * HOUR_MS);
    assert_eq!(orders(&luge), 0);
    luge.sync(&alice, joined("!r:x", &[message("$m1", BOB)]));
    luge.ask(&alice, at(&pos, all_members()));
    assert_eq!(orders(&luge), 1);
}

fn lazy() -> Value {
    list(5, json!([["m.room.member", "$LAZY"]]))
}

/// Goal: a member who was fetched for one user is told to others when somebody's
/// poller has stood for it, though nothing else happens in the room.
#[test]
fn a_member_who_was_fetched_for_one_is_told_to_others_in_the_end() {
    let (mut luge, alice) = room();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    luge.sync(&alice, joined("!r:x", &[message("$m1", "@old:x")]));
    luge.sync(&bob, joined("!r:x", &[message("$m1", "@old:x")]));
    let at_alice = position(&luge.ask(&alice, lazy())).to_owned();
    let at_bob = position(&luge.ask(&bob, lazy())).to_owned();
    let alice_waits = luge.send(&alice, waiting(&at_alice, lazy()));
    let bob_waits = luge.send(&bob, waiting(&at_bob, lazy()));
    let join = member("$old", "@old:x", "join");
    luge.answer_member(&alice, luge.room_number("!r:x"), &join);
    assert_eq!(required(&luge.body(alice_waits), "!r:x"), ["$old"]);
    assert!(luge.answered(bob_waits).is_none());
    luge.sync(&alice, json!({}));
    luge.sync(&alice, json!({}));
    assert_eq!(required(&luge.body(bob_waits), "!r:x"), ["$old"]);
}

/// Goal: what will be too large for long is asked for rarely, and told of once.
#[test]
fn a_member_list_that_is_too_large_is_asked_for_again_after_hours() {
    let (mut luge, alice) = room();
    let ticket = luge.send(&alice, all_members());
    assert!(!luge.end_fetch(FetchOutcome::TooLarge).was_too_large);
    let mut pos = position(&luge.body(ticket)).to_owned();
    for hours in [6, 12, 24] {
        pos = waits(&mut luge, &alice, pos, hours * HOUR_MS - MINUTE_MS);
        luge.sync(&alice, joined("!r:x", &[message(&format!("$m{hours}"), BOB)]));
        pos = position(&luge.ask(&alice, at(&pos, all_members()))).to_owned();
        assert_eq!(orders(&luge), 0, "{hours}");
        pos = waits(&mut luge, &alice, pos, MINUTE_MS + 1_000);
        assert!(luge.end_fetch(FetchOutcome::TooLarge).was_too_large, "{hours}");
    }
}

/// Goal: likewise the state of a room that is in doubt, whoever comes and goes.
#[test]
fn a_state_that_is_too_large_is_asked_for_again_after_hours() {
    let (mut luge, alice) = room();
    luge.ask(&alice, list(1, json!([])));
    luge.sync(&alice, gap("!r:x", &[], &[message("$m1", BOB)], "p"));
    luge.wait(2_000);
    for hours in [6, 12, 24] {
        let order = luge.end_fetch(FetchOutcome::TooLarge);
        assert_eq!((order.was_too_large, orders(&luge)), (hours > 6, 0));
        assert!(matches!(order.want, Want::State(_)));
        luge.wait(hours * HOUR_MS - MINUTE_MS);
        assert_eq!(orders(&luge), 0, "{hours}");
        luge.wait(MINUTE_MS + 1_000);
        assert_eq!(orders(&luge), 1, "{hours}");
    }
}

/// Goal: a state that agrees with what is stored ends the doubt, though nothing of the room
/// changes by it: it is not fetched again for hours.
#[test]
fn a_state_that_changes_nothing_is_not_fetched_again() {
    let (mut luge, alice) = room();
    luge.ask(&alice, list(1, json!([])));
    // The counts do not change by it either: the homeserver has told them.
    let summary = json!({"summary": {"m.joined_member_count": 2, "m.invited_member_count": 0}});
    luge.sync(&alice, joined_with("!r:x", &[name("$n", ALICE, "N")], summary));
    // What it says to have taken the place of nobody knows.
    let mut named = name("$n2", ALICE, "N2");
    named["unsigned"] = json!({"replaces_state": "$unknown"});
    luge.sync(&alice, joined("!r:x", &[named.clone()]));
    luge.wait(MINUTE_MS);
    luge.give_state(&[beginning("$r", &[ALICE, BOB]), vec![named]].concat());
    let is_state = |order: &FetchOrder| matches!(order.want, Want::State(_));
    for _ in 0..6 {
        luge.wait(HOUR_MS);
        luge.ask(&alice, list(1, json!([])));
        assert!(!luge.fetches.iter().any(is_state));
    }
}
