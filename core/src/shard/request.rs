//! A client's request, from where its token is known to be valid to its answer.
//!
//! A request is answered at once or held; what it is held for is its
//! [`Hold`]. A held request owns nothing but its ticket: when it is abandoned,
//! nothing has happened (INV-7).

use std::sync::Arc;

use super::{
    Effects, Shard,
    device::Kept,
    event::{Answered, Effect, Ticket, Token},
    layered,
    refusal::Refusal,
    slack,
};
use crate::{
    connection::{Answer, Asked, Connection, Resolved, State, answer, is_quiet},
    extension::Tokens,
    id::{DeviceNumber, Sequence, UserNumber},
    ledger::{Command, SEQUENCE},
    list::{Memo, Source},
    record::key,
    request::Request,
    response::Response,
    view::{Table, View},
};

/// Where a request is held.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) user: UserNumber,
    pub(super) device: DeviceNumber,
    pub(super) conn_id: String,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) ticket: Ticket,
    pub(super) token: Token,
    pub(super) request: Request,
    /// What the client holds; `None` where it starts anew.
    pub(super) base: Option<State>,
    pub(super) hold: Hold,
    /// When it came, unix milliseconds.
    pub(super) since_ms: u64,
    pub(super) deadline_ms: u64,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// The homeserver's word about the token: a new one, or the first.
    Validation,
    /// The user's first sync.
    FirstSync,
    /// The device's to-device tokens to be settled durably.
    Tokens,
    /// A member list, or a token for paging back.
    Fetch,
    /// Something worth telling.
    News,
}

impl Shard {
    pub(super) fn slot_held(&self, place: &Place) -> Option<Ticket> {
        let slot = self.device(place.user, place.device)?.slots.get(&place.conn_id)?;
        slot.held.as_ref().map(|held| held.ticket)
    }

    /// What the client holds according to its position.
    pub(super) fn base(
        &mut self,
        place: &Place,
        request: &Request,
        below: &dyn View,
    ) -> Result<Option<State>, Refusal> {
        let (now_ms, age_ms) = (self.now_ms, self.limits.connection_age_ms);
        let owner = self.owner(place);
        let number = self.positions.issue();
        let positions = self.positions;
        let newest = self.world.sequence;
        let view = layered(&self.world, below);
        let on_shard = self.users.get_mut(&place.user);
        let device = on_shard.and_then(|on_shard| on_shard.devices.get_mut(&place.device));
        let Some(device) = device else { return Err(Refusal::logged_out()) };
        let slot = device.slot(place.device, &place.conn_id, &view, age_ms, now_ms);
        slot.used_ms = now_ms;
        slot.connection.take_if(|it| now_ms.saturating_sub(it.used_ms) > age_ms);
        let keeps_responses = request.dialect.keeps_responses();
        let Some(position) = &request.position else {
            let roomless = is_roomless(request);
            slot.kept.clear();
            slot.unsaved |= slot.connection.is_some() || !roomless;
            slot.connection = (!roomless).then(|| Connection::new(number, now_ms));
            return Ok(None);
        };
        if let Some(state) = positions.read_roomless(&owner, position) {
            // A position from ahead of the store is another store's.
            let known = state.cursor <= newest;
            return if known { Ok(Some(state)) } else { Err(Refusal::unknown_position()) };
        }
        let connection = slot.connection.as_mut().ok_or_else(Refusal::unknown_position)?;
        connection.used_ms = now_ms;
        let resolved = if keeps_responses {
            let kept: Vec<u64> = slot.kept.iter().map(|it| it.number).collect();
            let resolved = connection.resolve_in_order(position, &kept);
            if resolved != Resolved::Unknown {
                let held =
                    |it: &Kept| connection.provisional.iter().any(|(no, _)| *no == it.number);
                slot.kept.retain(held);
            }
            resolved
        } else {
            connection.resolve(position)
        };
        match resolved {
            Resolved::State(state) => Ok(Some(state)),
            Resolved::Unknown => Err(Refusal::unknown_position()),
        }
    }

    /// The oldest response that the client has yet to take in, where the request
    /// made one of those that wait, or no more may wait.
    fn given_again(&self, place: &Place, request: &Request) -> Option<Box<Response>> {
        let slot = self.device(place.user, place.device)?.slots.get(&place.conn_id)?;
        let oldest = slot.kept.first().filter(|_| request.position.is_some())?;
        let digest = digest(request);
        let same = slot.kept.iter().any(|kept| kept.digest == digest);
        let full = slot.kept.len() >= self.limits.positions.provisional_max;
        (same || full).then(|| oldest.response.clone())
    }

