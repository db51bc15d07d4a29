//! What two devices of one user are told of one room at once: which of them is behind, no
//! answer says.

use luge_core::{record::Membership, upstream::Stripped};
use serde_json::json;

use crate::table::{
    BOB, Books, CAROL, Who, invited, joined, limited, member_after, message, messages, replacing,
    shared_by_two, stripped, with_state,
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
