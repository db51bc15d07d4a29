//! What came before the stored timeline: it is fetched, shown once and in its
//! place, and only to whom the homeserver gave it.

use serde_json::{Value, json};

use crate::{
    answers::{position, rooms, timeline},
    driver::{Client, Luge},
    events::{ALICE, BOB, at, beginning, gap, joined, list, member, message, waiting},
};
use luge_core::{connection::Want, ledger::LedgerLimits};

fn request(limit: u64) -> Value {
    list(limit, json!([]))
}

fn messages(from: usize, to: usize) -> Vec<Value> {
    (from..to).map(|at| message(&format!("$m{at}"), BOB)).collect()
}

/// The same, the newest first.
fn backwards(from: usize, to: usize) -> Vec<Value> {
    let mut messages = messages(from, to);
    messages.reverse();
    messages
}

fn ids(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|at| format!("$m{at}")).collect()
}

/// Alice in a room of which the homeserver gave `$m20` to `$m24`.
fn room() -> (Luge, Client) {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, gap("!r:x", &beginning("$r", &[ALICE, BOB]), &messages(20, 25), "p20"));
    (luge, alice)
}

fn orders(luge: &Luge) -> usize {
    luge.fetches.iter().filter(|order| matches!(order.want, Want::History(_))).count()
}

/// Goal: what is there comes at once; the rest wakes the long poll, once, as an
/// expansion, none of it live.
#[test]
fn a_timeline_that_is_too_short_is_filled_in() {
    let (mut luge, alice) = room();
    let first = luge.ask(&alice, request(10));
    assert_eq!(timeline(&first, "!r:x"), ids(20, 25));
    assert_eq!(first["rooms"]["!r:x"]["limited"], true);
    let want = luge.take_history_order();
    assert_eq!((want.prev_batch.as_deref(), want.limit), (Some("p20"), 5));
    let held = luge.send(&alice, waiting(position(&first), request(10)));
    assert_eq!(luge.answered(held), None);
    luge.answer_history(&want, &backwards(15, 20), Some("p15"));
    let filled = luge.body(held);
    for _ in 0..2 {
        let room = &filled["rooms"]["!r:x"];
        assert_eq!(timeline(&filled, "!r:x"), ids(15, 25));
        assert_eq!((&room["limited"], &room["prev_batch"]), (&true.into(), &"p15".into()));
        assert_eq!(room["unstable_expanded_timeline"], true);
        assert_eq!((&room["num_live"], room.get("initial")), (&0.into(), None));
        let again = luge.ask(&alice, at(position(&first), request(10)));
        assert_eq!(again["rooms"], filled["rooms"], "a lost answer is told again");
        luge.restart();
    }
    let next = luge.ask(&alice, at(position(&filled), request(10)));
    assert_eq!(rooms(&next), [] as [&str; 0], "it is told once");
    luge.sync(&alice, joined("!r:x", &messages(25, 26)));
    let next = luge.ask(&alice, at(position(&next), request(10)));
    assert_eq!((timeline(&next, "!r:x"), orders(&luge)), (vec!["$m25"], 0));
}

/// Goal: in front of a segment there is no more than configured, however many
/// pages are fetched.
#[test]
fn history_of_a_segment_has_a_size() {
    let (mut luge, alice) = room();
    luge.limit_ledger(LedgerLimits { history_max: 3, ..LedgerLimits::default() });
    let first = luge.ask(&alice, request(20));
    let want = luge.take_history_order();
    luge.answer_history(&want, &backwards(18, 20), Some("p18"));
    let second = luge.ask(&alice, at(position(&first), request(20)));
    assert_eq!(timeline(&second, "!r:x"), ids(18, 25));
    let want = luge.take_history_order();
    luge.answer_history(&want, &backwards(10, 18), Some("p10"));
    let third = luge.ask(&alice, at(position(&second), request(20)));
    assert_eq!(timeline(&third, "!r:x"), ids(17, 25));
    assert_eq!(third["rooms"]["!r:x"]["limited"], true);
}

