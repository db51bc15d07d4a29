//! `account_data`, `receipts`, `typing`: what comes, for which rooms, and when.

use luge_core::{connection::AnswerLimits, request::Dialect, shard::ShardLimits};
use serde_json::{Value, json};

use crate::{
    answers::{position, rooms},
    driver::{Client, Luge},
    events::{ALICE, BOB, CAROL, all, at, beginning, joined, joined_with, message, waiting},
};

fn account_data(kind: &str, value: u64) -> Value {
    json!({"type": kind, "content": {"v": value}})
}

fn global(events: &[Value]) -> Value {
    json!({"account_data": {"events": events}})
}

fn of_room(room_id: &str, events: &[Value]) -> Value {
    joined_with(room_id, &[], json!({"account_data": {"events": events}}))
}

fn ephemeral(room_id: &str, event: Value) -> Value {
    joined_with(room_id, &[], json!({"ephemeral": {"events": [event]}}))
}

fn typing(room_id: &str, user_ids: &[&str]) -> Value {
    ephemeral(room_id, json!({"type": "m.typing", "content": {"user_ids": user_ids}}))
}

fn receipt(room_id: &str, event_id: &str, kind: &str, user_id: &str) -> Value {
    let content = json!({event_id: {kind: {user_id: {"ts": 5}}}});
    ephemeral(room_id, json!({"type": "m.receipt", "content": content}))
}

/// The newest room alone, with an extension.
fn with(extension: &str, scope: Value) -> Value {
    let mut request =
        json!({"lists": {"top": {"ranges": [[0, 0]], "timeline_limit": 1, "required_state": []}}});
    request["extensions"] = json!({extension: scope});
    request
}

fn on(extension: &str) -> Value {
    with(extension, json!({"enabled": true}))
}

/// Alice in `!a:x` and then `!b:x`, with Bob.
fn two_rooms() -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let events = |prefix: &str| {
        [beginning(prefix, &[ALICE, BOB]), vec![message(&format!("{prefix}1"), BOB)]].concat()
    };
    luge.sync(&alice, all([joined("!a:x", &events("$a")), joined("!b:x", &events("$b"))]));
    (luge, alice)
}

fn kinds(events: &Value) -> Vec<&str> {
    let events = events.as_array().into_iter().flatten();
    let mut kinds: Vec<_> = events.filter_map(|event| event["type"].as_str()).collect();
    kinds.sort_unstable();
    kinds
}

fn room_ids(of: &Value) -> Vec<&str> {
    let rooms = of["rooms"].as_object().into_iter().flatten();
    rooms.map(|(room_id, _)| &**room_id).collect()
}

/// Goal: an extension that is off has no key, one that is on has its own.
#[test]
fn extensions_answer_when_they_are_enabled() {
    let (mut luge, alice) = two_rooms();
    let answer = luge.ask(&alice, with("typing", json!({"enabled": false})));
    assert_eq!(answer["extensions"], json!({}));
    for extension in ["typing", "receipts"] {
        let answer = luge.ask(&alice, on(extension));
        assert_eq!(answer["extensions"], json!({extension: {"rooms": {}}}));
        let again = luge.ask(&alice, at(position(&answer), on(extension)));
        assert_eq!(again["extensions"], json!({extension: {"rooms": {}}}));
    }
}

