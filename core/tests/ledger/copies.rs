//! What a shard takes for a copy of what is known, and what the ledger makes of
//! that.

use luge_core::{
    ledger::{Applied, LedgerLimits, Reply},
    record::Membership,
    upstream::{Copy, RoomBatch, SyncBatch},
};
use serde_json::json;

use crate::table::{
    ALICE, BOB, Books, DAVE, ROOM, Who, create, joined, kick, left, limited, member, member_after,
    message, messages, name, polled, shared_by_three, shared_by_two, with_state,
};

const OTHER: &str = "!other:example.org";

/// A room in which Alice's poller has told of `m5`, and Bob's has yet to.
fn told_by_alice() -> (Books, [Who; 2]) {
    let (mut books, [alice, bob]) = shared_by_two();
    books.poll_twice(bob);
    books.poll(alice, vec![joined(messages(&["m5"]))]);
    (books, [alice, bob])
}

/// A copy of what is known from an event on.
fn copy(books: &Books, first: &str) -> Copy {
    Copy {
        room: books.number(),
        first: books.sequence(first),
        state_as_of: None,
        notification_count: Some(3),
        highlight_count: None,
    }
}

fn poll(books: &mut Books, who: Who, copy: Copy) -> Applied {
    let since = books.device(who).and_then(|device| device.since).unwrap_or_default();
    let next_batch = Some(format!("{since}+"));
    books.poll_batch(who, SyncBatch { next_batch, copies: vec![copy], ..SyncBatch::default() })
}

/// Goal: of a copy the poller's own is taken in, and nothing else.
#[test]
fn a_copy_is_what_its_poller_alone_is_told() {
    let (mut books, [_, bob]) = told_by_alice();
    let (room, copy) = (books.room().clone(), copy(&books, "m5"));
    let before = books.of_user(bob).unwrap();
    let applied = poll(&mut books, bob, copy);
    assert_eq!(applied.reply, Reply::Done);
    let after = books.of_user(bob).unwrap();
    assert_eq!((after.notification_count, after.highlight_count), (3, 0));
    assert_eq!(after.visible_from, before.visible_from);
    assert_eq!(books.device(bob).unwrap().since.as_deref(), Some("3+"));
    assert_eq!(*books.room(), room);
    assert!(applied.early, "nobody waits for it");
}

/// Nothing is taken in, so that the whole answer can be.
fn assert_whole(mut books: Books, who: Who, copy: Copy, why: &str) {
    let (device, of_user) = (books.device(who), books.of_user(who));
    let applied = poll(&mut books, who, copy);
    assert_eq!((applied.reply, applied.writes), (Reply::Whole, Vec::new()), "{why}");
    assert!(applied.change.is_empty() && applied.early, "{why}");
    assert_eq!((books.device(who), books.of_user(who)), (device, of_user), "{why}");
}

