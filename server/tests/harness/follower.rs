//! A client that keeps what responses say of rooms, as Element X would, and holds it against the
//! truth. Whatever would confuse a client on the way is noted as a problem.

use std::collections::{BTreeMap, BTreeSet};

use luge_io::{http::ClientError, time};
use luge_loadtest::model::Membership;
use serde_json::{Value, json, value::RawValue};

use super::{
    device::{Answer, Device, Event, Response, Room},
    facts::{Facts, RoomFacts},
};

/// Events that are asked for of each room.
const TIMELINE_LIMIT: usize = 20;
/// The state that is asked for, beside members; as Element X asks, less calls.
const STATE: &[&str] = &[
    "m.room.name",
    "m.room.encryption",
    "m.room.topic",
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.create",
    "m.room.tombstone",
    "m.room.history_visibility",
];
const MEMBER: &str = "m.room.member";

/// A client that follows its rooms.
pub(crate) struct Follower {
    pub(crate) device: Device,
    pub(crate) user_id: String,
    pub(crate) conn_id: String,
    pub(crate) pos: Option<String>,
    /// The last room of the window.
    pub(crate) window_end: usize,
    /// The rooms of the window, and how many the list has.
    pub(crate) list: BTreeSet<String>,
    pub(crate) count: usize,
    pub(crate) rooms: BTreeMap<String, Kept>,
    /// Global account data by type.
    pub(crate) account_data: BTreeMap<String, Value>,
    /// To-device messages in the order of their coming.
    pub(crate) to_device: Vec<Value>,
    to_device_since: Option<String>,
    /// What would have confused a client.
    pub(crate) problems: Vec<String>,
}

/// What is kept of a room.
#[derive(Default)]
pub(crate) struct Kept {
    membership: String,
    name: Option<String>,
    joined_count: Option<usize>,
    invited_count: Option<usize>,
    /// Id and sender, without a gap from the first on.
    timeline: Vec<(String, String)>,
    /// Whether there is more before it, which the homeserver can be asked for.
    limited: bool,
    seen: BTreeSet<String>,
    /// The text of messages that have one.
    pub(crate) texts: Vec<String>,
    state: BTreeMap<(String, String), String>,
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No answer.
    Broken(ClientError),
    /// Another answer.
    Refused(Answer),
}

impl Follower {
    pub(crate) fn new(device: Device, user_id: &str) -> Self {
        Self {
            device,
            user_id: user_id.to_owned(),
            conn_id: "room-list".to_owned(),
            pos: None,
            window_end: TIMELINE_LIMIT - 1,
            list: BTreeSet::new(),
            count: 0,
            rooms: BTreeMap::new(),
            account_data: BTreeMap::new(),
            to_device: Vec::new(),
            to_device_since: None,
            problems: Vec::new(),
        }
    }

    /// Everything from the beginning, on a connection of another name.
    pub(crate) fn anew(&self, conn_id: &str) -> Self {
        let fresh = Self::new(self.device.clone(), &self.user_id);
        Self { conn_id: conn_id.to_owned(), window_end: 100_000, ..fresh }
    }

    fn body(&self) -> String {
        let mut required: Vec<[&str; 2]> = STATE.iter().map(|kind| [*kind, ""]).collect();
        required.extend([[MEMBER, "$LAZY"], [MEMBER, "$ME"], ["m.space.child", "*"]]);
        let mut to_device = json!({"enabled": true});
        if let Some(since) = &self.to_device_since {
            to_device["since"] = since.as_str().into();
        }
        let list = json!({
            "ranges": [[0, self.window_end]], "timeline_limit": TIMELINE_LIMIT, "required_state": required,
        });
        let on = json!({"enabled": true});
        let extensions = json!({
            "to_device": to_device, "e2ee": on, "account_data": on, "receipts": on, "typing": on,
        });
        json!({"conn_id": self.conn_id, "lists": {"all": list}, "extensions": extensions})
            .to_string()
    }

    /// One request, and what it brings; true where that is more than a position.
    pub(crate) async fn step(&mut self, timeout_ms: u64) -> Result<bool, Trouble> {
        let answer = self.device.ask(self.pos.as_deref(), timeout_ms, self.body()).await;
        let answer = answer.map_err(Trouble::Broken)?;
        if answer.status != 200 {
            return Err(Trouble::Refused(answer));
        }
        Ok(self.take(&answer.response()))
    }

