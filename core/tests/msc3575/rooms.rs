//! Entries: computed names, timestamps, unread counts, and what comes to who
//! asks for more.

use serde_json::{Value, json};

use crate::{
    after, alice_with,
    answers::{position, required, rooms, timeline},
    events::{
        ALICE, BOB, CAROL, all, beginning, invited, joined, joined_with, made, member, message,
        name, state, waiting,
    },
    list,
};

fn top(limit: u64, more: Value) -> Value {
    let mut wanted = json!({"ranges": [[0, 9]], "timeline_limit": limit});
    crate::events::merge(&mut wanted, more);
    list("l", wanted)
}

fn summary(heroes: &[&str], joined: u64) -> Value {
    json!({"summary": {
        "m.heroes": heroes, "m.joined_member_count": joined, "m.invited_member_count": 0,
    }})
}

/// Goal: a room without a name is named after its members, and heroes are for
/// who asks for them.
#[test]
fn names_are_computed() {
    let (mut luge, alice) = alice_with(joined_with(
        "!r:x",
        &beginning("$r", &[ALICE, BOB, CAROL]),
        summary(&[BOB, CAROL], 3),
    ));
    let answer = luge.ask(&alice, top(1, json!({})));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["name"], &room["avatar"]), (&"b and c".into(), &Value::Null));
    assert_eq!(room.get("heroes"), None, "not asked for");
    let with_heroes = luge.ask(&alice, top(1, json!({"include_heroes": true})));
    let heroes = with_heroes["rooms"]["!r:x"]["heroes"].as_array().expect("heroes");
    assert_eq!((heroes.len(), &heroes[0]["user_id"]), (2, &BOB.into()));

    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, after(&with_heroes, json!({})));
    assert_eq!(answer["rooms"]["!r:x"].get("name"), None, "unchanged");
    let alias = json!({"alias": "#room:x"});
    luge.sync(&alice, joined("!r:x", &[state("$a", "m.room.canonical_alias", "", ALICE, alias)]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["rooms"]["!r:x"]["name"], "#room:x");
    luge.sync(&alice, joined("!r:x", &[name("$n", ALICE, "Named")]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["rooms"]["!r:x"]["name"], "Named");
    let nameless = state("$n2", "m.room.name", "", ALICE, json!({"name": {}}));
    luge.sync(&alice, joined("!r:x", &[nameless]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["rooms"]["!r:x"]["name"], "#room:x", "a name of another type is none");
}

/// Goal: a restart changes no name.
#[test]
fn names_survive_a_restart() {
    let (mut luge, alice) = alice_with(joined_with(
        "!r:x",
        &beginning("$r", &[ALICE, BOB, CAROL]),
        summary(&[CAROL, BOB], 3),
    ));
    let answer = luge.ask(&alice, top(1, json!({})));
    assert_eq!(answer["rooms"]["!r:x"]["name"], "c and b");
    luge.restart();
    let answer = luge.ask(&alice, top(1, json!({})));
    assert_eq!(answer["rooms"]["!r:x"]["name"], "c and b");
}

/// Goal: a direct chat has the avatar of who it is with, where it has none of
/// its own.
#[test]
fn a_direct_chat_shows_its_partner() {
    let mut events = beginning("$r", &[ALICE, BOB]);
    events[3]["content"]["avatar_url"] = "mxc://x/bob".into();
    let direct =
        json!({"account_data": {"events": [{"type": "m.direct", "content": {BOB: ["!r:x"]}}]}});
    let (mut luge, alice) =
        alice_with(all([joined_with("!r:x", &events, summary(&[BOB], 2)), direct]));
    let answer = luge.ask(&alice, top(1, json!({})));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["name"], &room["avatar"]), (&"b".into(), &"mxc://x/bob".into()));
    assert_eq!(room["is_dm"], true);
    let own = state("$a", "m.room.avatar", "", ALICE, json!({"url": "mxc://x/room"}));
    luge.sync(&alice, joined("!r:x", &[own]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["rooms"]["!r:x"]["avatar"], "mxc://x/room");
}

/// Goal: an invite shows what its stripped state says, and asks for attention.
#[test]
fn an_invite_is_named_by_its_stripped_state() {
    let (mut luge, alice) = alice_with(invited("!i:x", BOB, ALICE));
    let answer = luge.ask(&alice, top(5, json!({"required_state": [["m.room.create", ""]]})));
    let room = &answer["rooms"]["!i:x"];
    assert_eq!((&room["name"], &room["avatar"]), (&"Invited".into(), &Value::Null));
    assert_eq!((&room["joined_count"], &room["invited_count"]), (&1.into(), &1.into()));
    assert_eq!((&room["notification_count"], &room["highlight_count"]), (&0.into(), &1.into()));
    assert!(room["invite_state"].is_array() && room["timestamp"].is_u64());
    assert_eq!((room.get("timeline"), room.get("required_state")), (None, None));
    luge.sync(&alice, joined("!i:x", &[member("$j", ALICE, "join")]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["rooms"]["!i:x"]["initial"], true);
    assert_eq!(answer["rooms"]["!i:x"].get("invite_state"), None);
}

/// Goal: unread counts are in every entry, and any change of them, of whichever
/// room that the client has, wakes.
#[test]
fn unread_counts_wake_and_are_always_there() {
    let room = |id: &str| joined(&format!("!{id}:x"), &beginning(&format!("${id}"), &[ALICE, BOB]));
    let unread = |room: &str, notifications: u64| {
        let counts = json!({"notification_count": notifications, "highlight_count": 0});
        joined_with(room, &[], json!({"unread_notifications": counts}))
    };
    let (mut luge, alice) = alice_with(all([room("1"), room("2"), room("3")]));
    let answer = luge.ask(&alice, top(1, json!({})));
    assert_eq!(answer["rooms"]["!1:x"]["notification_count"], 0);
    // From here on the window has one room.
    let narrow = list("l", json!({"ranges": [[0, 0]]}));
    let answer = luge.ask(&alice, after(&answer, narrow));
    let ticket = luge.send(&alice, waiting(position(&answer), json!({})));
    luge.sync(&alice, unread("!1:x", 2));
    let answer = luge.body(ticket);
    let expected = json!({"!1:x": {"notification_count": 2, "highlight_count": 0}});
    assert_eq!(answer["rooms"], expected, "of a room in no window, the counts alone");
    luge.sync(&alice, unread("!1:x", 0));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(answer["rooms"]["!1:x"]["notification_count"], 0);
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(rooms(&answer), [] as [&str; 0], "once");
}

/// Goal: a larger `timeline_limit` brings the timeline alone, as new; more
/// state brings the state alone.
#[test]
fn asking_for_more_brings_that_alone() {
    let messages = (1..6).map(|at| message(&format!("${at}"), BOB));
    let events = beginning("$r", &[ALICE, BOB]).into_iter().chain(messages);
    let (mut luge, alice) = alice_with(joined("!r:x", &events.collect::<Vec<_>>()));
    let state = json!({"required_state": [["m.room.create", ""]]});
    let answer = luge.ask(&alice, top(1, state));
    assert_eq!(timeline(&answer, "!r:x"), ["$5"]);
    let answer = luge.ask(&alice, after(&answer, list("l", json!({"timeline_limit": 3}))));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$3", "$4", "$5"]);
    assert_eq!((&room["initial"], &room["num_live"]), (&true.into(), &0.into()));
    assert_eq!((room.get("required_state"), room.get("name")), (None, None));
    assert_eq!(crate::operations(&answer, "l"), json!([]));
    let more = json!({"required_state": [["m.room.create", ""], ["m.room.power_levels", ""]]});
    let answer = luge.ask(&alice, after(&answer, list("l", more)));
    assert_eq!(answer["rooms"]["!r:x"]["initial"], true);
    assert_eq!(required(&answer, "!r:x"), ["$r-create", "$r-levels"]);
    assert_eq!(timeline(&answer, "!r:x"), [] as [&str; 0]);
    let less = list("l", json!({"timeline_limit": 1, "required_state": []}));
    let answer = luge.ask(&alice, after(&answer, less));
    assert_eq!(rooms(&answer), [] as [&str; 0], "less is nothing to tell");
}

/// Goal: state that changes is sent as state, and not in the timeline alone.
#[test]
fn changed_state_is_sent_live() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    let wanted = json!({"required_state": [["m.room.topic", ""]]});
    let answer = luge.ask(&alice, top(1, wanted));
    let topic = state("$t", "m.room.topic", "", ALICE, json!({"topic": "T"}));
    luge.sync(&alice, joined("!r:x", &[topic, message("$m", BOB)]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!((timeline(&answer, "!r:x"), required(&answer, "!r:x")), (vec!["$m"], vec!["$t"]));
    assert_eq!(answer["rooms"]["!r:x"]["limited"], true, "a gap is told");
}

/// Goal: beside all state, pairs say which of their type.
#[test]
fn pairs_filter_all_state() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[ALICE, BOB, CAROL])));
    let wanted = json!({"required_state": [["*", "*"], ["m.room.member", "$ME"]]});
    let answer = luge.ask(&alice, top(1, wanted));
    assert_eq!(required(&answer, "!r:x"), ["$r-create", "$r-join-a", "$r-levels"]);
}

