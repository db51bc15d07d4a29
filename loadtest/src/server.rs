//! The simulated homeserver on the wire: one thread, one shard, one model.
//!
//! Requests and whoever holds a [`Handle`] act on the model in turn, on its thread; long polls look again when
//! something has happened to their user. What an answer says is none of this file's business.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use http::{HeaderValue, Response, header};
use luge_io::{
    driver::{Choice, DriverError},
    http::{Body, Incoming, ServerConfig, bind, listener::BindError, serve},
    mailbox::{Outbox, inbox},
    oneshot, shards,
    stop::Stop,
    task,
    time::{clock, sleep, timeout},
    turn::{self, Flow},
};

use crate::api::{Answer, Reply, Request, Wait};
use crate::conversation::{Conversation, Pace};
use crate::faults::Delivery;
use crate::model::{Homeserver, Milliseconds, Session, Size};

/// Acts that may wait for the thread at once.
const ACTS_MAX: usize = 1_024;
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Connections at once: Luge polls for each device with one of its own.
const CONNECTIONS_MAX: usize = 65_536;
/// How often typing that has run out is looked for.
const TICK: Duration = Duration::from_millis(500);
/// How long an act may take, the ones before it included.
const ACT_PATIENCE: Duration = Duration::from_mins(1);
/// How long connections may take to end when the server stops.
const STOP_PATIENCE: Duration = Duration::from_millis(200);

/// Why the simulated homeserver did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be had.
    #[error("the simulated homeserver cannot listen; choose another address")]
    Bind(#[from] BindError),
    /// No driver works here.
    #[error("the simulated homeserver has nothing to wait with")]
    Driver(#[from] DriverError),
    /// The thread did not start.
    #[error("the simulated homeserver's thread did not start")]
    Shard(#[from] shards::ShardError),
    /// The socket has no address.
    #[error("the simulated homeserver's socket is of no use")]
    Socket(#[from] io::Error),
}

/// The simulated homeserver has stopped, or did not get to the act in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the simulated homeserver does not answer; it has stopped or is overloaded")]
pub struct Gone;

type Act = Box<dyn FnOnce(&mut Homeserver, Milliseconds) + Send>;

enum Event {
    Act(Act),
    Talk(Option<Pace>),
    Tick,
    Stop,
}

/// A running simulated homeserver; dropping it stops it.
#[derive(Debug)]
pub struct Simulated {
    /// Where it listens, such as `http://127.0.0.1:40123`.
    pub url: String,
    /// A session of every account, in the order of user ids.
    pub users: Vec<Session>,
    handle: Handle,
    shards: Option<shards::Shards>,
}

/// The means to act on a running homeserver from any thread.
#[derive(Clone)]
pub struct Handle(Outbox<Event>);

impl fmt::Debug for Handle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Handle")
    }
}

impl Simulated {
    /// Fills a homeserver and serves it on a free port of this machine.
    pub fn start(size: &Size) -> Result<Self, StartError> {
        Self::serve(Homeserver::new(size, clock::now_ms()), SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Serves a homeserver that was made elsewhere.
    pub fn serve(mut homeserver: Homeserver, address: SocketAddr) -> Result<Self, StartError> {
        let driver = Choice::Auto.decide()?;
        let mut sockets = bind(address, 1)?;
        let Some(socket) = sockets.pop() else { return Err(StartError::Socket(no_socket())) };
        let url = format!("http://{}", socket.address());
        homeserver.set_base_url(&url);
        let users = homeserver.sessions();
        let (outbox, inbox) = inbox::<Event>(ACTS_MAX);
        let ticks = outbox.clone();
        let config = shards::Config { count: 1, pin: false, ..shards::Config::new(driver) };
        let mut parts = Some((homeserver, socket, inbox));
        let shards = shards::start(&config, |_| {
            let parts = parts.take();
            let ticks = ticks.clone();
            move |_context| async move {
                let Some((homeserver, socket, inbox)) = parts else { return };
                let desk = Rc::new(RefCell::new(Desk::new(homeserver)));
                let stop = Stop::new();
                let served = Rc::clone(&desk);
                let handler = move |request, _peer| respond(Rc::clone(&served), request);
                let config =
                    ServerConfig { connections_max: CONNECTIONS_MAX, ..ServerConfig::default() };
                let server = serve(socket, Rc::new(handler), config, stop.clone());
                let server = task::spawn(server);
                drop(task::spawn(tick(ticks, stop.clone())));
                let machine = Machine { desk, stop: stop.clone() };
                // The loop ends by its stop event; an error of its own turnstile ends the server just the same.
                drop(turn::run(machine, inbox).await);
                stop.fire(STOP_PATIENCE);
                drop(server.await);
            }
        })?;
        Ok(Self { url, users, handle: Handle(outbox), shards: Some(shards) })
    }

    /// The means to act on the homeserver, to be passed around.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Does something to the homeserver, on its thread, and waits for the outcome. Not to be called on a shard.
    pub fn act<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Homeserver, Milliseconds) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        self.handle.act(act)
    }

    /// Stops serving, and waits until the thread has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(shards) = self.shards.take() {
            // Refused only by a thread that has ended already, or that a thousand acts keep busy.
            while let Err(luge_io::mailbox::SendError::Full(_)) =
                self.handle.0.try_send(Event::Stop)
            {
                std::thread::yield_now();
            }
            shards.join();
        }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.end();
    }
}

