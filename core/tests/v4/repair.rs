//! State that the homeserver took away without an event: a stub of it is sent.

use serde_json::{Value, json};

use crate::{
    alice_with, all_rooms,
    answers::{position, rooms, timeline},
    driver::{Client, Luge},
    events::{ALICE, BOB, at, beginning, gap, joined, message, name, state},
};

/// A room with a name, an avatar and a topic.
fn first_events() -> Vec<Value> {
    let set = |id: &str, kind: &str, content| state(id, kind, "", ALICE, content);
    let more = vec![
        name("$n", ALICE, "N"),
        set("$a", "m.room.avatar", json!({"url": "mxc://x/1"})),
        set("$t", "m.room.topic", json!({"topic": "T"})),
        message("$m", BOB),
    ];
    [beginning("$r", &[ALICE, BOB]), more].concat()
}

/// The homeserver's state is found to have nothing of these ids.
fn take_away(luge: &mut Luge, client: &Client, ids: &[&str]) {
    luge.sync(client, gap("!r:x", &[], &[message("$after", BOB)], "p"));
    luge.wait(2_000);
    let is_kept = |event: &Value| {
        event.get("state_key").is_some()
            && !ids.contains(&event["event_id"].as_str().unwrap_or_default())
    };
    let state: Vec<Value> = first_events().into_iter().filter(is_kept).collect();
    luge.give_state(&state);
}

/// Goal: a stub for what is asked for, once, and null for what the entry said.
#[test]
fn removed_state_is_a_stub_and_a_removed_name_null() {
    let (mut luge, alice) = alice_with(joined("!r:x", &first_events()));
    let wanted = all_rooms(1, json!([{"type": "m.room.topic"}, {"type": "m.room.name"}]));
    let other = json!({"conn_id": "other", "lists": all_rooms(1, json!([]))["lists"]});
    let answer = luge.ask(&alice, wanted.clone());
    let others = luge.ask(&alice, other.clone());
    take_away(&mut luge, &alice, &["$n", "$a", "$t"]);
    for _ in 0..2 {
        let told = luge.ask(&alice, at(position(&answer), wanted.clone()));
        let room = &told["rooms"]["!r:x"];
        assert_eq!(
            room["required_state"],
            json!([
                {"type": "m.room.name", "state_key": ""},
                {"type": "m.room.topic", "state_key": ""},
            ])
        );
        let fields = room.as_object().expect("an entry");
        assert_eq!(fields.get("name"), Some(&Value::Null));
        assert_eq!(fields.get("avatar"), Some(&Value::Null));
        assert_eq!((fields.get("initial"), timeline(&told, "!r:x")), (None, vec!["$after"]));
        luge.restart();
    }
    let told = luge.ask(&alice, at(position(&answer), wanted.clone()));
    let next = luge.ask(&alice, at(position(&told), wanted));
    assert_eq!(rooms(&next), [] as [&str; 0], "it is told once");
    let told = luge.ask(&alice, at(position(&others), other));
    assert_eq!(told["rooms"]["!r:x"].get("required_state"), None, "nobody asked for it");
}

/// Goal: who once held the entry learns of its end when they ask for it again.
#[test]
fn what_was_removed_while_it_was_not_asked_for_is_told_when_it_is_again() {
    let (mut luge, alice) = alice_with(joined("!r:x", &first_events()));
    let topic = all_rooms(1, json!([{"type": "m.room.topic"}]));
    let answer = luge.ask(&alice, topic.clone());
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    take_away(&mut luge, &alice, &["$t"]);
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    assert_eq!(answer["rooms"]["!r:x"].get("required_state"), None);
    let answer = luge.ask(&alice, at(position(&answer), topic));
    let stub = json!([{"type": "m.room.topic", "state_key": ""}]);
    assert_eq!(answer["rooms"]["!r:x"]["required_state"], stub);
}

/// Goal: a member who was only told for the timeline's sake is a stub too.
#[test]
fn a_lazily_told_member_who_is_gone_is_a_stub() {
    let (mut luge, alice) = alice_with(joined("!r:x", &first_events()));
    let lazy = json!({"lists": {"all": {"timeline_limit": 1, "required_state": {
        "include": [], "lazy_members": true,
    }}}});
    let answer = luge.ask(&alice, lazy.clone());
    assert_eq!(crate::answers::required(&answer, "!r:x"), ["$r-join-b"]);
    luge.sync(&alice, gap("!r:x", &[], &[message("$after", ALICE)], "p"));
    luge.wait(2_000);
    let is_kept =
        |event: &Value| event.get("state_key").is_some() && event["event_id"] != "$r-join-b";
    let state: Vec<Value> = first_events().into_iter().filter(is_kept).collect();
    luge.give_state(&state);
    let answer = luge.ask(&alice, at(position(&answer), lazy));
    let room = &answer["rooms"]["!r:x"];
    let stub = json!({"type": "m.room.member", "state_key": BOB});
    let told = room["required_state"].as_array().expect("an array");
    assert!(told.contains(&stub), "{told:?}");
    assert_eq!(room["joined_count"], 1, "the counts are the state's");
}

/// Goal: who is out of a room without an event is told by the membership alone,
/// once.
#[test]
fn who_is_reset_out_of_a_room_is_told_by_their_membership() {
    let (mut luge, alice) = alice_with(joined("!r:x", &first_events()));
    let topic = all_rooms(5, json!([{"type": "m.room.topic"}]));
    let answer = luge.ask(&alice, topic.clone());
    luge.sync(&alice, gap("!r:x", &[], &[message("$after", BOB)], "p"));
    luge.wait(2_000);
    luge.give_joined_rooms(&[]);
    for _ in 0..2 {
        let told = luge.ask(&alice, at(position(&answer), topic.clone()));
        let room = &told["rooms"]["!r:x"];
        assert_eq!((&room["membership"], &room["initial"]), (&"leave".into(), &true.into()));
        assert_eq!((room.get("timeline"), room.get("required_state")), (None, None));
        luge.restart();
    }
    let told = luge.ask(&alice, at(position(&answer), topic.clone()));
    let next = luge.ask(&alice, at(position(&told), topic));
    assert_eq!(rooms(&next), [] as [&str; 0]);
}

/// Goal: history that was fetched comes as an expansion.
#[test]
fn filled_in_history_is_marked_as_expanded() {
    let last = [message("$1", BOB), message("$2", BOB)];
    let (mut luge, alice) = alice_with(gap("!r:x", &beginning("$r", &[ALICE, BOB]), &last, "p1"));
    let answer = luge.ask(&alice, all_rooms(4, json!([])));
    let want = luge.take_history_order();
    luge.answer_history(&want, &[message("$0", BOB)], Some("p0"));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(4, json!([]))));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(timeline(&answer, "!r:x"), ["$0", "$1", "$2"]);
    assert_eq!((&room["expanded_timeline"], &room["num_live"]), (&true.into(), &0.into()));
}
