//! What can happen to a shard, and what a shard can ask for. Both lists are
//! closed on purpose: what is not here cannot change a shard's state.

use std::{fmt, sync::Arc};

use super::refusal::Refusal;
use crate::{
    connection::Want,
    id::{DeviceNumber, RoomNumber, Sequence, UserNumber},
    ledger::{Command, Delta, HELD_MS},
    request::{Dialect, Request},
    response::Response,
    upstream::SyncBatch,
};

/// Stands for one client's request until it is answered or abandoned. Given out
/// by whoever carries requests to the shard, each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An access token. Shows itself to nobody (INV-10).
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its keyed hash, by which it is known.
    pub key: [u8; 32],
    /// The token itself.
    pub secret: Arc<str>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// Time moved on: unix milliseconds.
    Tick(u64),
    /// There is a newer world.
    Delta(Arc<Delta>),
    /// A client asks.
    Request(Box<ClientRequest>),
    /// A client went away without an answer.
    Abandoned(Ticket),
    /// The homeserver was asked about a token.
    Validated {
        /// Whose device it was thought to be.
        user: UserNumber,
        /// The device.
        device: DeviceNumber,
        /// The token.
        token: Token,
        /// What the homeserver said.
        validation: Validation,
    },
    /// A poll ended, and what it brought is durable.
    PollFinished {
        /// Whose.
        user: UserNumber,
        /// Which device's.
        device: DeviceNumber,
        /// How.
        outcome: PollOutcome,
    },
    /// Something that a response lacked was fetched, or could not be.
    Fetched {
        /// What.
        want: Want,
        /// How that ended.
        outcome: FetchOutcome,
    },
    /// Something that passed through front mode concerns a user.
    Hint {
        /// Whom.
        user: UserNumber,
        /// What.
        hint: Hint,
    },
    /// A further turn, as [`Effect::Continue`] asks for it.
    Continue,
    /// No new work from here on: held requests are answered with what there is.
    Stop,
}

/// A client's request, as it reaches its user's shard.
#[derive(Debug)]
pub struct ClientRequest {
    /// What the answer goes by.
    pub ticket: Ticket,
    /// Who asks.
    pub user: UserNumber,
    /// Their id.
    pub user_id: Arc<str>,
    /// With which device.
    pub device: DeviceNumber,
    /// With which token.
    pub token: Token,
    /// Whether the homeserver has just said that the token is this device's.
    pub confirmed: bool,
    /// What is asked.
    pub request: Request,
}

/// What the homeserver said of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    /// It is this device's.
    Valid,
    /// It refuses it; the client gets that answer.
    Refused(Refusal),
    /// It could not be asked.
    Unknown(Refusal),
}

/// How a poll ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollOutcome {
    /// What it brought is durable; this is the `since` for the next.
    Advanced {
        /// The next `since`; `None` where the answer had none, and the old one
        /// stays.
        since: Option<String>,
        /// What it was if it said nothing: see [`SyncBatch::silence`].
        silence: Option<u64>,
    },
    /// The token is not accepted (401).
    Unauthorized(Refusal),
    /// The homeserver will not serve this user now (403).
    Refused(Refusal),
    /// It asks to wait (429).
    Limited {
        /// For how long, in milliseconds.
        wait_ms: u64,
    },
    /// Nothing of it was taken in, and it is to be asked for again at once: see
    /// [`Reply::Again`](crate::ledger::Reply::Again).
    Again,
    /// It does not know the `since`.
    SinceRejected,
    /// Anything else that may pass.
    Failed(Refusal),
    /// It was called off.
    Cancelled,
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// What was wanted is in the store now.
    Done,
    /// It could not be had, which may pass.
    Failed,
    /// The homeserver does not give it (403, 404 and their like): it is not asked
    /// again but with news.
    Refused,
    /// The answer is larger than answers may be: it will be so for long.
    TooLarge,
}

/// Something that front mode saw go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The device polls for itself: its poller rests until it asks again.
    ClassicSync(DeviceNumber),
    /// The devices are gone.
    Purge(Vec<DeviceNumber>),
    /// `/keys/upload` said how many one-time keys there are (a JSON object).
    KeyCounts(DeviceNumber, String),
    /// The user has forgotten a room.
    Forget(RoomNumber),
}

