//! The parts of how an end is judged, each by what goes wrong without it.

use std::collections::BTreeSet;

use luge_core::{
    ledger::{Command, History, MemberList},
    record::Membership,
    upstream::{RoomBatch, SyncEvent},
};

use crate::table::{
    ALICE, BOB, Books, Who, create, invited, joined, kick, left, limited, member, member_after,
    message, messages, shared_by_three, shared_by_two, with_state,
};

const EVE: &str = "@eve:example.org";

const BEFORE: [&str; 5] = ["create0", "join1", "join2", "m3", "m4"];

fn leaves(id: &str, user_id: &str) -> SyncEvent {
    member_after(id, user_id, "join", "leave")
}

/// The homeserver has Bob in no room, as of now.
fn bob_is_found_to_be_out(books: &mut Books, bob: Who) {
    books.now_ms += 10_000_000;
    let knew = books.world.sequence;
    books.apply(Command::JoinedRooms { user: bob.user, knew, rooms: BTreeSet::new() });
    assert_eq!(books.of_user(bob).expect("he was in the room").own_event, None);
}

#[test]
fn a_join_that_a_list_tells_ends_no_stay_of_which_nobody_told_how_it_began() {
    let mut books = Books::new();
    let [alice, bob] = [ALICE, BOB].map(|user_id| books.sign_in(user_id, "A"));
    let before = || vec![create(), member("join1", ALICE, "join"), message("m4")];
    books.poll(alice, vec![joined(before())]);
    books.poll(bob, vec![joined(before())]);
    let events = vec![member_after("join2000021", BOB, "leave", "join")];
    let (room, user) = (books.number(), alice.user);
    books.apply(Command::Members(MemberList { room, user, events, whole: None }));
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
}

#[test]
fn an_end_that_others_tell_leaves_what_came_as_history() {
    let (mut books, [alice, bob]) = shared_by_two();
    for who in [alice, bob] {
        books.poll(who, vec![limited(messages(&["m20", "m21"]))]);
    }
    let (room, before) = (books.number(), books.sequence("m20"));
    let events = messages(&["m19", "m18"]);
    let history = History { room, user: bob.user, before, events, end: Some("t".to_owned()) };
    books.apply(Command::History(Box::new(history)));
    books.poll(alice, vec![joined(vec![kick("kick22", BOB)])]);
    assert_eq!(books.visible(bob), ["m18", "m19", "m20", "m21", "kick22"]);
}

#[test]
fn an_end_that_is_told_without_its_event_keeps_the_known_one_also_behind_a_new_invite() {
    let (mut books, [alice, bob]) = shared_by_two();
    let again = member_after("invite12", BOB, "leave", "invite");
    books.poll(alice, vec![joined(vec![kick("kick11", BOB), again])]);
    books.poll(bob, vec![left(Vec::new())]);
    assert_eq!(books.own_event(bob).as_deref(), Some("kick11"));
}

#[test]
fn the_end_of_an_invite_shows_nothing_of_the_timeline_whatever_is_told_with_it() {
    let (mut books, [alice, _]) = shared_by_two();
    let eve = books.sign_in(EVE, "E");
    books.poll(eve, vec![invited(Vec::new())]);
    books.poll(alice, vec![joined(vec![member_after("invite2000005", EVE, "leave", "invite")])]);
    books.poll(alice, vec![joined(vec![message("m6"), kick("kick2000007", EVE)])]);
    assert_eq!(books.of_user(eve).unwrap().membership, Membership::Kick);
    books.poll(eve, vec![left(vec![message("m6"), kick("kick2000007", EVE)])]);
    assert!(books.visible(eve).is_empty());
}

#[test]
fn an_end_that_does_not_say_what_was_before_is_of_the_known_stay() {
    let told = || vec![message("m4"), message("m6"), kick("kick11", BOB)];
    let (mut books, [_, bob]) = shared_by_two();
    bob_is_found_to_be_out(&mut books, bob);
    books.poll(bob, vec![left(told())]);
    assert_eq!(books.visible(bob), [&BEFORE[..], &["m6", "kick11"]].concat());
    let (mut books, [alice, bob]) = shared_by_two();
    let gap = with_state(limited(messages(&["m20"])), vec![kick("kick11", BOB)]);
    books.poll(alice, vec![gap]);
    books.poll(bob, vec![left(told())]);
    assert_eq!(books.visible(bob), [&BEFORE[..], &["m6", "kick11"]].concat());
}

#[test]
fn an_end_that_says_that_its_user_was_out_before_adds_nothing() {
    // The known end is of the stay; this one is of an invite that came behind it.
    let (mut books, [alice, bob]) = shared_by_two();
    let gap = with_state(limited(messages(&["m20"])), vec![leaves("leave11", BOB)]);
    books.poll(alice, vec![gap]);
    let before = books.visible(bob);
    let declined = member_after("leave22", BOB, "invite", "leave");
    books.poll(bob, vec![left(vec![message("m20"), declined])]);
    assert_eq!(books.visible(bob), before);
}

#[test]
fn an_end_of_an_invite_by_a_clock_that_is_behind_takes_nothing_of_the_stay_before() {
    let (mut books, [_, bob]) = shared_by_two();
    bob_is_found_to_be_out(&mut books, bob);
    let declined = member_after("leave1-late", BOB, "invite", "leave");
    books.poll(bob, vec![left(vec![declined])]);
    assert_eq!(books.visible(bob), BEFORE);
}

#[test]
fn an_end_with_other_events_behind_it_adds_nothing() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let gap = with_state(limited(messages(&["m20", "m21"])), vec![leaves("leave11", BOB)]);
    books.poll(alice, vec![gap]);
    books.poll(bob, vec![left(vec![leaves("leave11", BOB), message("m20"), message("m21")])]);
    assert_eq!(books.visible(bob), ["leave11"]);
}

