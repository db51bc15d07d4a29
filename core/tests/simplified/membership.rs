//! Invites, knocks, leaving, being thrown out, coming back.

use luge_core::request::Dialect;
use serde_json::{Value, json};

use crate::{
    answers::{position, required, rooms, timeline, window},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, all, at, beginning, gap, invited, joined, joined_with, left, list, made,
        member, message, name, state, waiting,
    },
};

fn me(limit: u64) -> Value {
    list(limit, json!([["m.room.member", "$ME"], ["m.room.name", ""], ["m.room.topic", ""]]))
}

/// Alice and Bob, both served, in `!r:x`.
fn together() -> (Luge, Client, Client) {
    let mut luge = Luge::new();
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.sign_in(BOB, "B"));
    let events = beginning("$r", &[ALICE, BOB]);
    luge.sync(&alice, joined("!r:x", &events));
    luge.sync(&bob, joined("!r:x", &events));
    (luge, alice, bob)
}

/// Goal: an invite shows its stripped state and nothing else.
#[test]
fn an_invite_has_stripped_state_with_the_own_member_event_last() {
    let (mut luge, alice, bob) = together();
    let carol = luge.fresh(CAROL);
    let _ = (alice, bob);
    let start = luge.ask(&carol, me(5));
    luge.sync(&carol, invited("!r:x", ALICE, CAROL));
    for request in [at(position(&start), me(5)), me(5)] {
        let initial = request.get("pos").is_none();
        let answer = luge.ask(&carol, request.clone());
        let room = &answer["rooms"]["!r:x"];
        let stripped = room["invite_state"].as_array().expect("there is stripped state");
        let last = stripped.last().expect("the own member event");
        assert_eq!((&last["type"], &last["state_key"]), (&"m.room.member".into(), &CAROL.into()));
        assert_eq!(last["content"]["membership"], "invite");
        assert_eq!(room["initial"], true);
        for absent in [
            "timeline",
            "required_state",
            "limited",
            "prev_batch",
            "num_live",
            "joined_count",
            "invited_count",
            "heroes",
            "avatar",
        ] {
            assert_eq!(room.get(absent), None, "{absent}");
        }
        assert!(room["bump_stamp"].as_u64().expect("a stamp") > 0);
        if initial {
            // A new start forgets the other connection: go on from here.
            let next = luge.ask(&carol, at(position(&answer), me(5)));
            assert_eq!(rooms(&next), [] as [&str; 0], "an invite is told of once");
            return;
        }
    }
}

/// Goal: a knock is told of like an invite.
#[test]
fn a_knock_has_its_stripped_state_under_the_same_name() {
    let mut luge = Luge::new();
    let carol = luge.fresh(CAROL);
    let start = luge.ask(&carol, me(5));
    luge.sync(&carol, json!({"rooms": {"knock": {"!k:x": {"knock_state": {"events": [
        {"type": "m.room.member", "state_key": CAROL, "sender": CAROL, "content": {"membership": "knock"}},
        {"type": "m.room.name", "state_key": "", "sender": BOB, "content": {"name": "K"}},
    ]}}}}}));
    let answer = luge.ask(&carol, at(position(&start), me(5)));
    let stripped = answer["rooms"]["!k:x"]["invite_state"].as_array().expect("stripped state");
    assert_eq!(stripped.len(), 2);
    assert_eq!(stripped[1]["content"]["membership"], "knock");
    assert_eq!(window(&answer, "all", 0), ["!k:x"]);
}

