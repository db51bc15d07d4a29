//! Waiting: for news, for a first sync, for the homeserver's word about a token.

use luge_core::shard::{Event, Hint, PollOutcome, Refusal, ShardLimits, Validation};
use serde_json::{Value, json};

use crate::{
    answers::{position, rooms, timeline},
    driver::{Client, Luge},
    events::{ALICE, BOB, all, at, beginning, joined, joined_with, list, message, waiting},
};

fn request() -> Value {
    list(5, json!([]))
}

fn room() -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    (luge, alice)
}

/// Goal: a message releases who waits.
#[test]
fn room_data_releases_a_long_poll() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request());
    let held = luge.send(&alice, waiting(position(&answer), request()));
    assert_eq!(luge.answered(held), None);
    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    assert_eq!(timeline(&luge.body(held), "!r:x"), ["$m"]);
}

/// Goal: without news the answer is empty, at the timeout and not before.
#[test]
fn a_long_poll_without_news_ends_empty_at_its_timeout() {
    let (mut luge, alice) = room();
    let bob = luge.fresh(BOB);
    let answer = luge.ask(&alice, request());
    let held = luge.send(&alice, waiting(position(&answer), request()));
    luge.wait(29_000);
    luge.sync(&bob, joined("!other:x", &beginning("$o", &[BOB])));
    assert_eq!(luge.answered(held), None, "another's room is no news, and extends nothing");
    luge.wait(1_000);
    let answer = luge.body(held);
    assert_eq!((rooms(&answer), &answer["lists"]["all"]["count"]), (vec![], &1.into()));
    luge.ask(&alice, at(position(&answer), request()));
}

/// Goal: requests and polls that nothing ends before their time end together, none late.
#[test]
fn what_waits_in_vain_ends_together() {
    let (mut luge, alice) = room();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    luge.wait(150 - luge.now_ms() % 100);
    let mut ends = Vec::new();
    let mut held = Vec::new();
    for client in [&alice, &bob] {
        let answer = luge.ask(client, request());
        held.push(luge.send(client, waiting(position(&answer), request())));
        luge.sync(client, json!({}));
        let poll = luge.poll(client).expect("the homeserver is asked");
        ends.push(poll.asked_ms + poll.timeout_ms);
        luge.wait(20);
    }
    let last_ms = luge.now_ms() - 40 + 45_000;
    assert_eq!(ends, [last_ms - 50, last_ms - 50]);
    luge.wait(29_909);
    assert!(held.iter().all(|ticket| luge.answered(*ticket).is_none()));
    luge.wait(1);
    assert!(held.iter().all(|ticket| luge.answered(*ticket).is_some()));
}

/// Goal: lists alone are no reason to wake anybody.
#[test]
fn lists_alone_release_nobody() {
    let (mut luge, alice) = room();
    luge.sync(&alice, joined("!s:x", &beginning("$s", &[ALICE])));
    let top = || json!({"lists": {"all": {"ranges": [[0, 0]], "timeline_limit": 1, "required_state": []}}});
    let answer = luge.ask(&alice, top());
    let held = luge.send(&alice, waiting(position(&answer), top()));
    let direct = json!({"type": "m.direct", "content": {BOB: ["!r:x"]}});
    luge.sync(&alice, json!({"account_data": {"events": [direct]}}));
    let unread = json!({"unread_notifications": {"notification_count": 4, "highlight_count": 0}});
    luge.sync(&alice, joined_with("!s:x", &[], unread));
    assert_eq!(luge.answered(held), None);
}

/// Goal: without position, the answer is immediate.
#[test]
fn a_first_request_does_not_wait() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    let mut first = request();
    first["timeout"] = 30_000.into();
    assert_eq!(rooms(&luge.ask(&alice, first)), [] as [&str; 0]);
}

/// Goal: a newer request ends the older.
#[test]
fn a_newer_request_ends_the_one_that_waits() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request());
    let older = luge.send(&alice, waiting(position(&answer), request()));
    let newer = luge.send(&alice, waiting(position(&answer), request()));
    assert_eq!(rooms(&luge.body(older)), [] as [&str; 0]);
    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    assert_eq!(timeline(&luge.body(newer), "!r:x"), ["$m"]);
}

