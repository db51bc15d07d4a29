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

use bytes::Bytes;
use hyper::client::conn::http1::{Connection, SendRequest};
use rustc_hash::FxHashMap;

use crate::{
    gate::{Gate, Permit},
    http::{body::BodyError, connect::Outgoing, upgrade::Upgraded},
    hyper_stream::{HyperStream, Sent},
    oneshot,
    stream::Stream,
    task,
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
    sent: Rc<Cell<Sent>>,
    detached: oneshot::Receiver<Detached>,
    /// Sending puts hyper away.
    alive: oneshot::Sender<()>,
}

/// A connection without its hyper.
pub(crate) struct Detached {
    pub(crate) stream: Stream,
    /// What hyper had read and not used.
    pub(crate) ahead: Bytes,
    pub(crate) permit: Permit,
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
        sent: Rc<Cell<Sent>>,
        permit: Permit,
    ) -> Lease {
        let (alive, leave) = oneshot::channel();
        let (hand_over, detached) = oneshot::channel();
        let leased = Rc::new(Cell::new(true));
        let in_use = Rc::clone(&leased);
        drop(task::spawn(async move {
            if let Some(connection) = run(connection, leave).await
                && in_use.get()
            {
                let parts = connection.into_parts();
                let stream = parts.io.stream;
                // One without content may still keep hyper's buffer.
                let ahead = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
                // Nobody asks for it unless the response was an upgrade, or takes long.
                drop(hand_over.send(Detached { stream, ahead, permit }));
            }
        }));
        self.lease(Link { sender, leased, sent, detached, alive }, target)
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

/// Drives a connection until it ends, or nobody wants it any more, or its hyper.
async fn run(
    mut connection: Connection<HyperStream, Outgoing>,
    leave: oneshot::Receiver<()>,
) -> Option<Connection<HyperStream, Outgoing>> {
    let mut leave = pin!(leave);
    let ended = poll_fn(|context| match leave.as_mut().poll(context) {
        // Before hyper is polled: it would take in that nobody waits for its response.
        Poll::Ready(Ok(())) => Poll::Ready(Some(Ok(()))),
        Poll::Ready(Err(_)) => Poll::Ready(None),
        Poll::Pending => connection.poll_without_shutdown(context).map(Some),
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

    /// Where the connection leads.
    pub(crate) fn target(&self) -> Rc<Target> {
        Rc::clone(&self.target)
    }

    /// Whether all of the request is on its way.
    pub(crate) fn sent(&self) -> &Cell<Sent> {
        &self.link.sent
    }

    /// Takes hyper away from the connection, at whatever it is.
    pub(crate) async fn detach(self) -> Result<Detached, oneshot::Abandoned> {
        let Link { alive, detached, sender, .. } = self.link;
        // It may just have ended by itself, which shows in what it leaves.
        let _ended = alive.send(());
        let detached = detached.await;
        drop(sender);
        detached
    }

    /// The response was an upgrade.
    pub(crate) async fn upgraded(self) -> Result<Upgraded, BodyError> {
        let Detached { stream, ahead, permit } =
            self.link.detached.await.map_err(BodyError::broken)?;
        drop(permit);
        Ok(Upgraded::new(stream, ahead))
    }
}
