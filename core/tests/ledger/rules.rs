//! One poller, rule by rule: what is stored, and whom it concerns.

use luge_core::{
    ledger::{Command, MemberList, Reply, WholeList},
    record::Membership,
    upstream::{RoomBatch, Summary, SyncBatch},
    user::User,
    view::{Table, View},
};
use serde_json::json;

use crate::table::{
    ALICE, BOB, Books, CAROL, Who, create, event, invited, joined, kick, left, member,
    member_after, message, messages, name, polled, redaction, sign_in, stripped, with_state,
};

fn begun() -> (Books, Who) {
    let mut books = Books::new();
    let alice = books.sign_in(ALICE, "A");
    books.poll(alice, vec![joined(vec![create(), member("join1", ALICE, "join")])]);
    (books, alice)
}

#[test]
fn names_keep_their_numbers() {
    let mut books = Books::new();
    let alice = books.sign_in(ALICE, "A");
    let (second, bob) = (books.sign_in(ALICE, "B"), books.sign_in(BOB, "A"));
    assert_eq!(second.user, alice.user);
    assert_ne!(second.device, alice.device);
    assert_ne!(bob.user, alice.user);
    let mut books = Books::open(books.tables.clone(), 0);
    let again = books.apply(Command::SignIn(sign_in(ALICE, "A"))).reply;
    assert_eq!(again, Reply::SignedIn(alice.user, alice.device));
    let third = books.sign_in(BOB, "B");
    assert!(third.device > bob.device);
}

