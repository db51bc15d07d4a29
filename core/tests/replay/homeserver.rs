//! What the homeserver of a recording knew, and how it would have told it to a
//! `/sync`: everything here comes out of the recorded answers.
//!
//! Each fact has a number in the stream that it belongs to. An event's is read
//! off the paging token in front of its timeline; other facts have that of the
//! answer that brought them. A device that has seen everything up to one
//! [`Stand`] is told at the next what came between.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::recording::{Conversation, Exchange, Stand, elements, events_before, text};

/// Events of one room that a homeserver puts into the first answer.
const TIMELINE_MAX: usize = 20;

/// What there is to know.
#[derive(Debug, Default)]
pub(crate) struct Homeserver {
    rooms: BTreeMap<String, Room>,
    /// Global account data, by user: its number and itself.
    account_data: BTreeMap<String, Vec<(u64, Value)>>,
    /// Who types where: number, room and `m.typing`.
    typing: Vec<(u64, String, Value)>,
    /// Messages to a user's device.
    to_device: BTreeMap<String, Vec<(u64, Value)>>,
}

#[derive(Debug, Default)]
struct Room {
    events: BTreeMap<String, Event>,
    /// The stripped state that an invited user was given.
    invites: BTreeMap<String, Value>,
}

/// An event of a room.
#[derive(Debug)]
struct Event {
    /// The number; where it was never seen in a timeline, the one that it has at
    /// most.
    number: u64,
    in_timeline: bool,
    /// As a user got it, `unsigned` and all.
    copies: BTreeMap<String, Value>,
}

impl Homeserver {
    /// What the answers of a conversation tell.
    pub(crate) fn of(conversation: &Conversation) -> Self {
        let mut homeserver = Self::default();
        for exchange in &conversation.exchanges {
            if let (Some(response), Some(stand)) = (&exchange.response, exchange.answered_at()) {
                homeserver.learn_rooms(exchange, response);
                homeserver.learn_extensions(exchange, response, stand);
            }
        }
        homeserver
    }

    fn learn_rooms(&mut self, exchange: &Exchange, response: &Value) {
        for (room_id, entry) in response["rooms"].as_object().into_iter().flatten() {
            let room = self.rooms.entry(room_id.clone()).or_default();
            if entry.get("invite_state").is_some() {
                room.invites.insert(exchange.user.clone(), entry["invite_state"].clone());
            }
            let Some(prev_batch) = entry["prev_batch"].as_str() else { continue };
            let before = events_before(prev_batch);
            for (number, event) in (before + 1..).zip(elements(&entry["timeline"])) {
                room.learn(&exchange.user, number, true, event);
            }
            for event in elements(&entry["required_state"]) {
                room.learn(&exchange.user, before, false, event);
            }
        }
    }

    fn learn_extensions(&mut self, exchange: &Exchange, response: &Value, stand: Stand) {
        let extensions = &response["extensions"];
        let from = exchange.asked_from();
        // What a first answer has was there before, else the answer that moves
        // the stream brings it: the homeserver also reads ahead of its position,
        // and then says the same again.
        let number_of = |before: Option<u64>, now: u64| match before {
            None => Some(0),
            Some(before) => (before < now).then_some(now),
        };
        let number = number_of(from.map(|it| it.account_data), stand.account_data);
        let known = self.account_data.entry(exchange.user.clone()).or_default();
        for item in elements(&extensions["account_data"]["global"]) {
            if let Some(number) = number
                && !known.iter().any(|(_, it)| it == item)
            {
                known.push((number, item.clone()));
            }
        }
        let number = number_of(from.map(|it| it.typing), stand.typing);
        for (room_id, typing) in extensions["typing"]["rooms"].as_object().into_iter().flatten() {
            let fact = (number.expect("typing is news"), room_id.clone(), typing.clone());
            if !self.typing.contains(&fact) {
                self.typing.push(fact);
            }
        }
        let known = self.to_device.entry(exchange.user.clone()).or_default();
        for message in elements(&extensions["to_device"]["events"]) {
            let number = text(&extensions["to_device"]["next_batch"]).parse();
            known.push((number.expect("a token is a number"), message.clone()));
        }
    }

