//! What a room hides from who comes into it: their answers have holes where others
//! talked, and say nothing of them.

use luge_core::{
    ledger::{Command, History},
    record::Membership,
    upstream::{RoomBatch, SyncEvent},
};
use serde_json::{Value, json};

use crate::table::{
    ALICE, BOB, Books, Who, create, event, invited, joined, left, limited, member, member_after,
    message, messages, name,
};

const EVE: &str = "@eve:example.org";

/// A room that two are told of up to `name4`, and that shows newcomers so much of
/// what was before.
fn room(visibility: &str) -> (Books, [Who; 3]) {
    let mut books = Books::new();
    let [alice, bob, eve] = [ALICE, BOB, EVE].map(|user_id| books.sign_in(user_id, "A"));
    let visible = json!({ "history_visibility": visibility });
    let mut created = create();
    ALICE.clone_into(&mut created.sender);
    let timeline = vec![
        created,
        member("join1", ALICE, "join"),
        event("visible2", "m.room.history_visibility", Some(""), &visible),
        member("join3", BOB, "join"),
        name("name4", &json!("n")),
    ];
    for who in [alice, bob] {
        books.poll(who, vec![joined(timeline.clone())]);
    }
    (books, [alice, bob, eve])
}

/// What Eve is told when she comes, where she may not see messages from before: what
/// is the state now is shown all the same.
fn told_to_eve() -> Vec<SyncEvent> {
    vec![
        member("join3", BOB, "join"),
        name("name4", &json!("n")),
        event("topic7", "m.room.topic", Some(""), &json!({ "topic": "t" })),
        member("join9", EVE, "join"),
        message("m10"),
    ]
}

const NEWS: [&str; 6] = ["m5", "m6", "topic7", "m8", "join9", "m10"];

fn news() -> Vec<SyncEvent> {
    let mut news = messages(&["m5", "m6"]);
    news.extend(told_to_eve().into_iter().skip(2).take(1));
    news.push(message("m8"));
    news.extend(told_to_eve().into_iter().skip(3));
    news
}

/// Goal: where somebody who has just come is told first, nobody takes what was hidden
/// from them for nothing.
#[test]
fn what_was_hidden_from_who_tells_first_is_a_gap_to_the_others() {
    for visibility in ["joined", "invited"] {
        let (mut books, [alice, bob, eve]) = room(visibility);
        books.poll_twice(eve);
        books.poll(eve, vec![limited(told_to_eve())]);
        assert_eq!(books.newest(eve, 10), (vec!["join9".to_owned(), "m10".to_owned()], true));
        books.poll(alice, vec![joined(news())]);
        let (shown, is_limited) = books.newest(alice, 10);
        assert_eq!((&*shown, is_limited), (&["join9".to_owned(), "m10".to_owned()][..], true));
        // The state that lies in the gap is not lost.
        assert_eq!(books.state("m.room.topic", "").as_deref(), Some("topic7"), "{visibility}");
        books.poll(bob, vec![joined(news())]);
        assert!(books.newest(bob, 10).1, "{visibility}");
    }
}

/// Goal: where nothing is hidden, and where others were faster, there is no gap.
#[test]
fn what_is_hidden_from_nobody_is_no_gap() {
    let (mut books, [alice, _, eve]) = room("shared");
    books.poll_twice(eve);
    let mut all = vec![name("name4", &json!("n"))];
    all.extend(news());
    books.poll(eve, vec![limited(all)]);
    books.poll(alice, vec![joined(news())]);
    let (shown, is_limited) = books.newest(alice, 6);
    assert_eq!((&*shown, is_limited), (&NEWS.map(str::to_owned)[..], true));
    assert_eq!(books.newest(alice, 11).0.len(), 11);

    let (mut books, [alice, _, eve]) = room("joined");
    books.poll_twice(eve);
    books.poll(alice, vec![joined(news())]);
    books.poll(eve, vec![limited(told_to_eve())]);
    assert_eq!(books.newest(alice, 11).0.len(), 11);
}

