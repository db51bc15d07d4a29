//! How a stay ends: what its user sees of the room then, whoever tells of the
//! end first, and however much of the room that poller knows.

use std::collections::BTreeSet;

use luge_core::{
    ledger::{Command, MemberList, RoomState, WholeList},
    record::Membership,
    upstream::{RoomBatch, SyncEvent},
};
use serde_json::json;

use crate::table::{
    ALICE, BOB, Books, CAROL, DAVE, Who, create, joined, kick, left, limited, member, member_after,
    message, messages, name, shared_by_three, with_state,
};

const BEFORE: [&str; 6] = ["create0", "join1", "join2", "join3", "m4", "m5"];

fn leaves(id: &str, user_id: &str) -> SyncEvent {
    member_after(id, user_id, "join", "leave")
}

/// A gap, behind it two messages; Bob has left in between.
fn told_with_a_gap() -> RoomBatch {
    with_state(limited(messages(&["m20", "m21"])), vec![leaves("leave11", BOB)])
}

fn end_of_bob(ids: &[&str]) -> RoomBatch {
    let mut timeline = messages(ids);
    timeline.push(leaves("leave11", BOB));
    RoomBatch { prev_batch: Some("before".to_owned()), ..left(timeline) }
}

#[test]
fn an_end_that_another_tells_of_out_of_a_gap_is_shown_alone_behind_a_gap() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![told_with_a_gap()]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Leave);
    assert_eq!(books.visible(bob), ["leave11"]);
    assert!(books.is_limited(bob));
}

#[test]
fn the_last_events_are_the_leavers_own_where_others_had_a_gap_there() {
    for tells_first in [true, false] {
        let (mut books, [alice, bob, dave]) = shared_by_three();
        if tells_first {
            books.poll(alice, vec![told_with_a_gap()]);
        } else {
            books.poll(alice, vec![limited(messages(&["m20", "m21"]))]);
        }
        books.poll(bob, vec![end_of_bob(&["m9", "m10"])]);
        assert_eq!(books.visible(bob), ["m9", "m10", "leave11"], "{tells_first}");
        assert!(books.is_limited(bob));
        assert_eq!(books.event("m9").unwrap().prev_batch.as_deref(), Some("before"));
        books.poll_twice(dave);
        for other in [alice, dave] {
            assert_eq!(books.visible(other), ["m20", "m21"], "{tells_first}");
        }
    }
}

#[test]
fn the_last_events_go_on_from_what_is_known() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![joined(messages(&["m6"]))]);
    books.poll(alice, vec![told_with_a_gap()]);
    books.poll(bob, vec![end_of_bob(&["m6", "m7"])]);
    let end = ["m6", "m7", "leave11"];
    assert_eq!(books.visible(bob), [&BEFORE[..], &end[..]].concat());
    assert!(!books.is_limited(bob));
    assert_eq!(books.visible(alice), ["m20", "m21"]);
}

#[test]
fn the_last_events_stay_visible_when_others_are_told_of_them() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    books.poll(alice, vec![told_with_a_gap()]);
    books.poll(bob, vec![end_of_bob(&["m9", "m10"])]);
    let mut timeline = messages(&["m10"]);
    timeline.extend([leaves("leave11", BOB), message("m12")]);
    books.poll(dave, vec![RoomBatch { limited: true, ..joined(timeline) }]);
    assert_eq!(books.visible(bob), ["m9", "m10", "leave11"]);
}

#[test]
fn last_events_from_before_what_was_told_leave_no_hole_there() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![limited(messages(&["m10"]))]);
    let told = books.world.sequence;
    books.poll(bob, vec![RoomBatch { limited: true, ..end_of_bob(&["m8", "m9", "m10"]) }]);
    assert_eq!(books.visible(bob), ["m8", "m9", "m10", "leave11"]);
    assert_eq!(books.visible_after(bob, told), (vec!["leave11".to_owned()], false));
}

#[test]
fn an_end_told_as_history_adds_nothing_to_what_others_see() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let end = RoomBatch { limited: true, ..end_of_bob(&["m9", "m10"]) };
    books.poll(bob, vec![end]);
    assert_eq!(books.visible(bob), ["m9", "m10", "leave11"]);
    assert_eq!(books.visible(alice), BEFORE);
}

