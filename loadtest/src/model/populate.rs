//! Fills a homeserver with people, rooms and months of talk, all from one seed.
//!
//! The history is planned room by room and then played in the order of time, so that the stream order and the
//! timestamps agree, as they mostly do on a real homeserver.

use serde_json::json;

use super::act::{NewEvent, NewRoom};
use super::event::Membership;
use super::{Homeserver, Milliseconds};
use crate::random::Random;
use crate::words;

const DAY_MS: u64 = 86_400_000;

/// How much a homeserver holds.
#[derive(Debug, Clone)]
pub struct Size {
    /// Rooms, direct chats and spaces included.
    pub rooms: usize,
    /// Local accounts, each with one device.
    pub users: usize,
    /// People of other servers who are members of rooms.
    pub remote_users: usize,
    /// What everything random is drawn from.
    pub seed: u64,
    /// Members of one room at most. Default: 400.
    pub members_max: u64,
    /// Messages in one room's history at most. Default: 300.
    pub messages_max: u64,
    /// Of a hundred rooms, how many are direct chats. Default: 30.
    pub direct_percent: u64,
    /// Of a hundred rooms, how many are spaces. Default: 2.
    pub space_percent: u64,
    /// Invitations that wait, for each user on average. Default: 1.
    pub invites_per_user: usize,
    /// The password of every account. Default: "password".
    pub password: String,
    /// How far back the history goes, in days. Default: 200.
    pub days: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            rooms: 100,
            users: 20,
            remote_users: 60,
            seed: 1,
            members_max: 400,
            messages_max: 300,
            direct_percent: 30,
            space_percent: 2,
            invites_per_user: 1,
            password: "password".to_owned(),
            days: 200,
        }
    }
}

enum Step {
    Create(NewRoom),
    Join(String),
    Say { encrypted: bool },
}

struct Planned {
    at: Milliseconds,
    room: usize,
    step: Step,
}

struct Draft {
    creator: String,
    room_id: String,
    direct_with: Option<String>,
    is_space: bool,
}

impl Homeserver {
    /// A homeserver with the people, rooms and talk of `size`, whose history ends at `now`.
    pub fn new(size: &Size, now: Milliseconds) -> Self {
        let mut homeserver = Self::empty(size.seed);
        let mut random = Random::new(size.seed ^ 0x5e1f);
        let locals = homeserver.populate_people(size, &mut random);
        if locals.is_empty() {
            return homeserver;
        }
        let remotes: Vec<String> = (0..size.remote_users)
            .map(|number| {
                let local = words::localpart(&words::person(&mut random));
                format!("@{local}{number}:elsewhere.test")
            })
            .collect();
        let mut drafts = Vec::with_capacity(size.rooms);
        let mut plan = Vec::new();
        for room in 0..size.rooms {
            let members = Self::plan_members(size, &mut random, &locals, &remotes);
            drafts.push(Self::plan_room(size, &mut random, (room, now), members, &mut plan));
        }
        plan.sort_by_key(|planned| (planned.at, planned.room));
        for planned in plan {
            homeserver.play(&mut drafts[planned.room], planned, &mut random);
        }
        homeserver.populate_spaces(&drafts, &mut random, now);
        homeserver.populate_departures(&drafts, &mut random, now);
        homeserver.populate_private(&drafts, &mut random, now);
        homeserver.populate_invites(size, &drafts, &locals, (&mut random, now));
        homeserver.take_woken();
        homeserver
    }

    fn populate_people(&mut self, size: &Size, random: &mut Random) -> Vec<String> {
        let mut locals: Vec<String> = Vec::with_capacity(size.users);
        for number in 0..size.users {
            let name = words::person(random);
            let mut localpart = words::localpart(&name);
            if self.users.contains_key(&format!("@{localpart}:{}", self.server_name)) {
                localpart = format!("{localpart}{number}");
            }
            let user_id = self.register(&localpart, &name, &size.password);
            if random.chance(60)
                && let Some(user) = self.users.get_mut(&user_id)
            {
                user.avatar_url = Some(format!("mxc://simulated.test/{}", random.letters(24)));
            }
            locals.push(user_id);
        }
        for user_id in &locals {
            self.log_in(user_id, None);
        }
        locals
    }