/// Goal: what somebody is given as history from before they came joins no two parts
/// of the timeline.
#[test]
fn history_with_holes_closes_no_gap() {
    let (mut books, [alice, bob, eve]) = room("joined");
    books.poll_twice(eve);
    books.poll(eve, vec![limited(told_to_eve())]);
    let before = books.sequence("join9");
    let mut events = told_to_eve();
    events.truncate(3);
    events.reverse();
    let history = History { room: books.number(), user: eve.user, before, events, end: None };
    books.apply(Command::History(Box::new(history)));
    books.poll(alice, vec![joined(news())]);
    books.poll(bob, vec![joined(news())]);
    for who in [alice, bob] {
        let (shown, is_limited) = books.newest(who, 10);
        assert_eq!((&*shown, is_limited), (&["join9".to_owned(), "m10".to_owned()][..], true));
    }
}

/// Goal: whoever makes a room sees it from its beginning, and others see where a
/// newcomer's answer is all that is known of one.
#[test]
fn a_room_begins_with_its_creation_for_its_creator_alone() {
    for (creator, expected) in [
        (EVE, (vec!["create0", "join1", "visible2", "m3"], false)),
        (ALICE, (vec!["join1", "visible2", "m3"], true)),
    ] {
        let mut books = Books::new();
        let eve = books.sign_in(EVE, "A");
        let mut created = create();
        creator.clone_into(&mut created.sender);
        let hides = json!({ "history_visibility": "invited" });
        let mut timeline = vec![created, member("join1", EVE, "join")];
        timeline.push(event("visible2", "m.room.history_visibility", Some(""), &hides));
        timeline.push(message("m3"));
        books.poll(eve, vec![joined(timeline)]);
        let (shown, is_limited) = books.newest(eve, 10);
        assert_eq!((shown.iter().map(|id| &**id).collect::<Vec<_>>(), is_limited), expected);
    }
}

/// Goal: a page of history goes as far back as who it is for has been there.
#[test]
fn history_ends_where_its_user_came() {
    let (mut books, [_, _, eve]) = room("joined");
    books.poll(eve, vec![limited(messages(&["m10", "m11"]))]);
    let before = books.sequence("m10");
    let topic = event("topic7", "m.room.topic", Some(""), &json!({ "topic": "t" }));
    let events = vec![message("m9"), member("join8", EVE, "join"), topic];
    let end = Some("further".to_owned());
    let history = History { room: books.number(), user: eve.user, before, events, end };
    books.apply(Command::History(Box::new(history)));
    let (shown, is_limited) = books.newest(eve, 10);
    assert_eq!(
        (&*shown, is_limited),
        (&["join8", "m9", "m10", "m11"].map(str::to_owned)[..], true)
    );
}

/// A page of history for somebody, from before one event: the newest first.
fn page(books: &mut Books, who: Who, before: &str, mut events: Vec<SyncEvent>, end: Option<&str>) {
    events.reverse();
    let before = books.sequence(before);
    let end = end.map(str::to_owned);
    let history = History { room: books.number(), user: who.user, before, events, end };
    books.apply(Command::History(Box::new(history)));
}

/// Goal: what another is given as history from before somebody's coming is not shown to
/// them, although they were given state from before it.
#[test]
fn what_another_is_given_from_before_ones_coming_is_hidden() {
    let (mut books, [alice, _, eve]) = room("joined");
    books.poll_twice(eve);
    books.poll(eve, vec![limited(told_to_eve())]);
    books.poll(alice, vec![limited(messages(&["m10"]))]);
    let hidden = vec![name("name4", &json!("n")), message("m5"), message("m6")];
    page(&mut books, alice, "join9", hidden, None);
    assert_eq!(books.newest(alice, 4).0, ["m5", "m6", "join9", "m10"]);
    assert_eq!(books.newest(eve, 10).0, ["join9", "m10"]);
}

/// Goal: nor is it where their own poller tells that they have left, and state from
/// before their coming with it.
#[test]
fn what_was_before_ones_coming_is_hidden_when_one_has_left() {
    let (mut books, [alice, _, eve]) = room("joined");
    books.poll_twice(eve);
    books.poll(alice, vec![joined(news())]);
    books.poll(eve, vec![limited(told_to_eve())]);
    let end = || member_after("leave11", EVE, "join", "leave");
    books.poll(alice, vec![joined(vec![end()])]);
    let mut told = told_to_eve();
    told.push(end());
    books.poll(eve, vec![RoomBatch { limited: true, ..left(told) }]);
    assert_eq!(books.newest(eve, 10).0, ["join9", "m10", "leave11"]);
}

