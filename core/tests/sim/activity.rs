//! What happens at the homeserver, and what clients choose to ask.

use std::collections::{BTreeMap, BTreeSet};

use luge_core::{
    ledger::{Command, Reply, SignIn},
    request::Dialect,
};

use crate::{
    choices::Chooser,
    client::Connection,
    history::{any_visibility, visibility_of_new},
    homeserver::{Device, Is, User, user_id},
    random::Random,
    settings::Settings,
    simulation::{Numbers, START_MS, Simulation, token},
    wanted::{EXTENSIONS, ListWanted, RoomWanted, ScopeWanted, StateWanted, Wanted},
};

impl Simulation {
    /// Users, their devices, and rooms with some members.
    pub(crate) fn populate(&mut self) {
        self.homeserver.now_ms = START_MS - 1_000_000;
        self.homeserver.users = vec![User::default(); self.settings.users];
        for user in 0..self.settings.users {
            let devices = if self.random.chance(300) { 2 } else { 1 };
            for _ in 0..devices {
                self.homeserver.users[user].devices.push(self.homeserver.devices.len());
                self.homeserver.devices.push(Device { user, ..Device::default() });
            }
        }
        for _ in 0..self.settings.rooms {
            let creator = self.random.below(self.settings.users);
            let visibility = visibility_of_new(&mut self.random);
            let room = self.homeserver.create_room(creator, visibility);
            for _ in 0..self.random.between(1, 6) {
                let user = self.random.below(self.settings.users);
                if self.homeserver.rooms[room].membership(user).is_none() {
                    self.homeserver.changes(room, user, user, Is::Join);
                }
            }
        }
    }

    /// Every device logs in; each has a connection for rooms and one for
    /// encryption.
    pub(crate) fn sign_in(&mut self) {
        for (number, device) in self.homeserver.devices.iter().enumerate() {
            let command = Command::SignIn(SignIn {
                user_id: user_id(device.user),
                device_id: format!("D{number}"),
                token_key: token(number, 0).key,
                token_sealed: Vec::new(),
            });
            let (Reply::SignedIn(user, device_number), _) = self.book.take_in(command, self.now_ms)
            else {
                panic!("a sign-in is answered with numbers");
            };
            self.numbers.push(Numbers { user, device: device_number, token: 0 });
            self.by_device.insert(device_number, number);
            for (encryption, dialect) in Self::dialects(&mut self.choices, self.settings) {
                let connection = Connection {
                    lazy: !self.settings.dialects || self.choices.chance(700),
                    ..Connection::new(number, device.user, encryption, dialect)
                };
                self.connections.push(connection);
            }
        }
        self.requests_ms = vec![0; self.connections.len()];
    }

    /// A device's connections: for encryption or not, and what they speak.
    fn dialects(choices: &mut Random, settings: Settings) -> Vec<(bool, Dialect)> {
        if !settings.dialects {
            return vec![(false, Dialect::Simplified), (true, Dialect::Simplified)];
        }
        let all = [Dialect::Simplified, Dialect::V4, Dialect::Msc3575];
        let first = choices.below(3);
        let mut connections = vec![(false, all[first])];
        if choices.chance(300) {
            connections.push((false, all[(first + 1 + choices.below(2)) % 3]));
        }
        connections.push((true, all[choices.below(3)]));
        connections
    }

    /// One thing happens.
    pub(crate) fn act(&mut self) {
        if self.settings.dialects && self.choices.chance(150) {
            self.act_on_lists();
        }
        if self.choices.chance(15) {
            self.act_on_history();
        }
        let room = self.random.below(self.homeserver.rooms.len());
        let user = self.random.below(self.settings.users);
        let joined = self.homeserver.rooms[room].joined();
        let actor = self.random.pick(&joined).copied();
        let choice = self.random.below(100);
        match (choice, actor) {
            (0..=39, Some(actor)) => self.homeserver.message(room, actor),
            (40..=44, Some(actor)) => {
                for _ in 0..self.random.between(3, 12) {
                    self.homeserver.message(room, actor);
                }
            }
            (45..=52, Some(actor)) => {
                let (kind, key) = match self.random.below(5) {
                    0 => ("m.room.name", ""),
                    1 => ("m.room.topic", ""),
                    2 => ("m.room.avatar", ""),
                    3 => ("org.widget", "a"),
                    _ => ("org.widget", "b"),
                };
                self.homeserver.set(room, kind, key, actor);
            }
            (53..=69, _) => self.membership(room, user, actor),
            (70..=75, Some(actor)) => self.homeserver.types(room, actor),
            (76..=83, Some(actor)) => {
                let private = self.random.chance(300);
                self.homeserver.reads(room, actor, private);
            }
            (84..=87, actor) => {
                let room = actor.filter(|_| self.random.chance(600)).map(|_| room);
                let user = actor.unwrap_or(user);
                let kind = if self.random.chance(500) { "org.one" } else { "org.two" };
                self.homeserver.set_account_data(user, room, kind);
            }
            (88..=94, _) => {
                let device = self.random.below(self.homeserver.devices.len());
                for _ in 0..self.random.between(1, 5) {
                    self.homeserver.send_to_device(device);
                }
            }
            (95..=98, _) => {
                let (who, left) = (self.random.below(self.settings.users), self.random.chance(300));
                self.homeserver.device_changes(user, who, left);
            }
            _ if self.homeserver.rooms.len() < self.settings.rooms * 2 => {
                let visibility = visibility_of_new(&mut self.random);
                self.homeserver.create_room(user, visibility);
            }
            _ => {}
        }
    }

