//! Conversations that real clients had with Synapse's own sliding sync, had
//! again with Luge: its answers say the same, but for what
//! [`differences::ROWS`] lists.

#[path = "../harness/mod.rs"]
mod harness;

#[path = "../simplified/driver.rs"]
#[expect(dead_code, reason = "the suites need different parts of it")]
mod driver;

mod compare;
mod differences;
mod homeserver;
mod moving;
mod player;
mod recording;

use std::{fs, path::Path};

use differences::{Beside, ROWS};
use homeserver::Homeserver;
use luge_core::{
    dialect::{self, RequestLimits},
    request::Dialect,
};
use player::Restarts;
use serde_json::{Value, json};

/// Has all conversations; returns how often each row applied. Every answer is
/// read by ruma on its way.
fn differences_found(restarts: Restarts) -> Vec<usize> {
    let mut applied = vec![0; ROWS.len()];
    for conversation in recording::conversations() {
        let homeserver = Homeserver::of(&conversation);
        for answered in player::play(&conversation, &homeserver, restarts) {
            let is_no_news = differences::is_all_read_ahead(&answered);
            assert_eq!(answered.timed_out, is_no_news, "{}", answered.recorded);
            let beside = Beside { answered: &answered, homeserver: &homeserver };
            for difference in compare::compare(answered.recorded, &answered.luges) {
                let row = ROWS.iter().position(|row| row.covers(&difference, &beside));
                let exchange = answered.exchange;
                let Some(row) = row else {
                    let (name, at_ms) = (conversation.name, exchange.ended_ms);
                    let (user, conn_id) = (&exchange.user, exchange.conn_id());
                    panic!("{name}, {user} {conn_id:?} at {at_ms} ms: {difference:#?}");
                };
                applied[row] += 1;
            }
        }
    }
    applied
}

/// Goal: Luge's answers to real clients are those of a homeserver's own sliding
/// sync, but for what is meant to differ, and all of that does.
#[test]
fn recorded_conversations_get_the_answers_of_the_homeserver() {
    let applied = differences_found(Restarts::Never);
    for (row, count) in ROWS.iter().zip(applied) {
        assert!(count > 0, "{}: {}: does not occur", row.at, row.what);
    }
}

/// Goal: no answer depends on what a restart forgets.
#[test]
fn restarts_before_every_request_change_no_answer() {
    differences_found(Restarts::Always);
}

/// Goal: what clients send is read as they mean it, also where they went away.
#[test]
fn every_recorded_request_is_understood() {
    let exchanges = recording::conversations().into_iter().flat_map(|it| it.exchanges);
    let (mut abandoned, mut all) = (0, 0);
    for exchange in exchanges {
        let body = exchange.request.to_string();
        let mut query = Vec::new();
        let parameters = [("pos", &exchange.query.pos), ("timeout", &exchange.query.timeout)];
        for (name, value) in parameters {
            query.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
        }
        let limits = RequestLimits::default();
        let request =
            dialect::parse(Dialect::Simplified, &query, body.as_bytes(), &exchange.user, &limits)
                .unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(request.position, exchange.query.pos);
        assert_eq!(Some(request.timeout_ms.to_string()), exchange.query.timeout);
        assert_eq!(request.conn_id, exchange.conn_id());
        let length = |key: &str| exchange.request[key].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(request.lists.len(), length("lists"));
        assert_eq!(request.subscriptions.len(), length("room_subscriptions"));
        let enabled = |name: &str| exchange.request["extensions"][name]["enabled"] == true;
        let extensions = request.extensions;
        assert_eq!(extensions.to_device.is_some(), enabled("to_device"));
        assert_eq!(extensions.e2ee, enabled("e2ee"));
        assert_eq!(extensions.account_data.is_some(), enabled("account_data"));
        assert_eq!(extensions.receipts.is_some(), enabled("receipts"));
        assert_eq!(extensions.typing.is_some(), enabled("typing"));
        all += 1;
        abandoned += usize::from(exchange.response.is_none());
    }
    assert_eq!((all, abandoned), (120, 14));
}

/// Goal: the page says what the test knows, row by row.
#[test]
fn differences_are_in_the_table_of_the_page() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let (_, section) = page
        .split_once("\n## Beside a homeserver's own sliding sync\n")
        .expect("the page has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let documented: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let row = |row: &differences::Row| format!("| `{}` | {} | {} |", row.at, row.what, row.why);
    let expected: Vec<_> = ROWS.iter().map(row).collect();
    assert_eq!(documented, expected, "the table should be:\n{}", expected.join("\n"));
}

/// Goal: the comparison has no blind spot: whatever is taken out of an answer,
/// or changed in it, is noticed.
#[test]
fn whatever_is_missing_or_changed_is_noticed() {
    let conversations = recording::conversations();
    let chat = conversations.iter().find(|it| it.name == "js-sdk-43-chat");
    let exchanges = chat.iter().flat_map(|it| &it.exchanges);
    let answers = exchanges.filter_map(|it| it.response.as_ref());
    let mut tried = 0;
    for answer in answers {
        let mut answer = answer.clone();
        // Push rules are long, and are looked at like anything else.
        if let Some(rules) = answer.pointer_mut("/extensions/account_data/global/0/content") {
            *rules = json!({"rules": ["a", "b"]});
        }
        for changed in one_thing_changed(&answer) {
            let found = compare::compare(&answer, &changed).len();
            let found_in_reverse = compare::compare(&changed, &answer).len();
            assert!(found > 0 && found_in_reverse > 0, "{}", answer["pos"]);
            tried += 1;
        }
        assert!(compare::compare(&answer, &answer).is_empty());
    }
    assert!(tried > 1_000, "many changes were tried: {tried}");
}

/// Every value that comes of `value` by taking out, doubling or changing one
/// thing.
fn one_thing_changed(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(members) => {
            let mut all = Vec::new();
            for (key, inner) in members {
                let mut without = members.clone();
                without.remove(key);
                all.push(Value::Object(without));
                for changed in one_thing_changed(inner) {
                    let mut with = members.clone();
                    with.insert(key.clone(), changed);
                    all.push(Value::Object(with));
                }
            }
            all
        }
        Value::Array(elements) => {
            let mut all = Vec::new();
            for (at, inner) in elements.iter().enumerate() {
                let mut without = elements.clone();
                without.remove(at);
                all.push(Value::Array(without));
                let mut twice = elements.clone();
                twice.push(inner.clone());
                all.push(Value::Array(twice));
                for changed in one_thing_changed(inner) {
                    let mut with = elements.clone();
                    with[at] = changed;
                    all.push(Value::Array(with));
                }
            }
            all
        }
        Value::String(text) => vec![format!("{text}x").into(), json!(1), Value::Null],
        Value::Number(_) => vec![json!(4_711_471), json!("1"), Value::Null],
        Value::Bool(is) => vec![(!is).into(), json!(1)],
        Value::Null => vec![json!(1)],
    }
}
