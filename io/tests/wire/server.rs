//! What the server promises its clients and its handlers.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use http::{Request, Response, StatusCode};
use luge_io::{
    http::{Body, BodyError, ClientConfig, ClientError, Incoming, ServerConfig},
    oneshot, task, time,
};

use crate::setup::{PATIENCE, Running, client, get, on_each_driver, text};

async fn echo(request: Request<Incoming>, _peer: SocketAddr) -> Response<Body> {
    Response::new(Body::from(request.into_body()))
}

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
