//! `to_device` and `e2ee`: what an encrypted conversation hangs on.

use luge_core::shard::Hint;
use serde_json::{Value, json};

use crate::{
    answers::{position, rooms},
    driver::{Client, Luge},
    events::{ALICE, BOB, all, at, waiting},
};

fn to_device(numbers: std::ops::Range<u64>) -> Value {
    let event = |number| json!({"type": "m.test", "sender": BOB, "content": {"number": number}});
    json!({"to_device": {"events": numbers.map(event).collect::<Vec<_>>()}})
}

fn request(since: Option<&str>) -> Value {
    let mut request =
        json!({"conn_id": "encryption", "extensions": {"to_device": {"enabled": true}}});
    if let Some(since) = since {
        request["extensions"]["to_device"]["since"] = since.into();
    }
    request
}

fn numbers(answer: &Value) -> Vec<u64> {
    let events = answer["extensions"]["to_device"]["events"].as_array().expect("events");
    events.iter().filter_map(|event| event["content"]["number"].as_u64()).collect()
}

fn next(answer: &Value) -> String {
    answer["extensions"]["to_device"]["next_batch"].as_str().expect("a token").to_owned()
}

/// Goal: there is always a token, and it is an integer.
#[test]
fn a_device_without_messages_gets_a_token() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    let answer = luge.ask(&alice, request(None));
    assert_eq!(numbers(&answer), [] as [u64; 0]);
    next(&answer).parse::<u64>().expect("clients read it as an integer");
}

/// Goal: messages come until they are acknowledged, and then never again.
#[test]
fn messages_come_until_they_are_acknowledged() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    luge.sync(&alice, to_device(0..2));
    let first = luge.ask(&alice, request(None));
    assert_eq!(numbers(&first), [0, 1]);
    assert_eq!(numbers(&luge.ask(&alice, request(None))), [0, 1], "no token acknowledges nothing");
    luge.sync(&alice, to_device(2..3));
    let second = luge.ask(&alice, at(position(&first), request(Some(&next(&first)))));
    assert_eq!(numbers(&second), [2]);
    let again = luge.ask(&alice, at(position(&first), request(Some(&next(&first)))));
    assert_eq!(numbers(&again), [2], "the same token, the same messages");
    assert_eq!(numbers(&luge.ask(&alice, request(None))), [2], "what was acknowledged is gone");
    let third = luge.ask(&alice, at(position(&again), request(Some(&next(&again)))));
    assert_eq!((numbers(&third), next(&third)), (vec![], next(&again)));
}

/// Goal: messages and tokens survive restarts and crashes.
#[test]
fn messages_survive_a_crash() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    luge.sync(&alice, to_device(0..3));
    let mut limited = request(None);
    limited["extensions"]["to_device"]["limit"] = 2.into();
    let first = luge.ask(&alice, limited);
    assert_eq!(numbers(&first), [0, 1]);
    luge.kill();
    let second = luge.ask(&alice, request(Some(&next(&first))));
    assert_eq!(numbers(&second), [2]);
    luge.restart();
    assert_eq!(numbers(&luge.ask(&alice, request(Some(&next(&second))))), [] as [u64; 0]);
}

/// Goal: no token of another server acknowledges anything, in any form.
#[test]
fn foreign_tokens_acknowledge_nothing() {
    for foreign in [
        "0",
        "1",
        "2",
        "4711",
        "9007199254740991",
        "99999999999999999999",
        "s12_34",
        "",
        "-3",
        "1.5",
    ] {
        let mut luge = Luge::new();
        let alice = luge.fresh(ALICE);
        luge.sync(&alice, to_device(0..2));
        let first = luge.ask(&alice, request(Some(foreign)));
        assert_eq!(numbers(&first), [0, 1], "{foreign:?}");
        let token: u64 = next(&first).parse().expect("an integer");
        if let Ok(foreign) = foreign.parse::<u64>()
            && foreign < 1 << 50
        {
            assert!(token > foreign, "{foreign}: {token}");
        }
        assert_eq!(numbers(&luge.ask(&alice, request(Some(foreign)))), [0, 1], "{foreign:?}");
        luge.sync(&alice, to_device(2..3));
        assert_eq!(numbers(&luge.ask(&alice, request(Some(&next(&first))))), [2], "{foreign:?}");
    }
}

/// Goal: every message comes, in order, whatever it says: also a request for a
/// key and its cancellation.
#[test]
fn messages_are_not_judged() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    let request = |action: &str| {
        json!({"type": "m.room_key_request", "sender": BOB, "content": {
            "action": action, "request_id": "1", "requesting_device_id": "B",
        }})
    };
    let events = [request("request"), request("request_cancellation"), request("request")];
    luge.sync(&alice, json!({"to_device": {"events": events}}));
    let answer = luge.ask(&alice, self::request(None));
    assert_eq!(answer["extensions"]["to_device"]["events"], json!(events));
}

/// Goal: each device has its own messages.
#[test]
fn messages_are_for_one_device() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    let other = luge.sign_in(ALICE, "OTHER");
    luge.sync_without_rooms(&other, to_device(5..6));
    luge.sync(&alice, to_device(0..1));
    assert_eq!(numbers(&luge.ask(&alice, request(None))), [0]);
    assert_eq!(numbers(&luge.ask(&other, request(None))), [5]);
}

/// Goal: a message wakes its device.
#[test]
fn a_message_releases_a_long_poll() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    let answer = luge.ask(&alice, request(None));
    let held = luge.send(&alice, waiting(position(&answer), request(Some(&next(&answer)))));
    assert_eq!(luge.answered(held), None);
    luge.sync(&alice, to_device(0..1));
    assert_eq!(numbers(&luge.body(held)), [0]);
}

