//! `required_state`: patterns, lazy members, and what grows mid-connection.

use serde_json::{Value, json};

use crate::{
    answers::{position, required, rooms, timeline},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, all, at, beginning, gap, joined, joined_with, list, made, member, merge,
        message, name, state, waiting,
    },
};

/// Alice in `!r:x` with Bob and Carol, with some state and one message of Bob's.
fn room() -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let more = vec![
        name("$n", ALICE, "N"),
        state("$w1", "org.widget", "1", ALICE, json!({})),
        state("$w2", "org.widget", "2", ALICE, json!({})),
        state("$mine", "org.mine", ALICE, ALICE, json!({})),
        message("$m", BOB),
    ];
    luge.sync(&alice, joined("!r:x", &[beginning("$r", &[ALICE, BOB, CAROL]), more].concat()));
    (luge, alice)
}

/// Goal: exactly what the patterns say.
#[test]
fn patterns_select_state() {
    let (mut luge, alice) = room();
    let members = ["$r-join-a", "$r-join-b", "$r-join-c"];
    let ticket = luge.send(&alice, list(1, json!([["m.room.member", "*"]])));
    luge.give_members(&mut [member("$r-join-a", ALICE, "join")], true);
    luge.abandon(ticket);
    for (asked, expected) in [
        (json!([]), vec![]),
        (json!([["m.room.name", ""]]), vec!["$n"]),
        (json!([["m.room.name", "x"], ["m.room.topic", ""]]), vec![]),
        (json!([["org.widget", "*"]]), vec!["$w1", "$w2"]),
        (json!([["org.widget", "2"], ["m.room.create", ""]]), vec!["$r-create", "$w2"]),
        (json!([["*", "1"]]), vec!["$w1"]),
        (json!([["*", ""]]), vec!["$n", "$r-create", "$r-levels"]),
        (json!([["m.room.member", "$ME"], ["org.mine", "$ME"]]), vec!["$mine", "$r-join-a"]),
        (json!([["m.room.member", "*"]]), members.to_vec()),
        (json!([["m.room.member", "$LAZY"]]), vec!["$r-join-b"]),
        (
            json!([["m.room.member", "$LAZY"], ["m.room.member", CAROL]]),
            vec!["$r-join-b", "$r-join-c"],
        ),
        (
            json!([["*", "*"], ["m.room.member", "$LAZY"]]),
            vec!["$mine", "$n", "$r-create", "$r-join-b", "$r-levels", "$w1", "$w2"],
        ),
    ] {
        let answer = luge.ask(&alice, list(1, asked.clone()));
        if answer["rooms"]["!r:x"]["required_state"].is_null() {
            assert!(expected.is_empty(), "{asked}");
        }
        assert_eq!(required(&answer, "!r:x"), expected, "{asked}");
    }
}

/// Goal: all members means all, once the homeserver has given them.
#[test]
fn all_members_are_fetched_once_and_waited_for() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, joined("!r:x", &beginning("$r", &[ALICE])));
    let request = || list(1, json!([["m.room.member", "*"]]));
    let ticket = luge.send(&alice, request());
    assert_eq!(luge.answered(ticket), None, "it waits for the list");
    assert_eq!(luge.fetches.len(), 1);
    luge.give_members(&mut [member("$r-join-a", ALICE, "join"), member("$old", BOB, "join")], true);
    let answer = luge.body(ticket);
    assert_eq!(required(&answer, "!r:x"), ["$old", "$r-join-a"]);
    assert_eq!(timeline(&answer, "!r:x"), ["$r-levels"], "what was fetched is not of the timeline");
    let again = luge.ask(&alice, request());
    assert_eq!((required(&again, "!r:x").len(), luge.fetches.len()), (2, 0));
}

/// Goal: a homeserver that gives no members delays an answer, no more.
#[test]
fn members_that_do_not_come_are_waited_for_a_while() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, joined("!r:x", &beginning("$r", &[ALICE])));
    let ticket = luge.send(&alice, list(1, json!([["m.room.member", "*"]])));
    luge.wait(2_000);
    let answer = luge.body(ticket);
    assert_eq!(required(&answer, "!r:x"), ["$r-join-a"]);
    luge.give_members(&mut [member("$r-join-a", ALICE, "join"), member("$old", BOB, "join")], true);
    let next = list(1, json!([["m.room.member", "*"]]));
    let answer = luge.ask(&alice, at(position(&answer), next));
    assert_eq!(required(&answer, "!r:x"), ["$old"], "completed when it is there");
}

