//! The truth: users, rooms, what happened in which order, and what each device
//! is told by `/sync`, with members loaded lazily.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{account, history::Part, visibility::Heard};

pub(crate) const MEMBER: &str = "m.room.member";
/// Events of a room in an initial answer, and in a later one.
const TIMELINE: (usize, usize) = (6, 4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    Join,
    Invite,
    Leave,
    Kick,
    Ban,
}

impl Is {
    fn word(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Leave | Self::Kick => "leave",
            Self::Ban => "ban",
        }
    }

    /// Whether `/members` tells of it where it is asked for none who have left.
    pub(crate) fn is_in_lists(self) -> bool {
        !matches!(self, Self::Leave | Self::Kick)
    }
}

/// An event: its index in the room is part of its id.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) stream: u64,
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) state_key: Option<String>,
    pub(crate) sender: usize,
    pub(crate) json: String,
    /// What it sets, of state that a summary shows.
    pub(crate) value: String,
}

impl Event {
    /// It says what was there before it, and by which event.
    pub(crate) fn replaces(&mut self, content: &str, event_id: Option<&str>) {
        self.json.pop();
        let by = event_id.map(|it| format!(r#","replaces_state":"{it}""#)).unwrap_or_default();
        write!(self.json, r#","unsigned":{{"prev_content":{content}{by}}}}}"#)
            .expect("a string takes it");
    }
}

/// One step of somebody's membership.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) stream: u64,
    pub(crate) is: Is,
    pub(crate) index: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    pub(crate) id: String,
    pub(crate) events: Vec<Event>,
    /// For each entry of the state, the events that set it, oldest first.
    pub(crate) state: BTreeMap<(&'static str, String), Vec<usize>>,
    pub(crate) members: BTreeMap<usize, Vec<Step>>,
    pub(crate) typing: BTreeSet<usize>,
    typing_stream: u64,
    /// The event that a user has read last, openly or for themselves.
    pub(crate) receipts: BTreeMap<(usize, bool), (String, u64)>,
    pub(crate) unread: BTreeMap<usize, u64>,
    pub(crate) account_data: BTreeMap<(usize, String), (u64, u64)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    pub(crate) user: usize,
    /// Messages that were not acknowledged, by position.
    pub(crate) undelivered: BTreeMap<u64, String>,
    /// How many messages there ever were.
    pub(crate) messages: u64,
    /// The newest position that was ever answered.
    pub(crate) answered: u64,
    /// The newest position that is not known any more.
    pub(crate) lost: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    pub(crate) rooms: BTreeSet<usize>,
    pub(crate) account_data: BTreeMap<String, (u64, u64)>,
    pub(crate) devices: Vec<usize>,
    /// Whose devices changed or went out of sight, and when.
    pub(crate) device_lists: Vec<(u64, usize, bool)>,
    /// The position of the last thing that concerns them.
    news: u64,
    profile: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Homeserver {
    pub(crate) stream: u64,
    pub(crate) now_ms: u64,
    pub(crate) rooms: Vec<Room>,
    pub(crate) users: Vec<User>,
    pub(crate) devices: Vec<Device>,
    /// Whether state comes as of after the timeline (MSC4222).
    pub(crate) state_after: bool,
    /// Whether it says which event another took the place of.
    pub(crate) says_replaced: bool,
    /// How far the clocks of users' servers are behind, in milliseconds.
    pub(crate) behind_ms: Vec<u64>,
}

/// An answer, and what it gives away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) body: String,
    pub(crate) heard: Heard,
}

pub(crate) fn user_id(user: usize) -> String {
    format!("@u{user}:x")
}

/// The room and the index in an event id of [`Homeserver`]'s.
pub(crate) fn event_of(id: &str) -> (usize, usize) {
    let (room, index) = id[2..].split_once('-').expect("an event id of the simulation");
    (room.parse().expect("a room"), index.parse().expect("an index"))
}

pub(crate) fn room_of(id: &str) -> usize {
    id[2..].split_once(':').expect("a room id of the simulation").0.parse().expect("a room")
}

impl Room {
    pub(crate) fn membership(&self, user: usize) -> Option<Is> {
        self.members.get(&user)?.last().map(|step| step.is)
    }

    pub(crate) fn membership_at(&self, user: usize, stream: u64) -> Option<Is> {
        let steps = self.members.get(&user)?;
        let behind = steps.partition_point(|step| step.stream <= stream);
        behind.checked_sub(1).map(|at| steps[at].is)
    }

    /// When the user's stays began and ended.
    pub(crate) fn stays(&self, user: usize) -> Vec<(u64, Option<u64>)> {
        let mut stays: Vec<(u64, Option<u64>)> = Vec::new();
        for step in self.members.get(&user).into_iter().flatten() {
            let open = stays.last().is_some_and(|(_, end)| end.is_none());
            match (step.is, open) {
                (Is::Join, false) => stays.push((step.stream, None)),
                (Is::Leave | Is::Kick | Is::Ban, true) => {
                    stays.last_mut().expect("it is open").1 = Some(step.stream);
                }
                _ => {}
            }
        }
        stays
    }

    pub(crate) fn count(&self, is: Is) -> usize {
        self.members.values().filter(|steps| steps.last().is_some_and(|step| step.is == is)).count()
    }

    pub(crate) fn joined(&self) -> Vec<usize> {
        let joined = |user: &&usize| self.membership(**user) == Some(Is::Join);
        self.members.keys().filter(joined).copied().collect()
    }

    pub(crate) fn current(&self, kind: &'static str, key: &str) -> Option<&Event> {
        let at = self.state.get(&(kind, key.to_owned()))?.last()?;
        self.events.get(*at)
    }

    /// The newest event that set an entry before the event at `index`.
    pub(crate) fn as_of(indices: &[usize], index: usize) -> Option<usize> {
        let behind = indices.partition_point(|at| *at < index);
        behind.checked_sub(1).map(|at| indices[at])
    }

    /// The index of the first event behind a position.
    pub(crate) fn behind(&self, stream: u64) -> usize {
        self.events.partition_point(|event| event.stream <= stream)
    }
}

impl Homeserver {
    /// A room that shows so much of its history from the beginning, or has not said.
    pub(crate) fn create_room(
        &mut self,
        creator: usize,
        visibility: Option<&'static str>,
    ) -> usize {
        let number = self.rooms.len();
        let id = format!("!r{number}:x");
        self.rooms.push(Room { id, ..Room::default() });
        let create = r#"{"room_version":"10"}"#;
        self.happens(number, "m.room.create", Some(""), creator, create, String::new());
        self.changes(number, creator, creator, Is::Join);
        if let Some(visibility) = visibility {
            self.shows_history(number, creator, visibility);
        }
        number
    }

    pub(crate) fn happens(
        &mut self,
        room: usize,
        kind: &'static str,
        state_key: Option<&str>,
        sender: usize,
        content: &str,
        value: String,
    ) -> usize {
        self.stream += 1;
        self.now_ms += 1;
        let behind_ms = self.behind_ms.get(sender).copied().unwrap_or(0);
        let (stream, sent_ms) = (self.stream, self.now_ms - behind_ms);
        let of = &mut self.rooms[room];
        let index = of.events.len();
        let id = format!("$r{room}-{index}");
        let mut json = format!(
            r#"{{"event_id":"{id}","type":"{kind}","sender":"{}","origin_server_ts":{sent_ms},"content":{content}"#,
            user_id(sender)
        );
        if let Some(state_key) = state_key {
            write!(json, r#","state_key":"{state_key}""#).expect("a string takes it");
            of.state.entry((kind, state_key.to_owned())).or_default().push(index);
        }
        json.push('}');
        let state_key = state_key.map(str::to_owned);
        of.events.push(Event { stream, id, kind, state_key, sender, json, value });
        let joined = of.joined();
        for user in joined {
            self.users[user].news = stream;
        }
        index
    }

    /// The event of an entry of the state, where the homeserver says that another takes
    /// its place.
    pub(crate) fn replaced(&self, room: usize, kind: &'static str, key: &str) -> Option<String> {
        let current = self.rooms[room].current(kind, key).filter(|_| self.says_replaced);
        current.map(|event| event.id.clone())
    }

    pub(crate) fn message(&mut self, room: usize, sender: usize) {
        let body = format!(r#"{{"msgtype":"m.text","body":"{}"}}"#, self.stream);
        self.happens(room, "m.room.message", None, sender, &body, String::new());
        for user in self.rooms[room].joined() {
            *self.rooms[room].unread.entry(user).or_default() += u64::from(user != sender);
        }
    }

    pub(crate) fn set(&mut self, room: usize, kind: &'static str, key: &str, sender: usize) {
        let value = format!("v{}", self.stream);
        let content = match kind {
            "m.room.name" => format!(r#"{{"name":"{value}"}}"#),
            "m.room.avatar" => format!(r#"{{"url":"mxc://x/{value}"}}"#),
            _ => format!(r#"{{"value":"{value}"}}"#),
        };
        self.happens(room, kind, Some(key), sender, &content, value);
    }

    /// An entry of the state is emptied, as clients do who take a name away.
    pub(crate) fn empty(&mut self, room: usize, kind: &'static str, sender: usize) {
        self.happens(room, kind, Some(""), sender, "{}", String::new());
    }

    /// A membership changes, or a member's profile.
    pub(crate) fn changes(&mut self, room: usize, sender: usize, user: usize, is: Is) {
        self.users[user].profile += 1;
        let before = self.rooms[room].membership(user);
        let name = self.users[user].profile;
        let content = format!(r#"{{"membership":"{}","displayname":"n{name}u{user}"}}"#, is.word());
        let key = user_id(user);
        let replaced = self.replaced(room, MEMBER, &key);
        let index = self.happens(room, MEMBER, Some(&key), sender, &content, String::new());
        if let Some(before) = before {
            let content = format!(r#"{{"membership":"{}"}}"#, before.word());
            self.rooms[room].events[index].replaces(&content, replaced.as_deref());
        }
        let stream = self.stream;
        self.rooms[room].members.entry(user).or_default().push(Step { stream, is, index });
        if is != Is::Join {
            self.rooms[room].unread.remove(&user);
            self.rooms[room].typing.remove(&user);
        }
        self.users[user].rooms.insert(room);
        self.users[user].news = stream;
    }

    pub(crate) fn types(&mut self, room: usize, user: usize) {
        self.stream += 1;
        let stream = self.stream;
        let of = &mut self.rooms[room];
        if !of.typing.remove(&user) {
            of.typing.insert(user);
        }
        of.typing_stream = stream;
        self.tell(room);
    }

    pub(crate) fn reads(&mut self, room: usize, user: usize, private: bool) {
        self.stream += 1;
        let stream = self.stream;
        let of = &mut self.rooms[room];
        let Some(last) = of.events.last().map(|event| event.id.clone()) else { return };
        of.receipts.insert((user, private), (last, stream));
        of.unread.insert(user, 0);
        self.tell(room);
    }

    fn tell(&mut self, room: usize) {
        for user in self.rooms[room].joined() {
            self.users[user].news = self.stream;
        }
    }

    pub(crate) fn set_account_data(&mut self, user: usize, room: Option<usize>, kind: &str) {
        self.stream += 1;
        let entry = (self.stream, self.stream);
        match room {
            Some(room) => {
                self.rooms[room].account_data.insert((user, kind.to_owned()), entry);
            }
            None => drop(self.users[user].account_data.insert(kind.to_owned(), entry)),
        }
        self.users[user].news = self.stream;
    }

    pub(crate) fn send_to_device(&mut self, device: usize) {
        self.stream += 1;
        let it = &mut self.devices[device];
        let json = format!(
            r#"{{"type":"m.test","sender":"@u0:x","content":{{"number":{}}}}}"#,
            it.messages
        );
        it.messages += 1;
        it.undelivered.insert(self.stream, json);
        self.users[self.devices[device].user].news = self.stream;
    }

    pub(crate) fn device_changes(&mut self, observer: usize, who: usize, left: bool) {
        self.stream += 1;
        self.users[observer].device_lists.push((self.stream, who, left));
        self.users[observer].news = self.stream;
    }

    pub(crate) fn has_news(&self, device: usize, since: u64) -> bool {
        self.users[self.devices[device].user].news > since
    }

    /// The homeserver has lost a position, and what was told before it.
    pub(crate) fn reject(&mut self, device: usize, since: u64) {
        let device = &mut self.devices[device];
        device.undelivered.retain(|stream, _| *stream > since);
        device.lost = device.lost.max(since);
    }

    /// Whether a position is lost, which it stays.
    pub(crate) fn has_lost(&self, device: usize, since: u64) -> bool {
        since <= self.devices[device].lost
    }

    pub(crate) fn sync(&mut self, device: usize, since: Option<u64>, with_rooms: bool) -> Answer {
        let user = self.devices[device].user;
        if let Some(since) = since {
            self.devices[device].undelivered.retain(|stream, _| *stream > since);
        }
        let heard = Heard { user, next: self.stream, ..Heard::default() };
        let mut answer = Answer { heard, ..Answer::default() };
        self.devices[device].answered = self.stream;
        let mut sections: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for room in &self.users[user].rooms {
            if with_rooms && let Some((section, json)) = self.room(*room, user, since, &mut answer)
            {
                sections.entry(section).or_default().push(json);
            }
        }
        let after = since.unwrap_or(0);
        let rooms: Vec<String> = sections
            .into_iter()
            .map(|(section, rooms)| format!(r#""{section}":{{{}}}"#, rooms.join(",")))
            .collect();
        let of = &self.users[user];
        let data: Vec<String> = of
            .account_data
            .iter()
            .filter(|(_, (stream, _))| *stream > after)
            .map(|(kind, (_, value))| data(kind, *value))
            .collect();
        let mut lists: BTreeMap<usize, bool> = BTreeMap::new();
        for (stream, who, left) in &of.device_lists {
            if since.is_some_and(|since| *stream > since) {
                lists.insert(*who, *left);
            }
        }
        let names = |wanted: bool| {
            let users = lists.iter().filter(|(_, left)| **left == wanted);
            let users: Vec<String> =
                users.map(|(who, _)| format!("\"{}\"", user_id(*who))).collect();
            users.join(",")
        };
        let messages: Vec<&str> =
            self.devices[device].undelivered.values().map(String::as_str).collect();
        answer.body = format!(
            r#"{{"next_batch":"s{}","rooms":{{{}}},"account_data":{{"events":[{}]}},"to_device":{{"events":[{}]}},"device_lists":{{"changed":[{}],"left":[{}]}},"device_one_time_keys_count":{{"signed_curve25519":50}}}}"#,
            answer.heard.next,
            rooms.join(","),
            data.join(","),
            messages.join(","),
            names(false),
            names(true),
        );
        answer
    }

    fn room(
        &self,
        number: usize,
        user: usize,
        since: Option<u64>,
        answer: &mut Answer,
    ) -> Option<(&'static str, String)> {
        let room = &self.rooms[number];
        let after = since.unwrap_or(0);
        let last = *room.members.get(&user)?.last()?;
        let before = since.and_then(|since| room.membership_at(user, since));
        let moved = last.stream > after;
        let steps = room.members[&user].iter().filter(|step| step.stream > after);
        let interrupted = steps.clone().any(|step| step.is != Is::Join);
        match last.is {
            Is::Invite => moved.then(|| ("invite", invite(room, user, last))),
            Is::Join => {
                let newly = before != Some(Is::Join) || interrupted;
                self.joined(number, user, since, newly, answer).map(|json| ("join", json))
            }
            Is::Leave | Is::Kick | Is::Ban => {
                if !moved || (since.is_none() && last.is == Is::Leave) {
                    return None;
                }
                // Only who was in the room since is shown it.
                let stay =
                    room.stays(user).last().copied().filter(|(_, end)| *end == Some(last.stream));
                let newly = stay.is_some_and(|(join, _)| before != Some(Is::Join) || join > after);
                let from = match stay {
                    None => last.index,
                    Some(_) if newly => 0,
                    Some(_) => room.behind(after),
                };
                let limit = if since.is_none() { TIMELINE.0 } else { TIMELINE.1 };
                let mut part = room.part(user, from..last.index + 1, limit);
                part.limited |= newly && part.begin() > 0;
                let newly = stay.is_some() && before != Some(Is::Join);
                let floor = if newly || since.is_none() { 0 } else { after };
                let state = if stay.is_some() {
                    answer.heard.given.push((number, part.begin()));
                    room.state_of(user, floor, &part, self.state_after)
                } else {
                    Vec::new()
                };
                tell(number, room, &state, &part, answer);
                let json = self.body(room, &state, &part, String::new());
                Some(("leave", json))
            }
        }
    }

    fn joined(
        &self,
        number: usize,
        user: usize,
        since: Option<u64>,
        newly: bool,
        answer: &mut Answer,
    ) -> Option<String> {
        let room = &self.rooms[number];
        let after = since.filter(|_| !newly).unwrap_or(0);
        let end = room.events.len();
        let from = if newly { 0 } else { room.behind(after) };
        let limit = if since.is_none() { TIMELINE.0 } else { TIMELINE.1 };
        let mut part = room.part(user, from..end, limit);
        part.limited |= newly && since.is_some();
        let state = room.state_of(user, after, &part, self.state_after);
        let mut more = String::new();
        let member_moved = room.events[from..end].iter().any(|event| event.kind == MEMBER);
        if newly || member_moved {
            let heroes = room.members.iter().filter(|(who, steps)| {
                let is = steps.last().map(|step| step.is);
                **who != user && matches!(is, Some(Is::Join | Is::Invite))
            });
            let heroes: Vec<String> =
                heroes.take(5).map(|(who, _)| format!("\"{}\"", user_id(*who))).collect();
            write!(
                more,
                r#","summary":{{"m.heroes":[{}],"m.joined_member_count":{},"m.invited_member_count":{}}}"#,
                heroes.join(","),
                room.count(Is::Join),
                room.count(Is::Invite)
            )
            .expect("a string takes it");
        }
        let mut ephemeral = Vec::new();
        if room.typing_stream > after && (since.is_some() || !room.typing.is_empty()) {
            let users: Vec<String> =
                room.typing.iter().map(|who| format!("\"{}\"", user_id(*who))).collect();
            let users = users.join(",");
            ephemeral.push(format!(r#"{{"type":"m.typing","content":{{"user_ids":[{users}]}}}}"#));
        }
        for ((who, private), (event_id, stream)) in &room.receipts {
            if *stream > after && (!private || *who == user) {
                let kind = if *private { "m.read.private" } else { "m.read" };
                let who = user_id(*who);
                ephemeral.push(format!(
                    r#"{{"type":"m.receipt","content":{{"{event_id}":{{"{kind}":{{"{who}":{{"ts":{stream}}}}}}}}}}}"#
                ));
            }
        }
        let account_data = room
            .account_data
            .iter()
            .filter(|((who, _), (stream, _))| *who == user && *stream > after);
        let account_data: Vec<String> =
            account_data.map(|((_, kind), (_, value))| data(kind, *value)).collect();
        if !newly && part.indices.is_empty() && ephemeral.is_empty() && account_data.is_empty() {
            return None;
        }
        write!(
            more,
            r#","ephemeral":{{"events":[{}]}},"account_data":{{"events":[{}]}},"unread_notifications":{{"notification_count":{},"highlight_count":0}}"#,
            ephemeral.join(","),
            account_data.join(","),
            room.unread.get(&user).copied().unwrap_or(0)
        )
        .expect("a string takes it");
        // Without events it is what comes next.
        answer.heard.given.push((number, part.begin()));
        tell(number, room, &state, &part, answer);
        Some(self.body(room, &state, &part, more))
    }

    fn body(&self, room: &Room, state: &[usize], part: &Part, more: String) -> String {
        let json = |at: &usize| room.events[*at].json.as_str();
        let state: Vec<&str> = state.iter().map(json).collect();
        let name = if self.state_after { "org.matrix.msc4222.state_after" } else { "state" };
        let prev_batch = format!("p{}-{}", room.id, part.token);
        let timeline: Vec<&str> = part.indices.iter().map(json).collect();
        format!(
            r#""{}":{{"{name}":{{"events":[{}]}},"timeline":{{"events":[{}],"limited":{},"prev_batch":"{prev_batch}"}}{more}}}"#,
            room.id,
            state.join(","),
            timeline.join(","),
            part.limited,
        )
    }
}

fn data(kind: &str, value: u64) -> String {
    format!(r#"{{"type":"{kind}","content":{}}}"#, account::content(kind, value))
}

/// Notes the events that an answer has: those of members, and those that the room
/// hides.
fn tell(number: usize, room: &Room, state: &[usize], part: &Part, answer: &mut Answer) {
    let all = state.iter().chain(&part.indices);
    let members = all.filter(|at| room.events[**at].kind == MEMBER);
    answer.heard.told.extend(members.map(|at| (number, *at)));
    let hidden = part.indices.iter().filter(|at| !room.shows(answer.heard.user, **at));
    answer.heard.hidden.extend(hidden.map(|at| (number, *at)));
}

fn invite(room: &Room, user: usize, step: Step) -> String {
    let stripped = |event: &Event| {
        let key = event.state_key.as_deref().unwrap_or_default();
        let content = event.json.split_once(r#""content":"#).map_or("{}", |(_, rest)| rest);
        let content = content.split_once('}').map_or("{}", |(content, _)| content);
        format!(
            r#"{{"type":"{}","state_key":"{key}","sender":"{}","content":{content}}}}}"#,
            event.kind,
            user_id(event.sender)
        )
    };
    let create = room.current("m.room.create", "").map(stripped);
    let own = stripped(&room.events[step.index]);
    let events: Vec<String> = create.into_iter().chain([own]).collect();
    let _ = user;
    format!(r#""{}":{{"invite_state":{{"events":[{}]}}}}"#, room.id, events.join(","))
}
