//! Whom a room without a name is named after, where the homeserver's summaries alone have
//! named its members.

use luge_core::{
    ledger::{Applied, Command, RoomState},
    upstream::{RoomBatch, Summary, SyncEvent},
};
use serde_json::json;

use crate::table::{
    ALICE, BOB, Books, DAVE, Who, create, joined, left, member, member_after, messages, name,
};

fn user_id(number: usize) -> String {
    format!("@u{number}:example.org")
}

fn leaves(id: &str, user_id: &str) -> SyncEvent {
    member_after(id, user_id, "join", "leave")
}

/// A batch whose summary counts `joined_count`, and names Alice, Bob or both, and of the
/// others those of these numbers.
fn summed(
    timeline: Vec<SyncEvent>,
    joined_count: u64,
    here: &[&str],
    others: impl Iterator<Item = usize>,
) -> RoomBatch {
    let here = here.iter().map(|user_id| (*user_id).to_owned());
    let heroes = here.chain(others.map(user_id)).collect();
    let summary = Summary { heroes: Some(heroes), joined: Some(joined_count), invited: None };
    RoomBatch { summary, ..joined(timeline) }
}

/// A room of Alice, Bob and so many others, of whom summaries alone have named the first.
fn named_by_summaries(others: usize) -> (Books, [Who; 2]) {
    let mut books = Books::new();
    let both = [ALICE, BOB].map(|user_id| books.sign_in(user_id, "A"));
    let timeline = [create(), member("join1", ALICE, "join"), member("join2", BOB, "join")];
    for (who, other) in both.into_iter().zip([BOB, ALICE]) {
        let (count, named) = (others as u64 + 2, 1..=others.min(4));
        books.poll(who, vec![summed(timeline.to_vec(), count, &[other], named)]);
    }
    assert!(!books.room().is_suspect());
    (books, both)
}

fn heroes(books: &Books) -> Vec<String> {
    let mut heroes: Vec<String> =
        books.room().heroes.iter().map(|hero| hero.user_id.to_string()).collect();
    heroes.sort_unstable();
    heroes
}

fn is_in_doubt(applied: &Applied) -> bool {
    !applied.change.suspects.is_empty()
}

#[test]
fn where_a_hero_goes_and_nobody_is_known_to_name_the_state_is_fetched_and_names_others() {
    let (mut books, [alice, _]) = named_by_summaries(6);
    let of = |numbers: &[usize]| -> Vec<String> {
        let here = [ALICE, BOB].map(str::to_owned).into_iter();
        here.chain(numbers.iter().copied().map(user_id)).collect()
    };
    assert_eq!(heroes(&books), of(&[1, 2, 3, 4]));
    let applied = books.poll(alice, vec![joined(vec![leaves("leave9", &user_id(1))])]);
    assert_eq!(applied.change.suspects, [(alice.user, books.number())]);
    assert_eq!(heroes(&books), of(&[2, 3, 4]), "five, of whom one is who looks");
    let mut events = vec![create(), member("join1", ALICE, "join"), member("join2", BOB, "join")];
    events.push(leaves("leave9", &user_id(1)));
    events.extend((2..=6).map(|at| member(&format!("join1{at}"), &user_id(at), "join")));
    let who = (books.number(), alice.user);
    let parts = RoomState::in_parts(who, ALICE, books.world.sequence, events).unwrap();
    parts.into_iter().for_each(|part| drop(books.apply(Command::State(Box::new(part)))));
    assert_eq!(heroes(&books), of(&[2, 3, 4, 5]));
    let named = books.room().heroes.iter().find(|hero| *hero.user_id == *user_id(5)).unwrap();
    assert_eq!(named.displayname.as_deref(), Some("U"));
    assert!(!books.room().is_suspect());
}

