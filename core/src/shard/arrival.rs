//! A client's request, from its arrival to where its token is known to be valid.
//!
//! Until then it does nothing: it ends no request, acknowledges and restarts no
//! connection, makes none, and keeps no device polled. A token that was revoked
//! since the homeserver last spoke of it must not disturb who has taken its
//! place. What waits here is not yet of a connection, and only requests of its
//! own token make it give way.

use super::{
    Effects, Shard,
    device::Device,
    event::{ClientRequest, Ticket, Token},
    layered,
    refusal::Refusal,
    request::{Held, Hold, Place, refuse},
};
use crate::{
    id::{DeviceNumber, UserNumber},
    view::View,
};

impl Shard {
    /// Takes a request to its user, or has it wait for them.
    pub(super) fn on_request(
        &mut self,
        asked: Box<ClientRequest>,
        below: &dyn View,
        out: &mut Effects,
    ) {
        let ticket = asked.ticket;
        let is_full = self.held.len() + self.loads.waiting() >= self.limits.held_max;
        if is_full || !self.load_user(asked.user, &asked.user_id, below, out) {
            return refuse(ticket, Refusal::too_many("requests are being held"), out);
        }
        match self.wait_for_user(asked) {
            Some(asked) => self.on_arrival(*asked, self.now_ms, below, out),
            // There is no further turn for it.
            None if self.stopping => self.end_loads(out),
            None => {}
        }
    }

    /// Takes in a request whose user is in memory, and that came at `came_ms`.
    pub(super) fn on_arrival(
        &mut self,
        asked: ClientRequest,
        came_ms: u64,
        below: &dyn View,
        out: &mut Effects,
    ) {
        let ClientRequest { ticket, user, device, token, confirmed, request, .. } = asked;
        let confirmed_ms = if confirmed { came_ms } else { 0 };
        self.note_token(user, device, &token, confirmed_ms, below);
        let conn_id = request.dialect.connection_name(&request.conn_id);
        let place = Place { user, device, conn_id };
        let held = Held {
            ticket,
            token,
            request,
            base: None,
            hold: Hold::Validation,
            since_ms: self.now_ms,
            deadline_ms: self.now_ms.saturating_add(self.limits.validation_patience_ms),
        };
        if self.is_valid(&place, &held.token, out) {
            self.end_older_arrivals(&place, ticket, out);
            self.admit(&place, held, below, out);
        } else if self.stopping {
            refuse(ticket, Refusal::stopping(), out);
        } else {
            self.hold_arrival(&place, held, out);
        }
    }

    fn note_token(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        token: &Token,
        confirmed_ms: u64,
        below: &dyn View,
    ) {
        let (now_ms, tokens_max) = (self.now_ms, self.limits.tokens_max);
        let view = layered(&self.world, below);
        let Some(on_shard) = self.users.get_mut(&user) else { return };
        let devices = &mut on_shard.devices;
        let it =
            devices.entry(device).or_insert_with(|| Box::new(Device::load(device, &view, now_ms)));
        it.note_token(token, confirmed_ms, tokens_max);
    }

    /// Has a request wait for the homeserver's word about its token. Of one token
    /// only so many wait, and one for each connection: the older give way.
    fn hold_arrival(&mut self, place: &Place, held: Held, out: &mut Effects) {
        let max = self.limits.connections_max.max(1);
        let Some(device) = self.device_mut(place.user, place.device) else { return };
        let of_token = || {
            let arrivals = device.arrivals.iter();
            arrivals.filter(|(_, older)| older.token.key == held.token.key)
        };
        let older = of_token().find(|(conn_id, _)| *conn_id == place.conn_id);
        let superseded = older.map(|(_, older)| older.ticket);
        let is_full = superseded.is_none() && of_token().count() >= max;
        let oldest = of_token().next().filter(|_| is_full).map(|(_, older)| older.ticket);
        let (ticket, deadline_ms) = (held.ticket, held.deadline_ms);
        device.arrivals.push((place.conn_id.clone(), held));
        self.note_held(place, ticket, deadline_ms);
        if let Some(ticket) = superseded {
            self.refuse_held(ticket, Refusal::unvalidated(), out);
        }
        if let Some(ticket) = oldest {
            self.refuse_held(ticket, Refusal::too_many("connections of this device"), out);
        }
    }

    /// The homeserver has said that a token is valid: its requests go on, in the
    /// order in which they came.
    pub(super) fn admit_arrivals(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        token: &Token,
        below: &dyn View,
        out: &mut Effects,
    ) {
        let Some(it) = self.device(user, device) else { return };
        let arrivals = it.arrivals.iter().filter(|(_, held)| held.token.key == token.key);
        let tickets: Vec<Ticket> = arrivals.map(|(_, held)| held.ticket).collect();
        for ticket in tickets {
            let Some(place) = self.held.get(&ticket).cloned() else { continue };
            self.end_older_arrivals(&place, ticket, out);
            if let Some((place, held)) = self.release(ticket) {
                self.admit(&place, held, below, out);
            }
        }
    }

    /// Takes a request whose token is valid to its connection.
    fn admit(&mut self, place: &Place, mut held: Held, below: &dyn View, out: &mut Effects) {
        let now_ms = self.now_ms;
        let Some(on_shard) = self.users.get_mut(&place.user) else { return };
        on_shard.used_ms = now_ms;
        if let Some(device) = on_shard.devices.get_mut(&place.device) {
            device.used_ms = now_ms;
            device.prefer_token(&held.token);
        }
        self.make_room_for_connection(place.user, place.device, &place.conn_id, out);
        // The newer request ends the one that waits.
        if let Some(older) = self.slot_held(place) {
            self.on_deadline(older, below, out);
        }
        match self.base(place, &held.request, below) {
            Ok(base) => held.base = base,
            Err(refusal) => return refuse(held.ticket, refusal, out),
        }
        let sticky = held.base.as_ref().and_then(|base| base.sticky.as_ref());
        if let Err(error) = held.request.settle(sticky) {
            let refusal = Refusal::new(400, error.errcode(), &error.to_string());
            return refuse(held.ticket, refusal, out);
        }
        held.hold = Hold::News;
        self.proceed(place, held, below, out);
        self.ensure_polling(place.user, place.device, out);
    }

    /// What came before the request and waits yet to be of its connection is too
    /// late.
    fn end_older_arrivals(&mut self, place: &Place, ticket: Ticket, out: &mut Effects) {
        let Some(device) = self.device(place.user, place.device) else { return };
        let older = device.arrivals.iter().take_while(|(_, held)| held.ticket != ticket);
        let older = older.filter(|(conn_id, _)| *conn_id == place.conn_id);
        let older: Vec<Ticket> = older.map(|(_, held)| held.ticket).collect();
        for ticket in older {
            self.refuse_held(ticket, Refusal::unvalidated(), out);
        }
    }
}
