//! What an entry says of the room itself: name, avatar, heroes, counts, flags.

use serde_json::{Value, json};

use crate::{
    answers::{position, rooms, timeline},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, all, at, beginning, event, invited, joined, joined_with, left, list,
        made, member, message, name, state, waiting,
    },
};

fn request() -> Value {
    list(1, json!([]))
}

fn avatar(id: &str, content: Value) -> Value {
    state(id, "m.room.avatar", "", ALICE, content)
}

fn with(events: Vec<Value>) -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, joined("!r:x", &[beginning("$r", &[ALICE, BOB]), events].concat()));
    (luge, alice)
}

/// Goal: name, avatar and counts come with the room, then when they change.
#[test]
fn meta_comes_first_and_then_when_it_changes() {
    let (mut luge, alice) =
        with(vec![name("$n", ALICE, "N"), avatar("$a", json!({"url": "mxc://x/1"}))]);
    let answer = luge.ask(&alice, request());
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["name"], &room["avatar"]), (&"N".into(), &"mxc://x/1".into()));
    assert_eq!((&room["joined_count"], &room["invited_count"]), (&2.into(), &0.into()));
    assert_eq!(room.get("is_dm"), None);
    assert_eq!(room.get("heroes"), None, "a name needs no heroes");

    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    for absent in ["name", "avatar", "joined_count", "invited_count", "heroes", "initial", "is_dm"]
    {
        assert_eq!(answer["rooms"]["!r:x"].get(absent), None, "{absent}");
    }

    luge.sync(
        &alice,
        joined(
            "!r:x",
            &[
                name("$n2", ALICE, "N2"),
                avatar("$a2", json!({"url": "mxc://x/2"})),
                made("$i", ALICE, CAROL, "invite"),
            ],
        ),
    );
    let answer = luge.ask(&alice, at(position(&answer), request()));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["name"], &room["avatar"]), (&"N2".into(), &"mxc://x/2".into()));
    assert_eq!(room["invited_count"], 1);

    luge.sync(&alice, joined("!r:x", &[avatar("$a3", json!({}))]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(answer["rooms"]["!r:x"].get("avatar"), Some(&Value::Null), "it was removed");
}

/// Goal: heroes name a room without a name: others, five at most.
#[test]
fn heroes_are_others_and_five_at_most() {
    let members = ["@a:x", "@b:x", "@c:x", "@d:x", "@e:x", "@f:x", "@g:x"];
    let mut luge = Luge::new();
    let alice = luge.sign_in("@a:x", "A");
    luge.sync(&alice, joined("!r:x", &beginning("$r", &members)));
    let answer = luge.ask(&alice, request());
    let heroes = answer["rooms"]["!r:x"]["heroes"].as_array().expect("there are heroes");
    let ids: Vec<_> = heroes.iter().filter_map(|hero| hero["user_id"].as_str()).collect();
    assert_eq!(ids.len(), 5);
    assert!(!ids.contains(&"@a:x"));
    assert!(heroes.iter().all(|hero| hero["displayname"].is_string()));
    assert_eq!(answer["rooms"]["!r:x"].get("name"), None);
}

/// Goal: heroes come again when members change, not otherwise.
#[test]
fn heroes_come_again_when_members_change() {
    let (mut luge, alice) = with(vec![]);
    let answer = luge.ask(&alice, request());
    assert_eq!(answer["rooms"]["!r:x"]["heroes"][0]["user_id"], BOB);
    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(answer["rooms"]["!r:x"].get("heroes"), None);
    luge.sync(&alice, joined("!r:x", &[member("$c", CAROL, "join")]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(room["heroes"].as_array().map(Vec::len), Some(2));
    assert_eq!(room["joined_count"], 3);
}

/// Goal: what is not a string does not reach a client.
#[test]
fn values_of_the_wrong_type_count_as_absent() {
    for bad in [json!(5), json!({}), json!(""), json!(null), json!(["x"])] {
        let mut bob = member("$bob2", BOB, "join");
        bob["content"]["displayname"] = bad.clone();
        bob["content"]["avatar_url"] = bad.clone();
        let (mut luge, alice) = with(vec![
            state("$n", "m.room.name", "", ALICE, json!({"name": bad})),
            avatar("$a", json!({"url": bad})),
            bob,
        ]);
        let answer = luge.ask(&alice, request());
        let room = &answer["rooms"]["!r:x"];
        assert_eq!((room.get("name"), room.get("avatar")), (None, None), "{bad}");
        assert_eq!(room["heroes"][0]["user_id"], BOB, "{bad}");
        if !bad.is_string() {
            assert_eq!(room["heroes"], json!([{"user_id": BOB}]), "{bad}");
        }
    }
}

/// Goal: direct chats are marked, joined or invited.
#[test]
fn direct_chats_are_marked_in_every_entry() {
    let direct = json!({"type": "m.direct", "content": {BOB: ["!r:x", "!i:x"]}});
    let (mut luge, alice) = with(vec![]);
    luge.sync(
        &alice,
        all([
            json!({"account_data": {"events": [direct]}}),
            invited("!i:x", BOB, ALICE),
            joined("!other:x", &beginning("$o", &[ALICE])),
        ]),
    );
    let answer = luge.ask(&alice, request());
    assert_eq!(answer["rooms"]["!r:x"]["is_dm"], true);
    assert_eq!(answer["rooms"]["!i:x"]["is_dm"], true);
    assert_eq!(answer["rooms"]["!other:x"].get("is_dm"), None);
    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(answer["rooms"]["!r:x"]["is_dm"], true);
}

/// Goal: the stamp follows bump events alone, the order every event.
#[test]
fn only_bump_events_move_the_stamp() {
    let (mut luge, alice) = with(vec![message("$m1", BOB)]);
    luge.sync(&alice, joined("!z:x", &beginning("$z", &[ALICE])));
    let stamp = |answer: &Value| answer["rooms"]["!r:x"]["bump_stamp"].as_u64();
    let answer = luge.ask(&alice, request());
    let first = stamp(&answer).expect("a new room has a stamp");
    luge.wait(1_000);
    luge.sync(&alice, joined("!r:x", &[name("$n", ALICE, "N")]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!((rooms(&answer), stamp(&answer)), (vec!["!r:x"], None));
    luge.wait(1_000);
    luge.sync(&alice, joined("!r:x", &[message("$m2", BOB), name("$n2", ALICE, "N2")]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(timeline(&answer, "!r:x"), ["$n2"], "the bump itself is beyond the limit");
    assert!(stamp(&answer).expect("it moved") > first);
    for (at_ms, kind) in
        ["m.room.encrypted", "m.sticker", "m.call.invite", "org.matrix.msc3381.poll.start"]
            .iter()
            .enumerate()
    {
        luge.wait(1_000);
        luge.sync(&alice, joined("!r:x", &[event(&format!("$k{at_ms}"), kind, BOB, json!({}))]));
    }
    let again = luge.ask(&alice, at(position(&answer), request()));
    assert!(stamp(&again).expect("it moved") > stamp(&answer).expect("it moved") + 3_000);
    luge.wait(1_000);
    luge.sync(&alice, joined("!r:x", &[event("$reaction", "m.reaction", BOB, json!({}))]));
    let answer = luge.ask(&alice, at(position(&again), request()));
    assert_eq!((rooms(&answer), stamp(&answer)), (vec!["!r:x"], None));
}

/// Goal: where no bump event is known there is a stamp all the same: that of the
/// oldest event known.
#[test]
fn a_room_without_bump_events_has_a_stamp() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let mut oldest = name("$n1", BOB, "One");
    oldest["origin_server_ts"] = 1_500_000_000_000_u64.into();
    let events = [oldest, name("$n2", BOB, "Two")];
    let before = json!({
        "timeline": {"limited": true, "prev_batch": "p"},
        "state": {"events": [member("$join", ALICE, "join")]},
    });
    luge.sync(&alice, joined_with("!r:x", &events, before));
    let answer = luge.ask(&alice, request());
    assert_eq!(answer["rooms"]["!r:x"]["bump_stamp"], 1_500_000_000_000_u64);
}

/// Goal: an invite's stamp is its own, whatever goes on in the room.
#[test]
fn an_invite_is_not_moved_by_what_the_invited_cannot_see() {
    let (mut luge, alice) = with(vec![]);
    let carol = luge.fresh(CAROL);
    luge.sync(&carol, invited("!r:x", ALICE, CAROL));
    let answer = luge.ask(&carol, request());
    let stamp = answer["rooms"]["!r:x"]["bump_stamp"].clone();
    luge.wait(60_000);
    luge.sync(&alice, joined("!r:x", &[made("$i", ALICE, CAROL, "invite"), message("$m", ALICE)]));
    let held = luge.send(&carol, waiting(position(&answer), request()));
    assert_eq!(luge.answered(held), None, "nothing of it concerns the invited");
    luge.abandon(held);
    let anew = luge.ask(&carol, request());
    assert_eq!(anew["rooms"]["!r:x"]["bump_stamp"], stamp);
}

/// Goal: nothing of a room's present reaches who was banned before.
#[test]
fn a_banned_user_gets_no_counts_and_no_heroes() {
    let (mut luge, alice) = with(vec![]);
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    luge.sync(&bob, left("!r:x", &[made("$ban", ALICE, BOB, "ban")]));
    luge.sync(
        &alice,
        joined(
            "!r:x",
            &[
                made("$ban", ALICE, BOB, "ban"),
                member("$carol", CAROL, "join"),
                name("$n", ALICE, "New"),
            ],
        ),
    );
    let answer = luge.ask(&bob, request());
    for absent in ["joined_count", "invited_count", "heroes", "name", "notification_count"] {
        assert_eq!(answer["rooms"]["!r:x"].get(absent), None, "{absent}");
    }
}

/// Goal: unread counts are the homeserver's, and no reason to wake anybody.
#[test]
fn unread_counts_come_with_an_entry() {
    let (mut luge, alice) = with(vec![]);
    let counts = |n: u64, h: u64| json!({"unread_notifications": {"notification_count": n, "highlight_count": h}});
    luge.sync(&alice, joined_with("!r:x", &[message("$m", BOB)], counts(3, 1)));
    let answer = luge.ask(&alice, request());
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["notification_count"], &room["highlight_count"]), (&3.into(), &1.into()));
    let held = luge.send(&alice, waiting(position(&answer), request()));
    luge.sync(&alice, joined_with("!r:x", &[], counts(0, 0)));
    assert_eq!(luge.answered(held), None);
    luge.sync(&alice, joined("!r:x", &[message("$m2", BOB)]));
    let answer = luge.body(held);
    assert_eq!(answer["rooms"]["!r:x"]["notification_count"], 0);
}

/// Goal: the homeserver's summary is believed over what was counted.
#[test]
fn counts_follow_the_summary_and_then_the_members() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let summary = json!({"summary": {
        "m.heroes": [BOB], "m.joined_member_count": 70, "m.invited_member_count": 3,
    }});
    luge.sync(&alice, joined_with("!r:x", &beginning("$r", &[ALICE, BOB]), summary));
    let answer = luge.ask(&alice, request());
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["joined_count"], &room["invited_count"]), (&70.into(), &3.into()));
    luge.sync(&alice, joined("!r:x", &[member("$c", CAROL, "join")]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(answer["rooms"]["!r:x"]["joined_count"], 71);
}
