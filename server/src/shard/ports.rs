//! What a shard's effects do: answers go out, polls and fetches are started,
//! commands go to the ledger.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use luge_core::{
    dialect,
    id::{DeviceNumber, UserNumber},
    ledger::Command,
    record::{DeviceRecord, key},
    shard::{
        Answered, Effect, Effects, Event, FetchOrder, PollOrder, PollOutcome, Refusal, Ticket,
        Token, Validation,
    },
    view::{Table, View},
};
use luge_io::{
    gate::Gate,
    mailbox::{Outbox, SendError},
    oneshot, task, time,
    turn::Flow,
};
use luge_store::{ReadError, Store};
use rustc_hash::FxHashMap;

use crate::{
    ledger::LedgerHandle,
    message::{Answer, Message},
    upstream::{self, Homeserver, Taker},
};

/// What the ports are made of.
pub struct PortsConfig {
    /// The shard's own inbox.
    pub inbox: Outbox<Message>,
    /// The ledger.
    pub ledger: LedgerHandle,
    /// The tables.
    pub store: Store,
    /// The homeserver.
    pub homeserver: Homeserver,
    /// What takes sync answers in.
    pub taker: Taker,
    /// Fetches in flight at once.
    pub fetches_max: usize,
    /// Commands that may wait for a ledger that takes none.
    pub backlog_max: usize,
}

/// One shard's ports. Lives on the shard's thread.
pub struct Ports {
    config: PortsConfig,
    replies: RefCell<FxHashMap<Ticket, oneshot::Sender<Answer>>>,
    polls: RefCell<FxHashMap<DeviceNumber, oneshot::Sender<()>>>,
    /// Commands that the ledger could not take yet, in order.
    backlog: RefCell<VecDeque<Box<Command>>>,
    fetches: Gate,
    drained: Cell<bool>,
}

impl Ports {
    /// Ports made of `config`.
    pub fn new(config: PortsConfig) -> Rc<Self> {
        let fetches = Gate::new(config.fetches_max);
        Rc::new(Self {
            config,
            replies: RefCell::default(),
            polls: RefCell::default(),
            backlog: RefCell::default(),
            fetches,
            drained: Cell::new(false),
        })
    }

    /// Notes where a request's answer goes.
    pub fn admit(&self, ticket: Ticket, reply: oneshot::Sender<Answer>) {
        self.replies.borrow_mut().insert(ticket, reply);
    }

    /// Nobody waits for this answer any more.
    pub fn abandon(&self, ticket: Ticket) {
        self.replies.borrow_mut().remove(&ticket);
    }

    /// Calls off every poll, and waits a moment for what is under way: a task
    /// that its shard's end cuts short would keep the store open.
    pub async fn wind_up(self: Rc<Self>) {
        for (_, cancel) in self.polls.borrow_mut().drain() {
            // The poll may just have ended by itself.
            let _ended = cancel.send(());
        }
        for _ in 0..WIND_UP_LOOKS {
            if Rc::strong_count(&self) == 1 {
                return;
            }
            time::sleep(WIND_UP_PAUSE).await;
        }
        tracing::debug!(tasks = Rc::strong_count(&self) - 1, "tasks are cut short");
    }

    /// Starts every effect of a turn.
    pub fn perform(self: &Rc<Self>, effects: &mut Effects) -> Flow {
        self.send_backlog();
        for effect in effects.drain(..) {
            match effect {
                Effect::Respond { ticket, answer } => self.respond(ticket, answer),
                Effect::Poll(order) => self.poll(order),
                Effect::CancelPoll(device) => {
                    if let Some(cancel) = self.polls.borrow_mut().remove(&device) {
                        // The poll may just have ended by itself.
                        let _ended = cancel.send(());
                    }
                }
                Effect::Validate { user, device, token } => self.validate(user, device, token),
                Effect::Fetch(order) => self.fetch(order),
                Effect::Ledger(command) => self.enqueue(command),
                Effect::Continue => self.tell(Event::Continue),
                Effect::Drained => self.drained.set(true),
            }
        }
        self.send_backlog();
        let done = self.drained.get() && self.backlog.borrow().is_empty();
        if done { Flow::Stop } else { Flow::Continue }
    }

    /// Whether commands wait for a ledger that took none a moment ago.
    pub fn is_behind(&self) -> bool {
        !self.backlog.borrow().is_empty()
    }

    /// Has a command wait for the ledger. Where too many do, those go that cost
    /// nothing but work: an acknowledgement comes again with the client's next
    /// request, a connection is written again when it next changes.
    fn enqueue(&self, command: Command) {
        let mut backlog = self.backlog.borrow_mut();
        let repeatable = matches!(command, Command::ToDevice { .. } | Command::Connections(_));
        if repeatable && backlog.len() >= self.config.backlog_max {
            tracing::warn!(
                "the ledger has too much to do: an acknowledgement or a connection waits"
            );
            return;
        }
        backlog.push_back(Box::new(command));
    }

