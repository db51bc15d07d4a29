//! Entries: what is there, absent or null, for who is in the room and who is
//! not.

use serde_json::{Value, json};

use crate::{
    alice_with, all_rooms,
    answers::{position, required, rooms, timeline},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, all, at, beginning, invited, joined, joined_with, left, made, member,
        message, name, state, waiting,
    },
};

fn everything(lazy_members: bool, exclude: Value) -> Value {
    json!({"lists": {"all": {"timeline_limit": 1, "required_state": {
        "include": [{}], "exclude": exclude, "lazy_members": lazy_members,
    }}}})
}

/// Asks, and waits for members that do not come.
fn patient(luge: &mut Luge, client: &Client, request: Value) -> Value {
    let ticket = luge.send(client, request);
    luge.wait(3_000);
    luge.body(ticket)
}

/// Goal: what has not changed is omitted, and what was removed is null.
#[test]
fn names_and_avatars_are_set_silent_or_null() {
    let avatar = |id: &str, content| state(id, "m.room.avatar", "", ALICE, content);
    let first = [
        beginning("$r", &[ALICE, BOB]),
        vec![name("$n", ALICE, "N"), avatar("$a", json!({"url": "mxc://x/1"}))],
    ];
    let (mut luge, alice) = alice_with(joined("!r:x", &first.concat()));
    let answer = luge.ask(&alice, all_rooms(1, json!([])));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["name"], &room["avatar"]), (&"N".into(), &"mxc://x/1".into()));
    assert_eq!((&room["joined_count"], &room["invited_count"]), (&2.into(), &0.into()));
    assert_eq!((&room["initial"], &room["membership"]), (&true.into(), &"join".into()));

    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    let room = &answer["rooms"]["!r:x"];
    for absent in ["name", "avatar", "heroes", "joined_count", "initial", "is_dm"] {
        assert_eq!(room.get(absent), None, "{absent}");
    }

    let removed = [state("$n2", "m.room.name", "", ALICE, json!({})), avatar("$a2", json!({}))];
    luge.sync(&alice, joined("!r:x", &removed));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    let room = answer["rooms"]["!r:x"].as_object().expect("an entry");
    assert_eq!(room.get("name"), Some(&Value::Null));
    assert_eq!(room.get("avatar"), Some(&Value::Null));
}

/// Goal: unread counts are not part of this dialect.
#[test]
fn there_are_no_unread_counts() {
    let unread = json!({"unread_notifications": {"notification_count": 3, "highlight_count": 1}});
    let (mut luge, alice) =
        alice_with(joined_with("!r:x", &beginning("$r", &[ALICE, BOB]), unread));
    let answer = luge.ask(&alice, all_rooms(1, json!([])));
    let room = answer["rooms"]["!r:x"].as_object().expect("an entry");
    assert!(!room.contains_key("notification_count") && !room.contains_key("highlight_count"));
}

/// Goal: an invite and a knock show their stripped state under the accepted
/// name, and nothing that is for members.
#[test]
fn an_invite_has_stripped_state_and_nothing_for_members() {
    let (mut luge, alice) = alice_with(invited("!i:x", BOB, ALICE));
    let answer = luge.ask(&alice, all_rooms(5, json!([{}])));
    let room = answer["rooms"]["!i:x"].as_object().expect("an entry");
    let keys: Vec<&str> = room.keys().map(String::as_str).collect();
    assert_eq!(keys, ["bump_stamp", "lists", "membership", "stripped_state"]);
    assert_eq!(room["membership"], "invite");
    let stripped = room["stripped_state"].as_array().expect("an array");
    assert_eq!(stripped.last().expect("not empty")["state_key"], ALICE, "the own event is last");
}