    /// Whether there is a response that the client has yet to take in.
    fn owes_response(&self, place: &Place) -> bool {
        let device = self.device(place.user, place.device);
        let slot = device.and_then(|device| device.slots.get(&place.conn_id));
        slot.is_some_and(|slot| !slot.kept.is_empty())
    }

    /// Who a position without rooms is issued to.
    fn owner(&self, place: &Place) -> String {
        let user = self.users.get(&place.user).map(|on_shard| &*on_shard.user.id);
        format!("{}\0{}\0{}", user.unwrap_or_default(), place.device.0, place.conn_id)
    }

    /// Takes a request as far as it goes: to its answer, or to what it waits
    /// for next.
    pub(super) fn proceed(
        &mut self,
        place: &Place,
        held: Held,
        below: &dyn View,
        out: &mut Effects,
    ) {
        if !self.is_valid(place, &held.token, out) {
            if self.stopping {
                return refuse(held.ticket, Refusal::stopping(), out);
            }
            // From now: a poll may have been held for long before its token
            // came to need a new word.
            let waited_ms = self.now_ms.saturating_sub(held.since_ms);
            let patience = self.limits.validation_patience_ms + waited_ms;
            return self.hold(place, held, Hold::Validation, patience);
        }
        if let Some(refusal) = self.standing_refusal(place) {
            return refuse(held.ticket, refusal, out);
        }
        if let Some(response) = self.given_again(place, &held.request) {
            let answer = Answered::Response(held.request.dialect, response);
            return out.push(Effect::Respond { ticket: held.ticket, answer });
        }
        if !self.users.get(&place.user).is_some_and(|on_shard| on_shard.user.rooms_known) {
            if self.stopping {
                return refuse(held.ticket, Refusal::stopping(), out);
            }
            let patience = self.limits.patience_ms;
            return self.hold(place, held, Hold::FirstSync, patience);
        }
        if !self.settle_tokens(place, &held.request, out) {
            if self.stopping {
                return refuse(held.ticket, Refusal::stopping(), out);
            }
            let patience = self.limits.patience_ms;
            return self.hold(place, held, Hold::Tokens, patience);
        }
        let at_once = held.base.is_none() || held.request.timeout_ms == 0 || self.stopping;
        let at_once = at_once || self.owes_response(place);
        if !at_once && self.is_quiet(place, &held, below) {
            let end_ms = self.end_ms(&held);
            return self.hold_until(place, held, Hold::News, end_ms);
        }
        let Some(answer) = self.compute(place, &held, below) else {
            return refuse(held.ticket, Refusal::logged_out(), out);
        };
        self.fetch_all(place, &held.token, &answer, out);
        let patience = answer.wants.iter().map(|want| self.patience_for(want)).max().unwrap_or(0);
        let waited_ms = self.now_ms.saturating_sub(held.since_ms);
        if waited_ms < patience && !self.stopping {
            self.awaiting_fetch.insert(place.user);
            return self.hold(place, held, Hold::Fetch, patience);
        }
        if at_once || answer.response.is_news() {
            self.respond(place, &held, answer, out);
        } else {
            self.look_again(place.user, &answer.lacking);
            let end_ms = self.end_ms(&held).min(answer.again_ms.unwrap_or(u64::MAX));
            self.hold_until(place, held, Hold::News, end_ms);
        }
    }

    /// Whether the homeserver's word about the token is fresh; else it is asked.
    pub(super) fn is_valid(&mut self, place: &Place, token: &Token, out: &mut Effects) -> bool {
        let fresh_from = self.now_ms.saturating_sub(self.limits.token_ttl_ms);
        let Some(device) = self.device_mut(place.user, place.device) else { return true };
        let Some(known) = device.token_mut(&token.key) else { return false };
        let valid = known.confirmed_ms > 0 && known.confirmed_ms >= fresh_from;
        if !valid && !std::mem::replace(&mut known.validating, true) {
            let token = token.clone();
            out.push(Effect::Validate { user: place.user, device: place.device, token });
        }
        valid
    }

    /// What the homeserver refused a moment ago.
    fn standing_refusal(&self, place: &Place) -> Option<Refusal> {
        let (refusal, until) = self.device(place.user, place.device)?.poller.refusal.as_ref()?;
        (*until > self.now_ms).then(|| refusal.clone())
    }

