//! When everything has come to rest, clients hold the truth.

use std::collections::BTreeMap;

use crate::{
    client::{Connection, Held},
    homeserver::{Is, MEMBER, Room, user_id},
    simulation::Simulation,
};

impl Simulation {
    /// Nothing goes wrong any more; everything that is on its way arrives.
    pub(crate) fn come_to_rest(&mut self) {
        self.calm = true;
        self.pass(5_000);
        // Who types is not kept over a restart, but told when it changes.
        for room in 0..self.homeserver.rooms.len() {
            let of = &self.homeserver.rooms[room];
            let silent = of.joined().into_iter().find(|user| !of.typing.contains(user));
            if let Some(user) = silent {
                self.homeserver.types(room, user);
                self.typed.insert(room);
            }
        }
        self.pass(30_000);
        self.check();
        // A last message in each room, one after the other, orders the lists.
        let mut order = Vec::new();
        for room in 0..self.homeserver.rooms.len() {
            let joined = self.homeserver.rooms[room].joined();
            if let Some(sender) = joined.first() {
                self.homeserver.message(room, *sender);
                order.insert(0, room);
                if self.homeserver.rooms.len() < 50 {
                    self.pass(2_000);
                }
            }
        }
        self.pass(15_000);
        self.check();
        if self.homeserver.rooms.len() < 50 {
            self.check_order(&order);
        }
    }

    fn check(&self) {
        for connection in &self.connections {
            if connection.encryption {
                self.check_encryption(connection);
            } else {
                self.check_rooms(connection);
            }
        }
    }

    fn check_encryption(&self, connection: &Connection) {
        let device = &self.homeserver.devices[connection.device];
        assert_eq!(connection.received, device.messages, "{}: messages", name(connection));
        let mut last = BTreeMap::new();
        for (stream, who, left) in &self.homeserver.users[connection.user].device_lists {
            last.insert(who, (*stream, *left));
        }
        for (who, (stream, left)) in last {
            if stream > connection.floor {
                let told = connection.told.get(who);
                assert_eq!(told, Some(&left), "{}: devices of {}", name(connection), user_id(*who));
            }
        }
    }

    fn check_rooms(&self, connection: &Connection) {
        let user = connection.user;
        let name = name(connection);
        let of = &self.homeserver.users[user];
        for (number, room) in self.homeserver.rooms.iter().enumerate() {
            let is = room.membership(user);
            let is_listed = connection.window.contains(&number);
            // Who never was a member may be banned without learning of it, and
            // who left may have done so before the connection began.
            let should = match is {
                Some(Is::Join | Is::Invite) => Some(true),
                None | Some(Is::Leave) => Some(false),
                Some(Is::Kick | Is::Ban) => None,
            };
            if let Some(should) = should {
                assert_eq!(is_listed, should, "{name}: {} is listed, {is:?}", room.id);
            }
            let Some(held) = connection.rooms.get(&number) else { continue };
            assert_eq!(held.invited, is == Some(Is::Invite), "{name}: {} is an invite", room.id);
            // The end of a stay while the position was lost has no event to tell.
            let untold = is == Some(Is::Leave) && self.rejected.contains(&user);
            if is != Some(Is::Invite) && !untold {
                assert_eq!(held.joined, is == Some(Is::Join), "{name}: {} is joined", room.id);
            }
            if is == Some(Is::Join) {
                check_joined(&name, user, room, held);
                self.check_room_extensions(&name, connection, number);
            }
        }
        let data: BTreeMap<_, _> =
            of.account_data.iter().map(|(kind, (_, value))| (kind.clone(), *value)).collect();
        assert_eq!(connection.account_data, data, "{name}: account data");
    }

    fn check_room_extensions(&self, name: &str, connection: &Connection, number: usize) {
        let room = &self.homeserver.rooms[number];
        let user = connection.user;
        for ((owner, kind), (_, value)) in &room.account_data {
            if *owner == user {
                let told = connection.room_account_data.get(&(number, kind.clone()));
                assert_eq!(told, Some(value), "{name}: {kind} of {}", room.id);
            }
        }
        let typing: Vec<String> = room.typing.iter().map(|who| user_id(*who)).collect();
        let told = connection.typing.get(&number).cloned().unwrap_or_default();
        let mut told: Vec<String> = told.into_iter().collect();
        told.sort_by_key(|who| crate::homeserver::room_of(who));
        if self.typed.contains(&number) {
            assert_eq!(told, typing, "{name}: typing in {}", room.id);
        }
        for ((owner, private), (event_id, _)) in &room.receipts {
            if *owner == user {
                let told = connection.own_receipts.get(&(number, *private));
                assert_eq!(told, Some(event_id), "{name}: own receipt in {}", room.id);
            }
        }
    }

    fn check_order(&self, order: &[usize]) {
        for connection in self.connections.iter().filter(|it| !it.encryption) {
            let joined = |room: &&usize| {
                self.homeserver.rooms[**room].membership(connection.user) == Some(Is::Join)
            };
            let expected: Vec<usize> = order.iter().filter(joined).copied().collect();
            let listed: Vec<usize> = connection.window.iter().filter(joined).copied().collect();
            assert_eq!(listed, expected, "{}: order", name(connection));
        }
    }
}

fn check_joined(name: &str, user: usize, room: &Room, held: &Held) {
    let last = room.events.len() - 1;
    assert_eq!(held.events.last(), Some(&last), "{name}: the last event of {}", room.id);
    for pair in held.events.windows(2) {
        let missing: Vec<_> = (pair[0] + 1..pair[1]).filter(|it| !held.late.contains(it)).collect();
        assert!(missing.is_empty(), "{name}: {} lacks {missing:?} in {:?}", room.id, held.events);
    }
    let begins = held.events.first() == Some(&0);
    assert!(held.limited || begins || held.events.len() >= 5, "{name}: {}: {held:?}", room.id);
    let value = |kind| room.current(kind, "").map(|event| event.value.clone());
    assert_eq!(held.name, value("m.room.name"), "{name}: name of {}", room.id);
    let avatar = value("m.room.avatar").map(|value| format!("mxc://x/{value}"));
    assert_eq!(held.avatar, avatar, "{name}: avatar of {}", room.id);
    let counts = (room.count(Is::Join) as u64, room.count(Is::Invite) as u64);
    assert_eq!(held.counts, counts, "{name}: members of {}", room.id);
    let own = user_id(user);
    for (kind, key) in [
        (MEMBER, &*own),
        ("m.room.name", ""),
        ("m.room.topic", ""),
        ("m.room.avatar", ""),
        ("org.widget", "a"),
        ("org.widget", "b"),
    ] {
        let holds = held.state.get(&(kind.to_owned(), key.to_owned()));
        let truth = room.current(kind, key).map(|event| &event.id);
        assert_eq!(holds, truth, "{name}: {kind} {key:?} of {}", room.id);
    }
}

fn name(connection: &Connection) -> String {
    let kind = if connection.encryption { "encryption" } else { "rooms" };
    format!("device {} of {} ({kind})", connection.device, user_id(connection.user))
}
