//! Everything that can happen on the homeserver, with the rules that the specification puts on it.
//!
//! `append` is the one way by which an event comes into a room; it checks nothing, so that a history, or a test that
//! wants something odd, can be put together freely. All else asks the room's power levels first.

use serde_json::{Value, json};

use super::event::{Event, Membership};
use super::redaction::redacted_content;
use super::room::Room;
use super::{Homeserver, Milliseconds, Refusal};

/// An event to be sent.
#[derive(Debug, Clone, Default)]
pub struct NewEvent {
    /// The type.
    pub kind: String,
    /// Present for state.
    pub state_key: Option<String>,
    /// Who sends it.
    pub sender: String,
    /// The content.
    pub content: Value,
    /// The event that it redacts.
    pub redacts: Option<String>,
    /// The sending device and its transaction id.
    pub transaction: Option<(String, String)>,
}

impl NewEvent {
    /// An event that is not state.
    pub fn message(sender: &str, kind: &str, content: Value) -> Self {
        Self { kind: kind.into(), sender: sender.into(), content, ..Self::default() }
    }

    /// A state event.
    pub fn state(sender: &str, kind: &str, state_key: &str, content: Value) -> Self {
        Self { state_key: Some(state_key.into()), ..Self::message(sender, kind, content) }
    }
}

/// A room to be created.
#[derive(Debug, Clone, Default)]
pub struct NewRoom {
    /// `m.room.name`.
    pub name: Option<String>,
    /// `m.room.topic`.
    pub topic: Option<String>,
    /// `m.room.avatar`'s URL.
    pub avatar_url: Option<String>,
    /// The local part of a canonical alias.
    pub alias: Option<String>,
    /// `m.space`, for a space.
    pub room_type: Option<String>,
    /// The room version; "10" when empty.
    pub version: String,
    /// Whether anybody may join; invited people only otherwise.
    pub public: bool,
    /// Whether one may knock.
    pub knock: bool,
    /// Whether messages are encrypted.
    pub encrypted: bool,
    /// Whether invites are marked as a direct chat.
    pub direct: bool,
    /// `m.room.history_visibility`; "shared" when empty.
    pub history_visibility: String,
    /// Who is invited at once.
    pub invite: Vec<String>,
    /// Further state: type, state key, content.
    pub initial_state: Vec<(String, String, Value)>,
}

impl Homeserver {
    /// Puts an event into a room without asking whether it may be there, and gives its id.
    ///
    /// A room that does not exist is made, so that a history may also begin oddly.
    pub fn append(&mut self, room_id: &str, new: NewEvent, now: Milliseconds) -> String {
        let event_id = format!("${}", self.random.letters(43));
        let stream = self.next_stream();
        let membership = (new.kind == "m.room.member")
            .then(|| new.content.get("membership").and_then(Value::as_str))
            .flatten()
            .and_then(Membership::parse);
        let room = self.rooms.entry(room_id.to_owned()).or_insert_with(|| Room {
            room_id: room_id.to_owned(),
            version: "10".to_owned(),
            ..Room::default()
        });
        let replaces = new
            .state_key
            .as_deref()
            .and_then(|state_key| room.state(&new.kind, state_key))
            .map(|before| (before.event_id.clone(), before.content.clone()));
        let target = membership.and(new.state_key.clone());
        room.push(Event {
            stream,
            event_id: event_id.clone().into(),
            kind: new.kind.into(),
            state_key: new.state_key.map(Into::into),
            sender: new.sender.into(),
            origin_server_ts: now,
            content: new.content.to_string().into(),
            redacts: new.redacts.clone().map(Into::into),
            membership,
            replaces,
            redacted_because: None,
            transaction: new.transaction.map(|(device, id)| (device.into(), id.into())),
        });
        if let Some(target) = new.redacts {
            self.redact_stored(room_id, &target);
        }
        if let (Some(target), Some(membership)) = (target, membership) {
            self.note_membership(room_id, &target, membership, stream);
        }
        self.touch_room(room_id, stream);
        event_id
    }

