//! What two devices of one user are told of one room at once: which of them is behind, no
//! answer says.

use luge_core::{
    ledger::{Command, LedgerLimits},
    record::Membership,
    upstream::{RoomBatch, Stripped},
};
use serde_json::json;

use crate::table::{
    BOB, Books, CAROL, Who, invited, joined, left, limited, member_after, message, messages, name,
    replacing, shared_by_two, stripped, with_state,
};

fn asked_in(event_id: Option<&str>) -> Stripped {
    let mut asked = stripped("m.room.member", CAROL, BOB, &json!({"membership": "invite"}));
    if let Some(event_id) = event_id {
        let json = format!(r#"{{"event_id":"{event_id}",{}"#, &asked.json[1..]);
        asked.json = json.into();
    }
    asked
}

/// Carol's one device is told that she has come in behind `invite6`; the answer to the other
/// one is on its way.
fn carol_comes() -> (Books, [Who; 2]) {
    let (mut books, [_, bob]) = shared_by_two();
    let [one, other] = ["A", "B"].map(|device_id| books.sign_in(CAROL, device_id));
    books.poll(other, Vec::new());
    let came = replacing(member_after("came7", CAROL, "invite", "join"), "invite6");
    let told = vec![came.clone(), message("m8")];
    books.poll(bob, vec![joined([&[message("m5")][..], &told].concat())]);
    books.poll(one, vec![with_state(limited(told), vec![came])]);
    assert_eq!(books.visible(one), ["came7", "m8"]);
    (books, [one, other])
}

/// Goal: who may have been put out and asked in again sees nothing of the room until it is
/// known that they are there, and all of it then.
#[test]
fn an_invite_that_raced_with_a_join_is_taken_for_the_newer_one_until_their_own_device_tells() {
    let (mut books, [one, other]) = carol_comes();
    books.poll(other, vec![invited(vec![asked_in(None)])]);
    assert_eq!(books.of_user(one).unwrap().membership, Membership::Invite);
    assert!(books.visible(one).is_empty());
    books.poll(one, vec![joined(messages(&["m9"]))]);
    assert_eq!(books.of_user(one).unwrap().membership, Membership::Join);
    assert_eq!(books.visible(one), ["came7", "m8", "m9"]);
}

/// Goal: where the events say which is newer they are believed.
#[test]
fn an_invite_that_the_join_says_it_came_behind_changes_nothing() {
    for (event_id, expected) in [("invite6", Membership::Join), ("invite9", Membership::Invite)] {
        let (mut books, [one, other]) = carol_comes();
        books.poll(other, vec![invited(vec![asked_in(Some(event_id))])]);
        assert_eq!(books.of_user(one).unwrap().membership, expected, "{event_id}");
    }
}

/// Goal: who has come in again behind the invite sees nothing of the stay before it.
#[test]
fn a_stay_that_was_in_doubt_and_began_anew_is_another() {
    let (mut books, [one, other]) = carol_comes();
    books.poll(other, vec![invited(vec![asked_in(None)])]);
    let again = member_after("again11", CAROL, "invite", "join");
    books.poll(other, vec![with_state(limited(vec![again.clone()]), vec![again])]);
    books.poll_twice(one);
    assert_eq!(books.visible(one), ["again11"]);
    assert_eq!(books.of_user(one).unwrap().visible_from, books.sequence("again11"));
}

/// Goal: nothing joins the two stays, also where the homeserver does not say that its
/// answer is limited.
#[test]
fn a_stay_that_began_anew_begins_behind_a_gap() {
    let (mut books, [_, other]) = carol_comes();
    books.poll(other, vec![invited(vec![asked_in(None)])]);
    let again = member_after("again11", CAROL, "invite", "join");
    books.poll(other, vec![with_state(joined(vec![again.clone()]), vec![again])]);
    assert!(books.stored().ends_with(&["|".to_owned(), "again11".to_owned()]));
}

/// Goal: a stay that was in doubt and has ended since does not go on.
#[test]
fn a_stay_that_was_in_doubt_is_over_with_what_ends_the_invite() {
    let (mut books, [one, other]) = carol_comes();
    books.poll(other, vec![invited(vec![asked_in(None)])]);
    // The homeserver gives all her rooms, and this is none of them.
    books.apply(Command::SinceRejected(other.device));
    books.poll_from(other, None, Vec::new());
    assert_eq!(books.of_user(one).unwrap().membership, Membership::Leave);
    books.poll(one, vec![joined(messages(&["m12"]))]);
    assert!(!books.visible(one).contains(&"came7".to_owned()), "{:?}", books.visible(one));
}

/// Goal: there are not more of them than there may be.
#[test]
fn of_stays_in_doubt_only_so_many_are_kept() {
    for doubted_max in [1, 2] {
        let (mut books, [one, other]) = carol_comes();
        books.ledger.set_limits(LedgerLimits { doubted_max, ..LedgerLimits::default() });
        let erin = ["A", "B"].map(|device_id| books.sign_in("@erin:example.org", device_id));
        books.poll(erin[1], Vec::new());
        let came = member_after("came10", "@erin:example.org", "invite", "join");
        books.poll(one, vec![joined(vec![came.clone()])]);
        books.poll(erin[0], vec![joined(vec![came])]);
        books.poll(other, vec![invited(vec![asked_in(None)])]);
        books.poll(erin[1], vec![invited(Vec::new())]);
        assert_eq!(books.of_user(erin[0]).unwrap().membership, Membership::Invite);
        books.poll(one, vec![joined(messages(&["m12"]))]);
        let visible = books.visible(one);
        assert_eq!(visible.contains(&"came7".to_owned()), doubted_max > 1, "{visible:?}");
    }
}

/// Goal: who was asked in, came and left between two answers sees nothing of the room but
/// what their own answer has.
#[test]
fn a_stay_between_an_invite_and_its_end_shows_no_state_that_others_were_told() {
    let (mut books, [alice, _]) = shared_by_two();
    let carol = books.sign_in(CAROL, "A");
    books.poll(carol, vec![invited(vec![asked_in(None)])]);
    books.poll(alice, vec![limited(vec![name("name90", &json!("N")), message("m91")])]);
    let end = member_after("leave99", CAROL, "join", "leave");
    let told = left([messages(&["x7"]), vec![end]].concat());
    books.poll(carol, vec![RoomBatch { limited: true, ..told }]);
    assert_eq!(books.visible(carol), ["x7", "leave99"]);
    assert!(!books.sees_state(carol, "m.room.name", ""));
}

/// Goal: who comes back is not told of the end of their earlier stay as news.
#[test]
fn who_is_back_is_not_told_of_their_own_end_again() {
    let (mut books, [alice, bob]) = shared_by_two();
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    let end = member_after("leave9", BOB, "join", "leave");
    books.poll(bob, vec![left([messages(&["m8"]), vec![end.clone()]].concat())]);
    assert_eq!(books.visible(bob).last().map(String::as_str), Some("leave9"));
    let back = member_after("back31", BOB, "leave", "join");
    let told = [vec![end], messages(&["m30"]), vec![back.clone()]].concat();
    books.now_ms += 1;
    let asked_ms = books.now_ms;
    books.now_ms += 1;
    books.poll_asked(bob, asked_ms, vec![with_state(limited(told), vec![back])]);
    books.poll_twice(bob);
    assert_eq!(books.visible(bob), ["m30", "back31"]);
}

/// Goal: a device that is behind brings the timeline of a stay of which another one, signed
/// in since, has told without it.
#[test]
fn a_slower_device_brings_the_timeline_of_a_stay_that_another_has_told_of_without_it() {
    let (mut books, [_, bob]) = shared_by_two();
    let [one, other] = ["A", "B"].map(|device_id| books.sign_in(CAROL, device_id));
    let came = member_after("came7", CAROL, "invite", "join");
    let told = [vec![came.clone()], messages(&["m8", "m9"])].concat();
    books.poll(bob, vec![joined(told.clone())]);
    books.poll(other, vec![joined(Vec::new())]);
    assert!(books.visible(other).is_empty());
    let since = books.of_user(other).unwrap().since;
    books.poll_asked(one, 0, vec![with_state(limited(told), vec![came])]);
    assert_eq!(books.visible(one), ["came7", "m8", "m9"]);
    // Clients have passed over it.
    assert!(books.of_user(one).unwrap().since > since);
}
