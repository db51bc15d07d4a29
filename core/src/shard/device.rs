//! A device on the shard: what is known of it, its tokens, its connections.

use std::collections::BTreeMap;

use super::{
    event::{Ticket, Token},
    poller::Poller,
    request::Held,
};
use crate::{
    connection::{Connection, ConnectionRecord},
    id::{DeviceNumber, Sequence},
    record::{DeviceListRecord, DeviceRecord, key},
    response::Response,
    view::{Direction, Table, View},
};

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) record: DeviceRecord,
    pub(super) poller: Poller,
    /// Those that were never found valid first, then by their last use.
    pub(super) tokens: Vec<KnownToken>,
    /// Boxed, since a map keeps room for eleven.
    pub(super) slots: BTreeMap<String, Box<Slot>>,
    /// Requests whose token is yet to be known to be valid, each with the name of
    /// the connection that it is for, in the order in which they came.
    pub(super) arrivals: Vec<(String, Held)>,
    /// When its client was last there, unix milliseconds.
    pub(super) used_ms: u64,
    /// When its device lists last changed; not before this at any rate.
    pub(super) lists_changed: Sequence,
}

/// When a device's lists last changed, as the tables have it.
fn lists_changed(number: DeviceNumber, view: &dyn View) -> Sequence {
    let from = key::of_device(number);
    let to = key::after_prefix(&from);
    let mut newest = Sequence::default();
    view.scan(Table::DeviceLists, &from, &to, Direction::Forward, &mut |_, archive| {
        if let Some(record) = DeviceListRecord::access(archive) {
            newest = newest.max(Sequence(record.changed.to_native()));
        }
        true
    });
    newest
}

/// A token of the device.
#[derive(Debug)]
pub(super) struct KnownToken {
    pub(super) token: Token,
    /// When the homeserver last accepted it; 0 for never.
    pub(super) confirmed_ms: u64,
    pub(super) validating: bool,
}

/// A connection of the device, by name.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// `None` while it carries no rooms.
    pub(super) connection: Option<Connection>,
    pub(super) held: Option<Held>,
    /// Responses that the client may not have taken in, oldest first, in the
    /// dialect that gives them again. Not kept over a restart: they are then
    /// computed anew.
    pub(super) kept: Vec<Kept>,
    /// Whether the store does not have its newest state.
    pub(super) unsaved: bool,
    pub(super) used_ms: u64,
}

/// A response that can be given again.
#[derive(Debug)]
pub(super) struct Kept {
    /// The number of its position.
    pub(super) number: u64,
    /// Tells the request that made it from others.
    pub(super) digest: u64,
    pub(super) response: Box<Response>,
}

impl Device {
    pub(super) fn load(number: DeviceNumber, view: &dyn View, now_ms: u64) -> Self {
        Self {
            record: Self::read(number, view).unwrap_or_default(),
            poller: Poller::default(),
            tokens: Vec::new(),
            slots: BTreeMap::new(),
            arrivals: Vec::new(),
            used_ms: now_ms,
            lists_changed: lists_changed(number, view),
        }
    }

    /// The record as the tables have it.
    pub(super) fn read(number: DeviceNumber, view: &dyn View) -> Option<DeviceRecord> {
        view.get(Table::Devices, &key::device(number)).and_then(DeviceRecord::decode)
    }

    /// The connection's slot, brought in from the store where it is not here.
    pub(super) fn slot(
        &mut self,
        number: DeviceNumber,
        conn_id: &str,
        view: &dyn View,
        age_ms_max: u64,
        now_ms: u64,
    ) -> &mut Slot {
        self.slots.entry(conn_id.to_owned()).or_insert_with(|| {
            let archive = view.get(Table::Connections, &key::connection(number, conn_id));
            let stored = archive.and_then(ConnectionRecord::decode);
            let fresh =
                |connection: &Connection| now_ms.saturating_sub(connection.used_ms) <= age_ms_max;
            let connection = stored.filter(fresh);
            Box::new(Slot { connection, used_ms: now_ms, ..Slot::default() })
        })
    }

    /// Every request that is held.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        let of_slots = self.slots.values().filter_map(|slot| slot.held.as_ref());
        of_slots.chain(self.arrivals.iter().map(|(_, held)| held))
    }

    /// Lets go of a request that is held for the connection.
    pub(super) fn release(&mut self, conn_id: &str, ticket: Ticket) -> Option<Held> {
        let slot = self.slots.get_mut(conn_id);
        let held = slot.and_then(|slot| slot.held.take_if(|held| held.ticket == ticket));
        held.or_else(|| {
            let at = self.arrivals.iter().position(|(_, held)| held.ticket == ticket)?;
            Some(self.arrivals.remove(at).1)
        })
    }

    /// Notes that a request came with `token`, and when the homeserver said that
    /// it is valid. That it came makes it no better than those that are in use.
    pub(super) fn note_token(&mut self, token: &Token, confirmed_ms: u64, tokens_max: usize) {
        if let Some(known) = self.token_mut(&token.key) {
            known.confirmed_ms = known.confirmed_ms.max(confirmed_ms);
            return;
        }
        if self.tokens.len() >= tokens_max.max(1) {
            self.tokens.remove(0);
        }
        let token = token.clone();
        self.tokens.insert(0, KnownToken { token, confirmed_ms, validating: false });
    }

    /// Notes that `token` is valid and in use.
    pub(super) fn prefer_token(&mut self, token: &Token) {
        if let Some(at) = self.tokens.iter().position(|known| known.token.key == token.key) {
            self.tokens[at..].rotate_left(1);
        }
    }

    pub(super) fn token_mut(&mut self, key: &[u8; 32]) -> Option<&mut KnownToken> {
        self.tokens.iter_mut().find(|known| known.token.key == *key)
    }

    /// The newest token that the homeserver has accepted.
    pub(super) fn newest_token(&self) -> Option<&Token> {
        let accepted = self.tokens.iter().rev().find(|known| known.confirmed_ms > 0);
        accepted.map(|known| &known.token)
    }
}