    /// The `/sync` answer for a user whose device has seen what there was at
    /// `from`, and is told what there is at `to`; `None` where that is nothing.
    pub(crate) fn sync(&self, user: &str, from: Option<Stand>, to: Stand) -> Option<Value> {
        let mut answer = json!({});
        for (room_id, room) in &self.rooms {
            let was = from.and_then(|from| room.membership(user, from.events));
            match room.membership(user, to.events) {
                Some("join") if was == Some("join") => {
                    let from = from.unwrap_or_default();
                    if let Some(update) = self.update(room_id, room, user, from, to) {
                        answer["rooms"]["join"][room_id] = update;
                    }
                }
                Some("join") => {
                    let first = from.is_none();
                    answer["rooms"]["join"][room_id] = room.joined(user, to.events, first);
                }
                Some("invite") if was != Some("invite") => {
                    let events = room.invites[user].clone();
                    answer["rooms"]["invite"][room_id] =
                        json!({"invite_state": {"events": events}});
                }
                _ => {}
            }
        }
        let account_data =
            news(&self.account_data, user, from.map(|it| it.account_data), to.account_data);
        if !account_data.is_empty() {
            answer["account_data"]["events"] = account_data.into();
        }
        let messages = news(&self.to_device, user, from.map(|it| it.to_device), to.to_device);
        if !messages.is_empty() {
            answer["to_device"]["events"] = messages.into();
        }
        (from.is_none() || answer != json!({})).then_some(answer)
    }

    /// The ids of the rooms that a user is in, or invited to: that of the last
    /// event first.
    pub(crate) fn order(&self, user: &str, to: Stand) -> Vec<&str> {
        let last = |room: &Room| {
            let events = room.between(0, to.events);
            // Who is invited sees no more than the invite.
            let invite = room.members(to.events).into_iter().find(|(member, _)| *member == user);
            match invite {
                Some((_, event)) if event.membership() == "invite" => Some(event.number),
                Some(_) => events.last().map(|(_, event)| event.number),
                None => None,
            }
        };
        let rooms = self.rooms.iter().filter_map(|(id, room)| Some((last(room)?, &**id)));
        let mut rooms: Vec<_> = rooms.collect();
        rooms.sort_unstable_by_key(|room| std::cmp::Reverse(*room));
        rooms.into_iter().map(|(_, room_id)| room_id).collect()
    }

    /// Whether somebody gave the room a name.
    pub(crate) fn is_named(&self, room_id: &str, to: Stand) -> bool {
        let events = self.rooms[room_id].between(0, to.events);
        events.iter().any(|(_, event)| event.kind() == "m.room.name")
    }

    /// The member events of a room, as the user may ask for them.
    pub(crate) fn members(&self, room_id: &str, user: &str, to: Stand) -> Vec<Value> {
        let members = self.rooms[room_id].members(to.events);
        members.into_iter().map(|(_, event)| event.copy_for(user)).collect()
    }

    /// What is new in a room for one who has been in it.
    fn update(
        &self,
        room_id: &str,
        room: &Room,
        user: &str,
        from: Stand,
        to: Stand,
    ) -> Option<Value> {
        let mut entry = json!({});
        let events = room.between(from.events, to.events);
        if !events.is_empty() {
            entry["timeline"] = timeline(user, &events, false);
            if events.iter().any(|(_, event)| event.kind() == "m.room.member") {
                entry["summary"] = room.summary(user, to.events);
            }
            entry["unread_notifications"] = room.unread(user, to.events);
        }
        let typing = |(number, room, typing): &(u64, String, Value)| {
            (room == room_id && from.typing < *number && *number <= to.typing)
                .then(|| typing.clone())
        };
        let typing: Vec<_> = self.typing.iter().filter_map(typing).collect();
        if !typing.is_empty() {
            entry["ephemeral"]["events"] = typing.into();
        }
        (entry != json!({})).then_some(entry)
    }
}

/// The user's facts with numbers behind `from`, up to `to`.
fn news(
    facts: &BTreeMap<String, Vec<(u64, Value)>>,
    user: &str,
    from: Option<u64>,
    to: u64,
) -> Vec<Value> {
    let facts = facts.get(user).into_iter().flatten();
    let is_new = |number: u64| from.is_none_or(|from| from < number) && number <= to;
    facts.filter(|(number, _)| is_new(*number)).map(|(_, fact)| fact.clone()).collect()
}

/// A timeline of events; the token in front of it names the first of them.
fn timeline(user: &str, events: &[(&str, &Event)], limited: bool) -> Value {
    let prev_batch = events.first().map(|(event_id, _)| format!("before-{event_id}"));
    let events: Vec<_> = events.iter().map(|(_, event)| event.copy_for(user)).collect();
    json!({"events": events, "limited": limited, "prev_batch": prev_batch})
}