/// Goal: an invite or a knock tells the name that its stripped state has, and
/// nothing that could pass for one.
#[test]
fn an_invite_or_knock_tells_the_name_of_its_stripped_state() {
    let name = |content: Value| ("m.room.name", content);
    for (kind, (type_, content), told) in [
        ("invite", name(json!({"name": "N"})), Some("N")),
        ("knock", name(json!({"name": "N"})), Some("N")),
        ("invite", name(json!({"name": ""})), None),
        ("invite", name(json!({"name": {"deep": "N"}})), None),
        ("invite", name(json!({})), None),
        ("invite", ("m.room.canonical_alias", json!({"alias": "#n:x"})), None),
        ("invite", ("m.room.topic", json!({"topic": "N"})), None),
    ] {
        let mut luge = Luge::new();
        let carol = luge.fresh(CAROL);
        let events = json!([
            {"type": type_, "state_key": "", "sender": BOB, "content": content},
            {"type": "m.room.member", "state_key": CAROL, "sender": BOB, "content": {"membership": kind}},
        ]);
        let stripped_state = format!("{kind}_state");
        luge.sync(&carol, json!({"rooms": {kind: {"!i:x": {stripped_state: {"events": events}}}}}));
        let answer = luge.ask(&carol, me(5));
        let room = &answer["rooms"]["!i:x"];
        assert_eq!(room.get("name").and_then(Value::as_str), told, "{events}");
        assert_eq!(room["invite_state"].as_array().map(Vec::len), Some(2), "{events}");
    }
}

/// Goal: an invite that is accepted becomes a room like any other.
#[test]
fn an_accepted_invite_comes_whole() {
    let (mut luge, ..) = together();
    let carol = luge.fresh(CAROL);
    luge.sync(&carol, invited("!r:x", ALICE, CAROL));
    let answer = luge.ask(&carol, me(2));
    let events = [made("$i", ALICE, CAROL, "invite"), member("$j", CAROL, "join")];
    luge.sync(&carol, joined("!r:x", &events));
    let answer = luge.ask(&carol, at(position(&answer), me(2)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["initial"], room.get("invite_state")), (&true.into(), None));
    assert_eq!(timeline(&answer, "!r:x"), ["$i", "$j"]);
    assert_eq!(required(&answer, "!r:x"), ["$j"]);
    assert_eq!(room["joined_count"], 3);
}

/// Goal: a rejected invite ends with the own member event.
#[test]
fn a_rejected_invite_shows_the_own_leave() {
    let mut luge = Luge::new();
    let carol = luge.fresh(CAROL);
    luge.sync(&carol, invited("!i:x", BOB, CAROL));
    let answer = luge.ask(&carol, me(2));
    luge.sync(&carol, left("!i:x", &[member("$no", CAROL, "leave")]));
    let answer = luge.ask(&carol, at(position(&answer), me(2)));
    let room = &answer["rooms"]["!i:x"];
    assert_eq!(required(&answer, "!i:x"), ["$no"]);
    assert_eq!(room.get("invite_state"), None);
    assert!(timeline(&answer, "!i:x").iter().all(|event| *event == "$no"));
    let answer = luge.ask(&carol, at(position(&answer), me(2)));
    assert_eq!((rooms(&answer), &answer["lists"]["all"]["count"]), (vec![], &0.into()));
    assert_eq!(rooms(&luge.ask(&carol, me(2))), [] as [&str; 0]);
}

/// Goal: the next invite to a room whose invite was declined is an invite like
/// the first.
#[test]
fn an_invite_may_be_rejected_twice() {
    let mut luge = Luge::new();
    let carol = luge.fresh(CAROL);
    let mut answer = luge.ask(&carol, me(2));
    for no in ["$no1", "$no2"] {
        luge.sync(&carol, invited("!i:x", BOB, CAROL));
        answer = luge.ask(&carol, at(position(&answer), me(2)));
        assert!(answer["rooms"]["!i:x"]["invite_state"].is_array(), "{no}");
        assert_eq!(answer["lists"]["all"]["count"], 1, "{no}");
        luge.sync(&carol, left("!i:x", &[member(no, CAROL, "leave")]));
        answer = luge.ask(&carol, at(position(&answer), me(2)));
        assert_eq!(required(&answer, "!i:x"), [no]);
        answer = luge.ask(&carol, at(position(&answer), me(2)));
        assert_eq!((rooms(&answer), &answer["lists"]["all"]["count"]), (vec![], &0.into()), "{no}");
    }
}

