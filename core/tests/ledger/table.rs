//! A ledger with tables in memory, and short ways to say what a homeserver
//! answers.

use std::sync::Arc;

use luge_core::{
    gate::{Gate, Stretch, VisibleState},
    id::{DeviceNumber, RoomNumber, Sequence, UserNumber},
    ledger::{Applied, Command, Ledger, Polled, Reply, SignIn},
    record::{DeviceRecord, EventRecord, StateRecord, UserRoomRecord, key},
    upstream::{RoomBatch, Section, Stripped, SyncBatch, SyncEvent},
    user::User,
    view::{Direction, MemoryTables, Pending, Table, View},
    world::{Room, World},
};
use serde_json::{Value, json};

pub(crate) const ROOM: &str = "!room:example.org";
pub(crate) const ALICE: &str = "@alice:example.org";
pub(crate) const BOB: &str = "@bob:example.org";
pub(crate) const CAROL: &str = "@carol:example.org";
pub(crate) const DAVE: &str = "@dave:example.org";

/// Somebody with a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    pub(crate) user: UserNumber,
    pub(crate) device: DeviceNumber,
}

/// A ledger, what is in the store, and the time.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
    pub(crate) tables: MemoryTables,
    pub(crate) world: Arc<World>,
    pub(crate) now_ms: u64,
}

impl Books {
    pub(crate) fn new() -> Self {
        Self::open(MemoryTables::default(), 1_000_000)
    }

    pub(crate) fn open(tables: MemoryTables, now_ms: u64) -> Self {
        let mut ledger = Ledger::open(&tables).expect("the tables fit together");
        let world = ledger.publish(Pending::default());
        Self { ledger, tables, world, now_ms }
    }

    pub(crate) fn apply(&mut self, command: Command) -> Applied {
        let applied = self.ledger.apply(&self.tables, self.now_ms, command);
        self.tables.apply(&applied.writes);
        self.world = self.ledger.publish(Pending::default());
        applied
    }

    pub(crate) fn sign_in(&mut self, user_id: &str, device_id: &str) -> Who {
        let applied = self.apply(Command::SignIn(sign_in(user_id, device_id)));
        let Reply::SignedIn(user, device) = applied.reply else { panic!("not signed in") };
        Who { user, device }
    }

    pub(crate) fn device(&self, who: Who) -> Option<DeviceRecord> {
        self.tables.get(Table::Devices, &key::device(who.device)).and_then(DeviceRecord::decode)
    }

    /// Takes in the answer to the device's next request.
    pub(crate) fn poll(&mut self, who: Who, rooms: Vec<RoomBatch>) -> Applied {
        let since = self.device(who).expect("the device is known").since;
        self.poll_from(who, since, rooms)
    }

    /// Takes in two answers that say nothing: what happened before them the second
    /// one knew for certain.
    pub(crate) fn poll_twice(&mut self, who: Who) {
        self.poll(who, Vec::new());
        self.poll(who, Vec::new());
    }

    pub(crate) fn poll_from(
        &mut self,
        who: Who,
        since: Option<String>,
        rooms: Vec<RoomBatch>,
    ) -> Applied {
        let number: u64 = since.as_deref().and_then(|it| it.parse().ok()).unwrap_or(0);
        let next_batch = Some((number + 1).to_string());
        let batch = SyncBatch { next_batch, rooms, ..SyncBatch::default() };
        self.apply(polled(who, since, batch))
    }

    /// Takes in an answer that was asked for at a certain time.
    pub(crate) fn poll_asked(&mut self, who: Who, asked_ms: u64, rooms: Vec<RoomBatch>) {
        let since = self.device(who).expect("the device is known").since;
        let next_batch = Some(format!("{}+", since.as_deref().unwrap_or_default()));
        let batch = SyncBatch { next_batch, rooms, ..SyncBatch::default() };
        let mut command = polled(who, since, batch);
        if let Command::Polled(polled) = &mut command {
            polled.asked_ms = asked_ms;
        }
        self.apply(command);
    }

