//! Responses that take long, and are waited for without hyper: nobody may notice.

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::future::{pending, select};
use http::{Request, Response};
use luge_io::{
    http::{Body, ClientConfig, ClientError, Incoming, ServerConfig, Timeouts},
    oneshot, task, time,
};

use crate::{
    client::Authority,
    counted::{Count, counted},
    setup::{PATIENCE, Running, client, get, text},
};

/// Runs a test on each driver, and tells how many responses were waited for
/// without hyper on each.
fn parked<F: Future<Output = ()>>(test: impl Fn(Count) -> F) -> Vec<usize> {
    counted("a response is waited for without hyper", test)
}

/// As soon as a request can be on its way.
fn soon() -> ClientConfig {
    ClientConfig { park_after: Duration::from_millis(5), ..ClientConfig::default() }
}

/// A handler that answers when so many responses are waited for without hyper as
/// it was asked: it says who asks, and as many bytes more as the query says.
async fn slow(request: Request<Incoming>, peer: SocketAddr, count: Count) -> Response<Body> {
    let wanted = count.get() + 1;
    while count.get() < wanted {
        time::sleep(Duration::from_millis(1)).await;
    }
    let more = request.uri().query().map_or(0, |query| query.parse().unwrap());
    let text = format!("{} {}", peer.port(), "x".repeat(more));
    if request.uri().path() == "/pieces" {
        let (mut sender, body) = Body::channel(1);
        drop(task::spawn(async move {
            for piece in text.as_bytes().chunks(1_000) {
                sender.send(piece.to_vec()).await.unwrap();
            }
            sender.finish();
        }));
        return Response::new(body);
    }
    Response::new(Body::from(text))
}

/// A server on a thread of its own that says what it is told to, whatever it is
/// asked, once its response is waited for without hyper: one piece after the
/// other.
fn server(pieces: &'static [&'static [u8]], count: Count) -> (String, JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut space = [0; 4096];
            let size = stream.read(&mut space).unwrap();
            request.extend_from_slice(&space[..size]);
        }
        count.wait_for(1);
        for piece in pieces {
            stream.write_all(piece).unwrap();
            thread::park_timeout(Duration::from_millis(5));
        }
        stream
    });
    (uri, thread)
}

/// Goal: one connection, several requests, each waited for without hyper.
#[test]
fn connection_is_kept_after_each_response_that_took_long() {
    let counts = parked(|count| async move {
        let handler = move |request, peer| slow(request, peer, count.clone());
        let server = Running::start(ServerConfig::default(), handler);
        let client = client(soon());
        let mut port = None;
        for path in ["/", "/?100", "/?300000", "/pieces?300000", "/"] {
            let response = client.send(get(&server.uri(path))).await.unwrap();
            let text = text(response).await;
            let (peer, rest) = text.split_once(' ').unwrap();
            let more = path.split_once('?').map_or(0, |(_, more)| more.parse().unwrap());
            assert_eq!(rest.len(), more, "{path}");
            assert_eq!(port.get_or_insert(peer.to_owned()), peer, "another connection at {path}");
        }
        server.end().await;
    });
    assert!(counts.iter().all(|count| *count == 5), "{counts:?}");
}

#[test]
fn secure_connection_is_kept_too() {
    let counts = parked(|count| async move {
        let handler = move |request, peer| slow(request, peer, count.clone());
        let authority = Authority::new();
        let config = ServerConfig { tls: Some(authority.server()), ..ServerConfig::default() };
        let server = Running::start(config, handler);
        let client = authority.client(soon());
        let mut port = None;
        for more in [0, 300_000, 10] {
            let uri = format!("https://localhost:{}/?{more}", server.address.port());
            let text = text(client.send(get(&uri)).await.unwrap()).await;
            let (peer, rest) = text.split_once(' ').unwrap();
            assert_eq!(rest.len(), more);
            assert_eq!(port.get_or_insert(peer.to_owned()), peer, "another connection");
        }
        server.end().await;
    });
    assert!(counts.iter().all(|count| *count == 3), "{counts:?}");
}