#[test]
fn the_token_of_what_is_told_as_history_stands_before_no_other_event() {
    for (ids, token) in [(&["m3", "m4", "m5"][..], None), (&["m4", "m5"], Some("before"))] {
        let (mut books, [_, bob, _]) = shared_by_three();
        books.poll(bob, vec![RoomBatch { limited: true, ..end_of_bob(ids) }]);
        // The first of them nobody else was given.
        let known = books.event("m4").unwrap();
        assert_eq!(known.prev_batch.as_deref(), token, "{ids:?}");
    }
}

#[test]
fn a_kick_in_what_another_is_told_as_history_ends_the_stay() {
    let (mut books, [_, bob, dave]) = shared_by_three();
    let timeline = vec![kick("kick11", BOB), message("m12"), leaves("leave13", DAVE)];
    books.poll(dave, vec![RoomBatch { limited: true, ..left(timeline) }]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Kick);
    assert_eq!(books.visible(bob), ["kick11"]);
    assert_eq!(books.visible(dave), ["kick11", "m12", "leave13"]);
    assert_eq!(books.member_of(bob, DAVE).as_deref(), Some("join3"));
}

#[test]
fn a_kick_in_a_state_that_was_fetched_ends_the_stay_also_where_its_user_moved_meanwhile() {
    for (kick_id, is_out) in [("kick11", true), ("kick6", false)] {
        let (mut books, [alice, bob, _]) = shared_by_three();
        let (room, knew) = (books.number(), books.world.sequence);
        books.poll(bob, vec![joined(vec![member_after("join8", BOB, "join", "join")])]);
        let events = vec![create(), kick(kick_id, BOB)];
        let state = RoomState { room, user: alice.user, knew, events, joined: None, whole: None };
        books.apply(Command::State(Box::new(state)));
        books.poll(alice, Vec::new());
        books.poll(alice, vec![limited(messages(&["m20"]))]);
        // Whom his own poller does not vouch for is shown nothing from behind a gap.
        books.poll_twice(bob);
        assert_eq!(books.of_user(bob).unwrap().membership == Membership::Kick, is_out, "{kick_id}");
        assert_eq!(books.visible(bob).contains(&"m20".to_owned()), !is_out, "{kick_id}");
    }
}

#[test]
fn a_kick_in_history_is_older_than_a_join_that_was_sent_later() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    let back = || vec![leaves("leave6", BOB), member_after("join14", BOB, "leave", "join")];
    books.poll(alice, vec![joined(back())]);
    books.poll(bob, vec![limited(back())]);
    let timeline = vec![kick("kick11", BOB), message("m12"), leaves("leave13", DAVE)];
    books.poll(dave, vec![RoomBatch { limited: true, ..left(timeline) }]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
}

#[test]
fn an_end_that_comes_behind_later_events_shows_none_of_them() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    books.poll(dave, vec![joined(vec![name("name20", &json!("later")), message("m21")])]);
    let timeline = vec![leaves("leave11", BOB), name("name20", &json!("later")), message("m21")];
    books.poll(alice, vec![joined(timeline)]);
    assert_eq!(books.visible(bob), ["leave11"]);
    assert!(!books.sees_state(bob, "m.room.name", ""));
    assert!(books.sees_state(alice, "m.room.name", ""));
}

#[test]
fn a_clock_that_is_behind_shows_nothing_from_behind_the_end() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let batch = limited(messages(&["m30", "m4-late"]));
    let state = vec![name("name29", &json!("later")), leaves("leave11", BOB)];
    books.poll(alice, vec![with_state(batch, state)]);
    assert_eq!(books.visible(bob), ["leave11"]);
    assert!(!books.sees_state(bob, "m.room.name", ""));
}

#[test]
fn state_that_was_fetched_apart_and_is_later_than_the_end_is_not_shown() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let fetched = |books: &mut Books, event| {
        let (room, user, whole) = (books.number(), alice.user, Some(WholeList::default()));
        books.apply(Command::Members(MemberList { room, user, events: vec![event], whole }));
    };
    // Whatever the clocks say: the homeserver has Bob in the room when it knows of Erin.
    fetched(&mut books, member("join30", "@erin:example.org", "join"));
    books.poll_twice(bob);
    fetched(&mut books, member("join4", CAROL, "join"));
    books.poll(bob, vec![end_of_bob(&["m6"])]);
    assert_eq!(books.visible(bob).last().unwrap(), "leave11");
    assert!(!books.sees_state(bob, "m.room.member", CAROL));
    assert!(books.sees_state(bob, "m.room.member", "@erin:example.org"));
}

