//! The endpoints that concern rooms.

use serde_json::{Value, json};

use super::{Call, Handled, required, unrecognized};
use crate::model::{
    EventIndex, Homeserver, Membership, NewEvent, NewRoom, Refusal, Room, Viewer, push_string,
};

/// Events of one page of `/messages` when nothing is asked for, and at most.
const PAGE_LIMIT: usize = 10;
const PAGE_LIMIT_MAX: usize = 1_000;
/// How long somebody types when the request does not say.
const TYPING_MS: u64 = 30_000;

impl Homeserver {
    pub(super) fn route_rooms(
        &mut self,
        call: &Call<'_>,
        segments: &[&str],
    ) -> Result<Handled, Refusal> {
        let user_id = call.owner.user_id.clone();
        match (call.method, segments) {
            ("GET", ["joined_rooms"]) => {
                let rooms: Vec<&str> =
                    self.joined_rooms(&user_id).map(|room| room.room_id.as_str()).collect();
                Ok(Handled::Json(json!({"joined_rooms": rooms})))
            }
            ("POST", ["createRoom"]) => self.post_create_room(call).map(Handled::Json),
            ("POST", [action @ ("join" | "knock"), named]) => {
                let room_id = self.aliases.get(*named).map_or(*named, String::as_str).to_owned();
                self.change_membership(call, &room_id, action).map(Handled::Json)
            }
            _ => Err(unrecognized()),
        }
    }

    pub(super) fn route_room(
        &mut self,
        call: &Call<'_>,
        room_id: &str,
        segments: &[&str],
    ) -> Result<Handled, Refusal> {
        let user_id = call.owner.user_id.as_str();
        match (call.method, segments) {
            ("GET", ["members"]) => self.members(call, room_id).map(Handled::Text),
            ("GET", ["joined_members"]) => self.joined_members(call, room_id).map(Handled::Json),
            ("GET", ["messages"]) => self.messages(call, room_id).map(Handled::Text),
            ("GET", ["context", event_id]) => {
                self.context(call, room_id, event_id).map(Handled::Text)
            }
            ("GET", ["event", event_id]) => {
                let room = self.viewed_room(call, room_id)?;
                let place = room.find(event_id).filter(|place| room.visible(user_id, *place));
                let place = place.ok_or_else(|| Refusal::not_found("Event not found."))?;
                Ok(Handled::Text(Self::write_places(call, room, &[place])))
            }
            ("GET", ["state"]) => {
                let room = self.viewed_room(call, room_id)?;
                let places: Vec<_> = room.state_places_at(room.end_for(user_id)).collect();
                Ok(Handled::Text(format!("[{}]", Self::write_places(call, room, &places))))
            }
            ("GET", ["state", kind, rest @ ..]) => {
                let state_key = rest.first().copied().unwrap_or_default();
                self.state_content(call, room_id, (kind, state_key)).map(Handled::Json)
            }
            ("PUT", ["state", kind, rest @ ..]) => {
                let state_key = rest.first().copied().unwrap_or_default();
                let event = NewEvent::state(user_id, kind, state_key, call.request.json()?);
                let event_id = self.send(room_id, event, call.now)?;
                Ok(Handled::Json(json!({"event_id": event_id})))
            }
            ("PUT", ["send", kind, transaction_id]) => {
                let event = NewEvent::message(user_id, kind, call.request.json()?);
                self.put_event(call, room_id, event, transaction_id).map(Handled::Json)
            }
            ("PUT", ["redact", event_id, transaction_id]) => {
                let mut content = call.request.json()?;
                content["redacts"] = (*event_id).into();
                let mut event = NewEvent::message(user_id, "m.room.redaction", content);
                event.redacts = Some((*event_id).to_owned());
                self.put_event(call, room_id, event, transaction_id).map(Handled::Json)
            }
            ("PUT", ["typing", other]) if *other == user_id => {
                let body = call.request.json()?;
                let timeout = body["timeout"].as_u64().unwrap_or(TYPING_MS);
                let until = (body["typing"] == true).then_some(call.now + timeout);
                self.set_typing(room_id, user_id, until)?;
                Ok(Handled::Json(json!({})))
            }
            ("POST", ["receipt", kind, event_id]) => {
                self.post_receipt(call, room_id, kind, event_id).map(Handled::Json)
            }
            ("POST", ["read_markers"]) => self.post_read_markers(call, room_id).map(Handled::Json),
            ("POST", ["forget"]) => {
                self.forget(room_id, user_id).map(|()| Handled::Json(json!({})))
            }
            ("POST", [action]) => self.change_membership(call, room_id, action).map(Handled::Json),
            _ => Err(unrecognized()),
        }
    }

    /// A room that the caller is or was in.
    fn viewed_room(&self, call: &Call<'_>, room_id: &str) -> Result<&Room, Refusal> {
        let user_id = &call.owner.user_id;
        let room = self.rooms.get(room_id);
        room.filter(|room| room.stay_start(user_id).is_some()).ok_or_else(|| {
            let message =
                format!("User {user_id} not in room {room_id}, and room previews are disabled");
            Refusal::forbidden(message)
        })
    }

