//! What each test of the wire starts with: a server on a free port, and a client.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use http::{Request, Response};
use luge_io::{
    dns::Resolver,
    driver::Driver,
    http::{Body, Client, ClientConfig, Handler, Incoming, ServerConfig, bind, serve},
    stop::Stop,
    task::{self, Task},
    tls::{ClientTls, Roots},
};

/// Long enough for a slow machine, and never waited for by a test that passes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Runs the test on each driver that works here.
pub(crate) fn on_each_driver<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for driver in Driver::available() {
        driver.block_on(test()).unwrap();
    }
}

/// A server that runs on this thread.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) task: Task<io::Result<()>>,
}

impl Running {
    pub(crate) fn start(config: ServerConfig, handler: impl Handler) -> Self {
        let socket = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let (address, stop) = (socket.address(), Stop::new());
        let task = task::spawn(serve(socket, Rc::new(handler), config, stop.clone()));
        Self { address, stop, task }
    }

    pub(crate) fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn end(self) {
        self.stop.fire(PATIENCE);
        self.task.await.unwrap();
    }
}

pub(crate) fn client(config: ClientConfig) -> Client {
    let tls = ClientTls::new(&Roots::Mozilla).unwrap();
    Client::new(config, tls, Resolver::start().unwrap())
}

pub(crate) fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

/// The handler that gives a request's body back, chunk by chunk.
pub(crate) async fn echo(request: Request<Incoming>, _peer: SocketAddr) -> Response<Body> {
    Response::new(Body::from(request.into_body()))
}

/// Reads a response of moderate size.
pub(crate) async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().read_limited(1 << 20).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}
