//! One room of a `/sync` answer: timeline, state, summary, counts, receipts and typing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Sections, SyncRequest, may_have_news, write_account_data};
use crate::model::{
    Event, EventIndex, Homeserver, Membership, Room, TokenOwner, User, UserRoom, Viewer,
};

/// One request, as the rooms see it.
pub(super) struct View<'a> {
    pub(super) homeserver: &'a Homeserver,
    pub(super) owner: &'a TokenOwner,
    pub(super) request: &'a SyncRequest,
    pub(super) since: Option<u64>,
    pub(super) now: u64,
}

/// A part of a room's timeline.
struct Timeline {
    places: Vec<EventIndex>,
    /// Where the room's events begin that are new to the client.
    begin: EventIndex,
    /// The first event given, or `end`.
    start: EventIndex,
    end: EventIndex,
    limited: bool,
    /// Whether the client is to have all state.
    full: bool,
}

impl View<'_> {
    /// All rooms with something new, or nothing.
    pub(super) fn write_rooms(
        &self,
        user: &User,
        sent_members: &mut Vec<(String, BTreeSet<String>)>,
    ) -> Option<String> {
        let mut sections = Sections::default();
        for (room_id, user_room) in &user.rooms {
            let Some(room) = self.homeserver.rooms.get(room_id) else { continue };
            if user_room.forgotten
                || !self.request.filter.wants(room_id)
                || !(self.request.full_state || may_have_news(room, user_room, self.since))
            {
                continue;
            }
            let Some(own) = room.state("m.room.member", &user.user_id) else { continue };
            let is_new = self.since.is_none_or(|since| own.stream > since);
            match own.membership {
                Some(Membership::Join) => {
                    if let Some(entry) = self.write_joined(user, room, user_room, sent_members) {
                        sections.add("join", room_id, &entry);
                    }
                }
                Some(Membership::Invite) if is_new => {
                    let events = &user_room.stripped_state;
                    let entry = format!("{{\"invite_state\":{{\"events\":[{events}]}}}}");
                    sections.add("invite", room_id, &entry);
                }
                Some(Membership::Knock) if is_new => {
                    let events = &user_room.stripped_state;
                    let entry = format!("{{\"knock_state\":{{\"events\":[{events}]}}}}");
                    sections.add("knock", room_id, &entry);
                }
                Some(Membership::Leave | Membership::Ban) if is_new => {
                    let by_others = *own.sender != *user.user_id;
                    if self.since.is_some() || by_others || self.request.filter.include_leave {
                        let entry = self.write_left(room, user_room, sent_members);
                        sections.add("leave", room_id, &entry);
                    }
                }
                _ => {}
            }
        }
        if sections.0.is_empty() {
            return None;
        }
        let sections: Vec<String> = sections
            .0
            .iter()
            .map(|(section, entries)| format!("\"{section}\":{{{entries}}}"))
            .collect();
        Some(format!("\"rooms\":{{{}}}", sections.join(",")))
    }

    fn write_joined(
        &self,
        user: &User,
        room: &Room,
        user_room: &UserRoom,
        sent_members: &mut Vec<(String, BTreeSet<String>)>,
    ) -> Option<String> {
        let timeline = self.timeline(room);
        let mut members = BTreeSet::new();
        let state = self.state(room, &timeline, &mut members);
        let since = self.since.filter(|_| !timeline.full);
        let account_data = write_account_data(&user_room.account_data, since);
        let ephemeral = self.write_ephemeral(room, since);
        let quiet = timeline.places.is_empty()
            && state.is_empty()
            && account_data.is_empty()
            && ephemeral.is_empty();
        if quiet && !timeline.full {
            return None;
        }
        let mut out = String::from("{");
        self.write_timeline_and_state(&mut out, room, &timeline, &state);
        let (notifications, highlights) = unread(room, user);
        let summary = self.summary(room, &timeline);
        let _ = write!(
            out,
            ",\"account_data\":{{\"events\":[{account_data}]}},\"ephemeral\":{{\"events\":[{ephemeral}]}},\
             \"unread_notifications\":{{\"notification_count\":{notifications},\"highlight_count\":{highlights}}},\
             \"summary\":{summary}}}"
        );
        sent_members.push((room.room_id.clone(), members));
        Some(out)
    }

    fn write_left(
        &self,
        room: &Room,
        user_room: &UserRoom,
        sent_members: &mut Vec<(String, BTreeSet<String>)>,
    ) -> String {
        let user_id = self.owner.user_id.as_str();
        let was_in = self.was_in(room);
        let mut timeline = self.timeline(room);
        let mut members = BTreeSet::new();
        let mut state = Vec::new();
        if was_in {
            state = self.state(room, &timeline, &mut members);
            sent_members.push((room.room_id.clone(), members));
        } else {
            // Who declined an invite, or was banned without ever coming, sees that and nothing else.
            let own = state_place_at(room, "m.room.member", user_id, timeline.end);
            timeline.places = own.into_iter().collect();
            timeline.limited = false;
        }
        let account_data = write_account_data(&user_room.account_data, self.since);
        let mut out = String::from("{");
        self.write_timeline_and_state(&mut out, room, &timeline, &state);
        let _ = write!(out, ",\"account_data\":{{\"events\":[{account_data}]}}}}");
        out
    }

    /// Whether a user who is not in the room now was in it at some time that the answer covers.
    fn was_in(&self, room: &Room) -> bool {
        let user_id = self.owner.user_id.as_str();
        let own = room.history.get("m.room.member").and_then(|members| members.get(user_id));
        let own: &[EventIndex] = own.map(Vec::as_slice).unwrap_or_default();
        let joins = |place: &EventIndex| room.events[*place].membership == Some(Membership::Join);
        match self.since {
            None => own.iter().rev().nth(1).is_some_and(joins),
            Some(since) => {
                let begin = room.first_after(since);
                room.membership_at(user_id, begin) == Some(Membership::Join)
                    || own.iter().rev().take_while(|place| **place >= begin).any(joins)
            }
        }
    }

    fn timeline(&self, room: &Room) -> Timeline {
        let user_id = self.owner.user_id.as_str();
        let since_place = self.since.map(|since| room.first_after(since));
        let was_in = since_place
            .is_some_and(|place| room.membership_at(user_id, place) == Some(Membership::Join));
        let full = !was_in;
        let newly_joined = full && self.since.is_some();
        let begin = since_place.filter(|_| was_in).unwrap_or(0);
        let end = room.end_for(user_id);
        let mut places = Vec::new();
        let mut limited = newly_joined;
        // Synapse shows what is the room's state now wherever it stands, since it is in no `state` block otherwise.
        let is_shown = |place: &EventIndex| {
            let event = &room.events[*place];
            let state_key = event.state_key.as_deref();
            let now = state_key.and_then(|key| room.state_at(&event.kind, key, end));
            now.is_some_and(|now| now.stream == event.stream) || room.visible(user_id, *place)
        };
        for place in (begin..end).rev().filter(is_shown) {
            if places.len() == self.request.filter.timeline_limit {
                limited = true;
                break;
            }
            places.push(place);
        }
        places.reverse();
        let start = places.first().copied().unwrap_or(end);
        let full = full || self.request.full_state;
        Timeline { places, begin, start, end, limited, full }
    }

    /// The places of the state events to give, and in `members` whose member events are among them.
    fn state(
        &self,
        room: &Room,
        timeline: &Timeline,
        members: &mut BTreeSet<String>,
    ) -> Vec<EventIndex> {
        let filter = &self.request.filter;
        let at = if self.request.state_after { timeline.end } else { timeline.start };
        let senders: BTreeSet<&str> =
            timeline.places.iter().map(|place| &*room.events[*place].sender).collect();
        let mut places: Vec<EventIndex>;
        if timeline.full {
            let heroes = self.heroes(room, timeline.end);
            let needed = |event: &Event| {
                let Some(member) = event.state_key.as_deref() else { return false };
                !filter.lazy_load_members
                    || &*event.kind != "m.room.member"
                    || member == self.owner.user_id
                    || senders.contains(member)
                    || heroes.contains(&member)
            };
            places = room.state_places_at(at).filter(|at| needed(&room.events[*at])).collect();
        } else {
            places = self.state_changes(room, timeline);
            if filter.lazy_load_members {
                let device = self.homeserver.users.get(&self.owner.user_id);
                let device = device.and_then(|user| user.devices.get(&self.owner.device_id));
                let sent = device.and_then(|device| device.sent_members.get(&room.room_id));
                for sender in senders {
                    let known = sent.is_some_and(|sent| sent.contains(sender));
                    if known && !filter.include_redundant_members {
                        continue;
                    }
                    places.extend(state_place_at(room, "m.room.member", sender, at));
                }
            }
        }
        places.sort_unstable();
        places.dedup();
        let given = places.iter().map(|place| &room.events[*place]);
        members.extend(
            given
                .filter(|event| event.membership.is_some())
                .filter_map(|event| event.state_key.as_deref().map(str::to_owned)),
        );
        places
    }

    /// State that changed since the client's position: all of it for `state_after`, else what the timeline lacks.
    fn state_changes(&self, room: &Room, timeline: &Timeline) -> Vec<EventIndex> {
        let shown: BTreeSet<EventIndex> = timeline.places.iter().copied().collect();
        let mut last = BTreeMap::new();
        for place in timeline.begin..timeline.end {
            let event = &room.events[place];
            if let Some(state_key) = &event.state_key
                && (self.request.state_after || !shown.contains(&place))
            {
                last.insert((&event.kind, state_key), place);
            }
        }
        last.into_values().collect()
    }

    fn write_timeline_and_state(
        &self,
        out: &mut String,
        room: &Room,
        timeline: &Timeline,
        state: &[EventIndex],
    ) {
        let prev_batch = self.homeserver.write_place(timeline.start);
        out.push_str("\"timeline\":{\"events\":[");
        self.write_events(out, room, &timeline.places);
        let _ =
            write!(out, "],\"prev_batch\":\"{prev_batch}\",\"limited\":{}}},", timeline.limited);
        out.push_str(if self.request.state_after {
            "\"org.matrix.msc4222.state_after\":{\"events\":["
        } else {
            "\"state\":{\"events\":["
        });
        self.write_events(out, room, state);
        out.push_str("]}");
    }

    fn write_events(&self, out: &mut String, room: &Room, places: &[EventIndex]) {
        let TokenOwner { user_id, device_id, .. } = self.owner;
        let viewer = Viewer { user_id, device_id, now: self.now };
        for (number, place) in places.iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            let membership = room.membership_at(user_id, place + 1).unwrap_or(Membership::Leave);
            room.events[*place].write(out, &viewer, Some(membership));
        }
    }

    fn heroes<'room>(&self, room: &'room Room, end: EventIndex) -> Vec<&'room str> {
        let has = |kind, key| {
            room.state_at(kind, "", end)
                .and_then(|event| event.content_str(key))
                .is_some_and(|text| !text.is_empty())
        };
        let named = has("m.room.name", "name") || has("m.room.canonical_alias", "alias");
        if named { Vec::new() } else { room.heroes(&self.owner.user_id, end) }
    }

    /// The summary, empty when nothing in it can have changed.
    fn summary(&self, room: &Room, timeline: &Timeline) -> Value {
        let new = &room.events[timeline.begin..timeline.end];
        let changed = timeline.full
            || new.iter().any(|event| {
                event.membership.is_some()
                    || matches!(&*event.kind, "m.room.name" | "m.room.canonical_alias")
            });
        if !changed || !self.request.filter.lazy_load_members {
            return json!({});
        }
        let mut summary = json!({
            "m.joined_member_count": room.joined.len(),
            "m.invited_member_count": room.invited.len(),
        });
        let heroes = self.heroes(room, timeline.end);
        if !heroes.is_empty() {
            summary["m.heroes"] = json!(heroes);
        }
        summary
    }

    fn write_ephemeral(&self, room: &Room, since: Option<u64>) -> String {
        let mut events = Vec::new();
        let typing_changed =
            since.map_or(!room.typing.is_empty(), |since| room.typing_stream > since);
        if typing_changed {
            let user_ids: Vec<&String> = room.typing.keys().collect();
            events.push(json!({"type": "m.typing", "content": {"user_ids": user_ids}}).to_string());
        }
        let mut content = json!({});
        for ((user_id, private, thread), receipt) in &room.receipts {
            let theirs = *private && *user_id != self.owner.user_id;
            if theirs || since.is_some_and(|since| receipt.stream <= since) {
                continue;
            }
            let kind = if *private { "m.read.private" } else { "m.read" };
            let mut data = json!({"ts": receipt.ts});
            if let Some(thread) = thread {
                data["thread_id"] = thread.as_str().into();
            }
            content[&receipt.event_id][kind][user_id] = data;
        }
        if content.as_object().is_some_and(|content| !content.is_empty()) {
            events.push(json!({"type": "m.receipt", "content": content}).to_string());
        }
        events.join(",")
    }
}

fn state_place_at(room: &Room, kind: &str, state_key: &str, end: EventIndex) -> Option<EventIndex> {
    let places = room.history.get(kind)?.get(state_key)?;
    let before = places.partition_point(|place| *place < end);
    before.checked_sub(1).map(|last| places[last])
}

/// Messages since the user last read or wrote, and those of them that name the user.
fn unread(room: &Room, user: &User) -> (u64, u64) {
    let read = [false, true]
        .into_iter()
        .filter_map(|private| room.receipts.get(&(user.user_id.clone(), private, None)))
        .map(|receipt| receipt.index)
        .max();
    let joined = room.stay_start(&user.user_id);
    let first = read.max(joined).map_or(0, |place| place + 1);
    let (mut notifications, mut highlights) = (0, 0);
    for event in room.events.get(first..).unwrap_or_default().iter().rev() {
        if *event.sender == *user.user_id {
            break;
        }
        if matches!(&*event.kind, "m.room.message" | "m.room.encrypted") {
            notifications += 1;
            let named = &*event.kind == "m.room.message" && !user.display_name.is_empty();
            if named && event.content.contains(&user.display_name) {
                highlights += 1;
            }
        }
    }
    (notifications, highlights)
}
