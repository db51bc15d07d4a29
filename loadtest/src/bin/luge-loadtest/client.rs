//! A sliding sync client: what Element X asks for, timed to the last byte.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::{Method, Request, StatusCode, header};
use luge_io::{
    dns::Resolver,
    http::{Body, Client, ClientConfig, Timeouts},
    time::{clock, sleep},
    tls::{ClientTls, Roots},
};

use crate::Failure;

const SYNC_PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
const REQUIRED_STATE: &str = r#"[["m.room.name",""],["m.room.encryption",""],["m.room.member","$LAZY"],["m.room.member","$ME"],["m.room.topic",""],["m.room.avatar",""],["m.room.canonical_alias",""],["m.room.power_levels",""],["org.matrix.msc3401.call.member","*"],["m.room.join_rules",""],["m.room.tombstone",""],["m.room.create",""],["m.room.history_visibility",""],["io.element.functional_members",""],["m.space.parent","*"],["m.space.child","*"],["org.matrix.msc3672.beacon_info","*"]]"#;
const EXTENSIONS: &str = r#"{"account_data":{"enabled":true},"receipts":{"enabled":true,"rooms":["*"]},"typing":{"enabled":true}}"#;

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// For one answer: the slowest thing that is compared takes seconds.
const PATIENCE: Duration = Duration::from_mins(5);

/// The means to reach servers.
#[derive(Clone)]
pub(crate) struct Network(Client);

impl Network {
    pub(crate) fn new() -> Result<Self, Failure> {
        let config = ClientConfig { idle_per_host_max: 20_000, ..ClientConfig::default() };
        Ok(Self(Client::new(config, ClientTls::new(&Roots::Mozilla)?, Resolver::start()?)))
    }

    /// What a homeserver answers to a GET.
    pub(crate) async fn get(&self, url: &str, token: &str) -> Result<String, Failure> {
        expect_ok(self.ask(Method::GET, url, Some(token), String::new()).await?)
    }

    /// What a homeserver answers to a PUT.
    pub(crate) async fn put(&self, url: &str, token: &str, body: String) -> Result<(), Failure> {
        expect_ok(self.ask(Method::PUT, url, Some(token), body).await?).map(drop)
    }

    /// What a homeserver answers to any request, refusals included.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: String,
    ) -> Result<(StatusCode, String), Failure> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request =
            request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body))?;
        let timeouts = Timeouts { header: PATIENCE, body_chunk: PATIENCE };
        let answer = self.0.fetch(request, timeouts, ANSWER_BYTES_MAX).await?;
        Ok((answer.status(), String::from_utf8(answer.into_body().to_vec())?))
    }
}

fn expect_ok((status, body): (StatusCode, String)) -> Result<String, Failure> {
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(format!("the homeserver answers {status}").into())
}

/// One device's one connection.
#[derive(Clone)]
pub(crate) struct Device {
    network: Network,
    url: Rc<str>,
    token: Rc<str>,
    conn_id: Rc<str>,
    timeline_limit: u32,
}

/// An answer.
pub(crate) struct Answer {
    /// Until its last byte was here.
    pub(crate) took: Duration,
    /// When that was.
    pub(crate) at: Instant,
    pub(crate) body: String,
}

impl Answer {
    /// The position to go on from.
    pub(crate) fn position(&self) -> Result<String, Failure> {
        let start = self.body.find(r#""pos":""#).ok_or("an answer has no position")? + 7;
        let rest = &self.body[start..];
        Ok(rest[..rest.find('"').ok_or("an answer breaks off")?].to_owned())
    }

    /// How many rooms the list has.
    pub(crate) fn count(&self) -> Result<usize, Failure> {
        let answer: serde_json::Value = serde_json::from_str(&self.body)?;
        let lists = answer["lists"].as_object();
        let count = lists.and_then(|lists| lists.values().next()?["count"].as_u64());
        Ok(usize::try_from(count.ok_or("an answer has no list")?)?)
    }
}

impl Device {
    pub(crate) fn new(network: &Network, url: &str, token: &str, conn_id: &str) -> Self {
        Self {
            network: network.clone(),
            url: url.trim_end_matches('/').into(),
            token: token.into(),
            conn_id: conn_id.into(),
            timeline_limit: 1,
        }
    }

    /// The same, with so many events of each room.
    pub(crate) fn with_timeline(mut self, timeline_limit: u32) -> Self {
        self.timeline_limit = timeline_limit;
        self
    }

    /// The room list up to and including `until`.
    pub(crate) async fn list(
        &self,
        position: Option<&str>,
        until: usize,
        timeout_ms: u64,
    ) -> Result<Answer, Failure> {
        let lists = format!(
            r#"{{"all_rooms":{{"ranges":[[0,{until}]],"timeline_limit":{},"filters":{{}},"required_state":{REQUIRED_STATE}}}}}"#,
            self.timeline_limit
        );
        let body = format!(
            r#"{{"conn_id":"{}","lists":{lists},"extensions":{EXTENSIONS}}}"#,
            self.conn_id
        );
        self.ask(position, timeout_ms, body).await
    }

    /// What Element X's other connection asks for: no rooms.
    pub(crate) async fn encryption(
        &self,
        position: Option<&str>,
        timeout_ms: u64,
    ) -> Result<Answer, Failure> {
        let body = format!(
            r#"{{"conn_id":"{}","extensions":{{"to_device":{{"enabled":true}},"e2ee":{{"enabled":true}}}}}}"#,
            self.conn_id
        );
        self.ask(position, timeout_ms, body).await
    }

    async fn ask(
        &self,
        position: Option<&str>,
        timeout_ms: u64,
        body: String,
    ) -> Result<Answer, Failure> {
        let position = position.map(|pos| format!("&pos={}", escaped(pos))).unwrap_or_default();
        let request =
            Request::post(format!("{}{SYNC_PATH}?timeout={timeout_ms}{position}", self.url))
                .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body))?;
        let timeouts = Timeouts { header: PATIENCE, body_chunk: PATIENCE };
        let begun = clock::monotonic();
        let answer = self.network.0.fetch(request, timeouts, ANSWER_BYTES_MAX).await?;
        let at = clock::monotonic();
        let body = String::from_utf8(answer.body().to_vec())?;
        if answer.status() != StatusCode::OK {
            let words: String = body.chars().take(300).collect();
            return Err(format!("{} answers {}: {words}", self.url, answer.status()).into());
        }
        Ok(Answer { took: at - begun, at, body })
    }

    /// Asks for a first answer until there is one: how long that took.
    pub(crate) async fn first_contact(&self, patience: Duration) -> Result<Duration, Failure> {
        let begun = clock::monotonic();
        loop {
            match self.list(None, 19, 0).await {
                Ok(_) => return Ok(clock::monotonic() - begun),
                Err(error) if begun.elapsed() > patience => return Err(error),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
