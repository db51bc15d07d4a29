//! What concerns one account: devices, tokens, account data, receipts, typing, to-device messages, keys.
//!
//! Events of rooms are in `act`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::act::NewEvent;
use super::event::Membership;
use super::room::Receipt;
use super::{Device, Homeserver, Milliseconds, Refusal, Session, TokenOwner, User};

/// How many one-time keys a new device has.
const ONE_TIME_KEYS_FIRST: u64 = 50;

impl Homeserver {
    /// Makes an account, with the push rules that every account has, and gives its user id.
    pub fn register(&mut self, localpart: &str, display_name: &str, password: &str) -> String {
        let user_id = format!("@{localpart}:{}", self.server_name);
        let user = User {
            user_id: user_id.clone(),
            display_name: display_name.to_owned(),
            password: password.to_owned(),
            ..User::default()
        };
        self.users.entry(user_id.clone()).or_insert(user);
        self.set_account_data(&user_id, "m.push_rules", push_rules(localpart));
        user_id
    }

    /// Logs a device in without asking for a password; the device is new unless `device_id` names one.
    pub fn log_in(&mut self, user_id: &str, device_id: Option<&str>) -> Option<Session> {
        if !self.users.contains_key(user_id) {
            return None;
        }
        let device_id = device_id.map_or_else(|| self.random.capitals(10), str::to_owned);
        let local = user_id.trim_start_matches('@').split(':').next().unwrap_or_default();
        let access_token = format!("syt_{local}_{}", self.random.letters(26));
        let user = self.users.get_mut(user_id)?;
        let is_new = !user.devices.contains_key(&device_id);
        let device = user.devices.entry(device_id.clone()).or_default();
        device.one_time_keys.entry("signed_curve25519".into()).or_insert(ONE_TIME_KEYS_FIRST);
        self.tokens.insert(
            access_token.clone(),
            TokenOwner { user_id: user_id.into(), device_id: device_id.clone(), refused: None },
        );
        if is_new {
            self.change_devices(user_id);
        }
        Some(Session { user_id: user_id.to_owned(), access_token, device_id })
    }

    /// Refuses a token from now on; with `soft_logout` its device stays, else the device is deleted.
    pub fn refuse_token(&mut self, access_token: &str, soft_logout: bool) {
        let Some(owner) = self.tokens.get_mut(access_token) else { return };
        owner.refused = Some(soft_logout);
        let TokenOwner { user_id, device_id, .. } = owner.clone();
        if !soft_logout {
            if let Some(user) = self.users.get_mut(&user_id) {
                user.devices.remove(&device_id);
            }
            for other in self.tokens.values_mut() {
                if other.user_id == user_id && other.device_id == device_id {
                    other.refused = Some(false);
                }
            }
            self.change_devices(&user_id);
        }
        self.woken.insert(user_id);
    }

    /// Tells everybody who shares a room with a user that their devices are not what they were.
    pub fn change_devices(&mut self, user_id: &str) {
        let stream = self.next_stream();
        self.device_changes.push((stream, user_id.to_owned()));
        let rooms: Vec<String> =
            self.joined_rooms(user_id).map(|room| room.room_id.clone()).collect();
        for room_id in rooms {
            self.touch_room(&room_id, stream);
        }
        self.touch(user_id, stream);
    }

    /// Sets a piece of global account data.
    pub fn set_account_data(&mut self, user_id: &str, kind: &str, content: Value) {
        let stream = self.next_stream();
        if let Some(user) = self.users.get_mut(user_id) {
            user.account_data.insert(kind.to_owned(), (stream, content));
        }
        self.touch(user_id, stream);
    }

    /// Sets a piece of a room's account data.
    pub fn set_room_account_data(
        &mut self,
        user_id: &str,
        room_id: &str,
        kind: &str,
        content: Value,
    ) {
        let stream = self.next_stream();
        if let Some(user) = self.users.get_mut(user_id) {
            let user_room = user.rooms.entry(room_id.to_owned()).or_default();
            user_room.account_data.insert(kind.to_owned(), (stream, content));
            user_room.stream = stream;
        }
        self.touch(user_id, stream);
    }