    /// Creates a room with its creator in it, and gives its id.
    pub fn create_room(&mut self, creator: &str, new: &NewRoom, now: Milliseconds) -> String {
        let room_id = format!("!{}:{}", self.random.letters(18), self.server_name);
        let version = if new.version.is_empty() { "10" } else { &new.version };
        self.rooms.insert(
            room_id.clone(),
            Room { room_id: room_id.clone(), version: version.to_owned(), ..Room::default() },
        );
        let mut create = json!({"room_version": version});
        if version.parse::<u32>().is_ok_and(|number| number < 11) {
            create["creator"] = creator.into();
        }
        if let Some(room_type) = &new.room_type {
            create["type"] = room_type.as_str().into();
        }
        let member = self.member_content(creator, Membership::Join);
        let mut state = vec![
            ("m.room.create", String::new(), create),
            ("m.room.member", creator.to_owned(), member),
            ("m.room.power_levels", String::new(), power_levels(creator)),
        ];
        let mut simple = |kind, key: &str, value: Option<&str>| {
            if let Some(value) = value {
                state.push((kind, String::new(), json!({key: value})));
            }
        };
        let alias = new.alias.as_ref().map(|alias| format!("#{alias}:{}", self.server_name));
        let rule = if new.public {
            "public"
        } else if new.knock {
            "knock"
        } else {
            "invite"
        };
        let visibility = Some(new.history_visibility.as_str()).filter(|word| !word.is_empty());
        simple("m.room.canonical_alias", "alias", alias.as_deref());
        simple("m.room.join_rules", "join_rule", Some(rule));
        simple("m.room.history_visibility", "history_visibility", visibility.or(Some("shared")));
        simple("m.room.guest_access", "guest_access", Some("can_join"));
        simple("m.room.encryption", "algorithm", new.encrypted.then_some("m.megolm.v1.aes-sha2"));
        simple("m.room.name", "name", new.name.as_deref());
        simple("m.room.topic", "topic", new.topic.as_deref());
        simple("m.room.avatar", "url", new.avatar_url.as_deref());
        for (kind, state_key, content) in state {
            self.append(&room_id, NewEvent::state(creator, kind, &state_key, content), now);
        }
        for (kind, state_key, content) in &new.initial_state {
            self.append(&room_id, NewEvent::state(creator, kind, state_key, content.clone()), now);
        }
        if let Some(alias) = alias {
            self.aliases.insert(alias, room_id.clone());
        }
        for invitee in &new.invite {
            let mut content = self.member_content(invitee, Membership::Invite);
            if new.direct {
                content["is_direct"] = true.into();
            }
            let invite = NewEvent::state(creator, "m.room.member", invitee, content);
            self.append(&room_id, invite, now);
        }
        room_id
    }

    /// Sends an event as a member of the room may, and gives its id.
    pub fn send(
        &mut self,
        room_id: &str,
        new: NewEvent,
        now: Milliseconds,
    ) -> Result<String, Refusal> {
        let room = self.rooms.get(room_id).ok_or_else(|| unknown_room(room_id))?;
        if !room.joined.contains(&new.sender) {
            return Err(Refusal::forbidden(format!("User {} not in room {room_id}", new.sender)));
        }
        let needed = event_level(room, &new.kind, new.state_key.is_some());
        if power(room, &new.sender) < needed {
            return Err(Refusal::forbidden(format!(
                "You don't have permission to post that to the room. user_level ({}) < send_level ({needed})",
                power(room, &new.sender)
            )));
        }
        if new.state_key.as_deref().is_some_and(|key| key.starts_with('@') && key != new.sender) {
            return Err(Refusal::forbidden("You are not allowed to set others state"));
        }
        if let Some(target) = &new.redacts {
            let own = room.find(target).is_some_and(|at| *room.events[at].sender == *new.sender);
            if !own && power(room, &new.sender) < level(room, "redact", 50) {
                return Err(Refusal::forbidden("You don't have permission to redact events"));
            }
        }
        Ok(self.append(room_id, new, now))
    }

    /// Sends a line of text, and gives its event's id.
    pub fn say(
        &mut self,
        room_id: &str,
        sender: &str,
        text: &str,
        now: Milliseconds,
    ) -> Result<String, Refusal> {
        let content = json!({"msgtype": "m.text", "body": text});
        self.send(room_id, NewEvent::message(sender, "m.room.message", content), now)
    }

