//! Lists: their members, their order, their windows.

use serde_json::{Value, json};

use crate::{
    answers::{position, rooms, window},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, all, at, beginning, invited, joined, joined_with, left, list, made,
        member, message, name, state,
    },
};

/// Alice in rooms `!0:x`, `!1:x`, …, the last of which is the newest.
fn with_rooms(count: usize) -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "DEV");
    let rooms =
        (0..count).map(|at| joined(&format!("!{at}:x"), &beginning(&format!("${at}"), &[ALICE])));
    luge.sync(&alice, all(rooms));
    (luge, alice)
}

fn ranges(ranges: &Value) -> Value {
    json!({"lists": {"all": {"ranges": ranges, "timeline_limit": 1, "required_state": []}}})
}

/// Goal: a list says how many rooms it has and which are in its window.
#[test]
fn a_list_has_a_count_and_one_operation_a_range() {
    let (mut luge, alice) = with_rooms(3);
    let answer = luge.ask(&alice, ranges(&json!([[0, 99]])));
    let expected = json!({"count": 3, "ops": [
        {"op": "SYNC", "range": [0, 99], "room_ids": ["!2:x", "!1:x", "!0:x"]},
    ]});
    assert_eq!(answer["lists"]["all"], expected);
    assert_eq!(rooms(&answer), ["!0:x", "!1:x", "!2:x"]);
}

/// Goal: both ends of a range belong to it, and no range is an error.
#[test]
fn windows_are_inclusive_and_far_or_inverted_ones_are_empty() {
    let (mut luge, alice) = with_rooms(4);
    for (asked, expected) in [
        (json!([[0, 0]]), vec![vec!["!3:x"]]),
        (json!([[0, 1]]), vec![vec!["!3:x", "!2:x"]]),
        (json!([[1, 2]]), vec![vec!["!2:x", "!1:x"]]),
        (json!([[0, 0], [3, 3]]), vec![vec!["!3:x"], vec!["!0:x"]]),
        (json!([[0, 1], [1, 2]]), vec![vec!["!3:x", "!2:x"], vec!["!2:x", "!1:x"]]),
        (json!([[4, 9]]), vec![vec![]]),
        (json!([[5, 1]]), vec![vec![]]),
        (json!([[0, 9_007_199_254_740_991_u64]]), vec![vec!["!3:x", "!2:x", "!1:x", "!0:x"]]),
        (json!([]), vec![]),
    ] {
        let answer = luge.ask(&alice, ranges(&asked));
        assert_eq!(answer["lists"]["all"]["count"], 4, "{asked}");
        let windows: Vec<_> = (0..expected.len()).map(|at| window(&answer, "all", at)).collect();
        assert_eq!(windows, expected, "{asked}");
        let ops = answer["lists"]["all"]["ops"].as_array().map(Vec::len);
        assert_eq!(ops, Some(expected.len()), "{asked}");
        for room in rooms(&answer) {
            assert!(windows.iter().flatten().any(|listed| *listed == room), "{asked}: {room}");
        }
    }
}