    fn send_backlog(&self) {
        let mut backlog = self.backlog.borrow_mut();
        while let Some(command) = backlog.pop_front() {
            if let Err(command) = self.config.ledger.submit_quietly(*command) {
                backlog.push_front(command);
                break;
            }
        }
    }

    fn respond(&self, ticket: Ticket, answer: Answered) {
        let Some(reply) = self.replies.borrow_mut().remove(&ticket) else { return };
        let answer = match answer {
            Answered::Response(dialect, response) => {
                Answer { status: 200, body: dialect::write(dialect, &response) }
            }
            Answered::Refused(Refusal { status, body }) => Answer { status, body },
        };
        // A client that went away has been, or will be, reported apart.
        drop(reply.send(answer));
    }

    /// Tells the shard itself. Its inbox holds room for what its own tasks have
    /// to say (INV-3).
    /// Where it has none after all, the event waits: without it a device would
    /// never be polled again.
    fn tell(&self, event: Event) {
        let Err(SendError::Full(mut message)) = self.config.inbox.try_send(Message::Event(event))
        else {
            return;
        };
        tracing::error!("INV-3: a shard's inbox is full for its own events");
        let inbox = self.config.inbox.clone();
        drop(task::spawn(async move {
            while let Err(SendError::Full(again)) = inbox.try_send(message) {
                message = again;
                time::sleep(TELL_PAUSE).await;
            }
        }));
    }

    fn poll(self: &Rc<Self>, order: PollOrder) {
        let (cancel, cancelled) = oneshot::channel();
        self.polls.borrow_mut().insert(order.device, cancel);
        let ports = Rc::clone(self);
        drop(task::spawn(async move {
            let (user, device) = (order.user, order.device);
            let poll = pin!(upstream::poll(&ports.config.homeserver, &ports.config.taker, &order));
            if let Some(outcome) = unless(poll, cancelled).await {
                ports.polls.borrow_mut().remove(&device);
                ports.tell(Event::PollFinished { user, device, outcome });
            }
        }));
    }

    fn validate(self: &Rc<Self>, user: UserNumber, device: DeviceNumber, token: Token) {
        let ports = Rc::clone(self);
        drop(task::spawn(async move {
            let validation = match ports.names(user, device) {
                Ok(Some((user_id, device_id))) => {
                    let homeserver = &ports.config.homeserver;
                    upstream::validate(homeserver, &token, &user_id, &device_id).await
                }
                // It was purged a moment ago.
                Ok(None) => Validation::Refused(Refusal::logged_out()),
                // Not a 401, at which a client throws its session away: the
                // fault is here.
                Err(_) => Validation::Unknown(Refusal::new(
                    502,
                    "M_UNKNOWN",
                    "Luge cannot read what it knows of the device: ask again",
                )),
            };
            ports.tell(Event::Validated { user, device, token, validation });
        }));
    }

    /// The ids of a user and a device; `None` where the device is gone.
    fn names(
        &self,
        user: UserNumber,
        device: DeviceNumber,
    ) -> Result<Option<(String, String)>, ReadError> {
        let record = self.config.store.read(|reader| {
            reader.get(Table::Devices, &key::device(device)).and_then(DeviceRecord::decode)
        })?;
        let user_id = self.config.ledger.world().user_id(user).map(ToString::to_string);
        Ok(user_id.zip(record.map(|record| record.device_id)))
    }

    fn fetch(self: &Rc<Self>, order: FetchOrder) {
        let ports = Rc::clone(self);
        drop(task::spawn(async move {
            let permit = ports.fetches.enter().await;
            let config = &ports.config;
            let outcome = upstream::fetch(&config.homeserver, &config.taker, &order).await;
            drop(permit);
            ports.tell(Event::Fetched { want: order.want, outcome });
        }));
    }
}

/// Pause before an event is offered again to an inbox that is full.
const TELL_PAUSE: Duration = Duration::from_millis(50);
/// How often a shard that ends looks whether its tasks have.
const WIND_UP_LOOKS: usize = 200;
/// How long it waits between two looks.
const WIND_UP_PAUSE: Duration = Duration::from_millis(10);

/// What the future comes to, unless it is cancelled before.
async fn unless(
    mut future: Pin<&mut impl Future<Output = PollOutcome>>,
    cancelled: oneshot::Receiver<()>,
) -> Option<PollOutcome> {
    let mut cancelled = pin!(cancelled);
    poll_fn(|context| {
        if let Poll::Ready(outcome) = future.as_mut().poll(context) {
            return Poll::Ready(Some(outcome));
        }
        match cancelled.as_mut().poll(context) {
            Poll::Ready(Ok(())) => Poll::Ready(None),
            // A newer poll of the device took the place of the means to cancel
            // this one.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    })
    .await
}