/// Goal: changed state comes live, unchanged state does not come again.
#[test]
fn state_comes_when_it_changes() {
    let (mut luge, alice) = room();
    let request = || list(1, json!([["m.room.name", ""], ["org.widget", "*"]]));
    let answer = luge.ask(&alice, request());
    luge.sync(&alice, joined("!r:x", &[message("$m2", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(answer["rooms"]["!r:x"].get("required_state"), None);
    luge.sync(
        &alice,
        joined("!r:x", &[state("$w3", "org.widget", "3", BOB, json!({})), message("$m3", BOB)]),
    );
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(required(&answer, "!r:x"), ["$w3"]);
}

/// Goal: asking for more returns at once, with what is new to the client.
#[test]
fn asking_for_more_state_returns_it_at_once() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, list(1, json!([["m.room.name", ""]])));
    let wider = || list(1, json!([["m.room.name", ""], ["org.widget", "1"]]));
    let ticket = luge.send(&alice, waiting(position(&answer), wider()));
    let answer = luge.body(ticket);
    assert_eq!(required(&answer, "!r:x"), ["$w1"]);
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((room.get("initial"), room.get("timeline")), (None, None));
    let held = luge.send(&alice, waiting(position(&answer), wider()));
    assert_eq!(luge.answered(held), None);
}

/// Goal: a member list that could not be had is asked for again with a later
/// response, which does not wait for it.
#[test]
fn a_member_list_that_failed_is_asked_for_again_with_a_later_response() {
    let (mut luge, alice) = room();
    let all = || list(1, json!([["m.room.member", "*"]]));
    let ticket = luge.send(&alice, all());
    assert_eq!(luge.answered(ticket), None, "the list is waited for");
    luge.fail_fetch();
    let answer = luge.body(ticket);
    luge.wait(60_000);
    luge.sync(&alice, joined("!r:x", &[message("$m2", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), all()));
    assert_eq!(answer["rooms"]["!r:x"]["timeline"][0]["event_id"], "$m2");
    let old = member("$old", "@old:x", "join");
    luge.give_members(&mut [member("$r-join-a", ALICE, "join"), old], true);
    let answer = luge.ask(&alice, at(position(&answer), all()));
    assert_eq!(required(&answer, "!r:x"), ["$old"]);
}

/// Goal: narrowing and widening again loses nothing.
#[test]
fn state_that_changed_while_it_was_not_asked_for_comes_when_it_is_again() {
    let (mut luge, alice) = room();
    let wide = || list(1, json!([["m.room.name", ""], ["org.widget", "1"]]));
    let narrow = || list(1, json!([["m.room.name", ""]]));
    let answer = luge.ask(&alice, wide());
    let answer = luge.ask(&alice, at(position(&answer), narrow()));
    luge.sync(&alice, joined("!r:x", &[state("$w1b", "org.widget", "1", BOB, json!({}))]));
    let answer = luge.ask(&alice, at(position(&answer), narrow()));
    assert_eq!(required(&answer, "!r:x"), [] as [&str; 0]);
    let answer = luge.ask(&alice, at(position(&answer), wide()));
    assert_eq!(required(&answer, "!r:x"), ["$w1b"]);
}

fn lazy() -> Value {
    list(1, json!([["m.room.member", "$LAZY"]]))
}

/// Goal: each member once per connection and room.
#[test]
fn lazy_members_come_once() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, lazy());
    assert_eq!(required(&answer, "!r:x"), ["$r-join-b"]);
    luge.sync(&alice, joined("!r:x", &[message("$m2", CAROL)]));
    let answer = luge.ask(&alice, at(position(&answer), lazy()));
    assert_eq!(required(&answer, "!r:x"), ["$r-join-c"]);
    luge.sync(&alice, joined("!r:x", &[message("$m3", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), lazy()));
    assert_eq!(required(&answer, "!r:x"), [] as [&str; 0]);
    let mut other = lazy();
    other["conn_id"] = "other".into();
    assert_eq!(required(&luge.ask(&alice, other), "!r:x"), ["$r-join-b"], "each connection");
    luge.sync(
        &alice,
        joined("!s:x", &[beginning("$s", &[ALICE, BOB]), vec![message("$sm", BOB)]].concat()),
    );
    let answer = luge.ask(&alice, at(position(&answer), lazy()));
    assert_eq!(required(&answer, "!s:x"), ["$s-join-b"], "each room");
}

/// Goal: who is invited, kicked or banned is needed as well.
#[test]
fn targets_of_membership_events_are_lazy_members_too() {
    let (mut luge, alice) = room();
    let request = || list(9, json!([["m.room.member", "$LAZY"]]));
    let answer = luge.ask(&alice, lazy());
    luge.sync(
        &alice,
        joined(
            "!r:x",
            &[made("$kick", ALICE, BOB, "leave"), made("$invite", ALICE, "@dave:x", "invite")],
        ),
    );
    let answer = luge.ask(&alice, at(position(&answer), request()));
    let events = required(&answer, "!r:x");
    for wanted in ["$kick", "$invite", "$r-join-a"] {
        assert!(events.contains(&wanted), "{wanted} in {events:?}");
    }
}

/// Goal: a change that a gap hid comes when that member speaks.
#[test]
fn a_membership_that_changed_in_a_gap_comes_when_its_member_speaks() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, lazy());
    let mut profile = member("$bobby", BOB, "join");
    profile["content"]["displayname"] = "Bobby".into();
    luge.sync(&alice, gap("!r:x", &[profile], &[message("$m9", BOB)], "p9"));
    let answer = luge.ask(&alice, at(position(&answer), lazy()));
    assert_eq!(required(&answer, "!r:x"), ["$bobby"]);
    assert_eq!(timeline(&answer, "!r:x"), ["$m9"], "state of a gap is not of the timeline");
}

