//! State that the homeserver changed or took away without an event: it is
//! noticed, and connections are told.

use serde_json::{Value, json};

use crate::{
    answers::{position, required, rooms, timeline},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, at, beginning, gap, joined, joined_with, left, list, made, member, message,
        name, state, waiting,
    },
};
use luge_core::{
    connection::{AnswerLimits, Want},
    ledger::LedgerLimits,
    request::Dialect,
    shard::ShardLimits,
};

const MIDDLE_MS: u64 = 2_000;

/// A room with a name and a topic.
fn first_events() -> Vec<Value> {
    let topic = state("$t", "m.room.topic", "", ALICE, json!({"topic": "T"}));
    [beginning("$r", &[ALICE, BOB]), vec![name("$n", ALICE, "N"), topic]].concat()
}

fn room() -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, joined("!r:x", &first_events()));
    // Her shard knows her from now on.
    luge.ask(&alice, json!({"lists": {}}));
    (luge, alice)
}

fn everything() -> Value {
    list(5, json!([["*", "*"], ["m.room.member", "$LAZY"]]))
}

/// Takes in a gap, and answers what is asked of the homeserver then.
fn reset(luge: &mut Luge, client: &Client, state: &[Value]) {
    luge.sync(client, gap("!r:x", &[], &[message("$after", BOB)], "p"));
    luge.wait(MIDDLE_MS);
    luge.give_state(state);
}

fn without(events: &[Value], ids: &[&str]) -> Vec<Value> {
    let is_kept = |event: &&Value| !ids.contains(&event["event_id"].as_str().unwrap_or_default());
    events.iter().filter(is_kept).cloned().collect()
}

fn orders(luge: &Luge) -> usize {
    luge.fetches.iter().filter(|order| matches!(order.want, Want::State(_))).count()
}

/// Goal: an entry that a gap hid the end of is gone, and the room is sent
/// whole, once, also to who lost the answer, and after a restart.
#[test]
fn a_removed_entry_has_the_room_sent_again_as_new() {
    let (mut luge, alice) = room();
    let first = luge.ask(&alice, everything());
    luge.sync(&alice, gap("!r:x", &[], &[message("$after", BOB)], "p"));
    let told = luge.ask(&alice, at(position(&first), everything()));
    assert_eq!(told["rooms"]["!r:x"].get("initial"), None);
    let held = luge.send(&alice, waiting(position(&told), everything()));
    luge.wait(MIDDLE_MS);
    luge.give_state(&without(&first_events(), &["$t"]));
    let answer = luge.body(held);
    for _ in 0..2 {
        assert_eq!(answer["rooms"]["!r:x"]["initial"], true);
        assert_eq!(required(&answer, "!r:x"), ["$n", "$r-create", "$r-join-b", "$r-levels"]);
        assert_eq!(timeline(&answer, "!r:x"), ["$after"]);
        assert_eq!(answer["rooms"]["!r:x"]["num_live"], 0);
        let again = luge.ask(&alice, at(position(&told), everything()));
        assert_eq!(again["rooms"], answer["rooms"], "a lost answer is told again");
        luge.restart();
    }
    let next = luge.ask(&alice, at(position(&answer), everything()));
    assert_eq!(rooms(&next), [] as [&str; 0]);
}

/// Goal: who did not ask for the entry learns nothing of its end.
#[test]
fn who_does_not_hold_what_was_removed_is_not_told() {
    let (mut luge, alice) = room();
    let only_name = list(1, json!([["m.room.name", ""]]));
    let answer = luge.ask(&alice, only_name.clone());
    reset(&mut luge, &alice, &without(&first_events(), &["$t"]));
    let answer = luge.ask(&alice, at(position(&answer), only_name.clone()));
    assert_eq!(answer["rooms"]["!r:x"].get("initial"), None);
    let anew = luge.ask(&alice, everything());
    assert!(!required(&anew, "!r:x").contains(&"$t"));
}