    /// Sets a piece of state as a member of the room may, and gives its event's id.
    pub fn set_state(
        &mut self,
        room_id: &str,
        sender: &str,
        (kind, state_key): (&str, &str),
        content: Value,
        now: Milliseconds,
    ) -> Result<String, Refusal> {
        self.send(room_id, NewEvent::state(sender, kind, state_key, content), now)
    }

    /// Joins, invites, knocks, leaves, kicks or bans: `sender` gives `target` a membership.
    pub fn set_membership(
        &mut self,
        room_id: &str,
        sender: &str,
        (target, membership): (&str, Membership),
        reason: Option<&str>,
        now: Milliseconds,
    ) -> Result<String, Refusal> {
        let room = self.rooms.get(room_id).ok_or_else(|| unknown_room(room_id))?;
        check_membership(room, sender, target, membership)?;
        if room.membership(target) == Some(membership) && membership == Membership::Join {
            let present = room.state("m.room.member", target);
            return Ok(present.map(|event| event.event_id.to_string()).unwrap_or_default());
        }
        let mut content = self.member_content(target, membership);
        if let Some(reason) = reason {
            content["reason"] = reason.into();
        }
        Ok(self.append(room_id, NewEvent::state(sender, "m.room.member", target, content), now))
    }

    /// Drops a room that the user has left from what they are shown.
    pub fn forget(&mut self, room_id: &str, user_id: &str) -> Result<(), Refusal> {
        let room = self.rooms.get(room_id).ok_or_else(|| unknown_room(room_id))?;
        if !matches!(room.membership(user_id), Some(Membership::Leave | Membership::Ban)) {
            let message = format!("User {user_id} is in room {room_id}");
            return Err(Refusal::new(400, "M_UNKNOWN", message));
        }
        if let Some(user_room) =
            self.users.get_mut(user_id).and_then(|user| user.rooms.get_mut(room_id))
        {
            user_room.forgotten = true;
            user_room.account_data.clear();
        }
        Ok(())
    }

    /// The content of a member event for a user, with their name and picture.
    pub(crate) fn member_content(&self, user_id: &str, membership: Membership) -> Value {
        let mut content = json!({"membership": membership.as_str()});
        if matches!(membership, Membership::Leave | Membership::Ban) {
            return content;
        }
        if let Some(user) = self.users.get(user_id) {
            content["displayname"] = user.display_name.as_str().into();
            if let Some(url) = &user.avatar_url {
                content["avatar_url"] = url.as_str().into();
            }
        } else {
            let local = user_id.trim_start_matches('@').split(':').next().unwrap_or_default();
            content["displayname"] = local.into();
        }
        content
    }

    fn redact_stored(&mut self, room_id: &str, target: &str) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let because = room.events.last().map(Event::bare);
        if let Some(place) = room.find(target) {
            let event = &mut room.events[place];
            let left = redacted_content(&room.version, &event.kind, &event.content());
            event.content = left.to_string().into();
            event.redacted_because = because.map(Into::into);
        }
    }

    fn note_membership(
        &mut self,
        room_id: &str,
        target: &str,
        membership: Membership,
        stream: u64,
    ) {
        let stripped = matches!(membership, Membership::Invite | Membership::Knock)
            .then(|| self.rooms.get(room_id).map(|room| stripped_state(room, target)))
            .flatten();
        if let Some(user) = self.users.get_mut(target) {
            let user_room = user.rooms.entry(room_id.to_owned()).or_default();
            user_room.stream = stream;
            user_room.forgotten = false;
            if let Some(stripped) = stripped {
                user_room.stripped_state = stripped;
            }
            for device in user.devices.values_mut() {
                device.sent_members.remove(room_id);
            }
        }
        self.touch(target, stream);
        if membership != Membership::Join {
            self.end_typing(room_id, target);
        }
    }
}

