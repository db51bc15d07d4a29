//! Who may be out of a room behind a gap of its timeline: nothing of what lies
//! there is theirs until their own poller vouches for them.

use std::collections::BTreeSet;

use luge_core::{
    id::Sequence,
    ledger::{Command, LedgerLimits, MemberList, Polled, RoomState},
    record::Membership,
    upstream::{RoomBatch, SyncBatch},
};
use serde_json::json;

use crate::table::{
    ALICE, BOB, Books, ROOM, Who, create, joined, kick, left, limited, member, member_after,
    message, messages, name, shared_by_two, with_state,
};

/// A room that two have been told of up to `m4`, each in two answers.
fn shared() -> (Books, [Who; 2]) {
    let (mut books, both) = shared_by_two();
    for who in both {
        books.poll(who, Vec::new());
    }
    (books, both)
}

const BEFORE: [&str; 5] = ["create0", "join1", "join2", "m3", "m4"];

/// The same, and Alice was told of `m20` behind a gap, and of the name that the
/// room has since.
fn with_a_gap() -> (Books, [Who; 2]) {
    let (mut books, [alice, bob]) = shared();
    let chunk = limited(vec![message("m20"), name("name21", &json!("later"))]);
    books.poll(alice, vec![chunk]);
    (books, [alice, bob])
}

const BEHIND: [&str; 2] = ["m20", "name21"];

#[test]
fn what_follows_a_gap_is_theirs_alone_whose_poller_brought_it() {
    let (books, [alice, bob]) = with_a_gap();
    assert_eq!(books.visible(alice), BEHIND);
    assert!(books.sees_state(alice, "m.room.name", ""));
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
    assert!(books.visible(bob).is_empty());
    assert!(!books.sees_state(bob, "m.room.name", ""));
    // Nor is what was known before shown as long as it is not known whether to.
    assert!(!books.sees_state(bob, "m.room.create", ""));
}

#[test]
fn who_was_kicked_in_a_gap_sees_nothing_from_behind_it_when_their_poller_tells() {
    let (mut books, [_, bob]) = with_a_gap();
    books.poll(bob, vec![left(vec![kick("kick11", BOB)])]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Kick);
    assert_eq!(books.visible(bob), ["kick11"]);
    assert!(!books.sees_state(bob, "m.room.name", ""));
}

#[test]
fn an_answer_that_was_asked_for_behind_the_gap_vouches_by_its_silence() {
    let (mut books, [_, bob]) = with_a_gap();
    // This one was on its way.
    books.poll(bob, Vec::new());
    assert!(books.visible(bob).is_empty());
    books.poll(bob, Vec::new());
    assert_eq!(books.visible(bob), BEHIND);
}

#[test]
fn an_answer_that_was_on_its_way_vouches_as_far_as_its_events_reach() {
    for (told, sees) in [(&["m5", "m6"][..], false), (&["m19", "m20"], true)] {
        let (mut books, [_, bob]) = with_a_gap();
        let before = books.of_user(bob);
        books.poll(bob, vec![joined(messages(told))]);
        assert_eq!(!books.visible(bob).is_empty(), sees, "{told:?}");
        // What lets nothing be seen is not written.
        assert_eq!(books.of_user(bob) != before, sees, "{told:?}");
        books.poll(bob, Vec::new());
        assert_eq!(books.visible(bob), BEHIND);
    }
}

#[test]
fn an_event_that_others_were_not_given_does_not_reach_behind_the_gap() {
    let (mut books, [alice, bob]) = shared();
    books.poll(alice, vec![joined(messages(&["m6"]))]);
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    // Numbered now, but sent before `m6`.
    books.poll(bob, vec![joined(messages(&["m5", "m6"]))]);
    assert!(books.visible(bob).is_empty());
}

#[test]
fn a_chunk_that_only_a_clock_puts_behind_the_gap_vouches_for_nothing() {
    let (mut books, [_, bob]) = with_a_gap();
    books.now_ms += 1;
    books.poll_asked(bob, 1, vec![limited(messages(&["m30"]))]);
    assert_eq!(books.stored().last().unwrap(), "m30");
    assert!(books.visible(bob).is_empty());
    books.poll(bob, Vec::new());
    assert_eq!(books.visible(bob), ["m30"]);
}