/// Goal: a name that is gone is gone from the entry, although its event was not
/// asked for.
#[test]
fn a_removed_name_has_the_room_sent_again_without_it() {
    let (mut luge, alice) = room();
    let no_state = list(1, json!([]));
    let answer = luge.ask(&alice, no_state.clone());
    assert_eq!(answer["rooms"]["!r:x"]["name"], "N");
    reset(&mut luge, &alice, &without(&first_events(), &["$n"]));
    let answer = luge.ask(&alice, at(position(&answer), no_state));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["initial"], room.get("name")), (&true.into(), None));
    assert!(room["heroes"].is_array(), "it is named after its members now");
}

/// Goal: an entry that differs is replaced, and told as any change.
#[test]
fn an_entry_that_differs_is_replaced() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, everything());
    let other = without(&first_events(), &["$n"]);
    let other = [other, vec![name("$other", BOB, "Other")]].concat();
    reset(&mut luge, &alice, &other);
    let answer = luge.ask(&alice, at(position(&answer), everything()));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((room.get("initial"), &room["name"]), (None, &"Other".into()));
    assert_eq!(required(&answer, "!r:x"), ["$other"]);
    assert_eq!(timeline(&answer, "!r:x"), ["$after"], "it was not in the timeline");
}

/// Goal: what came while the state was on its way is newer than it.
#[test]
fn a_fetched_state_undoes_nothing_that_came_meanwhile() {
    let (mut luge, alice) = room();
    luge.sync(&alice, gap("!r:x", &[], &[message("$after", BOB)], "p"));
    luge.wait(MIDDLE_MS);
    let order = luge.take_state_order();
    let avatar = state("$new", "m.room.avatar", "", BOB, json!({"url": "mxc://x/1"}));
    luge.sync(&alice, joined("!r:x", &[name("$newer", BOB, "Newer"), avatar]));
    luge.answer_state(&order, &first_events());
    let answer = luge.ask(&alice, everything());
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["name"], &room["avatar"]), (&"Newer".into(), &"mxc://x/1".into()));
    let of_state = required(&answer, "!r:x");
    assert!(of_state.contains(&"$newer") && of_state.contains(&"$new"), "{of_state:?}");
}

/// Goal: an entry that is set again after its end is told as any other.
#[test]
fn a_removed_entry_that_is_set_again_is_no_longer_gone() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, everything());
    reset(&mut luge, &alice, &without(&first_events(), &["$t"]));
    let topic = state("$t2", "m.room.topic", "", ALICE, json!({"topic": "T2"}));
    luge.sync(&alice, joined("!r:x", &[topic]));
    let answer = luge.ask(&alice, at(position(&answer), everything()));
    assert_eq!(answer["rooms"]["!r:x"].get("initial"), None);
    assert_eq!(required(&answer, "!r:x"), ["$t2"]);
}

/// Goal: what is removed after a user's end is not for them.
#[test]
fn who_has_left_is_not_told_of_later_removals() {
    let (mut luge, alice) = room();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &first_events()));
    let answer = luge.ask(&bob, everything());
    luge.sync(&bob, left("!r:x", &[member("$leave", BOB, "leave")]));
    reset(&mut luge, &alice, &without(&first_events(), &["$t"]));
    let answer = luge.ask(&bob, at(position(&answer), everything()));
    assert_eq!(answer["rooms"]["!r:x"].get("initial"), None);
    assert_eq!(required(&answer, "!r:x"), ["$leave"]);
}

