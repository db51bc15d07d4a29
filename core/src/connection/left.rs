//! A room that the user is not in: invited, knocking, left, kicked, banned.

use std::sync::Arc;

use imbl::OrdSet;

use super::{
    answer::{Outcome, RoomTurn},
    member, removed, required,
    state::SentRoom,
};
use crate::{
    list::unread,
    record::Membership,
    response::{Mention, Objects, Room},
    user::UserRoom,
};

/// An invite or a knock: its stripped state, once.
pub(super) fn stripped_outcome(turn: RoomTurn<'_>) -> Option<Outcome> {
    if turn.of_this_stay().is_some() {
        return None;
    }
    let events = turn.gate.stripped();
    // The tables may know already that the invite is over, and the next world
    // says so.
    if events.is_empty() {
        return None;
    }
    let mut stripped = Objects::default();
    events.iter().for_each(|event| stripped.push(event));
    let sent = SentRoom { counts: None, ..bare(turn) };
    let mut entry = Room {
        room_id: Arc::clone(turn.gate.room_id()),
        initial: true,
        is_dm: sent.is_dm,
        membership: Some(sent.membership),
        bump_stamp: Some(sent.bump_stamp),
        stripped: Some(stripped),
        ..Room::default()
    };
    if turn.asked.request.dialect.names_rooms() {
        let member::Named { name, avatar, heroes } = member::named(turn);
        entry.name = name.map_or(Mention::Removed, Mention::Set);
        entry.avatar = avatar.map_or(Mention::Removed, Mention::Set);
        entry.heroes = (!heroes.is_empty()).then_some(heroes);
        // Who is invited knows of one member and of themselves.
        (entry.joined_count, entry.invited_count) = (Some(1), Some(1));
        entry.unread = Some(unread(turn.gate));
    } else if let Some(name) = turn.gate.stripped_given_name() {
        entry.name = Mention::Set(name.into());
    }
    Some(Outcome {
        entry: Some(entry),
        sent,
        event_ids: Vec::new(),
        wants: Vec::new(),
        unawaited: Vec::new(),
        again_ms: None,
    })
}

/// Whether the client holds all of a room that the user is no longer in. What the
/// tables have ahead of the world is told with the world that has it: told before,
/// its events would come as news once more.
pub(super) fn holds_all(turn: RoomTurn<'_>) -> bool {
    let changed = turn.gate.of_user().changed;
    let holds = |sent: &SentRoom| sent.cursor >= changed && is_asked_alike(turn, sent);
    changed > turn.asked.source.world.sequence || turn.of_this_stay().is_some_and(holds)
}

/// Whether a client that was told of the end asks for what it did then. What it asks
/// for is noted also where that is less: what it asked for before may be forgotten.
/// MSC3575's lists have no such rooms.
fn is_asked_alike(turn: RoomTurn<'_>, sent: &SentRoom) -> bool {
    !turn.gate.has_left()
        || turn.asked.request.dialect.sends_anew_for_more()
        || Arc::ptr_eq(&sent.config, turn.config)
        || *sent.config == **turn.config
}

/// Whether such a client asks for more of what came before the end.
fn is_expanded(turn: RoomTurn<'_>, sent: &SentRoom) -> bool {
    !is_asked_alike(turn, sent) && (asks_for_more(turn, sent) || asks_for_more_state(turn, sent))
}

fn asks_for_more(turn: RoomTurn<'_>, sent: &SentRoom) -> bool {
    turn.config.timeline_limit > sent.config.timeline_limit
}

fn asks_for_more_state(turn: RoomTurn<'_>, sent: &SentRoom) -> bool {
    !sent.config.required_state.covers(&turn.config.required_state)
}

/// The bump stamp of an end whose event the client was not told of.
const UNTOLD: u64 = 0;

/// Whether the client was told of this very end: of one that was found without
/// its event nothing may have been said, and the event comes later. Another stay
/// may have ended at the same number, where the timeline has neither end: then
/// the client has the one whose event was known when it was told.
pub(super) fn is_end_told(of_user: &UserRoom, sent: &SentRoom) -> bool {
    // Others may have been given the event as history meanwhile, so that its place
    // does not say when it came.
    let lacks_event = sent.bump_stamp == UNTOLD && of_user.own_event.is_some();
    let same = sent.membership == of_user.membership && sent.since == of_user.since;
    let same = same && !lacks_event;
    let apart = of_user.own_event.filter(|place| !place.timeline);
    same && apart.is_none_or(|place| place.sequence <= sent.cursor.0)
}