    /// One request that must succeed.
    pub(crate) async fn must_step(&mut self, timeout_ms: u64) -> bool {
        match self.step(timeout_ms).await {
            Ok(news) => news,
            Err(Trouble::Broken(error)) => panic!("{}: {error}", self.user_id),
            Err(Trouble::Refused(it)) => panic!("{}: {} {}", self.user_id, it.status, it.text()),
        }
    }

    /// Asks until `done`, which waits for nothing that has not been caused already.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = time::clock::monotonic() + super::device::PATIENCE;
        while !done(self) {
            assert!(
                time::clock::monotonic() < deadline,
                "{} never learned of {what}",
                self.user_id
            );
            self.must_step(1_000).await;
        }
    }

    /// Asks until nothing new comes.
    pub(crate) async fn drain(&mut self) {
        while self.must_step(0).await {}
    }

    /// Whether a message with this text was shown in the room.
    pub(crate) fn has_text(&self, room_id: &str, text: &str) -> bool {
        self.rooms.get(room_id).is_some_and(|room| room.texts.iter().any(|it| it == text))
    }

    fn take(&mut self, response: &Response<'_>) -> bool {
        self.pos = Some(response.pos.clone());
        if let Some(list) = response.lists.get("all") {
            self.count = list.count;
            let listed = list.ops.iter().flat_map(|window| window.room_ids.iter().cloned());
            self.list = listed.collect();
        }
        for (room_id, entry) in &response.rooms {
            self.take_room(room_id, entry);
        }
        let news = self.take_extensions(&response.extensions);
        news || !response.rooms.is_empty()
    }

    fn take_extensions(&mut self, extensions: &Value) -> bool {
        let to_device = &extensions["to_device"];
        if let Some(next) = to_device["next_batch"].as_str() {
            self.to_device_since = Some(next.to_owned());
        }
        let messages = to_device["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.to_device.extend(messages.iter().cloned());
        let account_data = extensions["account_data"]["global"].as_array();
        let account_data = account_data.map(Vec::as_slice).unwrap_or_default();
        for event in account_data {
            let kind = event["type"].as_str().unwrap_or_default().to_owned();
            self.account_data.insert(kind, event["content"].clone());
        }
        let has_rooms = |name: &str| {
            extensions[name]["rooms"].as_object().is_some_and(|rooms| !rooms.is_empty())
        };
        !messages.is_empty()
            || !account_data.is_empty()
            || ["account_data", "receipts", "typing"].into_iter().any(has_rooms)
    }

    fn take_room(&mut self, room_id: &str, entry: &Room<'_>) {
        let kept = self.rooms.entry(room_id.to_owned()).or_default();
        let was_joined = kept.membership == "join";
        if entry.initial {
            *kept = Kept::default();
        }
        let mut problem = |what: String| {
            self.problems.push(format!("{} in {room_id}: {what}", self.user_id));
        };
        if !entry.initial && !was_joined {
            problem(format!("an entry goes on from {:?}", kept.membership));
        }
        if let Some(stripped) = &entry.invite_state {
            let own = stripped.last().map(|raw| stripped_membership(raw, &self.user_id));
            match own.flatten() {
                Some(membership) => kept.membership = membership,
                None => problem("an invite without the user's own member event".to_owned()),
            }
            return;
        }
        if entry.name.is_some() {
            kept.name.clone_from(&entry.name);
        }
        kept.joined_count = entry.joined_count.or(kept.joined_count);
        kept.invited_count = entry.invited_count.or(kept.invited_count);
        if entry.limited || entry.unstable_expanded_timeline {
            kept.timeline.clear();
            kept.limited = entry.limited;
        }
        for raw in &entry.timeline {
            let event = Event::read(raw);
            kept.note_membership(&event, &self.user_id);
            let is_new = kept.seen.insert(event.id.clone());
            if !is_new && !entry.unstable_expanded_timeline {
                problem(format!("{} comes twice", event.id));
            }
            if let Some(Value::String(text)) = event.content.body {
                kept.texts.push(text);
            }
            kept.timeline.push((event.id, event.sender));
        }
        for raw in &entry.required_state {
            let event = Event::read(raw);
            kept.note_membership(&event, &self.user_id);
            let state_key = event.state_key.unwrap_or_default();
            kept.state.insert((event.kind, state_key), event.id);
        }
    }

    /// Leaves events with such ids out of what is compared.
    pub(crate) fn forget_events(&mut self, which: impl Fn(&str) -> bool) {
        for kept in self.rooms.values_mut() {
            kept.timeline.retain(|(event_id, _)| !which(event_id));
        }
    }

    /// Holds everything against the truth.
    pub(crate) fn compare(&mut self, facts: &Facts) {
        let rooms = &facts.rooms;
        let expected: BTreeSet<&String> =
            rooms.iter().filter(|(_, room)| room.is_listed()).map(|(id, _)| id).collect();
        let listed: BTreeSet<&String> = self.list.iter().collect();
        let mut problems = Vec::new();
        let describe = |id: &&&String| {
            let facts = rooms.get(**id).map(|room| (room.truth.membership, room.put_out));
            format!("{id} {facts:?}, kept as {:?}", self.rooms.get(**id).map(|it| &it.membership))
        };
        let missing: Vec<String> = expected.difference(&listed).map(|id| describe(&id)).collect();
        let extra: Vec<String> = listed.difference(&expected).map(|id| describe(&id)).collect();
        if !missing.is_empty() || !extra.is_empty() {
            problems.push(format!("the list lacks {missing:?} and has {extra:?} too many"));
        }
        if self.count != self.list.len() {
            problems.push(format!("{} rooms of {} are listed", self.list.len(), self.count));
        }
        for (room_id, facts) in rooms {
            let Some(kept) = self.rooms.get(room_id) else {
                if facts.is_listed() {
                    problems.push(format!("nothing of {room_id}, {:?}", facts.truth.membership));
                }
                continue;
            };
            let of_room = kept.compare(&self.user_id, facts);
            problems.extend(of_room.into_iter().map(|what| format!("in {room_id}: {what}")));
        }
        let said = problems.into_iter().map(|what| format!("{} {what}", self.user_id));
        self.problems.extend(said);
    }
}