/// Goal: beyond what is kept of removals, connections from before are sent the
/// room anew, and later ones are not.
#[test]
fn removals_beyond_the_limit_have_the_room_sent_again() {
    let (mut luge, alice) = room();
    let stub = |at: usize| state(&format!("$x{at}"), "x", &format!("k{at}"), BOB, json!({}));
    let many: Vec<Value> = (0..50).map(stub).collect();
    luge.sync(&alice, joined("!r:x", &many));
    luge.speak(Dialect::V4);
    let request = |kind: &str| {
        json!({"lists": {"all": {"timeline_limit": 1, "required_state": {
            "include": [{"type": kind, "state_key": "k0"}],
        }}}})
    };
    let before = luge.ask(&alice, request("x"));
    assert_eq!(required(&before, "!r:x"), ["$x0"]);
    reset(&mut luge, &alice, &first_events());
    let answer = luge.ask(&alice, at(position(&before), request("x")));
    assert_eq!(answer["rooms"]["!r:x"]["initial"], true, "its end is no longer known by itself");
    luge.sync(&alice, joined("!r:x", &[name("$n2", ALICE, "N2")]));
    let answer = luge.ask(&alice, at(position(&answer), request("x")));
    assert_eq!(answer["rooms"]["!r:x"].get("initial"), None);
}

/// Goal: who was sent an entry is told that it is gone, also where it is forgotten
/// that it was asked for.
#[test]
fn what_was_removed_is_told_also_where_it_is_forgotten_who_has_it() {
    for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Msc3575] {
        let answers = AnswerLimits { earlier_bytes_max: 1, ..AnswerLimits::default() };
        let mut luge = Luge::with(ShardLimits { answers, ..ShardLimits::default() });
        luge.speak(dialect);
        let alice = luge.sign_in(ALICE, "A");
        luge.sync(&alice, joined("!r:x", &first_events()));
        luge.sync(&alice, joined("!s:x", &beginning("$s", &[ALICE, BOB])));
        let request = |room: &str, kind: &str| {
            let state = match dialect {
                Dialect::V4 => json!({"include": [{"type": kind, "state_key": ""}]}),
                Dialect::Simplified | Dialect::Msc3575 => json!([[kind, ""]]),
            };
            let mut request = json!({"room_subscriptions": {
                room: {"timeline_limit": 1, "required_state": state},
            }});
            if dialect == Dialect::Msc3575 {
                let other = if room == "!r:x" { "!s:x" } else { "!r:x" };
                request["unsubscribe_rooms"] = json!([other]);
            }
            request
        };
        let first = luge.ask(&alice, request("!r:x", "m.room.topic"));
        assert_eq!(required(&first, "!r:x"), ["$t"], "{dialect:?}");
        let second = luge.ask(&alice, at(position(&first), request("!s:x", "m.room.create")));
        reset(&mut luge, &alice, &without(&first_events(), &["$t"]));
        let third = luge.ask(&alice, at(position(&second), request("!r:x", "m.room.topic")));
        let room = &third["rooms"]["!r:x"];
        if dialect == Dialect::V4 {
            let stub = json!([{"type": "m.room.topic", "state_key": ""}]);
            assert_eq!(room["required_state"], stub);
        } else {
            assert_eq!(room["initial"], true, "{dialect:?}: {room}");
        }
    }
}

/// Goal: how many are kept is configured.
#[test]
fn as_many_removals_are_known_one_by_one_as_configured() {
    for (removed_max, expected) in [(1, Some(true)), (2, None)] {
        let (mut luge, alice) = room();
        luge.limit_ledger(LedgerLimits { removed_max, ..LedgerLimits::default() });
        luge.speak(Dialect::V4);
        let include = json!([{"type": "m.room.topic"}, {"type": "m.room.name"}]);
        let list = json!({"timeline_limit": 1, "required_state": {"include": include}});
        let request = json!({"lists": {"all": list}});
        let before = luge.ask(&alice, request.clone());
        reset(&mut luge, &alice, &without(&first_events(), &["$n", "$t"]));
        let answer = luge.ask(&alice, at(position(&before), request));
        let initial = answer["rooms"]["!r:x"]["initial"].as_bool();
        assert_eq!(initial, expected, "{removed_max}");
    }
}

