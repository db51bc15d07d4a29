//! The edges: a dialect's request into [`crate::request::Request`], the
//! [`crate::response::Response`] into the dialect's JSON. No rule of the
//! protocol is written here that is not about the wire.

mod body;
mod common;
mod error;
mod known;
pub mod msc3575;
pub mod simplified;
pub mod v4;
mod writing;

pub use error::RequestError;
pub use known::KnownRequests;

use crate::{
    request::{Dialect, Request, SizeLimits},
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
    /// What a request asks for in all.
    pub size: SizeLimits,
    /// `timeout` is capped at this, in milliseconds.
    pub timeout_ms_cap: u64,
    /// Depth of a body's JSON.
    pub depth_max: usize,
    /// Bytes of what a connection of MSC3575 asks for, request by request.
    pub sticky_bytes_max: usize,
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
            size: SizeLimits::default(),
            timeout_ms_cap: 300_000,
            depth_max: 64,
            sticky_bytes_max: 1 << 20,
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

    const DIALECTS: [Dialect; 3] = [Dialect::Simplified, Dialect::V4, Dialect::Msc3575];

    /// Limits that are no defaults: who does not ask them fails here.
    const SMALL: RequestLimits = RequestLimits {
        lists_max: 2,
        ranges_max: 2,
        subscriptions_max: 3,
        v4_subscriptions_max: 2,
        list_key_bytes_max: 4,
        conn_id_bytes_max: 5,
        txn_id_bytes_max: 6,
        timeline_limit_cap: 7,
        timeline_limit_max: 8,
        required_state_max: 2,
        size: SizeLimits { state_max: 3, bytes_max: 4_000 },
        timeout_ms_cap: 9,
        depth_max: 6,
        sticky_bytes_max: 2_000,
    };

    fn parsed(dialect: Dialect, body: &str) -> Result<Request, RequestError> {
        let mut request = parse(dialect, &[], body.as_bytes(), "@me:x", &SMALL)?;
        request.settle(None).map(|()| request)
    }

    /// A list or a subscription with this many events and pieces of state.
    fn config(dialect: Dialect, events: u64, states: usize) -> String {
        let entries = |one: &str| vec![one; states].join(",");
        let state = match dialect {
            Dialect::V4 => format!(r#"{{"include":[{}]}}"#, entries(r#"{"type":"a"}"#)),
            _ => format!("[{}]", entries(r#"["a",""]"#)),
        };
        format!(r#""timeline_limit":{events},"required_state":{state}"#)
    }

    fn many(member: &str, dialect: Dialect, count: usize) -> String {
        let one = |at| format!(r#""!{at}":{{{}}}"#, config(dialect, 1, 0)).replace('!', "r");
        let all: Vec<String> = (0..count).map(one).collect();
        format!(r#"{{"{member}":{{{}}}}}"#, all.join(","))
    }

    /// Goal: each limit is kept at its very value, is the configured one, and is
    /// refused with the code that the dialect's clients know.
    #[test]
    fn each_limit_is_refused_with_its_dialects_code() {
        let list = |key: &str, config: String| format!(r#"{{"lists":{{"{key}":{{{config}}}}}}}"#);
        for dialect in DIALECTS {
            let of = |code: [&'static str; 3]| match dialect {
                Dialect::Simplified => code[0],
                Dialect::V4 => code[1],
                Dialect::Msc3575 => code[2],
            };
            let invalid = "M_INVALID_PARAM";
            let bad = "M_BAD_JSON";
            let codes = of([bad, invalid, invalid]);
            for (limit, fits, exceeds, code) in [
                ("lists", many("lists", dialect, 2), many("lists", dialect, 3), codes),
                (
                    "key",
                    list("abcd", config(dialect, 1, 0)),
                    list("abcde", config(dialect, 1, 0)),
                    codes,
                ),
                (
                    "events",
                    list("a", config(dialect, 8, 0)),
                    list("a", config(dialect, 9, 0)),
                    codes,
                ),
                (
                    "state",
                    list("a", config(dialect, 1, 2)),
                    list("a", config(dialect, 1, 3)),
                    of([bad, invalid, bad]),
                ),
                (
                    "conn_id",
                    r#"{"conn_id":"abcde"}"#.to_owned(),
                    r#"{"conn_id":"abcdef"}"#.to_owned(),
                    invalid,
                ),
                (
                    "depth",
                    r#"{"x":[[[[[]]]]]}"#.to_owned(),
                    r#"{"x":[[[[[[]]]]]]}"#.to_owned(),
                    bad,
                ),
            ] {
                let fits = parsed(dialect, &fits);
                assert!(fits.is_ok(), "{dialect:?}, {limit}: {fits:?}");
                let error = parsed(dialect, &exceeds).expect_err(limit);
                assert_eq!(error.errcode(), code, "{dialect:?}, {limit}: {error}");
            }
        }
        assert!(parsed(Dialect::Msc3575, r#"{"txn_id":"abcdef"}"#).is_ok());
        let error = parsed(Dialect::Msc3575, r#"{"txn_id":"abcdefg"}"#).unwrap_err();
        assert_eq!(error.errcode(), "M_INVALID_PARAM");
    }

    /// Goal: what is capped is capped at the configured value, and no error.
    #[test]
    fn what_is_capped_is_cut_to_the_configured_value() {
        for dialect in DIALECTS {
            let list = format!(r#"{{"timeout":99,"lists":{{"a":{{{}}}}}}}"#, config(dialect, 8, 0));
            let request = parsed(dialect, &list).unwrap();
            assert_eq!(request.lists[0].1.config.timeline_limit, 7, "{dialect:?}");
            if dialect != Dialect::Simplified {
                // Absent or not, MSC3575 has a time to wait, and v4 has it in the body.
                assert_eq!(request.timeout_ms, 9, "{dialect:?}");
            }
            let query = [("timeout".to_owned(), "99".to_owned())];
            if dialect != Dialect::V4 {
                let request = parse(dialect, &query, b"{}", "@me:x", &SMALL).unwrap();
                assert_eq!(request.timeout_ms, 9, "{dialect:?}");
                let ranges = r#""ranges":[[0,0],[2,2],[4,4]]"#;
                let body = format!(r#"{{"lists":{{"a":{{{ranges},{}}}}}}}"#, config(dialect, 1, 0));
                let request = parsed(dialect, &body).unwrap();
                assert_eq!(request.lists[0].1.ranges, [(0, 0), (2, 2)], "{dialect:?}");
                let rooms = parsed(dialect, &many("room_subscriptions", dialect, 4)).unwrap();
                assert_eq!(rooms.subscriptions.len(), 3, "{dialect:?}");
            }
        }
        let rooms = |count| parsed(Dialect::V4, &many("room_subscriptions", Dialect::V4, count));
        assert_eq!(rooms(2).unwrap().subscriptions.len(), 2);
        assert_eq!(rooms(3).unwrap_err().errcode(), "M_INVALID_PARAM");
    }
}