/// Goal: a member that changes without an event in the timeline is told to who
/// loads members lazily and misses no event: they take what they have for all.
#[test]
fn members_that_change_without_an_event_come_where_nothing_is_missing() {
    for restarts in [false, true] {
        let (mut luge, alice) = room();
        let answer = luge.ask(&alice, lazy());
        assert_eq!(required(&answer, "!r:x"), ["$r-join-b"]);
        if restarts {
            luge.ask(&alice, at(position(&answer), lazy()));
        }
        let after = |event: Value| json!({"org.matrix.msc4222.state_after": {"events": [event]}});
        let gone = after(made("$gone", ALICE, CAROL, "leave"));
        luge.sync(&alice, joined_with("!r:x", &[message("$m2", BOB)], gone));
        if restarts {
            luge.restart();
        }
        let answer = luge.ask(&alice, at(position(&answer), lazy()));
        assert_eq!(
            (timeline(&answer, "!r:x"), required(&answer, "!r:x")),
            (vec!["$m2"], vec!["$gone"])
        );
        luge.sync(&alice, joined("!r:x", &[message("$m3", BOB)]));
        let answer = luge.ask(&alice, at(position(&answer), lazy()));
        assert_eq!(required(&answer, "!r:x"), [] as [&str; 0], "once");
        // Who misses events asks for the members anyway.
        luge.sync(
            &alice,
            gap("!r:x", &[member("$back", CAROL, "join")], &[message("$m9", BOB)], "p"),
        );
        let answer = luge.ask(&alice, at(position(&answer), lazy()));
        assert_eq!(answer["rooms"]["!r:x"]["limited"], true);
        assert_eq!(required(&answer, "!r:x"), [] as [&str; 0]);
        // And who is seen for the first time has not changed.
        let dave = after(member("$dave", "@dave:x", "join"));
        luge.sync(&alice, joined_with("!r:x", &[message("$m10", BOB)], dave));
        let answer = luge.ask(&alice, at(position(&answer), lazy()));
        assert_eq!(required(&answer, "!r:x"), [] as [&str; 0]);
    }
}

/// Goal: INV-7: a fork does not believe what the other branch was sent.
#[test]
fn members_of_an_abandoned_answer_come_again() {
    let (mut luge, alice) = room();
    let first = luge.ask(&alice, lazy());
    luge.sync(&alice, joined("!r:x", &[message("$m2", CAROL)]));
    let lost = luge.ask(&alice, at(position(&first), lazy()));
    assert_eq!(required(&lost, "!r:x"), ["$r-join-c"]);
    luge.sync(&alice, joined("!r:x", &[message("$m3", CAROL)]));
    let again = luge.ask(&alice, at(position(&first), lazy()));
    assert_eq!(required(&again, "!r:x"), ["$r-join-c"]);
}