/// Goal: nothing that a homeserver ordinarily says costs it a fetch.
#[test]
fn ordinary_news_put_nothing_in_doubt() {
    let (mut luge, alice) = room();
    let mut named = name("$n2", ALICE, "N2");
    named["unsigned"] = json!({"replaces_state": "$n"});
    let mut again = name("$n3", ALICE, "N3");
    again["unsigned"] = json!({"replaces_state": "$n2"});
    luge.sync(&alice, joined("!r:x", &[named, again, message("$m", BOB)]));
    let repeated = json!({"state": {"events": [member("$r-join-b", BOB, "join")]}});
    luge.sync(&alice, joined_with("!r:x", &[message("$m2", BOB)], repeated));
    luge.sync(&alice, joined("!new:x", &beginning("$new", &[BOB, ALICE])));
    luge.wait(MIDDLE_MS);
    assert_eq!(orders(&luge), 0);
}

/// Goal: each cause for doubt has the state fetched.
#[test]
fn what_does_not_fit_has_the_state_fetched() {
    let mut replaces = name("$n2", ALICE, "N2");
    replaces["unsigned"] = json!({"replaces_state": "$unknown"});
    let mut old = name("$n2", ALICE, "N2");
    old["origin_server_ts"] = 5.into();
    let block = json!({"state": {"events": [name("$n2", ALICE, "N2")]}});
    for (what, answer) in [
        ("a gap", gap("!r:x", &[], &[message("$m", BOB)], "p")),
        ("a predecessor that is not known", joined("!r:x", &[replaces.clone()])),
        ("a state event that is older", joined("!r:x", &[old])),
        ("a state block without a gap", joined_with("!r:x", &[message("$m", BOB)], block)),
    ] {
        let (mut luge, alice) = room();
        luge.sync(&alice, answer);
        assert_eq!(orders(&luge), 0, "{what}: not at once");
        luge.wait(MIDDLE_MS);
        assert_eq!(orders(&luge), 1, "{what}");
        luge.give_state(&first_events());
        luge.wait(MIDDLE_MS);
        assert_eq!(orders(&luge), 0, "{what}: settled");
    }
    // The state after is the homeserver's own word on what holds.
    let (mut luge, alice) = room();
    let after = json!({"org.matrix.msc4222.state_after": {"events": [replaces.clone()]}});
    luge.sync(&alice, joined_with("!r:x", &[replaces], after));
    luge.wait(MIDDLE_MS);
    assert_eq!(orders(&luge), 0);
}

/// How often the state is asked for when, some time later, a gap comes with the
/// state after it.
fn orders_at_a_gap(luge: &mut Luge, alice: &Client, wait_ms: u64) -> usize {
    luge.wait(wait_ms);
    luge.ask(alice, everything());
    luge.fetches.clear();
    let more = json!({
        "timeline": {"limited": true},
        "org.matrix.msc4222.state_after": {"events": []},
    });
    let said = message(&format!("$m{wait_ms}"), BOB);
    luge.sync(alice, joined_with("!r:x", &[said], more));
    luge.wait(MIDDLE_MS);
    orders(luge)
}

/// Goal: a homeserver that gives the state after each timeline is asked after a
/// gap once a day.
#[test]
fn gaps_with_the_state_after_them_have_it_fetched_once_a_day() {
    let (mut luge, alice) = room();
    for (wait_ms, expected) in [(0, 1), (3_600_000, 0), (23 * 3_600_000, 1)] {
        assert_eq!(orders_at_a_gap(&mut luge, &alice, wait_ms), expected, "{wait_ms}");
        if expected == 1 {
            luge.give_state(&first_events());
        }
    }
}

/// Goal: how often that is, is configured.
#[test]
fn resets_are_looked_for_as_often_as_configured() {
    let (mut luge, alice) = room();
    luge.limit_ledger(LedgerLimits { reset_check_every_ms: 900_000, ..LedgerLimits::default() });
    for (at, wait_ms) in [0, 800_000, 200_000].into_iter().enumerate() {
        assert_eq!(orders_at_a_gap(&mut luge, &alice, wait_ms), usize::from(at != 1), "{at}");
        if at == 0 {
            luge.give_state(&first_events());
        }
    }
}

