//! Extensions: their names and which rooms they are for (MSC4508).

use serde_json::{Value, json};

use crate::{
    alice_with,
    answers::position,
    driver::{Client, Luge},
    events::{ALICE, BOB, all, at, beginning, joined, joined_with, made, message, waiting},
};

const TYPING: &str = "org.matrix.msc4508.typing";

fn typing(room_id: &str, user_ids: &[&str]) -> Value {
    let event = json!({"type": "m.typing", "content": {"user_ids": user_ids}});
    joined_with(room_id, &[], json!({"ephemeral": {"events": [event]}}))
}

/// `!3-listed:x` in the window of `top`, `!2-second:x` in that of `two`,
/// `!1-subscribed:x` in none; Bob types in all.
fn three_rooms() -> (Luge, Client) {
    let ids = ["!1-subscribed:x", "!2-second:x", "!3-listed:x"];
    let (mut luge, alice) =
        alice_with(all(ids.map(|id| joined(id, &beginning(&format!("${id}"), &[ALICE, BOB])))));
    luge.sync(&alice, all(ids.map(|id| typing(id, &[BOB]))));
    (luge, alice)
}

fn request(scope: Value) -> Value {
    let of_room = json!({"timeline_limit": 1, "required_state": {}});
    let list = |range: Value| {
        let mut list = of_room.clone();
        list["range"] = range;
        list
    };
    let mut typing = json!({"enabled": true});
    crate::events::merge(&mut typing, scope);
    json!({
        "lists": {"top": list(json!([0, 0])), "two": list(json!([1, 1]))},
        "room_subscriptions": {"!1-subscribed:x": of_room, "!3-listed:x": of_room},
        "extensions": {TYPING: typing},
    })
}

fn typists(answer: &Value) -> Vec<&str> {
    let rooms = answer["extensions"][TYPING]["rooms"].as_object();
    rooms.into_iter().flat_map(|rooms| rooms.keys().map(String::as_str)).collect()
}

/// Goal: a room is in scope by a named list's window or as a named
/// subscription; absent means all, empty none, and nothing is a wildcard.
#[test]
fn scopes_are_lists_and_subscriptions() {
    let (mut luge, alice) = three_rooms();
    for (scope, expected) in [
        (json!({}), vec!["!1-subscribed:x", "!2-second:x", "!3-listed:x"]),
        (json!({"lists": []}), vec!["!1-subscribed:x", "!3-listed:x"]),
        (json!({"rooms": []}), vec!["!2-second:x", "!3-listed:x"]),
        (json!({"lists": [], "rooms": []}), vec![]),
        (json!({"lists": ["two"], "rooms": []}), vec!["!2-second:x"]),
        (json!({"lists": [], "rooms": ["!1-subscribed:x", "!none:x"]}), vec!["!1-subscribed:x"]),
        (json!({"lists": [], "rooms": ["!2-second:x"]}), vec![]),
        (json!({"lists": ["*"], "rooms": ["*"]}), vec![]),
    ] {
        let answer = luge.ask(&alice, request(scope.clone()));
        assert_eq!(typists(&answer), expected, "{scope}");
    }
}

/// Goal: the extension whose proposal is open is known by its prefixed name
/// alone; others, and unknown ones, change nothing.
#[test]
fn only_the_prefixed_typing_extension_is_known() {
    let (mut luge, alice) = three_rooms();
    let on = json!({"enabled": true});
    let extensions = json!({"typing": on, "receipts": on, "account_data": on, "e2ee": on,
        "to_device": on, "org.example.unknown": on});
    let answer = luge.ask(&alice, json!({"extensions": extensions}));
    let answered = answer["extensions"].as_object().expect("an object");
    let keys: Vec<&str> = answered.keys().map(String::as_str).collect();
    assert_eq!(keys, ["account_data", "e2ee", "receipts", "to_device"]);
}

/// Goal: a room that comes back into scope says again who is typing: the client
/// has forgotten it.
#[test]
fn typing_is_told_again_when_a_room_comes_back() {
    let (mut luge, alice) = three_rooms();
    let top = || {
        let mut request = request(json!({"lists": ["top"], "rooms": []}));
        request["room_subscriptions"] = json!({});
        request
    };
    let answer = luge.ask(&alice, top());
    assert_eq!(typists(&answer), ["!3-listed:x"]);
    luge.sync(&alice, joined("!2-second:x", &[message("$1", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), top()));
    assert_eq!(typists(&answer), ["!2-second:x"]);
    luge.sync(&alice, joined("!3-listed:x", &[message("$2", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), top()));
    assert_eq!(typists(&answer), ["!3-listed:x"]);
    let answer = luge.ask(&alice, at(position(&answer), top()));
    assert_eq!(typists(&answer), [] as [&str; 0], "it stayed in scope and nothing changed");
}

/// Goal: typing wakes who waits, and is never told of a room one was made to
/// leave.
#[test]
fn typing_wakes_and_ends_with_the_stay() {
    let (mut luge, alice) = three_rooms();
    let answer = luge.ask(&alice, request(json!({})));
    let ticket = luge.send(&alice, waiting(position(&answer), request(json!({}))));
    luge.sync(&alice, typing("!2-second:x", &[]));
    let answer = luge.body(ticket);
    let rooms = &answer["extensions"][TYPING]["rooms"];
    assert_eq!(rooms["!2-second:x"]["content"]["user_ids"], json!([]));
    assert_eq!(answer["rooms"], json!({}));
    let bob = luge.sign_in(BOB, "B");
    luge.sync(&bob, joined("!3-listed:x", &[made("$kick", BOB, ALICE, "leave")]));
    luge.sync(&bob, typing("!3-listed:x", &[BOB, "@carol:x"]));
    let answer = luge.ask(&alice, at(position(&answer), request(json!({}))));
    assert_eq!(typists(&answer), [] as [&str; 0]);
}
