//! Connections: positions in the body, and apart from those of other dialects.

use luge_core::request::Dialect;
use serde_json::{Value, json};

use crate::{
    alice_with, all_rooms,
    answers::{position, rooms, timeline},
    driver::Luge,
    events::{ALICE, BOB, at, beginning, joined, list, message, waiting},
};

fn request() -> Value {
    all_rooms(1, json!([]))
}

/// Goal: the position and the timeout are read from the body.
#[test]
fn a_request_with_a_position_waits_as_long_as_the_body_says() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    let answer = luge.ask(&alice, json!({"timeout": 30_000}));
    assert_eq!(answer["lists"], json!({}), "without a position nothing is waited for");
    let answer = luge.ask(&alice, request());
    let ticket = luge.send(&alice, waiting(position(&answer), request()));
    luge.wait(29_000);
    assert_eq!(luge.answered(ticket), None);
    luge.wait(2_000);
    let answer = luge.body(ticket);
    assert_eq!(rooms(&answer), [] as [&str; 0]);
    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, at(position(&answer), request()));
    assert_eq!(timeline(&answer, "!r:x"), ["$m"]);
}

/// Goal: a position that was not issued here is unknown, whatever its form.
#[test]
fn other_positions_are_unknown() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[ALICE])));
    let answer = luge.ask(&alice, request());
    let unknown = (400, "M_UNKNOWN_POS".to_owned());
    for pos in ["", "5", "25/s989_1", "é"] {
        assert_eq!(luge.refused(&alice, at(pos, request())), unknown, "{pos}");
    }
    let mut other = at(position(&answer), request());
    other["conn_id"] = "other".into();
    assert_eq!(luge.refused(&alice, other), unknown);
}

/// Goal: the same device may speak two dialects under one `conn_id`; neither
/// ends the other.
#[test]
fn dialects_have_their_own_connections() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    let accepted = luge.ask(&alice, request());
    luge.speak(Dialect::Simplified);
    let simplified = luge.ask(&alice, list(1, json!([])));
    let unknown = (400, "M_UNKNOWN_POS".to_owned());
    let pos = position(&accepted).to_owned();
    assert_eq!(luge.refused(&alice, at(&pos, list(1, json!([])))), unknown);
    luge.sync(&alice, joined("!r:x", &[message("$m", BOB)]));
    let answer = luge.ask(&alice, at(position(&simplified), list(1, json!([]))));
    assert_eq!(timeline(&answer, "!r:x"), ["$m"]);
    luge.speak(Dialect::V4);
    let answer = luge.ask(&alice, at(&pos, request()));
    assert_eq!(timeline(&answer, "!r:x"), ["$m"]);
}

/// Goal: a connection outlives a restart, with all that its rules exclude.
#[test]
fn a_connection_survives_a_restart() {
    let (mut luge, alice) = alice_with(joined("!r:x", &beginning("$r", &[ALICE, BOB])));
    let mut request = request();
    request["lists"]["all"]["required_state"] =
        json!({"include": [{}], "exclude": [{"type": "m.room.create"}], "lazy_members": true});
    let answer = luge.ask(&alice, request.clone());
    luge.restart();
    let answer = luge.ask(&alice, at(position(&answer), request));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: the limits are those of the proposal, refused with its code.
#[test]
fn too_many_lists_or_subscriptions_are_refused() {
    let mut luge: Luge = crate::luge();
    let alice = luge.fresh(ALICE);
    let of_room = json!({"timeline_limit": 1, "required_state": {}});
    for key in ["lists", "room_subscriptions"] {
        let many: serde_json::Map<String, Value> =
            (0..101).map(|at| (format!("r{at}"), of_room.clone())).collect();
        let refused = luge.refused(&alice, json!({key: many}));
        assert_eq!(refused, (400, "M_INVALID_PARAM".to_owned()), "{key}");
    }
}