/// Goal: who declines an invite, or is declined, is told so without a state
/// that they never saw.
#[test]
fn a_declined_invite_ends_with_stripped_state() {
    for (sender, membership) in [(ALICE, "leave"), (BOB, "leave")] {
        let (mut luge, alice) = alice_with(invited("!i:x", BOB, ALICE));
        let answer = luge.ask(&alice, all_rooms(5, json!([{}])));
        luge.sync(&alice, left("!i:x", &[made("$no", sender, ALICE, membership)]));
        let answer = luge.ask(&alice, at(position(&answer), all_rooms(5, json!([{}]))));
        let room = &answer["rooms"]["!i:x"];
        assert_eq!(room["membership"], "leave", "{sender}");
        let own = &room["stripped_state"][0];
        assert_eq!(
            (&own["sender"], &own["content"]["membership"]),
            (&sender.into(), &"leave".into())
        );
        assert_eq!(own.get("event_id"), None, "stripped");
        assert_eq!((room.get("required_state"), room.get("timeline")), (None, None));
    }
}

/// Goal: who was kicked sees the room up to that, with their member event.
#[test]
fn a_kicked_user_gets_the_end_and_their_own_event() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[BOB, ALICE])));
    let answer = luge.ask(&alice, all_rooms(5, json!([])));
    let kick = made("$kick", BOB, ALICE, "leave");
    luge.sync(&alice, left("!r:x", &[message("$last", BOB), kick]));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(5, json!([]))));
    assert_eq!(timeline(&answer, "!r:x"), ["$last", "$kick"]);
    assert_eq!(required(&answer, "!r:x"), ["$kick"]);
    assert_eq!(answer["rooms"]["!r:x"]["membership"], "leave");
}

/// Goal: who asks for more events of a room that they were put out of gets those
/// up to the end, and once.
#[test]
fn more_events_may_be_asked_for_of_a_room_that_was_left() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[BOB, ALICE])));
    let answer = luge.ask(&alice, all_rooms(0, json!([])));
    let kick = made("$kick", BOB, ALICE, "leave");
    luge.sync(&alice, left("!r:x", &[message("$last", BOB), kick]));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(0, json!([]))));
    assert_eq!(required(&answer, "!r:x"), ["$kick"]);
    assert_eq!(answer["rooms"]["!r:x"].get("timeline"), None);
    let ticket = luge.send(&alice, waiting(position(&answer), all_rooms(2, json!([]))));
    let answer = luge.body(ticket);
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$last", "$kick"]);
    assert_eq!((&room["expanded_timeline"], &room["limited"]), (&true.into(), &true.into()));
    assert_eq!((&room["membership"], room.get("initial")), (&"leave".into(), None));
    let held = luge.send(&alice, waiting(position(&answer), all_rooms(2, json!([]))));
    assert_eq!(luge.answered(held), None, "it was told");
}