#[test]
fn who_has_come_by_an_answer_that_may_be_older_than_the_gap_waits_for_the_next() {
    let (mut books, [alice, bob]) = shared();
    let out = || member_after("leave5", BOB, "join", "leave");
    books.poll(alice, vec![joined(vec![out()])]);
    books.poll(bob, vec![left(vec![out()])]);
    let again = || member_after("join7", BOB, "leave", "join");
    books.poll(alice, vec![joined(vec![again()])]);
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    books.poll(bob, vec![limited(vec![again()])]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
    assert!(books.visible(bob).is_empty());
    books.poll(bob, Vec::new());
    assert_eq!(books.visible(bob), ["m20"]);
}

#[test]
fn a_late_answer_of_another_device_leaves_nobody_waiting_for_ever() {
    let (mut books, [alice, bob]) = shared();
    let other = books.sign_in(BOB, "B");
    books.poll_twice(other);
    let out = || member_after("leave5", BOB, "join", "leave");
    books.poll(alice, vec![joined(vec![out()])]);
    books.poll(bob, vec![left(vec![out()])]);
    let again = || member_after("join7", BOB, "leave", "join");
    books.poll(alice, vec![joined(vec![again()])]);
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    // One device has told what it knew of, the other was asked before all that.
    books.poll_twice(bob);
    books.poll(other, vec![limited(vec![again()])]);
    assert!(books.visible(bob).is_empty());
    books.poll(bob, Vec::new());
    assert_eq!(books.visible(bob), ["m20"]);
}

#[test]
fn a_second_gap_waits_for_a_second_word() {
    let (mut books, [alice, bob]) = with_a_gap();
    books.poll_twice(bob);
    books.poll(alice, vec![limited(messages(&["m30"]))]);
    assert!(books.visible(bob).is_empty());
    books.poll_twice(bob);
    assert_eq!(books.visible(bob), ["m30"]);
}

#[test]
fn what_is_withheld_is_so_after_a_restart() {
    let (books, [_, bob]) = with_a_gap();
    let mut books = Books::open(books.tables, 2_000_000);
    assert!(books.visible(bob).is_empty());
    // Whatever is answered from then on was asked for later.
    books.poll(bob, Vec::new());
    assert_eq!(books.visible(bob), BEHIND);
    let books = Books::open(books.tables, 3_000_000);
    assert_eq!(books.visible(bob), BEHIND);
}

#[test]
fn a_word_for_somebody_is_no_news_of_the_room() {
    let (mut books, [_, bob]) = with_a_gap();
    let before = books.of_user(bob).unwrap();
    books.poll(bob, Vec::new());
    let applied = books.poll(bob, Vec::new());
    let after = books.of_user(bob).unwrap();
    assert_eq!(before.changed, after.changed);
    assert!(before.vouched < after.vouched);
    // But who waits for the room looks again.
    assert_eq!(applied.change.users[0].rooms, [books.number()]);
    let applied = books.poll(bob, Vec::new());
    assert!(applied.change.users.is_empty());
}

#[test]
fn a_list_of_rooms_vouches_if_it_was_asked_for_behind_the_gap() {
    for (is_late, lists) in [(false, true), (true, true), (true, false)] {
        let (mut books, [_, bob]) = with_a_gap();
        let before = books.of_user(bob);
        let knew = if is_late { books.world.sequence } else { Sequence(1) };
        let rooms: BTreeSet<String> = lists.then(|| ROOM.to_owned()).into_iter().collect();
        // Who has just come may not be listed yet, and stays.
        let joined_settles_ms = 2 * books.now_ms;
        books.ledger.set_limits(LedgerLimits { joined_settles_ms, ..LedgerLimits::default() });
        books.apply(Command::JoinedRooms { user: bob.user, knew, rooms });
        assert_eq!(books.of_user(bob).unwrap().membership, Membership::Join);
        let sees = books.visible(bob).contains(&"m20".to_owned());
        assert_eq!(sees, is_late && lists, "{is_late} {lists}");
        assert_eq!(books.of_user(bob) != before, sees, "{is_late} {lists}");
    }
}

#[test]
fn the_silence_of_a_device_that_was_not_told_of_rooms_vouches_for_nothing() {
    let (mut books, [alice, bob]) = shared();
    let other = books.sign_in(BOB, "B");
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    let batch = SyncBatch { next_batch: Some("1".to_owned()), ..SyncBatch::default() };
    books.apply(Command::Polled(Box::new(Polled {
        user: other.user,
        device: other.device,
        since: None,
        with_rooms: false,
        last_part: true,
        asked_ms: 0,
        may_repeat: false,
        batch,
    })));
    books.poll_twice(other);
    assert!(books.visible(bob).is_empty());
    // But what it says of the room does.
    books.poll(other, vec![RoomBatch { notification_count: Some(1), ..joined(Vec::new()) }]);
    assert_eq!(books.visible(bob), ["m20"]);
}

#[test]
fn a_word_is_written_once_and_for_members_alone() {
    let (mut books, [alice, bob]) = with_a_gap();
    books.poll(bob, vec![limited(messages(&["m20"]))]);
    let before = books.of_user(bob);
    books.poll_twice(bob);
    assert_eq!(books.of_user(bob), before);
    books.poll(alice, vec![limited(messages(&["m30"]))]);
    books.poll(bob, vec![left(vec![kick("kick29", BOB)])]);
    let before = books.of_user(bob);
    books.poll_twice(bob);
    assert_eq!(books.of_user(bob), before);
}

#[test]
fn a_state_after_the_gap_is_withheld_too() {
    let (mut books, [alice, bob]) = shared();
    let state = vec![name("name19", &json!("later"))];
    books.poll(alice, vec![with_state(limited(messages(&["m20"])), state)]);
    assert!(!books.sees_state(bob, "m.room.name", ""));
    books.poll_twice(bob);
    assert!(books.sees_state(bob, "m.room.name", ""));
}

#[test]
fn without_a_gap_nobody_waits_for_anybody() {
    let (mut books, [alice, bob]) = shared();
    let before = books.of_user(bob);
    books.poll(alice, vec![joined(messages(&["m5"]))]);
    assert_eq!(books.visible(bob), [&BEFORE[..], &["m5"]].concat());
    books.poll(bob, vec![joined(messages(&["m5"]))]);
    assert_eq!(books.of_user(bob), before);
}

#[test]
fn a_list_of_members_shows_who_has_come_to_nobody_whom_it_lacks_unless_vouched_for() {
    for at_once in [1, 100] {
        let (mut books, [alice, bob]) = shared();
        let (who, room) = ((alice.user, books.world.sequence), books.number());
        let [mallory, others] = ["@mallory:example.org", ALICE].map(|user_id| (user_id, "join"));
        let [mallory, others] =
            [("join20", mallory), ("join1", others)].map(|(id, (user, is))| member(id, user, is));
        for part in MemberList::in_parts(room, who, &[mallory, others], at_once) {
            books.apply(Command::Members(part));
            assert_eq!(books.member_of(bob, "@mallory:example.org"), None, "{at_once}");
        }
        assert!(books.room().members_complete);
        // He may be there after all, and of a homeserver of several processes one be late.
        books.poll_twice(alice);
        books.poll_twice(bob);
        for who in [alice, bob] {
            let told = books.member_of(who, "@mallory:example.org");
            assert_eq!(told.as_deref(), Some("join20"), "{at_once}");
        }
    }
}

#[test]
fn a_list_of_members_that_has_everybody_withholds_nothing() {
    let (mut books, [alice, bob]) = shared();
    let (who, room) = ((alice.user, books.world.sequence), books.number());
    let events = [member("join1", ALICE, "join"), member("join2", BOB, "join")];
    let parts = MemberList::in_parts(room, who, &events, 1);
    parts.into_iter().for_each(|part| drop(books.apply(Command::Members(part))));
    assert_eq!(books.visible(bob), BEFORE);
}

#[test]
fn a_list_that_has_somebody_as_banned_is_as_one_that_lacks_them() {
    let (mut books, [alice, bob]) = shared();
    let (who, room) = ((alice.user, books.world.sequence), books.number());
    let mut events = vec![member("join20", "@mallory:example.org", "join")];
    events.extend([member("join1", ALICE, "join"), member("ban11", BOB, "ban")]);
    for part in MemberList::in_parts(room, who, &events, 1) {
        books.apply(Command::Members(part));
        assert_eq!(books.member_of(bob, "@mallory:example.org"), None);
    }
}

#[test]
fn the_first_part_of_a_state_shows_who_has_come_to_nobody_whom_the_whole_lacks() {
    let (mut books, [alice, bob]) = shared();
    let room = books.number();
    let mut events = vec![create(), member("join1", ALICE, "join")];
    events.push(name("name20", &json!("later")));
    events.extend((0..5_000).map(|n| {
        let user_id = format!("@u{n}:example.org");
        member(&format!("join{}", 100 + n), &user_id, "join")
    }));
    let who = (room, alice.user);
    let parts = RoomState::in_parts(who, ALICE, books.world.sequence, events).unwrap();
    assert!(parts.len() > 1);
    for part in parts {
        books.apply(Command::State(Box::new(part)));
        assert!(!books.sees_state(bob, "m.room.name", ""));
    }
    books.poll_twice(alice);
    assert!(books.sees_state(alice, "m.room.name", ""));
}

/// Goal: the end of a stay behind a gap is its user's, and what else lies there is not:
/// they may have been out by then, and in again.
#[test]
fn a_kick_behind_a_gap_is_shown_alone_to_whom_nobody_has_vouched_for() {
    let kicked = || vec![message("m30"), kick("kick31", BOB), message("m32")];
    let (mut books, [alice, bob]) = with_a_gap();
    books.poll(alice, vec![joined(kicked())]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Kick);
    assert_eq!((books.visible(bob), books.is_limited(bob)), (vec!["kick31".to_owned()], true));
    assert!(!books.sees_state(bob, "m.room.name", ""));
    // Where his own poller has, he sees all up to it.
    for restarts in [false, true] {
        let (mut books, [alice, bob]) = with_a_gap();
        books.poll_twice(bob);
        if restarts {
            books = Books::open(books.tables, 2_000_000);
        }
        books.poll(alice, vec![joined(kicked())]);
        assert_eq!(books.visible(bob), ["m20", "name21", "m30", "kick31"], "{restarts}");
        assert!(books.sees_state(bob, "m.room.name", ""));
    }
}

#[test]
fn a_kick_in_the_chunk_that_opens_the_gap_is_shown_alone() {
    let (mut books, [alice, bob]) = shared();
    books.poll(alice, vec![limited(vec![message("m20"), kick("kick21", BOB), message("m22")])]);
    assert_eq!((books.visible(bob), books.is_limited(bob)), (vec!["kick21".to_owned()], true));
}

#[test]
fn a_kick_that_is_told_late_behind_a_gap_shows_nothing_of_what_was_told_before_it() {
    let mut books = Books::new();
    let [alice, bob, dave] = [ALICE, BOB, "@dave:example.org"].map(|it| books.sign_in(it, "A"));
    let told = vec![create(), member("join1", ALICE, "join"), member("join2", BOB, "join")];
    for who in [alice, bob, dave] {
        books.poll(who, vec![joined(told.clone())]);
    }
    let name = || name("name20", &json!("later"));
    books.poll(dave, vec![limited(vec![name(), message("m22")])]);
    // What others were not given stands between what they were.
    books.poll(alice, vec![joined(vec![name(), kick("kick21", BOB), message("m22")])]);
    assert_eq!(books.of_user(bob).unwrap().membership, Membership::Kick);
    assert_eq!(books.visible(bob), ["kick21"]);
    assert!(!books.sees_state(bob, "m.room.name", ""));
    assert_eq!(books.visible(alice), ["name20", "m22", "kick21"]);
}
