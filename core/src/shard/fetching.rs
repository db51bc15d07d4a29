//! What responses lack and the homeserver is asked for apart: each thing once, and
//! again where it could not be had.
//!
//! Who asks for all members of a room is told of it without them where the list does
//! not come in time. If it could not be had at all, it is asked for again after a
//! while, for as long as a client that lacks it is there; nothing else has to happen
//! in the room. What the homeserver refuses is not asked for again by the clock.

use std::sync::Arc;

use super::{
    Effects, Shard,
    event::{Effect, FetchOrder, FetchOutcome, Token},
    request::Place,
};
use crate::{
    connection::{Answer, Want},
    id::UserNumber,
};

/// Something that is fetched, or that failed lately.
#[derive(Debug)]
pub(super) struct Fetching {
    /// Until when it is not asked for again.
    until_ms: u64,
    in_flight: bool,
    /// How it failed last, and how often in a row.
    failed: Option<(FetchOutcome, u32)>,
    /// What is fetched afterwards, where more of the same came to be wanted.
    next: Option<Box<FetchOrder>>,
}

/// Why something is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// There is news of what it is a part of.
    News,
    /// Somebody lacks it still.
    Lack,
}

impl Shard {
    /// How long a request waits for something that is being fetched.
    pub(super) fn patience_for(&self, want: &Want) -> u64 {
        let in_flight = self.fetching.get(&want.key()).is_some_and(|fetch| fetch.in_flight);
        match want {
            _ if !in_flight => 0,
            Want::Members(_) => self.limits.members_patience_ms,
            // Without it a client would have a hole that it cannot see.
            Want::PrevBatch(..) => self.limits.prev_batch_patience_ms,
            Want::Member(..) | Want::State(_) | Want::History(_) | Want::JoinedRooms(_) => 0,
        }
    }

    /// Has what an answer lacks fetched.
    pub(super) fn fetch_all(
        &mut self,
        place: &Place,
        token: &Token,
        answer: &Answer,
        out: &mut Effects,
    ) {
        for want in answer.wants.iter().chain(&answer.unawaited) {
            self.fetch(place, token, want, Cause::News, out);
        }
        for want in &answer.lacking {
            self.fetch(place, token, want, Cause::Lack, out);
        }
    }

    /// Has something fetched, unless it is on its way or failed a moment ago.
    fn fetch(
        &mut self,
        place: &Place,
        token: &Token,
        want: &Want,
        cause: Cause,
        out: &mut Effects,
    ) {
        let key = want.key();
        let Some(room) = want.room().and_then(|room| self.world.room(room)) else { return };
        let order = FetchOrder {
            want: want.clone(),
            room_id: Arc::clone(&room.id),
            token: token.clone(),
            user: place.user,
            knew: self.world.sequence,
            was_too_large: false,
        };
        let now_ms = self.now_ms;
        let is_over = |it: &Fetching| it.until_ms <= now_ms;
        let busy = self.fetching.get_mut(&key);
        let busy = busy.filter(|it| !is_over(it) || (cause == Cause::Lack && it.is_refused()));
        if let Some(busy) = busy {
            // What is on its way may be less than what is wanted now.
            let is_more = busy.in_flight && matches!(want, Want::History(_));
            busy.next = is_more.then(|| Box::new(order)).or(busy.next.take());
        } else if self.fetching.len() < self.limits.fetches_max {
            self.order_fetch(order, out);
        }
    }

    pub(super) fn order_fetch(&mut self, mut order: FetchOrder, out: &mut Effects) {
        let key = order.want.key();
        let failed = self.fetching.get(&key).and_then(|before| before.failed);
        order.was_too_large = matches!(failed, Some((FetchOutcome::TooLarge, _)));
        let until_ms = self.now_ms + self.limits.refetch_after_ms;
        let fetching = Fetching { until_ms, in_flight: true, failed, next: None };
        self.fetching.insert(key, fetching);
        out.push(Effect::Fetch(order));
    }