/// Goal: a list without ranges still counts.
#[test]
fn a_list_without_ranges_has_a_count_and_no_rooms() {
    let (mut luge, alice) = with_rooms(2);
    let request = json!({"lists": {"all": {"timeline_limit": 1, "required_state": []}}});
    let answer = luge.ask(&alice, request);
    assert_eq!(answer["lists"]["all"]["count"], 2);
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: the room of the last event comes first, whatever the event.
#[test]
fn any_event_moves_its_room_to_the_top() {
    let (mut luge, alice) = with_rooms(3);
    let answer = luge.ask(&alice, list(1, json!([])));
    luge.sync(&alice, joined("!0:x", &[name("$n", ALICE, "Zero")]));
    let answer = luge.ask(&alice, at(position(&answer), list(1, json!([]))));
    assert_eq!(window(&answer, "all", 0), ["!0:x", "!2:x", "!1:x"]);
    assert_eq!(rooms(&answer), ["!0:x"], "the others have not changed");
}

/// Goal: rooms that come in one answer are in the order of their last events,
/// whose clocks may lie, but not to lead what comes later.
#[test]
fn rooms_of_one_answer_are_in_the_order_of_their_last_events() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let room = |id: &str, last_ms: u64| {
        let mut last = message(&format!("${id}-last"), BOB);
        last["origin_server_ts"] = last_ms.into();
        joined(
            &format!("!{id}:x"),
            &[beginning(&format!("${id}"), &[ALICE, BOB]), vec![last]].concat(),
        )
    };
    let now_ms = luge.now_ms();
    let old = [room("a", now_ms - 3_000), room("b", now_ms + 9_000_000), room("c", now_ms - 9_000)];
    luge.sync(&alice, all(old));
    let answer = luge.ask(&alice, list(1, json!([])));
    assert_eq!(window(&answer, "all", 0), ["!b:x", "!a:x", "!c:x"]);
    for room in ["!a:x", "!b:x", "!c:x"] {
        let stamp = answer["rooms"][room]["bump_stamp"].as_u64().expect("a stamp");
        assert!((1..=now_ms).contains(&stamp), "{room}: {stamp}");
    }
    luge.wait(1_000);
    luge.sync(&alice, joined("!c:x", &[message("$now", BOB)]));
    let answer = luge.ask(&alice, list(1, json!([])));
    assert_eq!(window(&answer, "all", 0), ["!c:x", "!b:x", "!a:x"]);
    let stamp = |room: &str| answer["rooms"][room]["bump_stamp"].as_u64();
    assert!(stamp("!c:x") > stamp("!b:x"), "stamps are comparable across rooms");
}

/// Goal: an answer says nothing of what the client holds.
#[test]
fn rooms_without_updates_have_no_entry() {
    let (mut luge, alice) = with_rooms(3);
    let answer = luge.ask(&alice, list(1, json!([["m.room.create", ""]])));
    let again = at(position(&answer), list(1, json!([["m.room.create", ""]])));
    let answer = luge.ask(&alice, again);
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    assert_eq!(answer["lists"]["all"]["count"], 3);
}

