//! One event as the homeserver keeps it, and its JSON as one viewer gets it.
//!
//! Whether a viewer may see an event is `room`'s business; nothing here knows who is in a room.

use std::fmt::Write as _;

use serde_json::Value;

/// How somebody stands to a room, as an `m.room.member` event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Membership {
    /// In the room.
    Join,
    /// Asked in.
    Invite,
    /// Asks to be let in.
    Knock,
    /// Has left, was kicked, or has declined.
    Leave,
    /// Not to come back.
    Ban,
}

impl Membership {
    /// The word of the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Knock => "knock",
            Self::Leave => "leave",
            Self::Ban => "ban",
        }
    }

    /// Reads the word of the specification.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Join, Self::Invite, Self::Knock, Self::Leave, Self::Ban]
            .into_iter()
            .find(|membership| membership.as_str() == word)
    }
}

/// An event; its content is kept as JSON text, since most events are only ever copied out.
#[derive(Debug, Clone)]
pub struct Event {
    /// Where the event stands among everything that has happened on the homeserver.
    pub stream: u64,
    /// `$…`
    pub event_id: Box<str>,
    /// The event's type.
    pub kind: Box<str>,
    /// Present on state events.
    pub state_key: Option<Box<str>>,
    /// Who sent it.
    pub sender: Box<str>,
    /// Unix milliseconds.
    pub origin_server_ts: u64,
    /// The content, as JSON text.
    pub content: Box<str>,
    /// The event that this one redacts.
    pub redacts: Option<Box<str>>,
    /// What a member event says.
    pub membership: Option<Membership>,
    /// The state event that this one took the place of, and its content.
    pub replaces: Option<(Box<str>, Box<str>)>,
    /// The JSON of the event that redacted this one.
    pub redacted_because: Option<Box<str>>,
    /// The device that sent the event over the client-server API, and its transaction id.
    pub transaction: Option<(Box<str>, Box<str>)>,
}

/// Who looks at an event, and when.
#[derive(Debug, Clone, Copy)]
pub struct Viewer<'a> {
    /// The viewer's user id.
    pub user_id: &'a str,
    /// The viewer's device.
    pub device_id: &'a str,
    /// Unix milliseconds, for `unsigned.age`.
    pub now: u64,
}

impl Event {
    /// The content, parsed.
    pub fn content(&self) -> Value {
        serde_json::from_str(&self.content).unwrap_or_default()
    }

    /// A member of the content, when it is a string.
    pub fn content_str(&self, key: &str) -> Option<String> {
        self.content().get(key).and_then(Value::as_str).map(str::to_owned)
    }

    /// Appends what `viewer` gets in `/sync`; `membership` is the viewer's own at the time of the event.
    pub fn write(&self, out: &mut String, viewer: &Viewer<'_>, membership: Option<Membership>) {
        out.push('{');
        self.write_core(out);
        let age = viewer.now.saturating_sub(self.origin_server_ts);
        let _ = write!(out, ",\"unsigned\":{{\"age\":{age}");
        if let Some(membership) = membership {
            let _ = write!(out, ",\"membership\":\"{}\"", membership.as_str());
        }
        if let Some((event_id, content)) = &self.replaces {
            let _ = write!(out, ",\"prev_content\":{content},\"replaces_state\":");
            push_string(out, event_id);
        }
        if let Some(redaction) = &self.redacted_because {
            let _ = write!(out, ",\"redacted_because\":{redaction}");
        }
        if let Some((device_id, transaction_id)) = &self.transaction
            && &*self.sender == viewer.user_id
            && &**device_id == viewer.device_id
        {
            out.push_str(",\"transaction_id\":");
            push_string(out, transaction_id);
        }
        out.push_str("}}");
    }

    /// The same for the endpoints other than `/sync`, which name the room.
    pub fn write_with_room(
        &self,
        out: &mut String,
        room_id: &str,
        viewer: &Viewer<'_>,
        membership: Option<Membership>,
    ) {
        self.write(out, viewer, membership);
        out.pop();
        out.push_str(",\"room_id\":");
        push_string(out, room_id);
        out.push('}');
    }

    /// Appends the form for somebody who is not in the room: type, state key, sender and content.
    pub fn write_stripped(&self, out: &mut String) {
        out.push_str("{\"content\":");
        out.push_str(&self.content);
        out.push_str(",\"sender\":");
        push_string(out, &self.sender);
        out.push_str(",\"state_key\":");
        push_string(out, self.state_key.as_deref().unwrap_or_default());
        out.push_str(",\"type\":");
        push_string(out, &self.kind);
        out.push('}');
    }

    /// The event without `unsigned`, for a `redacted_because`.
    pub(crate) fn bare(&self) -> String {
        let mut out = String::from("{");
        self.write_core(&mut out);
        out.push('}');
        out
    }

    fn write_core(&self, out: &mut String) {
        out.push_str("\"content\":");
        out.push_str(&self.content);
        out.push_str(",\"event_id\":");
        push_string(out, &self.event_id);
        let _ = write!(out, ",\"origin_server_ts\":{}", self.origin_server_ts);
        if let Some(redacts) = &self.redacts {
            out.push_str(",\"redacts\":");
            push_string(out, redacts);
        }
        out.push_str(",\"sender\":");
        push_string(out, &self.sender);
        if let Some(state_key) = &self.state_key {
            out.push_str(",\"state_key\":");
            push_string(out, state_key);
        }
        out.push_str(",\"type\":");
        push_string(out, &self.kind);
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn push_string(out: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push_str(&Value::from(text).to_string());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}
