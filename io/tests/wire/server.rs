//! What the server promises its clients and its handlers.

use std::{
    cell::{Cell, RefCell},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::mpsc,
    thread,
    time::Duration,
};

use futures_util::future::pending;
use http::{Request, Response, StatusCode};
use luge_io::{
    driver::Driver,
    http::{Body, BodyError, ClientConfig, ClientError, Incoming, ServerConfig, bind, serve},
    oneshot, shards,
    stop::Stop,
    task, time,
};

use crate::setup::{PATIENCE, Running, client, echo, get, on_each_driver, text};

#[test]
fn body_of_any_size_comes_back_as_it_was_sent() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), echo);
        let client = client(ClientConfig::default());
        for size in [0, 1, 1000, 1 << 20] {
            let body: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[n as usize % 3]).collect();
            let request = Request::post(server.uri("/")).body(Body::from(body.clone())).unwrap();
            let response = client.send(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.into_body().read_limited(1 << 20).await.unwrap(), body);
        }
        server.end().await;
    });
}

/// More at once than connections are kept for: some are closed after use, and none is mixed up.
#[test]
fn three_hundred_requests_at_once_each_get_their_own_answer() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), echo);
        let client = client(ClientConfig { idle_per_host_max: 8, ..ClientConfig::default() });
        for _ in 0..3 {
            let requests = (0..300_u32).map(|number| {
                let (client, uri) = (client.clone(), server.uri("/"));
                task::spawn(async move {
                    let body = format!("request {number}").repeat(1 + number as usize);
                    let request = Request::post(&uri).body(Body::from(body.clone())).unwrap();
                    assert_eq!(text(client.send(request).await.unwrap()).await, body);
                })
            });
            futures_util::future::join_all(requests.collect::<Vec<_>>()).await;
        }
        server.end().await;
    });
}

async fn limited(request: Request<Incoming>, _peer: SocketAddr) -> Response<Body> {
    match request.into_body().read_limited(1000).await {
        Ok(bytes) => Response::new(Body::from(format!("{} bytes", bytes.len()))),
        Err(BodyError::TooLarge { max }) => Response::builder()
            .status(StatusCode::PAYLOAD_TOO_LARGE)
            .body(Body::from(format!("more than {max}")))
            .unwrap(),
        Err(error) => Response::new(Body::from(error.to_string())),
    }
}

/// Announced by `Content-Length` or found out on the way: both are answered, although the client
/// sends far more than anybody reads.
#[test]
fn request_body_over_the_limit_is_answered_and_not_kept() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), limited);
        let client = client(ClientConfig::default());
        for (size, expected) in [(1000, "1000 bytes"), (1001, "more than 1000")] {
            let whole = Request::post(server.uri("/")).body(Body::from(vec![0; size])).unwrap();
            assert_eq!(text(client.send(whole).await.unwrap()).await, expected);
            let chunks = (0..size).map(|_| Ok(vec![0].into()));
            let chunked = Body::stream(futures_util::stream::iter(chunks.collect::<Vec<_>>()));
            let chunked = Request::post(server.uri("/")).body(chunked).unwrap();
            assert_eq!(text(client.send(chunked).await.unwrap()).await, expected);
        }
        server.end().await;
    });
}

/// A response that comes before its request was read says that the connection closes: a client that
/// went on to use it would find it closed under its next request. One whose request was read does
/// not.
#[test]
fn response_to_a_request_that_was_not_read_closes_its_connection() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), limited);
        let client = client(ClientConfig::default());
        for (size, closes) in [(1000, false), (1001, true), (1 << 20, true), ((1 << 20) + 1, true)]
        {
            for _ in 0..5 {
                let request = Request::post(server.uri("/")).body(Body::from(vec![0; size]));
                let response = client.send(request.unwrap()).await.unwrap();
                let says_so = response.headers().get("connection").is_some_and(|it| it == "close");
                assert_eq!((says_so, response.status() == StatusCode::OK), (closes, !closes));
            }
        }
        server.end().await;
    });
}

#[test]
fn request_body_that_stalls_is_a_timeout_for_the_handler() {
    on_each_driver(|| async {
        let short = Duration::from_millis(20);
        let config = ServerConfig { body_chunk_timeout: short, ..ServerConfig::default() };
        let server = Running::start(config, limited);
        let (mut sender, body) = Body::channel(1);
        sender.send("a beginning").await.unwrap();
        let request = Request::post(server.uri("/")).body(body).unwrap();
        let response = client(ClientConfig::default()).send(request).await.unwrap();
        assert_eq!(text(response).await, BodyError::Timeout.to_string());
        drop(sender);
        server.end().await;
    });
}