    /// Notes how far a user has read; going back is ignored.
    pub fn set_receipt(
        &mut self,
        room_id: &str,
        user_id: &str,
        (event_id, private, thread): (&str, bool, Option<&str>),
        now: Milliseconds,
    ) -> Result<(), Refusal> {
        let stream = self.stream + 1;
        let room = self.rooms.get_mut(room_id).ok_or_else(|| Refusal::not_found("Unknown room"))?;
        if !room.joined.contains(user_id) {
            return Err(Refusal::forbidden("You are not in this room"));
        }
        let index = room.find(event_id).ok_or_else(|| Refusal::not_found("Unknown event"))?;
        let key = (user_id.to_owned(), private, thread.map(str::to_owned));
        if room.receipts.get(&key).is_some_and(|before| before.index >= index) {
            return Ok(());
        }
        let receipt = Receipt { event_id: event_id.to_owned(), index, ts: now, stream };
        room.receipts.insert(key, receipt);
        self.stream = stream;
        if private {
            if let Some(user_room) =
                self.users.get_mut(user_id).and_then(|user| user.rooms.get_mut(room_id))
            {
                user_room.stream = stream;
            }
            self.touch(user_id, stream);
        } else {
            room.stream = stream;
            self.touch_room(room_id, stream);
        }
        Ok(())
    }

    /// Says that a user types until `until`, or, with none, that they have stopped.
    pub fn set_typing(
        &mut self,
        room_id: &str,
        user_id: &str,
        until: Option<Milliseconds>,
    ) -> Result<(), Refusal> {
        let stream = self.stream + 1;
        let room = self.rooms.get_mut(room_id).ok_or_else(|| Refusal::not_found("Unknown room"))?;
        if !room.joined.contains(user_id) {
            return Err(Refusal::forbidden(format!("User {user_id} not in room {room_id}")));
        }
        let Some(until) = until else {
            self.end_typing(room_id, user_id);
            return Ok(());
        };
        self.typing_rooms.insert(room_id.to_owned());
        if room.typing.insert(user_id.to_owned(), until).is_none() {
            (self.stream, room.stream, room.typing_stream) = (stream, stream, stream);
            self.touch_room(room_id, stream);
        }
        Ok(())
    }

    /// Ends the typing whose time has come. Cheap when nobody types; call it often.
    pub fn tick(&mut self, now: Milliseconds) {
        let mut stopped = Vec::new();
        for room in self.typing_rooms.iter().filter_map(|room_id| self.rooms.get(room_id)) {
            for (user_id, _) in room.typing.iter().filter(|(_, until)| **until <= now) {
                stopped.push((room.room_id.clone(), user_id.clone()));
            }
        }
        for (room_id, user_id) in stopped {
            self.end_typing(&room_id, &user_id);
        }
    }

