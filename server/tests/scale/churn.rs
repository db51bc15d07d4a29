//! What happens to rooms beside talk: people come, go, are asked in and put out; rooms are renamed,
//! made and flooded; messages are taken back.

use std::{rc::Rc, time::Duration};

use luge_io::time::sleep;
use luge_loadtest::{
    model::{Homeserver, Membership, NewEvent, NewRoom},
    random::Random,
    server::Handle,
};
use serde_json::json;

use super::Stage;

/// Between two acts.
const PAUSE: Duration = Duration::from_millis(60);
/// More events than one answer holds.
const FLOOD: usize = 60;

/// Does something to a room every now and then until it is to be quiet; says how often.
pub(crate) async fn go_on(handle: Handle, stage: Rc<Stage>) -> u64 {
    let mut count = 0;
    while !stage.quiet.get() {
        let seed = 0xc0_ffee + count;
        let done =
            handle.begin(move |homeserver, now| act(homeserver, &mut Random::new(seed), now));
        done.unwrap().await.unwrap();
        count += 1;
        sleep(PAUSE).await;
    }
    count
}

/// What the rooms' rules forbid does not happen.
fn act(homeserver: &mut Homeserver, random: &mut Random, now: u64) {
    let rooms: Vec<String> = homeserver.rooms().map(|room| room.room_id.clone()).collect();
    let room_id = random.pick(&rooms).clone();
    let users: Vec<String> = homeserver.user_ids().map(str::to_owned).collect();
    let anybody = random.pick(&users).clone();
    let Some(room) = homeserver.room(&room_id).filter(|room| !room.joined.is_empty()) else {
        return;
    };
    let joined: Vec<String> = room.joined.iter().cloned().collect();
    let member = random.pick(&joined).clone();
    let creator = room.events.first().map(|event| event.sender.to_string()).unwrap_or_default();
    let mut recent = room.events.iter().rev().filter(|event| event.state_key.is_none());
    let message = recent.nth(8).map(|event| event.event_id.to_string());
    let mut give = |sender: &str, target: &str, membership| {
        let _ = homeserver.set_membership(&room_id, sender, (target, membership), None, now);
    };
    match random.below(12) {
        0 | 1 => give(&anybody, &anybody, Membership::Join),
        2 => give(&member, &member, Membership::Leave),
        3 => give(&creator, &member, Membership::Leave),
        4 => give(&creator, &member, Membership::Ban),
        5 => give(&creator, &anybody, Membership::Invite),
        6 => {
            give(&member, &member, Membership::Leave);
            give(&member, &member, Membership::Join);
        }
        7 => {
            give(&creator, &anybody, Membership::Invite);
            give(&anybody, &anybody, Membership::Join);
        }
        8 => {
            let name = json!({"name": format!("Renamed {}", random.below(1_000))});
            let _ = homeserver.set_state(&room_id, &creator, ("m.room.name", ""), name, now);
        }
        9 => {
            let redacts = message;
            let new = NewEvent::message(&creator, "m.room.redaction", json!({"redacts": redacts}));
            let _ = homeserver.send(&room_id, NewEvent { redacts, ..new }, now);
        }
        10 if joined.len() < 60 => {
            for line in 0..FLOOD {
                let _ = homeserver.say(&room_id, &member, &format!("line {line}"), now);
            }
        }
        _ => {
            let invite = (0..4).map(|_| random.pick(&users).clone()).collect();
            let new =
                NewRoom { name: Some("New".into()), public: true, invite, ..NewRoom::default() };
            homeserver.create_room(&anybody, &new, now);
        }
    }
}
