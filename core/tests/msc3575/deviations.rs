//! Where the older proxy did otherwise, on purpose or not: what its clients see
//! here. Each case is a line of `docs/migrating.md`.

use serde_json::{Value, json};

use crate::{
    after, alice_with,
    answers::{position, required, rooms, timeline},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, all, beginning, event, gap, joined, joined_with, left, member, message,
        state, waiting,
    },
    list, operations,
};

fn with_rooms(count: usize) -> (Luge, Client) {
    alice_with(all((0..count)
        .map(|at| joined(&format!("!{at}:x"), &beginning(&format!("${at}"), &[ALICE, BOB])))))
}

fn all_rooms(more: Value) -> Value {
    let mut wanted = json!({"ranges": [[0, 99]], "timeline_limit": 1});
    crate::events::merge(&mut wanted, more);
    list("l", wanted)
}

fn order(answer: &Value) -> Value {
    operations(answer, "l")[0]["room_ids"].clone()
}

/// Goal: a gap in what the homeserver tells ends no connection: it shows as
/// one, with a token and the state that changed in it.
#[test]
fn a_gap_is_told_and_costs_no_connection() {
    let (mut luge, alice) = with_rooms(1);
    let topic = |id: &str| state(id, "m.room.topic", "", BOB, json!({"topic": id}));
    let request = all_rooms(json!({"required_state": [["m.room.topic", ""]]}));
    let answer = luge.ask(&alice, request);
    luge.sync(&alice, gap("!0:x", &[topic("$t")], &[message("$m", BOB)], "behind"));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    let room = &answer["rooms"]["!0:x"];
    assert_eq!((&room["limited"], &room["prev_batch"]), (&true.into(), &"behind".into()));
    assert_eq!((timeline(&answer, "!0:x"), required(&answer, "!0:x")), (vec!["$m"], vec!["$t"]));
    assert_eq!(room.get("initial"), None);
}

