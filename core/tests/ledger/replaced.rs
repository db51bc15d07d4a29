//! What state events say of each other (`unsigned.replaces_state`): it goes before what
//! the clocks of their senders say, and where it says nothing, no clock shows anybody more
//! (decision 0033).

use luge_core::{
    record::Membership,
    upstream::{RoomBatch, SyncEvent},
};
use serde_json::json;

use crate::table::{
    BOB, Books, DAVE, Who, joined, kick, left, limited, member_after, message, name, replacing,
    shared_by_three, with_state,
};

fn is(books: &Books, who: Who) -> Membership {
    books.of_user(who).expect("they have to do with the room").membership
}

fn leaves(id: &str) -> SyncEvent {
    member_after(id, BOB, "join", "leave")
}

fn comes(id: &str) -> SyncEvent {
    member_after(id, BOB, "leave", "join")
}

/// The answer to another device of Bob's tells of his coming; then one that was slower
/// tells that he left. What he is then, and by which event others know him.
fn told_of_both(coming: Vec<SyncEvent>, end: SyncEvent) -> (Membership, Option<String>) {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let other = books.sign_in(BOB, "B");
    books.poll_twice(other);
    books.poll_twice(bob);
    books.poll(other, vec![joined(coming)]);
    assert_eq!(is(&books, bob), Membership::Join);
    books.poll(bob, vec![RoomBatch { limited: true, ..left(vec![end]) }]);
    books.poll_twice(alice);
    (is(&books, bob), books.state("m.room.member", BOB))
}

fn told_of_an_end(coming: Vec<SyncEvent>, end: SyncEvent) -> Membership {
    told_of_both(coming, end).0
}

#[test]
fn an_end_from_before_a_coming_that_says_so_is_over() {
    // By a clock that is ahead.
    let end = || leaves("leave99");
    let comes_at_once = vec![replacing(comes("join10"), "leave99")];
    assert_eq!(told_of_an_end(comes_at_once, end()), Membership::Join);
    let invite = member_after("invite8", BOB, "leave", "invite");
    let asked_in = vec![
        replacing(invite, "leave99"),
        replacing(member_after("join10", BOB, "invite", "join"), "invite8"),
    ];
    assert_eq!(told_of_an_end(asked_in, end()), Membership::Join, "by the invite between");
}

#[test]
fn an_end_that_says_that_it_came_behind_a_coming_counts() {
    // By a clock that is behind.
    let end = replacing(leaves("leave6"), "join10");
    let is_out = (Membership::Leave, Some("leave6".to_owned()));
    assert_eq!(told_of_both(vec![comes("join10")], end), is_out);
    let renamed = || replacing(member_after("join12", BOB, "join", "join"), "join10");
    let end = replacing(leaves("leave6"), "join12");
    assert_eq!(told_of_both(vec![comes("join10"), renamed()], end), is_out);
}

#[test]
fn in_doubt_an_own_end_counts_whatever_clocks_say() {
    for id in ["leave6", "leave99"] {
        assert_eq!(told_of_an_end(vec![comes("join10")], leaves(id)), Membership::Leave, "{id}");
    }
    let unrelated = vec![replacing(comes("join10"), "unknown")];
    assert_eq!(told_of_an_end(unrelated, leaves("leave6")), Membership::Leave);
}

/// Bob has come back by `join12`, which nobody was given the event before of; then Dave,
/// who leaves, is told of a kick as history.
fn told_of_a_kick_as_history(join: SyncEvent, kick: SyncEvent) -> Membership {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    for who in [alice, bob] {
        books.poll(who, vec![limited(vec![join.clone(), message("m13")])]);
    }
    assert_eq!(is(&books, bob), Membership::Join);
    let end = vec![kick, member_after("leave50", DAVE, "join", "leave")];
    books.poll(dave, vec![RoomBatch { limited: true, ..left(end) }]);
    is(&books, bob)
}

#[test]
fn an_old_kick_by_a_clock_that_is_ahead_puts_nobody_out_who_came_behind_it() {
    let join = replacing(comes("join12"), "kick99");
    assert_eq!(told_of_a_kick_as_history(join, kick("kick99", BOB)), Membership::Join);
}

#[test]
fn a_new_kick_by_a_clock_that_is_behind_puts_out_whom_it_says_it_does() {
    let kick = replacing(kick("kick1", BOB), "join12");
    assert_eq!(told_of_a_kick_as_history(comes("join12"), kick), Membership::Kick);
}

