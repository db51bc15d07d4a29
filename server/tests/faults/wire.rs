//! What a client of any dialect meets before its request is understood: sizes, methods, headers,
//! tokens.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use luge_io::driver::Choice;
use luge_loadtest::model::{NewEvent, Session};
use serde_json::{Value, json};

use crate::{
    harness::{device::Answer, setup::Setup},
    town::{STRANGER, Town, impatient, on_each_driver},
};

/// The paths that are sliding sync's, and the least body that each takes.
const PATHS: [&str; 4] = [
    "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
    "/_matrix/client/v4/sync",
    "/_matrix/client/unstable/org.matrix.msc3575/sync",
    "/_matrix/client/v3/sync",
];

fn is_error(answer: &Answer, status: u16, errcode: &str) {
    assert_eq!((answer.status, &*answer.errcode()), (status, errcode), "{}", answer.text());
    let has = |name: &str, value: &str| answer.headers.get(name).is_some_and(|it| it == value);
    assert!(has("content-type", "application/json"), "{:?}", answer.headers);
    assert!(has("access-control-allow-origin", "*"), "{:?}", answer.headers);
}

/// An object of this many bytes that no dialect has a word for.
fn padded(bytes: usize) -> String {
    let empty = r#"{"x":""}"#;
    format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes - empty.len()))
}

/// Goal: a body of more than the limit is 413 with its code on each path, one of just the limit is
/// taken; the limit is configured.
#[test]
fn bodies_that_are_too_large_are_refused_on_every_path() {
    on_each_driver(|driver| async move {
        let default = Town::start(driver, |_| {});
        let ann = default.setup.device(&default.ann);
        for path in PATHS {
            let taken = ann.send("POST", path, padded(1 << 20)).await;
            assert_eq!(taken.status, 200, "{path}: {}", taken.text());
            is_error(&ann.send("POST", path, padded((1 << 20) + 1)).await, 413, "M_TOO_LARGE");
        }
        default.setup.end().await;
        let small = Town::start(driver, |config| config.limits.body_bytes_max = 1_000);
        let ann = small.setup.device(&small.ann);
        assert_eq!(ann.send("POST", PATHS[0], padded(1_000)).await.status, 200);
        is_error(&ann.send("POST", PATHS[0], padded(1_001)).await, 413, "M_TOO_LARGE");
        small.setup.end().await;
    });
}

/// Goal: browsers may ask each path; other methods are refused as such where sliding sync is all
/// that is served there; without front mode nothing else is known.
#[test]
fn methods_and_paths_are_told_apart() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |config| config.front = false);
        let mut ann = town.setup.device(&town.ann);
        for path in PATHS {
            let answer = ann.send("OPTIONS", path, String::new()).await;
            assert_eq!((answer.status, answer.text().len()), (204, 0), "{path}");
            assert_eq!(answer.headers["access-control-allow-origin"], "*");
            let methods = answer.headers["access-control-allow-methods"].to_str().unwrap();
            let headers = answer.headers["access-control-allow-headers"].to_str().unwrap();
            assert!(methods.contains("POST"), "{methods}");
            for needed in ["Authorization", "Content-Type", "X-Requested-With"] {
                assert!(headers.contains(needed), "{headers}");
            }
        }
        for method in ["GET", "PUT", "DELETE"] {
            for path in &PATHS[..3] {
                is_error(&ann.send(method, path, String::new()).await, 405, "M_UNRECOGNIZED");
            }
            is_error(&ann.send(method, PATHS[3], String::new()).await, 404, "M_UNRECOGNIZED");
        }
        is_error(
            &ann.send("GET", "/_matrix/client/versions", String::new()).await,
            404,
            "M_UNRECOGNIZED",
        );
        // The old place of the token is known too.
        let path = format!("{}?access_token={}", PATHS[0], ann.token);
        ann.token.clear();
        assert_eq!(ann.send("POST", &path, "{}".to_owned()).await.status, 200);
        for path in PATHS {
            is_error(&ann.send("POST", path, "{}".to_owned()).await, 401, "M_MISSING_TOKEN");
        }
        town.setup.end().await;
    });
}

