//! A whole conversation at random: rooms come, move and go, windows and orders
//! change, answers are lost, and the client has the true order all the same.
//!
//! `LUGE_CONVERSATION_SEED` gives one seed, `LUGE_CONVERSATION_STEPS` how many
//! steps of each.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    after, alice_with,
    driver::{Client, Luge},
    events::{ALICE, BOB, beginning, invited, joined, joined_with, left, member, message, name},
    model::Held,
};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).expect("31 bits fit") % limit.max(1)
    }
}

/// A room as it is.
#[derive(Clone, Debug, Default)]
struct Room {
    joined: bool,
    invited: bool,
    name: String,
    unread: (u64, u64),
    /// When its last event came: greater is later.
    last: u64,
}

/// What the client asks of its one list.
#[derive(Clone, Debug)]
struct Wanted {
    ranges: Vec<(u64, u64)>,
    sort: &'static str,
    invites: Option<bool>,
}

struct Conversation {
    random: Random,
    luge: Luge,
    alice: Client,
    rooms: BTreeMap<String, Room>,
    clock: u64,
    wanted: Wanted,
    /// What the client has taken in.
    held: Held,
    position: Option<Value>,
}

const SORTS: [&str; 4] = ["by_recency", "by_name", "by_notification_count", "by_highlight_count"];

impl Conversation {
    fn new(seed: u64) -> Self {
        let (luge, alice) = alice_with(json!({}));
        Self {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            luge,
            alice,
            rooms: BTreeMap::new(),
            clock: 0,
            wanted: Wanted { ranges: vec![(0, 4)], sort: SORTS[0], invites: None },
            held: Held::default(),
            position: None,
        }
    }

    /// Something happens at the homeserver.
    fn happen(&mut self) {
        self.clock += 1;
        let now = self.clock;
        let id = format!("!{}:x", self.random.below(14));
        let what = self.random.below(10);
        let room = self.rooms.entry(id.clone()).or_default();
        let event = format!("$e{now}");
        let answer = match (room.joined, what) {
            (true, 0..=4) => joined(&id, &[message(&event, BOB)]),
            (true, 5) => {
                room.name = format!("{}{now}", ["b", "A", "#c"][self.random.below(3)]);
                joined(&id, &[name(&event, BOB, &room.name)])
            }
            (true, 6 | 7) => {
                room.unread = (self.random.below(4) as u64, self.random.below(2) as u64);
                let (notifications, highlights) = room.unread;
                let counts = json!({"unread_notifications": {
                    "notification_count": notifications, "highlight_count": highlights,
                }});
                let answer = joined_with(&id, &[], counts);
                // No event: the order by recency stays.
                return self.luge.sync(&self.alice, answer);
            }
            (true, 8) => {
                *room = Room { last: now, ..Room::default() };
                left(&id, &[member(&event, ALICE, "leave")])
            }
            (false, 0..=5) => {
                room.joined = true;
                room.invited = false;
                room.unread = (0, 0);
                room.name = format!("n{now}");
                let mut events = beginning(&format!("$b{now}"), &[BOB, ALICE]);
                events.push(name(&event, BOB, &room.name));
                joined(&id, &events)
            }
            (false, 6 | 7) if !room.invited => {
                room.invited = true;
                "Invited".clone_into(&mut room.name);
                invited(&id, BOB, ALICE)
            }
            _ => return,
        };
        room.last = now;
        // Invites have no event with a time; what comes later is later.
        self.luge.wait(1_000);
        self.luge.sync(&self.alice, stamped(answer, self.luge.now_ms()));
    }

    /// The true order.
    fn order(&self) -> Vec<&str> {
        let is_listed = |(_, room): &(&String, &Room)| {
            (room.joined || room.invited)
                && self.wanted.invites.is_none_or(|invites| invites == room.invited)
        };
        let mut rooms: Vec<_> = self.rooms.iter().filter(is_listed).collect();
        let unread = |room: &Room| if room.invited { (0, 1) } else { room.unread };
        rooms.sort_by(|(_, a), (_, b)| {
            let first = match self.wanted.sort {
                "by_name" => {
                    let key = |room: &Room| room.name.trim_start_matches('#').to_lowercase();
                    key(a).cmp(&key(b))
                }
                "by_notification_count" => unread(b).0.cmp(&unread(a).0),
                "by_highlight_count" => unread(b).1.cmp(&unread(a).1),
                _ => std::cmp::Ordering::Equal,
            };
            first.then(b.last.cmp(&a.last))
        });
        rooms.into_iter().map(|(id, _)| &**id).collect()
    }