/// Goal: connections of one device do not end each other's requests.
#[test]
fn other_connections_go_on_waiting() {
    let (mut luge, alice) = room();
    let named = |name: &str| {
        let mut request = request();
        request["conn_id"] = name.into();
        request
    };
    let one = luge.ask(&alice, named("one"));
    let held = luge.send(&alice, waiting(position(&one), named("one")));
    luge.ask(&alice, named("two"));
    assert_eq!(luge.answered(held), None);
}

/// Goal: a client that went away has changed nothing.
#[test]
fn an_abandoned_request_changes_nothing() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request());
    let held = luge.send(&alice, waiting(position(&answer), request()));
    luge.abandon(held);
    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    assert_eq!(luge.answered(held), None);
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(timeline(&answer, "!r:x"), ["$m"]);
}

/// Goal: who waits for the first sync is answered when it is there.
#[test]
fn a_first_sync_is_waited_for() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let ticket = luge.send(&alice, request());
    assert_eq!(luge.answered(ticket), None);
    let poll = luge.poll(&alice).expect("the homeserver is asked").clone();
    assert_eq!((poll.since, poll.with_rooms, poll.timeout_ms), (None, true, 0));
    luge.sync(&alice, joined("!r:x", &beginning("$r", &[ALICE])));
    assert_eq!(rooms(&luge.body(ticket)), ["!r:x"]);
    let poll = luge.poll(&alice).expect("it goes on");
    assert!(poll.since.is_some() && poll.timeout_ms > 0);
}

/// Goal: a first sync that takes too long is a 504, and goes on.
#[test]
fn a_first_sync_that_takes_too_long_is_a_gateway_timeout() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let ticket = luge.send(&alice, request());
    luge.wait(60_000);
    assert_eq!(luge.answered(ticket).expect("it is answered").status, 504);
    assert!(luge.poll(&alice).is_some());
    luge.sync(&alice, json!({}));
    luge.ask(&alice, request());
}

/// Goal: initial syncs, which cost a homeserver most, are as many at once as are
/// configured; the others follow.
#[test]
fn initial_syncs_wait_for_their_turn() {
    let mut luge = Luge::with(ShardLimits { initial_syncs_max: 1, ..ShardLimits::default() });
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.sign_in(BOB, "B"));
    let first = luge.send(&alice, request());
    let second = luge.send(&bob, request());
    assert!(luge.poll(&alice).is_some() && luge.poll(&bob).is_none());
    luge.sync(&alice, json!({}));
    assert!(luge.poll(&bob).is_some_and(|poll| poll.since.is_none()));
    luge.sync(&bob, json!({}));
    assert!(luge.answered(first).is_some() && luge.answered(second).is_some());
}

/// Goal: a full shard refuses at the door, and says when to come back.
#[test]
fn users_and_requests_beyond_the_limits_are_refused() {
    let mut luge = Luge::with(ShardLimits { users_max: 1, ..ShardLimits::default() });
    let alice = luge.fresh(ALICE);
    let answer = luge.ask(&alice, request());
    let bob = luge.sign_in(BOB, "B");
    let refused = (429, "M_LIMIT_EXCEEDED".to_owned());
    assert_eq!(luge.refused(&bob, request()), refused, "users");
    luge.ask(&alice, at(position(&answer), request()));

    let mut luge = Luge::with(ShardLimits { held_max: 1, ..ShardLimits::default() });
    let alice = luge.fresh(ALICE);
    let answer = luge.ask(&alice, request());
    let held = luge.send(&alice, waiting(position(&answer), request()));
    let mut other = request();
    other["conn_id"] = "other".into();
    assert_eq!(luge.refused(&alice, other.clone()), refused, "held requests");
    luge.wait(30_000);
    luge.body(held);
    luge.ask(&alice, other);
}

