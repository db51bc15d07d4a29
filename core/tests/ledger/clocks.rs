//! Clocks that are wrong: `origin_server_ts` is what a homeserver says it is, and lets
//! nobody see what they may not see.

use luge_core::{record::Membership, upstream::SyncEvent};
use serde_json::json;

use crate::table::{
    ALICE, BOB, Books, CAROL, Who, create, joined, kick, left, limited, member, member_after,
    message, messages, name, shared_by_three, with_state,
};

/// Carol comes after `m8`, by a clock that is behind.
fn came() -> SyncEvent {
    member("came3", CAROL, "join")
}

/// Carol's first answer. It was asked for when others had yet to tell of `m6`, so that
/// her coming is taken for an old event.
fn carol_comes(books: &mut Books, alice: Who) -> Who {
    let carol = books.sign_in(CAROL, "A");
    books.poll(alice, vec![joined(messages(&["m6"]))]);
    books.poll(carol, vec![with_state(limited(vec![came()]), vec![came()])]);
    assert_eq!(books.of_user(carol).expect("she is in it").membership, Membership::Join);
    carol
}

/// Goal: what lies before a coming is not shown behind it, however late it is told,
/// where the coming was taken for an old event.
#[test]
fn who_comes_by_a_clock_that_is_behind_does_not_see_what_was_before() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let carol = carol_comes(&mut books, alice);
    let told = limited([messages(&["m7", "m8"]), vec![came()]].concat());
    books.poll_asked(bob, books.now_ms + 1, vec![told]);
    books.poll_twice(carol);
    assert_eq!(books.visible(carol), ["came3"]);
    books.poll_twice(bob);
    assert_eq!(books.visible(bob), ["m7", "m8", "came3"]);
}

/// Goal: the same where the answer is from before the coming.
#[test]
fn who_comes_by_a_clock_that_is_behind_does_not_see_what_an_older_answer_tells() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let carol = carol_comes(&mut books, alice);
    books.poll_asked(bob, books.now_ms + 1, vec![limited(messages(&["m7", "m8"]))]);
    books.poll_twice(carol);
    assert!(books.visible(carol).is_empty(), "{:?}", books.visible(carol));
    books.poll(bob, vec![joined(vec![came(), message("m9")])]);
    books.poll(carol, vec![joined(messages(&["m9"]))]);
    assert_eq!(books.visible(carol).last().map(String::as_str), Some("m9"));
    assert!(!books.visible(carol).iter().any(|id| ["m7", "m8"].contains(&&**id)));
}

/// Goal: the end of a stay that lies in a gap is not put behind who came after it.
#[test]
fn who_comes_by_a_clock_that_is_behind_does_not_see_an_end_from_before() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let carol = books.sign_in(CAROL, "A");
    books.poll_asked(carol, books.now_ms + 1, vec![limited(vec![came()])]);
    books.poll(bob, vec![left(vec![message("m6"), member_after("leave7", BOB, "join", "leave")])]);
    books.poll_twice(carol);
    assert_eq!(books.visible(carol), ["came3"]);
    books.poll_twice(alice);
    assert_eq!(books.visible(alice).last().map(String::as_str), Some("came3"));
    assert_eq!(books.visible(bob).last().map(String::as_str), Some("leave7"));
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Leave);
}

/// Goal: an end that is told without its place is put before the gap in which it may lie,
/// also where what came after it was sent earlier, by its clock.
#[test]
fn who_is_out_does_not_see_what_was_sent_later_by_a_clock_that_is_behind() {
    for is_own in [false, true] {
        let (mut books, [alice, bob, dave]) = shared_by_three();
        books.poll(alice, vec![limited(vec![name("x1", &json!("n")), message("y2")])]);
        let end = member_after("leave11", BOB, "join", "leave");
        if is_own {
            books.poll(bob, vec![with_state(left(Vec::new()), vec![end])]);
        } else {
            books.poll(dave, vec![with_state(joined(messages(&["y2", "z3"])), vec![end])]);
        }
        assert_eq!(books.of_user(bob).unwrap().membership, Membership::Leave);
        let seen = books.visible(bob);
        assert!(!seen.iter().any(|id| ["x1", "y2", "z3"].contains(&&**id)), "{is_own}: {seen:?}");
        assert!(!books.sees_state(bob, "m.room.name", ""), "{is_own}");
    }
}

/// Goal: who was told of the room while another's answer was on its way is out at once by
/// a kick that stands behind what they were given, by whatever clock it was sent.
#[test]
fn a_kick_by_a_clock_that_is_behind_ends_a_stay_that_its_user_has_just_told_of() {
    let mut books = Books::new();
    let [alice, bob] = [ALICE, BOB].map(|user_id| books.sign_in(user_id, "A"));
    let told = [create(), member("join5", ALICE, "join"), member("join6", BOB, "join")];
    for who in [alice, bob] {
        books.poll(who, vec![joined([&told[..], &[message("m7")]].concat())]);
    }
    books.poll(alice, vec![joined(vec![message("m8"), kick("kick2", BOB), message("m9")])]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Kick);
    assert_eq!(books.visible(bob).last().map(String::as_str), Some("kick2"));
}
