//! State that the homeserver took away without an event: the room is sent again
//! as new.

use serde_json::{Value, json};

use crate::{
    after, alice_with,
    answers::{required, rooms},
    events::{ALICE, BOB, beginning, gap, joined, message, name, state},
    list,
};

/// Goal: the room comes whole, without what is gone, and with its computed name.
#[test]
fn removed_state_has_the_room_sent_again_as_new() {
    let topic = state("$t", "m.room.topic", "", ALICE, json!({"topic": "T"}));
    let first = [beginning("$r", &[ALICE, BOB]), vec![name("$n", ALICE, "N"), topic]].concat();
    let (mut luge, alice) = alice_with(joined("!r:x", &first));
    let wanted = json!({
        "ranges": [[0, 9]], "timeline_limit": 1,
        "required_state": [["m.room.topic", ""], ["m.room.create", ""]],
    });
    let answer = luge.ask(&alice, list("l", wanted));
    assert_eq!(answer["rooms"]["!r:x"]["name"], "N");
    luge.sync(&alice, gap("!r:x", &[], &[message("$after", BOB)], "p"));
    luge.wait(2_000);
    let is_kept = |event: &&Value| !["$n", "$t"].contains(&event["event_id"].as_str().unwrap());
    let state: Vec<Value> = first.iter().filter(is_kept).cloned().collect();
    luge.give_state(&state);
    let answer = luge.ask(&alice, after(&answer, json!({})));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!((&room["initial"], &room["name"]), (&true.into(), &"b".into()));
    assert_eq!(required(&answer, "!r:x"), ["$r-create"]);
    let answer = luge.ask(&alice, after(&answer, json!({})));
    assert_eq!(rooms(&answer), [] as [&str; 0]);
}

/// Goal: history that was fetched comes as a new room does.
#[test]
fn filled_in_history_is_sent_as_initial() {
    let last = [message("$1", BOB), message("$2", BOB)];
    let (mut luge, alice) = alice_with(gap("!r:x", &beginning("$r", &[ALICE, BOB]), &last, "p1"));
    let wanted = json!({"ranges": [[0, 9]], "timeline_limit": 4, "required_state": []});
    let answer = luge.ask(&alice, list("l", wanted));
    let want = luge.take_history_order();
    luge.answer_history(&want, &[message("$0", BOB)], Some("p0"));
    let answer = luge.ask(&alice, after(&answer, json!({})));
    let room = &answer["rooms"]["!r:x"];
    assert_eq!(crate::answers::timeline(&answer, "!r:x"), ["$0", "$1", "$2"]);
    assert_eq!((&room["initial"], &room["num_live"]), (&true.into(), &0.into()));
}