/// Goal: who has left in a gap, of which nobody was told, names no room for ever.
#[test]
fn a_hero_whom_a_summary_behind_a_gap_does_not_name_is_looked_for() {
    for (is_limited, named, expected) in
        [(true, [2, 3, 4, 5], true), (true, [1, 2, 3, 4], false), (false, [2, 3, 4, 5], false)]
    {
        let (mut books, [alice, _]) = named_by_summaries(6);
        books.poll(alice, vec![joined(vec![member("join7", &user_id(1), "join")])]);
        let told = summed(messages(&["m9"]), 8, &[BOB], named.into_iter());
        // The homeserver gives the state after it: a gap alone is no cause.
        let told = RoomBatch { limited: is_limited, state_is_after: true, ..told };
        let doubted = is_in_doubt(&books.poll(alice, vec![told]));
        assert_eq!(doubted, expected, "{is_limited} {named:?}");
    }
}

#[test]
fn heroes_put_nothing_in_doubt_where_there_are_enough_or_none_is_needed() {
    let (mut books, [alice, _]) = named_by_summaries(2);
    let applied = books.poll(alice, vec![joined(vec![leaves("leave9", &user_id(1))])]);
    assert!(!is_in_doubt(&applied), "all others are named");
    let alias = crate::table::event(
        "alias8",
        "m.room.canonical_alias",
        Some(""),
        &json!({"alias": "#a:example.org"}),
    );
    for named in [name("name8", &json!("N")), alias] {
        let (mut books, [alice, _]) = named_by_summaries(6);
        let applied = books.poll(alice, vec![joined(vec![named, leaves("leave9", &user_id(1))])]);
        assert!(!is_in_doubt(&applied), "the room has a name");
    }
}

#[test]
fn heroes_put_nothing_in_doubt_where_none_has_gone() {
    let mut books = Books::new();
    let alice = books.sign_in(ALICE, "A");
    books.poll(alice, vec![joined(vec![create(), member("join1", ALICE, "join")])]);
    // There are many more than she, of whom it names nobody yet.
    let summary = Summary { heroes: None, joined: Some(9), invited: None };
    let counted = RoomBatch { summary, ..joined(messages(&["m3"])) };
    assert!(!is_in_doubt(&books.poll(alice, vec![counted])));
    assert!(!is_in_doubt(&books.poll(alice, vec![joined(messages(&["m4"]))])));
}

#[test]
fn who_brings_a_doubt_that_a_room_is_in_already_has_it_looked_into() {
    let (mut books, [alice, bob]) = named_by_summaries(6);
    let goes = |id: &str, number| vec![joined(vec![leaves(id, &user_id(number))])];
    assert!(is_in_doubt(&books.poll(alice, goes("leave9", 1))));
    let suspected = books.room().suspected;
    let applied = books.poll(bob, vec![joined([leaves("leave10", &user_id(2))].to_vec())]);
    assert_eq!(applied.change.suspects, [(bob.user, books.number())]);
    assert_eq!(books.room().suspected, suspected);
}

/// Goal: likewise where their own poller alone has told that they go, and the silence of
/// another's stands for it.
#[test]
fn a_hero_whose_end_was_put_aside_is_replaced_when_it_is_shown() {
    let (mut books, [alice, bob]) = named_by_summaries(5);
    let dave = books.sign_in(DAVE, "A");
    let comes = || vec![member_after("join8", DAVE, "leave", "join")];
    books.poll(dave, vec![joined(comes())]);
    books.poll(alice, vec![summed(comes(), 8, &[BOB, DAVE], 1..=3)]);
    [alice, bob, dave].into_iter().for_each(|who| drop(books.poll(who, Vec::new())));
    books.poll(bob, vec![summed(Vec::new(), 8, &[ALICE, DAVE], 1..=3)]);
    let named = books.room().heroes.iter().any(|hero| *hero.user_id == *DAVE);
    assert!(named, "{:?}", heroes(&books));
    books.poll(dave, vec![RoomBatch { limited: true, ..left(vec![leaves("leave9", DAVE)]) }]);
    books.poll(alice, Vec::new());
    assert!(is_in_doubt(&books.poll(alice, Vec::new())));
}