    /// Takes a user off the list of who types in a room.
    pub(crate) fn end_typing(&mut self, room_id: &str, user_id: &str) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        if room.typing.remove(user_id).is_none() {
            return;
        }
        let stream = self.stream + 1;
        (self.stream, room.stream, room.typing_stream) = (stream, stream, stream);
        if room.typing.is_empty() {
            self.typing_rooms.remove(room_id);
        }
        self.touch_room(room_id, stream);
    }

    /// Puts a message into a device's queue, or with `*` into those of all the user's devices.
    pub fn send_to_device(
        &mut self,
        sender: &str,
        kind: &str,
        (user_id, device_id): (&str, &str),
        content: &Value,
    ) {
        let stream = self.next_stream();
        if let Some(user) = self.users.get_mut(user_id) {
            for (id, device) in &mut user.devices {
                if device_id == "*" || device_id == id {
                    let message = json!({"sender": sender, "type": kind, "content": content});
                    device.to_device.push_back((stream, message));
                }
            }
        }
        self.touch(user_id, stream);
    }

    /// The messages that wait for a device, oldest first.
    pub fn waiting_to_device(&self, user_id: &str, device_id: &str) -> Vec<&Value> {
        let device = self.users.get(user_id).and_then(|user| user.devices.get(device_id));
        device.map_or_else(Vec::new, |device| {
            device.to_device.iter().map(|(_, message)| message).collect()
        })
    }

    /// Sets how many one-time keys a device has left.
    pub fn set_one_time_keys(&mut self, user_id: &str, device_id: &str, counts: &[(&str, u64)]) {
        if let Some(device) = self.device_mut(user_id, device_id) {
            device.one_time_keys =
                counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        }
    }

    /// Gives a user another name, in their profile and in every room that they are in.
    pub fn set_display_name(&mut self, user_id: &str, display_name: &str, now: Milliseconds) {
        let Some(user) = self.users.get_mut(user_id) else { return };
        display_name.clone_into(&mut user.display_name);
        let rooms: Vec<String> =
            self.joined_rooms(user_id).map(|room| room.room_id.clone()).collect();
        let content = self.member_content(user_id, Membership::Join);
        for room_id in rooms {
            let member = NewEvent::state(user_id, "m.room.member", user_id, content.clone());
            self.append(&room_id, member, now);
        }
    }

    pub(crate) fn device_mut(&mut self, user_id: &str, device_id: &str) -> Option<&mut Device> {
        self.users.get_mut(user_id)?.devices.get_mut(device_id)
    }

    /// What a transaction id of a device led to, if it was used before.
    pub(crate) fn transaction(&self, owner: &TokenOwner, transaction_id: &str) -> Option<String> {
        let device = self.users.get(&owner.user_id)?.devices.get(&owner.device_id)?;
        device.transactions.get(transaction_id).cloned()
    }

    pub(crate) fn remember_transaction(
        &mut self,
        owner: &TokenOwner,
        transaction_id: &str,
        result: &str,
    ) {
        if let Some(device) = self.device_mut(&owner.user_id, &owner.device_id) {
            device.transactions.insert(transaction_id.to_owned(), result.to_owned());
        }
    }

    /// Marks rooms as direct chats in `m.direct`.
    pub(crate) fn add_direct(&mut self, user_id: &str, other: &str, room_id: &str) {
        let Some(user) = self.users.get(user_id) else { return };
        let mut direct = match user.account_data.get("m.direct") {
            Some((_, content)) => content.clone(),
            None => json!({}),
        };
        if let Some(rooms) = direct.as_object_mut()
            && let Some(rooms) = rooms.entry(other).or_insert_with(|| json!([])).as_array_mut()
        {
            rooms.push(room_id.into());
        }
        self.set_account_data(user_id, "m.direct", direct);
    }
}

fn push_rules(localpart: &str) -> Value {
    let rule = |rule_id: &str, conditions: Value, actions: Value| {
        json!({
            "rule_id": rule_id, "default": true, "enabled": true,
            "conditions": conditions, "actions": actions,
        })
    };
    let kind_is = |kind: &str| json!([{"kind": "event_match", "key": "type", "pattern": kind}]);
    let mention =
        json!(["notify", {"set_tweak": "highlight"}, {"set_tweak": "sound", "value": "default"}]);
    let named: BTreeMap<&str, Value> = BTreeMap::from([
        (
            "override",
            json!([
                {"rule_id": ".m.rule.master", "default": true, "enabled": false, "conditions": [], "actions": []},
                rule(".m.rule.suppress_notices",
                    json!([{"kind": "event_match", "key": "content.msgtype", "pattern": "m.notice"}]), json!([])),
                rule(".m.rule.contains_display_name", json!([{"kind": "contains_display_name"}]), mention.clone()),
            ]),
        ),
        (
            "content",
            json!([{
                "rule_id": ".m.rule.contains_user_name", "default": true, "enabled": true,
                "pattern": localpart, "actions": mention,
            }]),
        ),
        ("room", json!([])),
        ("sender", json!([])),
        (
            "underride",
            json!([
                rule(".m.rule.message", kind_is("m.room.message"), json!(["notify"])),
                rule(".m.rule.encrypted", kind_is("m.room.encrypted"), json!(["notify"])),
            ]),
        ),
    ]);
    json!({"global": named})
}