/// Goal: the pollers of a homeserver where nothing happens write nothing.
#[test]
fn an_answer_that_says_nothing_and_goes_nowhere_is_not_written() {
    let (mut books, alice) = begun();
    let answer = |next_batch: &str, keys: &str| SyncBatch {
        next_batch: Some(next_batch.to_owned()),
        one_time_keys_count: Some(keys.into()),
        ..SyncBatch::default()
    };
    let since = books.device(alice).unwrap().since;
    let first = books.apply(polled(alice, since, answer("s", "{}")));
    assert!(!first.writes.is_empty() && !first.change.is_empty());
    let since = books.device(alice).unwrap().since;
    assert_eq!(since.as_deref(), Some("s"));
    let same = books.apply(polled(alice, since.clone(), answer("s", "{}")));
    assert!(same.writes.is_empty() && same.change.is_empty(), "{:?}", same.writes);
    let keys = books.apply(polled(alice, since, answer("s", r#"{"k":1}"#)));
    assert!(!keys.writes.is_empty() && !keys.change.is_empty(), "keys were claimed");
}

/// Goal: that the homeserver is further is written, and no reason for a shard to look.
#[test]
fn how_far_the_homeserver_has_told_is_no_news() {
    let (mut books, alice) = begun();
    let next_batch = Some("further".to_owned());
    let applied = books.poll_batch(alice, SyncBatch { next_batch, ..SyncBatch::default() });
    assert_eq!(books.device(alice).unwrap().since.as_deref(), Some("further"));
    assert!(applied.change.is_empty(), "{:?}", applied.change);
}

/// Goal: nobody's requests are looked at again for counts alone.
#[test]
fn unread_counts_alone_are_no_news_to_a_user() {
    let (mut books, alice) = begun();
    let mut user = User::load(alice.user, ALICE.into(), &books.world, &books.tables);
    let news = user.news();
    let mut tell = |user: &mut User, count, timeline| {
        let batch = RoomBatch { notification_count: Some(count), ..joined(timeline) };
        let applied = books.poll(alice, vec![batch]);
        let change = applied.change.users.first().expect("the counts are another");
        let is_news = user.apply(change, &books.world, &books.tables);
        (is_news, user.rooms[&books.number()].unread)
    };
    assert_eq!(tell(&mut user, 3, Vec::new()), (false, (3, 0)));
    assert_eq!(user.rooms_since(news).map(Iterator::count), Some(0));
    let renamed = vec![member("renamed", ALICE, "join")];
    assert_eq!(tell(&mut user, 4, renamed), (true, (4, 0)), "so is their member event");
    assert_eq!(user.rooms_since(news).map(Iterator::count), Some(1));
}

/// Goal: what was read ahead of the world is news when the world that has it comes, also
/// where a later world had come before and nothing but counts is new since.
#[test]
fn what_was_read_ahead_of_the_world_is_looked_at_again() {
    let (mut books, alice) = begun();
    let before = books.world.clone();
    let renamed = vec![member("renamed", ALICE, "join")];
    let applied = books.poll(alice, vec![joined(renamed)]);
    let mut user = User::load(alice.user, ALICE.into(), &before, &books.tables);
    user.room_changed(books.number(), &books.world);
    let news = user.news();
    let change = applied.change.users.first().expect("their member event is another");
    assert!(user.apply(change, &books.world, &books.tables));
    assert_eq!(user.rooms_since(news).map(Iterator::count), Some(1));
}

/// Goal: only who has nothing to wait for waits.
#[test]
fn only_a_poll_that_was_held_long_and_says_nothing_can_wait_to_be_durable() {
    let alice = begun().1;
    let poll = |since: Option<&str>, batch: SyncBatch| {
        polled(alice, since.map(str::to_owned), batch).can_wait(40_000)
    };
    let quiet = SyncBatch { next_batch: Some("s".to_owned()), ..SyncBatch::default() };
    assert!(poll(Some("s"), quiet.clone()));
    assert!(!poll(None, quiet.clone()), "a client waits for it");
    assert!(!polled(alice, Some("s".to_owned()), quiet.clone()).can_wait(9_999), "it catches up");
    let told = SyncBatch { to_device: vec!["{}".into()], ..quiet.clone() };
    assert!(!poll(Some("s"), told));
    let told = SyncBatch { device_lists_left: vec![BOB.to_owned()], ..quiet };
    assert!(!poll(Some("s"), told));
    assert!(!Command::ForgetToken([0; 32]).can_wait(40_000));
}

#[test]
fn an_event_that_comes_twice_in_a_chunk_is_stored_once() {
    let (mut books, alice) = begun();
    books.poll(alice, vec![joined(messages(&["m2", "m2", "m3"]))]);
    assert_eq!(books.stored(), ["create0", "join1", "m2", "m3"]);
}

#[test]
fn an_event_that_was_only_state_moves_into_the_timeline_when_it_comes_there() {
    let (mut books, alice) = begun();
    books.apply(Command::Members(MemberList {
        room: books.number(),
        user: alice.user,
        events: vec![member("join2", CAROL, "join")],
        whole: Some(WholeList::default()),
    }));
    assert!(!books.state_record("m.room.member", CAROL).unwrap().place.timeline);
    assert!(!books.stored().contains(&"join2".to_owned()));
    books.poll(alice, vec![joined(vec![member("join2", CAROL, "join")])]);
    assert!(books.state_record("m.room.member", CAROL).unwrap().place.timeline);
    assert_eq!(books.stored(), ["create0", "join1", "join2"]);
}

#[test]
fn a_redaction_empties_what_is_stored_and_the_summary() {
    let (mut books, alice) = begun();
    books.poll(alice, vec![joined(vec![name("name2", &json!("secret")), message("m3")])]);
    assert_eq!(books.room().name.as_deref(), Some("secret"));
    let redactions = vec![redaction("r4", "name2"), redaction("r5", "m3"), redaction("r6", "?")];
    books.poll(alice, vec![joined(redactions)]);
    assert_eq!(books.room().name, None);
    for id in ["name2", "m3"] {
        let json = books.event(id).unwrap().json;
        assert!(json.contains("redacted_because") && !json.contains("secret"), "{json}");
    }
    let changed = books.state_record("m.room.name", "").unwrap().changed;
    assert!(changed > books.state_record("m.room.create", "").unwrap().changed);
}

#[test]
fn malformed_facts_count_as_absent() {
    let (mut books, alice) = begun();
    for (id, name_, expected) in [
        ("name2", json!(["a"]), None),
        ("name3", json!("here"), Some("here")),
        ("name4", json!(""), None),
        ("name5", json!(null), None),
    ] {
        books.poll(alice, vec![joined(vec![name(id, &name_)])]);
        assert_eq!(books.room().name.as_deref(), expected, "{name_}");
    }
    let encryption = |id, algorithm| {
        event(id, "m.room.encryption", Some(""), &json!({ "algorithm": algorithm }))
    };
    books.poll(alice, vec![joined(vec![encryption("enc6", json!("m.megolm.v1.aes-sha2"))])]);
    books.poll(alice, vec![joined(vec![encryption("enc7", json!(7))])]);
    assert_eq!(books.room().encryption.as_deref(), Some("m.megolm.v1.aes-sha2"));
}

#[test]
fn counts_follow_members_between_summaries() {
    let (mut books, alice) = begun();
    let summary = Summary { heroes: None, joined: Some(100), invited: Some(3) };
    let mut batch = joined(messages(&["m2"]));
    batch.summary = summary;
    books.poll(alice, vec![batch]);
    let moves = vec![
        member_after("a3", CAROL, "invite", "join"),
        member_after("b4", BOB, "join", "leave"),
        member_after("c5", "@dave:example.org", "join", "join"),
        member_after("d6", "@erin:example.org", "leave", "invite"),
    ];
    books.poll(alice, vec![joined(moves)]);
    assert_eq!((books.room().joined_count, books.room().invited_count), (100, 3));
}

#[test]
fn the_place_of_a_hero_who_leaves_is_filled_with_who_is_known_to_be_there() {
    let mut books = Books::new();
    let alice = books.sign_in(ALICE, "A");
    let user_id = |number: usize| format!("@u{number}:example.org");
    let join = |number: usize| member(&format!("join{number}"), &user_id(number), "join");
    books.poll(alice, vec![joined((1..=8).map(join).collect())]);
    books.poll(alice, vec![joined(vec![member("leave9", &user_id(8), "leave")])]);
    let heroes = |books: &Books| -> Vec<String> {
        books.room().heroes.iter().map(|hero| hero.user_id.to_string()).collect()
    };
    assert_eq!(heroes(&books), [1, 2, 3, 4, 5, 6].map(user_id));
    books.poll(alice, vec![joined(vec![kick("kick10", &user_id(2))])]);
    assert_eq!(heroes(&books), [1, 3, 4, 5, 6, 7].map(user_id));
    books.poll(alice, vec![joined(vec![kick("kick11", &user_id(3))])]);
    assert_eq!(heroes(&books), [1, 4, 5, 6, 7].map(user_id), "there is nobody else");
}

#[test]
fn the_place_of_a_hero_who_is_not_named_again_is_filled_with_who_is_known_to_be_there() {
    let (mut books, alice) = begun();
    let bob = books.sign_in(BOB, "A");
    let user_id = |number: usize| format!("@u{number}:example.org");
    let mut with_heroes = |who, heroes: [&str; 5], timeline| {
        let heroes = Some(heroes.map(str::to_owned).to_vec());
        let summary = Summary { heroes, joined: Some(9), invited: None };
        books.poll(who, vec![RoomBatch { summary, ..joined(timeline) }]);
        let heroes = books.room().heroes.iter();
        heroes.map(|hero| hero.user_id.to_string()).collect::<Vec<_>>()
    };
    let join = |number: usize| member(&format!("join1{number}"), &user_id(number), "join");
    let [one, two, three, four, five] = [1, 2, 3, 4, 5].map(user_id);
    // Nobody has told of the first.
    let timeline = (2..=8).map(join).collect();
    let heroes = with_heroes(alice, [&one, &two, &three, &four, &five], timeline);
    assert!(heroes.contains(&one) && heroes.len() == 6, "{heroes:?}");
    let heroes = with_heroes(bob, [ALICE, &two, &three, &four, &five], messages(&["m18", "m20"]));
    assert!(!heroes.contains(&one) && heroes.len() == 6, "{heroes:?}");
}

#[test]
fn a_summary_with_fewer_heroes_than_it_may_name_names_all_others() {
    let (mut books, alice) = begun();
    let user_id = |number: usize| format!("@u{number}:example.org");
    let join = |number: usize| member(&format!("join{number}"), &user_id(number), "join");
    books.poll(alice, vec![joined((2..=5).map(join).collect())]);
    let mut with_heroes = |ids: &[usize]| {
        let mut batch = joined(messages(&[&format!("m1{}", ids.last().unwrap())]));
        let heroes = Some(ids.iter().copied().map(user_id).collect());
        batch.summary = Summary { heroes, joined: Some(9), invited: None };
        books.poll(alice, vec![batch]);
        let heroes = books.room().heroes.iter();
        heroes.map(|hero| hero.user_id.to_string()).collect::<Vec<_>>()
    };
    with_heroes(&[2, 3, 4, 5, 6]);
    let heroes = with_heroes(&[2, 3, 4, 6, 7]);
    assert!(heroes.contains(&user_id(5)), "known to be there, and not among the first five");
    let mut heroes = with_heroes(&[2, 4]);
    heroes.sort();
    assert_eq!(heroes, [ALICE.to_owned(), user_id(2), user_id(4)]);
}

#[test]
fn each_user_s_heroes_are_kept_in_place() {
    let (mut books, alice) = begun();
    let bob = books.sign_in(BOB, "B");
    let members = vec![member("join1", ALICE, "join"), member("join2", BOB, "join")];
    let of = |hero: &str| Summary {
        heroes: Some(vec![hero.to_owned()]),
        joined: Some(2),
        invited: None,
    };
    let mut batch = with_state(joined(messages(&["m3"])), members.clone());
    batch.summary = of(BOB);
    books.poll(alice, vec![batch.clone()]);
    batch.summary = of(ALICE);
    books.poll(bob, vec![batch.clone()]);
    let heroes = |books: &Books| -> Vec<String> {
        books.room().heroes.iter().map(|hero| hero.user_id.to_string()).collect()
    };
    let both = heroes(&books);
    assert!(both.contains(&ALICE.to_owned()) && both.contains(&BOB.to_owned()), "{both:?}");
    let mut batch = joined(messages(&["m4"]));
    batch.summary = of(BOB);
    books.poll(alice, vec![batch]);
    assert_eq!(heroes(&books), both);
}

#[test]
fn an_invite_has_the_own_member_event_last_and_a_rejected_one_shows_nothing() {
    let (mut books, _) = begun();
    let bob = books.sign_in(BOB, "B");
    let own = stripped("m.room.member", BOB, ALICE, &json!({ "membership": "invite" }));
    let named = stripped("m.room.name", "", ALICE, &json!({ "name": "n" }));
    books.poll(bob, vec![invited(vec![own.clone(), named])]);
    let record = books.of_user(bob).unwrap();
    assert_eq!(record.membership, Membership::Invite);
    assert_eq!(record.stripped.last().map(String::as_str), Some(&*own.json));
    assert!(books.visible(bob).is_empty());
    books.poll(bob, vec![left(vec![member_after("leave2", BOB, "invite", "leave")])]);
    let record = books.of_user(bob).unwrap();
    assert_eq!(record.membership, Membership::Leave);
    assert!(record.ever_member);
    assert!(books.visible(bob).is_empty());
    assert_eq!(books.stored(), ["create0", "join1"]);
}

#[test]
fn an_invite_without_the_own_member_event_gets_one() {
    let mut books = Books::new();
    let bob = books.sign_in(BOB, "B");
    books.poll(bob, vec![invited(Vec::new())]);
    let record = books.of_user(bob).unwrap();
    let own: serde_json::Value = serde_json::from_str(record.stripped.last().unwrap()).unwrap();
    assert_eq!(own["type"], "m.room.member");
    assert_eq!(own["state_key"], BOB);
    assert_eq!(own["content"]["membership"], "invite");
}

#[test]
fn to_device_messages_come_once_and_never_without_a_new_since() {
    let (mut books, alice) = begun();
    let message =
        || SyncBatch { to_device: vec![r#"{"type":"x"}"#.into()], ..SyncBatch::default() };
    let applied = books.poll_batch(alice, message());
    assert!(!applied.early);
    assert_eq!(books.device(alice).unwrap().to_device_last, 0);
    let batch = SyncBatch { next_batch: Some("t".to_owned()), ..message() };
    let applied = books.poll_batch(alice, batch);
    assert!(applied.change.devices.iter().any(|change| change.to_device));
    assert_eq!(books.device(alice).unwrap().to_device_last, 1);
    assert_eq!(books.device(alice).unwrap().since.as_deref(), Some("t"));
}

#[test]
fn acknowledged_messages_are_deleted() {
    let (mut books, alice) = begun();
    let to_device = vec![r#"{"n":1}"#.into(), r#"{"n":2}"#.into(), r#"{"n":3}"#.into()];
    let next_batch = Some("t".to_owned());
    books.poll_batch(alice, SyncBatch { next_batch, to_device, ..SyncBatch::default() });
    let device = alice.device;
    books.apply(Command::ToDevice { device, acknowledged: 2, offset: 40 });
    let kept: Vec<_> = books.entries(Table::ToDevice).into_iter().map(|(_, json)| json).collect();
    assert_eq!(kept, [br#"{"n":3}"#.to_vec()]);
    let record = books.device(alice).unwrap();
    assert_eq!((record.to_device_offset, record.adopted), (40, true));
}

#[test]
fn a_purged_device_leaves_nothing_but_its_name() {
    let (mut books, alice) = begun();
    let to_device = vec![r#"{"n":1}"#.into()];
    let device_lists_changed = vec![BOB.to_owned()];
    let next_batch = Some("t".to_owned());
    let batch = SyncBatch { next_batch, to_device, device_lists_changed, ..SyncBatch::default() };
    books.poll_batch(alice, batch);
    let applied = books.apply(Command::Purge(alice.device));
    assert!(applied.change.devices.iter().all(|change| change.purged));
    for table in [Table::ToDevice, Table::DeviceLists, Table::Tokens] {
        assert!(books.entries(table).is_empty(), "{table:?}");
    }
    assert_eq!(books.device(alice), None);
    // A poll that was on its way brings nothing back.
    let before = books.entries(Table::Events);
    books.poll_from(alice, Some("t".to_owned()), vec![joined(messages(&["m9"]))]);
    assert_eq!(books.entries(Table::Events), before);
    assert_eq!(books.sign_in(ALICE, "A").device, alice.device);
}

#[test]
fn a_forgotten_room_is_forgotten_only_by_who_is_out_of_it() {
    let (mut books, alice) = begun();
    let (user, room) = (alice.user, books.number());
    books.apply(Command::Forget { user, room });
    assert!(books.of_user(alice).is_some());
    books.poll(alice, vec![left(vec![member_after("leave2", ALICE, "join", "leave")])]);
    books.apply(Command::Forget { user, room });
    assert_eq!(books.of_user(alice), None);
    assert!(books.tables.get(Table::Rooms, &luge_core::record::key::room(room)).is_some());
}