/// Goal: a type, a state key or both may be `*`, and `$ME` is the user under any
/// type.
#[test]
fn patterns_select_state() {
    let more = [
        name("$n", ALICE, "N"),
        state("$w1", "org.widget", "1", ALICE, json!({})),
        state("$v1", "org.other", "1", ALICE, json!({})),
        state("$w2", "org.widget", "2", ALICE, json!({})),
        state("$mine", "org.mine", ALICE, ALICE, json!({})),
        state("$bobs", "org.mine", BOB, BOB, json!({})),
        message("$m", BOB),
    ];
    let events = [&beginning("$r", &[ALICE, BOB])[..], &more].concat();
    let (mut luge, alice) = alice_with(joined("!r:x", &events));
    for (asked, expected) in [
        (json!([]), vec![]),
        (json!([["*", "1"]]), vec!["$v1", "$w1"]),
        (json!([["*", ""]]), vec!["$n", "$r-create", "$r-levels"]),
        (json!([["*", "$ME"]]), vec!["$mine", "$r-join-a"]),
        (json!([["org.mine", "$ME"]]), vec!["$mine"]),
        (json!([["org.mine", "*"]]), vec!["$bobs", "$mine"]),
        (json!([["org.widget", "*"], ["*", "1"]]), vec!["$v1", "$w1", "$w2"]),
        (
            json!([["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]),
            vec!["$r-join-a", "$r-join-b"],
        ),
        (json!([["org.mine", "$LAZY"]]), vec![]),
        (
            json!([
                ["*", "*"],
                ["org.widget", "1"],
                ["m.room.member", "$LAZY"],
                ["org.mine", "$ME"]
            ]),
            vec!["$mine", "$n", "$r-create", "$r-join-b", "$r-levels", "$v1", "$w1"],
        ),
    ] {
        let answer = luge.ask(&alice, top(1, json!({"required_state": asked})));
        assert_eq!(required(&answer, "!r:x"), expected, "{asked}");
    }
}

/// Goal: a ban ends the room for the banned, with nothing from behind it.
#[test]
fn a_banned_user_sees_up_to_the_ban() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[BOB, ALICE])));
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &beginning("$r", &[BOB, ALICE])));
    let answer = luge.ask(&alice, top(5, json!({})));
    luge.sync(&bob, joined("!r:x", &[made("$ban", BOB, ALICE, "ban"), message("$secret", BOB)]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(timeline(&answer, "!r:x"), ["$ban"]);
    assert_eq!(answer["lists"]["l"]["count"], 0);
    luge.sync(&bob, joined("!r:x", &[message("$more", BOB), name("$n", BOB, "Secret")]));
    let subscribe = json!({"room_subscriptions": {"!r:x": {
        "timeline_limit": 9, "required_state": [["*", "*"]],
    }}});
    let answer = luge.ask(&alice, after(&answer, subscribe));
    assert!(!answer.to_string().contains("ecret"), "{answer}");
}
