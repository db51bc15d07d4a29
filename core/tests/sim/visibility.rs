//! Who may see what, by the truth and by what the homeserver has told Luge
//! (the leak check).

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use serde_json::Value;

use crate::homeserver::{Homeserver, Is, MEMBER, event_of, room_of, user_id};

#[derive(Clone, Debug, Default)]
pub(crate) struct Visibility {
    /// For each stay (room, user, its beginning), the oldest event that the
    /// homeserver gave the user.
    given: BTreeMap<(usize, usize, u64), usize>,
    /// Events (room, user, index) that the homeserver gave the user although the
    /// room hides them: they were the state then.
    hidden: BTreeSet<(usize, usize, usize)>,
    /// Member events that any answer has told of, and the first version of the
    /// world that had each.
    told: BTreeMap<(usize, usize), u64>,
    /// Those that the ledger has taken in, and that no world has yet.
    taken_in: Vec<(usize, usize)>,
    /// Those of which the world is not yet durable.
    fleeting: Vec<(usize, usize)>,
}

/// What an answer of the homeserver's tells, and whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) user: usize,
    pub(crate) next: u64,
    /// The oldest timeline event of each room that the user was in.
    pub(crate) given: Vec<(usize, usize)>,
    /// Timeline events that the room hides from the user: the room and the index.
    pub(crate) hidden: Vec<(usize, usize)>,
    /// Member events, likewise.
    pub(crate) told: Vec<(usize, usize)>,
}

impl Visibility {
    /// The ledger takes in an answer.
    pub(crate) fn take_in(&mut self, homeserver: &Homeserver, heard: &Heard) {
        for (room, oldest) in &heard.given {
            let stays = homeserver.rooms[*room].stays(heard.user);
            let stay = stays.iter().rev().find(|(begin, _)| *begin <= heard.next);
            if let Some((begin, _)) = stay {
                let first = self.given.entry((*room, heard.user, *begin)).or_insert(*oldest);
                *first = (*first).min(*oldest);
            }
        }
        self.hidden.extend(heard.hidden.iter().map(|(room, index)| (*room, heard.user, *index)));
        self.taken_in.extend(&heard.told);
    }

    /// What was taken in is part of this version of the world.
    pub(crate) fn publish(&mut self, version: u64) {
        for event in self.taken_in.drain(..) {
            if let Entry::Vacant(entry) = self.told.entry(event) {
                entry.insert(version);
                self.fleeting.push(event);
            }
        }
    }

    /// The homeserver gives a user older events of a stay (room, user, its
    /// beginning) than before.
    pub(crate) fn give(&mut self, stay: (usize, usize, u64), oldest: usize) {
        let first = self.given.entry(stay).or_insert(oldest);
        *first = (*first).min(oldest);
    }

    /// What was published is durable.
    pub(crate) fn commit(&mut self) {
        self.fleeting.clear();
    }

    /// The process starts again: what was not durable is not known any more, and
    /// what was is part of the first world.
    pub(crate) fn start(&mut self) {
        self.taken_in.clear();
        for event in self.fleeting.drain(..) {
            self.told.remove(&event);
        }
        self.told.values_mut().for_each(|version| *version = 0);
    }

    /// Looks for what `user` may not see in an answer that was made from a
    /// version of the world.
    pub(crate) fn check(&self, homeserver: &Homeserver, user: usize, answer: &Value, version: u64) {
        for (room_id, entry) in answer["rooms"].as_object().into_iter().flatten() {
            let room = room_of(room_id);
            check_prev_batch(homeserver, user, room, entry);
            for (place, is_state) in [("timeline", false), ("required_state", true)] {
                let events = entry[place].as_array().into_iter().flatten();
                // Without content it says that an entry is gone.
                for event in events.filter(|event| event.get("content").is_some()) {
                    let id = event["event_id"].as_str().expect("an event id");
                    let own = event["type"] == MEMBER && event["state_key"] == *user_id(user);
                    assert!(
                        own || self.sees(homeserver, user, (room, event_of(id).1), is_state),
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
                let known =
                    steps.into_iter().flatten().rev().find(|step| {
                        step.is == Is::Join || self.knows((room, step.index), version)
                    });
                assert!(
                    known.is_some_and(|step| step.is == Is::Join),
                    "@u{user}:x is shown {extension} of {room_id}"
                );
            }
        }
    }

    /// Whether a version of the world has been told of a member event.
    fn knows(&self, event: (usize, usize), version: u64) -> bool {
        self.told.get(&event).is_some_and(|told| *told <= version)
    }

    fn sees(
        &self,
        homeserver: &Homeserver,
        user: usize,
        (room, index): (usize, usize),
        is_state: bool,
    ) -> bool {
        let of = &homeserver.rooms[room];
        let stream = of.events[index].stream;
        let is_shown = of.shows(user, index) || self.hidden.contains(&(room, user, index));
        of.stays(user).into_iter().any(|(begin, end)| {
            let Some(first) = self.given.get(&(room, user, begin)) else { return false };
            (is_state || (is_shown && *first <= index)) && end.is_none_or(|end| stream <= end)
        })
    }
}

/// A token to page back with leaves no hole before the first event: it stands
/// for a place there or later, or nothing between is the user's to see.
fn check_prev_batch(homeserver: &Homeserver, user: usize, room: usize, entry: &Value) {
    let first = entry["timeline"].as_array().and_then(|events| events.first());
    let (Some(token), Some(first)) = (entry["prev_batch"].as_str(), first) else { return };
    let (_, first) = event_of(first["event_id"].as_str().expect("an event id"));
    let (of, index) = token[1..].rsplit_once('-').expect("a token of the homeserver's");
    assert_eq!(of, homeserver.rooms[room].id, "a token of the room's");
    let index: usize = index.parse().expect("an index");
    let lacks = (index..first).find(|at| homeserver.rooms[room].shows(user, *at));
    assert_eq!(lacks, None, "{token} leaves a hole before {first}: {entry:#}");
}
