//! Ends of stays that the leaver's own poller tells ahead of all others, beside the
//! timeline: others learn of them when somebody else's poller stands for them, since
//! who is taken for a member may have been out by then.

use luge_core::{
    id::Sequence,
    ledger::{Command, LedgerLimits, RoomState},
    record::Membership,
    upstream::{RoomBatch, SyncEvent},
};

use crate::table::{
    ALICE, BOB, Books, DAVE, Who, create, joined, kick, left, limited, member, member_after,
    message, messages, shared_by_three,
};

fn leaves() -> SyncEvent {
    member_after("leave11", DAVE, "join", "leave")
}

/// What Dave's poller tells at his end, of which the timeline has nothing.
fn alone() -> Vec<RoomBatch> {
    vec![RoomBatch { limited: true, ..left(vec![message("m10"), leaves()]) }]
}

/// A room of three, of whom Dave has left, as his poller alone has told.
fn dave_has_left() -> (Books, [Who; 3]) {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    [alice, bob, dave].into_iter().for_each(|who| drop(books.poll(who, Vec::new())));
    books.poll(dave, alone());
    (books, [alice, bob, dave])
}

#[test]
fn an_end_that_its_users_poller_alone_has_told_is_shown_to_nobody_else() {
    let (mut books, all @ [alice, bob, dave]) = shared_by_three();
    all.into_iter().for_each(|who| drop(books.poll(who, Vec::new())));
    let before = books.room().clone();
    books.poll(dave, alone());
    for who in [alice, bob] {
        assert_eq!(books.member_of(who, DAVE).as_deref(), Some("join3"));
    }
    let room = books.room();
    assert_eq!((room.joined_count, &room.heroes), (before.joined_count, &before.heroes));
    assert_eq!(room.state_changed, before.state_changed);
    // He himself is told.
    assert_eq!(books.of_user(dave).unwrap().membership, Membership::Leave);
    assert_eq!(books.own_event(dave).as_deref(), Some("leave11"));
    assert!(!books.sees_state(dave, "m.room.member", DAVE), "the state has his join");
    assert_eq!(books.visible(dave), ["m10", "leave11"]);
}

#[test]
fn who_was_out_by_then_never_learns_of_it() {
    let (mut books, [alice, bob, _]) = dave_has_left();
    books.poll(bob, vec![left(vec![kick("kick6", BOB)])]);
    assert_eq!(books.member_of(bob, DAVE).as_deref(), Some("join3"));
    let told = vec![kick("kick6", BOB), message("m10"), leaves(), message("m12")];
    books.poll(alice, vec![joined(told)]);
    assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("leave11"));
    assert_eq!(books.member_of(bob, DAVE), None);
}

#[test]
fn another_answer_that_tells_of_it_makes_it_part_of_the_state_anew() {
    let (mut books, [alice, bob, dave]) = dave_has_left();
    let told = books.world.sequence;
    books.poll(alice, vec![joined(vec![message("m10"), leaves(), message("m12")])]);
    for who in [alice, bob] {
        let entry = books.state_of(who, "m.room.member", DAVE).unwrap();
        assert!(entry.json.contains("leave11"));
        assert_eq!(entry.changed, Sequence(books.sequence("leave11")));
        assert!(entry.changed > told, "who knows more than its old number is told");
    }
    assert!(books.room().lone_ends.is_empty());
    assert_eq!(books.room().joined_count, 2);
    assert_eq!(books.member_of(dave, DAVE).as_deref(), Some("leave11"));
}

#[test]
fn an_answer_that_was_asked_for_later_stands_for_it_by_what_it_does_not_tell() {
    let silence: fn() -> Vec<RoomBatch> = Vec::new;
    let news = || vec![joined(messages(&["m20"]))];
    let gap = || vec![limited(messages(&["m20"]))];
    for (index, answer) in [silence, news, gap].into_iter().enumerate() {
        let (mut books, [alice, ..]) = dave_has_left();
        // This one was on its way.
        books.poll(alice, Vec::new());
        assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("join3"));
        let told = books.world.sequence;
        books.poll(alice, answer());
        let entry = books.state_of(alice, "m.room.member", DAVE);
        // Behind a gap that hides it her own answer vouches for her.
        let entry = entry.unwrap_or_else(|| panic!("{index}"));
        assert!(entry.json.contains("leave11"), "{index}");
        assert!(entry.changed > told, "{index}");
        assert!(books.room().members_corrected > told, "{index}");
    }
}

