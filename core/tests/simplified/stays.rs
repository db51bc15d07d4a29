//! What extensions tell of a room to who leaves it and comes back: each stay
//! begins anew, in every dialect.

use luge_core::request::Dialect;
use serde_json::{Value, json};

use crate::{
    answers::position,
    driver::{Client, Luge},
    events::{ALICE, BOB, at, beginning, joined, joined_with, left, member, message},
};

const CAROL: &str = "@carol:y";

/// Alice and Bob in a room, and what the extensions told Alice of it.
struct Stay {
    dialect: Dialect,
    luge: Luge,
    alice: Client,
    bob: Client,
    position: String,
}

impl Stay {
    fn begin(dialect: Dialect) -> Self {
        let mut luge = Luge::speaking(dialect);
        let [alice, bob] = [(ALICE, "A"), (BOB, "B")].map(|(user, it)| luge.sign_in(user, it));
        let data = json!({"type": "org.example.own", "content": {"v": 1}});
        let more = json!({"account_data": {"events": [data]}});
        let events = beginning("$r", &[BOB, ALICE]);
        luge.sync(&bob, joined("!r:x", &events));
        luge.sync(&alice, joined_with("!r:x", &events, more));
        let mut stay = Self { dialect, luge, alice, bob, position: String::new() };
        stay.reads("$r-join-a", ALICE);
        stay.types(&[BOB]);
        let answer = stay.ask();
        assert_eq!(stay.typing(&answer), json!([BOB]));
        assert_eq!(account_data(&answer), 1);
        stay
    }

    /// Bob's poller is told of something of the room.
    fn happens(&mut self, more: Value) {
        let bob = self.bob.clone();
        self.luge.sync(&bob, joined_with("!r:x", &[], more));
    }

    fn reads(&mut self, event_id: &str, user_id: &str) {
        let content = json!({event_id: {"m.read": {user_id: {"ts": 5}}}});
        self.happens(json!({"ephemeral": {"events": [{"type": "m.receipt", "content": content}]}}));
    }

    fn types(&mut self, user_ids: &[&str]) {
        let event = json!({"type": "m.typing", "content": {"user_ids": user_ids}});
        self.happens(json!({"ephemeral": {"events": [event]}}));
    }

    fn leave(&mut self) {
        let events = [member("$out", ALICE, "leave")];
        self.luge.sync(&self.bob.clone(), joined("!r:x", &events));
        self.luge.sync(&self.alice.clone(), left("!r:x", &events));
    }

    fn come_back(&mut self) {
        let events = [member("$in", ALICE, "join"), message("$hello", BOB)];
        self.luge.sync(&self.bob.clone(), joined("!r:x", &events));
        let more = json!({"timeline": {"limited": true}});
        self.luge.sync(&self.alice.clone(), joined_with("!r:x", &events, more));
    }

    fn ask(&mut self) -> Value {
        let mut list = json!({"timeline_limit": 5, "required_state": []});
        if self.dialect == Dialect::V4 {
            list["required_state"] = json!({"include": []});
        } else {
            list["ranges"] = json!([[0, 9]]);
        }
        let on = json!({"enabled": true});
        let mut request = json!({"lists": {"all": list}, "extensions": {
            "receipts": on, "account_data": on, self.typing_name(): on,
        }});
        request["timeout"] = 0.into();
        if !self.position.is_empty() {
            request = at(&self.position, request);
        }
        let answer = self.luge.ask(&self.alice.clone(), request);
        position(&answer).clone_into(&mut self.position);
        answer
    }

    fn typing_name(&self) -> &'static str {
        if self.dialect == Dialect::V4 { "org.matrix.msc4508.typing" } else { "typing" }
    }

    /// Who is said to type in the room; null where nothing is said.
    fn typing(&self, answer: &Value) -> Value {
        let rooms = &answer["extensions"][self.typing_name()]["rooms"];
        rooms["!r:x"]["content"]["user_ids"].clone()
    }
}

fn receipts(answer: &Value) -> Value {
    answer["extensions"]["receipts"]["rooms"]["!r:x"]["content"].clone()
}

fn account_data(answer: &Value) -> usize {
    let events = answer["extensions"]["account_data"]["rooms"]["!r:x"].as_array();
    events.map_or(0, Vec::len)
}

/// Goal: who comes back gets the receipts on the events that they are sent and
/// their own, and none from between the stays; all that come later.
#[test]
fn a_new_stay_begins_receipts_anew() {
    for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Msc3575] {
        for learns_of_the_end in [true, false] {
            let mut stay = Stay::begin(dialect);
            stay.leave();
            if learns_of_the_end {
                stay.ask();
            }
            let between = [message("$between", BOB)];
            stay.luge.sync(&stay.bob.clone(), joined("!r:x", &between));
            stay.reads("$between", CAROL);
            stay.come_back();
            stay.reads("$hello", BOB);
            let answer = stay.ask();
            let expected = json!({
                "$r-join-a": {"m.read": {ALICE: {"ts": 5}}}, "$hello": {"m.read": {BOB: {"ts": 5}}},
            });
            assert_eq!(receipts(&answer), expected, "{dialect:?} {learns_of_the_end}");
            stay.reads("$in", CAROL);
            let answer = stay.ask();
            let expected = json!({"$in": {"m.read": {CAROL: {"ts": 5}}}});
            assert_eq!(receipts(&answer), expected, "{dialect:?} {learns_of_the_end}");
        }
    }
}