/// A whole state of the room that was fetched for Alice when everything was known; `name`
/// is the room's there.
fn fetched_for(books: &Books, alice: Who, name: SyncEvent) -> Vec<RoomState> {
    let members = [("join1", ALICE), ("join2", BOB), ("join3", DAVE)];
    let members = members.map(|(id, user_id)| member(id, user_id, "join"));
    let events = [vec![create(), name], members.to_vec()].concat();
    let room = (books.number(), alice.user);
    RoomState::in_parts(room, ALICE, books.world.sequence, events).expect("it is the present one")
}

#[test]
fn a_fetched_state_is_shown_to_who_has_left_only_if_they_were_there_when_it_was_known() {
    for id in ["name4", "name30"] {
        for was_there in [false, true] {
            let (mut books, [alice, bob, _]) = shared_by_three();
            for part in fetched_for(&books, alice, name(id, &json!("N"))) {
                books.apply(Command::State(Box::new(part)));
            }
            if was_there {
                books.poll_twice(bob);
            }
            books.poll(bob, vec![end_of_bob(&["m6"])]);
            assert_eq!(books.visible(bob).last().unwrap(), "leave11");
            assert!(books.sees_state(alice, "m.room.name", ""));
            assert_eq!(books.sees_state(bob, "m.room.name", ""), was_there, "{id}");
        }
    }
}

#[test]
fn what_a_fetched_state_has_is_shown_likewise_whoever_tells_of_the_end() {
    let kicked = |books: &mut Books, alice: Who, _: Who| {
        books.poll(alice, vec![joined(vec![kick("kick11", BOB)])]);
    };
    let is_found = |books: &mut Books, _: Who, bob: Who| {
        books.now_ms += 10_000_000;
        let (user, knew) = (bob.user, books.world.sequence);
        books.apply(Command::JoinedRooms { user, knew, rooms: BTreeSet::new() });
    };
    let told_without_event = |books: &mut Books, _: Who, bob: Who| {
        books.poll(bob, vec![left(Vec::new())]);
    };
    let ways: [fn(&mut Books, Who, Who); 3] = [kicked, is_found, told_without_event];
    for (index, ends) in ways.into_iter().enumerate() {
        for was_there in [false, true] {
            let (mut books, [alice, bob, _]) = shared_by_three();
            for part in fetched_for(&books, alice, name("name4", &json!("N"))) {
                books.apply(Command::State(Box::new(part)));
            }
            if was_there {
                books.poll_twice(bob);
            }
            // Something of the timeline lies behind it.
            books.poll(alice, vec![joined(messages(&["m6"]))]);
            ends(&mut books, alice, bob);
            assert_ne!(books.of_user(bob).unwrap().membership, Membership::Join);
            assert_eq!(books.sees_state(bob, "m.room.name", ""), was_there, "{index}");
        }
    }
}

#[test]
fn an_end_that_was_put_aside_is_shown_likewise_to_who_has_left() {
    for was_there in [false, true] {
        let (mut books, [alice, bob, dave]) = shared_by_three();
        [alice, bob, dave].into_iter().for_each(|who| drop(books.poll(who, Vec::new())));
        books.poll(dave, vec![RoomBatch { limited: true, ..left(vec![leaves("leave7", DAVE)]) }]);
        books.poll_twice(alice);
        assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("leave7"));
        if was_there {
            books.poll_twice(bob);
        }
        books.poll(bob, vec![end_of_bob(&["m6"])]);
        assert_eq!(books.visible(bob).last().unwrap(), "leave11");
        let seen = was_there.then_some("leave7");
        assert_eq!(books.member_of(bob, DAVE).as_deref(), seen);
    }
}

/// Goal: what a clock says puts the end of a stay that nobody had told of behind nothing
/// that its user may not have been there for.
#[test]
fn a_stay_whose_end_is_its_first_news_shows_nothing_that_others_told_since_ones_own_poller() {
    let mut books = Books::new();
    let [alice, bob] = [ALICE, BOB].map(|user_id| books.sign_in(user_id, "A"));
    let begins = vec![create(), member("join1", ALICE, "join"), message("m2")];
    books.poll(alice, vec![joined(begins)]);
    books.poll_twice(bob);
    books.poll(alice, vec![limited(vec![name("name10", &json!("N")), message("m11")])]);
    books.poll(alice, vec![limited(messages(&["m12"]))]);
    let end = vec![message("m20"), leaves("leave21", BOB)];
    books.poll(bob, vec![RoomBatch { limited: true, ..left(end) }]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Leave);
    assert_eq!(books.visible(bob), ["m20", "leave21"]);
    assert!(!books.sees_state(bob, "m.room.name", ""));
    // What his poller did not tell of when it was known is of before his stay, or of it.
    assert!(books.sees_state(bob, "m.room.create", ""));
    assert_eq!(books.visible(alice), ["m12"]);
}