    /// Events as JSON objects with commas between.
    fn write_places(call: &Call<'_>, room: &Room, places: &[EventIndex]) -> String {
        let owner = &call.owner;
        let viewer = Viewer { user_id: &owner.user_id, device_id: &owner.device_id, now: call.now };
        let mut out = String::new();
        for place in places {
            if !out.is_empty() {
                out.push(',');
            }
            let membership = room.membership_at(&owner.user_id, place + 1);
            let membership = membership.or(Some(Membership::Leave));
            room.events[*place].write_with_room(&mut out, &room.room_id, &viewer, membership);
        }
        out
    }

    fn members(&self, call: &Call<'_>, room_id: &str) -> Result<String, Refusal> {
        let room = self.viewed_room(call, room_id)?;
        let at = match call.query.get("at") {
            Some(token) => self
                .read_token(token)
                .map(|token| room.first_after(token.stream))
                .or_else(|| self.read_place(token))
                .ok_or_else(|| Refusal::new(400, "M_INVALID_PARAM", "Invalid 'at' token"))?,
            None => room.events.len(),
        };
        let end = at.min(room.end_for(&call.owner.user_id));
        let (wanted, unwanted) = (call.query.get("membership"), call.query.get("not_membership"));
        let places: Vec<EventIndex> = room
            .state_places_at(end)
            .filter(|place| {
                let word = room.events[*place].membership.map(Membership::as_str);
                word.is_some()
                    && wanted.is_none_or(|wanted| word == Some(wanted))
                    && unwanted.is_none_or(|unwanted| word != Some(unwanted))
            })
            .collect();
        Ok(format!("{{\"chunk\":[{}]}}", Self::write_places(call, room, &places)))
    }

    fn joined_members(&self, call: &Call<'_>, room_id: &str) -> Result<Value, Refusal> {
        let room = self.viewed_room(call, room_id)?;
        let mut joined = json!({});
        for user_id in &room.joined {
            let content = room.state("m.room.member", user_id).map(crate::model::Event::content);
            let content = content.unwrap_or_default();
            joined[user_id] = json!({
                "display_name": content["displayname"], "avatar_url": content["avatar_url"],
            });
        }
        Ok(json!({"joined": joined}))
    }

    fn messages(&self, call: &Call<'_>, room_id: &str) -> Result<String, Refusal> {
        let room = self.viewed_room(call, room_id)?;
        let user_id = call.owner.user_id.as_str();
        let limit = call.query.get("limit").and_then(|limit| limit.parse().ok());
        let limit = limit.unwrap_or(PAGE_LIMIT).min(PAGE_LIMIT_MAX);
        let backwards = call.query.get("dir").unwrap_or("b") != "f";
        let end = room.end_for(user_id);
        let place_of = |text: &str| {
            self.read_place(text)
                .or_else(|| self.read_token(text).map(|token| room.first_after(token.stream)))
                .map(|place| place.min(end))
                .ok_or_else(|| Refusal::new(400, "M_INVALID_PARAM", "Invalid pagination token"))
        };
        let from = match call.query.get("from") {
            Some(text) => place_of(text)?,
            None if backwards => end,
            None => 0,
        };
        let to = call.query.get("to").map(place_of).transpose()?;
        let visible = |place: &EventIndex| room.visible(user_id, *place);
        let places: Vec<EventIndex> = if backwards {
            (to.unwrap_or(0)..from).rev().filter(visible).take(limit).collect()
        } else {
            (from..to.unwrap_or(end)).filter(visible).take(limit).collect()
        };
        let chunk = Self::write_places(call, room, &places);
        let mut out = format!("{{\"chunk\":[{chunk}],\"start\":");
        push_string(&mut out, &self.write_place(from));
        if let Some(last) = places.last().filter(|_| places.len() == limit) {
            let next = if backwards { *last } else { last + 1 };
            out.push_str(",\"end\":");
            push_string(&mut out, &self.write_place(next));
        }
        out.push('}');
        Ok(out)
    }