/// Goal: a response's position pages a room from where the response ends, without a hole, though
/// the homeserver knows nothing of it.
#[test]
fn positions_page_through_a_room() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let ann = town.setup.device(&town.ann);
        let list = r#"{"lists":{"a":{"ranges":[[0,9]],"timeline_limit":1,"required_state":[]}}}"#;
        let pos = ann.ask(None, 0, list.to_owned()).await.unwrap().response().pos;
        let roomless = r#"{"conn_id":"e","extensions":{"e2ee":{"enabled":true}}}"#;
        let other = ann.ask(None, 0, roomless.to_owned()).await.unwrap().response().pos;
        let room = town.shared.clone();
        let last = town.setup.act(move |homeserver, now| {
            let newest = NewEvent::message(STRANGER, "m.room.message", json!({"body": "newest"}));
            homeserver.append(&room, newest, now)
        });
        let path = format!("/_matrix/client/v3/rooms/{}/messages?limit=3&dir=b", town.shared);
        let foreign = ann.send("GET", &format!("{path}&from=25/s9"), String::new()).await;
        assert_ne!(foreign.status, 200, "the homeserver knows its own tokens: {}", foreign.text());
        for query in
            [format!("&from={pos}"), format!("&to={pos}"), format!("&from={other}&to={pos}")]
        {
            let answer = ann.send("GET", &format!("{path}{query}"), String::new()).await;
            assert_eq!(answer.status, 200, "{query}: {}", answer.text());
            let page: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(page["chunk"][0]["event_id"], last.as_str(), "{query}: {page}");
        }
        town.setup.end().await;
    });
}

/// A homeserver that knows one answer, and counts how often it is asked.
fn answering(status: u16, body: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4_096]);
            counted.fetch_add(1, Ordering::SeqCst);
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}");
            let _ = write!(stream, "{head}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    (url, count)
}

fn bridge() -> Session {
    Session {
        user_id: "@bridge:x".to_owned(),
        device_id: String::new(),
        access_token: "token".to_owned(),
    }
}

/// What a client is told whose token the homeserver says this of.
async fn told(driver: Choice, status: u16, body: &'static str) -> Answer {
    let (url, _) = answering(status, body);
    let setup = Setup::before(&url, |config| impatient(config, driver));
    let answer = setup.device(&bridge()).send("POST", PATHS[0], "{}".to_owned()).await;
    setup.end().await;
    answer
}

/// Goal: a token of no device, such as an application service's, is told so: there is nothing that
/// its messages and positions could belong to.
#[test]
fn token_without_a_device_is_refused_with_the_reason() {
    on_each_driver(|driver| async move {
        let answer = told(driver, 200, r#"{"user_id":"@bridge:x","is_guest":false}"#).await;
        is_error(&answer, 403, "M_FORBIDDEN");
        assert!(answer.text().contains("belongs to no device"), "{}", answer.text());
    });
}

/// Goal: what the homeserver says of a token reaches the client as it was said; where it says
/// nothing that a client could use, the client is told who failed.
#[test]
fn refusals_of_a_token_are_passed_on() {
    let soft = r#"{"errcode":"M_UNKNOWN_TOKEN","error":"Expired","soft_logout":true}"#;
    let locked = r#"{"errcode":"M_USER_LOCKED","error":"Locked","soft_logout":true}"#;
    let consent = r#"{"errcode":"M_CONSENT_NOT_GIVEN","error":"Agree","consent_uri":"https://x"}"#;
    let busy = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Slower","retry_after_ms":2000}"#;
    on_each_driver(|driver| async move {
        for (status, body, code) in [
            (401, soft, "M_UNKNOWN_TOKEN"),
            (401, locked, "M_USER_LOCKED"),
            (403, consent, "M_CONSENT_NOT_GIVEN"),
            (429, busy, "M_LIMIT_EXCEEDED"),
        ] {
            let answer = told(driver, status, body).await;
            is_error(&answer, status, code);
            assert_eq!(answer.text(), body);
            assert_eq!(answer.headers.contains_key("retry-after"), status == 429);
        }
        for (status, body) in [(500, "{}"), (200, "<html>"), (200, r#"{"user_id":5}"#)] {
            is_error(&told(driver, status, body).await, 502, "M_UNKNOWN");
        }
    });
}

/// Goal: a token that the homeserver refused a moment ago is refused without asking it again.
#[test]
fn refused_token_is_not_asked_about_again_at_once() {
    on_each_driver(|driver| async move {
        let (url, count) = answering(401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"No"}"#);
        let setup = Setup::before(&url, |config| {
            impatient(config, driver);
            config.shards = Some(1);
        });
        for _ in 0..5 {
            let answer = setup.device(&bridge()).send("POST", PATHS[0], "{}".to_owned()).await;
            is_error(&answer, 401, "M_UNKNOWN_TOKEN");
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        setup.end().await;
    });
}
