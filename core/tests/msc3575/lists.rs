//! Lists: windows, orders, filters, and the operations on them.

use serde_json::{Value, json};

use crate::{
    after, alice_with,
    answers::rooms,
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, all, beginning, invited, joined, joined_with, left, member, message,
        name, state, waiting,
    },
    list, luge, operations,
};

fn with_rooms(count: usize) -> (Luge, Client) {
    alice_with(all((0..count)
        .map(|at| joined(&format!("!{at}:x"), &beginning(&format!("${at}"), &[ALICE, BOB])))))
}

fn ranges(ranges: Value) -> Value {
    list("l", json!({"ranges": ranges, "timeline_limit": 1}))
}

/// The ids of a list's whole order, from a connection of its own.
fn order(luge: &mut Luge, alice: &Client, mut wanted: Value) -> Vec<String> {
    wanted["ranges"] = json!([[0, 99]]);
    let answer = luge.ask(alice, list("l", wanted));
    let ids = answer["lists"]["l"]["ops"][0]["room_ids"].as_array().cloned().unwrap_or_default();
    assert_eq!(answer["lists"]["l"]["count"], ids.len());
    ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

/// Goal: windows come whole, then what moves in them, with a count each time.
#[test]
fn a_move_is_a_deletion_and_an_insertion() {
    let (mut luge, alice) = with_rooms(4);
    let answer = luge.ask(&alice, ranges(json!([[0, 1], [3, 9]])));
    assert_eq!(
        answer["lists"]["l"],
        json!({"count": 4, "ops": [
            {"op": "SYNC", "range": [0, 1], "room_ids": ["!3:x", "!2:x"]},
            {"op": "SYNC", "range": [3, 3], "room_ids": ["!0:x"]},
        ]})
    );
    luge.sync(&alice, joined("!1:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(
        answer["lists"]["l"],
        json!({"count": 4, "ops": [
            {"op": "DELETE", "index": 1},
            {"op": "INSERT", "index": 0, "room_id": "!1:x"},
        ]})
    );
    assert_eq!(rooms(&answer), ["!1:x"]);
    assert_eq!(answer["rooms"]["!1:x"]["initial"], true, "it was in no window before");
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["lists"]["l"], json!({"count": 4}), "nothing moved");
}

/// Goal: a window that moves is emptied where it was and filled where it is.
#[test]
fn changed_ranges_are_invalidated_and_synced() {
    let (mut luge, alice) = with_rooms(6);
    let answer = luge.ask(&alice, ranges(json!([[0, 2]])));
    let answer = luge.ask(&alice, after(&answer, ranges(json!([[1, 4]]))));
    assert_eq!(
        operations(&answer, "l"),
        json!([
            {"op": "INVALIDATE", "range": [0, 0]},
            {"op": "SYNC", "range": [3, 4], "room_ids": ["!2:x", "!1:x"]},
        ])
    );
    let answer = luge.ask(&alice, after(&answer, ranges(json!([]))));
    assert_eq!(operations(&answer, "l"), json!([{"op": "INVALIDATE", "range": [1, 4]}]));
    let answer = luge.ask(&alice, after(&answer, ranges(json!([[4, 4], [9, 20]]))));
    let expected = json!([{"op": "SYNC", "range": [4, 4], "room_ids": ["!1:x"]}]);
    assert_eq!(operations(&answer, "l"), expected, "one index wide, and one beyond the end");
}

/// Goal: other filters or another order make the list another one.
#[test]
fn changed_filters_and_sorts_start_the_list_over() {
    let (mut luge, alice) = with_rooms(3);
    let answer = luge.ask(&alice, ranges(json!([[0, 9]])));
    let filtered = list("l", json!({"filters": {"is_dm": false}}));
    let answer = luge.ask(&alice, after(&answer, filtered));
    let whole = json!([
        {"op": "INVALIDATE", "range": [0, 2]},
        {"op": "SYNC", "range": [0, 2], "room_ids": ["!2:x", "!1:x", "!0:x"]},
    ]);
    assert_eq!(operations(&answer, "l"), whole);
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    let sorted = list("l", json!({"sort": ["by_notification_count", "by_recency"]}));
    let answer = luge.ask(&alice, after(&answer, sorted));
    assert_eq!(operations(&answer, "l"), whole);
    let none = list("l", json!({"filters": {"is_dm": true}}));
    let answer = luge.ask(&alice, after(&answer, none));
    assert_eq!(
        answer["lists"]["l"],
        json!({"count": 0, "ops": [{"op": "INVALIDATE", "range": [0, 2]}]})
    );
}

/// Goal: a list without ranges is of all rooms; so is one of all rooms, which is
/// told once which they are and never again how they move.
#[test]
fn lists_of_all_rooms_need_no_ranges() {
    let (mut luge, alice) = with_rooms(3);
    let of_all = json!({"slow_get_all_rooms": true, "ranges": [[0, 0]]});
    let request = json!({"lists": {"all": {}, "slow": of_all}});
    let answer = luge.ask(&alice, request);
    let whole = json!([{"op": "SYNC", "range": [0, 2], "room_ids": ["!2:x", "!1:x", "!0:x"]}]);
    assert_eq!(operations(&answer, "all"), whole);
    assert_eq!(operations(&answer, "slow"), whole);
    assert_eq!(rooms(&answer), ["!0:x", "!1:x", "!2:x"]);
    luge.sync(&alice, joined("!3:x", &beginning("$3", &[ALICE])));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(operations(&answer, "slow"), json!([]));
    assert_eq!(answer["lists"]["slow"]["count"], 4);
    assert_eq!(answer["rooms"]["!3:x"]["initial"], true);
    assert_ne!(operations(&answer, "all"), json!([]));
    let other = list("slow", json!({"filters": {"is_invite": true}}));
    let answer = luge.ask(&alice, after(&answer, other));
    assert_eq!(answer["lists"]["slow"], json!({"count": 0}), "of no rooms there is nothing");
}

/// Goal: a room that the user leaves shows its end, and leaves the list.
#[test]
fn a_room_one_left_shows_its_end_and_is_gone() {
    let (mut luge, alice) = with_rooms(3);
    let answer = luge.ask(&alice, ranges(json!([[0, 9]])));
    luge.sync(&alice, left("!2:x", &[member("$gone", ALICE, "leave")]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["rooms"]["!2:x"]["timeline"][0]["event_id"], "$gone");
    assert_eq!(answer["rooms"]["!2:x"]["required_state"][0]["event_id"], "$gone");
    assert_eq!(answer["lists"]["l"]["count"], 2);
    let mut held = crate::model::Held::default();
    held.sync((0, 2), ["!2:x", "!1:x", "!0:x"].map(str::to_owned).to_vec());
    held.apply(&operations(&answer, "l"));
    let left: Vec<_> = held.rooms().iter().map(|(index, room)| (*index, &**room)).collect();
    assert_eq!(left, [(0, "!1:x"), (1, "!0:x")]);
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: members are joined and invited rooms, and no kicked ones, bans or
/// knocks.
#[test]
fn only_joined_and_invited_rooms_are_listed() {
    let knock = json!({"rooms": {"knock": {"!k:x": {"knock_state": {"events": [
        {"type": "m.room.member", "state_key": ALICE, "sender": ALICE, "content": {"membership": "knock"}},
    ]}}}}});
    let (mut luge, alice) = alice_with(all([
        joined("!j:x", &beginning("$j", &[ALICE])),
        joined("!b:x", &beginning("$b", &[BOB, ALICE])),
        invited("!i:x", BOB, ALICE),
        knock,
    ]));
    luge.sync(&alice, left("!b:x", &[crate::events::made("$ban", BOB, ALICE, "ban")]));
    let mut ids = order(&mut luge, &alice, json!({}));
    ids.sort();
    assert_eq!(ids, ["!i:x", "!j:x"]);
}

/// Goal: each order is the one it is named after, and the last event decides
/// between equals.
#[test]
fn orders_are_total() {
    let unread = |notifications: u64, highlights: u64| {
        json!({"unread_notifications": {
            "notification_count": notifications, "highlight_count": highlights,
        }})
    };
    let room = |id: &str, called: &str, encrypted: bool, more: Value| {
        let mut events = beginning(&format!("${id}"), &[ALICE, BOB, CAROL]);
        if encrypted {
            let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
            events.push(state(&format!("${id}-e"), "m.room.encryption", "", ALICE, content));
        }
        events.push(name(&format!("${id}-n"), ALICE, called));
        joined_with(&format!("!{id}:x"), &events, more)
    };
    let (mut luge, alice) = alice_with(all([
        room("1", "#zebra", false, unread(0, 0)),
        room("2", "Apple", false, unread(5, 0)),
        room("3", "mango", true, unread(2, 0)),
        room("4", "apple", false, unread(9, 1)),
        room("5", "(Berry)", true, unread(1, 1)),
        room("6", "quince", false, unread(0, 0)),
    ]));
    for (sort, expected) in [
        (json!(["by_recency"]), "654321"),
        (json!([]), "654321"),
        (json!(["by_magic"]), "654321"),
        (json!(["by_name"]), "425361"),
        (json!(["by_notification_count"]), "423561"),
        (json!(["by_highlight_count"]), "546321"),
        (json!(["by_highlight_count", "by_name"]), "452361"),
        (json!(["by_notification_level"]), "543261"),
        (json!(["by_notification_level", "by_name"]), "453261"),
        (json!(["by_notification_level", "by_magic", "by_recency"]), "543261"),
    ] {
        let ids = order(&mut luge, &alice, json!({"sort": sort}));
        let expected: Vec<String> = expected.chars().map(|digit| format!("!{digit}:x")).collect();
        assert_eq!(ids, expected, "{sort}");
    }
}

/// Goal: an order by unread counts follows them, at once.
#[test]
fn unread_counts_move_rooms_and_wake() {
    let (mut luge, alice) = with_rooms(3);
    let wanted = json!({"ranges": [[0, 9]], "sort": ["by_notification_level", "by_recency"]});
    let answer = luge.ask(&alice, list("l", wanted));
    let ticket = luge.send(&alice, waiting(crate::answers::position(&answer), json!({})));
    let unread = json!({"unread_notifications": {"notification_count": 3, "highlight_count": 1}});
    luge.sync(&alice, joined_with("!0:x", &[], unread));
    let answer = luge.body(ticket);
    assert_eq!(
        operations(&answer, "l"),
        json!([{"op": "DELETE", "index": 2}, {"op": "INSERT", "index": 0, "room_id": "!0:x"}])
    );
    let room = &answer["rooms"]["!0:x"];
    assert_eq!((&room["notification_count"], &room["highlight_count"]), (&3.into(), &1.into()));
    assert_eq!((room.get("timeline"), room.get("initial")), (None, None));
}

/// Goal: only the types of events that a list names make a room recent.
#[test]
fn only_bump_events_move_a_room() {
    let (mut luge, alice) = with_rooms(3);
    let bumps = json!({"bump_event_types": ["m.room.message"]});
    assert_eq!(order(&mut luge, &alice, json!({})), ["!2:x", "!1:x", "!0:x"]);
    luge.sync(&alice, joined("!0:x", &[message("$m", BOB)]));
    luge.sync(&alice, joined("!1:x", &[name("$n", ALICE, "N")]));
    assert_eq!(order(&mut luge, &alice, bumps.clone())[0], "!0:x");
    assert_eq!(order(&mut luge, &alice, json!({})), ["!1:x", "!0:x", "!2:x"]);
    let of = |answer: &Value, room: &str| answer["rooms"][room]["timestamp"].as_u64();
    let mut wanted = bumps;
    wanted["ranges"] = json!([[0, 9]]);
    let answer = luge.ask(&alice, list("l", wanted));
    let (bumped, other) = (of(&answer, "!0:x"), of(&answer, "!1:x"));
    assert!(bumped > other && other.is_some(), "{bumped:?} {other:?}");
    luge.sync(&alice, joined("!0:x", &[name("$n0", ALICE, "N")]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(of(&answer, "!0:x"), bumped, "a name does not bump");
}

/// Goal: filters that this dialect alone has, or has its own way.
#[test]
fn names_and_tombstones_are_filtered() {
    let tombstone = json!({"replacement_room": "!other:x"});
    let (mut luge, alice) = alice_with(all([
        joined(
            "!t:x",
            &[
                beginning("$t", &[ALICE, BOB]),
                vec![state("$ts", "m.room.tombstone", "", ALICE, tombstone)],
            ]
            .concat(),
        ),
        joined("!n:x", &[beginning("$n", &[ALICE]), vec![name("$nn", ALICE, "Garden")]].concat()),
        invited("!i:x", BOB, ALICE),
    ]));
    for (filters, expected) in [
        (json!({"is_tombstoned": true}), vec!["!t:x"]),
        (json!({"is_tombstoned": false}), vec!["!i:x", "!n:x"]),
        (json!({"room_name_like": "gard"}), vec!["!n:x"]),
        (json!({"room_name_like": "INVITED"}), vec!["!i:x"]),
        (json!({"is_invite": false}), vec!["!n:x", "!t:x"]),
    ] {
        let mut ids = order(&mut luge, &alice, json!({"filters": filters}));
        ids.sort();
        assert_eq!(ids, expected, "{filters}");
    }
}

/// `!old:x` was replaced by `!new:x`, and that by `!newest:x`.
fn upgraded() -> (Luge, Client) {
    let room = |id: &str, before: Option<&str>, successor: Option<&str>| {
        let mut events = beginning(&format!("${id}"), &[ALICE, BOB]);
        if let Some(before) = before {
            events[0]["content"]["predecessor"] = json!({"room_id": format!("!{before}:x")});
        }
        if let Some(successor) = successor {
            let content = json!({"replacement_room": format!("!{successor}:x")});
            events.push(state(&format!("${id}-t"), "m.room.tombstone", "", ALICE, content));
        }
        joined(&format!("!{id}:x"), &events)
    };
    alice_with(all([
        room("old", None, Some("new")),
        room("new", Some("old"), Some("newest")),
        room("newest", Some("new"), None),
        // Two that say that they replaced each other.
        room("a", Some("b"), None),
        room("b", Some("a"), None),
    ]))
}

/// Goal: replaced rooms are in no list once the user is in the new one, and come
/// with it to who asks.
#[test]
fn old_rooms_are_hidden_unless_they_are_asked_for() {
    let (mut luge, alice) = upgraded();
    let mut ids = order(&mut luge, &alice, json!({}));
    ids.sort();
    assert_eq!(ids, ["!a:x", "!b:x", "!newest:x"]);
    let old = json!({"timeline_limit": 1, "required_state": [["m.room.create", ""]]});
    let wanted = json!({"ranges": [[0, 9]], "timeline_limit": 2, "include_old_rooms": old});
    let answer = luge.ask(&alice, list("l", wanted));
    assert_eq!(answer["lists"]["l"]["count"], 3);
    assert_eq!(rooms(&answer), ["!a:x", "!b:x", "!new:x", "!newest:x", "!old:x"]);
    for (room, events) in [("!newest:x", 2), ("!new:x", 1), ("!old:x", 1)] {
        let timeline = answer["rooms"][room]["timeline"].as_array().map(Vec::len);
        assert_eq!(timeline, Some(events), "{room}");
    }
    assert_eq!(answer["rooms"]["!old:x"]["required_state"][0]["type"], "m.room.create");
    // Backwards alone, from where one subscribes.
    let from_new = json!({"room_subscriptions": {"!new:x": {
        "timeline_limit": 2, "include_old_rooms": {"timeline_limit": 1},
    }}});
    let answer = luge.ask(&alice, from_new);
    assert_eq!(rooms(&answer), ["!new:x", "!old:x"]);
}

/// Goal: a room stays listed while the user is not in the one that replaced it.
#[test]
fn a_replaced_room_stays_until_the_new_one_is_joined() {
    let (mut luge, alice) = with_rooms(1);
    let content = json!({"replacement_room": "!next:x"});
    let tombstone = state("$t", "m.room.tombstone", "", BOB, content);
    let answer = luge.ask(&alice, ranges(json!([[0, 9]])));
    luge.sync(&alice, all([joined("!0:x", &[tombstone]), invited("!next:x", BOB, ALICE)]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["lists"]["l"]["count"], 2);
    luge.sync(&alice, joined("!next:x", &beginning("$n", &[BOB, ALICE])));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["lists"]["l"]["count"], 1);
    assert_eq!(answer["rooms"]["!next:x"]["initial"], true);
}

/// Goal: what a request costs does not grow with how many of its lists sort or
/// search by name: a room's name is made up once.
#[test]
fn names_are_made_up_once_for_all_lists() {
    let mut luge = luge();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, all((0..30).map(|at| invited(&format!("!{at}:x"), BOB, ALICE))));
    let lists = |list: &Value, count: usize| {
        let named = (0..count).map(|at| (format!("l{at}"), list.clone()));
        json!({"lists": named.collect::<serde_json::Map<_, _>>()})
    };
    for list in [
        json!({"ranges": [[0, 0]], "sort": ["by_name"]}),
        json!({"ranges": [[0, 0]], "filters": {"room_name_like": "x"}}),
    ] {
        let one = luge.reads_for(&alice, lists(&list, 1));
        let many = luge.reads_for(&alice, lists(&list, 50));
        assert!(one >= 30 && many < one + 30, "{list}: {one} entries for one, {many} for fifty");
    }
}