    /// Who will be in a room, its creator first; most rooms are small, and some people are in far more than others.
    fn plan_members(
        size: &Size,
        random: &mut Random,
        locals: &[String],
        remotes: &[String],
    ) -> Vec<String> {
        let count = random.skewed(2, size.members_max.max(2), 0.9) as usize;
        let mut members: Vec<String> = Vec::with_capacity(count);
        let mut taken = std::collections::BTreeSet::new();
        for _ in 0..count * 2 {
            if members.len() == count {
                break;
            }
            let from_here = members.is_empty() || remotes.is_empty() || random.chance(60);
            let pool = if from_here { locals } else { remotes };
            let skew = random.fraction() * random.fraction().sqrt();
            let member = &pool[(skew * pool.len() as f64) as usize];
            if taken.insert(member.clone()) {
                members.push(member.clone());
            }
        }
        members
    }

    fn plan_room(
        size: &Size,
        random: &mut Random,
        (room, now): (usize, Milliseconds),
        members: Vec<String>,
        plan: &mut Vec<Planned>,
    ) -> Draft {
        let span = size.days.max(1) * DAY_MS;
        let created = now - random.below(span / 2).saturating_add(span / 2);
        // The age of the last message: minutes in a few rooms, months in many.
        let quiet = random.skewed(60_000, span / 2, 0.25);
        let last = (now - quiet).max(created + 60_000);
        let direct = random.chance(size.direct_percent) && members.len() >= 2;
        let is_space = !direct && random.chance(size.space_percent);
        let members = if direct { members[..2].to_vec() } else { members };
        let new = new_room(random, room, direct, is_space);
        let encrypted = new.encrypted;
        plan.push(Planned { at: created, room, step: Step::Create(new) });
        for member in &members[1..] {
            let at = created + 1_000 + (random.fraction().powi(6) * (last - created) as f64) as u64;
            plan.push(Planned { at, room, step: Step::Join(member.clone()) });
        }
        let messages = if is_space { 0 } else { random.skewed(3, size.messages_max.max(3), 0.7) };
        for _ in 0..messages {
            let at = last - (random.fraction().powi(2) * (last - created) as f64 * 0.95) as u64;
            plan.push(Planned { at, room, step: Step::Say { encrypted } });
        }
        let direct_with = direct.then(|| members[1].clone());
        Draft { creator: members[0].clone(), room_id: String::new(), direct_with, is_space }
    }

    fn play(&mut self, draft: &mut Draft, planned: Planned, random: &mut Random) {
        let room_id = draft.room_id.clone();
        match planned.step {
            Step::Create(mut new) => {
                new.invite.extend(draft.direct_with.clone());
                draft.room_id = self.create_room(&draft.creator, &new, planned.at);
            }
            Step::Join(member) => {
                let content = self.member_content(&member, Membership::Join);
                let join = NewEvent::state(&member, "m.room.member", &member, content);
                self.append(&room_id, join, planned.at);
            }
            Step::Say { encrypted } => {
                let Some(room) = self.rooms.get(&room_id) else { return };
                let skew = random.fraction() * random.fraction();
                let speaker = (skew * room.joined.len() as f64) as usize;
                let Some(sender) = room.joined.iter().nth(speaker).cloned() else { return };
                let event = spoken(random, &sender, encrypted);
                self.append(&room_id, event, planned.at);
            }
        }
    }

    fn populate_spaces(&mut self, drafts: &[Draft], random: &mut Random, now: Milliseconds) {
        let children: Vec<&Draft> =
            drafts.iter().filter(|draft| !draft.is_space && draft.direct_with.is_none()).collect();
        if children.is_empty() {
            return;
        }
        for space in drafts.iter().filter(|draft| draft.is_space) {
            for _ in 0..random.between(2, 8) {
                let child = random.pick(&children);
                let via = json!({"via": [self.server_name], "suggested": random.chance(20)});
                let event = NewEvent::state(&space.creator, "m.space.child", &child.room_id, via);
                self.append(&space.room_id, event, now - DAY_MS);
            }
        }
    }

    /// Kicks, bans, leavings and upgrades in some of the rooms.
    fn populate_departures(&mut self, drafts: &[Draft], random: &mut Random, now: Milliseconds) {
        for draft in drafts.iter().filter(|draft| !draft.is_space && draft.direct_with.is_none()) {
            let room = &self.rooms[&draft.room_id];
            let others: Vec<String> =
                room.joined.iter().filter(|member| **member != draft.creator).cloned().collect();
            let at = room.events.last().map_or(now, |event| event.origin_server_ts + 1).min(now);
            if others.len() > 3 && random.chance(12) {
                let target = random.pick(&others).clone();
                let (sender, membership) = match random.below(3) {
                    0 => (draft.creator.clone(), Membership::Leave),
                    1 => (draft.creator.clone(), Membership::Ban),
                    _ => (target.clone(), Membership::Leave),
                };
                let content = self.member_content(&target, membership);
                let event = NewEvent::state(&sender, "m.room.member", &target, content);
                self.append(&draft.room_id, event, at);
            }
            if random.chance(2) {
                let successor = random.pick(drafts).room_id.clone();
                let content = json!({"body": "This room has moved", "replacement_room": successor});
                let event = NewEvent::state(&draft.creator, "m.room.tombstone", "", content);
                self.append(&draft.room_id, event, at);
            }
        }
    }