/// Goal: where more may come of an answer, it is not cut short. Whoever is not in
/// the room for certain is to be told so, or to be vouched for.
#[test]
fn what_may_be_more_than_a_copy_is_wanted_whole() {
    let (books, [_, bob]) = told_by_alice();
    let before_theirs = Copy { first: 0, ..copy(&books, "m5") };
    assert_whole(books, bob, before_theirs, "they were not shown what it begins with");

    let (mut books, [alice, bob]) = told_by_alice();
    let of_m5 = copy(&books, "m5");
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    assert_whole(books, bob, of_m5, "a gap may hide that they are out");

    let (mut books, [alice, bob]) = told_by_alice();
    let of_m5 = copy(&books, "m5");
    books.poll(alice, vec![joined(vec![kick("kick6", BOB)])]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Kick);
    assert_whole(books, bob, of_m5, "they are out");

    let (mut books, [alice, bob]) = told_by_alice();
    let state_as_of = Some(books.room().state_changed);
    let of_m5 = Copy { state_as_of, ..copy(&books, "m5") };
    books.poll(alice, vec![joined(vec![name("name6", &json!("n"))])]);
    assert_whole(books, bob, of_m5, "the state is another");

    let (mut books, [alice, bob]) = told_by_alice();
    let of_m5 = copy(&books, "m5");
    books.poll(alice, vec![joined(vec![member("again6", BOB, "join")])]);
    assert_whole(books, bob, of_m5, "their member event is another");

    let (mut books, [alice, _]) = told_by_alice();
    let stranger = books.sign_in("@eve:example.org", "A");
    books.poll(stranger, Vec::new());
    books.poll(alice, vec![joined(messages(&["m6"]))]);
    let of_m6 = copy(&books, "m6");
    assert_whole(books, stranger, of_m6, "they are not in the room");

    let (mut books, [alice, bob, dave]) = shared_by_three();
    [alice, bob, dave].into_iter().for_each(|who| drop(books.poll(who, Vec::new())));
    books.poll(alice, vec![joined(messages(&["m6"]))]);
    let leaves = member_after("leave11", DAVE, "join", "leave");
    books.poll(dave, vec![RoomBatch { limited: true, ..left(vec![message("m10"), leaves]) }]);
    let of_m6 = copy(&books, "m6");
    assert_whole(books, bob, of_m6, "it may stand for the end of another's stay");
}

#[test]
fn a_copy_in_an_answer_that_was_taken_in_before_is_wanted_whole() {
    let (mut books, [_, bob]) = told_by_alice();
    let of_m5 = copy(&books, "m5");
    let batch = SyncBatch { copies: vec![of_m5], ..SyncBatch::default() };
    let applied = books.apply(polled(bob, Some("1".to_owned()), batch));
    assert_eq!((applied.reply, applied.writes.len()), (Reply::Whole, 0));
}

/// Goal: what is known again are messages that stand in the timeline, and entries
/// that the state has.
#[test]
fn what_was_told_lately_is_known_again() {
    let (mut books, [alice, _]) = told_by_alice();
    let told = |books: &Books| books.world.lately(ROOM).map(|known| known.lately.event_ids());
    assert_eq!(told(&books), Some((vec!["m5".to_owned()], Vec::new())));
    let state = vec![member("join1", ALICE, "join")];
    let news = vec![message("m6"), name("name7", &json!("n"))];
    books.poll(alice, vec![with_state(joined(news), state)]);
    let known = (vec!["m5".to_owned(), "m6".to_owned()], vec!["join1".to_owned()]);
    assert_eq!(told(&books), Some(known));
    let stale = vec![member("join0", ALICE, "join")];
    books.poll(alice, vec![with_state(joined(messages(&["m8"])), stale)]);
    assert_eq!(told(&books).unwrap().0, ["m5", "m6", "m8"]);
}

/// Goal: it is kept in mind of so many rooms, and of no room that one user alone is
/// told of.
#[test]
fn what_was_told_lately_is_bounded() {
    let (mut books, [alice, bob]) = told_by_alice();
    books.ledger.set_limits(LedgerLimits { lively_rooms_max: 1, ..LedgerLimits::default() });
    let other_of = |timeline| RoomBatch { room_id: OTHER.to_owned(), ..joined(timeline) };
    let other = |ids: &[&str]| other_of(messages(ids));
    let beginning = other_of(vec![create()]);
    books.poll(alice, vec![beginning.clone()]);
    books.poll(alice, vec![other(&["o1"])]);
    assert!(books.world.lately(OTHER).is_none(), "nobody else is told");
    books.poll(bob, vec![beginning]);
    books.poll(alice, vec![other(&["o2"])]);
    assert!(books.world.lately(OTHER).is_some());
    assert!(books.world.lately(ROOM).is_none());
    books.poll(alice, vec![joined(messages(&["m9"]))]);
    assert!(books.world.lately(OTHER).is_none());
    assert!(books.world.lately(ROOM).is_some());
}
