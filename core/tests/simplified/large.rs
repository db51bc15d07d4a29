//! Large accounts: what one response tells, and what it leaves to the next.

use luge_core::{connection::AnswerLimits, shard::ShardLimits};
use serde_json::{Value, json};

use crate::{
    answers::{position, required, rooms, window},
    driver::{Client, Luge},
    events::{ALICE, BOB, all, at, beginning, invited, joined, left, member, message, waiting},
};

/// Alice in rooms `!0:x`, `!1:x`, …, the last of which is the newest.
fn with_rooms(count: usize, answers: AnswerLimits) -> (Luge, Client) {
    let mut luge = Luge::with(ShardLimits { answers, ..ShardLimits::default() });
    let alice = luge.sign_in(ALICE, "DEV");
    let room = |at: usize| {
        let mut room = joined(&format!("!{at}:x"), &beginning(&format!("${at}"), &[ALICE]));
        room["rooms"]["join"][format!("!{at}:x")]["account_data"] =
            json!({"events": [{"type": "m.tag", "content": {"tags": {}}}]});
        room
    };
    luge.sync(&alice, all((0..count).map(room)));
    (luge, alice)
}

fn window_of(until: u64) -> Value {
    let list = json!({"ranges": [[0, until]], "timeline_limit": 1, "required_state": []});
    json!({"lists": {"all": list}, "extensions": {"account_data": {"enabled": true}}})
}

fn with_account_data(answer: &Value) -> Vec<&str> {
    let rooms = answer["extensions"]["account_data"]["rooms"].as_object();
    rooms.map(|rooms| rooms.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Goal: no response holds its shard for long, no room is lost for that, none
/// comes twice, the newest come first, and nobody waits for the rest.
#[test]
fn rooms_that_a_response_has_no_place_for_come_with_the_next_at_once() {
    let limits = AnswerLimits { rooms_max: 2, ..AnswerLimits::default() };
    let (mut luge, alice) = with_rooms(5, limits);
    let mut answer = luge.ask(&alice, window_of(9));
    for told in [&["!3:x", "!4:x"][..], &["!1:x", "!2:x"], &["!0:x"]] {
        assert_eq!(rooms(&answer), told);
        assert_eq!(with_account_data(&answer), told, "an extension tells of a room with it");
        assert_eq!(window(&answer, "all", 0).len(), 5, "the list is whole all the same");
        let ticket = luge.send(&alice, waiting(position(&answer), window_of(9)));
        match luge.answered(ticket) {
            Some(got) => answer = got.body,
            None => assert_eq!(told, ["!0:x"], "only who has everything waits"),
        }
    }
}

/// Goal: what is left over waits for its turn also while other rooms are lively,
/// and after a response that was lost.
#[test]
fn rooms_that_are_left_over_are_not_forgotten_over_news_and_losses() {
    let limits = AnswerLimits { rooms_max: 1, ..AnswerLimits::default() };
    let (mut luge, alice) = with_rooms(3, limits);
    let first = luge.ask(&alice, window_of(9));
    assert_eq!(rooms(&first), ["!2:x"]);
    luge.sync(&alice, joined("!2:x", &[message("$news", ALICE)]));
    luge.wait(10_000);
    let lost = luge.ask(&alice, at(position(&first), window_of(9)));
    let again = luge.ask(&alice, at(position(&first), window_of(9)));
    assert_eq!((rooms(&lost), rooms(&again)), (vec!["!2:x"], vec!["!2:x"]), "the newest first");
    let third = luge.ask(&alice, at(position(&again), window_of(9)));
    let last = luge.ask(&alice, at(position(&third), window_of(9)));
    assert_eq!((rooms(&third), rooms(&last)), (vec!["!1:x"], vec!["!0:x"]));
}

/// Goal: nor does memory grow with what is asked of each room.
#[test]
fn a_response_ends_after_so_many_bytes_of_events() {
    let limits = AnswerLimits { bytes_max: 1, ..AnswerLimits::default() };
    let (mut luge, alice) = with_rooms(3, limits);
    let first = luge.ask(&alice, window_of(9));
    assert_eq!(rooms(&first), ["!2:x"]);
    assert_eq!(rooms(&luge.ask(&alice, at(position(&first), window_of(9)))), ["!1:x"]);
}

/// Goal: nor with what strangers put into invites.
#[test]
fn a_response_ends_after_so_many_bytes_of_invites() {
    let answers = AnswerLimits { bytes_max: 1, ..AnswerLimits::default() };
    let mut luge = Luge::with(ShardLimits { answers, ..ShardLimits::default() });
    let alice = luge.sign_in(ALICE, "DEV");
    luge.sync(&alice, all(["!0:x", "!1:x"].map(|room| invited(room, BOB, ALICE))));
    let first = luge.ask(&alice, window_of(9));
    let second = luge.ask(&alice, at(position(&first), window_of(9)));
    let told = [rooms(&first), rooms(&second)].map(|rooms| rooms.len());
    assert_eq!(told, [1, 1]);
}

fn subscription(room_id: &str, state: &str) -> Value {
    let config = json!({"timeline_limit": 1, "required_state": [[state, ""]]});
    json!({"room_subscriptions": {room_id: config}})
}

/// Goal: what a connection asked of rooms before takes no memory without bound.
/// Where it is forgotten, state comes once more than it had to, and the end of a
/// room is told all the same.
#[test]
fn what_was_asked_of_rooms_before_is_forgotten_beyond_its_size() {
    for (bytes, expected) in [(1, vec!["$0-create"]), (1 << 20, vec![])] {
        let limits = AnswerLimits { earlier_bytes_max: bytes, ..AnswerLimits::default() };
        let (mut luge, alice) = with_rooms(3, limits);
        let mut answer = luge.ask(&alice, subscription("!0:x", "m.room.create"));
        assert_eq!(required(&answer, "!0:x"), ["$0-create"]);
        answer =
            luge.ask(&alice, at(position(&answer), subscription("!1:x", "m.room.power_levels")));
        assert_eq!(required(&answer, "!1:x"), ["$1-levels"]);
        answer = luge.ask(&alice, at(position(&answer), subscription("!0:x", "m.room.create")));
        assert_eq!(required(&answer, "!0:x"), expected, "{bytes}");
        assert_ne!(answer["rooms"]["!0:x"]["initial"], true);
        luge.sync(&alice, left("!1:x", &[member("$bye", ALICE, "leave")]));
        answer = luge.ask(&alice, at(position(&answer), window_of(9)));
        assert_eq!(required(&answer, "!1:x"), ["$bye"], "{bytes}");
    }
}

/// Goal: a room comes into a window also where nothing about it has changed.
#[test]
fn a_room_that_moves_up_after_one_that_was_left_is_told_of() {
    let (mut luge, alice) = with_rooms(3, AnswerLimits::default());
    let first = luge.ask(&alice, window_of(1));
    assert_eq!(rooms(&first), ["!1:x", "!2:x"]);
    luge.sync(&alice, left("!2:x", &[member("$bye", ALICE, "leave")]));
    let second = luge.ask(&alice, at(position(&first), window_of(1)));
    assert_eq!((rooms(&second), window(&second, "all", 0)), (vec!["!2:x"], vec!["!2:x", "!1:x"]));
    let ticket = luge.send(&alice, waiting(position(&second), window_of(1)));
    let third = luge.answered(ticket).expect("the third room is in the window now").body;
    assert_eq!((rooms(&third), window(&third, "all", 0)), (vec!["!0:x"], vec!["!1:x", "!0:x"]));
}
