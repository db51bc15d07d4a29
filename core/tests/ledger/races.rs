//! Two users' pollers of one room, of which one is late.

use crate::table::{
    ALICE, BOB, Books, CAROL, Who, create, joined, kick, left, limited, member, member_after,
    message, messages, name, with_state,
};
use luge_core::{record::Membership, upstream::RoomBatch};
use serde_json::json;

/// A room that both have been told of up to `m5`.
fn shared() -> (Books, Who, Who) {
    let mut books = Books::new();
    let (alice, bob) = (books.sign_in(ALICE, "A"), books.sign_in(BOB, "B"));
    let mut timeline = vec![create(), member("join1", ALICE, "join"), member("join2", BOB, "join")];
    timeline.extend(messages(&["m3", "m4", "m5"]));
    books.poll(alice, vec![joined(timeline.clone())]);
    books.poll(bob, vec![joined(timeline)]);
    (books, alice, bob)
}

#[test]
fn the_same_events_from_both_are_stored_once() {
    let (mut books, alice, bob) = shared();
    books.poll(alice, vec![joined(messages(&["m6", "m7"]))]);
    books.poll(bob, vec![joined(messages(&["m6", "m7", "m8"]))]);
    let all = ["create0", "join1", "join2", "m3", "m4", "m5", "m6", "m7", "m8"];
    assert_eq!(books.stored(), all);
    assert_eq!(books.visible(alice), all);
    assert_eq!(books.visible(bob), all);
}

#[test]
fn an_answer_from_before_a_gap_is_not_shown_behind_it() {
    let (mut books, alice, bob) = shared();
    books.poll(alice, vec![limited(messages(&["m20", "m21"]))]);
    books.poll(bob, vec![joined(messages(&["m6", "m7"]))]);
    assert_eq!(books.stored()[6..], ["|", "m20", "m21"]);
    // The next continues where the one before ended: all but its end is old.
    books.poll(bob, vec![joined(messages(&["m8", "m9", "m20", "m21", "m22"]))]);
    assert_eq!(books.visible(alice), ["m20", "m21", "m22"]);
    assert_eq!(books.visible(bob), ["m20", "m21", "m22"]);
}

#[test]
fn a_limited_chunk_without_a_known_event_opens_a_gap_with_its_token() {
    let (mut books, alice, _) = shared();
    books.poll(alice, vec![limited(messages(&["m20", "m21"]))]);
    let first = books.event("m20").unwrap();
    assert!(first.gap_before);
    assert_eq!(first.prev_batch.as_deref(), Some("back"));
    assert!(!books.event("m21").unwrap().gap_before);
}

#[test]
fn a_limited_chunk_with_a_known_event_goes_on_without_a_gap() {
    let (mut books, alice, _) = shared();
    books.poll(alice, vec![limited(messages(&["m5", "m6"]))]);
    assert!(!books.stored().contains(&"|".to_owned()));
    assert_eq!(books.visible(alice).last().unwrap(), "m6");
}

#[test]
fn a_repeated_answer_is_not_taken_in_again() {
    let (mut books, alice, _) = shared();
    let since = books.device(alice).unwrap().since;
    let old = vec![with_state(joined(messages(&["m6"])), vec![name("name6", &json!("old"))])];
    books.poll_from(alice, since.clone(), old.clone());
    let new = with_state(joined(messages(&["m7"])), vec![name("name7", &json!("new"))]);
    books.poll(alice, vec![new]);
    let before = books.stored();
    let applied = books.poll_from(alice, since, old);
    assert!(applied.change.is_empty());
    assert_eq!(books.stored(), before);
    assert_eq!(books.room().name.as_deref(), Some("new"));
}

#[test]
fn a_late_answer_does_not_undo_newer_state_and_a_newer_one_replaces_it() {
    let (mut books, alice, bob) = shared();
    let asked_ms = books.now_ms;
    let named = |id: &str| name(id, &json!(id));
    books.poll(alice, vec![with_state(joined(vec![named("name9")]), vec![named("name9")])]);
    books.poll_asked(bob, asked_ms, vec![with_state(joined(vec![]), vec![named("name6")])]);
    assert_eq!(books.state("m.room.name", "").as_deref(), Some("name9"));
    books.now_ms += 10;
    let now_ms = books.now_ms;
    books.poll_asked(bob, now_ms, vec![with_state(joined(vec![]), vec![named("name10")])]);
    assert_eq!(books.state("m.room.name", "").as_deref(), Some("name10"));
}

#[test]
fn a_kick_that_another_poller_tells_ends_the_stay_at_once() {
    let (mut books, alice, bob) = shared();
    let mut timeline = vec![kick("kick6", BOB)];
    timeline.extend(messages(&["m7"]));
    let applied = books.poll(alice, vec![joined(timeline)]);
    let record = books.of_user(bob).unwrap();
    assert_eq!(record.membership, Membership::Kick);
    assert!(applied.change.users.iter().any(|change| change.user == bob.user));
    assert_eq!(books.visible(bob).last().unwrap(), "kick6");
    // What was on its way when it came does not open the room again.
    books.poll(bob, vec![joined(messages(&["m5"]))]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Kick);
    books.poll(bob, vec![left(vec![kick("kick6", BOB)])]);
    assert_eq!(books.of_user(bob).unwrap().since, record.since);
    assert_eq!(books.room().joined_count, 1);
}