/// Goal: history that came after a position is no news to who comes back to it.
#[test]
fn history_is_nobodys_news() {
    let (mut luge, alice) = room();
    let first = luge.ask(&alice, request(3));
    luge.sync(&alice, gap("!r:x", &[], &messages(30, 32), "p30"));
    let other = luge.ask(&alice, {
        let mut other = request(10);
        other["conn_id"] = "other".into();
        other
    });
    assert_eq!(timeline(&other, "!r:x"), ids(30, 32));
    let want = luge.take_history_order();
    luge.answer_history(&want, &backwards(25, 30), Some("p25"));
    let news = luge.ask(&alice, at(position(&first), request(10)));
    assert_eq!(timeline(&news, "!r:x").len(), 7, "who asks for more gets all of it");
    assert_eq!(news["rooms"]["!r:x"]["num_live"], 2);
    let news = luge.ask(&alice, at(position(&first), request(3)));
    let room = &news["rooms"]["!r:x"];
    assert_eq!(timeline(&news, "!r:x"), ids(30, 32));
    assert_eq!((&room["limited"], &room["num_live"]), (&true.into(), &2.into()));
    assert_eq!(room["prev_batch"], "p30");
}

/// Goal: where history meets what is known, there is no gap any more.
#[test]
fn history_that_meets_known_events_closes_the_gap() {
    let (mut luge, alice) = room();
    luge.sync(&alice, gap("!r:x", &[], &messages(30, 32), "p30"));
    let answer = luge.ask(&alice, request(20));
    assert_eq!(timeline(&answer, "!r:x"), ids(30, 32));
    let want = luge.take_history_order();
    luge.answer_history(&want, &backwards(23, 30), Some("p23"));
    let answer = luge.ask(&alice, at(position(&answer), request(20)));
    assert_eq!(timeline(&answer, "!r:x"), ids(20, 32));
    assert_eq!(answer["rooms"]["!r:x"]["prev_batch"], "p20");
}

/// Goal: what one user was given another does not see, until it is given to them
/// too.
#[test]
fn history_is_shown_to_whom_it_was_given() {
    let (mut luge, alice) = room();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, gap("!r:x", &beginning("$r", &[ALICE, BOB]), &messages(20, 25), "p20"));
    let of_alice = luge.ask(&alice, request(10));
    let want = luge.take_history_order();
    luge.answer_history(&want, &backwards(15, 20), Some("p15"));
    let answer = luge.ask(&alice, at(position(&of_alice), request(10)));
    assert_eq!(timeline(&answer, "!r:x"), ids(15, 25));

    let answer = luge.ask(&bob, request(10));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ids(20, 25));
    assert_eq!((&room["limited"], &room["prev_batch"]), (&true.into(), &"p20".into()));
    let want = luge.take_history_order();
    assert_eq!(want.user, bob.user);
    // He came to the room at 17.
    luge.answer_history(&want, &backwards(17, 20), None);
    let answer = luge.ask(&bob, at(position(&answer), request(10)));
    assert_eq!(timeline(&answer, "!r:x"), ids(17, 25));
    assert_eq!(orders(&luge), 0, "there is nothing more for him");
}

/// Goal: who was given history once is not shown what others are given of a
/// later gap; and who is given it by a sync answer sees it.
#[test]
fn history_of_a_later_gap_is_for_whom_it_was_given() {
    let (mut luge, alice) = room();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, gap("!r:x", &beginning("$r", &[ALICE, BOB]), &messages(20, 25), "p20"));
    luge.ask(&alice, request(10));
    let want = luge.take_history_order();
    luge.answer_history(&want, &backwards(15, 20), Some("p15"));
    for client in [&alice, &bob] {
        luge.sync(client, gap("!r:x", &[], &messages(30, 32), "p30"));
    }
    luge.ask(&bob, request(10));
    let want = luge.take_history_order();
    luge.answer_history(&want, &backwards(24, 30), Some("p24"));
    let answer = luge.ask(&bob, request(8));
    assert_eq!(timeline(&answer, "!r:x"), ids(24, 32));
    let answer = luge.ask(&alice, request(10));
    assert_eq!(timeline(&answer, "!r:x"), ids(30, 32));

    let carol = luge.sign_in(crate::events::CAROL, "C");
    luge.sync(&carol, gap("!r:x", &beginning("$r", &[ALICE, BOB]), &messages(28, 32), "p28"));
    let answer = luge.ask(&carol, request(10));
    assert_eq!(timeline(&answer, "!r:x"), ids(28, 32));
}

