//! When to poll the homeserver for a device, and when not.
//!
//! One poll in flight for each device, at most; what it brings reaches the
//! ledger before the next is ordered, which is the whole of the backpressure.

use std::collections::VecDeque;

use super::{
    Effects, Shard,
    device::Device,
    event::{Effect, PollOrder, PollOutcome},
    refusal::Refusal,
    request::Hold,
    slack,
};
use crate::{
    id::{DeviceNumber, UserNumber},
    ledger::Command,
    view::View,
};

/// Where a device's poller is.
#[derive(Debug, Default)]
pub(super) struct Poller {
    pub(super) phase: Phase,
    /// Failures in a row.
    failures: u32,
    /// When a poll last brought something durable, unix milliseconds.
    pub(super) succeeded_ms: u64,
    /// What the homeserver last refused, and until when that is passed on.
    pub(super) refusal: Option<(Refusal, u64)>,
    /// Whether the poll in flight is an initial one.
    initial: bool,
    /// The token of the poll in flight, or of the last.
    token_key: [u8; 32],
    /// The [silence](crate::upstream::SyncBatch::silence) of the last answer.
    silence: Option<u64>,
    /// Whether the ledger has to hear the first answer to a poll that is ordered
    /// from here on: see [`Self::note_news`].
    has_news: bool,
    /// How often the last answer was asked for again, since it had no place among what
    /// others have told.
    repeats: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not polling: parked, or never started.
    #[default]
    Idle,
    /// Waiting for its turn among initial syncs.
    Queued,
    /// A poll is in flight.
    InFlight,
    /// Waiting until then after a failure.
    Waiting(u64),
}

impl Poller {
    /// Whether the homeserver is about to tell the device what is new to it.
    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::InFlight
    }

    /// Notes that what the homeserver says next is news, though it may be what it
    /// said last: somebody else has told of the device's keys, or has opened a gap
    /// behind which the user is yet to be vouched for.
    pub(super) fn note_news(&mut self) {
        self.silence = None;
        self.has_news = true;
    }
}

/// Initial syncs, which cost a homeserver most: only so many at once.
#[derive(Debug, Default)]
pub(super) struct InitialSyncs {
    in_flight: usize,
    queue: VecDeque<(UserNumber, DeviceNumber)>,
}

impl Shard {
    /// Starts polling for a device that is not polled.
    pub(super) fn ensure_polling(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        out: &mut Effects,
    ) {
        if !self.stopping
            && self.device(user, device).is_some_and(|it| it.poller.phase == Phase::Idle)
        {
            self.poll(user, device, 0, out);
        }
    }

    /// Orders a poll, or queues it where it is an initial one and there are
    /// enough of those.
    fn poll(&mut self, user: UserNumber, device: DeviceNumber, timeout_ms: u64, out: &mut Effects) {
        let asked_ms = self.now_ms;
        let covered = self.is_covered(user, device);
        let limit = self.limits.initial_syncs_max;
        let repeats_max = self.limits.poll_repeats_max;
        let rooms_known = self.users.get(&user).is_some_and(|it| it.user.rooms_known);
        let Some(on_shard) = self.users.get_mut(&user) else { return };
        let Some(it) = on_shard.devices.get_mut(&device) else { return };
        let Some(token) = it.newest_token().cloned() else {
            it.poller.phase = Phase::Idle;
            return;
        };
        let since = it.record.since.clone();
        it.poller.initial = since.is_none();
        if since.is_none() {
            if self.initial.in_flight >= limit {
                if it.poller.phase != Phase::Queued {
                    it.poller.phase = Phase::Queued;
                    self.initial.queue.push_back((user, device));
                }
                return;
            }
            self.initial.in_flight += 1;
        }
        it.poller.phase = Phase::InFlight;
        let with_rooms = since.is_some() || !(rooms_known && covered);
        // An initial sync has news in any case; nor may the one that catches
        // up wait, since a client does.
        let repeats = it.poller.repeats;
        // Homeservers keep an answer for a while, for who asks the very same again, and by
        // then that knows less than was known when it is asked for: another timeout is
        // another question.
        let tries = u64::from(repeats) + u64::from(it.poller.failures);
        let timeout_ms = if since.is_none() { tries } else { timeout_ms.max(tries) };
        it.poller.token_key = token.key;
        // A device that rooms are yet to be told of may be over it with any answer.
        let silence = it.poller.silence.filter(|_| it.record.rooms_from == 0);
        out.push(Effect::Poll(PollOrder {
            user,
            device,
            token,
            since,
            with_rooms,
            timeout_ms,
            asked_ms,
            may_repeat: repeats < repeats_max,
            silence,
        }));
    }