/// Goal: a room of which nothing is asked is told of all the same.
#[test]
fn a_room_without_timeline_and_state_comes_once() {
    let (mut luge, alice) = with_rooms(1);
    let answer = luge.ask(&alice, list(0, json!([])));
    assert_eq!(answer["rooms"]["!0:x"]["initial"], true);
    assert_eq!(answer["rooms"]["!0:x"].get("timeline"), None);
    assert_eq!(answer["rooms"]["!0:x"].get("required_state"), None);
    let answer = luge.ask(&alice, at(position(&answer), list(0, json!([]))));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: each list has its own filters, count and rooms.
#[test]
fn filters_decide_who_is_in_a_list() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "DEV");
    let typed = |prefix: &str, kind: &str| {
        let mut events = beginning(prefix, &[ALICE]);
        events[0]["content"]["type"] = kind.into();
        events
    };
    let encrypted = state("$e", "m.room.encryption", "", ALICE, json!({"algorithm": "m.x"}));
    let direct = json!({"type": "m.direct", "content": {BOB: ["!direct:x"]}});
    let tag = json!({"type": "m.tag", "content": {"tags": {"m.favourite": {"order": 0.5}}}});
    luge.sync(
        &alice,
        all([
            joined("!plain:x", &beginning("$p", &[ALICE])),
            joined("!direct:x", &beginning("$d", &[ALICE, BOB])),
            joined("!encrypted:x", &[beginning("$c", &[ALICE]), vec![encrypted]].concat()),
            joined("!space:x", &typed("$s", "m.space")),
            joined_with(
                "!tagged:x",
                &beginning("$t", &[ALICE]),
                json!({"account_data": {"events": [tag]}}),
            ),
            joined(
                "!named:x",
                &[beginning("$n", &[ALICE]), vec![name("$name", ALICE, "Big ROOM")]].concat(),
            ),
            invited("!invite:x", BOB, ALICE),
            json!({"account_data": {"events": [direct]}}),
        ]),
    );
    luge.sync(
        &alice,
        joined(
            "!space:x",
            &[
                state("$child", "m.space.child", "!named:x", ALICE, json!({"via": ["x"]})),
                state("$gone", "m.space.child", "!plain:x", ALICE, json!({})),
            ],
        ),
    );
    for (filters, expected) in [
        (json!({"is_dm": true}), vec!["!direct:x"]),
        (json!({"is_dm": false, "is_encrypted": true}), vec!["!encrypted:x"]),
        (json!({"is_invite": true}), vec!["!invite:x"]),
        (json!({"room_types": ["m.space"]}), vec!["!space:x"]),
        (
            json!({"not_room_types": ["m.space"], "is_invite": false, "is_encrypted": false}),
            vec!["!direct:x", "!named:x", "!plain:x", "!tagged:x"],
        ),
        (json!({"room_types": [null, "m.space"], "not_room_types": [null]}), vec!["!space:x"]),
        (json!({"tags": ["m.favourite", "other"]}), vec!["!tagged:x"]),
        (json!({"tags": ["m.favourite"], "not_tags": ["m.favourite"]}), vec![]),
        (json!({"room_name_like": "big r"}), vec!["!named:x"]),
        (json!({"spaces": ["!space:x"]}), vec!["!named:x"]),
        (json!({"spaces": ["!unknown:x"]}), vec![]),
    ] {
        let mut request = list(0, json!([]));
        request["lists"]["all"]["filters"] = filters.clone();
        let answer = luge.ask(&alice, request);
        let mut listed = window(&answer, "all", 0);
        listed.sort_unstable();
        assert_eq!(listed, expected, "{filters}");
        assert_eq!(answer["lists"]["all"]["count"], expected.len(), "{filters}");
    }
}

/// Goal: an invite without stripped state is neither encrypted nor not.
#[test]
fn an_invite_of_which_nothing_is_known_passes_no_filter_on_its_state() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "DEV");
    let bare = json!({"rooms": {"invite": {"!bare:x": {"invite_state": {"events": [
        {"type": "m.room.member", "state_key": ALICE, "sender": BOB, "content": {"membership": "invite"}},
    ]}}}}});
    luge.sync(&alice, bare);
    for (filters, count) in [
        (json!({}), 1),
        (json!({"is_invite": true}), 1),
        (json!({"is_encrypted": true}), 0),
        (json!({"is_encrypted": false}), 0),
        (json!({"room_types": [null]}), 0),
    ] {
        let mut request = list(0, json!([]));
        request["lists"]["all"]["filters"] = filters.clone();
        assert_eq!(luge.ask(&alice, request)["lists"]["all"]["count"], count, "{filters}");
    }
}

/// Goal: who was thrown out sees the room; who left learns of it once.
#[test]
fn kicked_rooms_stay_listed_and_left_ones_are_listed_once() {
    let (mut luge, alice) = with_rooms(3);
    let request = || list(1, json!([["m.room.member", "$ME"]]));
    let answer = luge.ask(&alice, request());
    luge.sync(
        &alice,
        all([
            left("!0:x", &[member("$leave", ALICE, "leave")]),
            left("!1:x", &[made("$kick", BOB, ALICE, "leave")]),
        ]),
    );
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(answer["lists"]["all"]["count"], 3);
    assert_eq!(rooms(&answer), ["!0:x", "!1:x"]);
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(window(&answer, "all", 0), ["!1:x", "!2:x"]);
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    let answer = luge.ask(&alice, request());
    assert_eq!(window(&answer, "all", 0), ["!1:x", "!2:x"], "also for who starts anew");
}