#[test]
fn an_end_is_whole_only_where_all_of_it_is_there_and_nothing_else() {
    // Something else lies between for all others.
    let (mut books, [alice, bob]) = shared_by_two();
    bob_is_found_to_be_out(&mut books, bob);
    books.poll(alice, vec![joined(messages(&["m6", "m7", "m8"]))]);
    let end = RoomBatch { limited: true, ..left(vec![message("m6"), message("m8")]) };
    let mut whole = end.clone();
    whole.timeline.push(leaves("leave11", BOB));
    books.poll(bob, vec![whole]);
    assert_eq!(books.visible(bob).iter().filter(|id| *id == "m7").count(), 0);
}

/// Bob is found to be out, and then others, and he, are told how that came.
fn found_out_and_told(
    (books, [alice, bob]): &mut (Books, [Who; 2]),
    others: Vec<SyncEvent>,
    his: Vec<SyncEvent>,
) -> Vec<String> {
    bob_is_found_to_be_out(books, *bob);
    books.poll(*alice, vec![joined(others)]);
    books.poll(*bob, vec![left(his)]);
    books.visible(*bob)
}

#[test]
fn an_end_of_which_others_have_more_between_is_as_its_user_was_told() {
    let end = || leaves("leave11", BOB);
    let others = vec![message("m6"), message("m7"), message("m8"), end()];
    let his = vec![message("m6"), message("m8"), end()];
    let visible = found_out_and_told(&mut shared_by_two(), others, his);
    assert_eq!(visible.last().unwrap(), "leave11");
    assert!(!visible.contains(&"m7".to_owned()), "{visible:?}");
}

#[test]
fn an_end_that_goes_on_from_the_known_stay_leaves_what_was_seen_of_that() {
    let mut books = Books::new();
    let [alice, bob] = [ALICE, BOB].map(|user_id| books.sign_in(user_id, "A"));
    let begun = || vec![create(), member("join1", ALICE, "join"), member("join2", BOB, "join")];
    // His poller is the slower one: he was given nothing as history.
    books.poll(alice, vec![joined([begun(), messages(&["m4"])].concat())]);
    books.poll(bob, vec![joined(begun())]);
    books.poll(bob, vec![joined(messages(&["m4"]))]);
    let end = || leaves("leave11", BOB);
    let (others, his) = (vec![message("m6"), end()], vec![message("m4"), message("m6"), end()]);
    let visible = found_out_and_told(&mut (books, [alice, bob]), others, his);
    assert_eq!(visible, ["create0", "join1", "join2", "m4", "m6", "leave11"]);
}

#[test]
fn an_end_that_goes_on_from_the_known_stay_leaves_what_was_given_as_history() {
    let (mut books, [alice, bob]) = shared_by_two();
    for who in [alice, bob] {
        books.poll(who, vec![limited(messages(&["m20", "m21"]))]);
    }
    let (room, before) = (books.number(), books.sequence("m20"));
    let (events, end) = (messages(&["m19", "m18"]), Some("t".to_owned()));
    let history = History { room, user: bob.user, before, events, end };
    books.apply(Command::History(Box::new(history)));
    // He was there all the time.
    books.poll_twice(bob);
    let end = || leaves("leave23", BOB);
    let (others, his) = (vec![message("m22"), end()], vec![message("m21"), message("m22"), end()]);
    let visible = found_out_and_told(&mut (books, [alice, bob]), others, his);
    assert_eq!(visible, ["m18", "m19", "m20", "m21", "m22", "leave23"]);
}

#[test]
fn an_end_that_is_told_with_more_than_was_seen_before_shows_it() {
    let mut books = Books::new();
    let [alice, bob] = [ALICE, BOB].map(|user_id| books.sign_in(user_id, "A"));
    let join = || member("join2", BOB, "join");
    let begun = vec![create(), member("join1", ALICE, "join"), join()];
    books.poll(alice, vec![joined([begun, messages(&["m3", "m4"])].concat())]);
    books.poll(bob, vec![with_state(limited(messages(&["m4"])), vec![join()])]);
    assert_eq!(books.visible(bob), ["m4"]);
    let end = || leaves("leave11", BOB);
    let his = vec![message("m3"), message("m4"), end()];
    let visible = found_out_and_told(&mut (books, [alice, bob]), vec![end()], his);
    assert_eq!(visible, ["m3", "m4", "leave11"]);
}

#[test]
fn an_end_of_a_stay_behind_the_known_one_shows_nothing_from_between() {
    let (mut books, [alice, bob]) = shared_by_two();
    bob_is_found_to_be_out(&mut books, bob);
    let end = || leaves("leave15", BOB);
    books.poll(alice, vec![joined(vec![message("m6"), message("m14"), end()])]);
    // That his poller goes on says nothing of a room that he is out of.
    books.poll_twice(bob);
    books.poll(bob, vec![left(vec![message("m14"), end()])]);
    assert_eq!(books.visible(bob), ["m14", "leave15"]);
}

#[test]
fn an_end_that_is_told_in_another_order_hides_nothing_of_it() {
    let (mut books, [alice, bob]) = shared_by_two();
    books.poll(alice, vec![joined(messages(&["m6", "m7"]))]);
    let told = vec![message("m7"), message("m6"), leaves("leave11", BOB)];
    books.poll(bob, vec![RoomBatch { limited: true, ..left(told) }]);
    let visible = books.visible(bob);
    assert!(visible.contains(&"m7".to_owned()), "{visible:?}");
    assert_eq!(visible.last().unwrap(), "leave11");
}
