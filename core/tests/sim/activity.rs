//! What happens at the homeserver, and what clients choose to ask.

use crate::{
    homeserver::{Device, Is, User},
    simulation::{START_MS, Simulation},
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
            let shared = self.random.chance(500);
            let room = self.homeserver.create_room(creator, shared);
            for _ in 0..self.random.between(1, 6) {
                let user = self.random.below(self.settings.users);
                if self.homeserver.rooms[room].membership(user).is_none() {
                    self.homeserver.changes(room, user, user, Is::Join);
                }
            }
        }
    }

    /// One thing happens.
    pub(crate) fn act(&mut self) {
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
                let shared = self.random.chance(500);
                self.homeserver.create_room(user, shared);
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
        if self.calm {
            let wanted = &mut self.connections[at].wanted;
            wanted.end = 10_000;
            wanted.limit = 5;
            wanted.state = 1;
            wanted.subscriptions.clear();
            wanted.timeout_ms = 10_000;
            return;
        }
        let timeout_ms = if self.random.chance(300) { 0 } else { self.random.between(1, 5_000) };
        let rooms = self.homeserver.rooms.len();
        let changes = self.connections[at].wanted.limit == 0 || self.random.chance(150);
        self.connections[at].wanted.timeout_ms = timeout_ms;
        if changes {
            let end = self.random.between(0, rooms as u64);
            let limit = self.random.between(1, 8);
            let state = self.random.below(3);
            let mut subscriptions = std::collections::BTreeSet::new();
            for _ in 0..self.random.between(0, 2) {
                subscriptions.insert(self.random.below(rooms));
            }
            let wanted = &mut self.connections[at].wanted;
            (wanted.end, wanted.limit, wanted.state) = (end, limit, state);
            wanted.subscriptions = subscriptions;
        }
    }
}