    /// Takes in an answer of which the rooms are not the point.
    pub(crate) fn poll_batch(&mut self, who: Who, batch: SyncBatch) -> Applied {
        let since = self.device(who).expect("the device is known").since;
        self.apply(polled(who, since, batch))
    }

    pub(crate) fn room(&self) -> &Room {
        self.world.find_room(ROOM).expect("the room is known")
    }

    pub(crate) fn number(&self) -> RoomNumber {
        self.room().number
    }

    pub(crate) fn of_user(&self, who: Who) -> Option<UserRoomRecord> {
        let key = key::user_room(who.user, self.number());
        self.tables.get(Table::UserRooms, &key).and_then(UserRoomRecord::decode)
    }

    /// The id of the member event that a user's membership is known by.
    pub(crate) fn own_event(&self, who: Who) -> Option<String> {
        let place = self.of_user(who)?.own_event?;
        let event = self.tables.get(Table::Events, &key::event(self.number(), place));
        event.and_then(EventRecord::decode).map(|event| event.event_id)
    }

    /// The timeline that a user may see: event ids, a gap before one as `|`.
    pub(crate) fn visible(&self, who: Who) -> Vec<String> {
        let events = self.stretch(who).events.into_iter();
        events.map(|event| event.record.event_id).collect()
    }

    /// The newest events that a user may see.
    pub(crate) fn newest(&self, who: Who, limit: u64) -> (Vec<String>, bool) {
        let stretch = self.stretch_of(who, Sequence::default(), limit);
        let ids = stretch.events.into_iter().map(|event| event.record.event_id);
        (ids.collect(), stretch.more_before)
    }

    /// The number of an event.
    pub(crate) fn sequence(&self, event_id: &str) -> u64 {
        let key = key::event_id(self.number(), event_id);
        let place = self.tables.get(Table::EventIds, &key).and_then(key::place_from);
        place.expect("the event is stored").sequence
    }

    /// Whether something is missing before what a user may see.
    pub(crate) fn is_limited(&self, who: Who) -> bool {
        self.stretch(who).more_before
    }

    /// What somebody may see who was told of everything up to a number: event ids,
    /// and whether something is missing before them.
    pub(crate) fn visible_after(&self, who: Who, told: Sequence) -> (Vec<String>, bool) {
        let stretch = self.stretch_after(who, told);
        let ids = stretch.events.into_iter().map(|event| event.record.event_id);
        (ids.collect(), stretch.more_before)
    }

    fn stretch(&self, who: Who) -> Stretch {
        self.stretch_after(who, Sequence::default())
    }

    fn stretch_after(&self, who: Who, told: Sequence) -> Stretch {
        self.stretch_of(who, told, u64::MAX)
    }

    fn stretch_of(&self, who: Who, told: Sequence, limit: u64) -> Stretch {
        let id = self.world.user_id(who.user).expect("a user has an id");
        let user = User::load(who.user, Arc::clone(id), &self.world, &self.tables);
        let gate = Gate::new(&self.tables, self.room(), &user, self.world.sequence);
        gate.map(|gate| gate.timeline(told, Sequence(u64::MAX), limit)).unwrap_or_default()
    }

    /// Whether a user may see the entry of the state that there is now.
    pub(crate) fn sees_state(&self, who: Who, kind: &str, state_key: &str) -> bool {
        self.state_of(who, kind, state_key).is_some()
    }

    /// The entry of the state that a user may see.
    pub(crate) fn state_of(&self, who: Who, kind: &str, state_key: &str) -> Option<VisibleState> {
        let id = self.world.user_id(who.user).expect("a user has an id");
        let user = User::load(who.user, Arc::clone(id), &self.world, &self.tables);
        Gate::new(&self.tables, self.room(), &user, self.world.sequence)?.state(kind, state_key)
    }

    /// The id of the member event that a user may see of somebody.
    pub(crate) fn member_of(&self, who: Who, user_id: &str) -> Option<String> {
        let event = self.state_of(who, "m.room.member", user_id)?.json;
        let event: Value = serde_json::from_str(&event).expect("an event");
        Some(event["event_id"].as_str().expect("it has an id").to_owned())
    }