#[test]
fn an_answer_that_was_on_its_way_stands_for_nothing_also_where_it_opens_a_gap() {
    let (mut books, [alice, bob, _]) = dave_has_left();
    books.poll(alice, vec![limited(messages(&["m9"]))]);
    books.poll(bob, vec![limited(messages(&["m9"]))]);
    for who in [alice, bob] {
        assert_eq!(books.visible(who), ["m9"]);
        assert_eq!(books.member_of(who, DAVE).as_deref(), Some("join3"));
    }
}

#[test]
fn nor_does_a_list_of_the_rooms_that_somebody_is_in() {
    let (mut books, [alice, ..]) = dave_has_left();
    let (user, knew) = (alice.user, books.world.sequence);
    let rooms = [books.room().id.to_string()].into();
    books.apply(Command::JoinedRooms { user, knew, rooms });
    assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("join3"));
}

#[test]
fn the_whole_state_tells_who_was_out_by_then_before_it_tells_of_the_end() {
    for bobs in [member("join2", BOB, "join"), kick("kick6", BOB)] {
        let (mut books, [alice, bob, _]) = dave_has_left();
        let events = vec![create(), member("join1", ALICE, "join"), bobs, leaves()];
        let is_in = events[2].event_id == "join2";
        let (room, knew) = ((books.number(), alice.user), books.world.sequence);
        let parts = RoomState::in_parts(room, ALICE, knew, events).unwrap();
        parts.into_iter().for_each(|part| drop(books.apply(Command::State(Box::new(part)))));
        assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("leave11"));
        let seen = is_in.then_some("leave11");
        assert_eq!(books.member_of(bob, DAVE).as_deref(), seen);
    }
}

#[test]
fn a_slower_answer_to_another_device_of_the_leaver_does_not_bring_them_back() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    let other = books.sign_in(DAVE, "B");
    [alice, bob, dave, other].into_iter().for_each(|who| drop(books.poll(who, Vec::new())));
    books.poll(dave, alone());
    books.poll(other, vec![joined(messages(&["m5"]))]);
    assert_eq!(books.of_user(dave).unwrap().membership, Membership::Leave);
    // Nor does it stand for the end, which it may tell of as well.
    books.poll(other, alone());
    books.poll_twice(other);
    assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("join3"));
}

#[test]
fn who_comes_back_is_there_and_their_end_is_told_to_nobody_any_more() {
    let (mut books, [alice, bob, dave]) = dave_has_left();
    let again = member_after("join20", DAVE, "leave", "join");
    books.poll(dave, vec![limited(vec![again])]);
    assert!(books.room().lone_ends.is_empty());
    [alice, bob, dave].into_iter().for_each(|who| books.poll_twice(who));
    for who in [alice, bob, dave] {
        assert_eq!(books.member_of(who, DAVE).as_deref(), Some("join20"));
    }
}

#[test]
fn of_too_many_the_oldest_is_shown_to_whom_their_own_poller_vouches_for() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    books.ledger.set_limits(LedgerLimits { lone_ends_max: 1, ..LedgerLimits::default() });
    let eve = books.sign_in("@eve:example.org", "A");
    books.poll(eve, vec![limited(vec![member("join6", "@eve:example.org", "join")])]);
    [alice, bob, dave, eve].into_iter().for_each(|who| books.poll_twice(who));
    books.poll(dave, alone());
    let eves = member_after("leave12", "@eve:example.org", "join", "leave");
    books.poll(eve, vec![RoomBatch { limited: true, ..left(vec![eves]) }]);
    assert_eq!(books.room().lone_ends.len(), 1);
    assert_eq!(books.state("m.room.member", DAVE).as_deref(), Some("leave11"));
    assert!(!books.sees_state(alice, "m.room.member", DAVE));
    books.poll_twice(alice);
    assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("leave11"));
    assert!(!books.sees_state(bob, "m.room.member", DAVE));
}

#[test]
fn an_end_that_lies_in_a_gap_for_certain_is_shown_to_whom_their_own_poller_vouches_for() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    books.poll(alice, Vec::new());
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    // Had he been there for longer, his poller would tell of what came after.
    books.poll(dave, vec![RoomBatch { limited: true, ..left(vec![message("m5"), leaves()]) }]);
    assert!(books.room().lone_ends.is_empty());
    assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("leave11"));
    assert_eq!(books.member_of(bob, DAVE), None);
    books.poll_twice(bob);
    assert_eq!(books.member_of(bob, DAVE).as_deref(), Some("leave11"));
}

#[test]
fn it_is_kept_over_a_restart() {
    let (books, [alice, ..]) = dave_has_left();
    let mut books = Books::open(books.tables, 2_000_000);
    assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("join3"));
    books.poll(alice, Vec::new());
    assert_eq!(books.member_of(alice, DAVE).as_deref(), Some("leave11"));
}
