//! Bodies that flow: chunk by chunk, both ways, and through a proxy.

use http::{Request, Response};
use luge_io::{
    http::{Body, ClientConfig, Incoming, ServerConfig},
    oneshot, task,
};

use crate::setup::{Running, client, echo, get, on_each_driver};

/// Each chunk is sent only after the one before has come back: nothing on the way waits for more.
#[test]
fn chunk_comes_back_before_the_next_one_is_sent() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), echo);
        let (mut sender, body) = Body::channel(1);
        let request = Request::post(server.uri("/")).body(body).unwrap();
        let mut response = client(ClientConfig::default()).send(request).await.unwrap().into_body();
        for number in 0..100 {
            let chunk = format!("chunk {number}");
            sender.send(chunk.clone()).await.unwrap();
            let mut back = Vec::new();
            while back.len() < chunk.len() {
                back.extend_from_slice(&response.chunk().await.unwrap().unwrap());
            }
            assert_eq!(back, chunk.as_bytes());
        }
        sender.finish();
        assert!(response.chunk().await.is_none());
        server.end().await;
    });
}

/// The producer is held back by a reader that does not read: of a body without end only what the
/// buffers hold is produced.
#[test]
fn producer_waits_for_a_reader_that_does_not_read() {
    on_each_driver(|| async {
        let (stuck, is_stuck) = oneshot::channel();
        let stuck = std::cell::RefCell::new(Some(stuck));
        let server = Running::start(ServerConfig::default(), move |_request, _peer| {
            let stuck = stuck.take().unwrap();
            async move {
                let (mut sender, body) = Body::channel(1);
                drop(task::spawn(async move {
                    let mut sent = 0_u64;
                    // Until a chunk waits for longer than anything here takes.
                    let pause = std::time::Duration::from_millis(300);
                    while let Ok(Ok(())) =
                        luge_io::time::timeout(pause, sender.send(vec![0; 65_536])).await
                    {
                        sent += 65_536;
                    }
                    stuck.send(sent).unwrap();
                }));
                Response::new(body)
            }
        });
        let response = client(ClientConfig::default()).send(get(&server.uri("/"))).await.unwrap();
        let sent = is_stuck.await.unwrap();
        assert!(0 < sent && sent < 64 << 20, "{sent}");
        drop(response);
        server.end().await;
    });
}

#[test]
fn proxy_passes_both_bodies_on_as_they_come() {
    on_each_driver(|| async {
        let upstream = Running::start(ServerConfig::default(), echo);
        let (client_of_proxy, uri) = (client(ClientConfig::default()), upstream.uri("/"));
        let proxy =
            Running::start(ServerConfig::default(), move |request: Request<Incoming>, _| {
                let (client, uri) = (client_of_proxy.clone(), uri.clone());
                async move {
                    let request =
                        Request::post(&uri).body(Body::from(request.into_body())).unwrap();
                    client.send(request).await.unwrap().map(Body::from)
                }
            });
        let chunks: Vec<_> =
            (0..2000_u32).map(|n| Ok(n.to_le_bytes().repeat(200).into())).collect();
        let expected: Vec<u8> = (0..2000_u32).flat_map(|n| n.to_le_bytes().repeat(200)).collect();
        let body = Body::stream(futures_util::stream::iter(chunks));
        let request = Request::post(proxy.uri("/")).body(body).unwrap();
        let response = client(ClientConfig::default()).send(request).await.unwrap();
        assert_eq!(response.into_body().read_limited(expected.len()).await.unwrap(), expected);
        proxy.end().await;
        upstream.end().await;
    });
}

#[test]
fn buffer_for_a_parser_has_the_room_it_asked_for() {
    on_each_driver(|| async {
        let server = Running::start(ServerConfig::default(), echo);
        let client = client(ClientConfig::default());
        for size in [0, 1, 100_000] {
            let request = Request::post(server.uri("/")).body(Body::from(vec![1; size])).unwrap();
            let body = client.send(request).await.unwrap().into_body();
            let buffer = body.read_limited_vec(100_000, 64).await.unwrap();
            assert_eq!(buffer.len(), size);
            assert!(size + 64 <= buffer.capacity());
        }
        server.end().await;
    });
}
