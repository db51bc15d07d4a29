//! A client of `/sync` version 2 follows every user of a busy homeserver, and must end up with the truth.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{LAZY, NOW, call, events, people, shared_room, summary, sync, sync_target};
use luge_loadtest::api::encode;
use luge_loadtest::conversation::{Conversation, Pace};
use luge_loadtest::faults::Fault;
use luge_loadtest::model::{Homeserver, Membership, Session, Size};
use serde_json::Value;

/// What a client knows of a room.
#[derive(Default)]
struct Known {
    membership: Option<Membership>,
    seen: BTreeSet<String>,
    timeline: Vec<String>,
    state: BTreeMap<(String, String), String>,
}

#[derive(Default)]
struct Follower {
    since: Option<String>,
    rooms: BTreeMap<String, Known>,
    gaps: usize,
    /// Whether to be content with the newest events.
    without_paging: bool,
}

impl Follower {
    fn poll(&mut self, homeserver: &mut Homeserver, session: &Session, more: &str) {
        let target = sync_target(self.since.as_deref(), LAZY, more);
        let reply = call(homeserver, session, "GET", &target, None);
        let answer = reply.json();
        let Some(next) = answer["next_batch"].as_str().filter(|next| !next.is_empty()) else {
            return;
        };
        if reply.status != 200 || reply.delivery != luge_loadtest::faults::Delivery::Whole {
            return;
        }
        self.since = Some(next.to_owned());
        for (section, membership) in [
            ("join", Membership::Join),
            ("invite", Membership::Invite),
            ("knock", Membership::Knock),
            ("leave", Membership::Leave),
        ] {
            for (room_id, entry) in answer["rooms"][section].as_object().into_iter().flatten() {
                self.take(homeserver, session, room_id, (membership, entry));
            }
        }
    }

    fn take(
        &mut self,
        homeserver: &mut Homeserver,
        session: &Session,
        room_id: &str,
        (membership, entry): (Membership, &Value),
    ) {
        let known = self.rooms.entry(room_id.to_owned()).or_default();
        if known.membership.replace(membership) != Some(membership) {
            // What changed while away comes with the next stay, save members, which come lazily: forget those.
            known.state.clear();
        }
        let id = |event: &Value| event["event_id"].as_str().unwrap_or_default().to_owned();
        let timeline = &entry["timeline"];
        let mut new: Vec<String> = events(timeline).iter().map(id).collect();
        if timeline["limited"] == true && !self.without_paging {
            self.gaps += 1;
            let mut from = timeline["prev_batch"].as_str().unwrap().to_owned();
            'pages: loop {
                let path = format!("/_matrix/client/v3/rooms/{}/messages", encode(room_id));
                let target = format!("{path}?dir=b&limit=20&from={from}");
                let page = call(homeserver, session, "GET", &target, None).json();
                for event in page["chunk"].as_array().unwrap() {
                    if known.seen.contains(&id(event)) {
                        break 'pages;
                    }
                    new.insert(0, id(event));
                }
                match page["end"].as_str() {
                    Some(end) => end.clone_into(&mut from),
                    None => break,
                }
            }
        }
        for event_id in new {
            if known.seen.insert(event_id.clone()) {
                known.timeline.push(event_id);
            }
        }
        let after = &entry["org.matrix.msc4222.state_after"];
        let blocks = if after.is_object() { vec![after] } else { vec![&entry["state"], timeline] };
        for event in blocks.into_iter().flat_map(events) {
            if let (Some(kind), Some(key)) = (event["type"].as_str(), event["state_key"].as_str()) {
                known.state.insert((kind.to_owned(), key.to_owned()), id(event));
            }
        }
    }

    fn compare(&self, homeserver: &Homeserver, user_id: &str) {
        let truth = homeserver.truth(user_id);
        for (room_id, truth) in &truth.rooms {
            let Some(known) = self.rooms.get(room_id) else {
                assert!(
                    !matches!(truth.membership, Membership::Join | Membership::Invite),
                    "{room_id}"
                );
                continue;
            };
            let left = matches!(truth.membership, Membership::Leave | Membership::Ban);
            let expected = if left { Membership::Leave } else { truth.membership };
            assert_eq!(known.membership, Some(expected), "{user_id} in {room_id}");
            if truth.membership != Membership::Join {
                continue;
            }
            let full = truth.timeline.len();
            let count = if self.without_paging { known.timeline.len().min(full) } else { full };
            let since_join = &known.timeline[known.timeline.len() - count..];
            assert_eq!(since_join, &truth.timeline[full - count..], "{user_id} in {room_id}");
            for (key, event_id) in &truth.state {
                let is_member = key.0 == "m.room.member";
                match known.state.get(key) {
                    Some(known) => assert_eq!(known, event_id, "{key:?} in {room_id}"),
                    None => assert!(is_member, "{key:?} in {room_id} is unknown to {user_id}"),
                }
            }
        }
    }
}

fn follow(size: &Size, more: &str, faults: &[Fault]) -> usize {
    let mut homeserver = Homeserver::new(size, NOW);
    let pace = Pace { messages_per_second: 40.0, other_percent: 25, ..Pace::default() };
    let mut talk = Conversation::new(&homeserver, pace);
    let sessions = homeserver.sessions();
    let mut followers: Vec<Follower> = sessions.iter().map(|_| Follower::default()).collect();
    let mut now = NOW;
    for round in 0..12 {
        for (number, session) in sessions.iter().enumerate() {
            // Some poll rarely, so that they meet gaps.
            if round % (1 + number % 4) == 0 {
                if !faults.is_empty() && round % 2 == 1 {
                    let fault = &faults[(number + round) % faults.len()];
                    homeserver.inject(&session.user_id, fault, 1);
                }
                followers[number].poll(&mut homeserver, session, more);
            }
            let until = now + 150;
            while now < until {
                now = talk.step(&mut homeserver, now).max(now + 1);
            }
        }
    }
    homeserver.faults.clear();
    let mut gaps = 0;
    for (session, follower) in sessions.iter().zip(&mut followers) {
        follower.poll(&mut homeserver, session, more);
        follower.compare(&homeserver, &session.user_id);
        gaps += follower.gaps;
    }
    gaps
}

