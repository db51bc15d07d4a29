//! A request and an answer without a transport: what `handle` takes and gives.

use serde_json::{Value, json};

use crate::faults::Delivery;
use crate::model::{Milliseconds, Refusal};

/// An HTTP request, taken apart.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// In capitals.
    pub method: String,
    /// Still percent-encoded.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// From the `Authorization` header.
    pub token: Option<String>,
    /// As it came.
    pub body: Vec<u8>,
    /// Set when a request that had to wait is handled again, to the `until` of its [`Wait`].
    pub waiting_until: Option<Milliseconds>,
}

impl Request {
    /// A request without a body.
    pub fn get(target: &str, token: Option<&str>) -> Self {
        Self::new("GET", target, token, None)
    }

    /// A request; `target` is a path with its query.
    pub fn new(method: &str, target: &str, token: Option<&str>, body: Option<&Value>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            token: token.map(str::to_owned),
            body: body.map(|body| body.to_string().into_bytes()).unwrap_or_default(),
            waiting_until: None,
        }
    }

    /// The body as a JSON object; an empty body counts as one without members.
    pub(crate) fn json(&self) -> Result<Value, Refusal> {
        if self.body.is_empty() {
            return Ok(json!({}));
        }
        let value: Value = serde_json::from_slice(&self.body)
            .map_err(|_| Refusal::new(400, "M_NOT_JSON", "Content not JSON."))?;
        if value.is_object() {
            return Ok(value);
        }
        Err(Refusal::new(400, "M_BAD_JSON", "Content must be a JSON object."))
    }
}

/// What comes of a request.
#[derive(Debug)]
pub enum Answer {
    /// The answer.
    Ready(Reply),
    /// Nothing yet: handle the request again when `take_woken` names the user, or at `until`.
    Wait(Wait),
}

/// A long poll that has nothing to say yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Whose long poll it is.
    pub user_id: String,
    /// When it is answered in any case.
    pub until: Milliseconds,
}

/// An HTTP response.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Set on 429: seconds, for the `Retry-After` header.
    pub retry_after_seconds: Option<u64>,
    /// The body; JSON, unless a fault made it something else.
    pub body: Vec<u8>,
    /// How the body reaches the client.
    pub delivery: Delivery,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, retry_after_seconds: None, body: body.into(), delivery: Delivery::Whole }
    }

    /// The body parsed; `null` when it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let mut body = json!({"errcode": refusal.errcode, "error": refusal.message});
        if let Some(soft_logout) = refusal.soft_logout {
            body["soft_logout"] = soft_logout.into();
        }
        Self::new(refusal.status, body.to_string())
    }
}

/// The parameters of a query, decoded.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query apart.
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Undoes percent-encoding; what is not valid stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes what may not stand in a path segment or a query value.
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: ids and filters survive the way through a URL, and broken escapes are taken as they are.
    #[test]
    fn encoded_text_decodes_to_itself_and_broken_escapes_stay() {
        let filter = r#"{"room":{"rooms":["!a b:c+d/é%"]}}"#;
        let query = Query::parse(&format!("a=1&filter={}&a=2&empty", encode(filter)));
        assert_eq!(query.get("filter"), Some(filter));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}
