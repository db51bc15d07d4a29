//! Answers whose timeline has no place among what is stored: the homeserver is asked
//! again, and where that may not be, what is dropped is missed by nobody unnoticed
//! (decision 0033).

use luge_core::{
    ledger::{Applied, Command, Reply},
    record::Membership,
    upstream::{RoomBatch, Section, SyncBatch, SyncEvent},
};
use serde_json::json;

use crate::table::{
    ALICE, BOB, Books, CAROL, Who, event, joined, left, limited, member_after, message, messages,
    name, polled, shared_by_two, with_state,
};

const BEFORE: [&str; 5] = ["create0", "join1", "join2", "m3", "m4"];

/// An answer of which one thing is special.
struct Answer {
    rooms: Vec<RoomBatch>,
    /// Milliseconds after the last event became known.
    asked_later_ms: u64,
    may_repeat: bool,
    last_part: bool,
    since: fn(Option<String>) -> Option<String>,
}

impl Answer {
    /// One that may be asked for again, and was asked for when the last event was not known.
    fn of(room: RoomBatch) -> Self {
        let since = |since| since;
        Self { rooms: vec![room], asked_later_ms: 0, may_repeat: true, last_part: true, since }
    }

    fn take_in(&self, books: &mut Books, who: Who) -> Applied {
        let known = books.device(who).expect("the device is known").since;
        let since = (self.since)(known);
        let next_batch = Some(format!("{}+", since.as_deref().unwrap_or_default()));
        let batch = SyncBatch { next_batch, rooms: self.rooms.clone(), ..SyncBatch::default() };
        let mut command = polled(who, since, batch);
        if let Command::Polled(polled) = &mut command {
            polled.asked_ms = books.now_ms + self.asked_later_ms;
            polled.may_repeat = self.may_repeat;
            polled.last_part = self.last_part;
        }
        books.apply(command)
    }
}

/// Alice's poller has told of `m5` when Bob's was on its way.
fn alice_was_faster() -> (Books, [Who; 2]) {
    let (mut books, [alice, bob]) = shared_by_two();
    books.poll(alice, vec![joined(messages(&["m5"]))]);
    (books, [alice, bob])
}

/// Events that nobody has, of which nothing says whether they are newer than `m5`.
fn nowhere() -> RoomBatch {
    limited(messages(&["m20", "m21"]))
}

#[test]
fn an_answer_without_a_place_is_asked_for_again_and_nothing_of_it_is_taken_in() {
    for last_part in [true, false] {
        let (mut books, [alice, bob]) = alice_was_faster();
        let (stored, since) = (books.stored(), books.device(bob).unwrap().since);
        let of_bob = books.of_user(bob);
        let state = vec![name("name19", &json!("N"))];
        let answer = Answer { last_part, ..Answer::of(with_state(nowhere(), state)) };
        let applied = answer.take_in(&mut books, bob);
        assert_eq!(applied.reply, Reply::Again);
        assert!(applied.change.is_empty() && applied.writes.is_empty());
        assert_eq!(books.stored(), stored);
        assert_eq!(books.device(bob).unwrap().since, since);
        assert_eq!(books.of_user(bob), of_bob);
        assert_eq!(books.room().name, None);
        let again = Answer { asked_later_ms: 1, ..Answer::of(nowhere()) }.take_in(&mut books, bob);
        assert_eq!(again.reply, Reply::Done);
        assert_eq!(books.stored()[5..], ["m5", "|", "m20", "m21"]);
        assert_eq!(books.visible(bob), ["m20", "m21"]);
        books.poll_twice(alice);
        assert_eq!(books.visible(alice), ["m20", "m21"]);
    }
}

