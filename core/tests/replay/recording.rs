//! Conversations of real clients with a homeserver's own sliding sync, as they
//! were recorded: see `../data/conversations/README.md`.

use serde::Deserialize;
use serde_json::Value;

/// A conversation by its file's name.
pub(crate) struct Conversation {
    /// The file's name, without its ending.
    pub(crate) name: &'static str,
    /// In the order in which they ended.
    pub(crate) exchanges: Vec<Exchange>,
}

/// A request and what became of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exchange {
    /// Who asked.
    pub(crate) user: String,
    /// From which device.
    pub(crate) device: String,
    /// When it was answered, or when the client went away: milliseconds from the
    /// conversation's beginning.
    pub(crate) ended_ms: u64,
    /// What the URL said.
    pub(crate) query: Query,
    /// The request's body.
    pub(crate) request: Value,
    /// The body of the answer, of status 200; `None` where the client went away
    /// before there was one.
    pub(crate) response: Option<Value>,
}

/// The parameters that are not in the body.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    pub(crate) pos: Option<String>,
    pub(crate) timeout: Option<String>,
}

impl Exchange {
    /// The connection that was asked on.
    pub(crate) fn conn_id(&self) -> &str {
        self.request["conn_id"].as_str().unwrap_or_default()
    }

    /// Where the homeserver stood when it answered.
    pub(crate) fn answered_at(&self) -> Option<Stand> {
        self.response.as_ref().map(|response| Stand::of(text(&response["pos"])))
    }

    /// Where the homeserver stood when it gave the answer before.
    pub(crate) fn asked_from(&self) -> Option<Stand> {
        self.query.pos.as_deref().map(Stand::of)
    }
}

/// Where the homeserver stands: how much of each of its streams there is. Its
/// positions say it: a connection's number, and then the streams' in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// Of events in rooms.
    pub(crate) events: u64,
    /// Of who is typing.
    pub(crate) typing: u64,
    /// Of account data.
    pub(crate) account_data: u64,
    /// Of messages to devices.
    pub(crate) to_device: u64,
}

impl Stand {
    /// What a position such as `7/s16_2_2_1_3_1_2_23_0_1_1_1_1_4` says.
    fn of(position: &str) -> Self {
        let (_, streams) = position.split_once("/s").expect("a position names a connection");
        let streams: Vec<u64> = streams
            .split('_')
            .map(|stream| stream.parse().expect("a stream's position is a number"))
            .collect();
        let [events, _presence, typing, _receipts, account_data, _push_rules, to_device, ..] =
            streams[..]
        else {
            panic!("a position names all streams: {position}");
        };
        Self { events, typing, account_data, to_device }
    }

    /// The later of two in each stream.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            events: self.events.max(other.events),
            typing: self.typing.max(other.typing),
            account_data: self.account_data.max(other.account_data),
            to_device: self.to_device.max(other.to_device),
        }
    }
}

/// The number of the last event before a timeline, from its `prev_batch`, which
/// is `s8_…`, or `t7-8_…` with a depth in front.
pub(crate) fn events_before(prev_batch: &str) -> u64 {
    let first = prev_batch.split('_').next().unwrap_or_default();
    let number = first.strip_prefix('s').or_else(|| first.split_once('-').map(|(_, it)| it));
    number.and_then(|number| number.parse().ok()).expect("a paging token has a position")
}

/// A string that the recording has for sure.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("the recording has a string here")
}

/// The elements of an array, or none.
pub(crate) fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// All conversations.
pub(crate) fn conversations() -> Vec<Conversation> {
    macro_rules! recorded {
        ($($name:literal),* $(,)?) => {
            [$(($name, include_str!(concat!("../data/conversations/", $name, ".jsonl")))),*]
        };
    }
    let files = recorded![
        "js-sdk-43-chat",
        "js-sdk-43-start",
        "rust-sdk-0.18-chat",
        "rust-sdk-0.18-many-rooms",
        "rust-sdk-0.19-chat",
    ];
    let read = |(name, lines): (&'static str, &str)| {
        let exchange = |line| serde_json::from_str(line).expect("a line is an exchange");
        Conversation { name, exchanges: lines.lines().map(exchange).collect() }
    };
    files.into_iter().map(read).collect()
}
