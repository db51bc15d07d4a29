//! Answers that are not a response: a status and a Matrix error.

use crate::json::push_string;

/// A status and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: String,
}

impl Refusal {
    /// A Matrix error of Luge's own.
    pub fn new(status: u16, errcode: &str, error: &str) -> Self {
        let mut body = String::from("{\"errcode\":");
        push_string(&mut body, errcode);
        body.push_str(",\"error\":");
        push_string(&mut body, error);
        body.push('}');
        Self { status, body }
    }

    /// The position was not issued to this connection, or is no longer held.
    pub fn unknown_position() -> Self {
        Self::new(400, "M_UNKNOWN_POS", "unknown position: start the connection again without pos")
    }

    /// The homeserver's first answer for the user is still on its way.
    pub fn first_sync_pending() -> Self {
        let error = "the homeserver is still preparing this account's first sync: ask again";
        Self::new(504, "M_UNKNOWN", error)
    }

    /// The server is about to end.
    pub fn stopping() -> Self {
        Self::new(503, "M_UNKNOWN", "Luge is stopping: ask again")
    }

    /// There are too many of something.
    pub fn too_many(what: &str) -> Self {
        Self::new(429, "M_LIMIT_EXCEEDED", &format!("too many {what}: ask again later"))
    }

    /// The device was logged out.
    pub fn logged_out() -> Self {
        Self::new(401, "M_UNKNOWN_TOKEN", "the device was logged out")
    }

    /// The homeserver could not be asked about the token in time.
    pub fn unvalidated() -> Self {
        Self::new(504, "M_UNKNOWN", "the homeserver did not say in time whose the token is")
    }
}
