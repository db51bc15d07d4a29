//! What the client promises: patience that ends, errors that tell, connections that are kept only
//! when they are clean.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    rc::Rc,
    thread,
    time::Duration,
};

use futures_util::future::{join_all, pending};
use http::{Request, Response};
use luge_io::{
    dns::Resolver,
    http::{Body, BodyError, Client, ClientConfig, ClientError, Incoming, ServerConfig, Timeouts},
    stop::Stop,
    tls::{ClientTls, Roots, ServerTls},
};

use crate::setup::{PATIENCE, Running, client, echo, get, on_each_driver, text};

async fn port_of_peer(_request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
    Response::new(Body::from(peer.port().to_string()))
}

#[test]
fn connection_is_kept_between_requests() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), port_of_peer);
        let client = client(ClientConfig::default());
        let first = text(client.send(get(&server.uri("/"))).await.unwrap()).await;
        for _ in 0..20 {
            assert_eq!(text(client.send(get(&server.uri("/"))).await.unwrap()).await, first);
        }
        server.end().await;
    });
}

/// Goal: a crowd that is answered at one time asks again without new connections.
#[test]
fn as_many_connections_are_kept_as_were_in_use_at_once() {
    const CROWD: usize = 100;
    on_each_driver(|| async {
        let (all_here, arrived) = (Stop::new(), Rc::new(Cell::new(0)));
        let server = Running::start(ServerConfig::default(), move |request, peer| {
            let (all_here, arrived) = (all_here.clone(), Rc::clone(&arrived));
            async move {
                arrived.set(arrived.get() + 1);
                if arrived.get() == CROWD {
                    all_here.fire(PATIENCE);
                }
                all_here.fired().await;
                port_of_peer(request, peer).await
            }
        });
        let (client, uri) = (client(ClientConfig::default()), server.uri("/"));
        let ask = || async {
            let each =
                (0..CROWD).map(|_| async { text(client.send(get(&uri)).await.unwrap()).await });
            join_all(each).await.into_iter().collect::<BTreeSet<String>>()
        };
        let first = ask().await;
        assert_eq!(first.len(), CROWD);
        let second = ask().await;
        assert!(second.is_subset(&first), "{:?}", second.difference(&first));
        server.end().await;
    });
}

/// The server's side of the body notices, so the connection is really closed and not only forgotten.
#[test]
fn response_dropped_early_closes_its_connection() {
    on_each_driver(|| async {
        let (gone_sender, gone) = luge_io::oneshot::channel();
        let gone_sender = Rc::new(RefCell::new(Some(gone_sender)));
        let server = Running::start(ServerConfig::default(), move |request, peer| {
            let gone_sender = Rc::clone(&gone_sender);
            async move {
                let request: Request<Incoming> = request;
                if request.uri().path() == "/port" {
                    return port_of_peer(request, peer).await;
                }
                let (mut sender, body) = Body::channel(1);
                drop(luge_io::task::spawn(async move {
                    while sender.send(peer.port().to_string()).await.is_ok() {}
                    gone_sender.take().unwrap().send(()).unwrap();
                }));
                Response::new(body)
            }
        });
        let client = client(ClientConfig::default());
        let mut endless = client.send(get(&server.uri("/endless"))).await.unwrap().into_body();
        let chunk = endless.chunk().await.unwrap().unwrap();
        drop(endless);
        gone.await.unwrap();
        let port = text(client.send(get(&server.uri("/port"))).await.unwrap()).await;
        assert!(!chunk.starts_with(port.as_bytes()));
        server.end().await;
    });
}

#[test]
fn silent_server_is_a_header_timeout_and_its_connection_is_not_used_again() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), |request, peer| async move {
            let request: Request<Incoming> = request;
            if request.uri().path() == "/silent" {
                pending().await
            } else {
                port_of_peer(request, peer).await
            }
        });
        let client = client(ClientConfig::default());
        let before = text(client.send(get(&server.uri("/port"))).await.unwrap()).await;
        let timeouts = Timeouts { header: Duration::from_millis(20), ..Timeouts::default() };
        let error = client.send_with(get(&server.uri("/silent")), timeouts).await.unwrap_err();
        assert!(matches!(error, ClientError::HeaderTimeout), "{error}");
        let after = text(client.send(get(&server.uri("/port"))).await.unwrap()).await;
        assert_ne!(before, after);
        server.end().await;
    });
}

#[test]
fn body_that_stalls_is_too_late_and_one_that_is_too_large_is_refused() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), |request: Request<Incoming>, _| {
            let stalls = request.uri().path() == "/stalls";
            async move {
                let (mut sender, body) = Body::channel(4);
                sender.send("0123456789").await.unwrap();
                drop(luge_io::task::spawn(async move {
                    if stalls {
                        luge_io::time::sleep(PATIENCE).await;
                    }
                    sender.finish();
                }));
                Response::new(body)
            }
        });
        let client = client(ClientConfig::default());
        let timeouts = Timeouts { body_chunk: Duration::from_millis(20), ..Timeouts::default() };
        let error = client.fetch(get(&server.uri("/stalls")), timeouts, 100).await.unwrap_err();
        assert!(matches!(error, ClientError::BodyTimeout), "{error}");
        let error = client.fetch(get(&server.uri("/")), Timeouts::default(), 9).await.unwrap_err();
        assert!(matches!(error, ClientError::TooLarge { max: 9 }), "{error}");
        let whole = client.fetch(get(&server.uri("/")), Timeouts::default(), 10).await.unwrap();
        assert_eq!(whole.body(), "0123456789");
        server.end().await;
    });
}