impl Kept {
    fn note_membership(&mut self, event: &Event, user_id: &str) {
        if event.kind == MEMBER && event.state_key.as_deref() == Some(user_id) {
            let membership = event.content.membership.as_ref().and_then(Value::as_str);
            membership.unwrap_or_default().clone_into(&mut self.membership);
        }
    }

    fn compare(&self, user_id: &str, facts: &RoomFacts) -> Vec<String> {
        let mut problems = Vec::new();
        if self.membership != facts.truth.membership.as_str() {
            let is = facts.truth.membership;
            problems.push(format!("kept as {:?}, is {is:?}", self.membership));
            return problems;
        }
        let is_joined = facts.truth.membership == Membership::Join;
        let timeline: Vec<&str> = self.timeline.iter().map(|(event_id, _)| &**event_id).collect();
        // What is missing before can be asked for; and who has left may have been told so without
        // a timeline.
        let wanted = if is_joined && !self.limited { TIMELINE_LIMIT } else { 0 };
        if let Some(fault) = facts.fault_of(&timeline, wanted) {
            let membership = facts.truth.membership;
            problems.push(format!("({membership:?}) the timeline {fault}"));
        }
        if is_joined {
            self.compare_joined(user_id, facts, &mut problems);
        }
        problems
    }

    fn compare_joined(&self, user_id: &str, facts: &RoomFacts, problems: &mut Vec<String>) {
        if facts.truth.name.is_some() && self.name != facts.truth.name {
            problems.push(format!("its name is {:?}, not {:?}", self.name, facts.truth.name));
        }
        let counts = (self.joined_count, self.invited_count.unwrap_or_default());
        if counts != (Some(facts.joined_count), facts.invited_count) {
            let true_counts = (facts.joined_count, facts.invited_count);
            problems.push(format!("it has {counts:?} members, not {true_counts:?}"));
        }
        for (key, event_id) in &facts.truth.state {
            let (kind, state_key) = (key.0.as_str(), key.1.as_str());
            let is_asked = (STATE.contains(&kind) && state_key.is_empty())
                || kind == "m.space.child"
                || (kind == MEMBER
                    && (state_key == user_id
                        || self.timeline.iter().any(|(_, sender)| sender == state_key)));
            let known = self.state.get(key);
            if known != Some(event_id) && (is_asked || known.is_some()) {
                problems.push(format!("its {key:?} is {known:?}, not {event_id}"));
            }
        }
    }
}

/// What a stripped member event says of its user, where that is the one asked for.
fn stripped_membership(raw: &RawValue, user_id: &str) -> Option<String> {
    let event: Value = serde_json::from_str(raw.get()).ok()?;
    let is_own = event["type"] == MEMBER && event["state_key"] == user_id;
    event["content"]["membership"].as_str().filter(|_| is_own).map(str::to_owned)
}
