//! Sliding sync without an SDK, in each dialect, every answer checked by the parser that Element X
//! runs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use matrix_sdk::ruma::api::IncomingResponse;
use matrix_sdk::ruma::api::client::sync::sync_events::v5;
use serde_json::{Value, json};

use super::PATIENCE;
use super::account::transaction;
use super::dialect::{Dialect, HeldList};

/// The path that every shipping client posts to.
pub const SIMPLIFIED: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

/// A device that speaks sliding sync by hand.
#[derive(Clone, Debug)]
pub struct RawClient {
    http: reqwest::Client,
    url: String,
    token: String,
    dialect: Dialect,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as JSON, with the names of the simplified dialect; `null` where it was none.
    pub value: Value,
    /// The body as Element X reads it, where the status is 200.
    pub parsed: Option<v5::Response>,
}

impl RawClient {
    /// A client of the server at `url`, which speaks the simplified dialect.
    pub fn new(http: reqwest::Client, url: &str, token: &str) -> Self {
        Self { http, url: url.to_owned(), token: token.to_owned(), dialect: Dialect::Simplified }
    }

    /// The same client in another dialect. Requests are written as in the simplified one.
    #[must_use]
    pub fn speaking(&self, dialect: Dialect) -> Self {
        Self { dialect, ..self.clone() }
    }

    /// One request, on the connection `conn_id`. Fails where the answer is a 200 that Element X could
    /// not read, or where there is no answer.
    pub async fn sync(
        &self,
        conn_id: &str,
        body: Value,
        pos: Option<&str>,
        timeout: Duration,
    ) -> Result<Answer> {
        let mut body = self.dialect.request(body);
        body["conn_id"] = json!(conn_id);
        let milliseconds = u64::try_from(timeout.as_millis())?;
        let mut url = reqwest::Url::parse(&format!("{}{}", self.url, self.dialect.path()))?;
        if self.dialect.asks_in_body() {
            body["timeout"] = json!(milliseconds);
            if let Some(pos) = pos {
                body["pos"] = json!(pos);
            }
        } else {
            let mut query = url.query_pairs_mut();
            query.append_pair("timeout", &milliseconds.to_string());
            query.extend_pairs(pos.map(|pos| ("pos", pos)));
        }
        let answer = self
            .http
            .post(url)
            .bearer_auth(&self.token)
            .json(&body)
            .timeout(timeout + PATIENCE)
            .send()
            .await?;
        Answer::read(answer, self.dialect).await
    }

    /// A connection that is at its beginning.
    pub fn connection(&self, conn_id: &str) -> Connection {
        Connection {
            client: self.clone(),
            conn_id: conn_id.to_owned(),
            pos: None,
            asked: Value::Null,
            lists: BTreeMap::new(),
        }
    }
}

impl Answer {
    async fn read(answer: reqwest::Response, dialect: Dialect) -> Result<Self> {
        let status = answer.status();
        let bytes = answer.bytes().await?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let parsed = if status.is_success() {
            Some(validated(&bytes).with_context(|| format!("a client cannot read {value}"))?)
        } else {
            None
        };
        Ok(Self { status: status.as_u16(), value: dialect.answer(value), parsed })
    }

    /// The error code, where there is one.
    pub fn errcode(&self) -> &str {
        self.value["errcode"].as_str().unwrap_or_default()
    }

    /// The position.
    pub fn pos(&self) -> Result<&str> {
        self.value["pos"].as_str().with_context(|| format!("no position in {}", self.value))
    }

    /// A room's entry.
    pub fn room(&self, room: &str) -> Option<&Value> {
        self.value["rooms"].get(room)
    }

    /// The events of a room's timeline, none where there is no entry.
    pub fn timeline(&self, room: &str) -> &[Value] {
        events(self.room(room).map(|entry| &entry["timeline"]))
    }

    /// The events of a room's required state, none where there is no entry.
    pub fn required_state(&self, room: &str) -> &[Value] {
        events(self.room(room).map(|entry| &entry["required_state"]))
    }

    /// The to-device messages.
    pub fn to_device(&self) -> &[Value] {
        events(Some(&self.value["extensions"]["to_device"]["events"]))
    }

    /// Whether `text` occurs anywhere in the answer.
    pub fn mentions(&self, text: &str) -> bool {
        self.value.to_string().contains(text)
    }
}

