//! Connections of one shard to upstream servers, kept between requests.
//!
//! A connection is either idle, in the pool, or leased to one request. A lease that is not given
//! back closes its connection: nothing that was cancelled half-way is ever used again.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    rc::{Rc, Weak},
    task::Poll,
    time::{Duration, Instant},
};

use hyper::client::conn::http1::{Connection, SendRequest};
use rustc_hash::FxHashMap;

use crate::{
    gate::{Gate, Permit},
    http::{body::BodyError, connect::Outgoing, upgrade::Upgraded},
    hyper_stream::HyperStream,
    oneshot, task,
    time::{sleep, timeout},
};

/// A connection that answered is ready for the next request when it has been polled once more; one
/// that is not by then is still sending its request, and is closed.
const READY_MAX: Duration = Duration::from_millis(100);

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) secure: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

pub(crate) struct Pool {
    idle: RefCell<FxHashMap<Rc<Target>, VecDeque<Idle>>>,
    idle_per_target_max: usize,
    idle_timeout: Duration,
    connections: Gate,
    sweeping: Cell<bool>,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// A connection's handle. Dropping it ends the connection's task.
struct Link {
    sender: SendRequest<Outgoing>,
    leased: Rc<Cell<bool>>,
    taken_over: oneshot::Receiver<Upgraded>,
    _alive: oneshot::Sender<()>,
}

/// The right to send one request on a connection.
pub(crate) struct Lease {
    link: Link,
    target: Rc<Target>,
    pool: Weak<Pool>,
}

impl Pool {
    pub(crate) fn new(
        connections_max: usize,
        idle_per_target_max: usize,
        idle_timeout: Duration,
    ) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            idle_per_target_max,
            idle_timeout,
            connections: Gate::new(connections_max),
            sweeping: Cell::new(false),
        })
    }

    /// Room for one more connection, if there is any. Idle ones make room.
    pub(crate) async fn room(&self) -> Option<Permit> {
        if let Some(permit) = self.connections.try_enter() {
            return Some(permit);
        }
        // Their permits come back when their tasks have seen that nobody wants them.
        drop(self.idle.take());
        timeout(READY_MAX, self.connections.enter()).await.ok()
    }

    /// An idle connection that still seems to be open; the one used last, so that others may age.
    pub(crate) async fn check_out(self: &Rc<Self>, target: &Rc<Target>) -> Option<Lease> {
        loop {
            let mut link = self.pop(target)?;
            let ready = timeout(READY_MAX, link.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                link.leased.set(true);
                return Some(self.lease(link, target));
            }
        }
    }

    /// Runs a new connection and leases it.
    pub(crate) fn open(
        self: &Rc<Self>,
        target: &Rc<Target>,
        sender: SendRequest<Outgoing>,
        connection: Connection<HyperStream, Outgoing>,
        permit: Permit,
    ) -> Lease {
        let (alive, abandoned) = oneshot::channel();
        let (hand_over, taken_over) = oneshot::channel();
        let leased = Rc::new(Cell::new(true));
        let in_use = Rc::clone(&leased);
        drop(task::spawn(async move {
            let ended = run(connection, abandoned).await;
            drop(permit);
            if let Some(connection) = ended
                && in_use.get()
            {
                let parts = connection.into_parts();
                // Nobody asks for it unless the response was an upgrade.
                drop(hand_over.send(Upgraded::new(parts.io.stream, parts.read_buf)));
            }
        }));
        self.lease(Link { sender, leased, taken_over, _alive: alive }, target)
    }

    fn lease(self: &Rc<Self>, link: Link, target: &Rc<Target>) -> Lease {
        Lease { link, target: Rc::clone(target), pool: Rc::downgrade(self) }
    }

    fn pop(&self, target: &Rc<Target>) -> Option<Link> {
        loop {
            let idle = self.idle.borrow_mut().get_mut(target)?.pop_back()?;
            if self.is_fresh(&idle) {
                return Some(idle.link);
            }
        }
    }

    fn is_fresh(&self, idle: &Idle) -> bool {
        !idle.link.sender.is_closed() && idle.since.elapsed() < self.idle_timeout
    }

    fn push(self: &Rc<Self>, target: Rc<Target>, link: Link) {
        let evicted = {
            let mut idle = self.idle.borrow_mut();
            let line = idle.entry(target).or_default();
            line.push_back(Idle { link, since: Instant::now() });
            if self.idle_per_target_max < line.len() { line.pop_front() } else { None }
        };
        drop(evicted);
        if !self.sweeping.replace(true) {
            drop(task::spawn(sweep(Rc::downgrade(self), self.idle_timeout)));
        }
    }

    /// Closes what is no longer of use; false when nothing is left.
    fn sweep(&self) -> bool {
        let mut idle = self.idle.take();
        for line in idle.values_mut() {
            line.retain(|idle| self.is_fresh(idle));
        }
        idle.retain(|_, line| !line.is_empty());
        let left = !idle.is_empty();
        self.idle.replace(idle);
        left
    }
}

async fn sweep(pool: Weak<Pool>, idle_timeout: Duration) {
    loop {
        sleep(idle_timeout / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.sweep() {
            pool.sweeping.set(false);
            return;
        }
    }
}

/// Drives a connection until it ends, or nobody wants it any more.
async fn run(
    mut connection: Connection<HyperStream, Outgoing>,
    abandoned: oneshot::Receiver<()>,
) -> Option<Connection<HyperStream, Outgoing>> {
    let mut abandoned = pin!(abandoned);
    let ended = poll_fn(|context| {
        if abandoned.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        connection.poll_without_shutdown(context).map(Some)
    })
    .await?;
    match ended {
        Ok(()) => Some(connection),
        Err(error) => {
            tracing::debug!(%error, "a connection to upstream broke");
            None
        }
    }
}

impl Lease {
    pub(crate) fn sender(&mut self) -> &mut SendRequest<Outgoing> {
        &mut self.link.sender
    }

    /// The response has been read to its end.
    pub(crate) fn check_in(self) {
        let Some(pool) = self.pool.upgrade() else { return };
        if !self.link.sender.is_closed() {
            self.link.leased.set(false);
            pool.push(self.target, self.link);
        }
    }

    /// The response was an upgrade.
    pub(crate) async fn upgraded(self) -> Result<Upgraded, BodyError> {
        self.link.taken_over.await.map_err(BodyError::broken)
    }
}