/// Goal: one fetch for a room, whoever has cause, and not again for a while; a
/// cause meanwhile is not forgotten.
#[test]
fn a_room_is_fetched_once_in_a_while() {
    let limits = ShardLimits { repair_interval_ms: 100_000, ..ShardLimits::default() };
    let mut luge = Luge::with(limits);
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.sign_in(BOB, "B"));
    for client in [&alice, &bob] {
        luge.sync(client, joined("!r:x", &first_events()));
        luge.ask(client, list(1, json!([])));
    }
    luge.sync(&alice, gap("!r:x", &[], &[message("$m1", BOB)], "p"));
    luge.sync(&bob, gap("!r:x", &[], &[message("$m2", BOB)], "p"));
    luge.wait(MIDDLE_MS);
    assert_eq!(orders(&luge), 1);
    luge.give_state(&first_events());
    luge.sync(&alice, gap("!r:x", &[], &[message("$m3", BOB)], "p"));
    luge.wait(50_000);
    assert_eq!(orders(&luge), 0, "too soon");
    luge.wait(60_000);
    assert_eq!(orders(&luge), 1);
}

/// Goal: a failure is tried again, after longer and longer waits; a doubt
/// outlives a crash.
#[test]
fn a_state_that_cannot_be_had_is_asked_for_again() {
    let (mut luge, alice) = room();
    luge.ask(&alice, list(1, json!([])));
    luge.sync(&alice, gap("!r:x", &[], &[message("$m1", BOB)], "p"));
    luge.wait(MIDDLE_MS);
    for wait_ms in [60_000, 120_000] {
        luge.fail_fetch();
        luge.wait(wait_ms - 1_000);
        assert_eq!(orders(&luge), 0, "{wait_ms}");
        luge.wait(1_500);
        assert_eq!(orders(&luge), 1, "{wait_ms}");
    }
    luge.fetches.clear();
    luge.kill();
    luge.ask(&alice, list(1, json!([])));
    luge.wait(MIDDLE_MS);
    assert_eq!(orders(&luge), 1);
}

/// Goal: no more than so many at once.
#[test]
fn fetches_of_state_are_bounded() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    for at in 0..5 {
        let (room_id, prefix) = (format!("!r{at}:x"), format!("$r{at}"));
        luge.sync(&alice, joined(&room_id, &beginning(&prefix, &[ALICE, BOB])));
    }
    luge.ask(&alice, list(1, json!([])));
    for at in 0..5 {
        let said = message(&format!("$m{at}"), BOB);
        luge.sync(&alice, gap(&format!("!r{at}:x"), &[], &[said], "p"));
    }
    luge.wait(MIDDLE_MS);
    assert_eq!(orders(&luge), 2);
    luge.fail_fetch();
    luge.wait(50);
    assert_eq!(orders(&luge), 2);
}

/// Goal: the state that somebody is shown who has left is of the past.
#[test]
fn the_state_of_somebody_who_is_out_is_not_used() {
    let (mut luge, alice) = room();
    luge.sync(&alice, gap("!r:x", &[], &[message("$m1", BOB)], "p"));
    luge.wait(MIDDLE_MS);
    let order = luge.take_state_order();
    let kicked = without(&first_events(), &["$n", "$r-join-a"]);
    luge.answer_state(&order, &[kicked, vec![made("$kick", BOB, ALICE, "leave")]].concat());
    let answer = luge.ask(&alice, everything());
    assert_eq!(answer["rooms"]["!r:x"]["name"], "N");
}

