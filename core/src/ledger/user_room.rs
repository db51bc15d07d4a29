//! What one user has in one room: membership, what is visible of it, counts.
//!
//! Only a user's own poller opens a room to them; anybody's closes it.

use std::{cmp::Ordering, collections::BTreeSet};

use super::{
    command::Reply, fold::Fold, polled::Poll, state::previous_membership, summary::content,
    timeline::Chunk,
};
use crate::{
    id::{RoomNumber, Sequence, UserNumber},
    json::push_string,
    record::{Membership, Place, UserRoomRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, Section, Stripped, SyncEvent},
    view::Table,
    world::Room,
};

/// Nothing of the timeline is visible.
pub(super) const NOTHING: u64 = u64::MAX;

impl Fold<'_> {
    pub(super) fn user_room(&self, user: UserNumber, room: &Room) -> Option<UserRoomRecord> {
        let key = key::user_room(user, room.number);
        self.get(Table::UserRooms, &key).and_then(UserRoomRecord::decode)
    }

    pub(super) fn set_user_room(
        &mut self,
        user: UserNumber,
        room: &Room,
        before: Option<&UserRoomRecord>,
        mut after: UserRoomRecord,
    ) {
        after.changed = before.map_or(0, |before| before.changed);
        if before == Some(&after) {
            return;
        }
        if !matches!(after.membership, Membership::Invite | Membership::Knock) {
            self.ledger.doubted.remove(&(user, room.number));
        }
        if after.membership == Membership::Join
            && before.is_none_or(|it| it.membership != Membership::Join || it.since != after.since)
        {
            self.note_coming(room, after.since);
        }
        // That alone says nothing, and lets be seen what has changed.
        let is_vouched = before.is_some_and(|before| {
            before.vouched != after.vouched
                && UserRoomRecord { vouched: before.vouched, ..after.clone() } == *before
        });
        if !is_vouched {
            after.changed = self.next().0;
        }
        self.put(Table::UserRooms, key::user_room(user, room.number), after.encode());
        self.user_change(user).rooms.push(room.number);
    }

    /// An initial answer with all rooms did not tell of the rest: the user left
    /// them while no poller could be told. What another device has told since
    /// this answer was asked for is newer.
    pub(super) fn rooms_untold(&mut self, poll: Poll, told: &BTreeSet<RoomNumber>) {
        let user = poll.user;
        let mut rooms = Vec::new();
        self.scan(Table::UserRooms, &key::of_user(user), &mut |key, _| {
            rooms.extend(key::room_of(key).filter(|room| !told.contains(room)));
            true
        });
        for number in rooms {
            let Some(room) = self.ledger.world.room(number).cloned() else { continue };
            // What another poller has told since, the answer may not know yet.
            let is_due = |it: &UserRoomRecord| !is_over(it.membership) && it.since <= poll.knew;
            if self.user_room(user, &room).is_some_and(|it| is_due(&it)) {
                self.put_out(user, &room);
            }
        }
    }

    /// Takes in which rooms the homeserver has somebody in: out of others that
    /// they were in when it was asked they have come without an event that said
    /// so, such as by a state reset.
    pub(super) fn joined_rooms(
        &mut self,
        user: UserNumber,
        knew: Sequence,
        joined: &BTreeSet<String>,
    ) -> Reply {
        let settled_ms = self.now_ms.saturating_sub(self.ledger.limits.joined_settles_ms);
        let mut rooms = Vec::new();
        self.scan(Table::UserRooms, &key::of_user(user), &mut |key, archive| {
            let record = UserRoomRecord::decode(archive);
            // A homeserver of several processes may yet have to list who has just
            // come.
            let is_due = |it: UserRoomRecord| {
                let is_settled = it.since <= knew.0 && it.since_ms <= settled_ms;
                it.membership == Membership::Join && is_settled
            };
            if record.is_some_and(is_due) {
                rooms.extend(key::room_of(key));
            }
            true
        });
        for number in rooms {
            let Some(room) = self.ledger.world.room(number).cloned() else { continue };
            if !joined.contains(&*room.id) {
                self.put_out(user, &room);
            }
        }
        self.vouch_for_listed(user, knew, joined);
        Reply::Done
    }

    /// Ends somebody's time in a room without an event that says so.
    fn put_out(&mut self, user: UserNumber, room: &Room) {
        let Some(before) = self.user_room(user, room) else { return };
        let joined = before.membership == Membership::Join;
        let last = room.last_event.0;
        let sure_end = if joined { self.sure_end(room, user, &before) } else { last };
        let after = UserRoomRecord {
            membership: Membership::Leave,
            since: sure_end.min(last),
            since_ms: self.now_ms,
            own_event: None,
            visible_from: if joined { before.visible_from } else { NOTHING },
            history_from: if joined { before.history_from } else { NOTHING },
            vouched: if joined { self.certain(user, &before) } else { before.vouched },
            notification_count: 0,
            highlight_count: 0,
            stripped: Vec::new(),
            ..before.clone()
        };
        self.set_user_room(user, room, Some(&before), after);
    }

    /// Takes in that the state has no member event of somebody any more: who was
    /// joined is out.
    pub(super) fn member_gone(&mut self, room: &Room, user_id: &str, knew: Sequence) {
        let user = self.ledger.world.user_numbers.get(user_id).copied();
        let Some(user) = user else { return };
        let is_due = |it: &UserRoomRecord| it.membership == Membership::Join && it.since <= knew.0;
        if self.user_room(user, room).is_some_and(|it| is_due(&it)) {
            self.put_out(user, room);
        }
    }

    /// Keeps late events from the users whose time in the room began behind them,
    /// although they are numbered as if they were new.
    pub(super) fn hide_late(&mut self, room: &Room, late: &[(u64, u64)]) {
        if late.is_empty() {
            return;
        }
        let users: Vec<UserNumber> = room.local_users.keys().copied().collect();
        for user in users {
            let Some(before) = self.user_room(user, room) else { continue };
            if before.visible_from == NOTHING {
                continue;
            }
            let hidden = late.iter().filter(|(_, next)| before.visible_from >= *next);
            if let Some(last) = hidden.map(|(number, _)| *number).max() {
                let visible_from = before.visible_from.max(last.saturating_add(1));
                let history_from = NOTHING;
                let after = UserRoomRecord { visible_from, history_from, ..before.clone() };
                self.set_user_room(user, room, Some(&before), after);
            }
        }
    }

    /// Takes in that somebody's member event has another place.
    pub(super) fn own_event_moved(
        &mut self,
        room: RoomNumber,
        event: &SyncEvent,
        before: Place,
        after: Place,
    ) {
        let user_id = event.state_key.as_deref().filter(|_| event.kind == MEMBER);
        let user = user_id.and_then(|it| self.ledger.world.user_numbers.get(it).copied());
        let key = user.map(|user| key::user_room(user, room));
        let record = key.as_ref().and_then(|key| self.get(Table::UserRooms, key));
        let record = record.and_then(UserRoomRecord::decode);
        if let (Some(user), Some(key), Some(mut record)) = (user, key, record)
            && record.own_event == Some(before)
        {
            record.own_event = Some(after);
            self.put(Table::UserRooms, key, record.encode());
            self.user_change(user).rooms.push(room);
        }
    }

    /// Takes in what the user's own poller says.
    pub(super) fn user_room_polled(
        &mut self,
        poll: Poll,
        room: &Room,
        (batch, told): (&RoomBatch, &RoomBatch),
        chunk: &Chunk,
    ) {
        let before = self.user_room(poll.user, room);
        if poll.repeated && before.is_some() {
            return;
        }
        let user_id = self.ledger.world.user_id(poll.user).map(ToString::to_string);
        let user_id = user_id.unwrap_or_default();
        let own = OwnPoll { poll, room, batch, told, chunk, user_id: &user_id };
        let after = match batch.section {
            Section::Join => self.joined(&own, before.as_ref()),
            Section::Invite => self.stripped(&own, Membership::Invite, before.as_ref()),
            Section::Knock => self.stripped(&own, Membership::Knock, before.as_ref()),
            Section::Leave => self.left(&own, before.as_ref()),
        };
        let Some(mut after) = after else { return };
        if let Some(count) = batch.notification_count {
            after.notification_count = count;
        }
        if let Some(count) = batch.highlight_count {
            after.highlight_count = count;
        }
        self.set_user_room(poll.user, room, before.as_ref(), after);
    }

    /// `None` where somebody else's poller has since told that the user is out.
    fn joined(
        &mut self,
        own: &OwnPoll<'_>,
        before: Option<&UserRoomRecord>,
    ) -> Option<UserRoomRecord> {
        let state = self.member(own.room, own.user_id);
        let raced = state.as_ref().filter(|state| state.changed > own.poll.knew);
        let told = raced.and_then(|state| state.membership.as_deref());
        let was_out = before.is_some_and(|before| is_over(before.membership));
        if matches!(told, Some("leave" | "ban")) || (was_out && told.is_some_and(|it| it != "join"))
        {
            return None;
        }
        let own_event = state.map(|state| state.place);
        let stays = before.filter(|it| it.membership == Membership::Join && !own.came_back(it));
        let oldest = own.chunk.oldest;
        if let Some(before) = stays {
            // What an answer from before this stay was given is not of it, unless it has
            // the event that it began with. Late events are numbered as the newest: only
            // who was given all that there is was given them.
            let begun = own.own_event().and_then(|it| self.place(own.room.number, &it.event_id));
            let is_of_it =
                before.since <= own.poll.knew || (begun.is_some() && begun == before.own_event);
            let told = own.chunk.whole_from.filter(|_| is_of_it);
            let visible_from = told.map_or(before.visible_from, |it| it.min(before.visible_from));
            let vouched = own.vouched(before.vouched);
            // What was kept from them since they came, or not given yet, and is theirs after
            // all, clients have passed over: they begin anew.
            let was_hidden = before.visible_from >= before.since;
            let begins_anew = was_hidden && visible_from < before.visible_from;
            let since = if begins_anew { self.next().0 } else { before.since };
            return Some(UserRoomRecord {
                since,
                own_event,
                visible_from,
                vouched,
                ..before.clone()
            });
        }
        if let Some(stay) = self.goes_on(own, own_event) {
            let vouched = own.vouched(stay.vouched);
            return Some(UserRoomRecord { since: self.next().0, vouched, ..stay });
        }
        let since = self.next().0;
        let vouched = own.vouched(0);
        if vouched < own.room.last_gap.0 {
            self.look_at_all_rooms(own.poll.user);
        }
        // They were given all that there is from there on, also what others were
        // given as history.
        let told = self.end_told_before(before);
        let all = own.chunk.whole_from.map(|from| (from.max(told), own.room.last_event.0));
        let (history_from, history_until) = all.unwrap_or((NOTHING, 0));
        Some(UserRoomRecord {
            membership: Membership::Join,
            since,
            since_ms: self.since_ms(own, own.own_event()),
            own_event,
            visible_from: oldest.map_or(since, |oldest| oldest.max(told)),
            history_from,
            history_until,
            history_end: 0,
            vouched,
            ever_member: true,
            stripped: Vec::new(),
            ending: Vec::new(),
            ..before.cloned().unwrap_or_else(blank)
        })
    }

    /// The number behind the end of an earlier stay, where the timeline has that only
    /// since this answer: clients were told of it then, and it is no news again.
    fn end_told_before(&self, before: Option<&UserRoomRecord>) -> u64 {
        let over = before.filter(|before| is_over(before.membership));
        let end = over.and_then(|before| before.own_event);
        let is_new = |end: &Place| end.timeline && end.sequence > self.started.0;
        end.filter(is_new).map_or(0, |end| end.sequence.saturating_add(1))
    }

    /// `None` where nothing has changed, or where it has since.
    fn stripped(
        &mut self,
        own: &OwnPoll<'_>,
        membership: Membership,
        before: Option<&UserRoomRecord>,
    ) -> Option<UserRoomRecord> {
        let stripped = stripped_state(own, membership);
        let is_same = before
            .is_some_and(|before| before.membership == membership && before.stripped == stripped);
        if is_same || self.is_past(own, before, stripped.last()) {
            return None;
        }
        self.doubt_stay(own, before);
        let since = self.next().0;
        Some(UserRoomRecord {
            membership,
            since,
            since_ms: self.now_ms,
            own_event: None,
            visible_from: NOTHING,
            history_from: NOTHING,
            history_until: 0,
            history_end: 0,
            vouched: 0,
            ever_member: true,
            notification_count: 0,
            highlight_count: 0,
            changed: 0,
            stripped,
            ending: Vec::new(),
        })
    }

    /// Whether an invite or knock is one that the user has since followed or
    /// that has since ended, as another poller has told. In doubt it is not: if they are in
    /// the room, their own poller says so next.
    fn is_past(
        &self,
        own: &OwnPoll<'_>,
        before: Option<&UserRoomRecord>,
        event: Option<&String>,
    ) -> bool {
        let raced = before.is_some_and(|before| before.since > own.poll.knew);
        let Some(state) = self.member(own.room, own.user_id).filter(|_| raced) else {
            return false;
        };
        let Some(event_id) = event.and_then(|event| event_id(event)) else { return false };
        let holds = self.event(own.room.number, state.place);
        let place = self.place(own.room.number, &event_id);
        holds.is_some_and(|holds| self.leads_back(own.room.number, &holds.json, &event_id))
            || place.is_some_and(|place| place.sequence < state.place.sequence)
    }

    /// Whether the user has come back since they left, as another poller has
    /// told.
    fn is_back(&self, own: &OwnPoll<'_>, before: &UserRoomRecord) -> bool {
        let raced = self
            .member(own.room, own.user_id)
            .filter(|state| !is_over(before.membership) && state.changed > own.poll.knew)
            .filter(|state| matches!(state.membership.as_deref(), Some("join" | "invite")));
        raced.is_some_and(|state| {
            // In doubt they are out. If not, their own poller tells of it next.
            own.own_event().is_none_or(|event| {
                self.order(own.room, event, state.place) == Some(Ordering::Less)
            })
        })
    }

    /// `None` where the user has since come back.
    fn left(
        &mut self,
        own: &OwnPoll<'_>,
        before: Option<&UserRoomRecord>,
    ) -> Option<UserRoomRecord> {
        if before.is_some_and(|before| self.is_back(own, before)) {
            return None;
        }
        let event = own.own_event();
        let state = self.member(own.room, own.user_id);
        let place = match event {
            Some(event) => Some(
                self.place(own.room.number, &event.event_id)
                    .unwrap_or_else(|| self.keep_state_event(own.room.number, event)),
            ),
            None => state
                .filter(|it| matches!(it.membership.as_deref(), Some("leave" | "ban")))
                .map(|it| it.place),
        };
        let membership = match (event, place) {
            (Some(event), _) => ended(&event.json, &event.sender, own.user_id),
            (None, Some(place)) => self
                .event(own.room.number, place)
                .map_or(Membership::Leave, |it| ended(&it.json, &it.sender, own.user_id)),
            (None, None) => Membership::Leave,
        };
        let was = event.and_then(|event| previous_membership(&event.json));
        let is_known = before.is_some();
        let before = before.filter(|before| {
            let end = event.zip(place).filter(|_| was.as_deref() == Some("join"));
            !end.is_some_and(|end| self.is_of_a_later_stay(own, before, end))
        });
        if let Some(before) = before
            && is_over(before.membership)
        {
            return Some(self.own_end(own, before, (membership, place), was.as_deref()));
        }
        let was_joined = match before {
            Some(before) => before.membership == Membership::Join,
            None => was.as_deref() == Some("join"),
        };
        let was_member = matches!(was.as_deref(), Some("join" | "invite" | "knock"));
        let ending = was_joined.then(|| self.ending(own.poll, own.room, own.told, u64::MAX));
        let leads_to = ending.as_ref().and_then(|ending| ending.leads_to);
        let since = match place {
            Some(place) if place.timeline => place.sequence,
            _ if leads_to.is_some() => leads_to.unwrap_or_default(),
            Some(place) => {
                let end = self.end_of_stay(own.room, place, self.sent_ms(own.room, place));
                let stay = before.filter(|_| was_joined);
                // A stay that nobody has told of came behind all that its user was told.
                let sure = stay.map_or_else(
                    || self.followed_before(own.poll),
                    |stay| self.sure_end(own.room, own.poll.user, stay),
                );
                end.min(sure)
            }
            None => self.end_of(own.room, own.chunk),
        };
        let oldest = own.chunk.oldest.filter(|_| was_joined).unwrap_or(NOTHING);
        Some(UserRoomRecord {
            membership,
            since,
            since_ms: self.since_ms(own, event),
            own_event: place,
            visible_from: match before {
                Some(before) if was_joined => before.visible_from,
                _ => oldest,
            },
            history_from: before.map_or(NOTHING, |before| before.history_from),
            history_until: before.map_or(0, |before| before.history_until),
            history_end: 0,
            vouched: before
                .filter(|before| before.membership == Membership::Join)
                .map_or(0, |before| self.certain(own.poll.user, before)),
            ever_member: is_known || was_member,
            notification_count: 0,
            highlight_count: 0,
            changed: 0,
            stripped: Vec::new(),
            ending: ending.map_or_else(Vec::new, |ending| {
                let is_bare = ending.event_ids.is_empty() && place.is_some_and(|it| !it.timeline);
                let end = event.filter(|_| is_bare).map(|event| event.event_id.clone());
                ending.event_ids.into_iter().chain(end).collect()
            }),
        })
    }

    /// Whether the end of a stay is that of another than the one that is known to
    /// be over: the user has come back in between, and nobody has told of it.
    fn is_of_a_later_stay(
        &self,
        own: &OwnPoll<'_>,
        before: &UserRoomRecord,
        (end, place): (&SyncEvent, Place),
    ) -> bool {
        let known = before.own_event.filter(|known| is_over(before.membership) && *known != place);
        // What was known when it was asked for the homeserver would have told.
        known.is_some_and(|known| {
            known.sequence <= own.poll.knew || self.is_newer(own.room, end, known)
        })
    }

    pub(super) fn sent_ms(&self, room: &Room, place: Place) -> u64 {
        self.event(room.number, place).map_or(0, |event| event.origin_server_ts)
    }

    /// The last number that the batch gave, else the last of the room before it.
    fn end_of(&self, room: &Room, chunk: &Chunk) -> u64 {
        let before = self.ledger.world.room(room.number).map_or(0, |known| known.last_event.0);
        let numbers = chunk.places.iter().flatten().map(|(place, _)| place.sequence);
        numbers.max().unwrap_or(before)
    }

    /// When a membership began: now, or where this is old news, when its event
    /// was sent.
    fn since_ms(&self, own: &OwnPoll<'_>, event: Option<&SyncEvent>) -> u64 {
        let sent_ms = event.map(|event| event.origin_server_ts).filter(|_| own.poll.initial);
        sent_ms.map_or(self.now_ms, |sent_ms| sent_ms.min(self.now_ms))
    }
}

