//! State that changes without an event: `/sync` has nothing of it, and what is asked for apart has.

use luge_loadtest::api::encode;
use luge_loadtest::model::{Homeserver, Session};
use serde_json::{Value, json};

use crate::common::{NOW, call, people, shared_room, sync};

fn get(homeserver: &mut Homeserver, session: &Session, target: &str) -> Value {
    let reply = call(homeserver, session, "GET", target, None);
    assert_eq!(reply.status, 200, "{}", reply.json());
    reply.json()
}

/// The event that sets the room's name, as `/state` has it.
fn name(homeserver: &mut Homeserver, session: &Session, room_id: &str) -> Option<String> {
    let target = format!("/_matrix/client/v3/rooms/{}/state", encode(room_id));
    let state = get(homeserver, session, &target);
    let state = state.as_array().unwrap();
    let named = state.iter().find(|event| event["type"] == "m.room.name")?;
    named["content"]["name"].as_str().map(str::to_owned)
}

#[test]
fn state_that_is_reset_is_in_no_sync() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room_id = shared_room(&mut homeserver, &[&ann, &bob]);
    let content = json!({"name": "Quay"});
    homeserver.set_state(&room_id, &ann.user_id, ("m.room.name", ""), content, NOW).unwrap();
    let (_, since) = sync(&mut homeserver, &bob, None);
    assert_eq!(name(&mut homeserver, &bob, &room_id).as_deref(), Some("Quay"));
    assert!(homeserver.take_state_back(&room_id, "m.room.name", ""));
    assert_eq!(name(&mut homeserver, &bob, &room_id).as_deref(), Some("Harbour"));
    assert!(!homeserver.take_state_back(&room_id, "m.room.name", ""), "there is none before");
    assert!(homeserver.take_state_away(&room_id, "m.room.name", ""));
    assert_eq!(name(&mut homeserver, &bob, &room_id), None);
    assert!(!homeserver.take_state_away(&room_id, "m.room.name", ""));
    let (answer, _) = sync(&mut homeserver, &bob, Some(&since));
    assert_eq!(answer["rooms"].get("join"), None, "{answer}");
}

#[test]
fn user_who_is_reset_out_of_a_room_is_not_told() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room_id = shared_room(&mut homeserver, &[&ann, &bob]);
    let (_, since) = sync(&mut homeserver, &bob, None);
    assert!(homeserver.take_state_away(&room_id, "m.room.member", &bob.user_id));
    homeserver.say(&room_id, &ann.user_id, "later", NOW).unwrap();
    let (answer, _) = sync(&mut homeserver, &bob, Some(&since));
    assert_eq!(answer.get("rooms"), None, "{answer}");
    let joined = get(&mut homeserver, &bob, "/_matrix/client/v3/joined_rooms");
    assert_eq!(joined, json!({"joined_rooms": []}));
}
