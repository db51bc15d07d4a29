//! Whose stay ended in a gap that nobody was told of, and may have begun again:
//! they see what is theirs for certain, and the rest when their own poller tells.

use luge_core::{record::Membership, upstream::RoomBatch};
use serde_json::json;

use crate::table::{
    ALICE, BOB, joined, kick, left, limited, member_after, message, messages, name, shared_by_two,
    with_state,
};

const BEFORE: [&str; 5] = ["create0", "join1", "join2", "m3", "m4"];

/// A gap in which Bob has left; behind it a message, and he comes again.
fn bob_comes_again() -> RoomBatch {
    let again = member_after("join21", BOB, "leave", "join");
    limited(vec![message("m20"), again, message("m22")])
}

#[test]
fn who_comes_again_behind_a_gap_was_out_until_their_own_poller_tells() {
    let (mut books, [alice, bob]) = shared_by_two();
    books.poll(alice, vec![bob_comes_again()]);
    let record = books.of_user(bob).unwrap();
    assert_eq!((record.membership, record.own_event), (Membership::Leave, None));
    assert_eq!(books.visible(bob), BEFORE);
    let again = member_after("join21", BOB, "leave", "join");
    books.poll(bob, vec![limited(vec![again, message("m22")])]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
    assert_eq!(books.visible(bob), ["join21", "m22"]);
}

#[test]
fn who_came_again_and_was_banned_sees_nothing_from_between_the_stays() {
    for begins_with_join in [true, false] {
        let (mut books, [alice, bob]) = shared_by_two();
        books.poll(alice, vec![bob_comes_again()]);
        let ban = || member_after("ban23", BOB, "join", "ban");
        books.poll(alice, vec![joined(vec![ban(), message("m24")])]);
        assert_eq!(books.visible(bob), BEFORE);
        let again = member_after("join21", BOB, "leave", "join");
        let mut timeline = vec![again.clone(), message("m22"), ban()];
        let mut state = Vec::new();
        if !begins_with_join {
            timeline.remove(0);
            state.push(again);
        }
        books.poll(bob, vec![RoomBatch { limited: true, state, ..left(timeline.clone()) }]);
        assert_eq!(books.of_user(bob).unwrap().membership, Membership::Ban);
        let told: Vec<String> = timeline.into_iter().map(|event| event.event_id).collect();
        assert_eq!(books.visible(bob), told);
    }
}

#[test]
fn a_ban_of_who_had_left_in_a_gap_shows_nothing_from_behind_it() {
    let (mut books, [alice, bob]) = shared_by_two();
    let ban = member_after("ban21", BOB, "leave", "ban");
    books.poll(alice, vec![limited(vec![message("m20"), ban.clone()])]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Ban);
    assert_eq!(books.visible(bob), BEFORE);
    books.poll(bob, vec![left(vec![ban])]);
    assert_eq!(books.visible(bob), BEFORE);
}

#[test]
fn who_is_asked_in_again_behind_two_gaps_may_have_left_in_the_first() {
    for follows in [true, false] {
        let (mut books, [alice, bob]) = shared_by_two();
        books.poll(alice, vec![limited(vec![message("m20")])]);
        if follows {
            books.poll(bob, vec![limited(vec![message("m20")])]);
            books.poll(bob, Vec::new());
        }
        let again = member_after("invite31", BOB, "leave", "invite");
        books.poll(alice, vec![limited(vec![message("m30"), again])]);
        assert_eq!(books.of_user(bob).unwrap().membership, Membership::Leave);
        let expected = if follows { &["m20"][..] } else { &BEFORE };
        assert_eq!(books.visible(bob), expected, "{follows}");
    }
}

#[test]
fn a_join_that_is_no_new_stay_ends_nothing() {
    let (mut books, [alice, bob]) = shared_by_two();
    let known = member_after("join2", BOB, "invite", "join");
    let profile = member_after("join21", BOB, "join", "join");
    let state = vec![known];
    books.poll(alice, vec![with_state(limited(vec![message("m20"), profile]), state)]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
    books.poll_twice(bob);
    assert_eq!(books.visible(bob), ["m20", "join21"]);
}

#[test]
fn a_join_that_the_own_poller_has_told_of_ends_nothing_when_others_tell_it() {
    let (mut books, [alice, bob]) = shared_by_two();
    let again = || member_after("join21", BOB, "leave", "join");
    let profile = || member_after("join23", BOB, "join", "join");
    let own = with_state(limited(vec![message("m22"), profile()]), Vec::new());
    let out = member_after("leave11", BOB, "join", "leave");
    books.poll(bob, vec![left(vec![out])]);
    books.poll(bob, vec![own]);
    books.poll(alice, vec![limited(vec![again(), message("m22"), profile()])]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
}

#[test]
fn who_is_found_to_be_out_and_left_later_sees_their_own_last_events() {
    let (mut books, [alice, bob]) = shared_by_two();
    books.poll(alice, vec![bob_comes_again()]);
    let leave = member_after("leave25", BOB, "join", "leave");
    let batch = vec![name("name23", &json!("later")), message("m24"), leave.clone()];
    books.poll(alice, vec![joined(batch)]);
    // Not given, or not kept, is what lies between.
    books.poll(bob, vec![RoomBatch { limited: true, ..left(vec![message("m24"), leave]) }]);
    assert_eq!(books.visible(bob), ["m24", "leave25"]);
    assert!(books.sees_state(bob, "m.room.name", ""));
}

#[test]
fn who_left_and_came_again_in_what_another_is_told_as_history_is_out() {
    for is_told_of_end in [true, false] {
        let (mut books, [alice, bob]) = shared_by_two();
        let mut timeline = vec![
            member_after("leave11", BOB, "join", "leave"),
            member_after("join12", BOB, "leave", "join"),
            member_after("leave13", ALICE, "join", "leave"),
        ];
        if !is_told_of_end {
            timeline.remove(0);
        }
        books.poll(alice, vec![RoomBatch { limited: true, ..left(timeline) }]);
        assert_eq!(books.of_user(bob).unwrap().membership, Membership::Leave, "{is_told_of_end}");
        let expected = if is_told_of_end { &["leave11"][..] } else { &BEFORE };
        assert_eq!(books.visible(bob), expected, "{is_told_of_end}");
    }
}

#[test]
fn a_kick_in_history_by_a_clock_that_is_ahead_ends_no_stay_that_began_after_it() {
    let (mut books, [alice, bob]) = shared_by_two();
    let again = || member_after("join12", BOB, "leave", "join");
    books.poll(bob, vec![left(vec![member_after("leave6", BOB, "join", "leave")])]);
    books.poll(bob, vec![limited(vec![again()])]);
    let leave = member_after("leave13", ALICE, "join", "leave");
    let timeline = vec![kick("kick99", BOB), again(), leave];
    books.poll(alice, vec![RoomBatch { limited: true, ..left(timeline) }]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
}

#[test]
fn who_was_told_of_what_may_be_an_earlier_stay_is_told_of_the_hole() {
    for others_know_it_all in [true, false] {
        let (mut books, [alice, bob]) = shared_by_two();
        let told = books.world.sequence;
        let leave = || member_after("leave22", BOB, "join", "leave");
        let mut events = messages(&["m20", "m21"]);
        if others_know_it_all {
            events.push(leave());
            books.poll(alice, vec![limited(events)]);
        } else {
            books.poll(alice, vec![limited(events)]);
            books.poll(alice, vec![with_state(limited(messages(&["m30"])), vec![leave()])]);
        }
        books.poll(bob, vec![RoomBatch { limited: true, ..left(vec![message("m21"), leave()]) }]);
        let expected = ["m21", "leave22"].map(str::to_owned).to_vec();
        assert_eq!(books.visible_after(bob, told), (expected, true), "{others_know_it_all}");
    }
}

#[test]
fn an_end_keeps_its_number_when_more_is_told_of_it() {
    let (mut books, [alice, bob]) = shared_by_two();
    let second = books.sign_in(BOB, "B");
    let leave = || member_after("leave11", BOB, "join", "leave");
    books.poll(alice, vec![with_state(limited(messages(&["m20"])), vec![leave()])]);
    let since = books.of_user(bob).unwrap().since;
    books.poll(bob, vec![RoomBatch { limited: true, ..left(vec![message("m9"), leave()]) }]);
    assert_eq!(books.of_user(bob).unwrap().since, since);
    books.poll(alice, vec![limited(vec![message("m9"), leave(), message("m12")])]);
    books.poll(second, vec![RoomBatch { limited: true, ..left(vec![message("m9"), leave()]) }]);
    assert_eq!(books.of_user(bob).unwrap().since, since);
    assert_eq!(books.visible(bob), ["m9", "leave11"]);
}