/// A batch of the user's own poller.
pub(super) struct OwnPoll<'a> {
    pub(super) poll: Poll,
    pub(super) room: &'a Room,
    batch: &'a RoomBatch,
    /// The same as it was told, with all of the timeline of the end of a stay.
    pub(super) told: &'a RoomBatch,
    pub(super) chunk: &'a Chunk,
    user_id: &'a str,
}

impl<'a> OwnPoll<'a> {
    pub(super) fn is_own(&self, event: &SyncEvent) -> bool {
        event.kind == MEMBER && event.state_key.as_deref() == Some(self.user_id)
    }

    /// The user's newest member event in the batch. The state is that of before
    /// the timeline or of after it.
    pub(super) fn own_event(&self) -> Option<&SyncEvent> {
        let newest = |events: &'a [SyncEvent]| events.iter().rfind(|event| self.is_own(event));
        let (state, timeline) = (newest(&self.batch.state), newest(&self.batch.timeline));
        if self.batch.state_is_after { state.or(timeline) } else { timeline.or(state) }
    }

    /// Whether the user has left and come back since the stay began that is
    /// known, whoever told of it first.
    fn came_back(&self, stay: &UserRoomRecord) -> bool {
        self.batch.timeline.iter().zip(&self.chunk.places).any(|(event, place)| {
            let is_later = place.is_some_and(|(place, _)| place.sequence > stay.since);
            let is_turn = || {
                let before = previous_membership(&event.json);
                match content(&event.json).text("membership") {
                    Some("join") => before.is_some_and(|before| before != "join"),
                    _ => true,
                }
            };
            is_later && self.is_own(event) && is_turn()
        })
    }
}

