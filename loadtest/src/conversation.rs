//! Keeps a conversation going: people type, write, read, come, go and rename things.
//!
//! Decides what happens and does it to the model; when to do the next thing is the caller's business.

use serde_json::json;

use crate::model::{Homeserver, Membership, Milliseconds, populate_spoken};
use crate::random::Random;
use crate::words;

/// How lively the talk is.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Messages in a second, over all rooms. Default: 5.
    pub messages_per_second: f64,
    /// Of a hundred steps, how many are something other than a message. Default: 8.
    pub other_percent: u64,
    /// How long somebody types before a message, in milliseconds. Default: 1,200.
    pub typing_ms: u64,
    /// Of a hundred messages, how many are announced by typing. Default: 50.
    pub typing_percent: u64,
    /// What everything random is drawn from. Default: 7.
    pub seed: u64,
    /// Rooms that are talked in; all when empty. Default: empty.
    pub rooms: Vec<String>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            messages_per_second: 5.0,
            other_percent: 8,
            typing_ms: 1_200,
            typing_percent: 50,
            seed: 7,
            rooms: Vec::new(),
        }
    }
}

/// Something that was decided and is yet to happen.
#[derive(Debug)]
struct Pending {
    at: Milliseconds,
    room_id: String,
    sender: String,
}

/// A conversation that goes on for as long as it is driven.
#[derive(Debug)]
pub struct Conversation {
    pace: Pace,
    random: Random,
    /// Rooms with the liveliest first, so that a skewed draw talks mostly there.
    rooms: Vec<String>,
    pending: Vec<Pending>,
    next_at: Option<Milliseconds>,
    messages_count: u64,
}

impl Conversation {
    /// A conversation in the homeserver's rooms.
    pub fn new(homeserver: &Homeserver, pace: Pace) -> Self {
        let mut rooms: Vec<(u64, String)> = homeserver
            .rooms()
            .filter(|room| pace.rooms.is_empty() || pace.rooms.contains(&room.room_id))
            .filter(|room| !room.joined.is_empty() && room.state("m.room.tombstone", "").is_none())
            .map(|room| {
                let last = room.events.last().map_or(0, |event| event.origin_server_ts);
                (last, room.room_id.clone())
            })
            .collect();
        rooms.sort_unstable_by(|left, right| right.cmp(left));
        Self {
            random: Random::new(pace.seed),
            pace,
            rooms: rooms.into_iter().map(|(_, room_id)| room_id).collect(),
            pending: Vec::new(),
            next_at: None,
            messages_count: 0,
        }
    }

    /// How many messages were written.
    pub fn messages_count(&self) -> u64 {
        self.messages_count
    }

    /// Does everything that is due by `now`, and says when to come back.
    pub fn step(&mut self, homeserver: &mut Homeserver, now: Milliseconds) -> Milliseconds {
        let pause = (1_000.0 / self.pace.messages_per_second.max(0.001)) as u64;
        let mut next_at = self.next_at.unwrap_or(now);
        // After a long absence the talk does not rush to catch up.
        next_at = next_at.max(now.saturating_sub(10_000));
        while next_at <= now {
            self.begin(homeserver, now);
            next_at += self.random.between(pause / 2, pause + pause / 2).max(1);
        }
        self.next_at = Some(next_at);
        let due: Vec<Pending> = self.pending.extract_if(.., |pending| pending.at <= now).collect();
        for pending in due {
            self.write(homeserver, &pending.room_id, &pending.sender, now);
        }
        homeserver.tick(now);
        self.pending.iter().map(|pending| pending.at).fold(next_at, Milliseconds::min)
    }

