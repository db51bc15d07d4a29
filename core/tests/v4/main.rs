//! MSC4186 as accepted, from requests to JSON answers: what differs from the
//! simplified dialect, whose suite covers what the two have in common.

#[path = "../harness/mod.rs"]
mod harness;

#[path = "../simplified/answers.rs"]
#[expect(dead_code, reason = "the suites need different parts of it")]
mod answers;
#[path = "../simplified/driver.rs"]
#[expect(dead_code, reason = "the suites need different parts of it")]
mod driver;
#[path = "../simplified/events.rs"]
mod events;

mod connection;
mod lists;
mod repair;
mod rooms;
mod scopes;

use driver::{Client, Luge};
use luge_core::request::Dialect;
use serde_json::{Value, json};

/// A Luge that is asked in this dialect.
fn luge() -> Luge {
    Luge::speaking(Dialect::V4)
}

/// Alice with what the homeserver answers first.
fn alice_with(answer: Value) -> (Luge, Client) {
    let mut luge = luge();
    let alice = luge.sign_in(events::ALICE, "A");
    luge.sync(&alice, answer);
    (luge, alice)
}

/// A request for all rooms with `limit` events and the state that `include`
/// says.
fn all_rooms(limit: u64, include: Value) -> Value {
    json!({"lists": {"all": {"timeline_limit": limit, "required_state": {"include": include}}}})
}