    /// The whole timeline as it is stored, a gap as `|`.
    pub(crate) fn stored(&self) -> Vec<String> {
        let mut stored = Vec::new();
        for event in self.events(true) {
            if event.gap_before {
                stored.push("|".to_owned());
            }
            stored.push(event.event_id);
        }
        stored
    }

    /// The records of the timeline, or of what was only seen as state.
    pub(crate) fn events(&self, timeline: bool) -> Vec<EventRecord> {
        let from = [&*key::room(self.number()), &[u8::from(timeline)]].concat();
        let mut events = Vec::new();
        self.tables.scan(
            Table::Events,
            &from,
            &key::after_prefix(&from),
            Direction::Forward,
            &mut |_, archive| {
                events.push(EventRecord::decode(archive).expect("an event"));
                true
            },
        );
        events
    }

    pub(crate) fn event(&self, event_id: &str) -> Option<EventRecord> {
        let mut events = self.events(true).into_iter().chain(self.events(false));
        events.find(|event| event.event_id == event_id)
    }

    pub(crate) fn state_record(&self, kind: &str, state_key: &str) -> Option<StateRecord> {
        let key = key::state(self.number(), kind, state_key);
        self.tables.get(Table::State, &key).and_then(StateRecord::decode)
    }

    /// The id of the event that holds.
    pub(crate) fn state(&self, kind: &str, state_key: &str) -> Option<String> {
        let place = self.state_record(kind, state_key)?.place;
        let key = key::event(self.number(), place);
        let event = self.tables.get(Table::Events, &key).and_then(EventRecord::decode);
        Some(event.expect("what holds is stored").event_id)
    }

    /// The keys and values of a table.
    pub(crate) fn entries(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        entries(&self.tables, table)
    }
}

pub(crate) fn entries(tables: &MemoryTables, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    tables.scan(table, &[], &[], Direction::Forward, &mut |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        true
    });
    entries
}

pub(crate) fn sign_in(user_id: &str, device_id: &str) -> SignIn {
    let mut token_key = [0; 32];
    let name = format!("{user_id}{device_id}");
    for (byte, of_name) in token_key.iter_mut().zip(name.bytes().rev()) {
        *byte = of_name;
    }
    SignIn {
        user_id: user_id.to_owned(),
        device_id: device_id.to_owned(),
        token_key,
        token_sealed: vec![1, 2, 3],
    }
}

pub(crate) fn polled(who: Who, since: Option<String>, batch: SyncBatch) -> Command {
    Command::Polled(Box::new(Polled {
        user: who.user,
        device: who.device,
        since,
        with_rooms: true,
        last_part: true,
        asked_ms: 0,
        may_repeat: false,
        batch,
    }))
}

/// An event. Its time is the number in its id, so that `m5` was sent at 5.
pub(crate) fn event(id: &str, kind: &str, state_key: Option<&str>, content: &Value) -> SyncEvent {
    let digits: String = id.chars().filter(char::is_ascii_digit).collect();
    let origin_server_ts = digits.parse().unwrap_or(0);
    let mut json = json!({
        "event_id": id,
        "type": kind,
        "sender": CAROL,
        "origin_server_ts": origin_server_ts,
        "content": content,
    });
    if let Some(state_key) = state_key {
        json["state_key"] = state_key.into();
    }
    SyncEvent {
        event_id: id.to_owned(),
        kind: kind.to_owned(),
        state_key: state_key.map(str::to_owned),
        sender: CAROL.to_owned(),
        origin_server_ts,
        transaction_id: None,
        redacts: None,
        json: json.to_string().into(),
    }
}

pub(crate) fn message(id: &str) -> SyncEvent {
    event(id, "m.room.message", None, &json!({ "body": id }))
}

pub(crate) fn messages(ids: &[&str]) -> Vec<SyncEvent> {
    ids.iter().map(|id| message(id)).collect()
}

pub(crate) fn create() -> SyncEvent {
    event("create0", "m.room.create", Some(""), &json!({ "room_version": "10" }))
}

pub(crate) fn name(id: &str, name: &Value) -> SyncEvent {
    event(id, "m.room.name", Some(""), &json!({ "name": name }))
}