#[test]
fn refused_connection_is_told_with_the_hosts_name() {
    on_each_driver(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = client(ClientConfig::default())
            .send(get(&format!("http://{address}/")))
            .await
            .unwrap_err();
        let ClientError::Connect { host, source } = error else { panic!("{error}") };
        assert_eq!(host, "127.0.0.1");
        assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

/// The server closes the kept connection after each answer without announcing it.
#[test]
fn request_on_a_connection_that_went_stale_is_sent_on_a_new_one() {
    on_each_driver(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (closed, mut has_closed) = luge_io::oneshot::channel();
        let server = thread::spawn(move || {
            let mut closed = Some(closed);
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                drop(stream);
                closed.take().into_iter().for_each(|closed| closed.send(()).unwrap());
            }
        });
        let client = client(ClientConfig::default());
        let uri = format!("http://{address}/");
        assert_eq!(text(client.send(get(&uri)).await.unwrap()).await, "ok");
        (&mut has_closed).await.unwrap();
        let request = Request::post(&uri).body(Body::from("again")).unwrap();
        assert_eq!(text(client.send(request).await.unwrap()).await, "ok");
        server.join().unwrap();
    });
}

#[test]
fn connections_over_the_limit_are_refused_and_idle_ones_make_room() {
    on_each_driver(|| async {
        let (enter, entered) = luge_io::oneshot::channel();
        let enter = RefCell::new(Some(enter));
        let idle = Running::start(ServerConfig::default(), echo);
        let busy = Running::start(ServerConfig::default(), move |request: Request<Incoming>, _| {
            let silent = request.uri().path() == "/silent";
            let enter = if silent { enter.take() } else { None };
            async move {
                let Some(enter) = enter else { return Response::new(Body::from("here")) };
                enter.send(()).unwrap();
                pending().await
            }
        });
        let client = client(ClientConfig { connections_max: 1, ..ClientConfig::default() });
        client.send(get(&idle.uri("/"))).await.unwrap();
        assert_eq!(text(client.send(get(&busy.uri("/"))).await.unwrap()).await, "here");
        let (leave, left) = luge_io::oneshot::channel::<()>();
        let (other, uri) = (client.clone(), busy.uri("/silent"));
        let silent = luge_io::task::spawn(async move {
            let request = std::pin::pin!(other.send(get(&uri)));
            drop(futures_util::future::select(request, left).await);
        });
        entered.await.unwrap();
        let error = client.send(get(&idle.uri("/"))).await.unwrap_err();
        assert!(matches!(error, ClientError::Exhausted { max: 1 }), "{error}");
        leave.send(()).unwrap();
        silent.await;
        idle.end().await;
        busy.end().await;
    });
}

/// Whom only those believe who are told to.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(parameters, key) }
    }

    pub(crate) fn server(&self) -> ServerTls {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let parameters = rcgen::CertificateParams::new(names).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    pub(crate) fn client(&self, config: ClientConfig) -> Client {
        let roots = Roots::Pem(self.certificate.pem().into_bytes());
        let tls = ClientTls::new(&roots).unwrap();
        Client::new(config, tls, Resolver::start().unwrap())
    }
}

#[test]
fn private_authority_is_believed_by_who_trusts_it_and_by_nobody_else() {
    on_each_driver(|| async {
        let authority = Authority::new();
        let config = ServerConfig { tls: Some(authority.server()), ..ServerConfig::default() };
        let server = Running::start(config, echo);
        let trusting = authority.client(ClientConfig::default());
        let body = vec![7; 300_000];
        for host in ["localhost", "127.0.0.1"] {
            let uri = format!("https://{host}:{}/", server.address.port());
            let request = Request::post(&uri).body(Body::from(body.clone())).unwrap();
            let response = trusting.send(request).await.unwrap();
            assert_eq!(response.into_body().read_limited(300_000).await.unwrap(), body);
            let error = client(ClientConfig::default()).send(get(&uri)).await.unwrap_err();
            let ClientError::Tls { host: named, .. } = error else { panic!("{error}") };
            assert_eq!(named, host);
        }
        server.end().await;
    });
}

#[test]
fn body_that_its_producer_gave_up_is_broken_and_not_short() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), |_request, _peer| async {
            let (mut sender, body) = Body::channel(4);
            drop(luge_io::task::spawn(async move { sender.send("half").await }));
            Response::new(body)
        });
        let response = client(ClientConfig::default()).send(get(&server.uri("/"))).await.unwrap();
        let error = response.into_body().read_limited(100).await.unwrap_err();
        assert!(matches!(error, BodyError::Broken(_)), "{error}");
        server.end().await;
    });
}