    fn membership(&mut self, room: usize, user: usize, actor: Option<usize>) {
        let is = self.homeserver.rooms[room].membership(user);
        let other = actor.filter(|actor| *actor != user);
        let choice = self.random.below(10);
        let (sender, next) = match (is, other) {
            (Some(Is::Join), _) if choice < 3 => (user, Is::Join),
            (Some(Is::Join | Is::Invite), Some(other)) if choice == 5 => (other, Is::Ban),
            (Some(Is::Join | Is::Invite), Some(other)) if choice < 5 => (other, Is::Kick),
            (Some(Is::Invite), _) if choice < 8 => (user, Is::Join),
            (Some(Is::Join | Is::Invite), _) => (user, Is::Leave),
            (Some(Is::Ban), Some(other)) => (other, Is::Kick),
            (None | Some(Is::Leave | Is::Kick), Some(other)) if choice < 6 => (other, Is::Invite),
            (None | Some(Is::Leave | Is::Kick), _) => (user, Is::Join),
            _ => return,
        };
        self.homeserver.changes(room, sender, user, next);
    }

    /// What a connection asks next.
    pub(crate) fn choose(&mut self, at: usize) {
        if self.settings.dialects {
            return self.choose_among_all(at);
        }
        if self.calm {
            self.connections[at].wanted = one_list(10_000, 5, 1, BTreeSet::new());
            self.connections[at].wanted.timeout_ms = 10_000;
            return;
        }
        let timeout_ms = if self.random.chance(300) { 0 } else { self.random.between(1, 5_000) };
        let rooms = self.homeserver.rooms.len();
        let changes = self.connections[at].wanted.lists.is_empty() || self.random.chance(150);
        if changes {
            let end = self.random.between(0, rooms as u64);
            let limit = self.random.between(1, 8);
            let state = self.random.below(3);
            let mut subscriptions = BTreeSet::new();
            for _ in 0..self.random.between(0, 2) {
                subscriptions.insert(self.random.below(rooms));
            }
            self.connections[at].wanted = one_list(end, limit, state, subscriptions);
        }
        self.connections[at].wanted.timeout_ms = timeout_ms;
    }

    fn choose_among_all(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let mut chooser = Chooser {
            random: &mut self.choices,
            dialect: connection.dialect,
            rooms: self.homeserver.rooms.len(),
            lazy: connection.lazy,
        };
        let wanted = &mut connection.wanted;
        if self.settles {
            if !std::mem::replace(&mut connection.is_settled, true) {
                *wanted = chooser.last();
                wanted.timeout_ms = 10_000;
            }
            return;
        }
        if wanted.lists.is_empty() || chooser.random.chance(150) {
            *wanted = chooser.next(wanted);
        }
        let waits = chooser.random.chance(700);
        wanted.timeout_ms = if waits { chooser.random.between(1, 5_000) } else { 0 };
    }

    /// A room shows more or less of its history from now on.
    fn act_on_history(&mut self) {
        let room = self.choices.below(self.homeserver.rooms.len());
        let joined = self.homeserver.rooms[room].joined();
        let visibility = any_visibility(&mut self.choices);
        if let Some(actor) = self.choices.pick(&joined) {
            self.homeserver.shows_history(room, *actor, visibility);
        }
    }

    /// Something happens that decides which lists a room is in, or what it is
    /// called.
    pub(crate) fn act_on_lists(&mut self) {
        let room = self.choices.below(self.homeserver.rooms.len());
        let user = self.choices.below(self.settings.users);
        let joined = self.homeserver.rooms[room].joined();
        let actor = self.choices.pick(&joined).copied();
        match (self.choices.below(8), actor) {
            (0 | 1, _) => self.homeserver.set_account_data(user, None, "m.direct"),
            (2..=4, Some(actor)) => self.homeserver.set_account_data(actor, Some(room), "m.tag"),
            (5, Some(actor)) => self.homeserver.empty(room, "m.room.name", actor),
            (6, Some(actor)) => self.homeserver.empty(room, "m.room.avatar", actor),
            (7, Some(actor)) => self.homeserver.set(room, "m.room.encryption", "", actor),
            _ => {}
        }
    }
}

/// One list in the simplified dialect.
fn one_list(end: u64, limit: u64, state: usize, subscriptions: BTreeSet<usize>) -> Wanted {
    let pairs: &[(&str, &str)] = match state {
        0 => &[("m.room.name", "")],
        1 => &[
            ("m.room.name", ""),
            ("m.room.topic", ""),
            ("m.room.avatar", ""),
            ("org.widget", "a"),
            ("org.widget", "b"),
        ],
        _ => &[],
    };
    let state = StateWanted {
        all: state > 1,
        except: false,
        pairs: pairs.iter().copied().collect(),
        own: true,
        lazy: true,
    };
    let room = RoomWanted { limit, state };
    let list = ListWanted { ranges: vec![(0, end)], room: room.clone(), ..ListWanted::default() };
    Wanted {
        lists: BTreeMap::from([("all".to_owned(), list)]),
        subscriptions: subscriptions.into_iter().map(|it| (it, room.clone())).collect(),
        extensions: EXTENSIONS.iter().map(|name| (*name, ScopeWanted::default())).collect(),
        timeout_ms: 0,
    }
}