/// Something to be done.
#[derive(Debug)]
pub enum Effect {
    /// Answer a request.
    Respond {
        /// Which.
        ticket: Ticket,
        /// With what.
        answer: Answered,
    },
    /// Poll the homeserver once.
    Poll(PollOrder),
    /// Call off a device's poll.
    CancelPoll(DeviceNumber),
    /// Ask the homeserver whose a token is.
    Validate {
        /// Whose it is thought to be.
        user: UserNumber,
        /// Which device's.
        device: DeviceNumber,
        /// The token.
        token: Token,
    },
    /// Fetch something that a response lacks.
    Fetch(FetchOrder),
    /// Have the ledger take something in.
    Ledger(Command),
    /// Give the shard a further turn soon, and other work its turn before: there
    /// is more to do than fits into one.
    Continue,
    /// Everything that was promised has been done.
    Drained,
}

/// An answer to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The response, to be written in the request's dialect.
    Response(Dialect, Box<Response>),
    /// Not what was asked for.
    Refused(Refusal),
}

/// One `/sync` to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollOrder {
    /// Whose.
    pub user: UserNumber,
    /// Which device's.
    pub device: DeviceNumber,
    /// With this token.
    pub token: Token,
    /// From here; `None` for an initial sync.
    pub since: Option<String>,
    /// Whether rooms are asked for.
    pub with_rooms: bool,
    /// How long the homeserver may wait for news, in milliseconds.
    pub timeout_ms: u64,
    /// When it is asked for, unix milliseconds.
    pub asked_ms: u64,
    /// Whether it may be asked for again: see
    /// [`Reply::Again`](crate::ledger::Reply::Again).
    pub may_repeat: bool,
    /// The [silence](SyncBatch::silence) that the ledger has taken in and that
    /// changes nothing.
    pub silence: Option<u64>,
}

impl PollOrder {
    /// Whether the ledger has taken in an answer like this one, and nothing comes
    /// of another. One that came at once is no such: it has its way through the
    /// ledger, so that a homeserver that does not wait is not asked all the time.
    pub fn is_known(&self, batch: &SyncBatch, now_ms: u64) -> bool {
        self.silence.is_some()
            && self.silence == batch.silence(self.since.as_deref())
            && now_ms.saturating_sub(self.asked_ms) >= HELD_MS
    }
}

/// One thing to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOrder {
    /// What.
    pub want: Want,
    /// The room's id; empty where it is of none.
    pub room_id: Arc<str>,
    /// For a user of this token.
    pub token: Token,
    /// The user who is told when it is there.
    pub user: UserNumber,
    /// What the homeserver knows for certain, since it was taken in before it is
    /// asked.
    pub knew: Sequence,
    /// Whether the answer was too large when it was asked for last, and whoever
    /// runs Luge was told so.
    pub was_too_large: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Limits, parse};

    #[test]
    fn an_answer_is_known_that_says_nothing_for_long_and_said_it_before() {
        let batch = |body: &str| parse(body.as_bytes(), &Limits::default()).expect("an object");
        let quiet = r#"{"next_batch":"s","device_one_time_keys_count":{"a":1}}"#;
        let order = |silence| PollOrder {
            user: UserNumber(1),
            device: DeviceNumber(1),
            token: Token { key: [0; 32], secret: "t".into() },
            since: Some("s".to_owned()),
            with_rooms: true,
            timeout_ms: 30_000,
            asked_ms: 1_000,
            may_repeat: false,
            silence,
        };
        let silence = batch(quiet).silence(Some("s"));
        assert!(silence.is_some());
        assert!(order(silence).is_known(&batch(quiet), 1_000 + HELD_MS));
        assert!(!order(silence).is_known(&batch(quiet), 999 + HELD_MS), "it came at once");
        assert!(!order(None).is_known(&batch(quiet), 1_000 + HELD_MS), "it is the first");
        for other in [
            r#"{"next_batch":"t","device_one_time_keys_count":{"a":1}}"#,
            r#"{"device_one_time_keys_count":{"a":1}}"#,
            r#"{"next_batch":"s","device_one_time_keys_count":{"a":2}}"#,
            r#"{"next_batch":"s"}"#,
            r#"{"next_batch":"s","device_one_time_keys_count":{"a":1},"device_unused_fallback_key_types":[]}"#,
            r#"{"next_batch":"s","device_one_time_keys_count":{"a":1},"device_lists":{"changed":["@a:x"]}}"#,
            r#"{"next_batch":"s","device_one_time_keys_count":{"a":1},"to_device":{"events":[{"type":"a","sender":"@a:x","content":{}}]}}"#,
            r#"{"next_batch":"s","device_one_time_keys_count":{"a":1},"account_data":{"events":[{"type":"a","content":{}}]}}"#,
        ] {
            assert!(!order(silence).is_known(&batch(other), 1_000 + HELD_MS), "{other}");
        }
    }
}
