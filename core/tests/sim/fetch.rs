//! What the homeserver gives apart from `/sync`, at the moment that it is asked.

use luge_core::{
    connection::{HistoryWant, Want},
    id::RoomNumber,
    ledger::{Command, History, MemberList, RoomState},
    shard::{Event, FetchOrder, FetchOutcome},
    upstream::{Limits, SyncEvent, parse_event},
};

use crate::{
    homeserver::{Is, MEMBER, Room, event_of, room_of, user_id},
    simulation::{Simulation, Then},
    visibility::Heard,
};

impl Simulation {
    /// Asks the homeserver, which may fail; what it gives may be overtaken on its
    /// way.
    pub(crate) fn fetch(&mut self, order: FetchOrder) {
        self.note(&format!("{:?}", order.want));
        let fails = !self.calm && self.random.chance(200);
        let mut heard = Heard::default();
        let commands = if fails { None } else { self.fetched(&order, &mut heard) };
        let Some(mut commands) = commands else {
            let shard = self.shard_of(order.user);
            return self
                .send(shard, Event::Fetched { want: order.want, outcome: FetchOutcome::Failed });
        };
        let last = commands.pop();
        for command in commands {
            self.command(command, Then::Nothing, Heard::default());
        }
        if let Some(last) = last {
            self.command(last, Then::Fetched(order.user, order.want), heard);
        }
    }

    fn fetched(&mut self, order: &FetchOrder, heard: &mut Heard) -> Option<Vec<Command>> {
        match &order.want {
            Want::PrevBatch(room, sequence, event_id) => {
                let token = format!("p{}-{}", order.room_id, event_of(event_id).1);
                Some(vec![Command::PrevBatch { room: *room, sequence: *sequence, token }])
            }
            Want::Members(room) => {
                let is_listed = |_: &str, is: Is| is.is_in_lists();
                Some(vec![self.members((order, *room), true, is_listed, heard)])
            }
            Want::Member(room, id) => {
                Some(vec![self.members((order, *room), false, |user_id, _| user_id == id, heard)])
            }
            Want::State(room) => self.state(order, *room, heard),
            Want::History(want) => self.history(order, want, heard),
            Want::JoinedRooms(user) => {
                let number = self.user_number(order);
                let rooms = self.homeserver.rooms.iter();
                let joined = rooms.filter(|room| room.membership(number) == Some(Is::Join));
                let rooms = joined.map(|room| room.id.clone()).collect();
                Some(vec![Command::JoinedRooms { user: *user, knew: order.knew, rooms }])
            }
        }
    }

    /// Who the order is for, as the homeserver numbers them.
    fn user_number(&self, order: &FetchOrder) -> usize {
        let user_id = self.book.world().user_id(order.user).expect("a user has an id");
        room_of(user_id)
    }

    fn members(
        &self,
        (order, room): (&FetchOrder, RoomNumber),
        complete: bool,
        is_wanted: impl Fn(&str, Is) -> bool,
        heard: &mut Heard,
    ) -> Command {
        let number = room_of(&order.room_id);
        let of = &self.homeserver.rooms[number];
        let members = of.members.iter().filter_map(|(user, steps)| {
            let step = steps.last()?;
            is_wanted(&user_id(*user), step.is).then_some(step.index)
        });
        let indices: Vec<usize> = members.collect();
        let events = events(of, &indices);
        self.tell_members(number, &indices, heard);
        if !complete {
            return Command::Members(MemberList { room, user: order.user, events, whole: None });
        }
        let who = (order.user, order.knew);
        let list = MemberList::in_parts(room, who, &events, usize::MAX).pop();
        Command::Members(list.expect("a list has one part at least"))
    }

    fn state(
        &self,
        order: &FetchOrder,
        room: RoomNumber,
        heard: &mut Heard,
    ) -> Option<Vec<Command>> {
        let number = room_of(&order.room_id);
        let of = &self.homeserver.rooms[number];
        let indices: Vec<usize> =
            of.state.values().filter_map(|indices| indices.last().copied()).collect();
        let user_id = self.book.world().user_id(order.user).expect("a user has an id").clone();
        let (who, events) = ((room, order.user), events(of, &indices));
        let parts = RoomState::in_parts(who, &user_id, order.knew, events)?;
        self.tell_members(number, &indices, heard);
        Some(parts.into_iter().map(|part| Command::State(Box::new(part))).collect())
    }

    fn history(
        &mut self,
        order: &FetchOrder,
        want: &HistoryWant,
        heard: &mut Heard,
    ) -> Option<Vec<Command>> {
        let (number, user) = (room_of(&order.room_id), self.user_number(order));
        let of = &self.homeserver.rooms[number];
        let (stay, end) = of.stays(user).last().copied()?;
        if end.is_some() {
            return None;
        }
        let before = event_of(&want.event_id).1;
        // A page is read as it lies there, and what is hidden left out of it.
        let from = before.saturating_sub(usize::try_from(want.limit).unwrap_or(0));
        let indices: Vec<usize> = (from..before).rev().filter(|at| of.shows(user, *at)).collect();
        let events = events(of, &indices);
        if let Some(oldest) = indices.last() {
            self.visibility.give((number, user, stay), *oldest);
        }
        self.tell_members(number, &indices, heard);
        let HistoryWant { room, user, before, .. } = *want;
        let end = (from > 0).then(|| format!("p{}-{from}", order.room_id));
        Some(vec![Command::History(Box::new(History { room, user, before, events, end }))])
    }

    fn tell_members(&self, room: usize, indices: &[usize], heard: &mut Heard) {
        let of = &self.homeserver.rooms[room];
        let members = indices.iter().filter(|index| of.events[**index].kind == MEMBER);
        heard.told.extend(members.map(|index| (room, *index)));
    }
}

fn events(room: &Room, indices: &[usize]) -> Vec<SyncEvent> {
    let event = |index: &usize| {
        parse_event(&room.events[*index].json, &Limits::default()).expect("a sound event")
    };
    indices.iter().map(event).collect()
}