/// Goal: a gap that another's history has closed is a hole to who was not given
/// it, also where the first event behind it was held back.
#[test]
fn history_of_others_in_front_of_a_held_back_event_is_a_hole() {
    let (mut luge, alice) = room();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, gap("!r:x", &beginning("$r", &[ALICE, BOB]), &messages(20, 25), "p20"));
    let answer = luge.ask(&alice, request(5));
    let news = |transaction_id: Option<&str>| {
        let mut own = message("$own", ALICE);
        if let Some(transaction_id) = transaction_id {
            own["unsigned"] = json!({"transaction_id": transaction_id});
        }
        gap("!r:x", &[], &[own, message("$m31", BOB)], "p30")
    };
    luge.sync(&bob, news(None));
    luge.ask(&bob, request(20));
    let want = luge.take_history_order();
    assert_eq!(want.user, bob.user);
    luge.answer_history(&want, &backwards(24, 30), Some("p24"));
    let answer = luge.ask(&alice, at(position(&answer), request(5)));
    assert!(timeline(&answer, "!r:x").is_empty(), "her own event waits for its id");
    luge.sync(&alice, news(Some("t")));
    let answer = luge.ask(&alice, at(position(&answer), request(5)));
    assert_eq!(timeline(&answer, "!r:x"), ["$own", "$m31"]);
    assert_eq!(answer["rooms"]["!r:x"]["limited"], true);
}

/// Goal: who comes back to a room sees nothing of what was given them before,
/// nor of what was said while they were out.
#[test]
fn history_ends_with_the_stay() {
    let (mut luge, alice) = room();
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, gap("!r:x", &beginning("$r", &[ALICE, BOB]), &messages(20, 25), "p20"));
    luge.ask(&alice, request(10));
    let want = luge.take_history_order();
    luge.answer_history(&want, &backwards(15, 20), Some("p15"));
    let mut leave = member("$leave", ALICE, "leave");
    leave["unsigned"] = json!({"prev_content": {"membership": "join"}});
    luge.sync(&alice, crate::events::left("!r:x", &[leave.clone()]));
    let mut back = member("$back", ALICE, "join");
    back["unsigned"] = json!({"prev_content": {"membership": "leave"}});
    // Bob is there all the time, so that there is no gap.
    let meanwhile = [leave, message("$secret", BOB), back.clone()];
    luge.sync(&bob, joined("!r:x", &meanwhile));
    luge.sync(&alice, joined("!r:x", &[back]));
    let answer = luge.ask(&alice, request(50));
    assert_eq!(timeline(&answer, "!r:x"), ["$back"]);
}

/// Goal: the homeserver is asked once, not at all for a preview or a whole room,
/// and not again where it had nothing or failed.
#[test]
fn history_is_not_asked_for_in_vain() {
    let (mut luge, alice) = room();
    luge.ask(&alice, request(1));
    luge.ask(&alice, request(5));
    assert_eq!(orders(&luge), 0);
    luge.ask(&alice, request(10));
    luge.ask(&alice, request(20));
    assert_eq!(orders(&luge), 1, "one for a room and user");
    luge.fail_fetch();
    luge.ask(&alice, request(10));
    assert_eq!(orders(&luge), 0, "it failed a moment ago");
    luge.wait(61_000);
    luge.ask(&alice, request(10));
    let want = luge.take_history_order();
    luge.answer_history(&want, &[], None);
    luge.ask(&alice, request(10));
    assert_eq!(orders(&luge), 0, "there is none");
    luge.sync(&alice, joined("!whole:x", &beginning("$w", &[BOB, ALICE])));
    luge.ask(&alice, request(10));
    assert_eq!(orders(&luge), 0, "it begins with the room");
}

