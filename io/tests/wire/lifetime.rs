//! How a server ends.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use futures_util::future::pending;
use http::{Request, Response};
use luge_io::{
    http::{Body, ClientConfig, ClientError, Incoming, ServerConfig},
    oneshot, task,
};

use crate::setup::{PATIENCE, Running, client, echo, get, on_each_driver, text};

#[test]
fn current_response_is_finished_and_nothing_new_is_accepted() {
    on_each_driver(|| async {
        let (enter, entered) = oneshot::channel();
        let (release, released) = oneshot::channel::<()>();
        let once = std::cell::RefCell::new(Some((enter, released)));
        let server = Running::start(ServerConfig::default(), move |_request, _peer| {
            let (enter, released) = once.take().unwrap();
            async move {
                enter.send(()).unwrap();
                released.await.unwrap();
                Response::new(Body::from("finished"))
            }
        });
        let uri = server.uri("/");
        let request = task::spawn({
            let uri = uri.clone();
            async move { client(ClientConfig::default()).send(get(&uri)).await }
        });
        entered.await.unwrap();
        server.stop.fire(PATIENCE);
        // The listener closes some rounds of the driver later.
        let refused = loop {
            let client = client(ClientConfig::default());
            let timeouts = luge_io::http::Timeouts {
                header: Duration::from_millis(100),
                ..luge_io::http::Timeouts::default()
            };
            if let Err(error @ ClientError::Connect { .. }) =
                client.send_with(get(&uri), timeouts).await
            {
                break error;
            }
        };
        drop(refused);
        release.send(()).unwrap();
        let response = request.await.unwrap();
        assert_eq!(response.headers()[http::header::CONNECTION], "close");
        assert_eq!(text(response).await, "finished");
        server.task.await.unwrap();
    });
}

#[test]
fn idle_connection_does_not_hold_the_server_up() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), echo);
        let address = server.address;
        let (answered, was_answered) = oneshot::channel();
        let reader = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
            answered.send(()).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap()
        });
        was_answered.await.unwrap();
        server.end().await;
        assert_eq!(reader.join().unwrap(), 0);
    });
}

#[test]
fn response_that_never_ends_is_cut_off_when_patience_is() {
    on_each_driver(|| async {
        let (enter, entered) = oneshot::channel();
        let enter = std::cell::RefCell::new(Some(enter));
        let server = Running::start(ServerConfig::default(), move |_: Request<Incoming>, _| {
            enter.take().unwrap().send(()).unwrap();
            pending()
        });
        let uri = server.uri("/");
        let request =
            task::spawn(async move { client(ClientConfig::default()).send(get(&uri)).await });
        entered.await.unwrap();
        server.stop.fire(Duration::from_millis(10));
        server.task.await.unwrap();
        assert!(matches!(request.await.unwrap_err(), ClientError::Broken(_)));
        // The port is free again.
        drop(TcpListener::bind(server.address).unwrap());
    });
}
