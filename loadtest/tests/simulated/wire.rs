//! The simulated homeserver over HTTP, asked by plain sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use crate::common::{LAZY, NOW, call, people, sync_target};
use luge_loadtest::api::{Answer, Request, encode};
use luge_loadtest::conversation::Pace;
use luge_loadtest::faults::Fault;
use luge_loadtest::model::Size;
use luge_loadtest::server::Simulated;
use luge_loadtest::traffic::{Count, Kind};
use serde_json::{Value, json};

fn small() -> Simulated {
    Simulated::start(&Size { rooms: 20, users: 4, remote_users: 5, ..Size::default() }).unwrap()
}

/// Sends a request, and reads until the server closes: the head and the body as they came.
fn ask(
    url: &str,
    method: &str,
    target: &str,
    token: Option<&str>,
    body: &str,
) -> (String, Vec<u8>) {
    let address = url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{token}Content-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A connection that is cut may end in an error as well as in silence.
    let _ = socket.read_to_end(&mut answer);
    match answer.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(end) => {
            (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end + 4..].to_vec())
        }
        None => (String::new(), Vec::new()),
    }
}

fn json_of((head, body): &(String, Vec<u8>)) -> Value {
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    serde_json::from_slice(body).unwrap()
}

/// Goal: login, sync, a long poll that another user's message ends, and an act from another thread that does.
#[test]
fn messages_and_acts_end_a_long_poll() {
    let simulated = small();
    let url = simulated.url.clone();
    let versions = json_of(&ask(&url, "GET", "/_matrix/client/versions", None, ""));
    assert!(versions["versions"].is_array());
    let known = json_of(&ask(&url, "GET", "/.well-known/matrix/client", None, ""));
    assert_eq!(known["m.homeserver"]["base_url"], *url);
    let (ann, bob) = (simulated.users[0].clone(), simulated.users[1].clone());
    let login = json!({
        "type": "m.login.password", "identifier": {"type": "m.id.user", "user": ann.user_id},
        "password": "password",
    });
    let login = ask(&url, "POST", "/_matrix/client/v3/login", None, &login.to_string());
    let token = json_of(&login)["access_token"].as_str().unwrap().to_owned();
    let body = json!({"name": "Wire", "invite": [bob.user_id]}).to_string();
    let created = ask(&url, "POST", "/_matrix/client/v3/createRoom", Some(&token), &body);
    let room = encode(json_of(&created)["room_id"].as_str().unwrap());
    let join = format!("/_matrix/client/v3/rooms/{room}/join");
    json_of(&ask(&url, "POST", &join, Some(&bob.access_token), "{}"));

    let initial =
        json_of(&ask(&url, "GET", "/_matrix/client/v3/sync", Some(&bob.access_token), ""));
    let mut since = initial["next_batch"].as_str().unwrap().to_owned();
    for text in ["over HTTP", "by an act"] {
        let target = format!("/_matrix/client/v3/sync?timeout=60000&since={since}");
        let (poll_url, poll_token) = (url.clone(), bob.access_token.clone());
        let poll = thread::spawn(move || ask(&poll_url, "GET", &target, Some(&poll_token), ""));
        if text == "over HTTP" {
            let send = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t1");
            let body = json!({"msgtype": "m.text", "body": text}).to_string();
            json_of(&ask(&url, "PUT", &send, Some(&token), &body));
        } else {
            let (room, sender) = (room.clone(), ann.user_id.clone());
            let said = simulated.act(move |homeserver, now| {
                let room_id = homeserver
                    .rooms()
                    .map(|room| room.room_id.clone())
                    .find(|room_id| encode(room_id) == room)
                    .unwrap();
                homeserver.say(&room_id, &sender, text, now).is_ok()
            });
            assert_eq!(said, Ok(true));
        }
        let answer = json_of(&poll.join().unwrap());
        assert!(answer.to_string().contains(text), "{answer}");
        since = answer["next_batch"].as_str().unwrap().to_owned();
    }
    simulated.stop();
}

