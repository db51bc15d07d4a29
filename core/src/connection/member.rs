//! A room that the user is in.

use std::sync::Arc;

use super::{
    answer::{HistoryWant, Outcome, RoomTurn, Want},
    removed, required,
    state::{SentRoom, digest, digest_heroes},
};
use crate::{
    gate::{Stretch, TimelineEvent},
    id::Sequence,
    json::with_transaction_id,
    ledger::HISTORY_MAX,
    name,
    record::key,
    response::{Mention, Objects, Room, Timeline},
    view::Table,
    world::Hero,
};

/// What there is to say of a room to a member; `None` where the client holds
/// it all.
pub(super) fn outcome(turn: RoomTurn<'_>) -> Option<Outcome> {
    if holds_all(turn) {
        return None;
    }
    let before = held_before(turn);
    let expanded = before.is_some_and(|sent| is_expanded(turn, sent));
    let dialect = turn.asked.request.dialect;
    let more_state = before.is_some_and(|sent| {
        !Arc::ptr_eq(&sent.config, turn.config)
            && !sent.config.required_state.covers(&turn.config.required_state)
    });
    let mut timeline = timeline(turn, before, expanded);
    let mut wants = std::mem::take(&mut timeline.wants);
    let of_state = before.filter(|_| !(more_state && dialect.sends_anew_for_more()));
    let required = required::state(turn, of_state, &timeline, &mut wants);
    let members = Want::Members(turn.gate.room_number());
    let unawaited = required.lacks_members.then_some(members).into_iter().collect();
    let (mut sent, mut entry) = summary(turn, before, required.held);
    if let Some(held) = timeline.held_back {
        let told_to = before.map_or(held.told_to, |before| held.told_to.max(before.cursor));
        sent.cursor = sent.cursor.min(told_to);
    }
    sent.short_from = timeline.short_from;
    entry.required_state = required.events;
    entry.timeline = timeline.answer;
    entry.initial |= dialect.sends_anew_for_more() && (expanded || more_state);
    let says_something = before.is_none()
        || expanded
        || entry.timeline.as_ref().is_some_and(|timeline| !timeline.events.is_empty())
        || !entry.required_state.is_empty()
        || entry.joined_count.is_some()
        || entry.heroes.is_some()
        || entry.name != Mention::Silent
        || entry.avatar != Mention::Silent
        || (entry.is_dm_changed && dialect.tells_of_direct_chats())
        || (dialect.tells_of_unread() && before.is_some_and(|it| it.unread != sent.unread));
    Some(Outcome {
        entry: says_something.then_some(entry),
        sent,
        event_ids: timeline.event_ids,
        wants,
        unawaited,
        again_ms: timeline.held_back.map(|held| held.until_ms),
    })
}

/// Whether the client holds all that there is to say.
pub(super) fn holds_all(turn: RoomTurn<'_>) -> bool {
    held_before(turn).is_some_and(|sent| is_current(turn, sent))
}

/// What the client holds of this stay, unless it is to begin anew.
fn held_before(turn: RoomTurn<'_>) -> Option<&SentRoom> {
    turn.of_this_stay().filter(|sent| !removed::begins_anew(turn, sent))
}

/// Whether more of the timeline is asked for than before, or there is more of it.
fn is_expanded(turn: RoomTurn<'_>, sent: &SentRoom) -> bool {
    let asks_for_more = !Arc::ptr_eq(&sent.config, turn.config)
        && turn.config.timeline_limit > sent.config.timeline_limit;
    asks_for_more || history_came(turn, sent)
}

/// Whether nothing has changed that an entry could say.
fn is_current(turn: RoomTurn<'_>, sent: &SentRoom) -> bool {
    let dialect = turn.asked.request.dialect;
    let is_dm_told = !dialect.tells_of_direct_chats() || turn.is_dm() == sent.is_dm;
    let is_unread_told = !dialect.tells_of_unread() || turn.gate.of_user().unread == sent.unread;
    turn.gate.entry_changed() <= sent.cursor
        && is_dm_told
        && is_unread_told
        && (Arc::ptr_eq(&sent.config, turn.config) || *sent.config == **turn.config)
        && !sent.missing_members.iter().any(|it| turn.gate.state(required::MEMBER, it).is_some())
}