/// Goal: global account data: all, then what changed.
#[test]
fn global_account_data_comes_whole_and_then_what_changed() {
    let (mut luge, alice) = two_rooms();
    luge.sync(&alice, global(&[account_data("m.push_rules", 1), account_data("org.a", 1)]));
    let request = || on("account_data");
    let answer = luge.ask(&alice, request());
    assert_eq!(kinds(&answer["extensions"]["account_data"]["global"]), ["m.push_rules", "org.a"]);
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(answer["extensions"]["account_data"], json!({"global": [], "rooms": {}}));
    luge.sync(&alice, global(&[account_data("org.a", 2)]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(answer["extensions"]["account_data"]["global"], json!([account_data("org.a", 2)]));
}

/// Goal: a room's account data: all when it comes in, then what changed, and
/// what it missed when it comes back.
#[test]
fn room_account_data_follows_the_window() {
    let (mut luge, alice) = two_rooms();
    let tag = json!({"type": "m.tag", "content": {"tags": {"u.x": {}}}});
    luge.sync(
        &alice,
        all([
            of_room("!a:x", &[account_data("org.a", 1), tag.clone()]),
            of_room("!b:x", &[account_data("org.b", 1)]),
        ]),
    );
    let request = || on("account_data");
    let of = |answer: &Value, room: &str| {
        kinds(&answer["extensions"]["account_data"]["rooms"][room]).join(" ")
    };
    let answer = luge.ask(&alice, request());
    assert_eq!((of(&answer, "!a:x"), of(&answer, "!b:x")), (String::new(), "org.b".to_owned()));
    luge.sync(
        &alice,
        all([
            of_room("!b:x", &[account_data("org.b2", 1)]),
            joined("!a:x", &[message("$up", BOB)]),
        ]),
    );
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(
        (of(&answer, "!a:x"), of(&answer, "!b:x")),
        ("m.tag org.a".to_owned(), String::new())
    );
    luge.sync(&alice, joined("!b:x", &[message("$up2", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!((of(&answer, "!a:x"), of(&answer, "!b:x")), (String::new(), "org.b2".to_owned()));
    luge.sync(&alice, of_room("!b:x", &[account_data("org.b", 2)]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(of(&answer, "!b:x"), "org.b");
    assert_eq!(rooms(&answer), [] as [&str; 0], "account data needs no entry");
}

/// Goal: the scope is the named lists' windows and the named rooms.
#[test]
fn scopes_select_rooms() {
    let (mut luge, alice) = two_rooms();
    luge.sync(
        &alice,
        all([
            of_room("!a:x", &[account_data("org.a", 1)]),
            of_room("!b:x", &[account_data("org.b", 1)]),
            typing("!a:x", &[BOB]),
            typing("!b:x", &[BOB]),
            receipt("!a:x", "$a1", "m.read", ALICE),
            receipt("!b:x", "$b1", "m.read", ALICE),
        ]),
    );
    for (scope, expected) in [
        (json!({}), vec!["!a:x", "!b:x"]),
        (json!({"lists": ["*"], "rooms": ["*"]}), vec!["!a:x", "!b:x"]),
        (json!({"rooms": ["*"]}), vec!["!a:x", "!b:x"]),
        (json!({"lists": ["top"], "rooms": []}), vec!["!b:x"]),
        (json!({"lists": ["unknown"], "rooms": []}), vec![]),
        (json!({"lists": [], "rooms": ["!a:x"]}), vec!["!a:x"]),
        (json!({"lists": [], "rooms": []}), vec![]),
        (json!({"lists": [], "rooms": ["!unknown:x"]}), vec![]),
        (json!({"lists": ["top"], "rooms": ["!a:x"]}), vec!["!a:x", "!b:x"]),
        (json!({"lists": null, "rooms": null}), vec![]),
    ] {
        for extension in ["account_data", "typing", "receipts"] {
            let mut scope = scope.clone();
            scope["enabled"] = true.into();
            let mut request = with(extension, scope.clone());
            request["room_subscriptions"] =
                json!({"!a:x": {"timeline_limit": 1, "required_state": []}});
            let answer = luge.ask(&alice, request);
            assert_eq!(room_ids(&answer["extensions"][extension]), expected, "{extension} {scope}");
        }
    }
}

/// Goal: typing: who types now, and an empty list when nobody does any more.
#[test]
fn typing_replaces_and_ends() {
    let (mut luge, alice) = two_rooms();
    luge.sync(&alice, all([typing("!b:x", &[BOB]), typing("!a:x", &[BOB])]));
    let of = |answer: &Value| answer["extensions"]["typing"]["rooms"].clone();
    let event =
        |users: &[&str]| json!({"!b:x": {"type": "m.typing", "content": {"user_ids": users}}});
    let answer = luge.ask(&alice, on("typing"));
    assert_eq!(of(&answer), event(&[BOB]));
    let answer = luge.ask(&alice, at(position(&answer), on("typing")));
    assert_eq!(of(&answer), json!({}));
    let held = luge.send(&alice, waiting(position(&answer), on("typing")));
    luge.sync(&alice, typing("!b:x", &[]));
    let answer = luge.body(held);
    assert_eq!(of(&answer), event(&[]));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: a room that comes into scope brings who is typing in it.
#[test]
fn typing_is_told_of_a_room_that_comes_into_scope() {
    let (mut luge, alice) = two_rooms();
    luge.sync(&alice, typing("!a:x", &[BOB]));
    let answer = luge.ask(&alice, on("typing"));
    assert_eq!(room_ids(&answer["extensions"]["typing"]), [] as [&str; 0]);
    luge.sync(&alice, joined("!a:x", &[message("$up", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), on("typing")));
    let content = &answer["extensions"]["typing"]["rooms"]["!a:x"]["content"];
    assert_eq!(content["user_ids"], json!([BOB]));
}

/// Goal: nobody types for ever because Luge started anew in between.
#[test]
fn typing_that_was_told_before_a_restart_ends() {
    let (mut luge, alice) = two_rooms();
    luge.sync(&alice, typing("!b:x", &[BOB]));
    let answer = luge.ask(&alice, on("typing"));
    assert_eq!(answer["extensions"]["typing"]["rooms"]["!b:x"]["content"]["user_ids"][0], BOB);
    let answer = luge.ask(&alice, at(position(&answer), on("typing")));
    luge.restart();
    let held = luge.send(&alice, waiting(position(&answer), on("typing")));
    luge.sync(&alice, typing("!b:x", &[]));
    let answer = luge.body(held);
    let expected = json!({"!b:x": {"type": "m.typing", "content": {"user_ids": []}}});
    assert_eq!(answer["extensions"]["typing"]["rooms"], expected);
}

/// Goal: receipts: those on the events sent and one's own, then every one.
#[test]
fn receipts_come_with_their_events_and_then_all() {
    let (mut luge, alice) = two_rooms();
    luge.sync(
        &alice,
        all([receipt("!b:x", "$b1", "m.read", BOB), receipt("!a:x", "$a1", "m.read", BOB)]),
    );
    luge.sync(&alice, receipt("!b:x", "$b-create", "m.read", CAROL));
    luge.sync(&alice, receipt("!b:x", "$b-levels", "m.read", ALICE));
    luge.sync(&alice, receipt("!b:x", "$b-create", "m.read.private", ALICE));
    let of = |answer: &Value| answer["extensions"]["receipts"]["rooms"].clone();
    let answer = luge.ask(&alice, on("receipts"));
    let content = of(&answer)["!b:x"]["content"].clone();
    assert_eq!(
        content,
        json!({
            "$b1": {"m.read": {BOB: {"ts": 5}}},
            "$b-levels": {"m.read": {ALICE: {"ts": 5}}},
            "$b-create": {"m.read.private": {ALICE: {"ts": 5}}},
        }),
        "the event sent is $b1, and nobody else's private"
    );
    luge.sync(&alice, receipt("!b:x", "$b-levels", "m.read", CAROL));
    let answer = luge.ask(&alice, at(position(&answer), on("receipts")));
    let expected = json!({"$b-levels": {"m.read": {CAROL: {"ts": 5}}}});
    assert_eq!(of(&answer)["!b:x"]["content"], expected, "also on an event that was not sent");
    let answer = luge.ask(&alice, at(position(&answer), on("receipts")));
    assert_eq!(of(&answer), json!({}));
}

/// Goal: however many receipts come at once, none is lost: those that a response
/// has no place for come with the next, at once, also in other dialects, to who
/// lost an answer, and after a restart.
#[test]
fn receipts_that_a_response_has_no_place_for_come_with_the_next() {
    for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Msc3575] {
        let answers = AnswerLimits { receipts_max: 3, ..AnswerLimits::default() };
        let mut luge = Luge::with(ShardLimits { answers, ..ShardLimits::default() });
        luge.speak(dialect);
        let alice = luge.sign_in(ALICE, "A");
        luge.sync(&alice, joined("!b:x", &beginning("$b", &[ALICE, BOB])));
        let mut list = json!({"ranges": [[0, 0]], "timeline_limit": 1, "required_state": []});
        if dialect == Dialect::V4 {
            list["required_state"] = json!({});
        }
        let request =
            json!({"lists": {"top": list}, "extensions": {"receipts": {"enabled": true}}});
        let user = |at: usize| format!("@u{at}:x");
        let of = |answer: &Value| {
            let room = &answer["extensions"]["receipts"]["rooms"]["!b:x"];
            let users = room["content"]["$b-levels"]["m.read"].as_object();
            users.into_iter().flat_map(|it| it.keys().cloned()).collect::<Vec<_>>()
        };
        let mut answer = luge.ask(&alice, request.clone());
        let read: serde_json::Map<_, _> = (0..7).map(|at| (user(at), json!({"ts": 5}))).collect();
        let content = json!({"$b-levels": {"m.read": read}});
        luge.sync(&alice, ephemeral("!b:x", json!({"type": "m.receipt", "content": content})));
        let next = |luge: &mut Luge, answer: &mut Value| {
            let ticket = luge.send(&alice, waiting(position(answer), request.clone()));
            *answer = luge.body(ticket);
            of(answer)
        };
        let first = answer.clone();
        assert_eq!(next(&mut luge, &mut answer), [0, 1, 2].map(user), "{dialect:?}");
        if dialect != Dialect::Msc3575 {
            answer = first;
            assert_eq!(next(&mut luge, &mut answer), [0, 1, 2].map(user), "{dialect:?}: again");
        }
        assert_eq!(next(&mut luge, &mut answer), [3, 4, 5].map(user), "{dialect:?}");
        luge.restart();
        luge.sync(&alice, receipt("!b:x", "$b-levels", "m.read", &user(7)));
        assert_eq!(next(&mut luge, &mut answer), [6, 7].map(user), "{dialect:?}");
        let ticket = luge.send(&alice, waiting(position(&answer), request.clone()));
        assert_eq!(luge.answered(ticket), None, "{dialect:?}: each came once");
    }
}

/// Goal: of somebody who reads very many threads no receipt of the room itself is
/// left out, nor of the threads that they read last; each names its thread.
#[test]
fn receipts_of_the_room_come_beside_those_of_many_threads() {
    let (mut luge, alice) = two_rooms();
    let threaded = |event_id: &str, kind: &str, thread_id: &str| {
        let of_user = json!({ALICE: {"ts": 5, "thread_id": thread_id}});
        let content = json!({event_id: {kind: of_user}});
        ephemeral("!b:x", json!({"type": "m.receipt", "content": content}))
    };
    luge.sync(&alice, receipt("!b:x", "$whole", "m.read.private", ALICE));
    luge.sync(&alice, threaded("$of-main", "m.read", "main"));
    for at in (0..150).rev() {
        let (event_id, thread_id) = (format!("$in-{at}"), format!("$thread-{at:03}"));
        luge.sync(&alice, threaded(&event_id, "m.read", &thread_id));
    }
    let answer = luge.ask(&alice, on("receipts"));
    let content = &answer["extensions"]["receipts"]["rooms"]["!b:x"]["content"];
    assert_eq!(content["$whole"], json!({"m.read.private": {ALICE: {"ts": 5}}}));
    let of = |thread_id: &str| json!({"m.read": {ALICE: {"ts": 5, "thread_id": thread_id}}});
    assert_eq!(content["$of-main"], of("main"));
    assert_eq!(content["$in-0"], of("$thread-000"));
    assert_eq!(content["$in-149"], Value::Null, "those that were read longest ago are left out");
}

/// Goal: nobody sees another's private receipt, whoever's poller brought it.
#[test]
fn private_receipts_are_their_owners() {
    let (mut luge, alice) = two_rooms();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(
        &bob,
        joined("!b:x", &[beginning("$b", &[ALICE, BOB]), vec![message("$b1", BOB)]].concat()),
    );
    let answer = luge.ask(&alice, on("receipts"));
    luge.sync(&bob, receipt("!b:x", "$b1", "m.read.private", BOB));
    let held = luge.send(&alice, waiting(position(&answer), on("receipts")));
    assert_eq!(luge.answered(held), None);
    luge.abandon(held);
    let anew = luge.ask(&alice, on("receipts"));
    assert_eq!(room_ids(&anew["extensions"]["receipts"]), [] as [&str; 0]);
    let own = luge.ask(&bob, on("receipts"));
    let own = &own["extensions"]["receipts"]["rooms"]["!b:x"]["content"]["$b1"];
    assert_eq!(own, &json!({"m.read.private": {BOB: {"ts": 5}}}));
}

/// Goal: a room that enters the window brings the receipts on the events that it
/// is sent with, and the user's own.
#[test]
fn a_room_that_enters_the_window_brings_its_receipts() {
    let (mut luge, alice) = two_rooms();
    luge.sync(&alice, all([receipt("!a:x", "$a1", "m.read", ALICE)]));
    let answer = luge.ask(&alice, on("receipts"));
    assert_eq!(room_ids(&answer["extensions"]["receipts"]), [] as [&str; 0]);
    luge.sync(&alice, joined("!a:x", &[message("$up", BOB)]));
    luge.sync(&alice, all([receipt("!a:x", "$up", "m.read", BOB)]));
    luge.sync(&alice, all([receipt("!a:x", "$a-create", "m.read", CAROL)]));
    let answer = luge.ask(&alice, at(position(&answer), on("receipts")));
    let content = &answer["extensions"]["receipts"]["rooms"]["!a:x"]["content"];
    let expected = json!({
        "$up": {"m.read": {BOB: {"ts": 5}}}, "$a1": {"m.read": {ALICE: {"ts": 5}}},
    });
    assert_eq!(content, &expected, "and no other, since its event was not sent");
}

/// Goal: a room that is out of sight catches up on receipts.
#[test]
fn receipts_that_were_missed_come_when_the_room_is_back() {
    let (mut luge, alice) = two_rooms();
    let answer = luge.ask(&alice, on("receipts"));
    luge.sync(
        &alice,
        all([receipt("!b:x", "$b1", "m.read", CAROL), joined("!a:x", &[message("$up", BOB)])]),
    );
    let answer = luge.ask(&alice, at(position(&answer), on("receipts")));
    assert_eq!(room_ids(&answer["extensions"]["receipts"]), [] as [&str; 0]);
    luge.sync(&alice, joined("!b:x", &[message("$up2", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), on("receipts")));
    let expected = json!({"$b1": {"m.read": {CAROL: {"ts": 5}}}});
    assert_eq!(answer["extensions"]["receipts"]["rooms"]["!b:x"]["content"], expected);
}

/// Goal: a larger timeline brings the receipts of what it adds.
#[test]
fn an_expanded_timeline_brings_its_receipts() {
    let (mut luge, alice) = two_rooms();
    luge.sync(&alice, receipt("!b:x", "$b-join-b", "m.read", BOB));
    let answer = luge.ask(&alice, on("receipts"));
    assert_eq!(room_ids(&answer["extensions"]["receipts"]), [] as [&str; 0]);
    let mut request = on("receipts");
    request["lists"]["top"]["timeline_limit"] = 3.into();
    let answer = luge.ask(&alice, at(position(&answer), request));
    let expected = json!({"$b-join-b": {"m.read": {BOB: {"ts": 5}}}});
    assert_eq!(answer["extensions"]["receipts"]["rooms"]["!b:x"]["content"], expected);
}

/// Goal: extension data wakes who waits, whatever the lists do.
#[test]
fn extension_data_releases_a_long_poll() {
    let (mut luge, alice) = two_rooms();
    for (extension, answer) in [
        ("account_data", global(&[account_data("org.g", 1)])),
        ("account_data", of_room("!b:x", &[account_data("org.r", 1)])),
        ("receipts", receipt("!b:x", "$b1", "m.read", BOB)),
        ("typing", typing("!b:x", &[BOB])),
    ] {
        let start = luge.ask(&alice, on(extension));
        let held = luge.send(&alice, waiting(position(&start), on(extension)));
        assert_eq!(luge.answered(held), None, "{extension}");
        luge.sync(&alice, answer);
        assert_eq!(rooms(&luge.body(held)), [] as [&str; 0], "{extension}");
    }
}
