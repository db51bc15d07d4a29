//! Connections that leave HTTP, at both ends and through a proxy.

use http::{Request, Response, StatusCode, header};
use luge_io::http::{Body, Client, ClientConfig, Incoming, ServerConfig, Upgraded, splice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::setup::{PATIENCE, Running, client, get, on_each_driver, text};

fn switching(body: Body) -> Response<Body> {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "shout")
        .body(body)
        .unwrap()
}

fn upgrade_request(uri: &str) -> Request<Body> {
    Request::get(uri)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "shout")
        .body(Body::empty())
        .unwrap()
}

/// Gives back what it reads, in capitals, until the other side has nothing more to say.
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

async fn shouting(_request: Request<Incoming>, _peer: std::net::SocketAddr) -> Response<Body> {
    switching(Body::upgrade(shout))
}

async fn speak(client: &Client, uri: &str) {
    let response = client.send(upgrade_request(uri)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut connection = response.into_body().upgraded().await.unwrap();
    for number in 0..50 {
        connection.write_all(format!("word {number:03}").as_bytes()).await.unwrap();
        let mut answer = [0; 8];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, format!("WORD {number:03}").as_bytes());
    }
    connection.shutdown().await.unwrap();
    assert_eq!(connection.read(&mut [0; 8]).await.unwrap(), 0);
}

#[test]
fn upgraded_connection_speaks_freely_both_ways() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), shouting);
        speak(&client(ClientConfig::default()), &server.uri("/")).await;
        server.end().await;
    });
}

#[test]
fn upgrade_passes_through_a_proxy_until_both_sides_have_ended() {
    on_each_driver(|| async {
        let upstream = Running::start(ServerConfig::default(), shouting);
        let (client_of_proxy, uri) = (client(ClientConfig::default()), upstream.uri("/"));
        let (report, reported) = luge_io::oneshot::channel();
        let report = std::cell::RefCell::new(Some(report));
        let proxy = Running::start(ServerConfig::default(), move |_request, _peer| {
            let (client, uri, report) = (client_of_proxy.clone(), uri.clone(), report.take());
            async move {
                let response = client.send(upgrade_request(&uri)).await.unwrap();
                assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
                let upstream = response.into_body();
                switching(Body::upgrade(move |downstream| async move {
                    let upstream = upstream.upgraded().await.unwrap();
                    let passed = splice(downstream, upstream, PATIENCE).await.unwrap();
                    report.unwrap().send(passed).unwrap();
                }))
            }
        });
        speak(&client(ClientConfig::default()), &proxy.uri("/")).await;
        assert_eq!(reported.await.unwrap(), (400, 400));
        proxy.end().await;
        upstream.end().await;
    });
}

#[test]
fn upgrade_that_is_not_granted_is_an_ordinary_response() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), |_request, _peer| async {
            Response::new(Body::from("plainly"))
        });
        let client = client(ClientConfig::default());
        for _ in 0..3 {
            let response = client.send(upgrade_request(&server.uri("/"))).await.unwrap();
            assert_eq!(text(response).await, "plainly");
        }
        let response = client.send(get(&server.uri("/"))).await.unwrap();
        assert!(response.into_body().upgraded().await.is_err());
        server.end().await;
    });
}