fn blank() -> UserRoomRecord {
    UserRoomRecord {
        membership: Membership::Join,
        since: 0,
        since_ms: 0,
        own_event: None,
        visible_from: NOTHING,
        history_from: NOTHING,
        history_until: 0,
        history_end: 0,
        vouched: 0,
        ever_member: false,
        notification_count: 0,
        highlight_count: 0,
        changed: 0,
        stripped: Vec::new(),
        ending: Vec::new(),
    }
}

pub(super) fn is_over(membership: Membership) -> bool {
    matches!(membership, Membership::Leave | Membership::Kick | Membership::Ban)
}

/// `event_id` of a stripped event, where the homeserver left it there.
fn event_id(json: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Event {
        event_id: String,
    }
    serde_json::from_str::<Event>(json).ok().map(|event| event.event_id)
}

/// How a stay ended, by the member event that ended it.
pub(super) fn ended(json: &str, sender: &str, user_id: &str) -> Membership {
    match content(json).text("membership") {
        Some("ban") => Membership::Ban,
        _ if sender == user_id => Membership::Leave,
        _ => Membership::Kick,
    }
}

/// The stripped state, the user's own member event last: made up where the
/// homeserver left it out, since clients tell invites from knocks by it.
fn stripped_state(own: &OwnPoll<'_>, membership: Membership) -> Vec<String> {
    let is_own = |event: &&Stripped| event.kind == MEMBER && event.state_key == own.user_id;
    let others = own.batch.stripped.iter().filter(|event| !is_own(event));
    let mut stripped: Vec<String> = others.map(|event| event.json.to_string()).collect();
    match own.batch.stripped.iter().rfind(is_own) {
        Some(event) => stripped.push(event.json.to_string()),
        None => stripped.push(made_up_member(own.user_id, membership)),
    }
    stripped
}

fn made_up_member(user_id: &str, membership: Membership) -> String {
    let word = if membership == Membership::Knock { "knock" } else { "invite" };
    let mut json = String::from(r#"{"type":"m.room.member","state_key":"#);
    push_string(&mut json, user_id);
    json.push_str(r#","sender":"#);
    push_string(&mut json, user_id);
    json.push_str(r#","content":{"membership":""#);
    json.push_str(word);
    json.push_str("\"}}");
    json
}