/// Goal: what more is wanted while some is on its way is fetched afterwards, and
/// what could not be had is wanted again when the room next has news.
#[test]
fn history_that_is_still_lacking_is_fetched_later() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request(10));
    let few = luge.take_history_order();
    luge.ask(&alice, at(position(&answer), request(20)));
    assert_eq!(orders(&luge), 0);
    luge.answer_history(&few, &backwards(15, 20), Some("p15"));
    let many = luge.take_history_order();
    assert_eq!((many.before, many.limit), (few.before, 15));
    luge.answer_history(&many, &backwards(5, 20), Some("p5"));
    let answer = luge.ask(&alice, at(position(&answer), request(20)));
    assert_eq!(timeline(&answer, "!r:x"), ids(5, 25));

    let answer = luge.ask(&alice, request(30));
    luge.fail_fetch();
    luge.sync(&alice, joined("!r:x", &messages(25, 26)));
    let answer = luge.ask(&alice, at(position(&answer), request(30)));
    assert_eq!(orders(&luge), 0, "it failed a moment ago");
    luge.wait(61_000);
    luge.sync(&alice, joined("!r:x", &messages(26, 27)));
    let answer = luge.ask(&alice, at(position(&answer), request(30)));
    let want = luge.take_history_order();
    assert_eq!(want.prev_batch.as_deref(), Some("p5"));
    luge.answer_history(&want, &backwards(0, 5), Some("p0"));
    let answer = luge.ask(&alice, at(position(&answer), request(30)));
    assert_eq!(timeline(&answer, "!r:x"), ids(0, 27));
}

/// Goal: the beginning of the room ends it, and no more than so many events are
/// kept.
#[test]
fn history_is_bounded_and_ends_with_the_beginning() {
    let (mut luge, alice) = room();
    let answer = luge.ask(&alice, request(100));
    let want = luge.take_history_order();
    let mut all = backwards(0, 20);
    all.extend(beginning("$r", &[ALICE, BOB]).into_iter().rev());
    luge.answer_history(&want, &all, None);
    let answer = luge.ask(&alice, at(position(&answer), request(100)));
    assert_eq!(timeline(&answer, "!r:x").len(), 29);
    assert_eq!(answer["rooms"]["!r:x"].get("limited"), None, "that is all");

    luge.sync(&alice, gap("!r:x", &[], &messages(1_000, 1_001), "p"));
    let answer = luge.ask(&alice, request(100));
    assert_eq!(timeline(&answer, "!r:x"), ["$m1000"]);
    let want = luge.take_history_order();
    luge.answer_history(&want, &backwards(800, 1_000), Some("p800"));
    let answer = luge.ask(&alice, at(position(&answer), request(100)));
    assert_eq!(timeline(&answer, "!r:x"), ids(901, 1_001));
    let anew = luge.ask(&alice, request(100));
    assert_eq!(timeline(&anew, "!r:x"), ids(901, 1_001));
}

/// Goal: state events that come as history change no state.
#[test]
fn history_changes_no_state() {
    let (mut luge, alice) = room();
    let named = crate::events::name("$new", BOB, "New");
    luge.sync(&alice, joined("!r:x", &[named]));
    let answer = luge.ask(&alice, request(20));
    let want = luge.take_history_order();
    let old = crate::events::name("$old", BOB, "Old");
    let out = crate::events::made("$out", BOB, ALICE, "leave");
    luge.answer_history(&want, &[old, out], Some("p"));
    let answer = luge.ask(&alice, at(position(&answer), request(20)));
    assert_eq!(timeline(&answer, "!r:x")[..2], ["$out", "$old"]);
    let anew = luge.ask(&alice, request(1));
    assert_eq!(anew["rooms"]["!r:x"]["name"], "New");
    assert_eq!(anew["lists"]["all"]["count"], 1);
}