#[test]
fn panic_in_a_handler_costs_its_connection_alone() {
    on_each_driver(|| async {
        let (entered, waits) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
        let (counted, parked) = (Rc::clone(&entered), Rc::clone(&waits));
        let server =
            Running::start(ServerConfig::default(), move |request: Request<Incoming>, _| {
                counted.set(counted.get() + 1);
                let parked = Rc::clone(&parked);
                async move {
                    assert_ne!(request.uri().path(), "/panic", "as the test wants");
                    let (release, released) = oneshot::channel::<()>();
                    parked.replace(Some(release));
                    released.await.unwrap();
                    Response::new(Body::from("survived"))
                }
            });
        let client = client(ClientConfig::default());
        let (before, uri) = (client.clone(), server.uri("/wait"));
        let other = task::spawn(async move { text(before.send(get(&uri)).await.unwrap()).await });
        while entered.get() == 0 {
            time::sleep(Duration::from_millis(1)).await;
        }
        let panicked = client.send(get(&server.uri("/panic"))).await.unwrap_err();
        assert!(matches!(panicked, ClientError::Broken(_)), "{panicked}");
        waits.take().unwrap().send(()).unwrap();
        assert_eq!(other.await, "survived");
        server.end().await;
    });
}

/// Tells when its handler is dropped.
struct Ticket(mpsc::Sender<()>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn handler_is_dropped_when_its_client_goes_away() {
    on_each_driver(|| async {
        let (sender, dropped) = mpsc::channel();
        let (entered, has_entered) = oneshot::channel();
        let entered = RefCell::new(Some(entered));
        let server = Running::start(ServerConfig::default(), move |_request, _peer| {
            let ticket = Ticket(sender.clone());
            entered.take().unwrap().send(()).unwrap();
            async move {
                let _ticket = ticket;
                pending().await
            }
        });
        let client = client(ClientConfig::default());
        let uri = server.uri("/");
        let (leave, left) = oneshot::channel::<()>();
        let request = task::spawn(async move {
            let request = get(&uri);
            let sending = std::pin::pin!(client.send(request));
            drop(futures_util::future::select(sending, left).await);
        });
        has_entered.await.unwrap();
        assert!(dropped.try_recv().is_err());
        leave.send(()).unwrap();
        request.await;
        while dropped.try_recv().is_err() {
            time::sleep(Duration::from_millis(1)).await;
        }
        server.end().await;
    });
}

#[test]
fn head_that_never_ends_is_cut_off() {
    on_each_driver(|| async {
        let config =
            ServerConfig { header_timeout: Duration::from_millis(20), ..ServerConfig::default() };
        let server = Running::start(config, echo);
        let address = server.address;
        let (sender, received) = oneshot::channel();
        let slow = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: unfini").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            sender.send(answer).unwrap();
        });
        assert_eq!(received.await.unwrap(), b"");
        slow.join().unwrap();
        server.end().await;
    });
}

#[test]
fn connection_over_the_limit_is_told_503_and_the_next_one_fits_again() {
    on_each_driver(|| async {
        let config = ServerConfig { connections_max: 1, ..ServerConfig::default() };
        let server = Running::start(config, echo);
        let (first, second) = (client(ClientConfig::default()), client(ClientConfig::default()));
        let kept = first.send(get(&server.uri("/"))).await.unwrap();
        assert_eq!(kept.status(), StatusCode::OK);
        let refused = second.send(get(&server.uri("/"))).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop((kept, first));
        while second.send(get(&server.uri("/"))).await.unwrap().status() != StatusCode::OK {
            time::sleep(Duration::from_millis(1)).await;
        }
        server.end().await;
    });
}

/// Each connection is new, so the kernel spreads them: after enough of them both shards have
/// answered.
#[test]
fn two_shards_answer_on_one_port() {
    for driver in Driver::available() {
        let config = shards::Config { count: 2, ..shards::Config::new(driver) };
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = sockets[0].address();
        let (mut sockets, mut stops) = (sockets.into_iter(), Vec::new());
        let running = shards::start(&config, |_| {
            let socket = sockets.next().unwrap();
            let (stop, stopped) = oneshot::channel::<()>();
            stops.push(stop);
            move |context: shards::ShardContext| async move {
                let handler = move |_request, _peer| async move {
                    Response::new(Body::from(context.index.to_string()))
                };
                let stop = Stop::new();
                let serving =
                    serve(socket, Rc::new(handler), ServerConfig::default(), stop.clone());
                let serving = task::spawn(serving);
                stopped.await.unwrap();
                stop.fire(PATIENCE);
                serving.await.unwrap();
            }
        });
        let running = running.unwrap();
        driver
            .block_on(async {
                let mut answered = [false; 2];
                while answered != [true; 2] {
                    let client = client(ClientConfig::default());
                    let response = client.send(get(&format!("http://{address}/"))).await.unwrap();
                    let index: usize = text(response).await.parse().unwrap();
                    answered[index] = true;
                }
            })
            .unwrap();
        for stop in stops {
            stop.send(()).unwrap();
        }
        running.join();
    }
}
