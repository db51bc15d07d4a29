//! The turn: messages into events, the state machine, effects into the world.

use std::rc::Rc;

use luge_core::{
    shard::{ClientRequest, Effects, Event, Shard},
    view::View,
};
use luge_io::{
    stop::Stop,
    time::{Tick, Ticker, clock},
    turn::{Flow, Machine},
};
use luge_store::Store;

use super::ports::Ports;
use crate::message::{Asked, Message};

/// A shard's state machine with what carries its effects out.
pub struct Driver {
    shard: Shard,
    effects: Effects,
    store: Store,
    ports: Rc<Ports>,
    ticker: Ticker,
    /// Ends the shard's listener.
    stop: Stop,
    stop_patience: std::time::Duration,
}

impl Driver {
    /// A driver for `shard`, which the ticker wakes.
    pub fn new(
        shard: Shard,
        store: Store,
        ports: Rc<Ports>,
        ticker: Ticker,
        stop: Stop,
        stop_patience: std::time::Duration,
    ) -> Self {
        Self { shard, effects: Effects::new(), store, ports, ticker, stop, stop_patience }
    }

    fn event(&self, message: Message) -> Option<Event> {
        match message {
            Message::Tick(tick) => {
                if tick.late_ms > LATE_MS {
                    let Tick { late_ms, cpu_ms, .. } = tick;
                    tracing::warn!(late_ms, cpu_ms, "a shard was held up");
                }
                None
            }
            Message::Delta(delta) => Some(Event::Delta(delta)),
            Message::Asked(asked) => Some(Event::Request(Box::new(self.admit(*asked)))),
            Message::Abandoned(ticket) => {
                self.ports.abandon(ticket);
                Some(Event::Abandoned(ticket))
            }
            Message::Event(event) => Some(event),
            Message::Hint(user, hint) => Some(Event::Hint { user, hint }),
            Message::Stop => {
                self.stop.fire(self.stop_patience);
                Some(Event::Stop)
            }
        }
    }

    fn admit(&self, asked: Asked) -> ClientRequest {
        self.ports.admit(asked.ticket, asked.reply);
        ClientRequest {
            ticket: asked.ticket,
            user: asked.user,
            user_id: asked.user_id,
            device: asked.device,
            token: asked.token,
            confirmed: asked.confirmed,
            request: asked.request,
        }
    }
}

/// A tick that is later than this is worth a line in the log.
const LATE_MS: u64 = 250;

/// Users whose requests are looked at in one turn. Their answers are on their
/// way, and their memory is free again, before the next have theirs: in a large
/// room thousands wait for one event.
const SETTLED_MAX: usize = 64;

impl Machine for Driver {
    type Event = Message;

    fn turn(&mut self, messages: &mut Vec<Message>) -> Flow {
        let mut events = vec![Event::Tick(clock::now_ms())];
        events.extend(messages.drain(..).filter_map(|message| self.event(message)));
        let (shard, effects) = (&mut self.shard, &mut self.effects);
        let mut left = false;
        // One read transaction for the whole turn, opened after its newest
        // message came, and ended with it (INV-5).
        let read = self.store.read(|reader| {
            let below: &dyn View = reader;
            for event in events {
                shard.apply(event, below, effects);
            }
            left = shard.settle_some(SETTLED_MAX, below, effects);
        });
        if let Err(error) = read {
            tracing::error!(%error, "a shard cannot read the store: ending; start Luge again");
            std::process::exit(1);
        }
        let flow = self.ports.perform(&mut self.effects);
        // The soonest tick that there may be offers the ledger again what it did not take.
        let due_ms = if self.ports.is_behind() { 0 } else { self.shard.due_ms() };
        self.ticker.wanted_at(clock::instant(due_ms));
        match flow {
            Flow::Continue if left => Flow::Again,
            flow => flow,
        }
    }
}