/// Whether there is now more of what the client asked for in vain.
fn history_came(turn: RoomTurn<'_>, sent: &SentRoom) -> bool {
    // The number is looked at first: it costs nothing.
    turn.gate.history_from() < sent.short_from && {
        let all = (Sequence::default(), Sequence(u64::MAX));
        let stretch = turn.gate.timeline(all.0, all.1, turn.config.timeline_limit);
        stretch.events.first().is_some_and(|first| first.sequence < sent.short_from)
    }
}

/// Events that are held back.
#[derive(Clone, Copy)]
pub(super) struct HeldBack {
    /// The first of them.
    first: Sequence,
    /// Everything up to here is told all the same: what comes in front of a gap
    /// later is not.
    told_to: Sequence,
    /// Until when at the latest, unix milliseconds.
    until_ms: u64,
}

/// A timeline on its way.
#[derive(Default)]
pub(super) struct TimelineTurn {
    pub(super) answer: Option<Timeline>,
    /// Senders, and those whose membership changed.
    pub(super) people: Vec<String>,
    pub(super) event_ids: Vec<String>,
    pub(super) wants: Vec<Want>,
    /// What is held back.
    pub(super) held_back: Option<HeldBack>,
    /// As [`SentRoom::short_from`].
    pub(super) short_from: u64,
}

impl TimelineTurn {
    /// Whether something is missing before the events.
    pub(super) fn is_limited(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.limited)
    }
}

/// The events that the client lacks, or all that it asks for where the room is
/// new to it or it asks for more than before.
pub(super) fn timeline(
    turn: RoomTurn<'_>,
    before: Option<&SentRoom>,
    expanded: bool,
) -> TimelineTurn {
    let limit = turn.config.timeline_limit;
    if limit == 0 {
        return TimelineTurn::default();
    }
    let anew = expanded || before.is_none();
    let after = before.filter(|_| !anew).map_or(Sequence::default(), |sent| sent.cursor);
    // What is no news to the client was shown to it, or is history.
    let news_after = before.map_or(turn.live_after(), |sent| sent.cursor);
    let mut held_back = None;
    let mut stretch = loop {
        let until =
            held_back.map_or(Sequence(u64::MAX), |held: HeldBack| before_number(held.first));
        let stretch = turn.gate.timeline(after, until, limit);
        match own_news(turn, &stretch, news_after) {
            Some(held) => held_back = Some(held),
            None => break stretch,
        }
    };
    if !anew {
        leave_history_out(&mut stretch);
    }
    let mut timeline = TimelineTurn { held_back, ..TimelineTurn::default() };
    let oldest = match before.filter(|_| !anew) {
        None => stretch.events.first().cloned(),
        // It is still wanted where it could not be had.
        Some(sent) if !stretch.more_before => turn.gate.timeline_event(sent.short_from),
        Some(_) => None,
    };
    note_shortness(turn, oldest.as_ref(), stretch.events.len(), &mut timeline);
    let mut answer = Timeline { expanded, ..Timeline::default() };
    let first = stretch.events.first();
    answer.limited = if anew {
        first.is_none_or(|first| stretch.more_before || !turn.gate.begins_with(first))
    } else {
        stretch.more_before
    };
    answer.prev_batch = prev_batch(&stretch);
    // A single event is a preview: whoever opens the room asks for more, and the
    // homeserver is not asked about each room of a long list.
    let is_preview = limit == 1;
    if let (None, true, Some(first)) = (&answer.prev_batch, answer.limited && !is_preview, first) {
        let event_id = first.record.event_id.clone();
        timeline.wants.push(Want::PrevBatch(turn.gate.room_number(), first.sequence, event_id));
    }
    for event in stretch.events {
        answer.num_live += u64::from(event.is_after(turn.live_after()));
        push_event(turn, &mut answer.events, &event);
        timeline.people.push(event.record.sender);
        if event.record.kind == required::MEMBER {
            timeline.people.extend(event.record.state_key);
        }
        timeline.event_ids.push(event.record.event_id);
    }
    timeline.answer = Some(answer);
    timeline
}

