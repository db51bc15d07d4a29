//! A user who does things by plain requests, straight to the homeserver: makes rooms, invites, sends.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::raw::RawClient;

/// The password of every account.
pub const PASSWORD: &str = "correct horse battery staple";

static TRANSACTIONS: AtomicU64 = AtomicU64::new(0);

/// A registered user with one logged-in device.
#[derive(Clone, Debug)]
pub struct Account {
    http: reqwest::Client,
    homeserver: String,
    /// The part of the user id before the colon, to log in with.
    pub name: String,
    /// The whole user id.
    pub user_id: String,
    /// The device that [`Account::token`] belongs to.
    pub device_id: String,
    /// An access token.
    pub token: String,
}

/// One part of a path, with everything escaped that could end it.
pub fn escaped(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// A transaction id that no other request of this process uses.
pub fn transaction() -> String {
    format!("t{}", TRANSACTIONS.fetch_add(1, Ordering::Relaxed))
}

impl Account {
    /// Registers `name` and keeps the token of its first device.
    pub async fn register(http: &reqwest::Client, homeserver: &str, name: &str) -> Result<Self> {
        let body = json!({
            "username": name,
            "password": PASSWORD,
            "auth": { "type": "m.login.dummy" },
        });
        let url = format!("{homeserver}/_matrix/client/v3/register");
        let answer: Value = http.post(url).json(&body).send().await?.json().await?;
        let text = |key: &str| {
            answer[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("register says {answer}"))
        };
        Ok(Self {
            http: http.clone(),
            homeserver: homeserver.to_owned(),
            name: name.to_owned(),
            user_id: text("user_id")?,
            device_id: text("device_id")?,
            token: text("access_token")?,
        })
    }

    /// The same user with a second, newly logged-in device.
    pub async fn another_device(&self) -> Result<Self> {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": self.name },
            "password": PASSWORD,
        });
        let url = format!("{}/_matrix/client/v3/login", self.homeserver);
        let answer: Value = self.http.post(url).json(&body).send().await?.json().await?;
        let text = |key: &str| {
            answer[key].as_str().map(str::to_owned).with_context(|| format!("login says {answer}"))
        };
        Ok(Self { device_id: text("device_id")?, token: text("access_token")?, ..self.clone() })
    }

    /// The same device, with its calls going to `url`.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { homeserver: url.to_owned(), ..self.clone() }
    }

    /// The same user with another access token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// A sliding sync client of this device, at `url`.
    pub fn sliding(&self, url: &str) -> RawClient {
        RawClient::new(self.http.clone(), url, &self.token)
    }

    /// A request below `/_matrix/client/v3/`; fails unless the answer is a success.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/_matrix/client/v3/{path}", self.homeserver);
        let mut request = self.http.request(method.clone(), url).bearer_auth(&self.token);
        if method != Method::GET {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{method} {path} as {}: {status} {text}", self.user_id);
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {path}: not JSON: {text}"))
    }

    /// Creates a room and gives its id.
    pub async fn create_room(&self, body: Value) -> Result<String> {
        let answer = self.call(Method::POST, "createRoom", &body).await?;
        answer["room_id"].as_str().map(str::to_owned).context("createRoom gave no room id")
    }

    /// Invites `other`.
    pub async fn invite(&self, room: &str, other: &Self) -> Result<()> {
        self.member_action(room, "invite", json!({ "user_id": other.user_id })).await
    }

    /// Kicks `other`.
    pub async fn kick(&self, room: &str, other: &Self) -> Result<()> {
        self.member_action(room, "kick", json!({ "user_id": other.user_id })).await
    }

    /// Joins.
    pub async fn join(&self, room: &str) -> Result<()> {
        self.member_action(room, "join", json!({})).await
    }

    /// Leaves.
    pub async fn leave(&self, room: &str) -> Result<()> {
        self.member_action(room, "leave", json!({})).await
    }

    async fn member_action(&self, room: &str, action: &str, body: Value) -> Result<()> {
        let path = format!("rooms/{}/{action}", escaped(room));
        self.call(Method::POST, &path, &body).await.map(drop)
    }

    /// Sends an event and gives its id.
    pub async fn send_event(&self, room: &str, kind: &str, content: Value) -> Result<String> {
        let path = format!("rooms/{}/send/{}/{}", escaped(room), escaped(kind), transaction());
        let answer = self.call(Method::PUT, &path, &content).await?;
        answer["event_id"].as_str().map(str::to_owned).context("send gave no event id")
    }

    /// Sends a text message and gives its id.
    pub async fn send(&self, room: &str, text: &str) -> Result<String> {
        self.send_event(room, "m.room.message", json!({ "msgtype": "m.text", "body": text })).await
    }

    /// Sets a piece of state with an empty state key.
    pub async fn set_state(&self, room: &str, kind: &str, content: Value) -> Result<String> {
        let path = format!("rooms/{}/state/{}", escaped(room), escaped(kind));
        let answer = self.call(Method::PUT, &path, &content).await?;
        answer["event_id"].as_str().map(str::to_owned).context("state gave no event id")
    }

    /// Says whether this user is typing.
    pub async fn typing(&self, room: &str, typing: bool) -> Result<()> {
        let path = format!("rooms/{}/typing/{}", escaped(room), escaped(&self.user_id));
        let body = json!({ "typing": typing, "timeout": 30_000 });
        self.call(Method::PUT, &path, &body).await.map(drop)
    }

    /// Sends a receipt: `m.read` or `m.read.private`.
    pub async fn receipt(&self, room: &str, kind: &str, event: &str) -> Result<()> {
        let path = format!("rooms/{}/receipt/{kind}/{}", escaped(room), escaped(event));
        self.call(Method::POST, &path, &json!({})).await.map(drop)
    }

    /// Sends a to-device message to one device.
    pub async fn send_to_device(&self, kind: &str, to: &Self, content: Value) -> Result<()> {
        let path = format!("sendToDevice/{}/{}", escaped(kind), transaction());
        let body = json!({ "messages": { &to.user_id: { &to.device_id: content } } });
        self.call(Method::PUT, &path, &body).await.map(drop)
    }
}