/// Goal: switching lazy members on brings those of the timeline.
#[test]
fn lazy_members_switched_on_later_come_for_what_is_said_then() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, list(1, json!([])));
    let answer = luge.ask(&alice, at(position(&answer), lazy()));
    luge.sync(&alice, joined("!r:x", &[message("$m2", CAROL)]));
    let answer = luge.ask(&alice, at(position(&answer), lazy()));
    assert_eq!(required(&answer, "!r:x"), ["$r-join-c"]);
    let answer = luge.ask(&alice, at(position(&answer), list(1, json!([]))));
    luge.sync(&alice, joined("!r:x", &[message("$m3", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), list(1, json!([]))));
    let _ = rooms(&answer);
    luge.sync(&alice, joined("!r:x", &[message("$m4", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), lazy()));
    assert_eq!(required(&answer, "!r:x"), ["$r-join-b"]);
}

/// Goal: a sender whose member event is nowhere is fetched.
#[test]
fn an_unknown_sender_is_fetched_and_comes_later() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, lazy());
    luge.sync(&alice, joined("!r:x", &[message("$m2", "@dave:x")]));
    let answer = luge.ask(&alice, at(position(&answer), lazy()));
    assert_eq!(required(&answer, "!r:x"), [] as [&str; 0]);
    let order = luge.fetches.first().expect("it is fetched");
    assert_eq!(&*order.room_id, "!r:x");
    luge.give_members(&mut [member("$dave", "@dave:x", "join")], false);
    luge.sync(&alice, joined("!r:x", &[message("$m3", "@dave:x")]));
    let answer = luge.ask(&alice, at(position(&answer), lazy()));
    assert_eq!(required(&answer, "!r:x"), ["$dave"]);
}

/// Goal: lists and subscriptions ask together.
#[test]
fn a_room_gets_what_all_that_select_it_ask_for() {
    let (mut luge, alice) = room();
    let mut request = list(1, json!([["m.room.name", ""]]));
    request["lists"]["other"] =
        json!({"ranges": [[0, 0]], "timeline_limit": 0, "required_state": [["org.widget", "1"]]});
    request["room_subscriptions"] =
        json!({"!r:x": {"timeline_limit": 3, "required_state": [["m.room.create", ""]]}});
    let answer = luge.ask(&alice, request);
    assert_eq!(required(&answer, "!r:x"), ["$n", "$r-create", "$w1"]);
    assert_eq!(timeline(&answer, "!r:x").len(), 3);
}

/// Goal: with MSC4222, the state after wins over the timeline.
#[test]
fn the_state_after_is_the_current_one() {
    let (mut luge, alice) = room();
    let request = || list(2, json!([["m.room.name", ""]]));
    let answer = luge.ask(&alice, request());
    let after = json!({"org.matrix.msc4222.state_after": {"events": [name("$n1", ALICE, "One")]}});
    let events = [name("$n1", ALICE, "One"), name("$n2", BOB, "Two")];
    luge.sync(&alice, joined_with("!r:x", &events, after));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(required(&answer, "!r:x"), ["$n1"]);
    assert_eq!(answer["rooms"]["!r:x"]["name"], "One");
    assert_eq!(timeline(&answer, "!r:x"), ["$n1", "$n2"]);
}

/// Goal: a redaction reaches state and timeline, and comes again as state.
#[test]
fn a_redacted_state_event_comes_again_without_its_content() {
    let (mut luge, alice) = room();
    let request = || list(2, json!([["m.room.name", ""]]));
    let answer = luge.ask(&alice, request());
    let mut redaction = crate::events::event("$red", "m.room.redaction", ALICE, json!({}));
    redaction["redacts"] = "$n".into();
    luge.sync(&alice, joined("!r:x", &[redaction]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    let entry = &answer["rooms"]["!r:x"]["required_state"][0];
    assert_eq!((&entry["event_id"], &entry["content"]), (&"$n".into(), &json!({})));
    assert_eq!(entry["unsigned"]["redacted_because"]["event_id"], "$red");
    let mut whole = list(9, json!([]));
    merge(&mut whole, json!({}));
    let anew = luge.ask(&alice, all([whole]));
    let events = anew["rooms"]["!r:x"]["timeline"].as_array().expect("a timeline");
    let named = events.iter().find(|event| event["event_id"] == "$n").expect("it is there");
    assert_eq!(named["content"], json!({}));
}
