//! Member events that are kept out of the state for now, since who is taken for a member
//! may have been out by then: ends of stays that the leaver's own poller tells ahead of
//! all others, beside the timeline, and members that were fetched for one user. Others
//! learn of them when somebody else's poller stands for them.

use luge_core::{
    id::Sequence,
    ledger::{Command, LedgerLimits, MemberList, RoomState},
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
    assert!(books.room().asides.is_empty());
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
    assert!(books.room().asides.is_empty());
    [alice, bob, dave].into_iter().for_each(|who| books.poll_twice(who));
    for who in [alice, bob, dave] {
        assert_eq!(books.member_of(who, DAVE).as_deref(), Some("join20"));
    }
}

#[test]
fn of_too_many_the_oldest_is_shown_to_whom_their_own_poller_vouches_for() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    books.ledger.set_limits(LedgerLimits { asides_max: 1, ..LedgerLimits::default() });
    let eve = books.sign_in("@eve:example.org", "A");
    books.poll(eve, vec![limited(vec![member("join6", "@eve:example.org", "join")])]);
    [alice, bob, dave, eve].into_iter().for_each(|who| books.poll_twice(who));
    books.poll(dave, alone());
    let eves = member_after("leave12", "@eve:example.org", "join", "leave");
    books.poll(eve, vec![RoomBatch { limited: true, ..left(vec![eves]) }]);
    assert_eq!(books.room().asides.len(), 1);
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
    assert!(books.room().asides.is_empty());
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

const ERIN: &str = "@erin:example.org";

/// Erin's join is fetched for somebody.
fn give(books: &mut Books, who: Who, event: SyncEvent) {
    let (room, user, events) = (books.number(), who.user, vec![event]);
    books.apply(Command::Members(MemberList { room, user, events, whole: None }));
}

/// A room of three, and Erin's join was fetched for Alice, sent behind or in front of
/// everything that was told, by Erin's clock.
fn alice_was_given(id: &str) -> (Books, [Who; 3]) {
    let (mut books, all) = shared_by_three();
    all.into_iter().for_each(|who| drop(books.poll(who, Vec::new())));
    give(&mut books, all[0], member(id, ERIN, "join"));
    (books, all)
}

#[test]
fn a_member_that_was_fetched_is_shown_to_whom_it_was_given_whatever_clocks_say() {
    for id in ["join99", "join1-late"] {
        let (mut books, [alice, bob, dave]) = alice_was_given(id);
        assert_eq!(books.member_of(alice, ERIN).as_deref(), Some(id));
        for who in [bob, dave] {
            assert_eq!(books.member_of(who, ERIN), None, "{id}");
            // Nothing else is withheld.
            assert!(books.sees_state(who, "m.room.create", ""));
        }
        // He had been put out before.
        books.poll(bob, vec![left(vec![kick("kick6", BOB)])]);
        books.poll_twice(alice);
        assert_eq!(books.member_of(bob, ERIN), None, "{id}");
        assert_eq!(books.member_of(dave, ERIN).as_deref(), Some(id));
        assert!(books.room().asides.is_empty());
    }
}

#[test]
fn a_member_that_was_fetched_changes_no_counts() {
    let (mut books, [alice, ..]) = alice_was_given("join1-late");
    let before = books.room().joined_count;
    books.poll_twice(alice);
    assert_eq!(books.state("m.room.member", ERIN).as_deref(), Some("join1-late"));
    assert_eq!(books.room().joined_count, before);
}

#[test]
fn a_member_that_was_fetched_is_counted_when_the_timeline_tells_of_them() {
    let (mut books, [alice, bob, _]) = alice_was_given("join9");
    let before = books.room().joined_count;
    books.poll(bob, vec![joined(vec![member("join9", ERIN, "join")])]);
    assert_eq!(books.member_of(alice, ERIN).as_deref(), Some("join9"));
    assert_eq!(books.member_of(bob, ERIN).as_deref(), Some("join9"));
    assert_eq!(books.room().joined_count, before + 1);
}

#[test]
fn a_member_that_was_fetched_for_a_second_user_is_shown_to_both() {
    let (mut books, [alice, bob, dave]) = alice_was_given("join99");
    let changed = books.room().asides[0].changed;
    give(&mut books, bob, member("join99", ERIN, "join"));
    assert_eq!(books.room().asides[0].changed, changed);
    for (who, sees) in [(alice, true), (bob, true), (dave, false)] {
        assert_eq!(books.member_of(who, ERIN).is_some(), sees);
    }
}

#[test]
fn a_member_whose_event_the_timeline_has_is_shown_to_all() {
    let (mut books, all @ [alice, ..]) = shared_by_three();
    // Nobody is left who has an entry of it.
    let told = member("join5", ERIN, "join");
    books.poll(alice, vec![joined(vec![told.clone()])]);
    let (room, knew) = ((books.number(), alice.user), books.world.sequence);
    let events = vec![create(), member("join1", ALICE, "join"), member("join2", BOB, "join")];
    let events = events.into_iter().chain([member("join3", DAVE, "join")]).collect();
    let parts = RoomState::in_parts(room, ALICE, knew, events).unwrap();
    parts.into_iter().for_each(|part| drop(books.apply(Command::State(Box::new(part)))));
    assert_eq!(books.member_of(alice, ERIN), None);
    give(&mut books, alice, told);
    for who in all {
        assert_eq!(books.member_of(who, ERIN).as_deref(), Some("join5"));
    }
}

#[test]
fn what_others_tell_of_a_member_meanwhile_holds() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(bob, vec![joined(vec![member("join5", ERIN, "join")])]);
    give(&mut books, alice, member("join99", ERIN, "join"));
    assert!(books.room().asides.is_empty());
    assert_eq!(books.member_of(alice, ERIN).as_deref(), Some("join5"));
}

#[test]
fn a_list_of_all_members_shows_also_who_was_fetched_before() {
    let (mut books, [alice, bob, _]) = alice_was_given("join99");
    let (who, room) = ((alice.user, books.world.sequence), books.number());
    let ids = [("join1", ALICE), ("join2", BOB), ("join3", DAVE), ("join99", ERIN)];
    let events = ids.map(|(id, user_id)| member(id, user_id, "join"));
    let parts = MemberList::in_parts(room, who, &events, 100);
    parts.into_iter().for_each(|part| drop(books.apply(Command::Members(part))));
    assert_eq!(books.member_of(bob, ERIN).as_deref(), Some("join99"));
    assert!(books.room().asides.is_empty());
}
