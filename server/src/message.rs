//! What travels between threads to a shard.

use std::sync::Arc;

use luge_core::{
    id::{DeviceNumber, UserNumber},
    ledger::Delta,
    request::Request,
    shard::{Event, Hint, Ticket, Token},
};
use luge_io::{
    mailbox::{Outbox, SendError},
    oneshot,
    time::Tick,
};

/// Something for a shard.
pub enum Message {
    /// Time moved on.
    Tick(Tick),
    /// There is a newer world.
    Delta(Arc<Delta>),
    /// A client of one of the shard's users asks.
    Asked(Box<Asked>),
    /// A client went away without an answer.
    Abandoned(Ticket),
    /// Something that the shard's own tasks have to say.
    Event(Event),
    /// Something that front mode saw.
    Hint(UserNumber, Hint),
    /// The server stops.
    Stop,
}

/// A client's request on its way to its user's shard.
pub struct Asked {
    /// What the answer goes by; unique among all shards.
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
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// An answer, ready to be sent.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: String,
}

/// The inboxes of all shards.
#[derive(Clone)]
pub struct Outboxes(Arc<[Outbox<Message>]>);

impl Outboxes {
    /// Those of all shards, in order.
    pub fn new(outboxes: Vec<Outbox<Message>>) -> Self {
        Self(outboxes.into())
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The shard that owns a user (INV-1).
    pub fn shard_of(&self, user: UserNumber) -> usize {
        let spread = u64::from(user.0).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(spread).unwrap_or_default() % self.0.len().max(1)
    }

    /// The inbox of one shard, for the shard itself.
    pub fn own(&self, shard: usize) -> Option<Outbox<Message>> {
        self.0.get(shard).cloned()
    }

    /// Sends to one shard.
    ///
    /// # Errors
    /// The message, where the inbox is full or its shard has ended.
    pub fn send(&self, shard: usize, message: Message) -> Result<(), SendError<Message>> {
        self.0[shard].try_send(message)
    }

    /// Sends to the shard that owns a user.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_to_user(
        &self,
        user: UserNumber,
        message: Message,
    ) -> Result<(), SendError<Message>> {
        self.send(self.shard_of(user), message)
    }
}