/// Goal: faults of delivery reach the socket: a body cut short, none at all, a late one, a `Retry-After`.
#[test]
fn faults_of_delivery_reach_the_socket() {
    let simulated = small();
    let (url, user) = (simulated.url.clone(), simulated.users[0].clone());
    let sync = || ask(&url, "GET", "/_matrix/client/v3/sync", Some(&user.access_token), "");
    let whole = sync().1.len();
    let faults = [
        Fault::Truncated,
        Fault::Dropped,
        Fault::Slow(5),
        Fault::RateLimited { retry_after_seconds: 3 },
    ];
    let user_id = user.user_id.clone();
    simulated
        .act(move |homeserver, _| {
            for fault in &faults {
                homeserver.inject(&user_id, fault, 1);
            }
        })
        .unwrap();
    assert!(sync().1.len() < whole);
    // Some of the chunked body's framing may still arrive.
    let dropped = sync().1;
    assert!(serde_json::from_slice::<Value>(&dropped).is_err(), "{dropped:?}");
    assert!(json_of(&sync())["next_batch"].is_string());
    let (head, _) = sync();
    assert!(head.starts_with("HTTP/1.1 429") && head.contains("retry-after: 3"), "{head}");
}

/// Goal: a conversation goes on by itself until it is hushed, and a stopped homeserver says so.
#[test]
fn conversation_goes_on_until_hushed() {
    let simulated = small();
    let handle = simulated.handle();
    let events = |homeserver: &luge_loadtest::model::Homeserver| -> usize {
        homeserver.rooms().map(|room| room.events.len()).sum()
    };
    let before = handle.act(move |homeserver, _| events(homeserver)).unwrap();
    handle.talk(Pace { messages_per_second: 200.0, ..Pace::default() }).unwrap();
    while handle.act(move |homeserver, _| events(homeserver)).unwrap() < before + 20 {
        thread::yield_now();
    }
    handle.hush().unwrap();
    simulated.stop();
    assert!(handle.act(|_, _| ()).is_err());
}

/// Goal: the cost of each device can be told apart, a long poll counts once, and
/// an answer that was made beforehand is given once.
#[test]
fn traffic_is_counted_by_device_and_kind() {
    let (mut homeserver, [alice]) = people(["alice"]);
    let other = homeserver.log_in(&alice.user_id, Some("OTHER")).unwrap();
    homeserver.prepare_first_answer(&alice.user_id, b"{\"next_batch\":\"made\"}".to_vec());
    let first = call(&mut homeserver, &alice, "GET", &sync_target(None, LAZY, ""), None);
    assert_eq!(first.json()["next_batch"], "made");
    let second = call(&mut homeserver, &other, "GET", &sync_target(None, LAZY, ""), None);
    let next = second.json()["next_batch"].as_str().unwrap().to_owned();
    assert_ne!(next, "made");

    let target = sync_target(Some(&next), LAZY, "&timeout=1000");
    let mut poll = Request::get(&target, Some(&other.access_token));
    let Answer::Wait(wait) = homeserver.handle(&poll, NOW) else { panic!("nothing is new") };
    poll.waiting_until = Some(wait.until);
    let Answer::Ready(reply) = homeserver.handle(&poll, wait.until) else {
        panic!("its time is over")
    };

    let traffic = homeserver.traffic();
    let first = traffic.of(&alice.device_id, Kind::FirstSync);
    assert_eq!((first.asked, first.answered, first.bytes_out), (1, 1, 21));
    let polled = traffic.of("OTHER", Kind::Sync);
    assert_eq!((polled.asked, polled.answered), (1, 1));
    assert_eq!(polled.bytes_out, reply.body.len() as u64);
    assert_eq!(polled.bytes_in, target.len() as u64 - 1);
    assert_eq!(traffic.of_all("OTHER").asked, 2);
    traffic.clear();
    assert_eq!(traffic.of_all("OTHER"), Count::default());
}
