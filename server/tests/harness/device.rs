//! A device that speaks sliding sync by hand, and its answers, each read by ruma's own type too.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request};
use luge_io::http::{Body, Client, ClientError, Timeouts};
use ruma_client_api::sync::sync_events::v5;
use ruma_common::api::IncomingResponse as _;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// The path that every shipping client posts to.
const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
/// Longer than any answer takes, and never waited for by a test that passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// More than any answer has.
const BYTES_MAX: usize = 64 << 20;

/// A logged-in device.
#[derive(Clone)]
pub(crate) struct Device {
    http: Client,
    url: Rc<RefCell<String>>,
    pub(crate) token: String,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A response, as far as a test looks at it.
#[derive(Deserialize)]
pub(crate) struct Response<'a> {
    pub(crate) pos: String,
    #[serde(default)]
    pub(crate) lists: BTreeMap<String, List>,
    #[serde(default, borrow)]
    pub(crate) rooms: BTreeMap<String, Room<'a>>,
    #[serde(default)]
    pub(crate) extensions: Value,
}

/// A list of a response.
#[derive(Deserialize)]
pub(crate) struct List {
    pub(crate) count: usize,
    #[serde(default)]
    pub(crate) ops: Vec<Operation>,
}

/// A window of a list.
#[derive(Deserialize)]
pub(crate) struct Operation {
    pub(crate) room_ids: Vec<String>,
}

/// A room's entry.
#[derive(Deserialize)]
pub(crate) struct Room<'a> {
    #[serde(default)]
    pub(crate) initial: bool,
    #[serde(default)]
    pub(crate) limited: bool,
    #[serde(default)]
    pub(crate) unstable_expanded_timeline: bool,
    pub(crate) name: Option<String>,
    pub(crate) joined_count: Option<usize>,
    pub(crate) invited_count: Option<usize>,
    #[serde(default, borrow)]
    pub(crate) timeline: Vec<&'a RawValue>,
    #[serde(default, borrow)]
    pub(crate) required_state: Vec<&'a RawValue>,
    #[serde(default, borrow)]
    pub(crate) invite_state: Option<Vec<&'a RawValue>>,
}

/// What of an event matters to who keeps a room.
#[derive(Deserialize)]
pub(crate) struct Event {
    #[serde(default, rename = "event_id")]
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) state_key: Option<String>,
    pub(crate) sender: String,
    pub(crate) content: Content,
}

/// What of its content does.
#[derive(Deserialize)]
pub(crate) struct Content {
    #[serde(default)]
    pub(crate) membership: Option<Value>,
    #[serde(default)]
    pub(crate) body: Option<Value>,
}

impl Event {
    pub(crate) fn read(raw: &RawValue) -> Self {
        serde_json::from_str(raw.get())
            .unwrap_or_else(|error| panic!("an event that no client can use: {error}\n{raw}"))
    }
}

impl Device {
    pub(crate) fn new(http: Client, url: Rc<RefCell<String>>, token: &str) -> Self {
        Self { http, url, token: token.to_owned() }
    }

    /// One request, whatever comes of it.
    pub(crate) async fn ask(
        &self,
        pos: Option<&str>,
        timeout_ms: u64,
        body: String,
    ) -> Result<Answer, ClientError> {
        self.ask_at(PATH, pos, timeout_ms, body).await
    }

    /// One request to another dialect's path.
    pub(crate) async fn ask_at(
        &self,
        path: &str,
        pos: Option<&str>,
        timeout_ms: u64,
        body: String,
    ) -> Result<Answer, ClientError> {
        let base = self.url.borrow().clone();
        let pos = pos.map(|pos| format!("&pos={pos}")).unwrap_or_default();
        let url = format!("{base}{path}?timeout={timeout_ms}{pos}");
        self.fetch("POST", url, timeout_ms, body).await
    }

    /// One request of any kind to any path.
    pub(crate) async fn send(&self, method: &str, path: &str, body: String) -> Answer {
        let url = format!("{}{path}", self.url.borrow());
        self.fetch(method, url, 0, body).await.unwrap()
    }

    async fn fetch(
        &self,
        method: &str,
        url: String,
        timeout_ms: u64,
        body: String,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder().method(method).uri(url);
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let request = request.header("content-type", "application/json");
        let request = request.body(Body::from(body)).unwrap();
        let timeouts =
            Timeouts { header: Duration::from_millis(timeout_ms) + PATIENCE, body_chunk: PATIENCE };
        let (head, body) = self.http.fetch(request, timeouts, BYTES_MAX).await?.into_parts();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

impl Answer {
    /// The answer as a response; ruma must be able to read it too.
    pub(crate) fn response(&self) -> Response<'_> {
        assert_eq!(self.status, 200, "{}", self.text());
        let response = http::Response::builder().status(200).body(&*self.body).unwrap();
        if let Err(error) = v5::Response::try_from_http_response(response) {
            panic!("ruma refuses a response: {error}\n{}", self.text());
        }
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The body, whatever it is.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `errcode` of a Matrix error.
    pub(crate) fn errcode(&self) -> String {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        value["errcode"].as_str().unwrap_or_default().to_owned()
    }
}