pub(crate) fn member(id: &str, user_id: &str, membership: &str) -> SyncEvent {
    let content = json!({ "membership": membership, "displayname": user_id[1..2].to_uppercase() });
    let mut event = event(id, "m.room.member", Some(user_id), &content);
    if membership == "join" || membership == "leave" {
        user_id.clone_into(&mut event.sender);
        event.json = event
            .json
            .replace(&format!("\"sender\":\"{CAROL}\""), &format!("\"sender\":\"{user_id}\""))
            .into();
    }
    event
}

/// A member event that says what the membership was before.
pub(crate) fn member_after(id: &str, user_id: &str, before: &str, membership: &str) -> SyncEvent {
    let mut event = member(id, user_id, membership);
    let mut json: Value = serde_json::from_str(&event.json).expect("an event");
    json["unsigned"] = json!({ "prev_content": { "membership": before } });
    event.json = json.to_string().into();
    event
}

/// A state event that says which event it took the place of.
pub(crate) fn replacing(mut event: SyncEvent, replaces: &str) -> SyncEvent {
    let mut json: Value = serde_json::from_str(&event.json).expect("an event");
    json["unsigned"]["replaces_state"] = replaces.into();
    event.json = json.to_string().into();
    event
}

/// A member event by somebody else: a kick, where it says `leave`.
pub(crate) fn kick(id: &str, user_id: &str) -> SyncEvent {
    event(id, "m.room.member", Some(user_id), &json!({ "membership": "leave" }))
}

pub(crate) fn redaction(id: &str, redacts: &str) -> SyncEvent {
    let mut event = event(id, "m.room.redaction", None, &json!({ "redacts": redacts }));
    event.redacts = Some(redacts.to_owned());
    event
}

pub(crate) fn joined(timeline: Vec<SyncEvent>) -> RoomBatch {
    RoomBatch { timeline, ..RoomBatch::new(ROOM, Section::Join) }
}

pub(crate) fn limited(timeline: Vec<SyncEvent>) -> RoomBatch {
    RoomBatch { limited: true, prev_batch: Some("back".to_owned()), ..joined(timeline) }
}

/// A limited chunk with `state` as the state after it.
pub(crate) fn with_state(batch: RoomBatch, state: Vec<SyncEvent>) -> RoomBatch {
    RoomBatch { state, state_is_after: true, ..batch }
}

pub(crate) fn left(timeline: Vec<SyncEvent>) -> RoomBatch {
    RoomBatch { timeline, ..RoomBatch::new(ROOM, Section::Leave) }
}

pub(crate) fn invited(stripped: Vec<Stripped>) -> RoomBatch {
    RoomBatch { stripped, ..RoomBatch::new(ROOM, Section::Invite) }
}

pub(crate) fn stripped(kind: &str, state_key: &str, sender: &str, content: &Value) -> Stripped {
    let json =
        json!({ "type": kind, "state_key": state_key, "sender": sender, "content": content });
    Stripped {
        kind: kind.to_owned(),
        state_key: state_key.to_owned(),
        sender: sender.to_owned(),
        json: json.to_string().into(),
    }
}

/// A room that three have been told of up to `m5`.
pub(crate) fn shared_by_three() -> (Books, [Who; 3]) {
    let mut books = Books::new();
    let all = [ALICE, BOB, DAVE].map(|user_id| books.sign_in(user_id, "A"));
    let mut timeline = vec![create(), member("join1", ALICE, "join"), member("join2", BOB, "join")];
    timeline.push(member("join3", DAVE, "join"));
    timeline.extend(messages(&["m4", "m5"]));
    for who in all {
        books.poll(who, vec![joined(timeline.clone())]);
    }
    (books, all)
}

/// A room that two have been told of up to `m4`.
pub(crate) fn shared_by_two() -> (Books, [Who; 2]) {
    let mut books = Books::new();
    let both = [ALICE, BOB].map(|user_id| books.sign_in(user_id, "A"));
    let mut timeline = vec![create(), member("join1", ALICE, "join"), member("join2", BOB, "join")];
    timeline.extend(messages(&["m3", "m4"]));
    for who in both {
        books.poll(who, vec![joined(timeline.clone())]);
    }
    (books, both)
}
