//! What each test starts with: a homeserver that answers as it is told, and a front before it.

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use luge_io::{
    dns::Resolver,
    driver::Driver,
    http::{Body, Client, ClientConfig, Handler, Incoming, ServerConfig, bind, serve},
    oneshot,
    stop::Stop,
    task::{self, Task},
    tls::{ClientTls, Roots},
};
use luge_server::front::{Front, FrontConfig, FrontHint};

/// Long enough for a slow machine, and never waited for by a test that passes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// More than any body in these tests.
pub(crate) const BYTES_MAX: usize = 8 << 20;

/// Runs the test on each driver that works here.
pub(crate) fn on_each_driver<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for driver in Driver::available() {
        driver.block_on(test()).unwrap();
    }
}

/// Runs what does not depend on the driver.
pub(crate) fn on_one_driver(test: impl Future<Output = ()>) {
    Driver::Epoll.block_on(test).unwrap();
}

/// A server on a free port of this thread.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Stop,
    task: Task<std::io::Result<()>>,
}

impl Running {
    pub(crate) fn start(handler: impl Handler) -> Self {
        let socket = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let (address, stop) = (socket.address(), Stop::new());
        let config = ServerConfig::default();
        let task = task::spawn(serve(socket, Rc::new(handler), config, stop.clone()));
        Self { address, stop, task }
    }

    pub(crate) async fn end(self) {
        self.stop.fire(PATIENCE);
        self.task.await.unwrap();
    }
}

/// A request as the homeserver saw it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A homeserver, a front before it, and a client before that.
pub(crate) struct Setup {
    pub(crate) client: Client,
    pub(crate) got: Rc<RefCell<Vec<Got>>>,
    pub(crate) hints: Rc<RefCell<Vec<FrontHint>>>,
    front: Running,
    homeserver: Running,
}

pub(crate) fn client() -> Client {
    let tls = ClientTls::new(&Roots::Mozilla).unwrap();
    Client::new(ClientConfig::default(), tls, Resolver::start().unwrap())
}

/// A front before the server at this address, and the hints that it gives.
pub(crate) fn front_before(
    address: SocketAddr,
    change: impl FnOnce(&mut FrontConfig),
) -> (Running, Rc<RefCell<Vec<FrontHint>>>) {
    let mut config = FrontConfig::new(&format!("http://{address}"), None).unwrap();
    change(&mut config);
    let hints = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&hints);
    let hear = move |hint| told.borrow_mut().push(hint);
    let front = Rc::new(Front::new(Rc::new(client()), config, hear));
    let handler = move |request, peer| {
        let front = Rc::clone(&front);
        async move { front.pass(request, peer).await }
    };
    (Running::start(handler), hints)
}

impl Setup {
    /// A homeserver that reads each request whole and answers it by `answer`.
    pub(crate) fn start(answer: impl Fn(&Got) -> Response<Body> + 'static) -> Self {
        Self::with(|_| {}, answer)
    }

    pub(crate) fn with(
        change: impl FnOnce(&mut FrontConfig),
        answer: impl Fn(&Got) -> Response<Body> + 'static,
    ) -> Self {
        let got = Rc::new(RefCell::new(Vec::new()));
        let (kept, answer) = (Rc::clone(&got), Rc::new(answer));
        let homeserver = Running::start(move |request: Request<Incoming>, _peer| {
            let (kept, answer) = (Rc::clone(&kept), Rc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = body.read_limited(BYTES_MAX).await.unwrap();
                let got = Got { method: head.method, uri: head.uri, headers: head.headers, body };
                kept.borrow_mut().push(got.clone());
                answer(&got)
            }
        });
        let (front, hints) = front_before(homeserver.address, change);
        Self { client: client(), got, hints, front, homeserver }
    }

    pub(crate) fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.front.address)
    }

    /// Sends a request with a token to the front and reads the answer whole.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(self.uri(path));
        let request = request.header("authorization", "Bearer secret");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Bytes> {
        let (head, body) = self.client.send(request).await.unwrap().into_parts();
        Response::from_parts(head, body.read_limited(BYTES_MAX).await.unwrap())
    }

    /// Sends these bytes to the front on a connection of their own, and reads until it closes.
    pub(crate) async fn raw(&self, bytes: &str) -> String {
        raw(self.front.address, bytes).await
    }

    pub(crate) fn last(&self) -> Got {
        self.got.borrow().last().cloned().expect("the homeserver was asked")
    }

    pub(crate) async fn end(self) {
        drop(self.client);
        self.front.end().await;
        self.homeserver.end().await;
    }
}

/// Speaks plain bytes from a thread of its own, since this one serves.
pub(crate) async fn raw(address: SocketAddr, bytes: &str) -> String {
    let (report, reported) = oneshot::channel();
    let bytes = bytes.to_owned();
    let thread = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A connection that is broken off is an outcome too.
        let _ = stream.read_to_end(&mut answer);
        report.send(String::from_utf8_lossy(&answer).into_owned()).unwrap();
    });
    let answer = reported.await.unwrap();
    thread.join().unwrap();
    answer
}

/// A JSON answer.
pub(crate) fn json(status: u16, body: &str) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

/// Bytes without a pattern that a mistake could keep.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..size).map(|_| next()).collect()
}
