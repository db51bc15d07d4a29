//! Where a stay ended: how far its user may see the room's timeline, and which
//! of their last events it lacks.
//!
//! Several pollers tell of a room, and whoever tells first that somebody has
//! left may know less of their last events than their own poller does. What it
//! alone was given is kept apart from the room's timeline, for them.

use super::{
    fold::Fold,
    polled::Poll,
    state::previous_membership,
    summary::content,
    timeline::{LOOKED_AT_MAX, record},
    user_room::{NOTHING, OwnPoll, ended, is_over},
};
use crate::{
    id::{RoomNumber, UserNumber},
    record::{EventRecord, Membership, Place, UserRoomRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, SyncEvent},
    view::Table,
    world::Room,
};

/// Events of an ended stay that are kept for its user beside the timeline: the
/// newest of what one answer gave.
const ENDING_MAX: usize = 100;

/// What a user is left with.
pub(super) struct Ending {
    /// The last number of the timeline that leads up to `event_ids`, or to the
    /// end itself; `None` where there is none.
    pub(super) leads_to: Option<u64>,
    /// The last events, where the timeline lacks some of them.
    pub(super) event_ids: Vec<String>,
}

impl Fold<'_> {
    /// The last number that somebody may see whose stay was ended by the event at
    /// `place`, sent at `sent_ms`.
    ///
    /// What the timeline does not have lies in one of its gaps, or behind it.
    /// Which one only clocks can tell: in front of the first event that was sent
    /// later. Clocks differ, so that a single event proves nothing: the search
    /// ends in a stretch without a gap in which nothing was sent later.
    pub(super) fn end_of_stay(&self, room: &Room, place: Place, sent_ms: u64) -> u64 {
        if place.timeline {
            return place.sequence;
        }
        let timeline = |sequence| key::event(room.number, Place { timeline: true, sequence });
        let (mut end, mut looked_at, mut has_later) = (0, 0, false);
        let to = timeline(place.sequence.saturating_add(1));
        self.scan_back(Table::Events, &timeline(0), &to, &mut |key, archive| {
            let Some(event) = EventRecord::access(archive) else { return true };
            if event.origin_server_ts > sent_ms {
                (end, has_later) = (0, true);
            } else if end == 0 {
                end = key::sequence_of(key).unwrap_or(0);
            }
            let is_over = event.gap_before && !std::mem::replace(&mut has_later, false);
            looked_at += 1;
            if looked_at >= LOOKED_AT_MAX {
                end = 0;
            }
            !is_over && looked_at < LOOKED_AT_MAX
        });
        end
    }

    /// What the answer that tells a user of their end leaves them with, by its
    /// whole timeline. What of that the room's timeline up to `until` does
    /// not have, or not in this place, is kept for them.
    pub(super) fn ending(
        &mut self,
        poll: Poll,
        room: &Room,
        batch: &RoomBatch,
        until: u64,
    ) -> Ending {
        let told = &batch.timeline;
        let run = self.run(room.number, told, until);
        let leads_to = run.last().copied();
        if run.len() == told.len() {
            return Ending { leads_to, event_ids: Vec::new() };
        }
        let begin = run.len().saturating_sub(1).max(told.len().saturating_sub(ENDING_MAX));
        for (index, event) in told.iter().enumerate().skip(begin) {
            let prev_batch = batch.prev_batch.as_ref().filter(|_| index == 0);
            let place = self.keep_apart(room.number, event, prev_batch);
            self.note_own_event(poll, room.number, event, Some((place, true)));
        }
        let event_ids = told[begin..].iter().map(|event| event.event_id.clone()).collect();
        Ending { leads_to, event_ids }
    }

    /// Ends the stays of which `to` is told the end by events that may be old, the
    /// oldest first, and that did not end them by becoming part of the timeline
    /// or the state. Such news is older than a stay whose member event was sent
    /// later, or just then.
    pub(super) fn old_ends(&mut self, to: UserNumber, room: &Room, told: &[&SyncEvent]) {
        let events = || told.iter().copied();
        for (index, event) in events().enumerate() {
            let Some(before) = self.joined_other(to, room, event) else { continue };
            let content = content(&event.json);
            let membership = content.text("membership");
            let place = |it: &SyncEvent| self.place(room.number, &it.event_id);
            let mut later = events().skip(index + 1);
            let is_begun =
                |it: &SyncEvent| before.own_event.is_some_and(|own| place(it) == Some(own));
            let has_come_back = later.any(is_begun);
            let own = before.own_event.filter(|own| self.event(room.number, *own).is_some());
            let is_old = own.is_none_or(|own| !self.is_newer(room, event, own));
            if has_come_back || is_old || place(event).is_some_and(|place| place.timeline) {
                continue;
            }
            let place = self.keep_apart(room.number, event, None);
            self.member_changed(room, (event, place), membership, (u64::MAX, None));
        }
    }

    /// What is known of whose member event it is, where that is not who is told,
    /// and joined as far as is known.
    fn joined_other(
        &self,
        to: UserNumber,
        room: &Room,
        event: &SyncEvent,
    ) -> Option<UserRoomRecord> {
        let user_id = event.state_key.as_deref().filter(|_| event.kind == MEMBER)?;
        let user = self.ledger.world.user_numbers.get(user_id).filter(|user| **user != to)?;
        let of_user = self.user_room(*user, room)?;
        (of_user.membership == Membership::Join).then_some(of_user)
    }

    /// Takes in that somebody has a new member event, whoever's poller told it: a
    /// local user who is out is out at once, and who is asked in again, or has come
    /// in again, was out before. Up to `knew` the homeserver knew everything: all there is
    /// where it is newer than the stay for certain. `ends_before` is the number that the
    /// event stands before, where its own does not say so.
    pub(super) fn member_changed(
        &mut self,
        room: &Room,
        (event, place): (&SyncEvent, Place),
        membership: Option<&str>,
        (knew, ends_before): (u64, Option<u64>),
    ) {
        let Some(user_id) = event.state_key.as_deref() else { return };
        let Some(user) = self.ledger.world.user_numbers.get(user_id).copied() else { return };
        let Some(before) = self.user_room(user, room).filter(|it| !is_over(it.membership)) else {
            return;
        };
        let joined = before.membership == Membership::Join;
        let was_out = previous_membership(&event.json).is_some_and(|was| was != "join");
        let is_end = matches!(membership, Some("leave" | "ban"));
        let is_again = match membership {
            Some("invite" | "knock") => joined,
            Some("join") => joined && was_out && self.is_behind(room, &before, place),
            _ => false,
        };
        if !is_end && !is_again {
            return;
        }
        // They have come back since, as their own poller has told; if not, it
        // will tell.
        let own = before.own_event.filter(|_| joined);
        let own = own.filter(|own| self.event(room.number, *own).is_some());
        let order = own.and_then(|own| self.order(room, event, own)).unwrap_or_else(|| {
            let since_ms = own.map_or(before.since_ms, |own| self.sent_ms(room, own));
            event.origin_server_ts.cmp(&since_ms)
        });
        let is_sure = knew == u64::MAX;
        let is_old = before.since > knew && order.is_lt();
        if is_old || (is_again && !is_sure && order.is_le()) {
            return;
        }
        // Who was out before is so since a moment that nobody has told of.
        let is_known = is_end && !(joined && was_out);
        // Until their own poller tells more, what is known of their last events
        // is the end itself.
        let sure_end = self.sure_end(room, user, &before);
        // Behind a gap the end is theirs, and what else lies there may not be.
        let is_beyond = joined && place.timeline && sure_end < place.sequence;
        let lacks_end =
            is_known && joined && (!place.timeline || ends_before.is_some() || is_beyond);
        let since = match ends_before {
            _ if !is_known => sure_end,
            Some(number) => number.saturating_sub(1).min(sure_end),
            None if is_beyond => sure_end,
            None if place.timeline || !joined => {
                self.end_of_stay(room, place, event.origin_server_ts)
            }
            None => {
                let end = self.end_of_stay(room, place, event.origin_server_ts);
                end.min(sure_end)
            }
        };
        let how = || ended(&event.json, &event.sender, user_id);
        // An invite or a knock shows nothing of the timeline, and its end none either.
        debug_assert!(joined || [before.visible_from, before.history_from] == [NOTHING; 2]);
        let after = UserRoomRecord {
            membership: if is_end { how() } else { Membership::Leave },
            since,
            since_ms: self.now_ms,
            own_event: is_end.then_some(place),
            notification_count: 0,
            highlight_count: 0,
            vouched: if joined { self.certain(user, &before) } else { before.vouched },
            stripped: Vec::new(),
            ending: lacks_end.then(|| event.event_id.clone()).into_iter().collect(),
            ..before.clone()
        };
        self.set_user_room(user, room, Some(&before), after);
    }

    /// Whether a join came behind the one that a stay is known to have begun with.
    /// Where that is not known, only what came later than the stay did.
    fn is_behind(&self, room: &Room, stay: &UserRoomRecord, place: Place) -> bool {
        let own = stay.own_event.and_then(|place| self.event(room.number, place));
        let is_join = |event: EventRecord| content(&event.json).text("membership") == Some("join");
        own.is_some_and(is_join) || (place.timeline && place.sequence > stay.since)
    }

    /// Up to where the homeserver had a user in a room for certain, who is joined: what was
    /// known then is theirs. 0 where it has not said.
    pub(super) fn certain(&self, user: UserNumber, stay: &UserRoomRecord) -> u64 {
        let told = [stay.vouched, self.followed(user)].into_iter();
        told.filter(|number| *number >= stay.since).max().unwrap_or(0)
    }

    /// The last number up to which a stay went on for certain: behind the next gap
    /// its user may have been out and in again.
    pub(super) fn sure_end(&self, room: &Room, user: UserNumber, stay: &UserRoomRecord) -> u64 {
        let was_there = Some(stay.visible_from).filter(|from| *from != NOTHING);
        let followed = self.ledger.followed.get(&user).copied();
        let followed = followed.filter(|number| was_there.is_some_and(|from| *number >= from));
        let joined = stay.own_event.filter(|place| place.timeline && !is_over(stay.membership));
        let joined = joined.map(|place| place.sequence);
        let vouched = Some(stay.vouched).filter(|number| *number >= stay.since);
        let from = [was_there, followed, joined, vouched].into_iter().flatten().max().unwrap_or(0);
        let timeline = |sequence| key::event(room.number, Place { timeline: true, sequence });
        let range = (timeline(from.saturating_add(1)), timeline(u64::MAX));
        let (mut last, mut looked_at) = (from, 0);
        self.scan_on(Table::Events, &range.0, &range.1, &mut |key, archive| {
            looked_at += 1;
            let goes_on = EventRecord::access(archive).is_none_or(|event| !event.gap_before);
            last = key::sequence_of(key).filter(|_| goes_on).unwrap_or(last);
            goes_on && looked_at < LOOKED_AT_MAX
        });
        last
    }

    /// What is known of a stay that others have told the end of, now that its user's
    /// own poller tells of an end: at `place`, after a membership of `was`.
    pub(super) fn own_end(
        &mut self,
        own: &OwnPoll<'_>,
        before: &UserRoomRecord,
        (membership, place): (Membership, Option<Place>),
        was: Option<&str>,
    ) -> UserRoomRecord {
        let own_event = place.or(before.own_event);
        let is_found = before.own_event.is_none();
        let was_there = before.visible_from != NOTHING;
        let is_same = was_there && (is_found || own_event == before.own_event);
        let was_joined = was.map_or(is_same, |was| was == "join");
        let known = UserRoomRecord { membership, own_event, ..before.clone() };
        let is_told = was_joined && own.told.timeline.last().is_some_and(|event| own.is_own(event));
        let sure_end = self.sure_end(own.room, own.poll.user, before).min(before.since);
        // It may be another stay than the known one, where it does not go on from
        // what that had for certain.
        let begun_at = |first| UserRoomRecord {
            visible_from: if first > sure_end { first } else { before.visible_from.min(first) },
            history_from: if first > sure_end { NOTHING } else { before.history_from },
            ..known.clone()
        };
        // Clients know an end that they were told of by its number.
        let is_known = !is_found && own_event == before.own_event;
        let run = self.whole_run(own.room.number, &own.told.timeline);
        let run = run.filter(|(_, last)| is_told && (!is_known || *last == before.since));
        if let Some((first, last)) = run {
            return UserRoomRecord { since: last, ending: Vec::new(), ..begun_at(first) };
        }
        // Of an end that was found without its event, the event tells more: not
        // where the user was out and asked in again before it.
        let late = place.filter(|_| is_found && was_joined);
        let since = late.map_or(before.since, |place| {
            let end = self.end_of_stay(own.room, place, self.sent_ms(own.room, place));
            end.min(before.since)
        });
        // A stay of which nothing was told came behind all that its user was told.
        let is_untold = was_joined && !was_there;
        let since = if is_untold { since.min(self.followed_before(own.poll)) } else { since };
        if !is_told || before.ending.len() > 1 {
            return UserRoomRecord { since, ..known };
        }
        let run = self.run(own.room.number, &own.told.timeline, since);
        let ending = self.ending(own.poll, own.room, own.told, since).event_ids;
        let begun = run.first().map_or_else(|| known.clone(), |first| begun_at(*first));
        let ending = if ending.is_empty() { before.ending.clone() } else { ending };
        UserRoomRecord { since, ending, ..begun }
    }

    /// The first and the last number of `told`, where the timeline has all of it in
    /// this order, and nothing else and no gap between.
    fn whole_run(&self, room: RoomNumber, told: &[SyncEvent]) -> Option<(u64, u64)> {
        let run = self.run(room, told, u64::MAX);
        let (first, last) = (*run.first()?, *run.last()?);
        let timeline = |sequence| key::event(room, Place { timeline: true, sequence });
        let mut count = 0;
        let to = timeline(last.saturating_add(1));
        self.scan_on(Table::Events, &timeline(first), &to, &mut |_, _| {
            count += 1;
            count <= told.len()
        });
        (run.len() == told.len() && count == told.len()).then_some((first, last))
    }

    /// The numbers of the first events of `told`, as far as they lie in the
    /// timeline up to `until` in this order and without a gap.
    fn run(&self, room: RoomNumber, told: &[SyncEvent], until: u64) -> Vec<u64> {
        let mut run: Vec<u64> = Vec::new();
        for event in told {
            let place = self.place(room, &event.event_id);
            let is_there = |place: &Place| place.timeline && place.sequence <= until;
            let Some(place) = place.filter(is_there) else { break };
            if run.last().is_some_and(|last| !self.leads_to(room, *last, place.sequence)) {
                break;
            }
            run.push(place.sequence);
        }
        run
    }

    /// Whether the timeline goes on from one number to another without a gap.
    fn leads_to(&self, room: RoomNumber, from: u64, to: u64) -> bool {
        let timeline = |sequence| key::event(room, Place { timeline: true, sequence });
        let (mut gap, mut looked_at) = (to <= from, 0);
        let range = (timeline(from.saturating_add(1)), timeline(to.saturating_add(1)));
        self.scan_back(Table::Events, &range.0, &range.1, &mut |_, archive| {
            looked_at += 1;
            gap |= looked_at > LOOKED_AT_MAX
                || EventRecord::access(archive).is_some_and(|event| event.gap_before);
            !gap
        });
        !gap
    }

    /// Keeps an event beside the timeline, where it has it not.
    fn keep_apart(
        &mut self,
        room: RoomNumber,
        event: &SyncEvent,
        prev_batch: Option<&String>,
    ) -> Place {
        let known = self.place(room, &event.event_id);
        if let Some(place) = known.filter(|place| place.timeline || prev_batch.is_none()) {
            return place;
        }
        let place = known.unwrap_or_else(|| Place { timeline: false, sequence: self.next().0 });
        let record = record(event, self.now_ms, false, prev_batch.cloned());
        self.put(Table::Events, key::event(room, place), record.encode());
        let id = key::event_id(room, &event.event_id);
        self.put(Table::EventIds, id, &*key::place_bytes(place));
        place
    }
}
