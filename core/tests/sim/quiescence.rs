//! When everything has come to rest, clients hold the truth.

use std::collections::BTreeMap;

use luge_core::{request::Dialect, shard::ShardLimits};

use crate::{
    account,
    client::Connection,
    entry::Held,
    homeserver::{Is, MEMBER, Room, room_of as number_of, user_id},
    log,
    simulation::Simulation,
    truth::{Listed, are_named, is_name_of, sorted},
    wanted::StateWanted,
};

impl Simulation {
    /// Nothing goes wrong any more; everything that is on its way arrives.
    pub(crate) fn come_to_rest(&mut self) {
        self.calm = true;
        self.pass(5_000);
        if self.logs {
            log::truth(&self.homeserver);
        }
        // Who types is not kept over a restart, but told when it changes.
        for room in 0..self.homeserver.rooms.len() {
            let of = &self.homeserver.rooms[room];
            let silent = of.joined().into_iter().find(|user| !of.typing.contains(user));
            if let Some(user) = silent {
                self.homeserver.types(room, user);
                self.typed.insert(room);
            }
        }
        // What comes back into scope is told although it did not change since.
        if self.settings.dialects {
            self.pass(10_000);
        }
        self.settles = true;
        // What waits for the next word of somebody's poller waits for a whole poll.
        self.pass(ShardLimits::default().poll_timeout_ms + 5_000);
        self.check(false);
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
        self.check(true);
        if self.homeserver.rooms.len() < 50 {
            self.check_order(&order);
        }
    }

    fn check(&self, is_last: bool) {
        for connection in &self.connections {
            if connection.encryption {
                self.check_encryption(connection);
            } else {
                self.check_lists(connection);
                self.check_rooms(connection, is_last);
            }
        }
    }