/// Goal: what the homeserver refuses reaches who waits, as it is.
#[test]
fn the_homeservers_refusals_are_passed_on() {
    let consent = Refusal::new(403, "M_CONSENT_NOT_GIVEN", "read this");
    let unauthorized = Refusal::new(401, "M_UNKNOWN_TOKEN", "gone");
    let down = Refusal::new(502, "M_UNKNOWN", "down");
    for (outcome, refusal) in [
        (PollOutcome::Refused(consent.clone()), consent),
        (PollOutcome::Unauthorized(unauthorized.clone()), unauthorized),
        (PollOutcome::Failed(down.clone()), down),
    ] {
        let mut luge = Luge::new();
        let alice = luge.sign_in(ALICE, "A");
        let ticket = luge.send(&alice, request());
        luge.end_poll(&alice, outcome.clone());
        let got = luge.answered(ticket).expect("it is answered");
        assert_eq!(
            (got.status, got.body.to_string()),
            {
                let body: Value = serde_json::from_str(&refusal.body).expect("a body is JSON");
                (refusal.status, body.to_string())
            },
            "{outcome:?}"
        );
    }
}

/// Goal: a homeserver that is busy is asked again, later.
#[test]
fn a_failed_poll_is_tried_again_after_a_while() {
    let (mut luge, alice) = room();
    for outcome in [
        PollOutcome::Limited { wait_ms: 3_000 },
        PollOutcome::Failed(Refusal::new(502, "M_UNKNOWN", "down")),
    ] {
        luge.ask(&alice, request());
        assert!(luge.poll(&alice).is_some());
        luge.end_poll(&alice, outcome);
        assert!(luge.poll(&alice).is_none());
        luge.wait(3_000);
        assert!(luge.poll(&alice).is_some());
    }
}

/// Goal: between failures the wait grows from its least to its most, and is back
/// at its least after a success.
#[test]
fn waits_between_failed_polls_grow_to_the_limit() {
    let limits =
        ShardLimits { backoff_min_ms: 1_000, backoff_max_ms: 8_000, ..ShardLimits::default() };
    let mut luge = Luge::with(limits);
    let alice = luge.fresh(ALICE);
    luge.ask(&alice, request());
    let down = || PollOutcome::Failed(Refusal::new(502, "M_UNKNOWN", "down"));
    let waited = |luge: &mut Luge| {
        luge.end_poll(&alice, down());
        let start_ms = luge.now_ms();
        while luge.poll(&alice).is_none() {
            luge.wait(50);
        }
        luge.now_ms() - start_ms
    };
    for (at, most_ms) in (1..).zip([1_000, 2_000, 4_000, 8_000, 8_000, 8_000]) {
        let waited_ms = waited(&mut luge);
        assert!((most_ms / 2..=most_ms + 50).contains(&waited_ms), "{waited_ms} of {most_ms}");
        // A homeserver that keeps its answers is asked something else each time.
        assert_eq!(luge.poll(&alice).expect("it is polled").timeout_ms, at);
    }
    luge.sync(&alice, json!({}));
    let waited_ms = waited(&mut luge);
    assert!(waited_ms <= 1_050, "{waited_ms} after a success");
}

/// Goal: the homeserver is asked whose a token is once, and again only where no
/// poll has said for a minute that it is good.
#[test]
fn a_poll_confirms_its_token() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request());
    luge.validates = false;
    luge.wait(59_000);
    let answer = luge.ask(&alice, at(position(&answer), request()));
    luge.sync(&alice, json!({}));
    luge.wait(59_000);
    let answer = luge.ask(&alice, at(position(&answer), request()));
    luge.wait(2_000);
    let ticket = luge.send(&alice, at(position(&answer), request()));
    assert_eq!(luge.answered(ticket), None, "the last word is more than a minute old");
    luge.validate(&alice, Validation::Valid);
    luge.body(ticket);
}

/// Goal: a `since` that is not known any more costs no connection.
#[test]
fn a_rejected_since_starts_over_upstream_alone() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request());
    luge.end_poll(&alice, PollOutcome::SinceRejected);
    luge.wait(60_000);
    let poll = luge.poll(&alice).expect("it is asked again");
    assert_eq!(poll.since, None);
    luge.sync(
        &alice,
        joined("!r:x", &[beginning("$r", &[ALICE, BOB]), vec![message("$m", BOB)]].concat()),
    );
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(timeline(&answer, "!r:x"), ["$m"]);
    assert_eq!(answer["rooms"]["!r:x"].get("initial"), None);
}

