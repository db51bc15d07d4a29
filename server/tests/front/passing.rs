//! What passes: requests, answers, bodies and connections, as they were.

use std::cell::RefCell;

use http::{Request, Response, StatusCode, header};
use luge_io::{
    http::{Body, Incoming, Upgraded},
    task,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::setup::{
    BYTES_MAX, Running, Setup, client, front_before, json, noise, on_each_driver, raw,
};

const LARGE: usize = 3 << 20;

#[test]
fn path_and_query_reach_the_homeserver_as_they_were_written() {
    on_each_driver(|| async {
        let setup = Setup::start(|_| json(200, "{}"));
        for path in [
            "/_matrix/client/v3/rooms/%21a%2Fb%3Ac/messages?from=t1-2_3&filter=%7B%22a%22%3A1%7D",
            "/_matrix/media/v3/download/h/a%20b+c?x=a+b&y=%2B&&z",
            "//double//slash/../dots/?",
            "/?access_token=se%63ret",
        ] {
            let request = Request::get(setup.uri(path)).body(Body::empty()).unwrap();
            assert_eq!(setup.send(request).await.status(), StatusCode::OK);
            assert_eq!(setup.last().uri.to_string(), path);
        }
        setup.end().await;
    });
}

#[test]
fn headers_of_a_connection_stay_and_all_others_pass_both_ways() {
    on_each_driver(|| async {
        let setup = Setup::start(|_| {
            Response::builder()
                .status(418)
                .header("keep-alive", "timeout=5")
                .header("connection", "x-hop")
                .header("x-hop", "1")
                .header("set-cookie", "a=1")
                .header("set-cookie", "b=2")
                .header("x-kept", "yes")
                .body(Body::from("teapot"))
                .unwrap()
        });
        let request = Request::put(setup.uri("/x"))
            .header("connection", "x-mine, te")
            .header("x-mine", "1")
            .header("te", "trailers")
            .header("proxy-authorization", "Basic abc")
            .header("upgrade", "h2c")
            .header("expect", "100-continue")
            .header("x-kept", "yes")
            .header("x-forwarded-for", "203.0.113.9")
            .body(Body::from("abc"))
            .unwrap();
        let answer = setup.send(request).await;
        assert_eq!(answer.status(), 418);
        assert_eq!(answer.body(), "teapot");
        assert_eq!(answer.headers()["x-kept"], "yes");
        assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
        for name in ["keep-alive", "x-hop"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
        let got = setup.last();
        assert_eq!((got.method.as_str(), &got.body[..]), ("PUT", &b"abc"[..]));
        assert_eq!(got.headers["x-kept"], "yes");
        assert_eq!(got.headers["content-length"], "3");
        assert_eq!(got.headers["x-forwarded-for"], "203.0.113.9, 127.0.0.1");
        assert_eq!(got.headers["x-forwarded-proto"], "http");
        let asked_host = setup.uri("").replace("http://", "");
        assert_eq!(got.headers["x-forwarded-host"], asked_host.as_str());
        assert_ne!(got.headers["host"], asked_host.as_str());
        for name in ["x-mine", "te", "proxy-authorization", "upgrade", "expect"] {
            assert!(!got.headers.contains_key(name), "{name}");
        }
        setup.end().await;
    });
}

/// The same three megabytes up and down, with a length and in chunks.
#[test]
fn large_bodies_pass_byte_for_byte_sized_and_chunked() {
    on_each_driver(|| async {
        let homeserver = Running::start(|request: Request<Incoming>, _peer| async move {
            let (head, body) = request.into_parts();
            let sized = head.headers.contains_key(header::CONTENT_LENGTH);
            let chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
            assert!(sized != chunked);
            let mut response = Response::new(Body::from(body));
            if sized {
                let length = head.headers[header::CONTENT_LENGTH].clone();
                response.headers_mut().insert(header::CONTENT_LENGTH, length);
            }
            response
        });
        let (front, _) = front_before(homeserver.address, |_| {});
        let (client, uri) = (client(), format!("http://{}/upload", front.address));
        let sent = noise(LARGE);
        for sized in [true, false] {
            let (mut sender, streamed) = Body::channel(2);
            let body = if sized { Body::from(sent.clone()) } else { streamed };
            let pieces: Vec<Vec<u8>> = sent.chunks(70_001).map(<[u8]>::to_vec).collect();
            let writer = task::spawn(async move {
                if !sized {
                    for piece in pieces {
                        sender.send(piece).await.unwrap();
                    }
                }
                sender.finish();
            });
            let request = Request::post(&uri).body(body).unwrap();
            let (head, body) = client.send(request).await.unwrap().into_parts();
            assert_eq!(head.headers.contains_key(header::CONTENT_LENGTH), sized);
            let back = body.read_limited(BYTES_MAX).await.unwrap();
            assert!(back == sent, "sized: {sized}");
            writer.await;
        }
        drop(client);
        front.end().await;
        homeserver.end().await;
    });
}

/// Each chunk is sent only after the one before has come back: the front waits for nothing.
#[test]
fn chunk_comes_back_before_the_next_one_is_sent() {
    on_each_driver(|| async {
        let homeserver = Running::start(|request: Request<Incoming>, _peer| async move {
            Response::new(Body::from(request.into_body()))
        });
        let (front, _) = front_before(homeserver.address, |_| {});
        let (mut sender, body) = Body::channel(1);
        let uri = format!("http://{}/echo", front.address);
        let request = Request::post(uri).body(body).unwrap();
        let client = client();
        let mut answer = client.send(request).await.unwrap().into_body();
        for number in 0..20 {
            let chunk = format!("chunk {number}");
            sender.send(chunk.clone()).await.unwrap();
            let mut back = Vec::new();
            while back.len() < chunk.len() {
                back.extend_from_slice(&answer.chunk().await.unwrap().unwrap());
            }
            assert_eq!(back, chunk.as_bytes());
        }
        sender.finish();
        assert!(answer.chunk().await.is_none());
        drop(client);
        front.end().await;
        homeserver.end().await;
    });
}

#[test]
fn answers_without_a_body_stay_without_one() {
    on_each_driver(|| async {
        let setup = Setup::start(|got| {
            let answer = Response::builder();
            match got.uri.path() {
                "/head" => answer.header("content-length", "12345").body(Body::empty()),
                "/none" => answer.status(204).body(Body::empty()),
                _ => answer.status(304).header("etag", "\"e\"").body(Body::empty()),
            }
            .unwrap()
        });
        let ask = |method: &str, path: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        };
        let head = setup.raw(&ask("HEAD", "/head")).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("\r\ncontent-length: 12345\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        for (path, status) in [("/none", "204"), ("/kept", "304")] {
            let answer = setup.raw(&ask("GET", path)).await.to_ascii_lowercase();
            assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{answer}");
            assert!(!answer.contains("transfer-encoding"), "{answer}");
            assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        }
        setup.end().await;
    });
}

#[test]
fn client_of_http_1_0_and_one_that_waits_to_continue_are_served() {
    on_each_driver(|| async {
        let setup = Setup::start(|got| Response::new(Body::from(got.body.clone())));
        let old = setup.raw("POST /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc").await;
        assert!(old.starts_with("HTTP/1.0 200 ") && old.ends_with("\r\n\r\nabc"), "{old}");
        let waiting = "POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\
            Connection: close\r\nContent-Length: 3\r\n\r\nabc";
        let answer = setup.raw(waiting).await;
        assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\n"), "{answer}");
        assert!(answer.contains("HTTP/1.1 200 OK") && answer.ends_with("abc"), "{answer}");
        setup.end().await;
    });
}

#[test]
fn request_without_a_path_is_refused() {
    on_each_driver(|| async {
        let setup = Setup::start(|_| json(200, "{}"));
        let answer = setup.raw("OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(setup.got.borrow().is_empty());
        setup.end().await;
    });
}

#[test]
fn homeserver_that_is_down_is_502_with_cors() {
    on_each_driver(|| async {
        let homeserver = Running::start(|_: Request<Incoming>, _peer| async { json(200, "{}") });
        let address = homeserver.address;
        homeserver.end().await;
        let (front, hints) = front_before(address, |_| {});
        let uri = format!("http://{}/_matrix/client/v3/logout", front.address);
        let request = Request::post(uri).header("authorization", "Bearer secret");
        let client = client();
        let answer = client.send(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        assert_eq!(answer.headers()["content-type"], "application/json");
        let body = answer.into_body().read_limited(BYTES_MAX).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["errcode"], "M_UNKNOWN");
        assert!(body["error"].as_str().unwrap().contains("homeserver cannot be reached"));
        assert!(hints.borrow().is_empty());
        drop(client);
        front.end().await;
    });
}

#[test]
fn homeserver_that_does_not_answer_is_504() {
    on_each_driver(|| async {
        let homeserver = Running::start(|_: Request<Incoming>, _peer| async {
            std::future::pending::<()>().await;
            json(200, "{}")
        });
        let (front, _) = front_before(homeserver.address, |config| {
            config.timeouts.header = std::time::Duration::from_millis(50);
        });
        let answer =
            raw(front.address, "GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(answer.contains("M_UNKNOWN"), "{answer}");
        front.end().await;
        homeserver.end().await;
    });
}

/// The client must not take a part for the whole.
#[test]
fn answer_that_breaks_off_breaks_the_clients_connection() {
    on_each_driver(|| async {
        let (mut sender, body) = Body::channel(4);
        let body = RefCell::new(Some(body));
        let homeserver = Running::start(move |_: Request<Incoming>, _peer| {
            let body = body.take().unwrap();
            async { Response::new(body) }
        });
        let (front, _) = front_before(homeserver.address, |_| {});
        let client = client();
        let uri = format!("http://{}/x", front.address);
        let answer = client.send(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut body = answer.into_body();
        sender.send("only a part").await.unwrap();
        assert_eq!(body.chunk().await.unwrap().unwrap(), "only a part");
        drop(sender);
        assert!(body.chunk().await.unwrap().is_err());
        drop(client);
        front.end().await;
        homeserver.end().await;
    });
}

/// Gives back what it reads, in capitals.
async fn shout(mut connection: Upgraded) {
    let mut space = [0; 1024];
    loop {
        let size = connection.read(&mut space).await.unwrap();
        if size == 0 {
            return connection.shutdown().await.unwrap();
        }
        connection.write_all(&space[..size].to_ascii_uppercase()).await.unwrap();
    }
}

#[test]
fn websocket_passes_both_ways_until_it_ends() {
    on_each_driver(|| async {
        let headers = std::rc::Rc::new(RefCell::new(None));
        let kept = std::rc::Rc::clone(&headers);
        let homeserver = Running::start(move |request: Request<Incoming>, _peer| {
            *kept.borrow_mut() = Some(request.headers().clone());
            async {
                Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header("connection", "Upgrade")
                    .header("upgrade", "websocket")
                    .header("sec-websocket-accept", "accepted")
                    .body(Body::upgrade(shout))
                    .unwrap()
            }
        });
        let (front, _) = front_before(homeserver.address, |_| {});
        let client = client();
        let request = Request::get(format!("http://{}/socket", front.address))
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-key", "key")
            .body(Body::empty())
            .unwrap();
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()["upgrade"], "websocket");
        assert_eq!(answer.headers()["sec-websocket-accept"], "accepted");
        let asked = headers.borrow_mut().take().unwrap();
        assert_eq!(asked["upgrade"], "websocket");
        assert_eq!(asked["sec-websocket-key"], "key");
        let mut connection = answer.into_body().upgraded().await.unwrap();
        for number in 0..20 {
            connection.write_all(format!("word {number:03}").as_bytes()).await.unwrap();
            let mut back = [0; 8];
            connection.read_exact(&mut back).await.unwrap();
            assert_eq!(back, format!("WORD {number:03}").as_bytes());
        }
        connection.shutdown().await.unwrap();
        assert_eq!(connection.read(&mut [0; 8]).await.unwrap(), 0);
        drop(connection);
        drop(client);
        front.end().await;
        homeserver.end().await;
    });
}

/// Goal: a position of Luge's where a client pages (MSC4186) does not reach the homeserver, which
/// would refuse it; a token of the homeserver's does, and no other request is touched.
#[test]
fn positions_are_taken_out_of_requests_that_page() {
    on_each_driver(|| async {
        let setup = Setup::start(|_| json(200, "{}"));
        let ours = "1887436800000000001_1887436800000000002";
        for (path, expected) in [
            (format!("v3/rooms/!a:b/messages?dir=b&from={ours}"), "v3/rooms/!a:b/messages?dir=b"),
            (
                format!("v1/rooms/!a:b/relations/$e?from=t1-2&to={ours}&limit=5"),
                "v1/rooms/!a:b/relations/$e?from=t1-2&limit=5",
            ),
            (
                "v3/rooms/!a:b/messages?from=s1_2&dir=f".to_owned(),
                "v3/rooms/!a:b/messages?from=s1_2&dir=f",
            ),
            (
                "v3/notifications?from=1887436800000000001_1887436800000000002".to_owned(),
                "v3/notifications?from=1887436800000000001_1887436800000000002",
            ),
        ] {
            setup.ask("GET", &format!("/_matrix/client/{path}"), "").await;
            assert_eq!(setup.last().uri.to_string(), format!("/_matrix/client/{expected}"));
        }
        setup.end().await;
    });
}