    /// Receipts, tags and the lists of direct chats.
    fn populate_private(&mut self, drafts: &[Draft], random: &mut Random, now: Milliseconds) {
        for draft in drafts {
            if let Some(other) = &draft.direct_with {
                self.add_direct(&draft.creator, other, &draft.room_id);
                self.add_direct(other, &draft.creator, &draft.room_id);
            }
            let Some(room) = self.rooms.get(&draft.room_id) else { continue };
            let readers: Vec<String> = room.joined.iter().take(40).cloned().collect();
            for reader in readers {
                let room = &self.rooms[&draft.room_id];
                let unread = random.skewed(1, room.events.len() as u64, 1.2) as usize - 1;
                let event = &room.events[room.events.len() - 1 - unread];
                let (event_id, ts) = (event.event_id.to_string(), event.origin_server_ts + 5_000);
                let private = random.chance(10);
                // A receipt on an event that another receipt is already past is ignored, as it should be.
                let _ = self.set_receipt(
                    &draft.room_id,
                    &reader,
                    (&event_id, private, None),
                    ts.min(now),
                );
                if random.chance(6) {
                    let tag = if random.chance(70) { "m.favourite" } else { "m.lowpriority" };
                    let order = random.fraction();
                    let tags = json!({"tags": {tag: {"order": order}}});
                    self.set_room_account_data(&reader, &draft.room_id, "m.tag", tags);
                }
            }
        }
    }

    fn populate_invites(
        &mut self,
        size: &Size,
        drafts: &[Draft],
        locals: &[String],
        (random, now): (&mut Random, Milliseconds),
    ) {
        for _ in 0..size.invites_per_user * locals.len() {
            if drafts.is_empty() {
                return;
            }
            let (draft, target) = (random.pick(drafts), random.pick(locals));
            let at = now - random.below(7 * DAY_MS);
            let is_new = self.rooms[&draft.room_id].membership(target).is_none();
            if !is_new || draft.direct_with.is_some() {
                continue;
            }
            let knocks = self.rooms[&draft.room_id]
                .state("m.room.join_rules", "")
                .is_some_and(|rules| rules.content.contains("knock"));
            let (sender, membership) = if knocks && random.chance(50) {
                (target, Membership::Knock)
            } else {
                (&draft.creator, Membership::Invite)
            };
            // Who has lost the right to invite meanwhile simply does not.
            let _ = self.set_membership(&draft.room_id, sender, (target, membership), None, at);
        }
    }
}

/// One line of talk, as an event.
pub(crate) fn spoken(random: &mut Random, sender: &str, encrypted: bool) -> NewEvent {
    if encrypted {
        let content = json!({
            "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": random.letters(180),
            "device_id": random.capitals(10), "sender_key": random.letters(43),
            "session_id": random.letters(43),
        });
        return NewEvent::message(sender, "m.room.encrypted", content);
    }
    let content = json!({"msgtype": "m.text", "body": words::line(random)});
    NewEvent::message(sender, "m.room.message", content)
}

fn new_room(random: &mut Random, room: usize, direct: bool, is_space: bool) -> NewRoom {
    let name = words::room_name(random);
    let public = !direct && random.chance(40);
    let visibility = match random.below(10) {
        0 => "joined",
        1 => "invited",
        2 if public => "world_readable",
        _ => "shared",
    };
    let named = !direct && !random.chance(15);
    let avatar = random.chance(30).then(|| format!("mxc://simulated.test/{}", random.letters(24)));
    NewRoom {
        alias: (named && public).then(|| format!("{}{room}", words::localpart(&name))),
        topic: (named && random.chance(50)).then(|| words::room_topic(random)),
        avatar_url: avatar.filter(|_| !direct),
        name: named.then_some(name),
        room_type: is_space.then(|| "m.space".to_owned()),
        version: (*random.pick(&["10", "10", "10", "11", "9", "6"])).to_owned(),
        public,
        knock: !public && !direct && random.chance(20),
        encrypted: !is_space && (direct || random.chance(20)),
        direct,
        history_visibility: visibility.to_owned(),
        ..NewRoom::default()
    }
}