    /// Whether another device of the user keeps the user's rooms current.
    fn is_covered(&self, user: UserNumber, device: DeviceNumber) -> bool {
        let Some(on_shard) = self.users.get(&user) else { return false };
        let others = on_shard.devices.iter().filter(|(number, _)| **number != device);
        let recent = self.now_ms.saturating_sub(self.limits.covered_ms);
        others.into_iter().any(|(_, other)| {
            // One that has yet to be covered itself covers nobody: what happened
            // before its beginning would be told to neither.
            other.poller.phase == Phase::InFlight
                && !other.poller.initial
                && other.record.rooms_from == 0
                && other.poller.succeeded_ms >= recent
        })
    }

    /// Takes in how a poll ended, and orders the next.
    pub(super) fn on_poll_finished(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        outcome: PollOutcome,
        below: &dyn View,
        out: &mut Effects,
    ) {
        let Some(it) = self.device_mut(user, device) else { return };
        if it.poller.phase != Phase::InFlight {
            return;
        }
        it.poller.phase = Phase::Idle;
        it.poller.silence = None;
        let repeats = std::mem::take(&mut it.poller.repeats);
        if std::mem::take(&mut it.poller.initial) {
            self.initial.in_flight = self.initial.in_flight.saturating_sub(1);
            self.poll_queued(out);
        }
        match outcome {
            PollOutcome::Advanced { since, silence } => {
                self.note_silence(user, device, silence);
                self.on_advanced(user, device, since.is_some(), below, out);
            }
            PollOutcome::Unauthorized(refusal) => {
                self.on_unauthorized(user, device, &refusal, out);
            }
            PollOutcome::Refused(refusal) => self.on_refused(user, device, &refusal, out),
            // A process that ends takes in nothing more.
            PollOutcome::Again if self.stopping => {}
            PollOutcome::Again => {
                if let Some(it) = self.device_mut(user, device) {
                    it.poller.repeats = repeats + 1;
                }
                self.poll(user, device, 0, out);
            }
            PollOutcome::Limited { wait_ms } => self.wait(user, device, wait_ms),
            PollOutcome::SinceRejected => {
                if let Some(it) = self.device_mut(user, device) {
                    it.record.since = None;
                }
                out.push(Effect::Ledger(Command::SinceRejected(device)));
                self.back_off(user, device);
            }
            PollOutcome::Failed(refusal) => {
                self.refuse_first_sync(user, device, &refusal, out);
                self.back_off(user, device);
            }
            PollOutcome::Cancelled => {}
        }
    }

    /// Notes whether an answer said nothing. For what others have told meanwhile it
    /// may have been too early.
    fn note_silence(&mut self, user: UserNumber, device: DeviceNumber, silence: Option<u64>) {
        let Some(it) = self.device_mut(user, device) else { return };
        let has_news = std::mem::take(&mut it.poller.has_news);
        it.poller.silence = silence.filter(|_| !has_news);
    }

    fn poll_queued(&mut self, out: &mut Effects) {
        while self.initial.in_flight < self.limits.initial_syncs_max {
            let Some((user, device)) = self.initial.queue.pop_front() else { break };
            if let Some(it) = self.device_mut(user, device)
                && it.poller.phase == Phase::Queued
            {
                it.poller.phase = Phase::Idle;
                self.poll(user, device, 0, out);
            }
        }
    }