/// Goal: invites of ignored users are not there, their messages neither.
#[test]
fn ignored_users_invites_and_messages_are_not_shown() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "DEV");
    let ignored = json!({"type": "m.ignored_user_list", "content": {"ignored_users": {BOB: {}}}});
    luge.sync(
        &alice,
        all([
            joined(
                "!r:x",
                &[beginning("$r", &[ALICE, BOB]), vec![message("$m", BOB), name("$n", BOB, "N")]]
                    .concat(),
            ),
            invited("!i:x", BOB, ALICE),
            json!({"account_data": {"events": [ignored]}}),
        ]),
    );
    let answer = luge.ask(&alice, list(2, json!([])));
    assert_eq!(window(&answer, "all", 0), ["!r:x"]);
    assert_eq!(answer["lists"]["all"]["count"], 1);
    assert_eq!(crate::answers::timeline(&answer, "!r:x"), ["$r-join-b", "$n"]);
}

/// Goal: who is ignored from now on is not heard from now on, whoever's poller
/// brings it, and is heard again when they are not ignored any more.
#[test]
fn ignoring_takes_effect_at_once_and_ends() {
    let mut luge = Luge::new();
    let (alice, carol) = (luge.sign_in(ALICE, "A"), luge.sign_in(CAROL, "C"));
    let room = joined("!r:x", &beginning("$r", &[ALICE, BOB, CAROL]));
    luge.sync(&alice, room.clone());
    luge.sync(&carol, room);
    let ignore = |users: Value| {
        let list = json!({"type": "m.ignored_user_list", "content": {"ignored_users": users}});
        json!({"account_data": {"events": [list]}})
    };
    let mut answer = luge.ask(&alice, list(5, json!([])));
    for (users, id, expected) in [
        (json!({}), "$1", vec!["$1", "$1-name"]),
        (json!({BOB: {}}), "$2", vec!["$2-name"]),
        (json!({}), "$3", vec!["$3", "$3-name"]),
    ] {
        luge.sync(&alice, ignore(users));
        luge.sync(
            &carol,
            joined("!r:x", &[message(id, BOB), name(&format!("{id}-name"), BOB, id)]),
        );
        answer = luge.ask(&alice, at(position(&answer), list(5, json!([]))));
        assert_eq!(crate::answers::timeline(&answer, "!r:x"), expected, "state is not left out");
    }
}

/// Goal: unknown keys and `sort` do no harm.
#[test]
fn what_a_request_says_beyond_the_protocol_is_ignored() {
    let (mut luge, alice) = with_rooms(1);
    let mut request = list(1, json!([]));
    request["lists"]["all"]["sort"] = json!(["by_name"]);
    request["lists"]["all"]["slow_get_all_rooms"] = json!(true);
    request["unsubscribe_rooms"] = json!(["!z:x"]);
    request["extensions"] = json!({"org.example": {"enabled": true}});
    assert_eq!(rooms(&luge.ask(&alice, request)), ["!0:x"]);
}

/// Goal: an answer always has the members that clients read without looking
/// whether they are there, and no lists where none was asked for.
#[test]
fn an_answer_has_its_position_rooms_and_extensions() {
    let (mut luge, alice) = with_rooms(1);
    let keys = |answer: &Value| -> Vec<String> {
        answer.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    let bare = luge.ask(&alice, json!({}));
    assert_eq!(keys(&bare), ["extensions", "pos", "rooms"]);
    assert_eq!((&bare["rooms"], &bare["extensions"]), (&json!({}), &json!({})));
    let listed = luge.ask(&alice, list(1, json!([])));
    assert_eq!(keys(&listed), ["extensions", "lists", "pos", "rooms"]);
    let again = luge.ask(&alice, at(position(&listed), list(1, json!([]))));
    assert_eq!(keys(&again), ["extensions", "lists", "pos", "rooms"]);
    assert!(again["lists"]["all"]["count"].is_u64());
}