/// Goal: the homeserver deletes what the next `since` acknowledges, so that it is
/// the durable one, whatever an answer said (INV-6).
#[test]
fn the_next_poll_goes_on_from_what_is_durable() {
    let (mut luge, alice) = room();
    luge.ask(&alice, request());
    let durable = luge.poll(&alice).expect("it polls").since.clone();
    assert!(durable.is_some());
    luge.end_poll(&alice, PollOutcome::Advanced { since: Some("ahead".to_owned()), silence: None });
    assert_eq!(luge.poll(&alice).expect("it polls on").since, durable);
}

/// What of an order says how the homeserver is asked again: by which `since`, how long it
/// may wait, and whether once more.
fn again(luge: &mut Luge, client: &Client) -> (Option<String>, u64, bool) {
    luge.end_poll(client, PollOutcome::Again);
    let poll = luge.poll(client).expect("it is asked again at once");
    (poll.since.clone(), poll.timeout_ms, poll.may_repeat)
}

/// Goal: the answer to the same question may be one that the homeserver has kept: another
/// timeout is another question. In the end senders' clocks decide, and the next answer is
/// as any other.
/// Goal: a process that ends asks for nothing any more.
#[test]
fn an_answer_without_a_place_is_not_asked_for_again_at_the_end() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    luge.ask(&alice, request());
    assert!(luge.poll(&alice).is_some());
    luge.apply(Event::Stop);
    luge.end_poll(&alice, PollOutcome::Again);
    assert!(luge.poll(&alice).is_none());
}

#[test]
fn an_answer_without_a_place_is_asked_for_again_in_other_words_and_a_few_times() {
    let limits = ShardLimits { poll_repeats_max: 3, ..ShardLimits::default() };
    let mut luge = Luge::with(limits);
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    luge.ask(&alice, request());
    let first = luge.poll(&alice).expect("it is polled").clone();
    assert!(first.since.is_some() && first.may_repeat);
    for _ in 0..2 {
        let since = luge.poll(&alice).expect("it is polled").since.clone();
        for (timeout_ms, may_repeat) in [(1, true), (2, true), (3, false)] {
            assert_eq!(again(&mut luge, &alice), (since.clone(), timeout_ms, may_repeat));
        }
        luge.sync(&alice, json!({}));
        let next = luge.poll(&alice).expect("it is polled on");
        assert!(next.since != since && next.may_repeat);
        assert!(next.timeout_ms > 1_000, "it may wait for news");
    }
}

/// Goal: how often that is, is configured.
#[test]
fn answers_are_asked_for_again_as_often_as_configured() {
    for poll_repeats_max in [0, 1] {
        let mut luge = Luge::with(ShardLimits { poll_repeats_max, ..ShardLimits::default() });
        let alice = luge.sign_in(ALICE, "A");
        luge.sync(&alice, json!({}));
        luge.ask(&alice, request());
        let poll = luge.poll(&alice).expect("it is polled");
        assert_eq!(poll.may_repeat, poll_repeats_max > 0);
        assert!(!again(&mut luge, &alice).2);
    }
}

/// Goal: a failure in between is no answer: what is asked then is asked anew, and counted so.
#[test]
fn after_a_failed_poll_repeats_are_counted_anew() {
    let (mut luge, alice) = room();
    luge.ask(&alice, request());
    for _ in 0..2 {
        assert_eq!(again(&mut luge, &alice).1, 1);
        luge.end_poll(&alice, PollOutcome::Limited { wait_ms: 3_000 });
        luge.wait(3_000);
        assert!(luge.poll(&alice).is_some());
    }
}

