//! Handlers that take long, and are waited for without hyper: nobody may notice.

use std::{
    cell::{Cell, RefCell},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    rc::Rc,
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::future::pending;
use http::{Request, Response};
use luge_io::{
    http::{Body, Incoming, ServerConfig},
    oneshot, time,
};

use crate::{
    counted::counted,
    setup::{PATIENCE, Running},
};

/// Runs a test on each driver, and tells how many connections waited without
/// hyper on each.
fn parked<F: Future<Output = ()>>(test: impl Fn() -> F) -> Vec<usize> {
    counted("a connection waits without hyper", |_| test())
}

fn at_once() -> ServerConfig {
    ServerConfig { park_after: Duration::ZERO, ..ServerConfig::default() }
}

/// A handler that takes a while and then says what it was asked.
async fn slow(request: Request<Incoming>, _: SocketAddr) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().read_limited(1 << 20).await.unwrap();
    time::sleep(Duration::from_millis(5)).await;
    let body = String::from_utf8(body.to_vec()).unwrap();
    Response::new(Body::from(format!("{path} {body}")))
}

/// A client on a thread of its own, without a library that could mend things.
fn client<T: Send + 'static>(
    address: SocketAddr,
    talk: impl FnOnce(&mut TcpStream) -> T + Send + 'static,
) -> (JoinHandle<T>, oneshot::Receiver<()>) {
    let (done, is_done) = oneshot::channel();
    let thread = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let outcome = talk(&mut stream);
        let _ = done.send(());
        outcome
    });
    (thread, is_done)
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads a response whose body is known, and gives its head.
fn read_response(stream: &mut TcpStream, body: &str) -> String {
    let mut text = String::new();
    while !text.contains("\r\n\r\n") || !text.ends_with(body) {
        let mut space = [0; 4096];
        let size = stream.read(&mut space).unwrap();
        assert_ne!(size, 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&space[..size]).unwrap());
    }
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(rest, body);
    head.to_ascii_lowercase()
}

/// Goal: one connection, several requests, each waited for without hyper.
#[test]
fn connection_serves_on_after_each_answer_that_took_long() {
    let counts = parked(|| async {
        let server = Running::start(at_once(), slow);
        let (thread, done) = client(server.address, |stream| {
            for number in 0..3 {
                let body = "x".repeat(number * 20_000);
                stream.write_all(post("/path", &body).as_bytes()).unwrap();
                let head = read_response(stream, &format!("/path {body}"));
                assert!(head.starts_with("http/1.1 200 ok"), "{head}");
                assert!(head.contains("\r\ndate: "), "{head}");
                assert!(head.contains("\r\ncontent-length: "), "{head}");
                assert!(!head.contains("connection: close"), "{head}");
            }
        });
        done.await.unwrap();
        thread.join().unwrap();
        server.end().await;
    });
    assert!(counts.iter().all(|count| *count == 3), "{counts:?}");
}

/// Goal: what a client sends before it is answered is neither lost nor mixed up.
#[test]
fn requests_that_are_sent_ahead_are_answered_in_order() {
    let counts = parked(|| async {
        let server = Running::start(at_once(), slow);
        let (thread, done) = client(server.address, |stream| {
            let long = "y".repeat(3_000);
            stream.write_all(post("/1", "one").as_bytes()).unwrap();
            thread::park_timeout(Duration::from_millis(1));
            let rest = format!("{}{}", post("/2", &long), post("/3", "three"));
            stream.write_all(rest.as_bytes()).unwrap();
            let mut text = String::new();
            while !text.ends_with("/3 three") {
                let mut space = [0; 4096];
                let size = stream.read(&mut space).unwrap();
                assert_ne!(size, 0, "the connection ended after {text:?}");
                text.push_str(std::str::from_utf8(&space[..size]).unwrap());
            }
            let at = |part: &str| text.find(part).unwrap();
            assert!(at("/1 one") < at(&format!("/2 {long}")) && at("/2 ") < at("/3 three"));
        });
        done.await.unwrap();
        thread.join().unwrap();
        server.end().await;
    });
    assert!(counts.iter().all(|count| *count == 3), "{counts:?}");
}

#[test]
fn handler_is_dropped_when_its_client_goes_away_while_hyper_is_put_away() {
    struct Told(Option<oneshot::Sender<()>>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.take().map(|sender| sender.send(()));
        }
    }
    let counts = parked(|| async {
        let (gone, is_gone) = oneshot::channel();
        let (entered, was_entered) = std::sync::mpsc::channel();
        let told = Rc::new(Cell::new(Some(Told(Some(gone)))));
        let server = Running::start(at_once(), move |_: Request<Incoming>, _| {
            let told = told.take();
            let entered = entered.clone();
            async move {
                time::sleep(Duration::from_millis(5)).await;
                entered.send(()).unwrap();
                pending::<()>().await;
                drop(told);
                Response::new(Body::empty())
            }
        });
        let (thread, done) = client(server.address, move |stream| {
            stream.write_all(post("/", "").as_bytes()).unwrap();
            was_entered.recv().unwrap();
        });
        done.await.unwrap();
        thread.join().unwrap();
        is_gone.await.unwrap();
        server.end().await;
    });
    assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
}

#[test]
fn stop_lets_an_answer_out_and_says_that_the_connection_ends() {
    let counts = parked(|| async {
        let (entered, was_entered) = oneshot::channel();
        let (release, released) = oneshot::channel::<()>();
        let once = RefCell::new(Some((entered, released)));
        let server = Running::start(at_once(), move |_: Request<Incoming>, _| {
            let (entered, released) = once.take().unwrap();
            async move {
                time::sleep(Duration::from_millis(5)).await;
                entered.send(()).unwrap();
                released.await.unwrap();
                Response::new(Body::from("finished"))
            }
        });
        let (thread, done) = client(server.address, |stream| {
            stream.write_all(post("/", "").as_bytes()).unwrap();
            read_response(stream, "finished");
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
        });
        was_entered.await.unwrap();
        server.stop.fire(PATIENCE);
        release.send(()).unwrap();
        done.await.unwrap();
        thread.join().unwrap();
        server.task.await.unwrap();
    });
    assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
}

/// Goal: what only one hyper can go on with stays with it.
#[test]
fn a_body_that_is_not_here_whole_and_an_older_protocol_keep_their_hyper() {
    let counts = parked(|| async {
        let server = Running::start(at_once(), slow);
        let (thread, done) = client(server.address, |stream| {
            let request = post("/slowly", "0123456789");
            let (begin, end) = request.split_at(request.len() - 4);
            stream.write_all(begin.as_bytes()).unwrap();
            thread::park_timeout(Duration::from_millis(30));
            stream.write_all(end.as_bytes()).unwrap();
            read_response(stream, "/slowly 0123456789");
            stream.write_all(b"GET /old HTTP/1.0\r\n\r\n").unwrap();
            read_response(stream, "/old ");
        });
        done.await.unwrap();
        thread.join().unwrap();
        server.end().await;
    });
    // The first is waited for without hyper once its body is whole.
    assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
}