impl Handle {
    /// As [`Simulated::act`].
    pub fn act<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Homeserver, Milliseconds) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let mut outcome = self.begin(act)?;
        outcome.wait_blocking(ACT_PATIENCE).and_then(Result::ok).ok_or(Gone)
    }

    /// As [`Handle::act`], for a shard: the outcome is awaited.
    pub fn begin<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Homeserver, Milliseconds) -> R + Send + 'static,
    ) -> Result<oneshot::Receiver<R>, Gone> {
        let (sender, receiver) = oneshot::channel();
        let act: Act = Box::new(move |homeserver, now| {
            // Who asked may have given up waiting.
            drop(sender.send(act(homeserver, now)));
        });
        self.0.try_send(Event::Act(act)).map_err(|_| Gone)?;
        Ok(receiver)
    }

    /// Lets people talk at this pace from now on.
    pub fn talk(&self, pace: Pace) -> Result<(), Gone> {
        self.0.try_send(Event::Talk(Some(pace))).map_err(|_| Gone)
    }

    /// Lets them fall silent.
    pub fn hush(&self) -> Result<(), Gone> {
        self.0.try_send(Event::Talk(None)).map_err(|_| Gone)
    }
}

/// The model, and who waits for what.
struct Desk {
    homeserver: Homeserver,
    waiting: BTreeMap<String, Vec<oneshot::Sender<()>>>,
    /// Counts conversations, so that one that was replaced ends.
    talk: u64,
}

impl Desk {
    fn new(homeserver: Homeserver) -> Self {
        Self { homeserver, waiting: BTreeMap::new(), talk: 0 }
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Homeserver, Milliseconds) -> R) -> R {
        let outcome = act(&mut self.homeserver, clock::now_ms());
        let woken: BTreeSet<String> = self.homeserver.take_woken();
        for user_id in woken {
            for waiting in self.waiting.remove(&user_id).into_iter().flatten() {
                // A poll that has ended meanwhile needs no waking.
                let _ = waiting.send(());
            }
        }
        outcome
    }

    fn wait_for(&mut self, user_id: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let waiting = self.waiting.entry(user_id.to_owned()).or_default();
        waiting.retain(|waiting| !waiting.is_abandoned());
        waiting.push(sender);
        receiver
    }
}

struct Machine {
    desk: Rc<RefCell<Desk>>,
    stop: Stop,
}

impl turn::Machine for Machine {
    type Event = Event;

    fn turn(&mut self, events: &mut Vec<Event>) -> Flow {
        for event in events.drain(..) {
            let mut desk = self.desk.borrow_mut();
            match event {
                Event::Act(act) => desk.act(act),
                Event::Tick => desk.act(Homeserver::tick),
                Event::Talk(pace) => {
                    desk.talk += 1;
                    if let Some(pace) = pace {
                        let conversation = Conversation::new(&desk.homeserver, pace);
                        let talk = converse(Rc::clone(&self.desk), conversation, desk.talk);
                        drop(task::spawn(until_stopped(talk, self.stop.clone())));
                    }
                }
                Event::Stop => return Flow::Stop,
            }
        }
        Flow::Continue
    }
}

async fn tick(outbox: Outbox<Event>, stop: Stop) {
    while stop.deadline().is_none() {
        sleep(TICK).await;
        // A full inbox ticks soon enough by itself.
        drop(outbox.try_send(Event::Tick));
    }
}

async fn until_stopped(talk: impl Future<Output = ()>, stop: Stop) {
    let mut talk = std::pin::pin!(talk);
    while stop.deadline().is_none() && timeout(TICK, talk.as_mut()).await.is_err() {}
}

async fn converse(desk: Rc<RefCell<Desk>>, mut conversation: Conversation, number: u64) {
    loop {
        let next = {
            let mut desk = desk.borrow_mut();
            if desk.talk != number {
                return;
            }
            desk.act(|homeserver, now| conversation.step(homeserver, now))
        };
        sleep(Duration::from_millis(next.saturating_sub(clock::now_ms()).max(1))).await;
    }
}

async fn respond(desk: Rc<RefCell<Desk>>, incoming: http::Request<Incoming>) -> Response<Body> {
    let (head, body) = incoming.into_parts();
    let Ok(body) = body.read_limited(BODY_BYTES_MAX).await else {
        let error = r#"{"errcode":"M_TOO_LARGE","error":"content too large"}"#;
        let mut response = Response::new(Body::from(error));
        *response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
        return response;
    };
    let authorization =
        head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let mut request = Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        token: authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
        body: body.to_vec(),
        waiting_until: None,
    };
    loop {
        let answer = desk.borrow_mut().act(|homeserver, now| homeserver.handle(&request, now));
        match answer {
            Answer::Ready(reply) => return deliver(reply).await,
            Answer::Wait(Wait { user_id, until }) => {
                request.waiting_until = Some(until);
                let woken = desk.borrow_mut().wait_for(&user_id);
                let left = Duration::from_millis(until.saturating_sub(clock::now_ms()));
                // Woken or not, the request is looked at again, and knows itself whether its time is over.
                let _ = timeout(left, woken).await;
            }
        }
    }
}

async fn deliver(reply: Reply) -> Response<Body> {
    let length = reply.body.len();
    let body = match reply.delivery {
        Delivery::Whole => Body::from(reply.body),
        Delivery::Delayed(milliseconds) => {
            sleep(Duration::from_millis(milliseconds)).await;
            Body::from(reply.body)
        }
        Delivery::Truncated => {
            let (mut sender, body) = Body::channel(1);
            let half = reply.body[..length / 2].to_vec();
            // Who does not read on misses the break as well.
            let _ = sender.send(half).await;
            body
        }
        Delivery::Dropped => Body::channel(1).1,
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(reply.status).unwrap_or(http::StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if reply.delivery == Delivery::Truncated {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(seconds) = reply.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn no_socket() -> io::Error {
    io::Error::other("one socket was asked for and none was bound")
}