    fn context(&self, call: &Call<'_>, room_id: &str, event_id: &str) -> Result<String, Refusal> {
        let room = self.viewed_room(call, room_id)?;
        let user_id = call.owner.user_id.as_str();
        let visible = |place: &EventIndex| room.visible(user_id, *place);
        let place = room
            .find(event_id)
            .filter(|place| visible(place))
            .ok_or_else(|| Refusal::not_found("Event not found."))?;
        let limit: usize =
            call.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE_LIMIT);
        let half = limit.min(PAGE_LIMIT_MAX) / 2;
        let before: Vec<EventIndex> = (0..place).rev().filter(visible).take(half).collect();
        let after: Vec<EventIndex> =
            (place + 1..room.end_for(user_id)).filter(visible).take(half).collect();
        let state: Vec<EventIndex> = room.state_places_at(place + 1).collect();
        let (first, last) = (*before.last().unwrap_or(&place), *after.last().unwrap_or(&place));
        Ok(format!(
            "{{\"event\":{},\"events_before\":[{}],\"events_after\":[{}],\"state\":[{}],\
             \"start\":\"{}\",\"end\":\"{}\"}}",
            Self::write_places(call, room, &[place]),
            Self::write_places(call, room, &before),
            Self::write_places(call, room, &after),
            Self::write_places(call, room, &state),
            self.write_place(first),
            self.write_place(last + 1),
        ))
    }

    fn state_content(
        &self,
        call: &Call<'_>,
        room_id: &str,
        (kind, state_key): (&str, &str),
    ) -> Result<Value, Refusal> {
        let room = self.viewed_room(call, room_id)?;
        let end = room.end_for(&call.owner.user_id);
        let event = room
            .state_at(kind, state_key, end)
            .ok_or_else(|| Refusal::not_found("Event not found."))?;
        if call.query.get("format") != Some("event") {
            return Ok(event.content());
        }
        let place = room.find(&event.event_id).unwrap_or_default();
        let text = Self::write_places(call, room, &[place]);
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn put_event(
        &mut self,
        call: &Call<'_>,
        room_id: &str,
        mut event: NewEvent,
        transaction_id: &str,
    ) -> Result<Value, Refusal> {
        let key = format!("send/{room_id}/{}/{transaction_id}", event.kind);
        if let Some(event_id) = self.transaction(&call.owner, &key) {
            return Ok(json!({"event_id": event_id}));
        }
        event.transaction = Some((call.owner.device_id.clone(), transaction_id.to_owned()));
        let event_id = self.send(room_id, event, call.now)?;
        self.remember_transaction(&call.owner, &key, &event_id);
        Ok(json!({"event_id": event_id}))
    }

    fn post_receipt(
        &mut self,
        call: &Call<'_>,
        room_id: &str,
        kind: &str,
        event_id: &str,
    ) -> Result<Value, Refusal> {
        let user_id = call.owner.user_id.as_str();
        let body = call.request.json()?;
        let private = match kind {
            "m.read" => false,
            "m.read.private" => true,
            "m.fully_read" => {
                let content = json!({"event_id": event_id});
                self.set_room_account_data(user_id, room_id, "m.fully_read", content);
                return Ok(json!({}));
            }
            _ => return Err(Refusal::new(400, "M_INVALID_PARAM", "Unknown receipt type")),
        };
        let receipt = (event_id, private, body["thread_id"].as_str());
        self.set_receipt(room_id, user_id, receipt, call.now)?;
        Ok(json!({}))
    }

    fn post_read_markers(&mut self, call: &Call<'_>, room_id: &str) -> Result<Value, Refusal> {
        let body = call.request.json()?;
        for kind in ["m.fully_read", "m.read", "m.read.private"] {
            if let Some(event_id) = body[kind].as_str() {
                let body = json!({}).to_string().into_bytes();
                let request = super::Request { body, ..call.request.clone() };
                let call = Call {
                    owner: call.owner.clone(),
                    query: super::Query::default(),
                    request: &request,
                    ..*call
                };
                self.post_receipt(&call, room_id, kind, event_id)?;
            }
        }
        Ok(json!({}))
    }

    fn change_membership(
        &mut self,
        call: &Call<'_>,
        room_id: &str,
        action: &str,
    ) -> Result<Value, Refusal> {
        let body = call.request.json()?;
        let own = call.owner.user_id.as_str();
        let membership = match action {
            "join" => Membership::Join,
            "knock" => Membership::Knock,
            "invite" => Membership::Invite,
            "leave" | "kick" | "unban" => Membership::Leave,
            "ban" => Membership::Ban,
            _ => return Err(unrecognized()),
        };
        let target = match action {
            "join" | "knock" | "leave" => own,
            _ => required(&body, "user_id")?,
        };
        let reason = body["reason"].as_str();
        self.set_membership(room_id, own, (target, membership), reason, call.now)?;
        Ok(match action {
            "join" | "knock" => json!({"room_id": room_id}),
            _ => json!({}),
        })
    }

    fn post_create_room(&mut self, call: &Call<'_>) -> Result<Value, Refusal> {
        let body = call.request.json()?;
        let text = |key: &str| body[key].as_str().map(str::to_owned);
        let preset = body["preset"].as_str().unwrap_or_default();
        let public = preset == "public_chat"
            || (preset.is_empty() && body["visibility"].as_str() == Some("public"));
        let list = |key: &str| body[key].as_array().cloned().unwrap_or_default();
        let initial_state = list("initial_state").into_iter().map(|event| {
            let part = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            (part("type"), part("state_key"), event["content"].clone())
        });
        let new = NewRoom {
            name: text("name"),
            topic: text("topic"),
            alias: text("room_alias_name"),
            room_type: body["creation_content"]["type"].as_str().map(str::to_owned),
            version: text("room_version").unwrap_or_default(),
            public,
            direct: body["is_direct"] == true,
            invite: list("invite")
                .iter()
                .filter_map(|user_id| user_id.as_str().map(str::to_owned))
                .collect(),
            initial_state: initial_state.collect(),
            ..NewRoom::default()
        };
        let room_id = self.create_room(&call.owner.user_id, &new, call.now);
        Ok(json!({"room_id": room_id}))
    }
}