/// Goal: that a room becomes a direct chat, or ceases to be one, is told at
/// once and only then.
#[test]
fn a_direct_chat_is_told_when_it_becomes_one() {
    let direct = |rooms: Value| json!({"account_data": {"events": [{"type": "m.direct", "content": {BOB: rooms}}]}});
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    let answer = luge.ask(&alice, all_rooms(1, json!([])));
    assert_eq!(answer["rooms"]["!r:x"].get("is_dm"), None);
    let ticket = luge.send(&alice, waiting(position(&answer), all_rooms(1, json!([]))));
    luge.sync(&alice, direct(json!(["!r:x"])));
    let answer = luge.body(ticket);
    assert_eq!(answer["rooms"]["!r:x"]["is_dm"], true);
    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    assert_eq!(answer["rooms"]["!r:x"].get("is_dm"), None, "unchanged");
    luge.sync(&alice, direct(json!([])));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    assert_eq!(answer["rooms"]["!r:x"]["is_dm"], false);
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: state is included by type, key, both or neither, less what is
/// excluded.
#[test]
fn required_state_includes_and_excludes() {
    let (mut luge, alice) = alice_with(joined(
        "!r:x",
        &[beginning("$r", &[ALICE, BOB]), vec![name("$n", ALICE, "N")]].concat(),
    ));
    for (include, exclude, expected) in [
        (json!([]), json!([]), vec![]),
        (
            json!([{"type": "m.room.name", "state_key": ""}, {"type": "m.room.topic"}]),
            json!([]),
            vec!["$n"],
        ),
        (json!([{"type": "m.room.member"}]), json!([]), vec!["$r-join-a", "$r-join-b"]),
        (json!([{"state_key": BOB}]), json!([]), vec!["$r-join-b"]),
        (
            json!([{}]),
            json!([{"type": "m.room.create"}, {"state_key": BOB}]),
            vec!["$n", "$r-join-a", "$r-levels"],
        ),
        (json!([{"type": "m.room.member"}]), json!([{}]), vec![]),
        // No pattern stands for anything but itself.
        (
            json!([{"type": "*", "state_key": "*"}, {"type": "m.room.member", "state_key": "$ME"}]),
            json!([]),
            vec![],
        ),
    ] {
        let request = json!({"lists": {"all": {"timeline_limit": 0, "required_state": {
            "include": include, "exclude": exclude,
        }}}});
        let answer = patient(&mut luge, &alice, request);
        assert_eq!(required(&answer, "!r:x"), expected, "{include} {exclude}");
    }
}

/// Goal: lazy members are those of the timeline, also where members are
/// excluded.
#[test]
fn lazy_members_come_whatever_is_excluded() {
    let first = [beginning("$r", &[ALICE, BOB, CAROL]), vec![message("$m", BOB)]].concat();
    let (mut luge, alice) = alice_with(joined("!r:x", &first));
    let excludes = [json!([]), json!([{"type": "m.room.member"}]), json!([{"state_key": BOB}])];
    for (number, exclude) in excludes.into_iter().enumerate() {
        let answer = luge.ask(&alice, everything(true, exclude.clone()));
        assert_eq!(required(&answer, "!r:x"), ["$r-create", "$r-join-b", "$r-levels"], "{exclude}");
        luge.sync(&alice, joined("!r:x", &[message(&format!("$c{number}"), CAROL)]));
        let answer = luge.ask(&alice, at(position(&answer), everything(true, exclude.clone())));
        assert_eq!(required(&answer, "!r:x"), ["$r-join-c"], "{exclude}");
        luge.sync(&alice, joined("!r:x", &[message(&format!("$b{number}"), BOB)]));
    }
}

/// Goal: where several rules select a room, it gets what each of them wants.
#[test]
fn what_one_rule_excludes_another_may_include() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[ALICE])));
    let mut request = everything(false, json!([{"type": "m.room.create"}]));
    let only_create = json!({"timeline_limit": 0, "required_state": {
        "include": [{"type": "m.room.create"}],
    }});
    request["room_subscriptions"] = json!({"!r:x": only_create});
    let answer = patient(&mut luge, &alice, request);
    assert_eq!(required(&answer, "!r:x"), ["$r-create", "$r-join-a", "$r-levels"]);
}

/// Goal: who asks for more events gets them at once, marked as such.
#[test]
fn an_expanded_timeline_is_marked() {
    let first = [beginning("$r", &[ALICE]), vec![message("$1", BOB), message("$2", BOB)]].concat();
    let (mut luge, alice) = alice_with(joined("!r:x", &first));
    let answer = luge.ask(&alice, all_rooms(1, json!([])));
    assert_eq!(timeline(&answer, "!r:x"), ["$2"]);
    let answer = luge.ask(&alice, waiting(position(&answer), all_rooms(2, json!([]))));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$1", "$2"]);
    assert_eq!((&room["expanded_timeline"], &room["num_live"]), (&true.into(), &0.into()));
    assert_eq!((room.get("unstable_expanded_timeline"), room.get("initial")), (None, None));
}

/// Goal: a room that is joined again replaces what the client had of it.
#[test]
fn a_new_stay_replaces_the_old() {
    let (mut luge, alice) = alice_with(all([joined(
        "!r:x",
        &[beginning("$r", &[BOB, ALICE]), vec![name("$n", BOB, "Old")]].concat(),
    )]));
    let answer = luge.ask(&alice, all_rooms(1, json!([])));
    luge.sync(&alice, left("!r:x", &[member("$l", ALICE, "leave")]));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    let again = [state("$n2", "m.room.name", "", BOB, json!({})), member("$j", ALICE, "join")];
    luge.sync(&alice, joined("!r:x", &again));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["initial"], &room["membership"]), (&true.into(), &"join".into()));
    assert_eq!(room.get("name"), None, "omitted where it is initial: there is none");
}