/// Goal: an invite that was taken back is gone, with the own member event.
#[test]
fn a_retracted_invite_shows_who_took_it_back() {
    let mut luge = Luge::new();
    let carol = luge.fresh(CAROL);
    luge.sync(&carol, invited("!i:x", BOB, CAROL));
    let answer = luge.ask(&carol, me(2));
    luge.sync(&carol, left("!i:x", &[made("$back", BOB, CAROL, "leave")]));
    let answer = luge.ask(&carol, at(position(&answer), me(2)));
    assert_eq!(required(&answer, "!i:x"), ["$back"]);
}

/// Goal: after a kick, what came up to it and nothing later, though others are
/// still there and bring more.
#[test]
fn a_kicked_user_sees_up_to_the_kick_and_nothing_later() {
    for (membership, kind) in [("leave", "kick"), ("ban", "ban")] {
        let (mut luge, alice, bob) = together();
        let answer = luge.ask(&bob, me(5));
        luge.sync(
            &alice,
            joined(
                "!r:x",
                &[
                    message("$before", ALICE),
                    made("$out", ALICE, BOB, membership),
                    message("$secret", ALICE),
                    name("$secret-name", ALICE, "Secret"),
                ],
            ),
        );
        let answer = luge.ask(&bob, at(position(&answer), me(5)));
        assert_eq!(timeline(&answer, "!r:x"), ["$before", "$out"], "{kind}");
        assert_eq!(required(&answer, "!r:x"), ["$out"], "{kind}");
        let room = &answer["rooms"]["!r:x"];
        assert_eq!((room.get("name"), room.get("joined_count")), (None, None), "{kind}");
        luge.sync(&alice, joined("!r:x", &[message("$more", ALICE)]));
        luge.sync(
            &bob,
            left("!r:x", &[message("$before", ALICE), made("$out", ALICE, BOB, membership)]),
        );
        let next = luge.ask(&bob, at(position(&answer), me(5)));
        assert_eq!(rooms(&next), [] as [&str; 0], "{kind}: the end is told once");
        assert_eq!(window(&next, "all", 0), ["!r:x"], "{kind}");
        let anew = luge.ask(&bob, me(5));
        assert_eq!(timeline(&anew, "!r:x").last(), Some(&"$out"), "{kind}");
        assert!(!anew.to_string().contains("ecret"), "{kind}: {anew}");
    }
}

/// Goal: the state of a left room is that of the end.
#[test]
fn state_that_changes_after_the_end_is_not_shown() {
    let (mut luge, alice, bob) = together();
    luge.sync(&alice, joined("!r:x", &[name("$n1", ALICE, "Before")]));
    let answer = luge.ask(&bob, me(5));
    assert_eq!(answer["rooms"]["!r:x"]["name"], "Before");
    luge.sync(
        &alice,
        joined(
            "!r:x",
            &[
                made("$out", ALICE, BOB, "ban"),
                state("$t", "m.room.topic", "", ALICE, json!({"topic": "after"})),
            ],
        ),
    );
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(required(&answer, "!r:x"), ["$out"]);
    let anew = luge.ask(&bob, me(5));
    assert!(!required(&anew, "!r:x").contains(&"$t"));
    assert!(required(&anew, "!r:x").contains(&"$out"));
}

