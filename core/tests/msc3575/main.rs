//! MSC3575, from requests to JSON answers: what differs from the simplified
//! dialect, whose suite covers what the two have in common.

#[path = "../harness/mod.rs"]
mod harness;

#[path = "../simplified/answers.rs"]
#[expect(dead_code, reason = "the suites need different parts of it")]
mod answers;
#[path = "../simplified/driver.rs"]
#[expect(dead_code, reason = "the suites need different parts of it")]
mod driver;
#[path = "../simplified/events.rs"]
#[expect(dead_code, reason = "the suites need different parts of it")]
mod events;

mod conversation;
mod deviations;
mod lists;
mod model;
mod orders;
mod repair;
mod retries;
mod rooms;
mod sticky;

use driver::{Client, Luge};
use luge_core::request::Dialect;
use serde_json::{Value, json};

/// A Luge that is asked in this dialect.
fn luge() -> Luge {
    Luge::speaking(Dialect::Msc3575)
}

/// Alice with what the homeserver answers first.
fn alice_with(answer: Value) -> (Luge, Client) {
    let mut luge = luge();
    let alice = luge.sign_in(events::ALICE, "A");
    luge.sync(&alice, answer);
    (luge, alice)
}

/// `request` at the position of `answer`, which waits for nothing.
fn after(answer: &Value, request: Value) -> Value {
    let mut request = events::at(answers::position(answer), request);
    request["timeout"] = 0.into();
    request
}

/// A list of this name.
fn list(name: &str, list: Value) -> Value {
    json!({"lists": {name: list}})
}

/// The operations on a list.
fn operations(answer: &Value, list: &str) -> Value {
    answer["lists"][list].get("ops").cloned().unwrap_or_else(|| json!([]))
}
