//! A homeserver with a few named people, and short ways to ask it things. No assertions of its own.

use luge_loadtest::api::{Answer, Reply, Request, encode};
use luge_loadtest::model::{Homeserver, NewRoom, Session};
use serde_json::Value;

pub(crate) const NOW: u64 = 1_700_000_000_000;
pub(crate) const LAZY: &str = r#"{"room":{"timeline":{"limit":5},"state":{"lazy_load_members":true,"include_redundant_members":true}}}"#;

/// A homeserver, and a session of each of the people.
pub(crate) fn people<const N: usize>(names: [&str; N]) -> (Homeserver, [Session; N]) {
    let mut homeserver = Homeserver::empty(3);
    let sessions = names.map(|name| {
        let user_id = homeserver.register(name, name, "password");
        homeserver.log_in(&user_id, None).unwrap()
    });
    homeserver.take_woken();
    (homeserver, sessions)
}

/// A public room of the first, which the others have joined.
pub(crate) fn shared_room(homeserver: &mut Homeserver, members: &[&Session]) -> String {
    let new = NewRoom { name: Some("Harbour".into()), public: true, ..NewRoom::default() };
    let room_id = homeserver.create_room(&members[0].user_id, &new, NOW);
    for member in &members[1..] {
        join(homeserver, &room_id, member);
    }
    room_id
}

pub(crate) fn join(homeserver: &mut Homeserver, room_id: &str, session: &Session) {
    let path = format!("/_matrix/client/v3/rooms/{}/join", encode(room_id));
    let reply = call(homeserver, session, "POST", &path, Some(&serde_json::json!({})));
    assert_eq!(reply.status, 200, "{}", reply.json());
}

/// A request that must not wait.
pub(crate) fn call(
    homeserver: &mut Homeserver,
    session: &Session,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> Reply {
    let request = Request::new(method, target, Some(&session.access_token), body);
    match homeserver.handle(&request, NOW) {
        Answer::Ready(reply) => reply,
        Answer::Wait(wait) => panic!("{target} waits: {wait:?}"),
    }
}

pub(crate) fn sync_target(since: Option<&str>, filter: &str, more: &str) -> String {
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    format!("/_matrix/client/v3/sync?filter={}{since}{more}", encode(filter))
}

/// A `/sync` without waiting, and the position to go on from.
pub(crate) fn sync_with(
    homeserver: &mut Homeserver,
    session: &Session,
    since: Option<&str>,
    filter: &str,
    more: &str,
) -> (Value, String) {
    let reply = call(homeserver, session, "GET", &sync_target(since, filter, more), None);
    assert_eq!(reply.status, 200, "{}", reply.json());
    let answer = reply.json();
    let next = answer["next_batch"].as_str().unwrap().to_owned();
    (answer, next)
}

pub(crate) fn sync(
    homeserver: &mut Homeserver,
    session: &Session,
    since: Option<&str>,
) -> (Value, String) {
    sync_with(homeserver, session, since, LAZY, "")
}

pub(crate) fn events(block: &Value) -> &[Value] {
    block["events"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The bodies or types of a block's events, in order.
pub(crate) fn summary(block: &Value) -> Vec<String> {
    events(block)
        .iter()
        .map(|event| {
            event["content"]["body"].as_str().or(event["type"].as_str()).unwrap().to_owned()
        })
        .collect()
}

/// The users whose member events are in a block.
pub(crate) fn members(block: &Value) -> Vec<String> {
    let mut members: Vec<String> = events(block)
        .iter()
        .filter(|event| event["type"] == "m.room.member")
        .map(|event| event["state_key"].as_str().unwrap().to_owned())
        .collect();
    members.sort();
    members
}
