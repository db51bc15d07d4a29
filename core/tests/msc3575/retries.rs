//! Retries: responses form one order, and a client takes in each of them.

use serde_json::{Value, json};

use crate::{
    after, alice_with,
    answers::{position, rooms, timeline},
    driver::{Client, Luge},
    events::{ALICE, BOB, all, beginning, joined, message, waiting},
    list,
};

fn start() -> (Luge, Client, Value) {
    let room = |id: &str| joined(&format!("!{id}:x"), &beginning(&format!("${id}"), &[ALICE, BOB]));
    let (mut luge, alice) = alice_with(all([room("1"), room("2"), room("3")]));
    let answer = luge.ask(&alice, list("l", json!({"ranges": [[0, 0]], "timeline_limit": 1})));
    (luge, alice, answer)
}

fn with_txn(txn_id: &str, mut request: Value) -> Value {
    request["txn_id"] = txn_id.into();
    request
}

/// Goal: the same position with the same body gives the same bytes, whatever
/// has happened since.
#[test]
fn the_same_request_gets_the_same_answer() {
    let (mut luge, alice, first) = start();
    luge.sync(&alice, joined("!3:x", &[message("$a", BOB)]));
    let answer = luge.ask(&alice, after(&first, with_txn("one", json!({}))));
    luge.sync(&alice, joined("!3:x", &[message("$b", BOB)]));
    let again = luge.ask(&alice, after(&first, with_txn("two", json!({}))));
    assert_eq!(again, answer, "transaction ids aside, the requests are the same");
    assert_eq!((&again["txn_id"], timeline(&again, "!3:x")), (&"one".into(), vec!["$a"]));
    let next = luge.ask(&alice, after(&again, json!({})));
    assert_eq!(timeline(&next, "!3:x"), ["$b"]);
}

/// Goal: a retry that asks for something else is taken in, and the answers come
/// in their order, each with its own transaction id.
#[test]
fn other_requests_are_answered_in_order() {
    let (mut luge, alice, first) = start();
    luge.sync(&alice, joined("!3:x", &[message("$a", BOB)]));
    let one = luge.ask(&alice, after(&first, with_txn("one", json!({}))));
    let wider = list("l", json!({"ranges": [[0, 1]]}));
    let same = luge.ask(&alice, after(&first, with_txn("two", wider.clone())));
    assert_eq!(same, one, "what came first is taken in first");
    let two = luge.ask(&alice, after(&same, with_txn("two", wider)));
    assert_eq!((&two["txn_id"], rooms(&two)), (&"two".into(), vec!["!2:x"]));
    assert_ne!(position(&two), position(&one));
    let three = luge.ask(&alice, after(&two, with_txn("three", json!({}))));
    assert_eq!((&three["txn_id"], rooms(&three)), (&"three".into(), vec![]));
    let refused = luge.refused(&alice, after(&one, json!({})));
    assert_eq!(refused, (400, "M_UNKNOWN_POS".to_owned()), "it was taken in");
}

/// Goal: no more answers wait than there is room for; a request beyond them
/// changes nothing until there is.
#[test]
fn waiting_answers_are_bounded() {
    let (mut luge, alice, first) = start();
    let wanted = |end: u64| list("l", json!({"ranges": [[0, end]]}));
    for end in 1..9 {
        let txn_id = end.to_string();
        let answer = luge.ask(&alice, after(&first, with_txn(&txn_id, wanted(end))));
        assert_eq!(answer["txn_id"], "1", "{end}");
    }
    let mut answer = first;
    let mut seen = Vec::new();
    for _ in 0..5 {
        answer = luge.ask(&alice, after(&answer, with_txn("last", wanted(20))));
        seen.push(answer["txn_id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(seen, ["1", "2", "3", "4", "last"]);
}

/// Goal: a request that is given up changes nothing, not even what is asked for.
#[test]
fn an_abandoned_request_is_not_remembered() {
    let (mut luge, alice, first) = start();
    let mut request = list("other", json!({"ranges": [[0, 0]], "filters": {"is_dm": true}}));
    request["txn_id"] = "lost".into();
    let ticket = luge.send(&alice, waiting(position(&first), request));
    assert_eq!(luge.answered(ticket), None);
    luge.abandon(ticket);
    let answer = luge.ask(&alice, after(&first, json!({})));
    assert_eq!((answer["lists"].get("other"), answer.get("txn_id")), (None, None));
}

/// Goal: a newer request ends the one that waits, and both are answered in
/// order.
#[test]
fn a_newer_request_gets_the_answer_of_the_one_it_ends() {
    let (mut luge, alice, first) = start();
    let ticket = luge.send(&alice, waiting(position(&first), with_txn("old", json!({}))));
    let wider = with_txn("new", list("l", json!({"ranges": [[0, 2]]})));
    let answer = luge.ask(&alice, after(&first, wider.clone()));
    assert_eq!((&answer["txn_id"], &luge.body(ticket)), (&"old".into(), &answer));
    let answer = luge.ask(&alice, after(&answer, wider));
    assert_eq!((&answer["txn_id"], rooms(&answer)), (&"new".into(), vec!["!1:x", "!2:x"]));
}

/// Goal: a restart loses answers that were not taken in, and no position.
#[test]
fn positions_survive_a_restart() {
    let (mut luge, alice, first) = start();
    let second = luge.ask(&alice, after(&first, json!({})));
    let wider = list("l", json!({"ranges": [[0, 2]]}));
    let third = luge.ask(&alice, after(&second, wider.clone()));
    luge.restart();
    luge.sync(&alice, joined("!3:x", &[message("$a", BOB)]));
    let anew = luge.ask(&alice, after(&second, wider));
    assert_eq!(rooms(&anew), ["!1:x", "!2:x", "!3:x"], "it is computed anew");
    let refused = luge.refused(&alice, after(&third, json!({})));
    assert_eq!(refused.1, "M_UNKNOWN_POS", "there is one order of answers");
    let last = luge.ask(&alice, after(&anew, json!({})));
    assert_eq!((rooms(&last), &last["lists"]["l"]), (vec![], &json!({"count": 3})));
    luge.restart();
    luge.sync(&alice, joined("!1:x", &[message("$b", BOB)]));
    let answer = luge.ask(&alice, after(&last, json!({})));
    assert_eq!(timeline(&answer, "!1:x"), ["$b"]);
    assert_eq!(
        crate::operations(&answer, "l"),
        json!([{"op": "DELETE", "index": 2}, {"op": "INSERT", "index": 0, "room_id": "!1:x"}])
    );
}

/// Goal: an answer is given again only to a token that is still good.
#[test]
fn an_answer_is_not_given_again_to_an_unknown_token() {
    let (mut luge, alice, first) = start();
    luge.ask(&alice, after(&first, json!({})));
    luge.wait(120_000);
    luge.validates = false;
    let ticket = luge.send(&alice, after(&first, json!({})));
    assert_eq!(luge.answered(ticket), None, "the homeserver is asked first");
}