/// Goal: who is out of a room without an event is out, once, and sees nothing
/// later.
#[test]
fn a_user_who_is_reset_out_of_a_room_is_out() {
    let (mut luge, alice) = room();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &first_events()));
    let rest = list(5, json!([]));
    let answer = luge.ask(&bob, rest.clone());
    assert_eq!(answer["lists"]["all"]["count"], 1);
    luge.wait(3_700_000);
    luge.ask(&bob, rest.clone());
    luge.sync(&alice, joined("!r:x", &[message("$late", ALICE)]));
    let answer = luge.ask(&bob, rest.clone());
    luge.wait(3_700_000);
    luge.fetches.retain(|order| order.user == bob.user);
    luge.give_joined_rooms(&[]);
    let left = luge.ask(&bob, at(position(&answer), rest.clone()));
    assert_eq!(rooms(&left), [] as [&str; 0], "without an event nothing is said of the end");
    luge.sync(&alice, joined("!r:x", &[message("$later", ALICE)]));
    let next = luge.ask(&bob, at(position(&left), rest.clone()));
    assert_eq!((&next["lists"]["all"]["count"], rooms(&next).len()), (&0.into(), 0));
    let subscribed = json!({"room_subscriptions": {"!r:x": {
        "timeline_limit": 9, "required_state": [["*", "*"]],
    }}});
    let anew = luge.ask(&bob, subscribed);
    assert!(!anew.to_string().contains("$later"), "{anew}");
}

/// Goal: a homeserver that may yet have to list who has just come has a time for
/// it, which is configured.
#[test]
fn a_list_of_rooms_puts_nobody_out_who_has_just_come() {
    for (joined_settles_ms, expected) in [(60_000, 0), (9_000_000, 1)] {
        let (mut luge, alice) = room();
        luge.limit_ledger(LedgerLimits { joined_settles_ms, ..LedgerLimits::default() });
        luge.ask(&alice, everything());
        luge.wait(100_000);
        luge.sync(&alice, gap("!r:x", &[], &[message("$m1", BOB)], "p"));
        luge.ask(&alice, everything());
        luge.wait(MIDDLE_MS);
        luge.give_joined_rooms(&[]);
        let answer = luge.ask(&alice, everything());
        assert_eq!(answer["lists"]["all"]["count"], expected, "{joined_settles_ms}");
    }
}

/// Goal: where the end comes after all, it is told with its event.
#[test]
fn an_end_whose_event_comes_late_is_told_then() {
    let (mut luge, alice) = room();
    luge.ask(&alice, everything());
    luge.wait(100_000);
    luge.sync(&alice, gap("!r:x", &[], &[message("$m1", BOB)], "p"));
    let answer = luge.ask(&alice, everything());
    luge.wait(MIDDLE_MS);
    luge.give_joined_rooms(&[]);
    let answer = luge.ask(&alice, at(position(&answer), everything()));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    let mut leave = member("$leave", ALICE, "leave");
    leave["unsigned"] = json!({"prev_content": {"membership": "join"}});
    luge.sync(&alice, left("!r:x", &[message("$m2", BOB), leave]));
    let answer = luge.ask(
        &alice,
        at(
            position(&answer),
            json!({
                "room_subscriptions": {"!r:x": {"timeline_limit": 2, "required_state": []}},
            }),
        ),
    );
    assert_eq!(timeline(&answer, "!r:x"), ["$m2", "$leave"]);
    assert_eq!(required(&answer, "!r:x"), ["$leave"]);
}

/// Goal: it is so also where another is given that event as history first.
#[test]
fn an_end_whose_event_others_are_given_as_history_is_told_with_it() {
    let (mut luge, alice) = room();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &first_events()));
    luge.ask(&alice, everything());
    luge.wait(100_000);
    luge.sync(&alice, gap("!r:x", &[], &[message("$m1", BOB)], "p"));
    let answer = luge.ask(&alice, everything());
    luge.wait(MIDDLE_MS);
    luge.fetches.retain(|order| order.user == alice.user);
    luge.give_joined_rooms(&[]);
    let answer = luge.ask(&alice, at(position(&answer), everything()));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    let mut leave = member("$leave", ALICE, "leave");
    leave["unsigned"] = json!({"prev_content": {"membership": "join"}});
    luge.sync(&bob, gap("!r:x", &[], &[message("$m9", BOB)], "q"));
    luge.sync(&alice, left("!r:x", std::slice::from_ref(&leave)));
    luge.ask(&bob, everything());
    luge.fetches.retain(|order| order.user == bob.user);
    let want = luge.take_history_order();
    luge.answer_history(&want, &[leave], Some("q0"));
    luge.restart();
    let answer = luge.ask(&alice, at(position(&answer), everything()));
    assert_eq!(rooms(&answer), ["!r:x"]);
    assert!(required(&answer, "!r:x").contains(&"$leave"), "{answer}");
    let answer = luge.ask(&alice, at(position(&answer), everything()));
    assert_eq!(rooms(&answer), [] as [&str; 0], "it is told once");
}