    fn on_advanced(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        advanced: bool,
        below: &dyn View,
        out: &mut Effects,
    ) {
        let now_ms = self.now_ms;
        let parked_before = now_ms.saturating_sub(self.limits.park_after_ms);
        let limits = &self.limits;
        let end_ms = slack::end_ms(now_ms, limits.poll_timeout_ms, limits.timer_slack_ms);
        let timeout_ms = end_ms.saturating_sub(now_ms);
        let Some(it) = self.device_mut(user, device) else { return };
        it.poller.succeeded_ms = now_ms;
        it.poller.refusal = None;
        // From what is durable, and not from what the answer said: an answer that
        // another was faster than is dropped, and what the homeserver is asked
        // next acknowledges to it all that came before (INV-6).
        if let Some(durable) = Device::read(device, below) {
            it.record = durable;
        }
        if advanced {
            it.poller.failures = 0;
        }
        // The token that polled is confirmed with it, and no other.
        let key = it.poller.token_key;
        if let Some(known) = it.token_mut(&key).filter(|known| known.confirmed_ms > 0) {
            known.confirmed_ms = now_ms;
        }
        let is_held = it.slots.values().any(|slot| slot.held.is_some());
        if !advanced {
            self.back_off(user, device);
        } else if (is_held || it.used_ms >= parked_before) && !self.stopping {
            self.poll(user, device, timeout_ms, out);
        }
    }

    fn on_unauthorized(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        refusal: &Refusal,
        out: &mut Effects,
    ) {
        let Some(it) = self.device_mut(user, device) else { return };
        let key = it.poller.token_key;
        it.tokens.retain(|known| known.token.key != key);
        out.push(Effect::Ledger(Command::ForgetToken(key)));
        let another = it.newest_token().is_some();
        self.answer_where(user, device, refusal, out, |held| held.token.key == key);
        if another {
            self.poll(user, device, 0, out);
        } else {
            self.answer_where(user, device, refusal, out, |held| held.hold == Hold::FirstSync);
        }
    }

    fn on_refused(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        refusal: &Refusal,
        out: &mut Effects,
    ) {
        let until = self.now_ms + self.limits.refusal_ttl_ms;
        if let Some(it) = self.device_mut(user, device) {
            it.poller.refusal = Some((refusal.clone(), until));
        }
        // It was said of this token's owner, and who asks with another one has yet
        // to be known for them.
        self.answer_where(user, device, refusal, out, |held| held.hold != Hold::Validation);
    }

    /// Whoever waits for a first sync that failed is told why; the next
    /// request finds the poller trying again.
    fn refuse_first_sync(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        refusal: &Refusal,
        out: &mut Effects,
    ) {
        self.answer_where(user, device, refusal, out, |held| held.hold == Hold::FirstSync);
    }

    fn back_off(&mut self, user: UserNumber, device: DeviceNumber) {
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = self.jitter >> 33;
        let (min, max) = (self.limits.backoff_min_ms, self.limits.backoff_max_ms);
        let Some(it) = self.device_mut(user, device) else { return };
        let wait_ms = min.saturating_mul(1 << it.poller.failures.min(16)).min(max);
        it.poller.failures = it.poller.failures.saturating_add(1);
        // Between half and all of it, so that devices that failed together do
        // not come back together.
        self.wait(user, device, wait_ms / 2 + random % (wait_ms / 2 + 1));
    }

    fn wait(&mut self, user: UserNumber, device: DeviceNumber, wait_ms: u64) {
        let until = self.now_ms.saturating_add(wait_ms.min(self.limits.backoff_max_ms * 10));
        if let Some(it) = self.device_mut(user, device) {
            it.poller.phase = Phase::Waiting(until);
            self.wakes.insert((until, user, device));
        }
    }

    /// The wait after a failure is over.
    pub(super) fn on_wake(&mut self, user: UserNumber, device: DeviceNumber, out: &mut Effects) {
        let now_ms = self.now_ms;
        let due = |it: &super::device::Device| matches!(it.poller.phase, Phase::Waiting(until) if until <= now_ms);
        if self.device(user, device).is_some_and(due) {
            let parked_before = now_ms.saturating_sub(self.limits.park_after_ms);
            let Some(it) = self.device_mut(user, device) else { return };
            it.poller.phase = Phase::Idle;
            if it.used_ms >= parked_before && !self.stopping {
                self.poll(user, device, 0, out);
            }
        }
    }

    /// The device polls for itself, or is gone.
    pub(super) fn park(&mut self, user: UserNumber, device: DeviceNumber, out: &mut Effects) {
        let Some(it) = self.device_mut(user, device) else { return };
        let in_flight = it.poller.phase == Phase::InFlight;
        let initial = std::mem::take(&mut it.poller.initial);
        it.poller.phase = Phase::Idle;
        if in_flight {
            out.push(Effect::CancelPoll(device));
            if initial {
                self.initial.in_flight = self.initial.in_flight.saturating_sub(1);
                self.poll_queued(out);
            }
        }
    }
}