/// Goal: nor what another device of theirs, which was told nothing of the stay, was asked
/// for behind.
#[test]
fn a_stay_of_which_a_slower_device_is_told_shows_nothing_that_came_when_that_was_asked_for() {
    let mut books = Books::new();
    let alice = books.sign_in(ALICE, "A");
    let [bob, slower] = ["A", "B"].map(|device| books.sign_in(BOB, device));
    books.poll(alice, vec![joined(vec![create(), member("join1", ALICE, "join")])]);
    books.poll(slower, Vec::new());
    books.poll(alice, vec![joined(vec![name("name10", &json!("N"))])]);
    books.poll_twice(bob);
    // By a clock that is ahead.
    books.poll(slower, vec![RoomBatch { limited: true, ..left(vec![leaves("leave99", BOB)]) }]);
    assert_eq!(books.visible(bob), ["leave99"]);
    assert!(books.sees_state(bob, "m.room.create", ""));
    assert!(!books.sees_state(bob, "m.room.name", ""));
}

#[test]
fn who_is_asked_in_again_was_out_in_the_gap_before() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let again = member_after("invite25", BOB, "leave", "invite");
    books.poll(alice, vec![limited(vec![message("m20"), again, message("m26")])]);
    let record = books.of_user(bob).unwrap();
    assert_eq!((record.membership, record.own_event), (Membership::Leave, None));
    assert_eq!(books.visible(bob), BEFORE);
}

#[test]
fn who_declines_that_invite_sees_nothing_from_behind_the_gap() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let again = member_after("invite25", BOB, "leave", "invite");
    let declined = member_after("leave27", BOB, "invite", "leave");
    books.poll(alice, vec![limited(vec![message("m20"), again, message("m26")])]);
    books.poll(alice, vec![joined(vec![declined.clone()])]);
    books.poll(bob, vec![left(vec![declined])]);
    assert!(books.of_user(bob).unwrap().own_event.is_some());
    assert_eq!(books.visible(bob), BEFORE);
}

#[test]
fn an_invite_that_a_join_has_followed_ends_nothing() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let back = || {
        let invite = member_after("invite7", BOB, "leave", "invite");
        vec![leaves("leave6", BOB), invite, member_after("join8", BOB, "invite", "join")]
    };
    books.poll(bob, vec![limited(back())]);
    books.poll(alice, vec![joined(back())]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
}

#[test]
fn a_clock_that_is_behind_makes_no_news_of_the_last_events() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![limited(messages(&["m20", "m4-late"]))]);
    books.poll(bob, vec![end_of_bob(&["m9", "m10"])]);
    assert_eq!(books.visible(bob), ["m9", "m10", "leave11"]);
    assert_eq!(books.visible(alice), ["m20", "m4-late"]);
}

#[test]
fn state_that_moves_into_the_timeline_behind_the_end_is_not_shown() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    let end = RoomBatch { limited: true, ..left(vec![leaves("leave13", DAVE)]) };
    books.poll(dave, vec![end]);
    books.poll(alice, vec![joined(vec![kick("kick12", BOB), leaves("leave13", DAVE)])]);
    assert_eq!(books.visible(bob).last().unwrap(), "kick12");
    assert!(!books.sees_state(bob, "m.room.member", DAVE));
}

#[test]
fn an_end_that_a_member_list_told_first_has_the_leave_for_its_event() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let renamed = || member_after("rename6", BOB, "join", "join");
    books.poll(alice, vec![joined(vec![renamed()])]);
    let (room, user) = (books.number(), alice.user);
    let (events, whole) = (vec![leaves("leave11", BOB)], Some(WholeList::default()));
    books.apply(Command::Members(MemberList { room, user, events, whole }));
    books.poll(bob, vec![left(vec![renamed(), leaves("leave11", BOB)])]);
    assert_eq!(books.own_event(bob).as_deref(), Some("leave11"));
}