/// Goal: who waits for a first sync is answered by the one that is asked for again.
#[test]
fn a_first_sync_without_a_place_is_asked_for_again_and_takes_one_turn() {
    let mut luge = Luge::with(ShardLimits { initial_syncs_max: 1, ..ShardLimits::default() });
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.sign_in(BOB, "B"));
    let [first, second] = [&alice, &bob].map(|client| luge.send(client, request()));
    luge.end_poll(&alice, PollOutcome::Again);
    // It goes behind those that wait, and nobody waits for ever.
    assert!(luge.poll(&bob).is_some() && luge.poll(&alice).is_none());
    luge.sync(&bob, json!({}));
    let poll = luge.poll(&alice).expect("it is asked again");
    assert_eq!((&poll.since, poll.timeout_ms), (&None, 1));
    luge.sync(&alice, json!({}));
    assert!(luge.answered(first).is_some() && luge.answered(second).is_some());
}

/// Goal: an unknown token is asked about before anything is told.
#[test]
fn nothing_is_told_before_the_token_is_known() {
    let (mut luge, alice) = room();
    luge.validates = false;
    luge.restart();
    let ticket = luge.send(&alice, request());
    assert_eq!(luge.answered(ticket), None);
    luge.validate(&alice, Validation::Valid);
    assert_eq!(rooms(&luge.body(ticket)), ["!r:x"]);
    luge.restart();
    let ticket = luge.send(&alice, request());
    luge.validate(&alice, Validation::Refused(Refusal::new(401, "M_UNKNOWN_TOKEN", "no")));
    assert_eq!(luge.answered(ticket).expect("it is answered").status, 401);
}

/// Goal: a second device's first poll asks for no rooms.
#[test]
fn a_second_device_shares_the_rooms() {
    let (mut luge, alice) = room();
    luge.ask(&alice, request());
    luge.sync(&alice, json!({}));
    luge.wait(1_000);
    let second = luge.sign_in(ALICE, "B");
    let answer = luge.ask(&second, request());
    assert_eq!(rooms(&answer), ["!r:x"], "the rooms are here already");
    let poll = luge.poll(&second).expect("it is polled");
    assert_eq!((poll.with_rooms, &poll.since), (false, &None));
    luge.sync_without_rooms(&second, json!({}));
    assert!(luge.poll(&second).expect("it is polled").with_rooms);
}

/// Goal: a device that began without rooms, and to whose beginning nobody has
/// told of them yet, is none that another may rely on: neither would be told of
/// what happened in between.
#[test]
fn a_device_that_relies_on_another_is_not_relied_on() {
    for has_caught_up in [false, true] {
        let (mut luge, alice) = room();
        luge.ask(&alice, request());
        luge.sync(&alice, json!({}));
        luge.wait(1_000);
        let second = luge.sign_in(ALICE, "B");
        luge.ask(&second, request());
        luge.sync_without_rooms(&second, json!({}));
        if has_caught_up {
            luge.sync(&alice, json!({}));
            luge.sync(&second, json!({}));
        }
        luge.end_poll(&alice, PollOutcome::SinceRejected);
        luge.wait(1_000);
        let poll = luge.poll(&alice).expect("it is polled");
        assert_eq!((&poll.since, poll.with_rooms), (&None, !has_caught_up));
    }
}

/// Goal: a stop answers who waits; the positions are good afterwards.
#[test]
fn a_stop_answers_who_waits() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request());
    let held = luge.send(&alice, waiting(position(&answer), request()));
    luge.restart();
    let answer = luge.body(held);
    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(timeline(&answer, "!r:x"), ["$m"]);
}

/// Goal: a device that is gone is answered so, and nothing of it stays.
#[test]
fn a_purged_device_is_logged_out() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request());
    let held = luge.send(&alice, waiting(position(&answer), request()));
    luge.hint(&alice, Hint::Purge(vec![alice.device]));
    assert_eq!(luge.answered(held).expect("it is answered").status, 401);
    assert!(luge.poll(&alice).is_none());
}

/// Goal: a device that syncs for itself is not polled until it asks again.
#[test]
fn a_classic_sync_parks_the_poller() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request());
    luge.hint(&alice, Hint::ClassicSync(alice.device));
    assert!(luge.poll(&alice).is_none());
    luge.ask(&alice, at(position(&answer), request()));
    assert!(luge.poll(&alice).is_some());
}

