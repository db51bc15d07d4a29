//! Lists: a count and no operations, one range or none, who is a member.

use serde_json::{Value, json};

use crate::{
    alice_with, all_rooms,
    answers::{position, rooms},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, all, at, beginning, invited, joined, left, made, member, message, waiting,
    },
};

fn with_rooms(count: usize) -> (Luge, Client) {
    let rooms = (0..count)
        .map(|at| joined(&format!("!{at}:x"), &beginning(&format!("${at}"), &[ALICE, BOB])));
    alice_with(all(rooms))
}

fn range(range: &Value) -> Value {
    json!({"lists": {"all": {"range": range, "timeline_limit": 1, "required_state": {}}}})
}

/// Goal: a list says how many rooms match, and nothing of their order.
#[test]
fn a_list_has_its_count_alone() {
    let (mut luge, alice) = with_rooms(3);
    let answer = luge.ask(&alice, range(&json!([0, 1])));
    assert_eq!(answer["lists"], json!({"all": {"count": 3}}));
    assert_eq!(rooms(&answer), ["!1:x", "!2:x"]);
}

/// Goal: without a range a list is of all rooms; far and inverted ones are of
/// none.
#[test]
fn a_range_is_one_pair_and_optional() {
    let (mut luge, alice) = with_rooms(3);
    let answer = luge.ask(&alice, all_rooms(1, json!([])));
    assert_eq!(rooms(&answer), ["!0:x", "!1:x", "!2:x"]);
    for (asked, expected) in [
        (json!([0, 0]), vec!["!2:x"]),
        (json!([1, 2]), vec!["!0:x", "!1:x"]),
        (json!([3, 9]), vec![]),
        (json!([5, 1]), vec![]),
        (Value::Null, vec!["!0:x", "!1:x", "!2:x"]),
    ] {
        let answer = luge.ask(&alice, range(&asked));
        assert_eq!(rooms(&answer), expected, "{asked}");
        assert_eq!(answer["lists"]["all"]["count"], 3, "{asked}");
    }
}

/// Goal: an entry says which lists' windows the room is in, and is silent where
/// a subscription alone brought it.
#[test]
fn an_entry_names_the_lists_it_is_in() {
    let (mut luge, alice) = with_rooms(3);
    let of_room = json!({"timeline_limit": 1, "required_state": {}});
    let list = |range: Value| {
        let mut list = of_room.clone();
        list["range"] = range;
        list
    };
    let answer = luge.ask(
        &alice,
        json!({
            "lists": {"top": list(json!([0, 0])), "two": list(json!([0, 1]))},
            "room_subscriptions": {"!0:x": of_room},
        }),
    );
    assert_eq!(answer["rooms"]["!2:x"]["lists"], json!(["top", "two"]));
    assert_eq!(answer["rooms"]["!1:x"]["lists"], json!(["two"]));
    assert_eq!(answer["rooms"]["!0:x"].get("lists"), None);
}

/// Goal: a ban from a room that the user never was in is not shown; one that
/// ended a stay is.
#[test]
fn a_ban_shows_only_to_who_was_joined() {
    let (mut luge, alice) = alice_with(all([
        joined("!was:x", &beginning("$w", &[BOB, ALICE])),
        invited("!asked:x", BOB, ALICE),
    ]));
    let answer = luge.ask(&alice, all_rooms(1, json!([])));
    assert_eq!(answer["lists"]["all"]["count"], 2);
    luge.sync(&alice, left("!was:x", &[made("$b1", BOB, ALICE, "ban")]));
    luge.sync(&alice, left("!asked:x", &[made("$b2", BOB, ALICE, "ban")]));
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    assert_eq!(answer["lists"]["all"]["count"], 2, "who had the invite learns that it is over");
    assert_eq!(answer["rooms"]["!was:x"]["membership"], "ban");
    assert_eq!(answer["rooms"]["!asked:x"]["membership"], "ban");
    let answer = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    assert_eq!(answer["lists"]["all"]["count"], 1);
    assert!(rooms(&answer).is_empty());
    let anew = luge.ask(&alice, all_rooms(1, json!([])));
    assert_eq!(anew["lists"]["all"]["count"], 1);
    assert_eq!(rooms(&anew), ["!was:x"]);
}

/// Goal: a room that the user left is told of once, and only to a connection
/// that had it; a kick stays listed.
#[test]
fn a_room_one_left_is_listed_once_where_it_was_sent() {
    let (mut luge, alice) = with_rooms(2);
    let answer = luge.ask(&alice, all_rooms(1, json!([])));
    luge.sync(&alice, left("!0:x", &[member("$gone", ALICE, "leave")]));
    let told = luge.ask(&alice, at(position(&answer), all_rooms(1, json!([]))));
    assert_eq!(told["rooms"]["!0:x"]["membership"], "leave");
    assert_eq!(told["lists"]["all"]["count"], 2);
    let later = luge.ask(&alice, at(position(&told), all_rooms(1, json!([]))));
    assert_eq!((&later["lists"]["all"]["count"], rooms(&later)), (&1.into(), vec![]));
    let anew = luge.ask(&alice, all_rooms(1, json!([])));
    assert_eq!(rooms(&anew), ["!1:x"]);
    luge.sync(&alice, left("!1:x", &[made("$out", BOB, ALICE, "leave")]));
    let anew = luge.ask(&alice, all_rooms(1, json!([])));
    assert_eq!(anew["rooms"]["!1:x"]["membership"], "leave");
    assert_eq!(anew["lists"]["all"]["count"], 1);
}

/// Goal: the filter for invites has its accepted name, and the old one is
/// unknown.
#[test]
fn invites_are_filtered_by_is_invited() {
    let (mut luge, alice) =
        alice_with(all([joined("!j:x", &beginning("$j", &[ALICE])), invited("!i:x", BOB, ALICE)]));
    for (filters, expected) in [
        (json!({"is_invited": true}), vec!["!i:x"]),
        (json!({"is_invited": false}), vec!["!j:x"]),
        (json!({"is_invite": true}), vec!["!i:x", "!j:x"]),
    ] {
        let list = json!({"timeline_limit": 0, "required_state": {}, "filters": filters});
        let answer = luge.ask(&alice, json!({"lists": {"l": list}}));
        assert_eq!(rooms(&answer), expected, "{filters}");
    }
}

/// Goal: the room of the last event, whatever its type, is in the window.
#[test]
fn a_room_that_moves_into_the_window_releases_a_long_poll() {
    let (mut luge, alice) = with_rooms(3);
    let answer = luge.ask(&alice, range(&json!([0, 0])));
    assert_eq!(rooms(&answer), ["!2:x"]);
    let ticket = luge.send(&alice, waiting(position(&answer), range(&json!([0, 0]))));
    assert_eq!(luge.answered(ticket), None);
    luge.sync(&alice, joined("!0:x", &[message("$m", BOB)]));
    let answer = luge.body(ticket);
    assert_eq!(answer["rooms"]["!0:x"]["initial"], true);
    assert_eq!(rooms(&answer), ["!0:x"]);
}