    fn begin(&mut self, homeserver: &mut Homeserver, now: Milliseconds) {
        if self.rooms.is_empty() {
            return;
        }
        let skew = self.random.fraction().powi(3);
        let room_id = self.rooms[(skew * self.rooms.len() as f64) as usize].clone();
        if self.random.chance(self.pace.other_percent) {
            self.change_something(homeserver, &room_id, now);
            return;
        }
        let Some(sender) = self.somebody(homeserver, &room_id) else { return };
        if self.random.chance(self.pace.typing_percent) {
            let until = now + self.pace.typing_ms * 4;
            if homeserver.set_typing(&room_id, &sender, Some(until)).is_ok() {
                let at = now + self.pace.typing_ms;
                self.pending.push(Pending { at, room_id, sender });
            }
        } else {
            self.write(homeserver, &room_id, &sender, now);
        }
    }

    fn write(&mut self, homeserver: &mut Homeserver, room_id: &str, sender: &str, now: u64) {
        let Some(room) = homeserver.room(room_id).filter(|room| room.joined.contains(sender))
        else {
            return;
        };
        let encrypted = room.is_encrypted();
        let event = populate_spoken(&mut self.random, sender, encrypted);
        let event_id = homeserver.append(room_id, event, now);
        self.messages_count += 1;
        // Who has left meanwhile has stopped typing, and reads nothing: both may be refused.
        let _ = homeserver.set_typing(room_id, sender, None);
        let _ = homeserver.set_receipt(room_id, sender, (&event_id, false, None), now);
        if self.random.chance(60)
            && let Some(reader) = self.somebody(homeserver, room_id)
        {
            let _ = homeserver.set_receipt(room_id, &reader, (&event_id, false, None), now);
        }
    }

    /// An invitation, a coming, a going, or a new topic. What the room's rules forbid does not happen.
    fn change_something(&mut self, homeserver: &mut Homeserver, room_id: &str, now: Milliseconds) {
        let Some(member) = self.somebody(homeserver, room_id) else { return };
        let people: Vec<&str> = homeserver.user_ids().collect();
        let anybody = (*self.random.pick(&people)).to_owned();
        let present = homeserver.room(room_id).and_then(|room| room.membership(&anybody));
        match self.random.below(4) {
            0 => {
                let topic = json!({"topic": words::room_topic(&mut self.random)});
                let admin = homeserver
                    .room(room_id)
                    .and_then(|room| room.state("m.room.create", ""))
                    .map(|event| event.sender.to_string());
                let admin = admin.unwrap_or(member);
                let key = ("m.room.topic", "");
                let _ = homeserver.set_state(room_id, &admin, key, topic, now);
            }
            1 if present.is_none() => {
                let target = (anybody.as_str(), Membership::Invite);
                let _ = homeserver.set_membership(room_id, &member, target, None, now);
            }
            2 if present != Some(Membership::Join) => {
                let target = (anybody.as_str(), Membership::Join);
                let _ = homeserver.set_membership(room_id, &anybody, target, None, now);
            }
            _ => {
                let crowd = homeserver.room(room_id).map_or(0, |room| room.joined.len());
                if crowd > 8 {
                    let target = (member.as_str(), Membership::Leave);
                    let _ = homeserver.set_membership(room_id, &member, target, None, now);
                }
            }
        }
    }

    fn somebody(&mut self, homeserver: &Homeserver, room_id: &str) -> Option<String> {
        let joined = &homeserver.room(room_id)?.joined;
        let at = self.random.below(joined.len() as u64) as usize;
        joined.iter().nth(at).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Size;

    /// Goal: a minute of talk writes about as many messages as the pace says, and nobody is left typing.
    #[test]
    fn a_minute_of_talk_keeps_its_pace_and_leaves_nobody_typing() {
        let start = 1_700_000_000_000;
        let mut homeserver = Homeserver::new(&Size { rooms: 30, ..Size::default() }, start);
        let mut talk = Conversation::new(&homeserver, Pace::default());
        let mut now = start;
        while now < start + 60_000 {
            now = talk.step(&mut homeserver, now).max(now + 1);
        }
        assert!((200..=400).contains(&talk.messages_count()), "{}", talk.messages_count());
        homeserver.tick(now + 60_000);
        assert!(homeserver.rooms().all(|room| room.typing.is_empty()));
    }
}
