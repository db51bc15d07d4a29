//! Simulated homeservers for the runs: who is where, and answers made
//! beforehand.

use std::net::SocketAddr;

use luge_io::time::clock;
use luge_loadtest::{
    api::{Answer, Request},
    model::{Homeserver, Membership, NewRoom, Session, Size},
    server::Simulated,
};

use crate::Failure;

/// Serves a homeserver on a free port of this machine.
pub(crate) fn serve(homeserver: Homeserver) -> Result<Simulated, Failure> {
    Ok(Simulated::serve(homeserver, SocketAddr::from(([127, 0, 0, 1], 0)))?)
}

/// Of a hundred rooms, how many are direct chats where nothing else is asked for.
pub(crate) const DIRECT_PERCENT: u8 = 30;

/// One user in so many rooms, as people have them; of a hundred so many direct
/// chats.
pub(crate) fn account(rooms: u32, direct_percent: u8) -> Homeserver {
    let size = Size {
        rooms: rooms as usize,
        users: 1,
        remote_users: 200,
        members_max: 60,
        messages_max: 60,
        invites_per_user: 0,
        direct_percent: direct_percent.into(),
        ..Size::default()
    };
    Homeserver::new(&size, clock::now_ms())
}

/// Adds users, a device each, in rooms of so many of them.
pub(crate) fn add_circles(
    homeserver: &mut Homeserver,
    name: &str,
    users: u32,
    circle: usize,
) -> Vec<Session> {
    let now = clock::now_ms();
    let sessions: Vec<Session> = (0..users)
        .filter_map(|user| {
            let name = format!("{name}{user:05}");
            let user_id = homeserver.register(&name, &name, "password");
            homeserver.log_in(&user_id, None)
        })
        .collect();
    for members in sessions.chunks(circle) {
        let new = NewRoom { name: Some("Circle".into()), public: true, ..NewRoom::default() };
        let room_id = homeserver.create_room(&members[0].user_id, &new, now);
        for member in &members[1..] {
            join(homeserver, &room_id, &member.user_id);
        }
    }
    homeserver.take_woken();
    sessions
}

/// Lets a user into a public room.
pub(crate) fn join(homeserver: &mut Homeserver, room_id: &str, user_id: &str) {
    let join = (user_id, Membership::Join);
    homeserver
        .set_membership(room_id, user_id, join, None, clock::now_ms())
        .expect("a public room lets everybody in");
}

/// The homeserver's first answer to Luge for a user, made now.
pub(crate) fn first_answer(homeserver: &mut Homeserver, user_id: &str) -> Vec<u8> {
    let Some(session) = homeserver.log_in(user_id, Some("WEIGHED")) else { return Vec::new() };
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A20%7D%2C%22state%22%3A%7B%22lazy_load_members%22%3Atrue%7D%7D%7D";
    let target = format!("/_matrix/client/v3/sync?use_state_after=true&filter={filter}");
    let token = Some(&*session.access_token);
    let now = clock::now_ms();
    let body = match homeserver.handle(&Request::get(&target, token), now) {
        Answer::Ready(reply) => reply.body,
        Answer::Wait(_) => Vec::new(),
    };
    homeserver.handle(&Request::new("POST", "/_matrix/client/v3/logout", token, None), now);
    homeserver.traffic().clear();
    body
}

/// How often a text is in a body.
pub(crate) fn occurrences(body: &[u8], text: &str) -> usize {
    body.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
}