#[test]
fn response_may_come_in_any_pieces() {
    let cases: [&'static [&'static [u8]]; 4] = [
        &[b"H", b"TTP/1.1 200 OK\r\nContent-Le", b"ngth: 5\r\n\r\n", b"wh", b"ole"],
        &[b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"wh", b"ole"],
        &[
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nwh\r",
            b"\n3\r\nole\r\n0\r\n\r\n",
        ],
        &[b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhole"],
    ];
    for pieces in cases {
        let counts = parked(|count| async move {
            let (uri, thread) = server(pieces, count);
            // Where the body ends with its connection, it has to end.
            let closing = thread::spawn(move || drop(thread.join().unwrap()));
            let response = client(soon()).send(get(&uri)).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(text(response).await, "whole");
            closing.join().unwrap();
        });
        assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
    }
}

#[test]
fn server_that_goes_away_has_broken_the_connection() {
    let cases: [&'static [&'static [u8]]; 3] =
        [&[], &[b"HTTP/1.1 200 O"], &[b"this is not HTTP\r\n\r\n"]];
    for pieces in cases {
        let counts = parked(|count| async move {
            let (uri, thread) = server(pieces, count);
            let closing = thread::spawn(move || drop(thread.join().unwrap()));
            let error = client(soon()).send(get(&uri)).await.unwrap_err();
            assert!(matches!(error, ClientError::Broken(_)), "{error}");
            closing.join().unwrap();
        });
        assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
    }
}

/// Goal: patience ends as it does with hyper there, and so does the connection.
#[test]
fn silent_server_is_a_header_timeout_whose_connection_is_closed() {
    let counts = parked(|count| async move {
        let (uri, thread) = server(&[], count);
        let timeouts = Timeouts { header: Duration::from_millis(500), ..Timeouts::default() };
        let client = client(soon());
        let error = client.send_with(get(&uri), timeouts).await.unwrap_err();
        assert!(matches!(error, ClientError::HeaderTimeout), "{error}");
        drop(client);
        time::sleep(Duration::from_millis(1)).await;
        let mut stream = thread.join().unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    });
    assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
}

#[test]
fn request_that_is_called_off_closes_its_connection_and_counts_until_then() {
    let counts = parked(|count| async move {
        let (entered, was_entered) = oneshot::channel();
        let entered = RefCell::new(Some(entered));
        let server = Running::start(ServerConfig::default(), move |_: Request<Incoming>, _| {
            let (entered, count) = (entered.take(), count.clone());
            async move {
                let Some(entered) = entered else { return Response::new(Body::from("here")) };
                while count.get() < 1 {
                    time::sleep(Duration::from_millis(1)).await;
                }
                entered.send(()).unwrap();
                pending().await
            }
        });
        let client = client(ClientConfig { connections_max: 1, ..soon() });
        let (leave, left) = oneshot::channel::<()>();
        let (other, uri) = (client.clone(), server.uri("/"));
        let silent = task::spawn(async move {
            let request = std::pin::pin!(other.send(get(&uri)));
            drop(select(request, left).await);
        });
        was_entered.await.unwrap();
        let error = client.send(get(&server.uri("/"))).await.unwrap_err();
        assert!(matches!(error, ClientError::Exhausted { max: 1 }), "{error}");
        leave.send(()).unwrap();
        silent.await;
        assert_eq!(text(client.send(get(&server.uri("/"))).await.unwrap()).await, "here");
        server.end().await;
    });
    assert!(counts.iter().all(|count| *count >= 1), "{counts:?}");
}

/// Goal: what only one hyper can go on with stays with it.
#[test]
fn request_with_a_body_and_one_that_may_be_upgraded_keep_their_hyper() {
    let counts = parked(|_| async {
        let server = Running::start(ServerConfig::default(), |_: Request<Incoming>, _| async {
            time::sleep(Duration::from_millis(30)).await;
            Response::new(Body::empty())
        });
        let client = client(soon());
        let uri = server.uri("/");
        let requests = [
            Request::post(&uri).body(Body::from("body")).unwrap(),
            Request::post(&uri).body(Body::empty()).unwrap(),
            Request::get(&uri).body(Body::from("body")).unwrap(),
            Request::head(&uri).body(Body::empty()).unwrap(),
            Request::get(&uri).header("connection", "close").body(Body::empty()).unwrap(),
            Request::get(&uri).header("upgrade", "websocket").body(Body::empty()).unwrap(),
        ];
        for request in requests {
            assert_eq!(client.send(request).await.unwrap().status(), 200);
        }
        server.end().await;
    });
    assert!(counts.iter().all(|count| *count == 0), "{counts:?}");
}
