//! Users on their way into memory: so many rooms a turn, of all users together,
//! so that nobody is held up by who is in very many.
//!
//! The requests of such a user wait; nothing has been done for them. The part of
//! the user that is here already is told of every change, as the users are that
//! are here whole.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{
    Effects, Shard,
    event::{ClientRequest, Effect, Ticket},
    layered,
    refusal::Refusal,
    request::refuse,
};
use crate::{
    id::{DeviceNumber, UserNumber},
    user::{Loading, User},
    view::View,
};

/// Who is on the way.
#[derive(Debug)]
pub(super) struct Loads {
    users: BTreeMap<UserNumber, Load>,
    /// The same, the first first.
    queue: VecDeque<UserNumber>,
    /// Requests that wait.
    waiting: usize,
    /// Rooms that may still be read in this turn.
    rooms_left: usize,
    /// Whether a further turn is on its way.
    continues: bool,
}

/// A user on the way.
#[derive(Debug)]
struct Load {
    id: Arc<str>,
    /// `None` before their turn has come.
    loading: Option<Loading>,
    /// Requests that wait for them, in the order in which they came, and when each
    /// did, unix milliseconds.
    requests: Vec<(ClientRequest, u64)>,
}

impl Loads {
    pub(super) fn new(rooms_max: usize) -> Self {
        Self {
            users: BTreeMap::new(),
            queue: VecDeque::new(),
            waiting: 0,
            rooms_left: rooms_max,
            continues: false,
        }
    }

    /// What is here of a user who is on the way.
    pub(super) fn user(&mut self, number: UserNumber) -> Option<&mut User> {
        self.users.get_mut(&number)?.loading.as_mut().map(Loading::user)
    }

    /// How many users there are.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A request waits no longer: its client went away.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        for load in self.users.values_mut() {
            let before = load.requests.len();
            load.requests.retain(|(request, _)| request.ticket != ticket);
            self.waiting -= before - load.requests.len();
        }
    }

    /// What the homeserver said of the tokens of a device before does not hold any
    /// more: the device was logged out.
    pub(super) fn doubt_tokens(&mut self, user: UserNumber, device: DeviceNumber) {
        let requests = self.users.get_mut(&user).into_iter().flat_map(|load| &mut load.requests);
        for (request, _) in requests.filter(|(request, _)| request.device == device) {
            request.confirmed = false;
        }
    }
}

impl Shard {
    /// Brings the user into memory, or begins to, where they are not there;
    /// false where memory is full.
    pub(super) fn load_user(
        &mut self,
        number: UserNumber,
        id: &Arc<str>,
        below: &dyn View,
        out: &mut Effects,
    ) -> bool {
        if self.users.contains_key(&number) || self.loads.users.contains_key(&number) {
            return true;
        }
        if self.users.len() + self.loads.len() >= self.limits.users_max {
            return false;
        }
        let load = Load { id: Arc::clone(id), loading: None, requests: Vec::new() };
        self.loads.users.insert(number, load);
        self.loads.queue.push_back(number);
        self.load_some(below, out);
        true
    }

    /// Has a request wait for its user, where they are on the way.
    pub(super) fn wait_for_user(
        &mut self,
        request: Box<ClientRequest>,
    ) -> Option<Box<ClientRequest>> {
        let Some(load) = self.loads.users.get_mut(&request.user) else { return Some(request) };
        load.requests.push((*request, self.now_ms));
        self.loads.waiting += 1;
        None
    }

    /// The turn that was asked for has come.
    pub(super) fn on_continue(&mut self, below: &dyn View, out: &mut Effects) {
        self.loads.continues = false;
        self.load_some(below, out);
    }

    /// At the end of a turn: the next one may read as much again, and has to come.
    pub(super) fn settle_loads(&mut self, out: &mut Effects) {
        self.loads.rooms_left = self.limits.load_rooms_max.max(1);
        if !self.loads.queue.is_empty() && !std::mem::replace(&mut self.loads.continues, true) {
            out.push(Effect::Continue);
        }
    }

    /// Reads as many rooms as the turn may.
    fn load_some(&mut self, below: &dyn View, out: &mut Effects) {
        while self.loads.rooms_left > 0
            && let Some(number) = self.loads.queue.front().copied()
        {
            if !self.load_rooms(number, below) {
                continue;
            }
            self.loads.queue.pop_front();
            let Some(Load { loading: Some(loading), requests, .. }) =
                self.loads.users.remove(&number)
            else {
                continue;
            };
            self.loads.waiting -= requests.len();
            self.add_user(loading.finish());
            for (request, came_ms) in requests {
                self.on_arrival(request, came_ms, below, out);
            }
        }
    }

    /// Reads rooms of one user; whether these were the last.
    fn load_rooms(&mut self, number: UserNumber, below: &dyn View) -> bool {
        let Some(load) = self.loads.users.get_mut(&number) else { return true };
        let view = layered(&self.world, below);
        let begin = || Loading::begin(number, Arc::clone(&load.id), &self.world, &view);
        let loading = load.loading.get_or_insert_with(begin);
        let read = loading.read(self.loads.rooms_left, &self.world, &view);
        // Who is in no room costs something too.
        let cost = read.rooms.len().max(1);
        self.loads.rooms_left = self.loads.rooms_left.saturating_sub(cost);
        for room in read.rooms {
            self.room_users.entry(room).or_default().insert(number);
        }
        read.is_whole
    }

    /// Nobody is brought into memory any more: who waits is told so.
    pub(super) fn end_loads(&mut self, out: &mut Effects) {
        self.loads.queue.clear();
        self.loads.waiting = 0;
        for (number, mut load) in std::mem::take(&mut self.loads.users) {
            let rooms = load.loading.as_mut().map(|loading| &loading.user().rooms);
            for room in rooms.into_iter().flat_map(|rooms| rooms.keys()) {
                self.forget_room_user(*room, number);
            }
            for (request, _) in load.requests {
                refuse(request.ticket, Refusal::stopping(), out);
            }
        }
    }
}