/// Goal: an end before the position is not told again.
#[test]
fn a_ban_from_before_the_position_has_no_entry() {
    let (mut luge, _alice, bob) = together();
    luge.sync(&bob, left("!r:x", &[made("$out", ALICE, BOB, "ban")]));
    let answer = luge.ask(&bob, me(5));
    assert_eq!(required(&answer, "!r:x"), ["$out"]);
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: leaving is told with the own member event, and releases a long poll.
#[test]
fn leaving_is_told_to_who_waits() {
    let (mut luge, _alice, bob) = together();
    let answer = luge.ask(&bob, me(5));
    let held = luge.send(&bob, waiting(position(&answer), me(5)));
    assert_eq!(luge.answered(held), None);
    luge.sync(&bob, left("!r:x", &[member("$bye", BOB, "leave")]));
    let answer = luge.body(held);
    assert_eq!(required(&answer, "!r:x"), ["$bye"]);
    assert_eq!(timeline(&answer, "!r:x"), ["$bye"]);
}

/// Goal: another stay is another room: whole, and only what is of this stay.
#[test]
fn a_room_that_is_joined_again_comes_whole() {
    let (mut luge, alice, bob) = together();
    let answer = luge.ask(&bob, me(9));
    luge.sync(&bob, left("!r:x", &[member("$bye", BOB, "leave")]));
    let answer = luge.ask(&bob, at(position(&answer), me(9)));
    luge.sync(
        &alice,
        joined("!r:x", &[member("$bye", BOB, "leave"), message("$while-away", ALICE)]),
    );
    let back = json!({"timeline": {"limited": true, "prev_batch": "p"}, "state": {"events": beginning("$r", &[ALICE])}});
    luge.sync(&bob, joined_with("!r:x", &[member("$again", BOB, "join")], back));
    let answer = luge.ask(&bob, at(position(&answer), me(9)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["initial"], &room["limited"]), (&true.into(), &true.into()));
    assert_eq!(timeline(&answer, "!r:x"), ["$again"]);
    assert_eq!(required(&answer, "!r:x"), ["$again"]);
    assert_eq!(room["joined_count"], 2);
}

/// Goal: what another user's poller brought from before is not shown.
#[test]
fn history_that_only_others_were_given_is_not_shown() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let bob = luge.fresh(BOB);
    luge.sync(
        &alice,
        joined("!r:x", &[beginning("$r", &[ALICE]), vec![message("$private", ALICE)]].concat()),
    );
    luge.sync(&alice, joined("!r:x", &[member("$join", BOB, "join"), message("$hi", ALICE)]));
    let from_join = json!({
        "timeline": {"limited": true, "prev_batch": "p"},
        "state": {"events": beginning("$r", &[ALICE])},
    });
    luge.sync(
        &bob,
        joined_with("!r:x", &[member("$join", BOB, "join"), message("$hi", ALICE)], from_join),
    );
    let answer = luge.ask(&bob, me(50));
    assert_eq!(timeline(&answer, "!r:x"), ["$join", "$hi"]);
    assert_eq!(answer["rooms"]["!r:x"]["limited"], true);
}

/// Goal: a ban of somebody who was never there is not shown.
#[test]
fn a_ban_of_a_stranger_is_not_shown() {
    let (mut luge, alice, _bob) = together();
    let carol = luge.fresh(CAROL);
    luge.sync(&alice, joined("!r:x", &[made("$ban", ALICE, CAROL, "ban")]));
    luge.sync(&carol, left("!r:x", &[made("$ban", ALICE, CAROL, "ban")]));
    let answer = luge.ask(&carol, me(5));
    assert_eq!((rooms(&answer), &answer["lists"]["all"]["count"]), (vec![], &0.into()));
}

/// Goal: a forgotten room is gone, and may come back.
#[test]
fn a_forgotten_room_is_gone_until_it_is_joined_again() {
    let (mut luge, _alice, bob) = together();
    luge.sync(&bob, left("!r:x", &[made("$kick", ALICE, BOB, "leave")]));
    let answer = luge.ask(&bob, me(5));
    assert_eq!(window(&answer, "all", 0), ["!r:x"]);
    luge.forget(&bob, "!r:x");
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(answer["lists"]["all"]["count"], 0);
    luge.sync(&bob, joined("!r:x", &[member("$again", BOB, "join")]));
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(window(&answer, "all", 0), ["!r:x"]);
    assert_eq!(answer["rooms"]["!r:x"]["initial"], true);
}

/// Goal: somebody may be invited again to a room that they forgot.
#[test]
fn a_forgotten_room_is_back_with_an_invite() {
    let (mut luge, _alice, bob) = together();
    luge.sync(&bob, left("!r:x", &[made("$kick", ALICE, BOB, "leave")]));
    luge.forget(&bob, "!r:x");
    let answer = luge.ask(&bob, me(5));
    assert_eq!(answer["lists"]["all"]["count"], 0);
    luge.sync(&bob, invited("!r:x", ALICE, BOB));
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(window(&answer, "all", 0), ["!r:x"]);
    assert!(answer["rooms"]["!r:x"]["invite_state"].is_array());
}