#[test]
fn it_is_asked_for_again_also_where_others_have_told_more_meanwhile() {
    let (mut books, [alice, bob]) = alice_was_faster();
    assert_eq!(Answer::of(nowhere()).take_in(&mut books, bob).reply, Reply::Again);
    books.poll(alice, vec![joined(messages(&["m6"]))]);
    assert_eq!(Answer::of(nowhere()).take_in(&mut books, bob).reply, Reply::Again);
    let later = Answer { asked_later_ms: 1, ..Answer::of(nowhere()) };
    assert_eq!(later.take_in(&mut books, bob).reply, Reply::Done);
}

#[test]
fn one_room_of_an_answer_that_has_no_place_has_all_of_it_asked_for_again() {
    let (mut books, [_, bob]) = alice_was_faster();
    let other = RoomBatch { timeline: messages(&["x1"]), ..RoomBatch::new("!o:x", Section::Join) };
    let rooms = vec![other, nowhere()];
    let answer = Answer { rooms, ..Answer::of(nowhere()) };
    assert_eq!(answer.take_in(&mut books, bob).reply, Reply::Again);
    assert!(books.world.find_room("!o:x").is_none());
}

#[test]
fn an_answer_that_has_a_place_or_needs_none_is_asked_for_once() {
    let unplaced = || Answer::of(nowhere());
    let end = || vec![message("m20"), member_after("leave21", BOB, "join", "leave")];
    for (what, answer) in [
        ("an event of it is known", Answer::of(limited(messages(&["m5", "m20"])))),
        ("it goes on without a gap", Answer::of(joined(messages(&["m20"])))),
        ("it knew all that is stored", Answer { asked_later_ms: 1, ..unplaced() }),
        ("it tells of the user's end", Answer::of(RoomBatch { limited: true, ..left(end()) })),
        ("it has no events", Answer::of(limited(Vec::new()))),
        ("it was asked for again too often", Answer { may_repeat: false, ..unplaced() }),
        ("it was taken in before", Answer { since: |_| Some("1".to_owned()), ..unplaced() }),
    ] {
        let (mut books, [alice, bob]) = shared_by_two();
        books.poll(bob, Vec::new());
        books.poll(alice, vec![joined(messages(&["m5"]))]);
        assert_eq!(answer.take_in(&mut books, bob).reply, Reply::Done, "{what}");
    }
}

#[test]
fn an_answer_goes_on_from_the_one_before_only_where_no_gap_has_come_since() {
    let (mut books, [alice, bob]) = shared_by_two();
    books.poll(alice, vec![limited(messages(&["m9"]))]);
    let next = Answer::of(joined(messages(&["m5"])));
    assert_eq!(next.take_in(&mut books, bob).reply, Reply::Again);
}

/// Goal: what stands before a user's coming may have holes there, and is no place.
#[test]
fn what_a_room_hides_from_who_comes_gives_their_answer_no_place() {
    for (is_hidden, reply) in [(true, Reply::Again), (false, Reply::Done)] {
        let (mut books, [alice, _]) = shared_by_two();
        let carol = books.sign_in(CAROL, "A");
        books.poll(carol, Vec::new());
        let visibility = json!({"history_visibility": if is_hidden { "joined" } else { "shared" }});
        let hides = event("hides5", "m.room.history_visibility", Some(""), &visibility);
        books.poll(alice, vec![joined(vec![hides.clone()])]);
        let came = member_after("came9", CAROL, "leave", "join");
        let answer = Answer::of(limited(vec![hides, came]));
        assert_eq!(answer.take_in(&mut books, carol).reply, reply, "{is_hidden}");
    }
}

/// An event by a clock that is behind, so that it is taken for older than `m5` where
/// nothing else is known of it.
fn by_a_clock_that_is_behind() -> SyncEvent {
    message("x1")
}

/// Bob's answer had no place, clocks took it for old, and it may not be asked for again.
fn dropped_by_clocks() -> (Books, [Who; 2]) {
    let (mut books, [alice, bob]) = alice_was_faster();
    let answer = Answer::of(limited(vec![by_a_clock_that_is_behind()]));
    let applied = Answer { may_repeat: false, ..answer }.take_in(&mut books, bob);
    assert_eq!(applied.reply, Reply::Done);
    assert_eq!(books.stored(), [&BEFORE[..], &["m5"]].concat());
    // As long as nothing comes nobody has anything to look at.
    assert!(applied.change.rooms.is_empty());
    let of_bob = books.of_user(bob).expect("he is in the room");
    assert_eq!(of_bob.membership, Membership::Join);
    (books, [alice, bob])
}

