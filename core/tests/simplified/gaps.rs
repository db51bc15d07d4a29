//! What lies behind a gap that another's poller brought: told as soon as one's own
//! poller has vouched for one, and not before.

use luge_core::shard::PollOutcome;
use serde_json::{Value, json};

use crate::{
    answers::{position, required, rooms, timeline, window},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, CAROL, at, beginning, gap, joined, joined_with, left, list, made, member,
        message, name, state, waiting,
    },
};

/// Alice and Bob, both served, in `!r:x`; Bob in `!own:x` as well, where something
/// happened last.
fn shared() -> (Luge, Client, Client) {
    let mut luge = Luge::new();
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.sign_in(BOB, "B"));
    let events = [beginning("$r", &[ALICE, BOB]), vec![message("$m1", ALICE)]].concat();
    luge.sync(&alice, joined("!r:x", &events));
    luge.sync(&bob, joined("!r:x", &events));
    luge.wait(1_000);
    luge.sync(&bob, joined("!own:x", &beginning("$own", &[BOB])));
    (luge, alice, bob)
}

fn request() -> Value {
    list(9, json!([["m.room.name", ""]]))
}

/// An event that is sent now.
fn now(luge: &Luge, mut event: Value) -> Value {
    event["origin_server_ts"] = luge.now_ms().into();
    event
}

/// Alice is told of what happened behind a gap.
fn alice_has_a_gap(luge: &mut Luge, alice: &Client) {
    luge.wait(1_000);
    let events = [name("$name", ALICE, "New"), message("$m9", ALICE)].map(|it| now(luge, it));
    luge.sync(alice, gap("!r:x", &[], &events, "p"));
    let typing = json!({"type": "m.typing", "content": {"user_ids": [ALICE]}});
    luge.sync(alice, joined_with("!r:x", &[], json!({"ephemeral": {"events": [typing]}})));
}

/// The homeserver has nothing for Bob, as of a moment behind the gap.
fn bob_is_vouched_for(luge: &mut Luge, bob: &Client) {
    luge.sync(bob, json!({}));
    luge.sync(bob, json!({}));
}

/// Goal: who waits is not woken by what may not be theirs, and is as soon as it is.
#[test]
fn what_follows_a_gap_waits_for_the_own_poller() {
    let (mut luge, alice, bob) = shared();
    let request = || {
        let mut request = request();
        request["extensions"] = json!({"typing": {"enabled": true}});
        request
    };
    let answer = luge.ask(&bob, request());
    assert_eq!(window(&answer, "all", 0), ["!own:x", "!r:x"]);
    let held = luge.send(&bob, waiting(position(&answer), request()));
    alice_has_a_gap(&mut luge, &alice);
    assert_eq!(luge.answered(held), None);
    luge.sync(&bob, json!({}));
    assert_eq!(luge.answered(held), None, "this answer was on its way");
    luge.sync(&bob, json!({}));
    let answer = luge.body(held);
    assert_eq!(timeline(&answer, "!r:x"), ["$name", "$m9"]);
    assert_eq!(answer["rooms"]["!r:x"]["limited"], true);
    assert_eq!(required(&answer, "!r:x"), ["$name"]);
    assert_eq!(window(&answer, "all", 0), ["!r:x", "!own:x"]);
    let typing = &answer["extensions"]["typing"]["rooms"]["!r:x"]["content"]["user_ids"];
    assert_eq!(*typing, json!([ALICE]));
}

/// Goal: where the homeserver says again and again that there is nothing, the ledger
/// hears it once more behind the gap: nobody is withheld a room for that.
#[test]
fn silence_behind_a_gap_reaches_the_ledger() {
    let (mut luge, alice, bob) = shared();
    luge.ask(&bob, request());
    let since = luge.poll(&bob).and_then(|poll| poll.since.clone());
    let ends = |luge: &mut Luge| {
        luge.end_poll(&bob, PollOutcome::Advanced { since: since.clone(), silence: Some(7) });
        luge.poll(&bob).expect("it is polled on").silence
    };
    assert_eq!(ends(&mut luge), Some(7));
    alice_has_a_gap(&mut luge, &alice);
    assert_eq!(ends(&mut luge), None, "that answer was on its way");
    assert_eq!(ends(&mut luge), Some(7));
}

