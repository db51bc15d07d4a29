//! The edges: a dialect's request into [`crate::request::Request`], the
//! [`crate::response::Response`] into the dialect's JSON. No rule of the
//! protocol is written here that is not about the wire.

mod body;
mod common;
mod error;
pub mod msc3575;
pub mod simplified;
pub mod v4;
mod writing;

pub use error::RequestError;

use crate::{
    request::{Dialect, Request},
    response::Response,
};

/// The dialect that answers a request of this method to `path`. Other methods
/// than `POST` and `OPTIONS` are known where nothing else is served at the path.
pub fn of_request(method: &str, path: &str) -> Option<Dialect> {
    match path {
        simplified::PATH => Some(Dialect::Simplified),
        v4::PATH => Some(Dialect::V4),
        msc3575::PATH => Some(Dialect::Msc3575),
        msc3575::SHARED_PATH if matches!(method, "POST" | "OPTIONS") => Some(Dialect::Msc3575),
        _ => None,
    }
}

/// The request in `query` (decoded pairs) and `body`, sent by `user_id`.
///
/// # Errors
/// What is wrong, as the dialect's clients expect it.
pub fn parse(
    dialect: Dialect,
    query: &[(String, String)],
    body: &[u8],
    user_id: &str,
    limits: &RequestLimits,
) -> Result<Request, RequestError> {
    match dialect {
        Dialect::Simplified => simplified::parse(query, body, user_id, limits),
        Dialect::V4 => v4::parse(body, limits),
        Dialect::Msc3575 => msc3575::parse(query, body, user_id, limits),
    }
}

/// The response's body.
pub fn write(dialect: Dialect, response: &Response) -> String {
    match dialect {
        Dialect::Simplified => simplified::write(response),
        Dialect::V4 => v4::write(response),
        Dialect::Msc3575 => msc3575::write(response),
    }
}

/// Limits on what a request may ask. Requests beyond them are refused with an
/// error that names the limit, except where a field says that it is capped.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Lists in a request.
    pub lists_max: usize,
    /// Ranges of a list; those beyond are ignored.
    pub ranges_max: usize,
    /// Subscriptions in a request; those beyond are ignored.
    pub subscriptions_max: usize,
    /// Subscriptions in a request of MSC4186 as accepted; more are refused.
    pub v4_subscriptions_max: usize,
    /// Bytes of a list's key.
    pub list_key_bytes_max: usize,
    /// Bytes of a `conn_id`.
    pub conn_id_bytes_max: usize,
    /// Bytes of a `txn_id`.
    pub txn_id_bytes_max: usize,
    /// `timeline_limit` is capped at this.
    pub timeline_limit_cap: u64,
    /// A `timeline_limit` above this is refused.
    pub timeline_limit_max: u64,
    /// Pairs in one `required_state`.
    pub required_state_max: usize,
    /// `timeout` is capped at this, in milliseconds.
    pub timeout_ms_cap: u64,
    /// Depth of a body's JSON.
    pub depth_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            lists_max: 100,
            ranges_max: 16,
            subscriptions_max: 1_000,
            v4_subscriptions_max: 100,
            list_key_bytes_max: 64,
            conn_id_bytes_max: 64,
            txn_id_bytes_max: 64,
            timeline_limit_cap: 100,
            timeline_limit_max: 1_000,
            required_state_max: 500,
            timeout_ms_cap: 300_000,
            depth_max: 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_find_their_dialect() {
        for (method, path, expected) in [
            ("POST", simplified::PATH, Some(Dialect::Simplified)),
            ("GET", simplified::PATH, Some(Dialect::Simplified)),
            ("POST", "/_matrix/client/v4/sync", Some(Dialect::V4)),
            ("POST", msc3575::PATH, Some(Dialect::Msc3575)),
            ("POST", "/_matrix/client/v3/sync", Some(Dialect::Msc3575)),
            ("OPTIONS", "/_matrix/client/v3/sync", Some(Dialect::Msc3575)),
            ("GET", "/_matrix/client/v3/sync", None),
            ("POST", "/_matrix/client/v3/sync/", None),
            ("POST", "/_matrix/client/r0/sync", None),
        ] {
            assert_eq!(of_request(method, path), expected, "{method} {path}");
        }
    }

    /// Whatever the dialect, what a client may ask is capped or refused.
    #[test]
    fn every_dialect_has_the_same_bounds() {
        let limits = RequestLimits::default();
        let parsed = |dialect, timeout: &str, body: &str| {
            let query = [("timeout".to_owned(), timeout.to_owned())];
            parse(dialect, &query, body.as_bytes(), "@me:x", &limits)
        };
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(70), "]".repeat(70));
        for (dialect, state) in
            [(Dialect::Simplified, "[]"), (Dialect::V4, "{}"), (Dialect::Msc3575, "[]")]
        {
            let body = format!(
                r#"{{"timeout":999999999,"lists":{{"a":{{"timeline_limit":999,"required_state":{state}}}}}}}"#
            );
            let mut request = parsed(dialect, "999999999", &body).unwrap();
            request.settle(None).unwrap();
            assert_eq!(request.timeout_ms, 300_000, "{dialect:?}");
            assert_eq!(request.lists[0].1.config.timeline_limit, 100, "{dialect:?}");
            assert_eq!(parsed(dialect, "0", &deep).unwrap_err().errcode(), "M_BAD_JSON");
            let long = format!(r#"{{"conn_id":"{}"}}"#, "c".repeat(65));
            assert_eq!(parsed(dialect, "0", &long).unwrap_err().errcode(), "M_INVALID_PARAM");
            assert!(parsed(dialect, "0", "nonsense").is_err());
        }
    }
}