/// The same beside the timeline of Alice, which was on its way when Bob's own poller told
/// that he came back.
fn told_of_a_kick_beside_the_timeline(join: &SyncEvent, kick: SyncEvent) -> Membership {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    for who in [dave, bob] {
        books.poll(who, vec![limited(vec![join.clone(), message("m13")])]);
    }
    assert_eq!(is(&books, bob), Membership::Join);
    books.poll(alice, vec![with_state(joined(Vec::new()), vec![kick])]);
    is(&books, bob)
}

#[test]
fn a_kick_beside_a_late_timeline_counts_where_it_says_that_it_is_newer() {
    let kicked = || kick("kick1", BOB);
    let newer = replacing(kicked(), "join12");
    assert_eq!(told_of_a_kick_beside_the_timeline(&comes("join12"), newer), Membership::Kick);
    let join = replacing(comes("join12"), "kick1");
    assert_eq!(told_of_a_kick_beside_the_timeline(&join, kicked()), Membership::Join);
}

/// The same in a timeline of Alice's that goes on from her previous answer, and knows
/// nothing of the coming.
fn told_of_a_kick_in_a_late_timeline(join: SyncEvent, kick: SyncEvent) -> Membership {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    let back = vec![leaves("leave6"), join];
    books.poll(dave, vec![joined(back.clone())]);
    books.poll(bob, vec![limited(back)]);
    assert_eq!(is(&books, bob), Membership::Join);
    books.poll(alice, vec![joined(vec![kick])]);
    is(&books, bob)
}

#[test]
fn a_kick_in_a_late_timeline_counts_where_it_says_that_it_is_newer() {
    let newer = replacing(kick("kick1", BOB), "join12");
    assert_eq!(told_of_a_kick_in_a_late_timeline(comes("join12"), newer), Membership::Kick);
    let join = replacing(comes("join12"), "kick99");
    let older = kick("kick99", BOB);
    assert_eq!(told_of_a_kick_in_a_late_timeline(join, older), Membership::Join);
}

/// Alice's poller tells of a name, then Bob's of another beside its timeline, which was
/// asked for `later_ms` after Alice's was known.
fn named_by_both(alices: SyncEvent, later_ms: u64, bobs: SyncEvent) -> Option<String> {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![with_state(joined(vec![alices.clone()]), vec![alices])]);
    let asked_ms = books.now_ms + later_ms;
    books.poll_asked(bob, asked_ms, vec![with_state(joined(Vec::new()), vec![bobs])]);
    books.state("m.room.name", "")
}

#[test]
fn a_name_that_says_that_it_is_newer_is_taken_from_an_answer_that_was_on_its_way() {
    let named = |id: &str| name(id, &json!(id));
    let newer = replacing(named("name6"), "name9");
    assert_eq!(named_by_both(named("name9"), 0, newer).as_deref(), Some("name6"));
    assert_eq!(named_by_both(named("name9"), 0, named("name10")).as_deref(), Some("name9"));
}

#[test]
fn a_name_that_another_says_to_have_replaced_is_not_taken_from_a_later_answer() {
    let named = |id: &str| name(id, &json!(id));
    let newer = replacing(named("name9"), "name10");
    assert_eq!(named_by_both(newer, 1, named("name10")).as_deref(), Some("name9"));
    assert_eq!(named_by_both(named("name9"), 1, named("name6")).as_deref(), Some("name6"));
}

#[test]
fn a_name_by_a_clock_that_is_behind_puts_nothing_in_doubt_where_it_says_what_it_replaces() {
    let named = |id: &str| name(id, &json!(id));
    for (second, is_doubtful) in [
        (replacing(named("name6"), "name9"), false),
        (named("name6"), true),
        (replacing(named("name10"), "unknown"), true),
        (named("name10"), false),
    ] {
        let (mut books, [alice, ..]) = shared_by_three();
        books.poll(alice, vec![joined(vec![named("name9")])]);
        let what = second.json.to_string();
        let applied = books.poll(alice, vec![joined(vec![second])]);
        assert_eq!(!applied.change.suspects.is_empty(), is_doubtful, "{what}");
    }
    // Likewise where both come in one timeline.
    let (mut books, [alice, ..]) = shared_by_three();
    let both = vec![named("name9"), replacing(named("name6"), "name9")];
    assert!(books.poll(alice, vec![joined(both)]).change.suspects.is_empty());
}