/// Leaves out of news what was put in front of them since.
fn leave_history_out(stretch: &mut Stretch) {
    if let Some(last) = stretch.events.iter().rposition(|event| event.record.history) {
        stretch.events.drain(..=last);
        stretch.more_before = true;
    }
}

/// Notes that the client asks for more than there is from `first` on, of which
/// `count` events are told, and wants it fetched where the homeserver may have
/// it. A single event is a preview.
fn note_shortness(
    turn: RoomTurn<'_>,
    first: Option<&TimelineEvent>,
    count: usize,
    timeline: &mut TimelineTurn,
) {
    let limit = turn.config.timeline_limit;
    let Some(first) = first else { return };
    let lacking = limit.saturating_sub(count as u64);
    let is_preview = limit == 1;
    if lacking == 0 || is_preview || !turn.gate.is_joined() || turn.gate.ends_history(first) {
        return;
    }
    timeline.short_from = first.sequence;
    timeline.wants.push(Want::History(HistoryWant {
        room: turn.gate.room_number(),
        user: turn.asked.source.user.number,
        before: first.sequence,
        event_id: first.record.event_id.clone(),
        prev_batch: first.record.prev_batch.clone(),
        limit: lacking,
    }));
}

/// The first fresh event of the user's own behind `news_after` that the device's
/// poller has yet to report, and until when it is waited for: what is told ends
/// before it. That poller alone knows the transaction id, without which a client
/// shows its message twice.
fn own_news(turn: RoomTurn<'_>, stretch: &Stretch, news_after: Sequence) -> Option<HeldBack> {
    let wait_ms = turn.asked.transaction_id_wait_ms;
    // Of a room that was left nothing more is told that could bring it later.
    if wait_ms == 0 || !turn.gate.is_joined() {
        return None;
    }
    let room = turn.gate.room_number();
    let user_id = &*turn.asked.source.user.id;
    let until = |event: &TimelineEvent| event.record.first_seen_ms.saturating_add(wait_ms);
    let at = stretch.events.iter().position(|event| {
        let key = key::transaction_id(turn.asked.device, room, event.sequence);
        event.is_after(news_after)
            && event.record.sender == user_id
            && until(event) > turn.asked.now_ms
            && turn.asked.source.view.get(Table::TransactionIds, &key).is_none()
    })?;
    let held = &stretch.events[at];
    let begins = held.record.gap_before || turn.gate.follows_history(held.sequence);
    let first = Sequence(held.sequence);
    let numbers_in_front = if begins { HISTORY_MAX } else { 0 };
    let told_to = Sequence(before_number(first).0.saturating_sub(numbers_in_front));
    Some(HeldBack { first, told_to, until_ms: until(held) })
}

fn before_number(number: Sequence) -> Sequence {
    Sequence(number.0.saturating_sub(1))
}

/// The token for paging back from before the first event, else from before the
/// nearest newer one: that overlaps, where an older one would leave a hole.
fn prev_batch(stretch: &Stretch) -> Option<String> {
    stretch.events.iter().find_map(|event| event.record.prev_batch.clone())
}

fn push_event(turn: RoomTurn<'_>, events: &mut Objects, event: &TimelineEvent) {
    // Only who has sent an event can have given it one.
    let is_own = event.record.sender == *turn.asked.source.user.id;
    let transaction_id = is_own.then(|| {
        let room = turn.gate.room_number();
        let key = key::transaction_id(turn.asked.device, room, event.sequence);
        turn.asked.source.view.get(Table::TransactionIds, &key)
    });
    let transaction_id = transaction_id.flatten();
    let transaction_id = transaction_id.and_then(|bytes| std::str::from_utf8(bytes).ok());
    match transaction_id.filter(|transaction_id| !transaction_id.is_empty()) {
        Some(transaction_id) => {
            events.push(&with_transaction_id(&event.record.json, transaction_id));
        }
        None => events.push(&event.record.json),
    }
}