    fn request(&self) -> Value {
        let filters = match self.wanted.invites {
            Some(invites) => json!({"is_invite": invites}),
            None => json!({}),
        };
        json!({"lists": {"l": {
            "ranges": self.wanted.ranges, "sort": [self.wanted.sort], "filters": filters,
            "timeline_limit": 1,
        }}})
    }

    fn change_mind(&mut self) {
        match self.random.below(3) {
            0 => {
                let mut from = self.random.below(3) as u64;
                self.wanted.ranges.clear();
                for _ in 0..self.random.below(3) {
                    let to = from + self.random.below(6) as u64;
                    self.wanted.ranges.push((from, to));
                    from = to + 1 + self.random.below(3) as u64;
                }
            }
            1 => self.wanted.sort = SORTS[self.random.below(4)],
            _ => self.wanted.invites = [None, Some(true), Some(false)][self.random.below(3)],
        }
    }

    /// Asks until the client has what it asks for now, losing some answers.
    fn talk(&mut self, seed: u64) {
        self.clock += 1;
        let txn_id = self.clock.to_string();
        loop {
            let mut request = self.request();
            request["txn_id"] = txn_id.clone().into();
            if let Some(before) = &self.position {
                request = after(before, request);
            }
            let answer = self.luge.ask(&self.alice, request);
            // Lost: the client asks again, and perhaps for something else.
            if self.random.below(4) == 0 {
                if self.random.below(2) == 0 {
                    self.happen();
                }
                if self.random.below(4) == 0 {
                    self.change_mind();
                }
                continue;
            }
            if self.position.is_none() {
                self.held = Held::default();
            }
            self.held.apply(&answer["lists"]["l"]["ops"]);
            self.held.rooms();
            let is_own = answer["txn_id"] == *txn_id;
            self.position = Some(answer);
            if is_own {
                break;
            }
        }
        // What was lost or came in between is caught up with.
        let answer = self.position.clone().expect("an answer");
        let mut answer = self.luge.ask(&self.alice, after(&answer, self.request()));
        self.held.apply(&answer["lists"]["l"]["ops"]);
        for _ in 0..6 {
            answer = self.luge.ask(&self.alice, after(&answer, self.request()));
            self.held.apply(&answer["lists"]["l"]["ops"]);
        }
        let order = self.order();
        assert_eq!(answer["lists"]["l"]["count"], order.len(), "seed {seed}");
        let mut expected = BTreeMap::new();
        for (from, to) in &self.wanted.ranges {
            for index in *from..=*to {
                if let Some(room) = order.get(usize::try_from(index).expect("fits")) {
                    expected.insert(index, (*room).to_owned());
                }
            }
        }
        assert_eq!(*self.held.rooms(), expected, "seed {seed}: {:?}", self.wanted);
        self.position = Some(answer);
    }
}

/// Events that come now.
fn stamped(mut value: Value, now_ms: u64) -> Value {
    fn stamp(value: &mut Value, now_ms: u64) {
        match value {
            Value::Object(members) => {
                if members.contains_key("event_id") {
                    members.insert("origin_server_ts".to_owned(), now_ms.into());
                }
                members.values_mut().for_each(|value| stamp(value, now_ms));
            }
            Value::Array(elements) => elements.iter_mut().for_each(|it| stamp(it, now_ms)),
            _ => {}
        }
    }
    stamp(&mut value, now_ms);
    value
}

/// Goal: whatever happens, and whatever is lost, the client comes to hold the
/// order that there is.
#[test]
fn a_client_comes_to_hold_the_true_order() {
    let number = |name: &str| std::env::var(name).ok().map(|it| it.parse().expect("a number"));
    let steps = number("LUGE_CONVERSATION_STEPS").unwrap_or(120);
    let seeds = match number("LUGE_CONVERSATION_SEED") {
        Some(seed) => vec![seed],
        None => (1..=8).collect(),
    };
    for seed in seeds {
        println!("seed {seed}");
        let mut conversation = Conversation::new(seed);
        for step in 0..steps {
            for _ in 0..=conversation.random.below(4) {
                conversation.happen();
            }
            if conversation.random.below(4) == 0 {
                conversation.change_mind();
            }
            if conversation.random.below(40) == 0 {
                conversation.luge.restart();
                let since = conversation.alice.clone();
                conversation.luge.sync(&since, json!({}));
            }
            if step > 0 && conversation.random.below(60) == 0 {
                conversation.position = None;
            }
            conversation.talk(seed);
        }
    }
}
