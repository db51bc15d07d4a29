//! Rooms that a request names.

use serde_json::{Value, json};

use crate::{
    answers::{position, required, rooms, timeline},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, all, at, beginning, joined, left, list, made, member, message, name,
        state, waiting,
    },
};

fn room(room_id: &str, limit: u64, state: &Value) -> Value {
    json!({"room_subscriptions": {room_id: {"timeline_limit": limit, "required_state": state}}})
}

fn alice_and_bob() -> (Luge, Client, Client) {
    let mut luge = Luge::new();
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.fresh(BOB));
    let events = [beginning("$r", &[ALICE]), vec![name("$n", ALICE, "N"), message("$m", ALICE)]];
    luge.sync(&alice, joined("!r:x", &events.concat()));
    (luge, alice, bob)
}

/// Goal: a subscription alone brings the room.
#[test]
fn a_subscribed_room_comes_without_any_list() {
    let (mut luge, alice, _) = alice_and_bob();
    let answer = luge.ask(&alice, room("!r:x", 1, &json!([["m.room.name", ""]])));
    assert_eq!((timeline(&answer, "!r:x"), required(&answer, "!r:x")), (vec!["$m"], vec!["$n"]));
    assert_eq!((&answer["rooms"]["!r:x"]["initial"], answer.get("lists")), (&true.into(), None));
    luge.sync(&alice, joined("!r:x", &[message("$m2", ALICE)]));
    let answer = luge.ask(&alice, at(position(&answer), room("!r:x", 1, &json!([]))));
    assert_eq!(timeline(&answer, "!r:x"), ["$m2"]);
}

/// Goal: nothing of a private room for who was never in it, nor of one that
/// does not exist.
#[test]
fn nothing_of_a_private_room_leaks() {
    let (mut luge, alice, bob) = alice_and_bob();
    for room_id in ["!r:x", "!nowhere:x", "not a room"] {
        let mut request = room(room_id, 9, &json!([["*", "*"]]));
        request["extensions"] = json!({
            "receipts": {"enabled": true}, "typing": {"enabled": true}, "account_data": {"enabled": true},
        });
        let answer = luge.ask(&bob, request.clone());
        assert_eq!(rooms(&answer), [] as [&str; 0], "{room_id}");
        let held = luge.send(&bob, waiting(position(&answer), request));
        luge.sync(&alice, joined("!r:x", &[message(&format!("$s{}", room_id.len()), ALICE)]));
        assert_eq!(luge.answered(held), None, "{room_id}");
        luge.abandon(held);
    }
}

/// Goal: a room that the user has left is shown up to the end.
#[test]
fn a_subscribed_room_that_was_left_is_shown_up_to_the_end() {
    let (mut luge, alice, bob) = alice_and_bob();
    luge.sync(
        &bob,
        joined(
            "!r:x",
            &[
                beginning("$r", &[ALICE]),
                vec![name("$n", ALICE, "N"), message("$m", ALICE), member("$in", BOB, "join")],
            ]
            .concat(),
        ),
    );
    luge.sync(
        &alice,
        joined(
            "!r:x",
            &[member("$in", BOB, "join"), message("$seen", ALICE), member("$out", BOB, "leave")],
        ),
    );
    luge.sync(&bob, left("!r:x", &[message("$seen", ALICE), member("$out", BOB, "leave")]));
    luge.sync(&alice, joined("!r:x", &[message("$secret", ALICE), name("$n2", ALICE, "Secret")]));
    let answer =
        luge.ask(&bob, room("!r:x", 3, &json!([["m.room.name", ""], ["m.room.member", "$ME"]])));
    assert_eq!(timeline(&answer, "!r:x"), ["$in", "$seen", "$out"]);
    let state = required(&answer, "!r:x");
    assert!(state.contains(&"$out") && !state.contains(&"$n2"), "{state:?}");
    assert_eq!(answer["rooms"]["!r:x"].get("name"), None);
}