/// Goal: likewise where somebody's own poller has told that they have left, and nobody
/// else's: what Bob's does not tell stands for that.
#[test]
fn silence_about_an_end_reaches_the_ledger_and_shows_it() {
    let mut luge = Luge::new();
    let [alice, bob] = [(ALICE, "A"), (BOB, "B")].map(|(user, device)| luge.sign_in(user, device));
    let events = [beginning("$r", &[ALICE, BOB]), vec![message("$m1", ALICE)]].concat();
    luge.sync(&alice, joined("!r:x", &events));
    luge.sync(&bob, joined("!r:x", &events));
    let request = || list(9, json!([["m.room.member", ALICE]]));
    let before = luge.ask(&bob, request());
    let since = luge.poll(&bob).and_then(|poll| poll.since.clone());
    let ends = |luge: &mut Luge| {
        luge.end_poll(&bob, PollOutcome::Advanced { since: since.clone(), silence: Some(7) });
        luge.poll(&bob).expect("it is polled on").silence
    };
    assert_eq!(ends(&mut luge), Some(7));
    let mut end = left("!r:x", &[made("$end", ALICE, ALICE, "leave")]);
    end["rooms"]["leave"]["!r:x"]["timeline"]["limited"] = true.into();
    luge.sync(&alice, end);
    let held = luge.send(&bob, waiting(position(&before), request()));
    assert_eq!(ends(&mut luge), None, "that answer was on its way");
    luge.sync(&bob, json!({}));
    assert_eq!(luge.answered(held), None, "so was this");
    luge.sync(&bob, json!({}));
    let answer = luge.body(held);
    assert_eq!(required(&answer, "!r:x"), ["$end"]);
    assert_eq!(answer["rooms"]["!r:x"]["joined_count"], 1);
}

/// Goal: who starts anew has the room in their lists, where it was, and what there is
/// of it with the next response.
#[test]
fn a_room_that_is_withheld_keeps_its_place_and_comes_later() {
    let (mut luge, alice, bob) = shared();
    luge.ask(&bob, request());
    alice_has_a_gap(&mut luge, &alice);
    let answer = luge.ask(&bob, request());
    assert_eq!(window(&answer, "all", 0), ["!own:x", "!r:x"]);
    assert_eq!(answer["lists"]["all"]["count"], 2);
    assert_eq!(rooms(&answer), ["!own:x"]);
    bob_is_vouched_for(&mut luge, &bob);
    let answer = luge.ask(&bob, at(position(&answer), request()));
    assert_eq!(rooms(&answer), ["!r:x"]);
    assert_eq!(answer["rooms"]["!r:x"]["initial"], true);
    assert_eq!(answer["rooms"]["!r:x"]["name"], "New");
    assert_eq!(timeline(&answer, "!r:x"), ["$name", "$m9"]);
}

/// Goal: likewise after a restart, which knows no place where it was.
#[test]
fn a_room_that_is_withheld_is_so_after_a_restart() {
    let (mut luge, alice, bob) = shared();
    let before = luge.ask(&bob, request());
    alice_has_a_gap(&mut luge, &alice);
    luge.restart();
    let answer = luge.ask(&bob, at(position(&before), request()));
    assert_eq!(window(&answer, "all", 0), ["!own:x", "!r:x"]);
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    bob_is_vouched_for(&mut luge, &bob);
    let answer = luge.ask(&bob, at(position(&answer), request()));
    assert_eq!(timeline(&answer, "!r:x"), ["$name", "$m9"]);
}

/// Goal: who was kicked in the gap is told of that, and of nothing from behind it.
#[test]
fn who_was_kicked_in_the_gap_is_told_of_that_alone() {
    let (mut luge, alice, bob) = shared();
    let request = || list(9, json!([["m.room.member", "$ME"], ["m.room.name", ""]]));
    let answer = luge.ask(&bob, request());
    let held = luge.send(&bob, waiting(position(&answer), request()));
    alice_has_a_gap(&mut luge, &alice);
    luge.sync(&bob, left("!r:x", &[made("$kick", ALICE, BOB, "leave")]));
    let answer = luge.body(held);
    assert_eq!(required(&answer, "!r:x"), ["$kick"]);
    assert!(!answer.to_string().contains("$m9") && !answer.to_string().contains("New"));
}

