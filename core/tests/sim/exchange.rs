//! Between clients and shards: requests, their cancelling, answers, losses.

use luge_core::{
    dialect::{RequestLimits, simplified},
    shard::{ClientRequest, Event, Ticket},
};
use serde_json::Value;

use crate::{
    log,
    simulation::{Job, Simulation, token},
};

impl Simulation {
    pub(crate) fn client(&mut self, at: usize) {
        if self.stopping {
            return;
        }
        if let Some((ticket, _)) = self.connections[at].waiting.clone() {
            // Cancel, and ask again, with the same position.
            let abandons = !self.calm && self.random.chance(150);
            if !abandons || self.connections[at].answered {
                return;
            }
            self.connections[at].waiting = None;
            self.request(at, Event::Abandoned(ticket));
        }
        if !self.calm && self.random.chance(20) {
            self.connections[at].reset();
        }
        self.choose(at);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let connection = &mut self.connections[at];
        connection.waiting = Some((ticket, connection.wanted.clone()));
        connection.answered = false;
        let connection = &self.connections[at];
        let mut query = vec![("timeout".to_owned(), connection.wanted.timeout_ms.to_string())];
        query.extend(connection.position.iter().map(|pos| ("pos".to_owned(), pos.clone())));
        let user_id = crate::homeserver::user_id(connection.user);
        let body = connection.body();
        let request =
            simplified::parse(&query, body.as_bytes(), &user_id, &RequestLimits::default())
                .expect("a sound request");
        let numbers = &self.numbers[connection.device];
        let request = ClientRequest {
            ticket,
            user: numbers.user,
            user_id: user_id.into(),
            device: numbers.device,
            token: token(connection.device, numbers.token),
            confirmed: false,
            request,
        };
        self.by_ticket.insert(ticket, at);
        self.request(at, Event::Request(Box::new(request)));
        let delay_ms = self.random.between(10, 4_000);
        self.push(delay_ms, Job::Client(at));
    }

    /// What one connection sends stays in order.
    fn request(&mut self, at: usize, event: Event) {
        let shard = self.shard_of(self.numbers[self.connections[at].device].user);
        let at_ms = self.now_ms + self.random.between(1, 30);
        self.requests_ms[at] = self.requests_ms[at].max(at_ms);
        self.push_at(self.requests_ms[at], Job::Shard(shard, Box::new(event)));
    }

    pub(crate) fn answer(&mut self, at: usize, ticket: Ticket, status: u16, body: &str) {
        let connection = &mut self.connections[at];
        let Some((_, wanted)) = connection.waiting.take_if(|(waiting, _)| *waiting == ticket)
        else {
            return;
        };
        connection.answered = false;
        let lost = !self.calm && self.random.chance(100);
        if self.logs {
            log::answer(self.now_ms, connection, status, body, lost);
        }
        match status {
            200 if lost => {}
            200 => {
                let value: Value = serde_json::from_str(body).expect("an answer is JSON");
                connection.may_forget.take_if(|crashed| ticket > *crashed);
                connection.take_in(&value, &wanted);
            }
            400 => {
                assert!(body.contains("M_UNKNOWN_POS"), "{body}");
                assert!(connection.may_forget.is_some(), "a position is lost without a crash");
                connection.reset();
            }
            _ => {}
        }
        let delay_ms = if status == 200 { self.random.between(1, 30) } else { 200 };
        self.push(delay_ms, Job::Client(at));
    }
}
