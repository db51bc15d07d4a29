//! Sticky parameters, through the whole server.

use serde_json::json;

use crate::{
    after, alice_with,
    answers::{rooms, timeline},
    events::{ALICE, BOB, all, beginning, joined, joined_with, message},
    list,
};

/// Goal: what was asked for once stays asked for, also over a restart, until it
/// is taken back.
#[test]
fn what_was_asked_for_stays() {
    let room = |id: &str| joined(&format!("!{id}:x"), &beginning(&format!("${id}"), &[ALICE, BOB]));
    let (mut luge, alice) = alice_with(all([room("1"), room("2")]));
    let request = json!({
        "lists": {"l": {"ranges": [[0, 0]], "timeline_limit": 1}},
        "room_subscriptions": {"!1:x": {"timeline_limit": 5}},
        "extensions": {"typing": {"enabled": true}},
    });
    let mut answer = luge.ask(&alice, request);
    assert_eq!(rooms(&answer), ["!1:x", "!2:x"]);
    for (number, restarts) in [(1, false), (2, true)] {
        answer = luge.ask(&alice, after(&answer, json!({"txn_id": format!("t{number}")})));
        assert_eq!(answer["txn_id"], format!("t{number}"));
        if restarts {
            luge.restart();
        }
        luge.sync(&alice, joined("!1:x", &[message(&format!("$m{number}"), BOB)]));
        let ids = json!({"ephemeral": {"events": [
            {"type": "m.typing", "content": {"user_ids": [format!("@{number}:x")]}},
        ]}});
        luge.sync(&alice, joined_with("!1:x", &[], ids));
        answer = luge.ask(&alice, after(&answer, json!({})));
        assert!(timeline(&answer, "!1:x").contains(&&*format!("$m{number}")));
        assert!(answer["extensions"]["typing"]["rooms"]["!1:x"].is_object());
        assert_eq!(answer["lists"]["l"]["count"], 2);
    }
}

/// Goal: a subscription ends when it is taken back, a list when it is deleted,
/// an extension when it is switched off.
#[test]
fn what_was_asked_for_can_be_taken_back() {
    let room = |id: &str| joined(&format!("!{id}:x"), &beginning(&format!("${id}"), &[ALICE, BOB]));
    let (mut luge, alice) = alice_with(all([room("1"), room("2")]));
    let mut request = list("l", json!({"ranges": [[0, 0]]}));
    request["room_subscriptions"] = json!({"!1:x": {"timeline_limit": 1}});
    request["extensions"] = json!({"receipts": {"enabled": true}});
    let answer = luge.ask(&alice, request);
    let answer = luge.ask(
        &alice,
        after(
            &answer,
            json!({
                "lists": {"l": {"deleted": true}, "unknown": {"deleted": true}},
                "unsubscribe_rooms": ["!1:x"],
                "extensions": {"receipts": {"enabled": false}},
            }),
        ),
    );
    assert_eq!((&answer["lists"], &answer["extensions"]), (&json!({}), &json!({})));
    luge.sync(&alice, all([joined("!1:x", &[message("$1", BOB)])]));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    // And comes back whole where it is asked for again.
    let answer = luge.ask(&alice, after(&answer, list("l", json!({"ranges": [[0, 9]]}))));
    assert_eq!(answer["lists"]["l"]["ops"][0]["op"], "SYNC");
}

/// Goal: without a position everything is forgotten.
#[test]
fn a_new_connection_has_asked_for_nothing() {
    let (mut luge, alice) = alice_with(joined("!1:x", &beginning("$1", &[ALICE, BOB])));
    let first = luge.ask(&alice, list("l", json!({"ranges": [[0, 9]]})));
    let answer = luge.ask(&alice, json!({}));
    assert_eq!(answer["lists"], json!({}));
    let refused = luge.refused(&alice, after(&first, json!({})));
    assert_eq!(refused, (400, "M_UNKNOWN_POS".to_owned()));
}

/// Goal: an extension's scope without names is that of all lists and all
/// subscriptions; with names, theirs.
#[test]
fn extensions_are_scoped() {
    let room = |id: &str| {
        let ids = json!({"ephemeral": {"events": [
            {"type": "m.typing", "content": {"user_ids": [BOB]}},
        ]}});
        joined_with(&format!("!{id}:x"), &beginning(&format!("${id}"), &[ALICE, BOB]), ids)
    };
    let (mut luge, alice) = alice_with(all([room("1"), room("2"), room("3")]));
    for (scope, expected) in [
        (json!({}), vec!["!1:x", "!3:x"]),
        (json!({"lists": ["*"], "rooms": ["*"]}), vec!["!1:x", "!3:x"]),
        (json!({"lists": []}), vec!["!1:x"]),
        (json!({"rooms": []}), vec!["!3:x"]),
        (json!({"lists": ["l"], "rooms": ["!2:x"]}), vec!["!3:x"]),
    ] {
        let mut request = list("l", json!({"ranges": [[0, 0]]}));
        request["room_subscriptions"] = json!({"!1:x": {}});
        let mut typing = json!({"enabled": true});
        crate::events::merge(&mut typing, scope.clone());
        request["extensions"] = json!({"typing": typing});
        let answer = luge.ask(&alice, request);
        let told = answer["extensions"]["typing"]["rooms"].as_object().expect("rooms");
        assert_eq!(told.keys().collect::<Vec<_>>(), expected, "{scope}");
    }
}