/// Goal: a subscription that asks for more than the list releases a long poll.
#[test]
fn a_stronger_subscription_returns_at_once() {
    let (mut luge, alice, _) = alice_and_bob();
    let answer = luge.ask(&alice, list(1, json!([])));
    let mut stronger = list(1, json!([]));
    stronger["room_subscriptions"] =
        room("!r:x", 1, &json!([["m.room.name", ""]]))["room_subscriptions"].clone();
    let ticket = luge.send(&alice, waiting(position(&answer), stronger.clone()));
    let answer = luge.body(ticket);
    assert_eq!(required(&answer, "!r:x"), ["$n"]);
    stronger["room_subscriptions"]["!r:x"]["required_state"] =
        json!([["m.room.name", ""], ["m.room.create", ""]]);
    let ticket = luge.send(&alice, waiting(position(&answer), stronger));
    assert_eq!(required(&luge.body(ticket), "!r:x"), ["$r-create"]);
}

/// Goal: a subscription that is left out lapses.
#[test]
fn a_subscription_that_is_left_out_lapses() {
    let (mut luge, alice, _) = alice_and_bob();
    let answer = luge.ask(&alice, room("!r:x", 1, &json!([])));
    luge.sync(&alice, joined("!r:x", &[message("$m2", ALICE)]));
    let answer = luge.ask(&alice, at(position(&answer), json!({})));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    let answer = luge.ask(&alice, at(position(&answer), room("!r:x", 1, &json!([]))));
    assert_eq!(timeline(&answer, "!r:x"), ["$m2"]);
}

/// Goal: a subscribed room that is joined while waiting comes at once.
#[test]
fn a_room_that_is_joined_later_comes_to_its_subscriber() {
    let (mut luge, alice, _) = alice_and_bob();
    let carol = luge.fresh(CAROL);
    let request = || room("!r:x", 2, &json!([["m.room.member", "$ME"]]));
    let answer = luge.ask(&carol, request());
    let held = luge.send(&carol, waiting(position(&answer), request()));
    luge.sync(
        &alice,
        joined("!r:x", &[made("$i", ALICE, CAROL, "invite"), member("$c", CAROL, "join")]),
    );
    luge.sync(&carol, all([joined("!r:x", &[member("$c", CAROL, "join")])]));
    let answer = luge.body(held);
    assert_eq!(answer["rooms"]["!r:x"]["initial"], true);
    assert_eq!(required(&answer, "!r:x"), ["$c"]);
}

/// Goal: what a request asks for grows with its length, not with the number of
/// sets of its lists: a room that several of very many ask something of gets
/// what any of them asks for.
#[test]
fn rooms_of_very_many_configurations_get_what_any_asks_for() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let kinds: Vec<String> = (0..9).map(|at| format!("k{at}")).collect();
    let room = |room_id: &str| {
        let of_kind =
            |kind: &String| state(&format!("${kind}{room_id}"), kind, "", ALICE, json!({}));
        let id = format!("${room_id}");
        joined(room_id, &[beginning(&id, &[ALICE]), kinds.iter().map(of_kind).collect()].concat())
    };
    luge.sync(&alice, room("!old:x"));
    luge.sync(&alice, room("!new:x"));
    // The first two lists have both rooms, the others the newest alone.
    let request = |count: usize| {
        let one = |(at, kind): (usize, &String)| {
            let end = u64::from(at < 2);
            let list = json!({
                "ranges": [[0, end]], "timeline_limit": 1, "required_state": [[kind, ""]],
            });
            (format!("l{at}"), list)
        };
        json!({"lists": kinds[..count].iter().enumerate().map(one).collect::<serde_json::Map<_, _>>()})
    };
    let few = luge.ask(&alice, request(8));
    assert_eq!((required(&few, "!new:x").len(), required(&few, "!old:x").len()), (8, 2));
    let many = luge.ask(&alice, request(9));
    assert_eq!((required(&many, "!new:x").len(), required(&many, "!old:x").len()), (9, 9));
    // Also where the next response looks at one room alone.
    luge.sync(&alice, joined("!old:x", &[state("$8", "k8", "", ALICE, json!({"a": 1}))]));
    let next = luge.ask(&alice, at(position(&many), request(9)));
    assert_eq!((rooms(&next), required(&next, "!old:x")), (vec!["!old:x"], vec!["$8"]));
}