/// Goal: state that came with what was dropped may be from after somebody's end, whatever
/// its number says.
#[test]
fn state_that_came_with_what_clocks_have_dropped_is_not_shown_to_who_is_out() {
    let (mut books, [alice, bob]) = alice_was_faster();
    let state = vec![name("name6", &json!("N"))];
    let answer = with_state(limited(vec![by_a_clock_that_is_behind()]), state);
    Answer { may_repeat: false, ..Answer::of(answer) }.take_in(&mut books, bob);
    assert!(books.sees_state(alice, "m.room.name", ""));
    let kicked = member_after("kick7", ALICE, "join", "leave");
    books.poll(bob, vec![joined([messages(&["m5"]), vec![kicked]].concat())]);
    assert_eq!(books.visible(alice).last().map(String::as_str), Some("kick7"));
    assert!(!books.sees_state(alice, "m.room.name", ""));
}

#[test]
fn what_clocks_have_dropped_is_missed_behind_a_gap_when_anything_comes() {
    for restarts in [false, true] {
        let (mut books, [alice, bob]) = dropped_by_clocks();
        if restarts {
            books = Books::open(books.tables, 2_000_000);
        }
        books.poll(alice, vec![joined(messages(&["m6"]))]);
        assert_eq!(books.stored()[5..], ["m5", "|", "m6"], "{restarts}");
        // It is known of her that she is there.
        assert_eq!((books.visible(alice), books.is_limited(alice)), (vec!["m6".to_owned()], true));
        assert!(books.visible(bob).is_empty());
        books.poll_twice(bob);
        assert_eq!((books.visible(bob), books.is_limited(bob)), (vec!["m6".to_owned()], true));
        // Once is enough.
        books.poll(alice, vec![joined(messages(&["m7"]))]);
        assert_eq!(books.stored()[5..], ["m5", "|", "m6", "m7"], "{restarts}");
    }
}

#[test]
fn what_goes_on_from_a_known_event_misses_nothing_that_clocks_have_dropped() {
    // The second has an event before the known one that others were not given.
    for (chunk, told) in [
        (limited(messages(&["m5", "m6"])), &["m5", "m6"][..]),
        (joined(messages(&["late4", "m5", "m6"])), &["m5", "late4", "m6"]),
    ] {
        let (mut books, [alice, bob]) = dropped_by_clocks();
        books.poll(alice, vec![chunk]);
        let all = [&BEFORE[..], told].concat();
        assert_eq!(books.stored(), all);
        assert_eq!(books.visible(bob), all);
    }
}

#[test]
fn what_is_known_to_be_old_is_missed_by_nobody() {
    let old = || vec![by_a_clock_that_is_behind()];
    let end = [old(), vec![member_after("leave2", BOB, "join", "leave")]].concat();
    for (what, answer) in [
        (
            "an answer of before",
            Answer { since: |_| Some("1".to_owned()), ..Answer::of(limited(old())) },
        ),
        ("the end of a stay", Answer::of(left(end))),
        ("what is behind a known event", Answer::of(limited([messages(&["m4"]), old()].concat()))),
    ] {
        let (mut books, [alice, bob]) = shared_by_two();
        books.poll(bob, Vec::new());
        books.poll(alice, vec![limited(messages(&["m9"]))]);
        answer.take_in(&mut books, bob);
        assert!(!books.room().lacks_newest, "{what}");
        books.poll(alice, vec![joined(messages(&["m10"]))]);
        assert_eq!(books.stored()[5..], ["|", "m9", "m10"], "{what}");
    }
}