    /// Takes in what `since` acknowledges; false while the tokens are not yet
    /// durable that the answer would use.
    fn settle_tokens(&mut self, place: &Place, request: &Request, out: &mut Effects) -> bool {
        let Some(wanted) = &request.extensions.to_device else { return true };
        let Some(device) = self.device_mut(place.user, place.device) else { return true };
        let tokens = Tokens::after(&device.record, wanted.since.as_deref());
        let record = &mut device.record;
        let moved = !record.adopted || tokens.offset != record.to_device_offset;
        if moved || tokens.acknowledged > record.to_device_acknowledged {
            let Tokens { acknowledged, offset } = tokens;
            record.to_device_acknowledged = acknowledged;
            let device = place.device;
            out.push(Effect::Ledger(Command::ToDevice { device, acknowledged, offset }));
        }
        !moved
    }

    fn compute(&self, place: &Place, held: &Held, below: &dyn View) -> Option<Answer> {
        self.asked(place, held, below, |asked| {
            let answer = answer(asked);
            debug_assert!(
                is_ahead(asked, below) || is_whole(asked, &answer),
                "what was not looked at has nothing to tell"
            );
            answer
        })
    }

    /// Whether it is certain, at a glance, that there is no news.
    fn is_quiet(&self, place: &Place, held: &Held, below: &dyn View) -> bool {
        let is_quiet = self.asked(place, held, below, |asked| {
            let is_quiet = is_quiet(asked);
            debug_assert!(
                !is_quiet || is_ahead(asked, below) || !answer_whole(asked).response.is_news(),
                "what was not looked at has nothing to tell"
            );
            is_quiet
        });
        is_quiet == Some(true)
    }