/// Goal: what somebody is told of from before they came says nothing of where in the
/// timeline their coming belongs.
#[test]
fn what_one_came_behind_is_not_what_they_were_told_before() {
    let (mut books, [alice, bob, eve]) = room("joined");
    books.poll(alice, vec![limited(messages(&["m8"]))]);
    books.poll_twice(eve);
    let mut told = told_to_eve();
    told.remove(2);
    books.poll(eve, vec![limited(told)]);
    books.poll(bob, vec![limited(vec![message("m8"), member("join9", EVE, "join")])]);
    assert_eq!(books.stored().split_off(6), ["m8", "|", "join9", "m10"]);
    assert_eq!(books.newest(eve, 10).0, ["join9", "m10"]);
}

/// Goal: a token that stands before what is hidden from one user is not given to others,
/// whom it would lead past it.
#[test]
fn a_token_from_before_what_is_hidden_is_nobodys() {
    let (mut books, [_, _, eve]) = room("joined");
    books.poll_twice(eve);
    books.poll(eve, vec![limited(messages(&["m10"]))]);
    page(&mut books, eve, "m10", vec![member("join9", EVE, "join")], Some("before8"));
    assert_eq!(books.newest(eve, 10).0, ["join9", "m10"]);
    assert_eq!(books.event("join9").expect("it is stored").prev_batch, None);

    books.poll(eve, vec![limited(messages(&["m21"]))]);
    page(&mut books, eve, "m21", vec![message("m20")], Some("before20"));
    let token = books.event("m20").expect("it is stored").prev_batch;
    assert_eq!(token.as_deref(), Some("before20"));
}

/// Goal: what of it is state undoes nothing that came behind their coming.
#[test]
fn a_leave_from_before_ones_coming_does_not_undo_a_later_invite() {
    let (mut books, [alice, bob, eve]) = room("joined");
    books.poll(bob, vec![left(vec![member_after("leave6", BOB, "join", "leave")])]);
    books.poll(alice, vec![joined(vec![member_after("leave6", BOB, "join", "leave")])]);
    let news = vec![member("join9", EVE, "join"), member_after("invite10", BOB, "leave", "invite")];
    books.poll(alice, vec![joined(news.clone())]);
    books.poll(bob, vec![invited(Vec::new())]);
    let mut told = vec![member_after("leave6", BOB, "join", "leave")];
    told.extend(news);
    books.poll_twice(eve);
    for is_after in [true, false] {
        let state_is_after = is_after;
        books.poll(eve, vec![RoomBatch { state_is_after, ..limited(told.clone()) }]);
        assert_eq!(books.state("m.room.member", BOB).as_deref(), Some("invite10"));
        assert_eq!(books.of_user(bob).map(|it| it.membership), Some(Membership::Invite));
    }
}

/// Goal: that a room has hidden its history is not forgotten over what it did since, be
/// that in what its user is given or in what is known.
#[test]
fn a_room_that_hid_its_history_before_is_known_by_what_it_said_then() {
    let visible = |id: &str, now: &str, before: &str| {
        let content = json!({ "history_visibility": now });
        let mut event = event(id, "m.room.history_visibility", Some(""), &content);
        let mut json: Value = serde_json::from_str(&event.json).expect("an event");
        json["unsigned"] = json!({ "prev_content": { "history_visibility": before } });
        event.json = json.to_string().into();
        event
    };
    let shared = |id: &str| visible(id, "shared", "joined");
    let world = |id: &str| visible(id, "world_readable", "shared");
    let name = || name("name4", &json!("n"));
    let came = || member("join9", EVE, "join");

    let (mut books, [_, _, eve]) = room("joined");
    let answer = limited(messages(&["m10"]));
    books.poll(eve, vec![RoomBatch { state: vec![world("visible7")], ..answer }]);
    let given = vec![name(), shared("visible6"), world("visible7"), came()];
    page(&mut books, eve, "m10", given, None);
    assert_eq!(books.stored().split_off(5), ["|", "join9", "m10"]);
    assert_eq!(books.newest(eve, 10).0, ["join9", "m10"]);

    let (mut books, [_, _, eve]) = room("joined");
    books.poll(eve, vec![limited(vec![came(), shared("visible10"), world("visible11")])]);
    page(&mut books, eve, "join9", vec![name()], None);
    assert_eq!(books.stored().split_off(5), ["|", "join9", "visible10", "visible11"]);
}