/// Goal: who comes back is told who types now, whatever was between, so that it
/// does not show that somebody has.
#[test]
fn a_new_stay_tells_of_typing_whatever_was_before() {
    for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Msc3575] {
        for (at_the_end, between) in [(&[][..], &[][..]), (&[], &[CAROL]), (&[BOB], &[CAROL])] {
            let mut stay = Stay::begin(dialect);
            stay.types(at_the_end);
            stay.ask();
            stay.leave();
            stay.types(between);
            stay.types(at_the_end);
            stay.come_back();
            let answer = stay.ask();
            assert_eq!(stay.typing(&answer), json!(at_the_end), "{dialect:?} {between:?}");
        }
    }
}

/// Goal: who comes back gets the room's account data again, as with a room that
/// is new; who has left does not.
#[test]
fn a_new_stay_begins_account_data_anew() {
    for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Msc3575] {
        let mut stay = Stay::begin(dialect);
        stay.leave();
        assert_eq!(account_data(&stay.ask()), 0, "{dialect:?}");
        stay.come_back();
        assert_eq!(account_data(&stay.ask()), 1, "{dialect:?}");
        assert_eq!(account_data(&stay.ask()), 0, "{dialect:?}");
    }
}

/// Goal: a stay that came and ended while nobody told of it is told with its
/// events, to who was told of the end before; also where nobody else is there,
/// whose poller would have them in the room's timeline first.
#[test]
fn a_stay_that_came_and_ended_in_one_answer_is_told() {
    for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Msc3575] {
        for is_alone in [true, false] {
            let mut stay = Stay::begin(dialect);
            if is_alone {
                let bob = stay.bob.clone();
                stay.luge.sync(&bob, left("!r:x", &[changed("$bye", BOB, "join", "leave")]));
            }
            let alice = stay.alice.clone();
            stay.luge.sync(&alice, left("!r:x", &[changed("$out", ALICE, "join", "leave")]));
            let answer = stay.ask();
            assert_eq!(ids(&answer).last().map(String::as_str), Some("$out"), "{dialect:?}");
            let again = [
                changed("$in", ALICE, "leave", "join"),
                message("$hello", ALICE),
                changed("$out-again", ALICE, "join", "leave"),
            ];
            stay.luge.sync(&alice, left("!r:x", &again));
            let answer = stay.ask();
            let told = ids(&answer);
            assert!(told.ends_with(&again.map(|it| id(&it))), "{dialect:?} {is_alone} {told:?}");
            let own = &answer["rooms"]["!r:x"]["required_state"];
            let own = own.as_array().into_iter().flatten().next_back().map(id);
            assert_eq!(own.as_deref(), Some("$out-again"), "{dialect:?} {is_alone}");
            let answer = stay.ask();
            assert_eq!(answer["rooms"].get("!r:x"), None, "{dialect:?} {is_alone}: told once");
        }
    }
}

/// Goal: an end that is in the tables before its change has reached the shard is told
/// with that change, and once.
#[test]
fn an_end_that_the_tables_have_ahead_of_the_world_is_told_once() {
    for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Msc3575] {
        let mut stay = Stay::begin(dialect);
        let [alice, bob] = [stay.alice.clone(), stay.bob.clone()];
        stay.luge.hold_deltas();
        // A to-device message makes the change known with the tables, not before.
        let unread = json!({"unread_notifications": {"notification_count": 1}});
        let mut answer = joined_with("!r:x", &[message("$hello", BOB)], unread);
        answer["to_device"] = json!({"events": [{"type": "m.test", "sender": BOB, "content": {}}]});
        stay.luge.sync(&alice, answer);
        stay.luge.sync(&bob, joined("!r:x", &[changed("$out", ALICE, "join", "leave")]));
        stay.luge.release_delta();
        let before = ids(&stay.ask());
        stay.luge.release_delta();
        let answer = stay.ask();
        assert_eq!([before, ids(&answer)].concat(), ["$hello", "$out"], "{dialect:?}");
        let own = &answer["rooms"]["!r:x"]["required_state"];
        let own = own.as_array().into_iter().flatten().next_back().map(id);
        assert_eq!(own.as_deref(), Some("$out"), "{dialect:?}: with the world that has it");
        let answer = stay.ask();
        assert_eq!(answer["rooms"].get("!r:x"), None, "{dialect:?}: told once");
    }
}

/// Somebody's own change of membership, with what it was before.
fn changed(id: &str, user_id: &str, before: &str, after: &str) -> Value {
    let mut event = member(id, user_id, after);
    event["unsigned"] = json!({"prev_content": {"membership": before}});
    event
}

fn id(event: &Value) -> String {
    event["event_id"].as_str().unwrap_or_default().to_owned()
}

/// The events of the room's timeline.
fn ids(answer: &Value) -> Vec<String> {
    let events = answer["rooms"]["!r:x"]["timeline"].as_array();
    events.into_iter().flatten().map(id).collect()
}