/// Goal: a profile change is no new stay.
#[test]
fn a_change_of_profile_is_an_update_not_a_new_room() {
    let (mut luge, alice, bob) = together();
    let answer = luge.ask(&bob, me(5));
    let mut profile = member("$profile", BOB, "join");
    profile["content"]["displayname"] = "Bobby".into();
    luge.sync(&alice, joined("!r:x", &[profile]));
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((room.get("initial"), room.get("joined_count")), (None, None));
    assert_eq!(required(&answer, "!r:x"), ["$profile"]);
}

/// Goal: several rooms at once are not mixed up.
#[test]
fn several_changes_at_once_each_reach_their_room() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(
        &alice,
        all([
            joined("!a:x", &beginning("$a", &[ALICE, BOB])),
            joined("!b:x", &beginning("$b", &[ALICE, BOB])),
        ]),
    );
    let answer = luge.ask(&alice, me(5));
    luge.sync(
        &alice,
        all([
            joined("!a:x", &[message("$ma", BOB)]),
            left("!b:x", &[member("$bye", ALICE, "leave")]),
            invited("!c:x", BOB, ALICE),
        ]),
    );
    let answer = luge.ask(&alice, at(position(&answer), me(5)));
    assert_eq!(timeline(&answer, "!a:x"), ["$ma"]);
    assert_eq!(timeline(&answer, "!b:x"), ["$bye"]);
    assert!(answer["rooms"]["!c:x"]["invite_state"].is_array());
}

/// Goal: who came back and left again in one gap is told of that end too, where
/// the timeline has neither.
#[test]
fn a_second_end_in_a_gap_is_told_like_the_first() {
    let (mut luge, _alice, bob) = together();
    let leave = |id: &str, at_ms: u64| {
        let mut leave = member(id, BOB, "leave");
        leave["unsigned"] = json!({"prev_content": {"membership": "join"}});
        leave["origin_server_ts"] = at_ms.into();
        leave
    };
    let answer = luge.ask(&bob, me(5));
    luge.sync(&bob, left("!r:x", &[leave("$first", 2_000_000_000_001)]));
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(timeline(&answer, "!r:x").last(), Some(&"$first"));
    luge.sync(&bob, left("!r:x", &[leave("$second", 2_000_000_000_002)]));
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(timeline(&answer, "!r:x"), ["$second"]);
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(rooms(&answer), [] as [&str; 0], "an end is told once");
}

/// Goal: an end that was told is told no more, and lists are without it, whatever else
/// becomes known of it.
#[test]
fn an_end_of_which_more_becomes_known_stays_told() {
    let (mut luge, alice, bob) = together();
    let wanted = || {
        let mut wanted = me(5);
        let config = json!({"timeline_limit": 5, "required_state": []});
        wanted["room_subscriptions"] = json!({"!r:x": config});
        wanted
    };
    let answer = luge.ask(&bob, wanted());
    let bye = || {
        let mut bye = member("$bye", BOB, "leave");
        bye["origin_server_ts"] = 2_000_000_000_000_u64.into();
        bye
    };
    luge.sync(&alice, gap("!r:x", &[bye()], &[message("$later", ALICE)], "p"));
    let answer = luge.ask(&bob, at(position(&answer), wanted()));
    assert_eq!(required(&answer, "!r:x"), ["$bye"]);
    luge.sync(&bob, left("!r:x", &[message("$last", ALICE), bye()]));
    let mut pos = position(&answer).to_owned();
    for _ in 0..2 {
        let answer = luge.ask(&bob, at(&pos, wanted()));
        assert_eq!((rooms(&answer).len(), &answer["lists"]["all"]["count"]), (0, &0.into()));
        position(&answer).clone_into(&mut pos);
    }
}

