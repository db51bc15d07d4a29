//! Who may see what, by the truth and by what the homeserver has told Luge
//! (the leak check).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::homeserver::{Answer, Homeserver, Is, MEMBER, event_of, room_of, user_id};

#[derive(Clone, Debug, Default)]
pub(crate) struct Visibility {
    /// For each stay (room, user, its beginning), the oldest event that the
    /// homeserver gave the user.
    given: BTreeMap<(usize, usize, u64), usize>,
    /// Member events that any answer has told of.
    told: BTreeSet<(usize, usize)>,
    /// When each was told first.
    told_ms: BTreeMap<(usize, usize), u64>,
}

/// How long news may be on their way to a shard.
const ON_THE_WAY_MS: u64 = 2_000;

impl Visibility {
    /// Luge is about to take in an answer to `user`'s device.
    pub(crate) fn tell(&mut self, homeserver: &Homeserver, user: usize, answer: &Answer) {
        for (room, oldest) in &answer.given {
            let stays = homeserver.rooms[*room].stays(user);
            let stay = stays.iter().rev().find(|(begin, _)| *begin <= answer.next);
            if let Some((begin, _)) = stay {
                let first = self.given.entry((*room, user, *begin)).or_insert(*oldest);
                *first = (*first).min(*oldest);
            }
        }
        for (room, index) in &answer.told {
            self.tell_member(homeserver, *room, *index);
        }
    }

    /// The homeserver gives a user older events of a stay (room, user, its
    /// beginning) than before.
    pub(crate) fn give(&mut self, stay: (usize, usize, u64), oldest: usize) {
        let first = self.given.entry(stay).or_insert(oldest);
        *first = (*first).min(oldest);
    }

    pub(crate) fn tell_member(&mut self, homeserver: &Homeserver, room: usize, index: usize) {
        self.told.insert((room, index));
        self.told_ms.entry((room, index)).or_insert(homeserver.now_ms);
    }

    /// Looks for what `user` may not see in an answer that was made at `made_ms`.
    pub(crate) fn check(&self, homeserver: &Homeserver, user: usize, answer: &Value, made_ms: u64) {
        for (room_id, entry) in answer["rooms"].as_object().into_iter().flatten() {
            let room = room_of(room_id);
            for (place, is_state) in [("timeline", false), ("required_state", true)] {
                let events = entry[place].as_array().into_iter().flatten();
                // Without content it says that an entry is gone.
                for event in events.filter(|event| event.get("content").is_some()) {
                    let id = event["event_id"].as_str().expect("an event id");
                    let own = event["type"] == MEMBER && event["state_key"] == *user_id(user);
                    assert!(
                        own || self.sees(homeserver, user, room, event_of(id).1, is_state),
                        "@u{user}:x is shown {id} in {place}, which is not theirs to see"
                    );
                }
            }
        }
        for extension in ["typing", "receipts"] {
            let rooms = answer["extensions"][extension]["rooms"].as_object();
            for (room_id, _) in rooms.into_iter().flatten() {
                let room = room_of(room_id);
                let steps = homeserver.rooms[room].members.get(&user);
                let known = steps.into_iter().flatten().rev().find(|step| {
                    let told_ms = self.told_ms.get(&(room, step.index));
                    let long_ago = made_ms - ON_THE_WAY_MS;
                    step.is == Is::Join || told_ms.is_some_and(|at_ms| *at_ms <= long_ago)
                });
                assert!(
                    known.is_some_and(|step| step.is == Is::Join),
                    "@u{user}:x is shown {extension} of {room_id}"
                );
            }
        }
    }

    fn sees(
        &self,
        homeserver: &Homeserver,
        user: usize,
        room: usize,
        index: usize,
        is_state: bool,
    ) -> bool {
        let of = &homeserver.rooms[room];
        let stream = of.events[index].stream;
        of.stays(user).into_iter().any(|(begin, end)| {
            let Some(first) = self.given.get(&(room, user, begin)) else { return false };
            let ended = end.filter(|end| {
                let steps = of.members[&user].iter();
                let step = steps.rev().find(|step| step.stream == *end);
                // Of two answers to different users the later may come first:
                // what was told before the end was, was nobody's to hold back.
                let told_ms = |index| self.told_ms.get(&(room, index)).copied();
                step.is_some_and(|step| {
                    let came_before = told_ms(index).is_some_and(|event_ms| {
                        told_ms(step.index).is_none_or(|end_ms| event_ms <= end_ms)
                    });
                    self.told.contains(&(room, step.index)) && !came_before
                })
            });
            (is_state || *first <= index) && ended.is_none_or(|end| stream <= end)
        })
    }
}