/// Goal: it stays there also when something of one's own changes meanwhile.
#[test]
fn a_room_that_is_withheld_keeps_its_place_when_its_counts_change() {
    let (mut luge, alice, bob) = shared();
    let top = [now(&luge, message("$m2", ALICE))];
    luge.sync(&alice, joined("!r:x", &top));
    let answer = luge.ask(&bob, request());
    assert_eq!(window(&answer, "all", 0), ["!r:x", "!own:x"]);
    alice_has_a_gap(&mut luge, &alice);
    let counts = json!({"unread_notifications": {"notification_count": 1, "highlight_count": 0}});
    luge.sync(&bob, joined_with("!r:x", &[], counts));
    let answer = luge.ask(&bob, at(position(&answer), request()));
    assert_eq!(window(&answer, "all", 0), ["!r:x", "!own:x"]);
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: filters tell nothing of what is withheld, and a room's type is no secret to
/// who was in it.
#[test]
fn filters_tell_nothing_of_what_is_withheld() {
    let (mut luge, alice, bob) = shared();
    let request = || {
        let list = |filters: Value| json!({"ranges": [[0, 9]], "timeline_limit": 1, "required_state": [], "filters": filters});
        json!({"lists": {
            "encrypted": list(json!({"is_encrypted": true})),
            "named": list(json!({"room_name_like": "secret"})),
            "untyped": list(json!({"not_room_types": ["m.space"]})),
        }})
    };
    luge.ask(&bob, request());
    let algorithm = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    let encrypted = state("$e", "m.room.encryption", "", ALICE, algorithm);
    luge.sync(&alice, gap("!r:x", &[], &[encrypted, name("$n", ALICE, "Secret")], "p"));
    let counts = |answer: &Value| {
        ["encrypted", "named", "untyped"].map(|list| answer["lists"][list]["count"].clone())
    };
    assert_eq!(counts(&luge.ask(&bob, request())), [0, 0, 2]);
    bob_is_vouched_for(&mut luge, &bob);
    assert_eq!(counts(&luge.ask(&bob, request())), [1, 1, 2]);
}

/// Goal: what was kept from who had just come, since nothing said that it came behind
/// them, is theirs when their own poller brings it: also where their client was told of
/// all that there was when it was not.
#[test]
fn what_was_kept_from_a_newcomer_is_told_when_it_is_theirs_after_all() {
    let (mut luge, alice, bob) = shared();
    let carol = luge.fresh(CAROL);
    // Carol's coming is taken for old: others were faster, and her clock is behind.
    luge.sync(&alice, joined("!r:x", &[now(&luge, message("$m2", ALICE))]));
    let mut came = member("$came", CAROL, "join");
    came["origin_server_ts"] = 5.into();
    luge.sync(&carol, gap("!r:x", &[came.clone()], &[came], "c"));
    // What an answer brings that did not know of her may be from before her coming.
    luge.sync(&bob, gap("!r:x", &[], &[now(&luge, message("$m3", BOB))], "b"));
    bob_is_vouched_for(&mut luge, &carol);
    let answer = luge.ask(&carol, request());
    assert_eq!(rooms(&answer), ["!r:x"]);
    assert_eq!(timeline(&answer, "!r:x"), [] as [&str; 0]);
    let both = [now(&luge, message("$m3", BOB)), now(&luge, message("$m4", BOB))];
    luge.sync(&carol, joined("!r:x", &both));
    let answer = luge.ask(&carol, at(position(&answer), request()));
    assert_eq!(answer["rooms"]["!r:x"]["initial"], true);
    assert_eq!(timeline(&answer, "!r:x"), ["$m3", "$m4"]);
    let answer = luge.ask(&carol, at(position(&answer), request()));
    assert_eq!(rooms(&answer), [] as [&str; 0], "once");
}