#[test]
fn an_own_end_goes_before_a_join_that_others_told_while_it_was_on_its_way() {
    for (join, leave, holds) in [("join10", "leave12", "leave12"), ("join10", "leave9", "join10")] {
        let (mut books, alice, bob) = shared();
        // His poller has no more of the room.
        books.poll(bob, vec![left(vec![member("leave6", BOB, "leave")])]);
        books.poll(bob, Vec::new());
        books.poll(alice, vec![joined(vec![member(join, BOB, "join"), message("m11")])]);
        let end = member_after(leave, BOB, "join", "leave");
        books.poll(bob, vec![RoomBatch { limited: true, ..left(vec![end]) }]);
        // Others are told of it when somebody else's poller stands for it.
        books.poll_twice(alice);
        assert_eq!(books.state("m.room.member", BOB).as_deref(), Some(holds), "{leave}");
    }
}

#[test]
fn an_end_that_a_slower_device_is_told_of_is_not_put_behind_what_another_was_told() {
    let (mut books, alice, bob) = shared();
    let other = books.sign_in(BOB, "B2");
    books.poll(other, Vec::new());
    let back = || limited(vec![message("m20"), member_after("join21", BOB, "leave", "join")]);
    books.poll(alice, vec![back()]);
    books.poll(bob, vec![back()]);
    books.poll_twice(bob);
    // Of before all that.
    books.poll(other, vec![left(vec![member_after("leave6", BOB, "join", "leave")])]);
    assert_eq!(books.stored()[6..], ["|", "m20", "join21"]);
    assert_eq!(books.visible(alice), ["m20", "join21"]);
}

#[test]
fn an_own_join_goes_before_an_invite_that_others_told_while_it_was_on_its_way() {
    let own = |id: &str| member_after(id, CAROL, "invite", "join");
    let beside = |id: &str| with_state(limited(messages(&["m12"])), vec![own(id)]);
    let in_front = |id: &str| limited(vec![own(id), message("m12")]);
    for (join, holds) in [("join9", "join9"), ("join6", "invite7")] {
        for answer in [beside(join), in_front(join)] {
            let (mut books, alice, _) = shared();
            let carol = books.sign_in(CAROL, "C");
            let asked_ms = books.now_ms;
            let invite = member_after("invite7", CAROL, "leave", "invite");
            books.poll(alice, vec![joined(vec![invite])]);
            books.poll(alice, vec![limited(messages(&["m12"]))]);
            books.poll_asked(carol, asked_ms, vec![answer]);
            assert_eq!(books.state("m.room.member", CAROL).as_deref(), Some(holds), "{join}");
            assert_eq!(books.own_event(carol).as_deref(), Some(holds), "{join}");
        }
    }
}

#[test]
fn an_own_join_undoes_no_end_that_others_told_while_it_was_on_its_way() {
    let again = |user_id| member_after("invite7", user_id, "leave", "invite");
    for (user_id, told) in [
        (BOB, vec![kick("kick6", BOB)]),
        (BOB, vec![kick("kick6", BOB), again(BOB)]),
        (CAROL, vec![kick("kick6", CAROL)]),
    ] {
        let (mut books, alice, bob) = shared();
        let who = if user_id == BOB { bob } else { books.sign_in(CAROL, "C") };
        let (asked_ms, last) = (books.now_ms, told[told.len() - 1].event_id.clone());
        books.poll(alice, vec![joined(told)]);
        books.poll(alice, vec![limited(messages(&["m12"]))]);
        // By a clock that is ahead.
        let own = member_after("join9", user_id, "join", "join");
        books.poll_asked(who, asked_ms, vec![limited(vec![own, message("m12")])]);
        assert_eq!(books.state("m.room.member", user_id), Some(last));
        let record = books.of_user(who);
        assert!(record.is_none_or(|record| record.membership == Membership::Kick));
    }
}

#[test]
fn the_join_of_another_that_was_on_its_way_undoes_no_invite() {
    let (mut books, alice, bob) = shared();
    let asked_ms = books.now_ms;
    books.poll(alice, vec![joined(vec![member_after("invite7", CAROL, "leave", "invite")])]);
    let join = member_after("join9", CAROL, "leave", "join");
    books.poll_asked(bob, asked_ms, vec![with_state(joined(vec![]), vec![join])]);
    assert_eq!(books.state("m.room.member", CAROL).as_deref(), Some("invite7"));
}

#[test]
fn a_join_that_another_poller_tells_opens_the_room_for_nobody() {
    let mut books = Books::new();
    let (alice, bob) = (books.sign_in(ALICE, "A"), books.sign_in(BOB, "B"));
    books.poll(alice, vec![joined(vec![create(), member("join1", BOB, "join")])]);
    assert_eq!(books.of_user(bob), None);
}

#[test]
fn who_joins_later_does_not_see_what_others_saw_before() {
    let mut books = Books::new();
    let (alice, bob) = (books.sign_in(ALICE, "A"), books.sign_in(BOB, "B"));
    books.poll(alice, vec![joined(messages(&["m1", "m2"]))]);
    books.poll(alice, vec![joined(vec![member("join3", BOB, "join")])]);
    books.poll(bob, vec![limited(vec![member("join3", BOB, "join")])]);
    assert_eq!(books.visible(bob), ["join3"]);
    assert_eq!(books.visible(alice), ["m1", "m2", "join3"]);
}

#[test]
fn who_was_given_older_events_sees_them_where_they_are_stored() {
    let mut books = Books::new();
    let (alice, bob) = (books.sign_in(ALICE, "A"), books.sign_in(BOB, "B"));
    books.poll(alice, vec![joined(messages(&["m1", "m2", "m3"]))]);
    books.poll(bob, vec![limited(messages(&["m2", "m3"]))]);
    assert_eq!(books.visible(bob), ["m2", "m3"]);
}