fn events(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Reads an answer as Element X does, and looks into the events too, which it would do later.
fn validated(bytes: &[u8]) -> Result<v5::Response> {
    let response = http::Response::builder().status(200).body(bytes)?;
    let response = v5::Response::try_from_http_response(response)?;
    for (room_id, room) in &response.rooms {
        for event in &room.timeline {
            let event_id = event.get_field::<String>("event_id")?;
            ensure!(event_id.is_some(), "an event without an id in {room_id}: {}", event.json());
            event.deserialize().with_context(|| format!("in {room_id}: {}", event.json()))?;
        }
        for event in &room.required_state {
            event.deserialize().with_context(|| format!("in {room_id}: {}", event.json()))?;
        }
        for event in room.invite_state.iter().flatten() {
            event.deserialize().with_context(|| format!("in {room_id}: {}", event.json()))?;
        }
    }
    if let Some(to_device) = &response.extensions.to_device {
        let digits = to_device.next_batch.bytes().all(|byte| byte.is_ascii_digit());
        ensure!(digits, "to-device token {:?} is not a plain integer", to_device.next_batch);
    }
    Ok(response)
}

/// A connection that goes on from each answer, as a client's sync loop does.
#[derive(Clone, Debug)]
pub struct Connection {
    client: RawClient,
    conn_id: String,
    /// The position that the next request will bring.
    pub pos: Option<String>,
    /// What was asked for last, where that need not be said again.
    asked: Value,
    /// The lists as the answers' operations make them, where they do.
    lists: BTreeMap<String, HeldList>,
}

impl Connection {
    /// The next answer; fails on every status but 200.
    pub async fn next(&mut self, body: &Value, timeout: Duration) -> Result<Answer> {
        let pos = self.pos.clone();
        let is_sticky = self.client.dialect.is_sticky();
        let mut said = body.clone();
        let txn_id = transaction();
        if is_sticky {
            if pos.is_some() && self.asked == *body {
                said = json!({});
            }
            said["txn_id"] = json!(txn_id);
        }
        let answer = self.client.sync(&self.conn_id, said, pos.as_deref(), timeout).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.value);
        if is_sticky {
            ensure!(answer.value["txn_id"] == txn_id, "not {txn_id}: {}", answer.value);
            if pos.is_none() {
                self.lists.clear();
            }
            for (key, list) in answer.value["lists"].as_object().into_iter().flatten() {
                self.lists.entry(key.clone()).or_default().apply(list)?;
            }
            self.asked = body.clone();
        }
        self.pos = Some(answer.pos()?.to_owned());
        Ok(answer)
    }

    /// The rooms of a list in order, as MSC3575's operations have made them.
    pub fn list(&self, key: &str) -> Result<Vec<&str>> {
        self.lists.get(key).with_context(|| format!("no list {key}"))?.rooms()
    }

    /// Asks again and again until `found` finds something in an answer, and gives that with all the
    /// answers on the way.
    pub async fn until<T>(
        &mut self,
        awaited: &str,
        body: &Value,
        mut found: impl FnMut(&Answer) -> Option<T>,
    ) -> Result<(T, Vec<Answer>)> {
        let mut answers = Vec::new();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            let answer = self.next(body, Duration::from_secs(2)).await?;
            let result = found(&answer);
            answers.push(answer);
            if let Some(result) = result {
                return Ok((result, answers));
            }
        }
        let seen: Vec<String> = answers.iter().map(|answer| answer.value.to_string()).collect();
        bail!("waited {} s for: {awaited}; got\n{}", PATIENCE.as_secs(), seen.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::validated;

    /// Goal: what Element X reads passes.
    #[test]
    fn an_answer_that_a_client_reads_passes() {
        let answer = br#"{"pos":"1","lists":{"all":{"count":1}},"rooms":{"!a:b":{"name":"A",
            "timeline":[{"type":"m.room.message","event_id":"$e","sender":"@a:b",
            "origin_server_ts":1,"content":{"msgtype":"m.text","body":"x"}}]}},
            "extensions":{"to_device":{"next_batch":"7"}}}"#;
        assert_eq!(validated(answer).unwrap().pos, "1");
    }

    /// Goal: each of the faults that make a client ask for ever is found.
    #[test]
    fn answers_that_would_wedge_a_client_are_refused() {
        let faults = [
            r#"{"lists":{}}"#,
            r#"{"pos":"1","lists":{"all":{}}}"#,
            r#"{"pos":"1","rooms":{"!a:b":{"name":{}}}}"#,
            r#"{"pos":"1","rooms":{"!a:b":{"bump_stamp":-5}}}"#,
            r#"{"pos":"1","rooms":{"!a:b":{"name":"A","name":"B"}}}"#,
            r#"{"pos":"1","rooms":{"!a:b":{"heroes":[{"user_id":"nobody"}]}}}"#,
            r#"{"pos":"1","rooms":{"!a:b":{"timeline":[{"type":"m.room.message"}]}}}"#,
            r#"{"pos":"1","extensions":{"to_device":{"events":[]}}}"#,
            r#"{"pos":"1","extensions":{"to_device":{"next_batch":"s1_2"}}}"#,
        ];
        for fault in faults {
            assert!(validated(fault.as_bytes()).is_err(), "{fault} was accepted");
        }
    }
}