/// Goal: silence of hours ends no connection.
#[test]
fn a_connection_outlives_silence() {
    let (mut luge, alice) = with_rooms(1);
    let answer = luge.ask(&alice, all_rooms(json!({})));
    for _ in 0..6 {
        luge.wait(3_600_000);
    }
    luge.sync(&alice, joined("!0:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(timeline(&answer, "!0:x"), ["$m"]);
}

/// Goal: positions of the older proxy, and what is none, are unknown positions,
/// with and without a connection.
#[test]
fn positions_of_any_other_form_are_unknown() {
    let (mut luge, alice) = with_rooms(1);
    for round in ["without a connection", "with one"] {
        for pos in ["0", "1", "2", "-1", "99999999999999999999", "abc", "", "1_2", "25/s989_1"] {
            let mut request = all_rooms(json!({}));
            request["pos"] = pos.into();
            let refused = luge.refused(&alice, request);
            assert_eq!(refused, (400, "M_UNKNOWN_POS".to_owned()), "{pos}, {round}");
        }
        luge.ask(&alice, all_rooms(json!({})));
    }
}

/// Goal: a first request is answered at once, also where there is nothing to
/// say and the client would wait.
#[test]
fn a_first_request_without_news_does_not_wait() {
    let mut luge = crate::luge();
    let alice = luge.fresh(ALICE);
    let answer = luge.ask(&alice, json!({"timeout": 30_000}));
    assert_eq!((&answer["rooms"], &answer["lists"]), (&json!({}), &json!({})));
    let waits = luge.send(&alice, waiting(position(&answer), json!({})));
    assert_eq!(luge.answered(waits), None);
}

/// Goal: who sends an event does not decide by their clock how recent it is.
#[test]
fn the_order_of_arrival_decides_and_no_clock() {
    let (mut luge, alice) = with_rooms(3);
    let mut late = message("$late", BOB);
    late["origin_server_ts"] = 1.into();
    luge.sync(&alice, joined("!0:x", &[late]));
    let mut early = message("$early", BOB);
    early["origin_server_ts"] = 9_000_000_000_000_000_u64.into();
    luge.sync(&alice, joined("!1:x", &[early]));
    luge.sync(&alice, joined("!2:x", &[message("$now", BOB)]));
    let answer = luge.ask(&alice, all_rooms(json!({"sort": ["by_recency"]})));
    assert_eq!(order(&answer), json!(["!2:x", "!1:x", "!0:x"]));
}

/// Goal: the types and the spaces of a filter both count.
#[test]
fn spaces_and_room_types_both_count() {
    let typed = |prefix: &str, kind: &str| {
        let mut events = beginning(prefix, &[ALICE]);
        events[0]["content"]["type"] = kind.into();
        events
    };
    let child =
        |id: &str, room: &str| state(id, "m.space.child", room, ALICE, json!({"via": ["x"]}));
    let space = [typed("$s", "m.space"), vec![child("$1", "!child:x"), child("$2", "!sub:x")]];
    let (mut luge, alice) = alice_with(all([
        joined("!s:x", &space.concat()),
        joined("!child:x", &beginning("$c", &[ALICE])),
        joined("!sub:x", &typed("$u", "m.space")),
        joined("!other:x", &beginning("$o", &[ALICE])),
    ]));
    for (filters, expected) in [
        (json!({"spaces": ["!s:x"], "room_types": [null]}), json!(["!child:x"])),
        (json!({"spaces": ["!s:x"], "room_types": ["m.space"]}), json!(["!sub:x"])),
        (json!({"spaces": ["!s:x"], "not_room_types": ["m.space"]}), json!(["!child:x"])),
    ] {
        let answer = luge.ask(&alice, all_rooms(json!({"filters": filters})));
        assert_eq!(order(&answer), expected, "{filters}");
    }
}

/// Goal: of a long row of rooms that replaced each other a bounded number comes.
#[test]
fn no_more_than_sixteen_predecessors_are_followed() {
    let row = (0..20).map(|at| {
        let mut events = beginning(&format!("${at}"), &[ALICE]);
        if at > 0 {
            events[0]["content"]["predecessor"] = json!({"room_id": format!("!{}:x", at - 1)});
        }
        joined(&format!("!{at}:x"), &events)
    });
    let (mut luge, alice) = alice_with(all(row));
    let request = json!({"room_subscriptions": {"!19:x": {
        "timeline_limit": 1, "include_old_rooms": {"timeline_limit": 1},
    }}});
    assert_eq!(rooms(&luge.ask(&alice, request)).len(), 1 + 16);
}

/// Goal: a room that was left and joined again is listed again, as new.
#[test]
fn a_room_that_is_joined_again_is_listed_again() {
    let (mut luge, alice) = with_rooms(2);
    let answer = luge.ask(&alice, all_rooms(json!({})));
    luge.sync(&alice, left("!0:x", &[member("$gone", ALICE, "leave")]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["lists"]["l"]["count"], 1);
    luge.sync(&alice, joined("!0:x", &[member("$back", ALICE, "join")]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["lists"]["l"]["count"], 2);
    assert_eq!(answer["rooms"]["!0:x"]["initial"], true);
}

/// Goal: unread counts of a room that the client was never sent make no entry
/// and wake nobody.
#[test]
fn unread_counts_of_an_unknown_room_are_not_told() {
    let (mut luge, alice) = with_rooms(2);
    let answer = luge.ask(&alice, list("l", json!({"ranges": [[0, 0]], "timeline_limit": 1})));
    assert_eq!(rooms(&answer), ["!1:x"]);
    let ticket = luge.send(&alice, waiting(position(&answer), json!({})));
    let unread = json!({"unread_notifications": {"notification_count": 2, "highlight_count": 1}});
    luge.sync(&alice, joined_with("!0:x", &[], unread));
    assert_eq!(luge.answered(ticket), None);
    luge.wait(30_000);
    assert_eq!(rooms(&luge.body(ticket)), [] as [&str; 0]);
}

/// Goal: who types is told by the extension alone.
#[test]
fn who_types_is_no_lazy_member() {
    let events = [beginning("$r", &[ALICE, BOB, CAROL]), vec![message("$m", BOB)]].concat();
    let (mut luge, alice) = alice_with(joined("!r:x", &events));
    let mut request = all_rooms(json!({"required_state": [["m.room.member", "$LAZY"]]}));
    request["extensions"] = json!({"typing": {"enabled": true}});
    let answer = luge.ask(&alice, request);
    assert_eq!(required(&answer, "!r:x"), ["$r-join-b"]);
    let typing = json!({"type": "m.typing", "content": {"user_ids": [CAROL]}});
    luge.sync(&alice, joined_with("!r:x", &[], json!({"ephemeral": {"events": [typing]}})));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(
        answer["extensions"]["typing"]["rooms"]["!r:x"]["content"]["user_ids"],
        json!([CAROL])
    );
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: an extension that is on is there, also where it has nothing to say; an
/// unknown one, and one that is off, is not.
#[test]
fn extensions_that_are_on_are_there() {
    let mut luge = crate::luge();
    let alice = luge.fresh(ALICE);
    let on = json!({"enabled": true});
    let request = json!({"extensions": {
        "to_device": on, "e2ee": on, "account_data": on, "receipts": on, "typing": on,
        "io.element.msc4308.thread_subscriptions": on, "org.example": on,
    }});
    let mut answer = luge.ask(&alice, request);
    for _ in 0..2 {
        let told = answer["extensions"].as_object().expect("an object");
        let keys: Vec<&str> = told.keys().map(String::as_str).collect();
        assert_eq!(keys, ["account_data", "e2ee", "receipts", "to_device", "typing"]);
        answer = luge.ask(&alice, after(&answer, json!({})));
    }
}

/// Goal: two connections of a device each learn of every changed device list.
#[test]
fn each_connection_has_its_own_device_lists() {
    let mut luge = crate::luge();
    let alice = luge.fresh(ALICE);
    let start = |luge: &mut Luge, conn_id: &str| {
        let request = json!({"conn_id": conn_id, "extensions": {"e2ee": {"enabled": true}}});
        luge.ask(&alice, request)
    };
    let (one, two) = (start(&mut luge, "one"), start(&mut luge, "two"));
    luge.sync(&alice, json!({"device_lists": {"changed": [BOB], "left": [CAROL]}}));
    for (conn_id, answer) in [("one", one), ("two", two)] {
        let answer = luge.ask(&alice, after(&answer, json!({"conn_id": conn_id})));
        let lists = &answer["extensions"]["e2ee"]["device_lists"];
        assert_eq!(lists, &json!({"changed": [BOB], "left": [CAROL]}), "{conn_id}");
    }
}

/// Goal: a space's child does not show its parent's event.
#[test]
fn a_space_does_not_speak_in_its_children() {
    let mut space = beginning("$s", &[ALICE]);
    space[0]["content"]["type"] = "m.space".into();
    let (mut luge, alice) =
        alice_with(all([joined("!s:x", &space), joined("!child:x", &beginning("$c", &[ALICE]))]));
    let answer = luge.ask(&alice, all_rooms(json!({})));
    let child = state("$k", "m.space.child", "!child:x", ALICE, json!({"via": ["x"]}));
    luge.sync(&alice, joined("!s:x", &[child]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!((rooms(&answer), timeline(&answer, "!s:x")), (vec!["!s:x"], vec!["$k"]));
}

/// Goal: what is counted as live came after the position, and nothing else.
#[test]
fn only_news_is_live() {
    let (mut luge, alice) = with_rooms(2);
    let first = luge.ask(&alice, list("l", json!({"ranges": [[0, 0]], "timeline_limit": 9})));
    assert_eq!(first["rooms"]["!1:x"]["num_live"], 0);
    luge.sync(&alice, joined("!0:x", &[message("$1", BOB), event("$2", "org.x", BOB, json!({}))]));
    let answer = luge.ask(&alice, after(&first, json!({})));
    let room = &answer["rooms"]["!0:x"];
    assert_eq!((&room["initial"], &room["num_live"]), (&true.into(), &2.into()));
    assert!(timeline(&answer, "!0:x").len() > 2, "with history that is not");
}

/// Goal: who asks for heroes in one place gets them, also where another place
/// that selects the room does not ask.
#[test]
fn heroes_are_there_where_any_that_selects_the_room_asks() {
    let summary = json!({"summary": {
        "m.heroes": [BOB], "m.joined_member_count": 2, "m.invited_member_count": 0,
    }});
    let events = beginning("$r", &[ALICE, BOB]);
    let (mut luge, alice) = alice_with(joined_with("!r:x", &events, summary));
    let mut request = all_rooms(json!({}));
    request["room_subscriptions"] = json!({"!r:x": {"include_heroes": true}});
    let answer = luge.ask(&alice, request);
    assert_eq!(answer["rooms"]["!r:x"]["heroes"][0]["user_id"], BOB);
    let none = luge.ask(&alice, all_rooms(json!({})));
    assert_eq!(none["rooms"]["!r:x"].get("heroes"), None);
}

/// Goal: a room that the user joins is sent where a window reaches it, and not
/// beyond all windows.
#[test]
fn a_room_that_is_joined_outside_of_all_windows_is_only_counted() {
    let (mut luge, alice) = with_rooms(2);
    let by_name = json!({"ranges": [[0, 0]], "timeline_limit": 1, "sort": ["by_name"]});
    luge.sync(&alice, joined("!0:x", &[crate::events::name("$a", ALICE, "Aardvark")]));
    let answer = luge.ask(&alice, list("l", by_name));
    assert_eq!(rooms(&answer), ["!0:x"]);
    let events = [beginning("$z", &[ALICE]), vec![crate::events::name("$zn", ALICE, "Zebra")]];
    luge.sync(&alice, joined("!z:x", &events.concat()));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!((rooms(&answer), &answer["lists"]["l"]), (vec![], &json!({"count": 3})));
}