/// A room after the user's time in it: what came up to the end and the client
/// lacks, or more of it where more is asked for than before, with the user's own
/// member event. Without one nothing is said: a client would take the room for
/// joined.
pub(super) fn outcome(turn: RoomTurn<'_>) -> Option<Outcome> {
    if holds_all(turn) {
        return None;
    }
    let of_user = turn.gate.of_user();
    // What of the end was told changes no more but in the user's own bookkeeping;
    // of an end without its event nothing is said, and the lists go on without it.
    let is_told = turn.before.is_some_and(|sent| is_end_told(of_user, sent));
    let told = turn.of_this_stay().filter(|sent| is_told && is_expanded(turn, sent));
    let is_due = !is_told || told.is_some();
    let Some(own) = turn.gate.own_member_event().filter(|_| is_due) else {
        let bump_stamp = turn.before.filter(|_| is_told).map_or(UNTOLD, |sent| sent.bump_stamp);
        return Some(Outcome {
            entry: silent_end(turn),
            sent: SentRoom { bump_stamp, ..bare(turn) },
            event_ids: Vec::new(),
            wants: Vec::new(),
            unawaited: Vec::new(),
            again_ms: None,
        });
    };
    // A client that was in the room gets what it lacks; another gets it all.
    let was_there = turn
        .before
        .map(|sent| &**sent)
        .filter(|sent| sent.membership == Membership::Join && turn.gate.has_left())
        .filter(|sent| !removed::begins_anew(turn, sent));
    let before = told.or(was_there);
    let expanded = before.is_some_and(|sent| asks_for_more(turn, sent));
    // What the client was told of the end is all of it, unless it asks for more of that.
    let mut timeline = if turn.gate.has_left() && (told.is_none() || expanded) {
        member::timeline(turn, before, expanded)
    } else {
        member::TimelineTurn::default()
    };
    // Events that others are told of later than who left are numbered anew then.
    let was_told = turn
        .before
        .is_some_and(|sent| sent.membership != Membership::Join && sent.since == of_user.since);
    if let Some(answer) = timeline.answer.as_mut().filter(|_| was_told || told.is_some()) {
        answer.num_live = 0;
    }
    let mut wants = Vec::new();
    let state = required::state(turn, before, &timeline, &mut wants);
    let (mut sent, mut entry) = member::summary(turn, before, required::Held::default());
    sent.bump_stamp = sent.bump_stamp.max(UNTOLD + 1);
    let says_nothing = told.is_some() && !expanded && state.events.is_empty();
    entry.required_state = state.events;
    if !entry.required_state.contains(&own) {
        entry.required_state.push(&own);
    }
    entry.timeline = timeline.answer;
    entry.initial |= turn.asked.request.dialect.sends_anew_for_more() && expanded;
    if turn.asked.request.dialect.strips_declined() && !of_user.was_joined() {
        let mut stripped = Objects::default();
        stripped.push(&crate::json::stripped(&own));
        entry.stripped = Some(stripped);
    }
    Some(Outcome {
        entry: Some(entry).filter(|_| !says_nothing),
        sent,
        event_ids: timeline.event_ids,
        // Nothing is fetched for who is out but how to page back from their end.
        wants: timeline.wants,
        unawaited: Vec::new(),
        again_ms: None,
    })
}

/// The entry of a room that the user is out of although no event said so.
fn silent_end(turn: RoomTurn<'_>) -> Option<Room> {
    let is_told = turn.of_this_stay().is_some() || turn.before.is_none();
    let says_so = turn.asked.request.dialect.tells_of_membership();
    (says_so && !is_told).then(|| Room {
        room_id: Arc::clone(turn.gate.room_id()),
        initial: true,
        membership: Some(turn.gate.of_user().membership),
        bump_stamp: Some(turn.gate.bump_stamp()),
        ..Room::default()
    })
}

/// What a client holds of a room that it was told the end or the invite of.
fn bare(turn: RoomTurn<'_>) -> SentRoom {
    let of_user = turn.gate.of_user();
    SentRoom {
        cursor: turn.asked.source.world.sequence,
        membership: of_user.membership,
        since: of_user.since,
        config: Arc::clone(turn.config),
        name: 0,
        avatar: 0,
        heroes: 0,
        counts: None,
        bump_stamp: turn.gate.bump_stamp(),
        unread: of_user.unread,
        short_from: 0,
        is_dm: turn.is_dm(),
        lazy_members: OrdSet::new(),
        missing_members: OrdSet::new(),
    }
}