/// Goal: where a ban that was told is taken back, its last events are told with that and
/// are no news, also where others were told of them only after who was banned.
#[test]
fn the_last_events_of_a_ban_are_no_news_when_it_is_taken_back() {
    let (mut luge, alice, bob) = together();
    let changed = |id: &str, before: &str, after: &str, ts: u64| {
        let mut event = made(id, ALICE, BOB, after);
        event["unsigned"] = json!({"prev_content": {"membership": before}});
        event["origin_server_ts"] = ts.into();
        event
    };
    let mut last = message("$last", ALICE);
    last["origin_server_ts"] = 2_000_000_000_000_u64.into();
    let ban = changed("$ban", "join", "ban", 2_000_000_000_001);
    let answer = luge.ask(&bob, me(5));
    luge.sync(&alice, gap("!r:x", &[], &[message("$later", ALICE)], "p"));
    luge.sync(&bob, left("!r:x", &[last.clone(), ban.clone()]));
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(timeline(&answer, "!r:x"), ["$last", "$ban"]);
    assert_eq!(answer["rooms"]["!r:x"]["num_live"], 2);
    // They become part of what others see.
    luge.sync(&alice, gap("!r:x", &[], &[last, ban], "q"));
    luge.sync(&bob, left("!r:x", &[changed("$unban", "ban", "leave", 2_000_000_000_002)]));
    let answer = luge.ask(&bob, at(position(&answer), me(5)));
    assert_eq!(required(&answer, "!r:x"), ["$unban"]);
    assert_eq!(timeline(&answer, "!r:x"), ["$last", "$ban"]);
    assert_eq!(answer["rooms"]["!r:x"]["num_live"], 0);
}

/// Goal: more state that is asked for of a room that was left comes at once, alone and
/// once, as it was at the end; what of it the client has does not.
#[test]
fn more_state_of_a_room_that_was_left_comes_at_once_as_of_the_end() {
    for dialect in [Dialect::Simplified, Dialect::V4] {
        let (mut luge, alice, bob) = together();
        luge.speak(dialect);
        let wanted = |kinds: &[&str], limit: u64| {
            let pairs: Vec<_> = kinds.iter().map(|kind| json!([kind, ""])).collect();
            let patterns: Vec<_> =
                kinds.iter().map(|kind| json!({"type": kind, "state_key": ""})).collect();
            let state = if dialect == Dialect::V4 {
                json!({"include": patterns, "lazy_members": false})
            } else {
                pairs.into()
            };
            let config = json!({"timeline_limit": limit, "required_state": state});
            json!({"room_subscriptions": {"!r:x": config}})
        };
        let topic = |id: &str| state(id, "m.room.topic", "", ALICE, json!({"topic": id}));
        luge.sync(&alice, joined("!r:x", &[topic("$early"), message("$m1", ALICE)]));
        let answer = luge.ask(&bob, wanted(&[], 1));
        // The end lies beside the timeline.
        let mut end = left("!r:x", &[made("$kick", ALICE, BOB, "leave")]);
        end["rooms"]["leave"]["!r:x"]["timeline"]["limited"] = true.into();
        luge.sync(&bob, end);
        let answer = luge.ask(&bob, at(position(&answer), wanted(&[], 1)));
        assert_eq!(timeline(&answer, "!r:x"), ["$kick"], "{dialect:?}");
        let mut pos = position(&answer).to_owned();
        for (kinds, told) in [
            (&["m.room.create"][..], &["$kick", "$r-create"][..]),
            (&["m.room.create"], &[]),
            (&["m.room.create", "m.room.topic"], &["$early", "$kick"]),
            (&["m.room.create", "m.room.topic", "m.room.name"], &[]),
            (&["m.room.create", "m.room.topic", "m.room.avatar"], &[]),
        ] {
            if kinds.contains(&"m.room.name") {
                luge.sync(&alice, joined("!r:x", &[name("$late", ALICE, "later")]));
            }
            let answer = luge.ask(&bob, at(&pos, wanted(kinds, 1)));
            let room = &answer["rooms"]["!r:x"];
            if told.is_empty() {
                assert!(room.is_null(), "{dialect:?}: {room}");
            } else {
                assert_eq!(required(&answer, "!r:x"), told, "{dialect:?}");
                assert_eq!(timeline(&answer, "!r:x"), [] as [&str; 0], "{dialect:?}: {room}");
                assert_eq!(room.get("initial"), None, "{dialect:?}");
            }
            position(&answer).clone_into(&mut pos);
        }
    }
}