/// Goal: a new room enters the window of who waits.
#[test]
fn a_room_that_enters_the_window_releases_a_long_poll() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request());
    let held = luge.send(&alice, waiting(position(&answer), request()));
    luge.sync(&alice, all([joined("!new:x", &beginning("$new", &[ALICE]))]));
    let answer = luge.body(held);
    assert_eq!((rooms(&answer), &answer["lists"]["all"]["count"]), (vec!["!new:x"], &2.into()));
}

/// Goal: the ledger does not hear again and again that there is nothing new,
/// and misses nothing for that: neither what another has told of keys, nor that
/// a device need no longer wait for rooms.
#[test]
fn only_silence_that_changes_nothing_is_kept_from_the_ledger() {
    let (mut luge, alice) = room();
    luge.ask(&alice, request());
    let since = luge.poll(&alice).and_then(|poll| poll.since.clone());
    let ends = |luge: &mut Luge, silence| {
        let outcome = PollOutcome::Advanced { since: since.clone(), silence };
        luge.end_poll(&alice, outcome);
        luge.poll(&alice).expect("it is polled on").silence
    };
    assert_eq!(luge.poll(&alice).expect("it is polled").silence, None);
    assert_eq!(ends(&mut luge, Some(7)), Some(7));
    assert_eq!(ends(&mut luge, Some(8)), Some(8));
    assert_eq!(ends(&mut luge, None), None, "it said something");
    assert_eq!(ends(&mut luge, Some(7)), Some(7));
    luge.hint(&alice, Hint::KeyCounts(alice.device, r#"{"a":1}"#.to_owned()));
    assert_eq!(ends(&mut luge, Some(7)), None, "it may be older than the other counts");
    assert_eq!(ends(&mut luge, Some(7)), Some(7));
    // Another device, of which nobody knows yet what it was not told.
    let other = luge.sign_in(ALICE, "OTHER");
    luge.ask(&other, request());
    luge.sync_without_rooms(&other, json!({}));
    luge.ask(&other, request());
    let since = luge.poll(&other).and_then(|poll| poll.since.clone());
    luge.end_poll(&other, PollOutcome::Advanced { since, silence: Some(7) });
    assert_eq!(luge.poll(&other).expect("it is polled on").silence, None);
}

/// Goal: where many wait for one event, a turn looks at some of them, nobody is
/// looked at twice before everybody was, and what comes meanwhile is in the first
/// answer.
#[test]
fn whoever_waits_for_the_same_is_answered_over_several_turns() {
    let names = ["@a:x", "@b:x", "@c:x", "@d:x", "@e:x", "@f:x"];
    let mut luge = Luge::new();
    let clients = names.map(|name| luge.sign_in(name, "D"));
    for client in &clients {
        luge.sync(client, joined("!r:x", &beginning("$r", &names)));
    }
    let tickets = clients.each_ref().map(|client| {
        let answer = luge.ask(client, request());
        luge.send(client, waiting(position(&answer), request()))
    });
    luge.settled_max = 1;
    let answered = |luge: &mut Luge| -> Vec<Value> {
        tickets.iter().filter_map(|it| luge.answered(*it)).map(|got| got.body).collect()
    };
    // One turn for the delta, one for the end of the poll.
    luge.sync(&clients[0], joined("!r:x", &[message("$m", BOB)]));
    let first = answered(&mut luge);
    assert_eq!(first.len(), 2);
    first.iter().for_each(|body| assert_eq!(timeline(body, "!r:x"), ["$m"]));
    // For these two there are news again, and they wait until the others had theirs.
    luge.sync(&clients[0], joined("!r:x", &[message("$n", BOB)]));
    assert!(luge.turn());
    let mut others = answered(&mut luge);
    assert_eq!(others.len(), 3);
    assert!(luge.turn());
    others.extend(answered(&mut luge));
    assert_eq!(others.len(), 4);
    others.iter().for_each(|body| assert_eq!(timeline(body, "!r:x"), ["$m", "$n"]));
    while luge.turn() {}
}
