//! The timeline: how much of it, what is missing before it, what is live.

use luge_core::connection::Want;
use serde_json::{Value, json};

use crate::{
    answers::{position, rooms, timeline},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, all, at, beginning, gap, joined, joined_with, left, list, made, member,
        message, state, waiting,
    },
};

fn request(limit: u64) -> Value {
    list(limit, json!([]))
}

fn messages(from: usize, to: usize) -> Vec<Value> {
    (from..to).map(|at| message(&format!("$m{at}"), BOB)).collect()
}

/// Alice and Bob in `!r:x` (create, Alice, levels, Bob: four events) and `count` messages.
fn room(count: usize) -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let events = [beginning("$r", &[ALICE, BOB]), messages(0, count)].concat();
    luge.sync(&alice, joined("!r:x", &events));
    (luge, alice)
}

/// Goal: more than asked for: the newest, limited, none of it live.
#[test]
fn a_long_room_is_limited_to_its_newest_events() {
    let (mut luge, alice) = room(5);
    let answer = luge.ask(&alice, request(3));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m2", "$m3", "$m4"]);
    assert_eq!((&room["limited"], &room["num_live"]), (&true.into(), &0.into()));
}

/// Goal: the whole of a room is not limited.
#[test]
fn a_room_that_fits_is_not_limited() {
    let (mut luge, alice) = room(1);
    for limit in [5, 6, 100] {
        let answer = luge.ask(&alice, request(limit));
        assert_eq!(timeline(&answer, "!r:x").len(), 5, "{limit}");
        assert_eq!(answer["rooms"]["!r:x"].get("limited"), None, "{limit}");
    }
}

/// Goal: a homeserver that gave only the end leaves the beginning to paging.
#[test]
fn history_that_the_homeserver_kept_is_pointed_to() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, gap("!r:x", &beginning("$r", &[ALICE, BOB]), &messages(7, 9), "p7"));
    let answer = luge.ask(&alice, request(50));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m7", "$m8"]);
    assert_eq!((&room["limited"], &room["prev_batch"]), (&true.into(), &"p7".into()));
}