/// The facts about the room itself, as far as the client lacks them, and what
/// it holds then.
pub(super) fn summary(
    turn: RoomTurn<'_>,
    before: Option<&SentRoom>,
    held: required::Held,
) -> (SentRoom, Room) {
    let gate = turn.gate;
    let of_user = gate.of_user();
    let Named { name, avatar, heroes } = named(turn);
    let sent = SentRoom {
        cursor: turn.asked.source.world.sequence,
        membership: of_user.membership,
        since: of_user.since,
        config: Arc::clone(turn.config),
        name: digest(name.as_deref()),
        avatar: digest(avatar.as_deref()),
        heroes: digest_heroes(&heroes),
        counts: gate.counts(),
        bump_stamp: gate.bump_stamp(),
        unread: of_user.unread,
        short_from: 0,
        is_dm: turn.is_dm(),
        lazy_members: held.members,
        missing_members: held.missing,
    };
    let is_new = |of: fn(&SentRoom) -> u64| before.is_none_or(|before| of(before) != of(&sent));
    let says_none = turn.asked.request.dialect.names_rooms() && before.is_none();
    let mention = |value: Option<Arc<str>>, of: fn(&SentRoom) -> u64| match value {
        Some(value) if is_new(of) => Mention::Set(value),
        None if says_none => Mention::Removed,
        None if gate.is_joined() && before.is_some_and(|it| of(it) != 0) => Mention::Removed,
        _ => Mention::Silent,
    };
    let counts = gate.counts().filter(|_| before.is_none_or(|it| it.counts != sent.counts));
    let entry = Room {
        room_id: Arc::clone(gate.room_id()),
        initial: before.is_none(),
        name: mention(name, |sent| sent.name),
        avatar: mention(avatar, |sent| sent.avatar),
        is_dm: sent.is_dm,
        is_dm_changed: before.is_some_and(|before| before.is_dm != sent.is_dm),
        membership: Some(of_user.membership),
        joined_count: counts.map(|(joined, _)| joined),
        invited_count: counts.map(|(_, invited)| invited),
        bump_stamp: is_new(|sent| sent.bump_stamp).then_some(sent.bump_stamp),
        heroes: is_new(|sent| sent.heroes).then_some(heroes).filter(|heroes| !heroes.is_empty()),
        unread: gate.is_joined().then_some(of_user.unread),
        ..Room::default()
    };
    (sent, entry)
}

/// What a client knows a room by.
pub(super) struct Named {
    pub(super) name: Option<Arc<str>>,
    pub(super) avatar: Option<Arc<str>>,
    pub(super) heroes: Vec<Hero>,
}

/// The name and avatar that somebody gave the room, and whom it is named after
/// else; or, where the server names rooms, what comes of all that.
pub(super) fn named(turn: RoomTurn<'_>) -> Named {
    let gate = turn.gate;
    let dialect = turn.asked.request.dialect;
    if !dialect.names_rooms() {
        return Named {
            name: gate.name().cloned(),
            avatar: gate.avatar().cloned(),
            heroes: gate.heroes(),
        };
    }
    let name = name::of(gate);
    let mut heroes = gate.named_by();
    let given = gate.avatar().cloned().or_else(|| gate.stripped_avatar().map(Arc::from));
    let partner = heroes.first().filter(|_| turn.is_dm() && heroes.len() == 1);
    let avatar = given.or_else(|| partner.and_then(|hero| hero.avatar_url.clone()));
    if !name.is_made_up || (dialect.asks_for_heroes() && !turn.config.include_heroes) {
        heroes.clear();
    }
    Named { name: Some(name.text.into()), avatar, heroes }
}