/// Goal: with plain `state`, every user ends up with each room's events in order and with its state.
#[test]
fn followers_with_state_end_up_with_the_truth() {
    let size = Size { rooms: 120, users: 30, ..Size::default() };
    assert!(follow(&size, "", &[]) > 100, "the run should have gaps");
}

/// Goal: the same with `state_after`.
#[test]
fn followers_with_state_after_end_up_with_the_truth() {
    let size = Size { rooms: 120, users: 30, seed: 2, ..Size::default() };
    follow(&size, "&use_state_after=true", &[]);
}

/// Goal: the same while answers fail or come damaged in ways that lose nothing.
#[test]
fn followers_that_meet_faults_end_up_with_the_truth() {
    let size = Size { rooms: 60, users: 20, seed: 3, ..Size::default() };
    let faults = [
        Fault::Status(502),
        Fault::RateLimited { retry_after_seconds: 1 },
        Fault::NotJson,
        Fault::NullBody,
        Fault::Dropped,
        Fault::Truncated,
        Fault::EmptyNextBatch,
        Fault::NoNextBatch,
        Fault::NullSections,
        Fault::Duplicated,
    ];
    follow(&size, "&use_state_after=true", &faults);
}

/// Goal: the same seed gives the same homeserver, of the size asked for, with rooms of every kind.
#[test]
fn the_same_seed_gives_the_same_homeserver() {
    let size = Size { rooms: 400, users: 60, ..Size::default() };
    let (mut one, mut two) = (Homeserver::new(&size, NOW), Homeserver::new(&size, NOW));
    assert_eq!((one.rooms().count(), one.user_ids().count()), (400, 60));
    let sessions = one.sessions();
    assert_eq!(sessions, two.sessions());
    let mut sections = BTreeSet::new();
    for session in &sessions {
        let (answer, _) = sync(&mut one, session, None);
        assert_eq!(answer, sync(&mut two, session, None).0);
        sections.extend(answer["rooms"].as_object().unwrap().keys().cloned());
    }
    assert_eq!(sections.into_iter().collect::<Vec<_>>(), ["invite", "join", "knock", "leave"]);
    let has = |kind: &str| one.rooms().filter(|room| room.history.contains_key(kind)).count();
    for kind in ["m.room.tombstone", "m.space.child", "m.room.encryption", "m.room.avatar"] {
        assert!(has(kind) > 0, "{kind}");
    }
    let large = one.rooms().filter(|room| room.joined.len() > 40).count();
    assert!((1..80).contains(&large), "{large} large rooms");
}

/// Goal: each fault damages an answer as it says, once, and strikes only its user.
#[test]
fn faults_strike_the_named_user_as_often_as_asked() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room = shared_room(&mut homeserver, &[&ann, &bob]);
    let malformed = Fault::Malformed { room_id: room.clone() };
    homeserver.inject(&ann.user_id, &malformed, 1);
    homeserver.inject(&ann.user_id, &Fault::RoomWithoutCreate, 1);
    homeserver.inject(&ann.user_id, &Fault::OutOfOrder, 1);
    homeserver.inject(&ann.user_id, &Fault::Status(500), 2);
    let (sound, _) = sync(&mut homeserver, &bob, None);
    let (answer, _) = sync(&mut homeserver, &ann, None);
    let timeline = events(&answer["rooms"]["join"][&room]["timeline"]);
    assert!(timeline.iter().any(Value::is_null) && timeline.iter().any(Value::is_number));
    let (answer, _) = sync(&mut homeserver, &ann, None);
    let strange = &answer["rooms"]["join"]["!without-create:simulated.test"];
    assert_eq!(events(&strange["timeline"]).len(), 2);
    let (answer, _) = sync(&mut homeserver, &ann, None);
    let mut reversed = summary(&answer["rooms"]["join"][&room]["timeline"]);
    reversed.reverse();
    assert_eq!(reversed, summary(&sound["rooms"]["join"][&room]["timeline"]));
    let target = sync_target(None, LAZY, "");
    let statuses: Vec<u16> =
        (0..3).map(|_| call(&mut homeserver, &ann, "GET", &target, None).status).collect();
    assert_eq!(statuses, [500, 500, 200]);
    assert_eq!(homeserver.faults.struck_count(), 5);
}

/// Goal: a homeserver of two thousand rooms and three hundred users answers everybody's initial sync truthfully.
#[test]
fn two_thousand_rooms_are_told_truthfully_to_three_hundred_users() {
    let size = Size { rooms: 2_000, users: 300, remote_users: 400, ..Size::default() };
    let mut homeserver = Homeserver::new(&size, NOW);
    let sessions = homeserver.sessions();
    assert_eq!(sessions.len(), 300);
    for session in sessions {
        let mut follower = Follower { without_paging: true, ..Follower::default() };
        follower.poll(&mut homeserver, &session, "&use_state_after=true");
        follower.compare(&homeserver, &session.user_id);
    }
}