/// Goal: only what is new, counted as live.
#[test]
fn an_update_has_the_new_events_alone() {
    let (mut luge, alice) = room(3);
    let answer = luge.ask(&alice, request(5));
    luge.sync(&alice, joined("!r:x", &messages(3, 5)));
    let answer = luge.ask(&alice, at(position(&answer), request(5)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m3", "$m4"]);
    assert_eq!((&room["num_live"], room.get("limited")), (&2.into(), None));
}

/// Goal: more news than asked for leaves a gap that can be paged.
#[test]
fn news_beyond_the_limit_are_limited() {
    let (mut luge, alice) = room(0);
    let answer = luge.ask(&alice, request(2));
    luge.sync(&alice, joined("!r:x", &messages(0, 6)));
    let answer = luge.ask(&alice, at(position(&answer), request(2)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m4", "$m5"]);
    assert_eq!((&room["limited"], &room["num_live"]), (&true.into(), &2.into()));
}

/// Goal: without a token the client would have a hole that it cannot see, so the
/// answer waits for one.
#[test]
fn a_token_for_paging_back_is_fetched_and_waited_for() {
    let (mut luge, alice) = room(0);
    let answer = luge.ask(&alice, request(2));
    luge.sync(&alice, gap("!r:x", &[], &messages(0, 6), "p0"));
    luge.paging_token = Some("p4");
    let answer = luge.ask(&alice, at(position(&answer), request(2)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m4", "$m5"]);
    assert_eq!((&room["limited"], &room["prev_batch"]), (&true.into(), &"p4".into()));
}

/// Goal: who is told of their end out of another's gap can page back from it.
#[test]
fn an_end_alone_has_a_token_for_paging_back() {
    let (mut luge, alice) = room(0);
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    let answer = luge.ask(&alice, request(2));
    let kick = made("$kick", BOB, ALICE, "leave");
    luge.sync(&bob, gap("!r:x", &[kick], &messages(4, 6), "p4"));
    luge.paging_token = Some("p3");
    let answer = luge.ask(&alice, at(position(&answer), request(2)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$kick"]);
    assert_eq!((&room["limited"], &room["prev_batch"]), (&true.into(), &"p3".into()));
}

/// Goal: the token of the first event, else that of the nearest newer one, which
/// overlaps and leaves no hole; only where there is none the homeserver is asked.
#[test]
fn the_best_token_for_paging_back_is_given() {
    let (mut luge, alice) = room(0);
    let chunk = |from, to, token: &str| {
        let more = json!({"timeline": {"prev_batch": token}});
        joined_with("!r:x", &messages(from, to), more)
    };
    luge.sync(&alice, chunk(0, 3, "p0"));
    luge.sync(&alice, chunk(3, 6, "p3"));
    luge.paging_token = Some("asked");
    for (limit, token) in [(3, "p3"), (5, "p3"), (6, "p0"), (2, "asked"), (2, "asked")] {
        let answer = luge.ask(&alice, request(limit));
        let room = &answer["rooms"]["!r:x"];
        assert_eq!(
            (&room["prev_batch"], &room["limited"]),
            (&token.into(), &true.into()),
            "{limit}"
        );
    }
    let asked = luge.fetches.iter().filter(|it| matches!(it.want, Want::PrevBatch(..))).count();
    assert_eq!(asked, 1, "it is kept");
}

/// Goal: a token that comes with a known event, which had none, is kept: the
/// homeserver is not asked for it. One that is there stays.
#[test]
fn a_chunk_that_begins_with_a_known_event_brings_its_token() {
    let (mut luge, alice) = room(0);
    let bob = luge.sign_in(BOB, "B");
    let chunk = |from, to, token: &str| {
        let more = json!({"timeline": {"prev_batch": token}});
        joined_with("!r:x", &messages(from, to), more)
    };
    luge.sync(&alice, chunk(0, 5, "p0"));
    luge.sync(&bob, chunk(3, 5, "p3"));
    luge.sync(&bob, chunk(3, 5, "other"));
    luge.sync(&bob, chunk(0, 5, "other"));
    luge.paging_token = Some("asked");
    for (limit, token) in [(2, "p3"), (3, "p3"), (5, "p0"), (1, "")] {
        let answer = luge.ask(&alice, request(limit));
        let got = answer["rooms"]["!r:x"]["prev_batch"].as_str();
        assert_eq!(got, Some(token).filter(|it| !it.is_empty()), "{limit}");
    }
    let asked = luge.fetches.iter().any(|it| matches!(it.want, Want::PrevBatch(..)));
    assert!(!asked, "it is known");
}

/// Goal: a gap of the homeserver's reaches the client, also with few events.
#[test]
fn a_gap_is_never_read_across() {
    let (mut luge, alice) = room(3);
    let answer = luge.ask(&alice, request(10));
    luge.sync(&alice, joined("!r:x", &messages(3, 4)));
    luge.sync(&alice, gap("!r:x", &[], &messages(8, 10), "p8"));
    let answer = luge.ask(&alice, at(position(&answer), request(10)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m8", "$m9"]);
    assert_eq!((&room["limited"], &room["prev_batch"]), (&true.into(), &"p8".into()));
    let anew = luge.ask(&alice, request(10));
    assert_eq!(timeline(&anew, "!r:x"), ["$m8", "$m9"]);
}

/// Goal: a gap that others have filled is none.
#[test]
fn a_gap_within_what_is_known_is_none() {
    let (mut luge, alice) = room(0);
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &[beginning("$r", &[ALICE, BOB]), messages(0, 4)].concat()));
    let answer = luge.ask(&alice, request(20));
    assert_eq!(timeline(&answer, "!r:x").len(), 8);
    luge.sync(&alice, gap("!r:x", &[], &messages(2, 4), "p2"));
    luge.sync(&alice, joined("!r:x", &messages(4, 5)));
    let answer = luge.ask(&alice, at(position(&answer), request(20)));
    assert_eq!(timeline(&answer, "!r:x"), ["$m4"]);
    assert_eq!(answer["rooms"]["!r:x"].get("limited"), None);
}

/// Goal: each event once, whoever brings it and how often.
#[test]
fn an_event_that_several_pollers_bring_comes_once() {
    let (mut luge, alice) = room(1);
    let bob = luge.sign_in(BOB, "B");
    let answer = luge.ask(&alice, request(9));
    luge.sync(&alice, joined("!r:x", &messages(1, 2)));
    let answer = luge.ask(&alice, at(position(&answer), request(9)));
    luge.sync(&bob, joined("!r:x", &[beginning("$r", &[ALICE, BOB]), messages(0, 2)].concat()));
    luge.sync(&alice, joined("!r:x", &messages(0, 2)));
    let answer = luge.ask(&alice, at(position(&answer), request(9)));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    let anew = luge.ask(&bob, request(9));
    assert_eq!(timeline(&anew, "!r:x").len(), 6);
}

/// Goal: of a room that is new, what came before the position is not live.
#[test]
fn a_room_that_is_joined_later_has_history_that_is_not_live() {
    let (mut luge, alice) = room(2);
    let carol = luge.fresh(CAROL);
    let answer = luge.ask(&carol, request(3));
    luge.sync(&alice, joined("!r:x", &[member("$c", CAROL, "join"), message("$m2", BOB)]));
    let given = [messages(0, 2), vec![member("$c", CAROL, "join"), message("$m2", BOB)]].concat();
    let state = beginning("$r", &[ALICE, BOB]);
    luge.sync(&carol, gap("!r:x", &state, &given, "p"));
    let answer = luge.ask(&carol, at(position(&answer), request(3)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m1", "$c", "$m2"]);
    assert_eq!((&room["initial"], &room["limited"]), (&true.into(), &true.into()));
    assert_eq!(room["num_live"], 2);
}

/// Goal: asking for more events returns them at once, as an expansion.
#[test]
fn asking_for_more_events_expands_the_timeline() {
    let (mut luge, alice) = room(9);
    let answer = luge.ask(&alice, request(1));
    let ticket = luge.send(&alice, waiting(position(&answer), request(4)));
    let answer = luge.body(ticket);
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m5", "$m6", "$m7", "$m8"]);
    assert_eq!(room["unstable_expanded_timeline"], true);
    assert_eq!((room.get("initial"), &room["limited"]), (None, &true.into()));
    assert_eq!((&room["num_live"], room.get("required_state")), (&0.into(), None));
    luge.sync(&alice, joined("!r:x", &messages(9, 10)));
    let answer = luge.ask(&alice, at(position(&answer), request(4)));
    assert_eq!(timeline(&answer, "!r:x"), ["$m9"]);
    assert_eq!(answer["rooms"]["!r:x"].get("unstable_expanded_timeline"), None);
    let held = luge.send(&alice, waiting(position(&answer), request(1)));
    assert_eq!(luge.answered(held), None, "asking for less is no reason to answer");
}

/// Goal: likewise in a room that one was put out of: the entry carries the own
/// member event, without which a client takes the room for joined.
#[test]
fn asking_for_more_events_shows_more_of_what_was_before_a_kick() {
    let (mut luge, alice) = room(4);
    let answer = luge.ask(&alice, request(1));
    luge.sync(&alice, left("!r:x", &[made("$kick", BOB, ALICE, "leave")]));
    let answer = luge.ask(&alice, at(position(&answer), request(1)));
    assert_eq!(timeline(&answer, "!r:x"), ["$kick"]);
    let answer = luge.ask(&alice, at(position(&answer), request(3)));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m2", "$m3", "$kick"]);
    assert_eq!(crate::answers::required(&answer, "!r:x"), ["$kick"]);
    assert_eq!((&room["unstable_expanded_timeline"], room.get("initial")), (&true.into(), None));
    let held = luge.send(&alice, waiting(position(&answer), request(3)));
    assert_eq!(luge.answered(held), None, "it was told");
}

/// Goal: nothing that was told of an end is live later, also where others are
/// told of it only then.
#[test]
fn more_of_what_was_before_an_end_is_no_news() {
    let (mut luge, alice) = room(0);
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    let answer = luge.ask(&alice, request(2));
    let mut out = member("$out", ALICE, "leave");
    out["unsigned"] = json!({"prev_content": {"membership": "join"}});
    let end = [message("$m", BOB), out];
    let mut told = left("!r:x", &end);
    told["rooms"]["leave"]["!r:x"]["timeline"]["limited"] = true.into();
    luge.sync(&alice, told);
    let answer = luge.ask(&alice, at(position(&answer), request(2)));
    assert_eq!(timeline(&answer, "!r:x"), ["$m", "$out"]);
    luge.sync(&bob, joined("!r:x", &end));
    let subscription = json!({"timeline_limit": 3, "required_state": []});
    let wanted = json!({"room_subscriptions": {"!r:x": subscription}});
    let answer = luge.ask(&alice, at(position(&answer), wanted));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$m", "$out"]);
    assert_eq!((&room["unstable_expanded_timeline"], &room["num_live"]), (&true.into(), &0.into()));
}

/// Goal: who asked for no events and asks for some when their stay is over gets
/// also those that came while they asked for none.
#[test]
fn events_that_nobody_asked_for_come_with_the_end_that_asks_for_them() {
    let (mut luge, alice) = room(0);
    let answer = luge.ask(&alice, request(0));
    luge.sync(&alice, joined("!r:x", &messages(1, 3)));
    let answer = luge.ask(&alice, at(position(&answer), request(0)));
    luge.sync(&alice, left("!r:x", &[made("$kick", BOB, ALICE, "leave")]));
    let answer = luge.ask(&alice, at(position(&answer), request(3)));
    assert_eq!(timeline(&answer, "!r:x"), ["$m1", "$m2", "$kick"]);
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(
        (&room["unstable_expanded_timeline"], &room["limited"]),
        (&true.into(), &true.into())
    );
}

/// Goal: events that were only seen as state are not of the timeline.
#[test]
fn state_blocks_never_reach_the_timeline() {
    let (mut luge, alice) = room(1);
    let topic = state("$t", "m.room.topic", "", BOB, json!({"topic": "T"}));
    luge.sync(&alice, gap("!r:x", &[topic], &messages(5, 6), "p"));
    let answer = luge.ask(&alice, list(9, json!([["m.room.topic", ""]])));
    assert_eq!(timeline(&answer, "!r:x"), ["$m5"]);
    assert_eq!(crate::answers::required(&answer, "!r:x"), ["$t"]);
}

/// Goal: an event's bytes are the homeserver's, less what is private.
#[test]
fn events_keep_their_bytes_and_their_senders_transaction() {
    let mut luge = Luge::new();
    let (alice, other) = (luge.sign_in(ALICE, "A"), luge.sign_in(ALICE, "B"));
    let mut sent = message("$sent", ALICE);
    sent["unsigned"] = json!({"age": 5, "transaction_id": "t1", "m.relations": {"x": 1}});
    luge.sync(&alice, joined("!r:x", &[beginning("$r", &[ALICE]), vec![sent]].concat()));
    let mut seen = message("$sent", ALICE);
    seen["unsigned"] = json!({"age": 9, "m.relations": {"x": 1}});
    luge.sync_without_rooms(&other, json!({}));
    luge.sync(&other, joined("!r:x", &[seen]));
    for (client, transaction) in [(&alice, Some("t1")), (&other, None)] {
        let answer = luge.ask(client, request(1));
        let unsigned = &answer["rooms"]["!r:x"]["timeline"][0]["unsigned"];
        assert_eq!(unsigned.get("transaction_id").and_then(Value::as_str), transaction);
        assert_eq!((unsigned.get("age"), &unsigned["m.relations"]["x"]), (None, &1.into()));
    }
}

/// Goal: old events that come late are not put before what is known.
#[test]
fn events_that_overlap_with_known_ones_add_only_the_new() {
    let (mut luge, alice) = room(2);
    let answer = luge.ask(&alice, request(9));
    luge.sync(&alice, joined("!r:x", &messages(1, 4)));
    let answer = luge.ask(&alice, at(position(&answer), request(9)));
    assert_eq!(timeline(&answer, "!r:x"), ["$m2", "$m3"]);
}

/// Goal: an answer that says nothing of a room changes nothing.
#[test]
fn empty_rooms_in_an_answer_change_nothing() {
    let (mut luge, alice) = room(2);
    let answer = luge.ask(&alice, request(9));
    luge.sync(
        &alice,
        all([joined_with("!r:x", &[], json!({})), json!({"rooms": {"join": {"!r:x": {}}}})]),
    );
    let answer = luge.ask(&alice, at(position(&answer), request(9)));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}