    fn check_lists(&self, connection: &Connection) {
        let name = name(connection);
        for (key, list) in &connection.wanted.lists {
            let rooms = &connection.listed[key];
            let mut least = 0;
            let mut most = 0;
            for number in 0..self.homeserver.rooms.len() {
                let mut listed = self.homeserver.listed(connection, list, number);
                // Who left while the position was lost may have been put out before,
                // and that still stands.
                let is = self.homeserver.rooms[number].membership(connection.user);
                if is == Some(Is::Leave) && self.rejected.contains(&connection.user) {
                    listed = Listed::Perhaps;
                }
                least += u64::from(listed == Listed::Yes);
                most += u64::from(listed != Listed::No);
                if listed != Listed::Perhaps {
                    let is_in = rooms.contains(&number);
                    let should = listed == Listed::Yes;
                    assert_eq!(is_in, should, "{name}: !r{number}:x is in {key}, {is:?}, {list:?}");
                }
            }
            let count = connection.counts[key];
            assert_eq!(count, rooms.len() as u64, "{name}: the count of {key}");
            assert!((least..=most).contains(&count), "{name}: the count of {key}: {count}");
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

    fn check_rooms(&self, connection: &Connection, is_last: bool) {
        let user = connection.user;
        let name = name(connection);
        let of = &self.homeserver.users[user];
        for (number, room) in self.homeserver.rooms.iter().enumerate() {
            let is = room.membership(user);
            let Some(held) = connection.rooms.get(&number) else { continue };
            // The end of a stay or an invite while the position was lost has no event to
            // tell, and without one nothing is said.
            let untold = is == Some(Is::Leave) && self.rejected.contains(&user);
            if !untold {
                assert_eq!(
                    held.invited,
                    is == Some(Is::Invite),
                    "{name}: {} is an invite",
                    room.id
                );
            }
            if is != Some(Is::Invite) && !untold {
                assert_eq!(held.joined, is == Some(Is::Join), "{name}: {} is joined", room.id);
            }
            let is_listed = connection.listed.values().any(|rooms| rooms.contains(&number));
            // Who asks for no events is not told the last ones, and cannot ask for
            // more of a room that is in no list.
            if !untold && (is_listed || held.limit > 0) {
                check_end(&name, user, room, held);
            }
            if is == Some(Is::Join) {
                check_joined(&name, connection, number, room, held);
                self.check_is_dm(&name, connection, number, is_last);
                self.check_room_extensions(&name, connection, number);
            }
        }
        let data: BTreeMap<_, _> =
            of.account_data.iter().map(|(kind, (_, value))| (kind.clone(), *value)).collect();
        assert_eq!(connection.account_data, data, "{name}: account data");
    }

    /// Where an entry is not due because the room became a direct chat, the next
    /// one says so.
    fn check_is_dm(&self, name: &str, connection: &Connection, number: usize, is_last: bool) {
        let direct = self.homeserver.users[connection.user].account_data.get("m.direct");
        let is_dm = direct.is_some_and(|(_, value)| account::is_direct(*value, number));
        let held = connection.rooms[&number].is_dm;
        match connection.dialect {
            Dialect::V4 => assert_eq!(held, is_dm, "{name}: {number} is a direct chat"),
            Dialect::Simplified if is_last => {
                assert_eq!(held, is_dm, "{name}: {number} is a direct chat");
            }
            Dialect::Msc3575 if is_last => assert!(held || !is_dm, "{name}: {number} is one"),
            _ => {}
        }
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
            for (key, list) in &connection.wanted.lists {
                let rooms = &connection.listed[key];
                // What is bumped by events of some types is in the order of senders' clocks.
                if key == "bumped" && self.settings.clocks_behind {
                    continue;
                }
                let joined = |room: &&usize| {
                    self.homeserver.rooms[**room].membership(connection.user) == Some(Is::Join)
                };
                let recency = order.iter().filter(joined).filter(|room| rooms.contains(room));
                let recency: Vec<usize> = recency.copied().collect();
                let expected = sorted(&self.homeserver, connection, list, &recency);
                let listed: Vec<usize> = rooms.iter().filter(joined).copied().collect();
                assert_eq!(listed, expected, "{}: order of {key}: {list:?}", name(connection));
            }
        }
    }
}

fn check_joined(name: &str, connection: &Connection, number: usize, room: &Room, held: &Held) {
    let last = room.events.len() - 1;
    assert_eq!(held.events.last(), Some(&last), "{name}: the last event of {}", room.id);
    let user = connection.user;
    let is_missing = |index: &usize| room.shows(user, *index) && !held.late.contains(index);
    for pair in held.events.windows(2) {
        let missing: Vec<_> = (pair[0] + 1..pair[1]).filter(is_missing).collect();
        assert!(missing.is_empty(), "{name}: {} lacks {missing:?} in {:?}", room.id, held.events);
    }
    let begins = held.events.first().is_some_and(|first| !(0..*first).any(|it| is_missing(&it)));
    assert!(held.limited || begins || held.events.len() >= 5, "{name}: {}: {held:?}", room.id);
    match connection.dialect {
        Dialect::Msc3575 => {
            let told = held.name.as_deref().unwrap_or_default();
            assert!(is_name_of(room, user, told), "{name}: {} is called {told}", room.id);
            let unread = room.unread.get(&user).copied().unwrap_or(0);
            assert_eq!(held.unread, unread, "{name}: unread of {}", room.id);
        }
        _ => assert_eq!(held.name, room.name(), "{name}: name of {}", room.id),
    }
    let others = room.others(user);
    let heroes_are_told = connection.dialect != Dialect::Msc3575;
    if heroes_are_told && room.name().is_none() && !others.is_empty() {
        let heroes = held.heroes.iter().map(|hero| number_of(hero)).collect();
        assert!(are_named(&heroes, &others), "{name}: heroes of {}: {heroes:?}", room.id);
    }
    assert_eq!(held.avatar, room.avatar(), "{name}: avatar of {}", room.id);
    let counts = (room.count(Is::Join) as u64, room.count(Is::Invite) as u64);
    assert_eq!(held.counts, counts, "{name}: members of {}", room.id);
    check_state(name, connection, number, room, held);
}

/// The client has the state that any list or subscription wants of the room,
/// and those who are in its timeline.
fn check_state(name: &str, connection: &Connection, number: usize, room: &Room, held: &Held) {
    let own = user_id(connection.user);
    let wanted = &connection.wanted;
    let lists = wanted.lists.iter().filter(|(key, _)| connection.listed[*key].contains(&number));
    let states = lists.map(|(_, list)| &list.room.state);
    let states: Vec<&StateWanted> =
        states.chain(wanted.subscriptions.get(&number).map(|it| &it.state)).collect();
    for ((kind, key), indices) in &room.state {
        if states.iter().any(|state| state.matches(kind, key, &own)) {
            let holds = held.state.get(&((*kind).to_owned(), key.clone()));
            let truth = indices.last().map(|at| &room.events[*at].id);
            // Members who have left are not fetched, and nobody may ever have told
            // of them.
            if *kind == MEMBER && holds.is_none() && !is_listed_member(room, key) {
                continue;
            }
            assert_eq!(holds, truth, "{name}: {kind} {key:?} of {}", room.id);
        }
    }
    for person in &held.people {
        let key = (MEMBER.to_owned(), person.clone());
        assert!(held.state.contains_key(&key), "{name}: the member {person} of {}", room.id);
    }
}

/// Whether a room's member list has somebody: those who have left it has not.
fn is_listed_member(room: &Room, user_id: &str) -> bool {
    room.membership(number_of(user_id)).is_some_and(Is::is_in_lists)
}

/// Who was in a room to the end sees it up to there, from where they see it on.
/// What was told before the end was known may be more.
fn check_end(name: &str, user: usize, room: &Room, held: &Held) {
    let Some(step) = room.members.get(&user).and_then(|steps| steps.last()) else { return };
    let stays = room.stays(user);
    if stays.last().is_none_or(|(_, end)| *end != Some(step.stream)) {
        return;
    }
    let Some(first) = held.events.first() else { return };
    let holds = |index: &usize| held.events.contains(index) || held.late.contains(index);
    let is_missing = |index: &usize| room.shows(user, *index) && !holds(index);
    let missing: Vec<_> = (*first..=step.index).filter(is_missing).collect();
    assert!(missing.is_empty(), "{name}: {} lacks {missing:?}, and has {held:?}", room.id);
}

fn name(connection: &Connection) -> String {
    let kind = if connection.encryption { "encryption" } else { "rooms" };
    let (device, user) = (connection.device, user_id(connection.user));
    format!("device {device} of {user} ({kind}, {:?})", connection.dialect)
}