    /// Lends what a request is answered from.
    fn asked<R>(
        &self,
        place: &Place,
        held: &Held,
        below: &dyn View,
        then: impl FnOnce(Asked<'_>) -> R,
    ) -> Option<R> {
        let view = layered(&self.world, below);
        let on_shard = self.users.get(&place.user)?;
        let device = on_shard.devices.get(&place.device)?;
        let memo = Memo::default();
        Some(then(Asked {
            source: Source { world: &self.world, user: &on_shard.user, view: &view, memo: &memo },
            device: place.device,
            of_device: &device.record,
            device_lists_changed: device.lists_changed,
            transaction_id_wait_ms: if device.poller.is_running() {
                self.limits.transaction_id_wait_ms
            } else {
                0
            },
            request: &held.request,
            now_ms: self.now_ms,
            base: held.base.as_ref(),
            limits: &self.limits.answers,
        }))
    }

    /// When a request that has nothing to be told is answered all the same.
    fn end_ms(&self, held: &Held) -> u64 {
        slack::end_ms(held.since_ms, held.request.timeout_ms, self.limits.timer_slack_ms)
    }

    fn hold(&mut self, place: &Place, held: Held, hold: Hold, patience_ms: u64) {
        let deadline_ms = held.since_ms.saturating_add(patience_ms);
        self.hold_until(place, held, hold, deadline_ms);
    }

    fn hold_until(&mut self, place: &Place, mut held: Held, hold: Hold, deadline_ms: u64) {
        held.hold = hold;
        held.deadline_ms = deadline_ms;
        let Some(device) = self.device_mut(place.user, place.device) else { return };
        let ticket = held.ticket;
        device.slots.entry(place.conn_id.clone()).or_default().held = Some(held);
        self.note_held(place, ticket, deadline_ms);
    }

    pub(super) fn note_held(&mut self, place: &Place, ticket: Ticket, deadline_ms: u64) {
        self.held.insert(ticket, place.clone());
        self.deadlines.insert((deadline_ms, ticket));
    }

    /// Lets go of a held request, without an answer.
    pub(super) fn release(&mut self, ticket: Ticket) -> Option<(Place, Held)> {
        let place = self.held.remove(&ticket)?;
        let device = self.device_mut(place.user, place.device)?;
        let held = device.release(&place.conn_id, ticket)?;
        self.deadlines.remove(&(held.deadline_ms, ticket));
        Some((place, held))
    }

    /// A held request has waited long enough, or is ended by a newer one.
    pub(super) fn on_deadline(&mut self, ticket: Ticket, below: &dyn View, out: &mut Effects) {
        let Some((place, held)) = self.release(ticket) else { return };
        match held.hold {
            Hold::Validation => refuse(ticket, Refusal::unvalidated(), out),
            Hold::FirstSync | Hold::Tokens => refuse(ticket, Refusal::first_sync_pending(), out),
            Hold::Fetch | Hold::News => match self.compute(&place, &held, below) {
                Some(answer) => self.respond(&place, &held, answer, out),
                None => refuse(ticket, Refusal::logged_out(), out),
            },
        }
    }

    /// Answers those of a user's held requests that can be answered now.
    pub(super) fn answer_held(&mut self, user: UserNumber, below: &dyn View, out: &mut Effects) {
        let Some(on_shard) = self.users.get(&user) else { return };
        let slots = on_shard.devices.values().flat_map(|device| device.slots.values());
        let held = slots.filter_map(|slot| slot.held.as_ref());
        let tickets: Vec<Ticket> = held.map(|held| held.ticket).collect();
        for ticket in tickets {
            if let Some((place, held)) = self.release(ticket) {
                self.proceed(&place, held, below, out);
            }
        }
    }

    /// Refuses those of a device's held requests that `which` picks.
    pub(super) fn answer_where(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        refusal: &Refusal,
        out: &mut Effects,
        which: impl Fn(&Held) -> bool,
    ) {
        let Some(it) = self.device(user, device) else { return };
        let held = it.held().filter(|held| which(held));
        let tickets: Vec<Ticket> = held.map(|held| held.ticket).collect();
        for ticket in tickets {
            self.release(ticket);
            refuse(ticket, refusal.clone(), out);
        }
    }

    /// Refuses one held request.
    pub(super) fn refuse_held(&mut self, ticket: Ticket, refusal: Refusal, out: &mut Effects) {
        if self.release(ticket).is_some() {
            refuse(ticket, refusal, out);
        }
    }

    fn respond(&mut self, place: &Place, held: &Held, answer: Answer, out: &mut Effects) {
        let Answer { mut response, next, .. } = answer;
        let number = self.positions.issue();
        let owner = self.owner(place);
        let (positions, now_ms) = (self.positions, self.now_ms);
        let limits = self.limits.positions.clone();
        let Some(device) = self.device_mut(place.user, place.device) else {
            return refuse(held.ticket, Refusal::logged_out(), out);
        };
        let slot = device.slots.entry(place.conn_id.clone()).or_default();
        response.position = if next.is_roomless() && is_roomless(&held.request) {
            positions.roomless(&owner, &next)
        } else {
            slot.unsaved = true;
            let connection = slot.connection.get_or_insert_with(|| Connection::new(number, now_ms));
            connection.remember(number, next, &limits)
        };
        let mut response = Box::new(response);
        if held.request.dialect.keeps_responses() {
            let digest = digest(&held.request);
            slot.kept.push(Kept { number, digest, response: response.clone() });
            if let Some(oldest) = slot.kept.first() {
                response.clone_from(&oldest.response);
            }
        }
        let answer = Answered::Response(held.request.dialect, response);
        out.push(Effect::Respond { ticket: held.ticket, answer });
    }
}

/// The answer as it is when every room is looked at.
fn answer_whole(asked: Asked<'_>) -> Answer {
    let base = asked.base.map(State::without_shortcuts);
    answer(Asked { base: base.as_ref(), ..asked })
}

/// Whether the tables are ahead of the world: what is new in them is looked at
/// when the world that has it comes.
fn is_ahead(asked: Asked<'_>, below: &dyn View) -> bool {
    let stored = below.get(Table::Meta, SEQUENCE).and_then(key::sequence_of);
    stored.is_some_and(|stored| Sequence(stored) > asked.source.world.sequence)
}

/// Whether looking at every room gives the same answer.
fn is_whole(asked: Asked<'_>, found: &Answer) -> bool {
    let whole = answer_whole(asked);
    // Which configurations are kept to be shared is nothing that a client holds.
    let held = |state: &State| State {
        configs: Vec::new(),
        earlier: Arc::default(),
        ..state.without_shortcuts()
    };
    found.response == whole.response
        && held(&found.next) == held(&whole.next)
        && (&found.wants, &found.unawaited) == (&whole.wants, &whole.unawaited)
        && found.lacking == whole.lacking
        && found.again_ms == whole.again_ms
}

/// Whether a request is of no room, and its position needs no memory.
fn is_roomless(request: &Request) -> bool {
    !request.dialect.keeps_responses()
        && request.lists.is_empty()
        && request.subscriptions.is_empty()
}

/// Tells requests apart whose responses are kept.
fn digest(request: &Request) -> u64 {
    request.changes.as_ref().map_or(0, |changes| changes.digest)
}

pub(super) fn refuse(ticket: Ticket, refusal: Refusal, out: &mut Effects) {
    out.push(Effect::Respond { ticket, answer: Answered::Refused(refusal) });
}