    /// Has a held request of the user looked at again when something that it lacks may
    /// be asked for again, or has come.
    pub(super) fn look_again(&mut self, user: UserNumber, lacking: &[Want]) {
        let known = || lacking.iter().map(|want| self.fetching.get(&want.key()));
        let is_in_flight = |it: Option<&Fetching>| it.is_some_and(|it| it.in_flight);
        // What is refused, or has no place, may be wanted or have one by then.
        let later_ms = self.now_ms + self.limits.refetch_after_ms;
        let due = known().filter(|it| !is_in_flight(*it)).map(|it| {
            it.map(|it| it.until_ms).filter(|until_ms| *until_ms > self.now_ms).unwrap_or(later_ms)
        });
        let due = due.min();
        if known().any(is_in_flight) {
            self.awaiting_fetch.insert(user);
        }
        self.looks.extend(due.map(|due_ms| (due_ms, user)));
    }

    /// Has those looked at again whose time has come.
    pub(super) fn look_again_due(&mut self) {
        while let Some((due_ms, user)) = self.looks.first().copied() {
            if due_ms > self.now_ms {
                break;
            }
            self.looks.pop_first();
            self.dirty.insert(user);
        }
    }

    /// Something was fetched, or could not be.
    pub(super) fn on_fetched(&mut self, want: &Want, outcome: FetchOutcome, out: &mut Effects) {
        self.dirty.append(&mut self.awaiting_fetch);
        if let Want::JoinedRooms(user) = want {
            return self.on_rooms_checked(*user);
        }
        let fetched = self.fetching.remove(&want.key());
        if outcome == FetchOutcome::Done {
            if let Some(next) = fetched.and_then(|it| it.next).filter(|_| !self.stopping) {
                self.order_fetch(*next, out);
            }
        } else {
            let before = fetched.and_then(|it| it.failed);
            let failing = Fetching::failed(want, outcome, before, self.now_ms, &self.limits);
            self.fetching.insert(want.key(), failing);
        }
        if let Want::State(room) = want {
            self.on_repaired(*room);
        }
    }

    /// Until when something that could not be had is not asked for again; 0 where
    /// that was never so.
    pub(super) fn failed_until_ms(&self, want: &Want) -> u64 {
        let known = self.fetching.get(&want.key()).filter(|it| !it.in_flight);
        known.map_or(0, |it| it.until_ms)
    }

    /// Forgets what failed long ago, unless somebody may still lack it.
    pub(super) fn forget_fetches(&mut self) {
        let (now_ms, users) = (self.now_ms, &self.room_users);
        let mut kept = self.limits.fetches_max / 2;
        self.fetching.retain(|want, it| {
            let may_lack = || want.room().is_some_and(|room| users.contains_key(&room));
            let is_kept = kept > 0 && it.failed.is_some() && may_lack();
            if it.until_ms > now_ms {
                return true;
            }
            kept -= usize::from(is_kept);
            is_kept
        });
    }
}

impl Fetching {
    /// Something that could not be had, `before` which it failed so often.
    fn failed(
        want: &Want,
        outcome: FetchOutcome,
        before: Option<(FetchOutcome, u32)>,
        now_ms: u64,
        limits: &super::ShardLimits,
    ) -> Self {
        let times = before.filter(|(last, _)| *last == outcome).map_or(0, |(_, times)| times);
        let (wait_ms, doublings_max) = match (outcome, want) {
            (FetchOutcome::TooLarge, _) => (limits.too_large_after_ms, TOO_LARGE_DOUBLINGS_MAX),
            (_, Want::Members(_) | Want::State(_)) => (limits.refetch_after_ms, DOUBLINGS_MAX),
            _ => (limits.refetch_after_ms, 0),
        };
        let until_ms = now_ms.saturating_add(wait_ms << times.min(doublings_max));
        let failed = Some((outcome, times.saturating_add(1)));
        Self { until_ms, in_flight: false, failed, next: None }
    }

    fn is_refused(&self) -> bool {
        matches!(self.failed, Some((FetchOutcome::Refused, _)))
    }
}

/// How often the wait after a failure doubles.
const DOUBLINGS_MAX: u32 = 6;

/// The same where the answer was too large: up to eight days.
const TOO_LARGE_DOUBLINGS_MAX: u32 = 5;