fn e2ee() -> Value {
    json!({"conn_id": "encryption", "extensions": {"e2ee": {"enabled": true}}})
}

fn lists(changed: &[&str], left: &[&str]) -> Value {
    json!({"device_lists": {"changed": changed, "left": left}})
}

fn sorted(list: &Value) -> Vec<String> {
    let mut users: Vec<_> =
        list.as_array().into_iter().flatten().map(ToString::to_string).collect();
    users.sort_unstable();
    users
}

/// Goal: no device lists without position; they accumulate until acknowledged.
#[test]
fn device_lists_accumulate_until_they_are_acknowledged() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    luge.sync(&alice, lists(&["@early:x"], &[]));
    let first = luge.ask(&alice, e2ee());
    assert_eq!(first["extensions"]["e2ee"].get("device_lists"), None);
    let of = |answer: &Value| {
        let lists = &answer["extensions"]["e2ee"]["device_lists"];
        assert!(lists.is_object(), "they are there with a position: {answer}");
        (sorted(&lists["changed"]), sorted(&lists["left"]))
    };
    let none = (Vec::<String>::new(), Vec::<String>::new());
    assert_eq!(of(&luge.ask(&alice, at(position(&first), e2ee()))), none);
    luge.sync(&alice, lists(&["@a:x", "@b:x"], &[]));
    luge.sync(&alice, lists(&["@c:x"], &["@b:x"]));
    let expected =
        (vec!["\"@a:x\"".to_owned(), "\"@c:x\"".to_owned()], vec!["\"@b:x\"".to_owned()]);
    let second = luge.ask(&alice, at(position(&first), e2ee()));
    assert_eq!(of(&second), expected);
    assert_eq!(of(&luge.ask(&alice, at(position(&first), e2ee()))), expected, "a retry");
    let third = luge.ask(&alice, at(position(&second), e2ee()));
    assert_eq!(of(&third), none);
    luge.restart();
    luge.sync(&alice, lists(&["@late:x"], &[]));
    let fourth = luge.ask(&alice, at(position(&third), e2ee()));
    assert_eq!(of(&fourth).0, ["\"@late:x\""]);
}

/// Goal: device lists survive a crash: what a lost world said is said again.
#[test]
fn device_lists_are_not_lost_by_a_crash() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    let first = luge.ask(&alice, e2ee());
    luge.sync(&alice, lists(&["@a:x"], &[]));
    luge.kill();
    let answer = luge.ask(&alice, at(position(&first), e2ee()));
    assert_eq!(sorted(&answer["extensions"]["e2ee"]["device_lists"]["changed"]), ["\"@a:x\""]);
}

/// Goal: counts are the homeserver's, never invented.
#[test]
fn key_counts_are_what_the_homeserver_said() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    let of = |answer: &Value, key: &str| answer["extensions"]["e2ee"].get(key).cloned();
    let (count, types) = ("device_one_time_keys_count", "device_unused_fallback_key_types");
    let answer = luge.ask(&alice, e2ee());
    assert_eq!((of(&answer, count), of(&answer, types)), (None, None));
    luge.sync(&alice, json!({count: {"signed_curve25519": 50}, types: ["signed_curve25519"]}));
    let answer = luge.ask(&alice, at(position(&answer), e2ee()));
    assert_eq!(of(&answer, count), Some(json!({"signed_curve25519": 50})));
    assert_eq!(of(&answer, types), Some(json!(["signed_curve25519"])));
    luge.sync(&alice, json!({}));
    let answer = luge.ask(&alice, at(position(&answer), e2ee()));
    assert_eq!(of(&answer, count), Some(json!({"signed_curve25519": 50})), "always there");
    luge.hint(&alice, Hint::KeyCounts(alice.device, r#"{"signed_curve25519":49}"#.to_owned()));
    let answer = luge.ask(&alice, at(position(&answer), e2ee()));
    assert_eq!(of(&answer, count), Some(json!({"signed_curve25519": 49})));
}

fn wait_for(luge: &mut Luge, alice: &Client, answer: Value) -> bool {
    let start = luge.ask(alice, e2ee());
    let held = luge.send(alice, waiting(position(&start), e2ee()));
    luge.sync(alice, answer);
    let released = luge.answered(held).is_some();
    luge.abandon(held);
    released
}

/// Goal: device lists wake, counts do not.
#[test]
fn only_device_lists_release_a_long_poll() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    let counts = json!({"device_one_time_keys_count": {"signed_curve25519": 3}});
    let fallback = json!({"device_unused_fallback_key_types": ["signed_curve25519"]});
    assert!(!wait_for(&mut luge, &alice, counts));
    assert!(!wait_for(&mut luge, &alice, fallback));
    assert!(wait_for(&mut luge, &alice, lists(&[BOB], &[])));
    assert!(wait_for(&mut luge, &alice, lists(&[], &[BOB])));
}

/// Goal: both at once, as Element X asks, without rooms or lists in the answer.
#[test]
fn an_encryption_connection_has_extensions_alone() {
    let mut luge = Luge::new();
    let alice = luge.fresh(ALICE);
    luge.sync(&alice, all([to_device(0..1), lists(&[BOB], &[])]));
    let request = json!({"conn_id": "encryption", "extensions": {
        "to_device": {"enabled": true}, "e2ee": {"enabled": true},
    }});
    let answer = luge.ask(&alice, request);
    assert_eq!((rooms(&answer), answer.get("lists")), (vec![], None));
    assert_eq!(numbers(&answer), [0]);
}