impl Room {
    fn learn(&mut self, user: &str, number: u64, in_timeline: bool, event: &Value) {
        let new = || Event { number, in_timeline, copies: BTreeMap::new() };
        let known = self.events.entry(text(&event["event_id"]).to_owned()).or_insert_with(new);
        match (known.in_timeline, in_timeline) {
            (true, true) => assert_eq!(known.number, number, "an event has one number: {event}"),
            (true, false) => {}
            (false, true) => (known.number, known.in_timeline) = (number, true),
            (false, false) => known.number = known.number.min(number),
        }
        // In a timeline `unsigned` is whole: that copy is the better one.
        if in_timeline || !known.copies.contains_key(user) {
            known.copies.insert(user.to_owned(), event.clone());
        }
    }

    /// The events with numbers behind `from`, up to `to`, oldest first.
    fn between(&self, from: u64, to: u64) -> Vec<(&str, &Event)> {
        let of_then = |(_, event): &(&str, &Event)| from < event.number && event.number <= to;
        let events = self.events.iter().map(|(event_id, event)| (&**event_id, event));
        let mut events: Vec<_> = events.filter(of_then).collect();
        events
            .sort_by_key(|(_, event)| (event.number, event.in_timeline, event.origin_server_ts()));
        events
    }

    /// What there is for one who has just come, or whose device has.
    fn joined(&self, user: &str, to: u64, first: bool) -> Value {
        let events = self.between(0, to);
        assert!(events.len() <= TIMELINE_MAX, "the room fits into one answer");
        // A homeserver says of a room that is new that there may be a gap.
        json!({
            "timeline": timeline(user, &events, !first),
            "state": {"events": []},
            "summary": self.summary(user, to),
            "unread_notifications": self.unread(user, to),
        })
    }

    /// Each member's last event: in the order of the members' first ones.
    fn members(&self, to: u64) -> Vec<(&str, &Event)> {
        let mut members: Vec<(&str, &Event)> = Vec::new();
        for (_, event) in self.between(0, to) {
            let Some(member) = event.member() else { continue };
            match members.iter_mut().find(|(known, _)| *known == member) {
                Some(known) => known.1 = event,
                None => members.push((member, event)),
            }
        }
        members
    }

    fn membership(&self, user: &str, to: u64) -> Option<&str> {
        let members = self.members(to);
        members.into_iter().find(|(member, _)| *member == user).map(|(_, it)| it.membership())
    }

    fn summary(&self, user: &str, to: u64) -> Value {
        let members = self.members(to);
        let count = |wanted| members.iter().filter(|(_, it)| it.membership() == wanted).count();
        let heroes: Vec<_> = members.iter().map(|(it, _)| *it).filter(|it| *it != user).collect();
        json!({
            "m.joined_member_count": count("join"),
            "m.invited_member_count": count("invite"),
            "m.heroes": heroes,
        })
    }

    /// Nobody reads anything in the recordings, and everybody is told of every
    /// message: what is unread are others' messages behind the last own one.
    fn unread(&self, user: &str, to: u64) -> Value {
        let events = self.between(0, to);
        let is_message = |event: &Event| event.kind() == "m.room.encrypted";
        let unread = events
            .iter()
            .rev()
            .take_while(|(_, event)| event.sender() != user)
            .filter(|(_, event)| is_message(event))
            .count();
        json!({"notification_count": unread, "highlight_count": 0})
    }
}

impl Event {
    fn any(&self) -> &Value {
        self.copies.values().next().expect("an event was seen by somebody")
    }

    fn kind(&self) -> &str {
        text(&self.any()["type"])
    }

    fn sender(&self) -> &str {
        text(&self.any()["sender"])
    }

    fn origin_server_ts(&self) -> u64 {
        self.any()["origin_server_ts"].as_u64().expect("an event has a time")
    }

    /// Whose membership it is about.
    fn member(&self) -> Option<&str> {
        (self.kind() == "m.room.member").then(|| text(&self.any()["state_key"]))
    }

    fn membership(&self) -> &str {
        text(&self.any()["content"]["membership"])
    }

    /// As the user gets it: the transaction id is the sender's own.
    fn copy_for(&self, user: &str) -> Value {
        self.copies.get(user).cloned().unwrap_or_else(|| {
            let mut event = self.any().clone();
            if let Some(unsigned) = event["unsigned"].as_object_mut() {
                unsigned.remove("transaction_id");
            }
            event
        })
    }
}