/// Goal: a room that was joined while the list was on its way stays.
#[test]
fn a_room_that_is_joined_meanwhile_stays() {
    let (mut luge, alice) = room();
    luge.ask(&alice, everything());
    luge.wait(100_000);
    luge.sync(&alice, gap("!r:x", &[], &[message("$m1", BOB)], "p"));
    luge.sync(&alice, joined("!lately:x", &beginning("$lately", &[BOB, ALICE])));
    luge.wait(MIDDLE_MS);
    luge.sync(&alice, joined("!new:x", &beginning("$new", &[BOB, ALICE])));
    luge.give_joined_rooms(&["!r:x"]);
    let answer = luge.ask(&alice, everything());
    assert_eq!(answer["lists"]["all"]["count"], 3);
}

/// Goal: who has a gap has their rooms looked at soon, once in a while; who is
/// not polled for never.
#[test]
fn rooms_are_compared_after_a_gap_and_now_and_then() {
    let checks = |luge: &Luge| {
        luge.fetches.iter().filter(|it| matches!(it.want, Want::JoinedRooms(_))).count()
    };
    let (mut luge, alice) = room();
    luge.ask(&alice, everything());
    luge.wait(10_000);
    assert_eq!(checks(&luge), 0);
    luge.sync(&alice, gap("!r:x", &[], &[message("$m1", BOB)], "p"));
    luge.wait(MIDDLE_MS);
    assert_eq!(checks(&luge), 1);
    luge.give_joined_rooms(&["!r:x"]);
    luge.give_state(&first_events());
    luge.sync(&alice, gap("!r:x", &[], &[message("$m2", BOB)], "p"));
    luge.wait(MIDDLE_MS);
    assert_eq!(checks(&luge), 0, "it was done a moment ago");
    luge.end_poll(&alice, luge_core::shard::PollOutcome::Cancelled);
    luge.wait(8_000_000);
    assert_eq!(checks(&luge), 0, "nobody asks for her");
}

/// Goal: who is known as a member and is not in the list of them has left, and
/// is told of by the event that says so; who is in it puts nothing in doubt.
#[test]
fn who_is_not_in_the_list_of_members_has_left() {
    let members = || list(1, json!([["m.room.member", "*"]]));
    let [alice_in, bob_in] = [("$r-join-a", ALICE), ("$r-join-b", BOB)];
    for is_listed in [true, false] {
        let (mut luge, alice) = room();
        let ticket = luge.send(&alice, members());
        let mut listed = vec![member(alice_in.0, alice_in.1, "join")];
        listed.extend(is_listed.then(|| member(bob_in.0, bob_in.1, "join")));
        luge.give_members(&mut listed, true);
        let answer = luge.body(ticket);
        assert_eq!(required(&answer, "!r:x"), ["$r-join-a", "$r-join-b"]);
        luge.wait(MIDDLE_MS);
        assert_eq!(orders(&luge), usize::from(!is_listed));
        if !is_listed {
            let left = [member("$bye", BOB, "leave")];
            luge.give_state(&[without(&first_events(), &["$r-join-b"]), left.to_vec()].concat());
            let answer = luge.ask(&alice, at(position(&answer), members()));
            assert_eq!(required(&answer, "!r:x"), ["$bye"]);
        }
    }
}