fn check_membership(
    room: &Room,
    sender: &str,
    target: &str,
    membership: Membership,
) -> Result<(), Refusal> {
    let present = room.membership(target);
    let sender_joined = room.joined.contains(sender);
    let outranks = power(room, sender) > power(room, target);
    let rule = room.state("m.room.join_rules", "").and_then(|event| event.content_str("join_rule"));
    let rule = rule.as_deref().unwrap_or("invite");
    let allowed = match membership {
        Membership::Join => match present {
            Some(Membership::Join | Membership::Invite) => sender == target,
            Some(Membership::Ban) => false,
            _ => sender == target && rule == "public",
        },
        Membership::Invite => {
            sender_joined
                && !matches!(present, Some(Membership::Join | Membership::Ban))
                && power(room, sender) >= level(room, "invite", 0)
        }
        Membership::Knock => {
            sender == target
                && rule == "knock"
                && !matches!(present, Some(Membership::Join | Membership::Invite | Membership::Ban))
        }
        Membership::Leave if sender == target => {
            matches!(present, Some(Membership::Join | Membership::Invite | Membership::Knock))
        }
        Membership::Leave => {
            let lifts_a_ban = present == Some(Membership::Ban);
            let needed = level(room, if lifts_a_ban { "ban" } else { "kick" }, 50);
            sender_joined && outranks && power(room, sender) >= needed
        }
        Membership::Ban => {
            sender_joined && outranks && power(room, sender) >= level(room, "ban", 50)
        }
    };
    if allowed {
        return Ok(());
    }
    let word = membership.as_str();
    Err(Refusal::forbidden(format!("{sender} cannot set {target} to {word} in {}", room.room_id)))
}

/// What somebody outside gets to know of a room, their own member event last.
fn stripped_state(room: &Room, target: &str) -> String {
    const SHOWN: &[&str] = &[
        "m.room.create",
        "m.room.join_rules",
        "m.room.canonical_alias",
        "m.room.avatar",
        "m.room.encryption",
        "m.room.name",
        "m.room.topic",
    ];
    let member = room.state("m.room.member", target);
    let sender = member
        .filter(|member| &*member.sender != target)
        .and_then(|member| room.state("m.room.member", &member.sender));
    let shown = SHOWN.iter().filter_map(|kind| room.state(kind, ""));
    let mut out = String::new();
    for event in shown.chain(sender).chain(member) {
        if !out.is_empty() {
            out.push(',');
        }
        event.write_stripped(&mut out);
    }
    out
}

fn power_levels(creator: &str) -> Value {
    json!({
        "users": {creator: 100}, "users_default": 0, "events_default": 0, "state_default": 50,
        "ban": 50, "kick": 50, "redact": 50, "invite": 0, "historical": 100,
        "events": {
            "m.room.name": 50, "m.room.power_levels": 100, "m.room.history_visibility": 100,
            "m.room.canonical_alias": 50, "m.room.avatar": 50, "m.room.tombstone": 100,
            "m.room.server_acl": 100, "m.room.encryption": 100,
        },
    })
}

fn power(room: &Room, user_id: &str) -> i64 {
    let content = room.state("m.room.power_levels", "").map(Event::content).unwrap_or_default();
    let of = |value: Option<&Value>| value.and_then(Value::as_i64);
    of(content.get("users").and_then(|users| users.get(user_id)))
        .or(of(content.get("users_default")))
        .unwrap_or(0)
}

fn level(room: &Room, key: &str, default: i64) -> i64 {
    let content = room.state("m.room.power_levels", "").map(Event::content).unwrap_or_default();
    content.get(key).and_then(Value::as_i64).unwrap_or(default)
}

fn event_level(room: &Room, kind: &str, is_state: bool) -> i64 {
    let content = room.state("m.room.power_levels", "").map(Event::content).unwrap_or_default();
    let named = content.get("events").and_then(|events| events.get(kind)).and_then(Value::as_i64);
    let (key, default) = if is_state { ("state_default", 50) } else { ("events_default", 0) };
    named.or(content.get(key).and_then(Value::as_i64)).unwrap_or(default)
}

fn unknown_room(room_id: &str) -> Refusal {
    Refusal::not_found(format!("Unknown room {room_id}"))
}
