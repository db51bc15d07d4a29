//! Random histories, told by three pollers that race each other: what is known
//! in the end is the truth, and at no time is anything shown out of order.

use std::sync::Arc;

use luge_core::{
    gate::Gate,
    id::Sequence,
    ledger::{Command, Polled},
    record::{Membership, UserRoomRecord, key},
    upstream::SyncBatch,
    user::User,
    view::{Table, View},
    world::{Room, World},
};
use proptest::prelude::*;

use crate::{
    model::{Homeserver, room_id},
    table::{ALICE, BOB, Books, CAROL, DAVE, Who, entries},
};

const ROOMS: usize = 2;

#[derive(Clone, Debug)]
enum Action {
    /// A few messages.
    Say(usize, usize),
    /// A name or a topic.
    Set(usize, bool),
    /// Somebody who is not here comes or goes.
    Other(usize, bool, bool),
    /// Bob comes, goes, is invited.
    Bob(usize, u8),
    /// A poller's request is answered.
    Ask(usize),
    /// The answer arrives.
    Deliver(usize),
    /// An answer that was taken in before arrives again.
    Repeat(usize),
    /// Luge starts again: answers on their way are lost.
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let room = 0..ROOMS;
    prop_oneof![
        4 => (room.clone(), 1..7_usize).prop_map(|(room, count)| Action::Say(room, count)),
        2 => (room.clone(), any::<bool>()).prop_map(|(room, name)| Action::Set(room, name)),
        2 => (room.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(room, who, comes)| Action::Other(room, who, comes)),
        2 => (room, 0..4_u8).prop_map(|(room, what)| Action::Bob(room, what)),
        5 => (0..3_usize).prop_map(Action::Ask),
        5 => (0..3_usize).prop_map(Action::Deliver),
        1 => any::<usize>().prop_map(Action::Repeat),
        1 => Just(Action::Restart),
    ]
}

/// An answer on its way.
type Answer = (Option<String>, u64, SyncBatch);

struct Play {
    books: Books,
    homeserver: Homeserver,
    pollers: Vec<(Who, &'static str)>,
    in_flight: Vec<Option<Answer>>,
    taken_in: Vec<(Who, Answer)>,
}

impl Play {
    fn new(limit: usize, state_after: bool) -> Self {
        let mut books = Books::new();
        let mut homeserver = Homeserver::new(limit, state_after);
        for room in 0..ROOMS {
            homeserver.create(room, books.now_ms);
            homeserver.member(room, books.now_ms, ALICE, "join");
            homeserver.member(room, books.now_ms, BOB, "join");
        }
        let pollers = [(ALICE, "phone"), (BOB, "phone"), (BOB, "laptop")];
        let pollers = pollers.map(|(user_id, device)| (books.sign_in(user_id, device), user_id));
        let in_flight = vec![None; pollers.len()];
        Self { books, homeserver, pollers: pollers.to_vec(), in_flight, taken_in: Vec::new() }
    }

    fn act(&mut self, action: Action) {
        self.books.now_ms += 10;
        let now_ms = self.books.now_ms;
        match action {
            Action::Say(room, count) => {
                for further in 0..count {
                    self.homeserver.say(room, now_ms + further as u64);
                }
            }
            Action::Set(room, name) => {
                let kind = if name { "m.room.name" } else { "m.room.topic" };
                self.homeserver.set(room, now_ms, kind);
            }
            Action::Other(room, who, comes) => {
                let user_id = if who { CAROL } else { DAVE };
                self.homeserver.member(room, now_ms, user_id, if comes { "join" } else { "leave" });
            }
            Action::Bob(room, what) => {
                let is = ["join", "join", "leave", "invite"][usize::from(what)];
                self.homeserver.member(room, now_ms, BOB, is);
            }
            Action::Ask(poller) => self.ask(poller),
            Action::Deliver(poller) => self.deliver(poller),
            Action::Repeat(which) => {
                if !self.taken_in.is_empty() {
                    let (who, answer) = self.taken_in[which % self.taken_in.len()].clone();
                    self.take_in(who, answer);
                    self.check_order();
                }
            }
            Action::Restart => self.restart(),
        }
    }

    fn ask(&mut self, poller: usize) {
        if self.in_flight[poller].is_none() {
            let (who, user_id) = self.pollers[poller];
            let since = self.books.device(who).expect("the device is known").since;
            let position = since.as_deref().map_or(0, |since| since.parse().expect("a position"));
            let batch = self.homeserver.answer(user_id, position, ROOMS);
            self.in_flight[poller] = Some((since, self.books.now_ms, batch));
        }
    }

    fn deliver(&mut self, poller: usize) {
        let Some(answer) = self.in_flight[poller].take() else { return };
        let (who, _) = self.pollers[poller];
        self.taken_in.push((who, answer.clone()));
        self.take_in(who, answer.clone());
        self.check_order();
        // The very same once more.
        let before = self.everything();
        let changed = self.take_in(who, answer);
        assert!(!changed, "a repeated answer changes nothing for anybody");
        assert!(before == self.everything(), "a repeated answer changes no table");
    }

    /// Takes an answer in, an initial one room by room; true where anybody is
    /// concerned.
    fn take_in(&mut self, who: Who, (since, asked_ms, batch): Answer) -> bool {
        let mut parts = vec![batch];
        if since.is_none() {
            let rooms = std::mem::take(&mut parts[0].rooms);
            let of_room = |room| SyncBatch { rooms: vec![room], ..SyncBatch::default() };
            parts.splice(0..0, rooms.into_iter().map(of_room));
        }
        let last = parts.len() - 1;
        let mut changed = false;
        for (index, batch) in parts.into_iter().enumerate() {
            let applied = self.books.apply(Command::Polled(Box::new(Polled {
                user: who.user,
                device: who.device,
                since: since.clone(),
                with_rooms: true,
                last_part: index == last,
                asked_ms,
                may_repeat: false,
                batch,
            })));
            let change = applied.change;
            changed |=
                !change.rooms.is_empty() || change.users.iter().any(|it| !it.rooms.is_empty());
        }
        changed
    }

    fn everything(&self) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
        // Numbers may be skipped.
        let tables = Table::ALL.into_iter().filter(|table| *table != Table::Meta);
        tables.map(|table| entries(&self.books.tables, table)).collect()
    }

    fn restart(&mut self) {
        let now_ms = self.books.now_ms;
        let books = Books::open(self.books.tables.clone(), now_ms);
        let before = std::mem::replace(&mut self.books, books).world;
        let after = &self.books.world;
        // What was told lately is not kept.
        let kept = |room: &Arc<Room>| Room { lately: None, ..(**room).clone() };
        let rooms = |world: &World| world.rooms.iter().map(kept).collect::<Vec<_>>();
        assert_eq!(rooms(&before), rooms(after), "what is opened again is the same");
        assert_eq!(before.room_numbers, after.room_numbers);
        assert_eq!(before.user_ids, after.user_ids);
        assert_eq!(before.user_numbers, after.user_numbers);
        assert!(before.sequence <= after.sequence);
        self.in_flight.fill(None);
    }

    /// The positions, within the room's truth, of what a user is shown.
    fn shown(&self, poller: usize, room: usize) -> Option<Vec<usize>> {
        let (who, user_id) = self.pollers[poller];
        let books = &self.books;
        let facts = books.world.find_room(&room_id(room))?;
        let user = User::load(who.user, user_id.into(), &books.world, &books.tables);
        let gate = Gate::new(&books.tables, facts, &user, books.world.sequence)?;
        let stretch = gate.timeline(Sequence::default(), Sequence(u64::MAX), u64::MAX);
        let truth = self.homeserver.timeline(room);
        let place = |id: &str| truth.iter().position(|it| *it == id).expect("it happened");
        Some(stretch.events.iter().map(|event| place(&event.record.event_id)).collect())
    }

    /// At any time what is shown is a stretch of the truth without a hole.
    fn check_order(&self) {
        for poller in 0..2 {
            for room in 0..ROOMS {
                let Some(shown) = self.shown(poller, room) else { continue };
                for pair in shown.windows(2) {
                    assert_eq!(
                        pair[0] + 1,
                        pair[1],
                        "room {room} as {} sees it: {shown:?}",
                        self.pollers[poller].1
                    );
                }
            }
        }
    }

    /// Once everything has arrived.
    fn check_truth(&mut self) {
        for _ in 0..2 {
            for poller in 0..self.pollers.len() {
                self.books.now_ms += 10;
                self.deliver(poller);
                self.ask(poller);
                self.deliver(poller);
            }
        }
        for room in 0..ROOMS {
            self.check_room(room);
        }
    }

    fn check_room(&self, room: usize) {
        let (books, homeserver) = (&self.books, &self.homeserver);
        let facts = books.world.find_room(&room_id(room)).expect("the room is known");
        let last = homeserver.timeline(room).len() - 1;
        for poller in 0..2 {
            let (who, user_id) = self.pollers[poller];
            let record =
                books.tables.get(Table::UserRooms, &key::user_room(who.user, facts.number));
            let record = record.and_then(UserRoomRecord::decode);
            let is = record.as_ref().map(|record| record.membership);
            let shown = self.shown(poller, room);
            match homeserver.membership(room, user_id, homeserver.now()) {
                "join" => {
                    assert_eq!(is, Some(Membership::Join), "{user_id} in room {room}");
                    let shown = shown.expect("a member sees the room");
                    assert_eq!(
                        shown.last(),
                        Some(&last),
                        "{user_id} sees the newest of room {room}"
                    );
                }
                "invite" => assert_eq!(is, Some(Membership::Invite), "{user_id} in room {room}"),
                _ => {
                    let over = [None, Some(Membership::Leave), Some(Membership::Kick)];
                    assert!(over.contains(&is), "{user_id} in room {room}: {is:?}");
                    let left = homeserver.member_since(room, user_id, homeserver.now());
                    let upto = homeserver.timeline(room);
                    let left = upto.iter().position(|id| id.ends_with(&format!("-{left}")));
                    let newest = shown.and_then(|shown| shown.last().copied());
                    assert!(newest <= left, "{user_id} sees nothing later: {newest:?} {left:?}");
                }
            }
        }
        let count = |is| homeserver.count(room, homeserver.now(), is);
        let counts = (facts.joined_count, facts.invited_count);
        assert_eq!(counts, (count("join"), count("invite")), "counts of room {room}");
        for ((kind, state_key), event_id) in homeserver.state_now(room) {
            let key = key::state(facts.number, kind, state_key);
            let record = books.tables.get(Table::State, &key);
            let record = record.and_then(luge_core::record::StateRecord::decode);
            let place = record.expect("the entry is known").place;
            let event = books.tables.get(Table::Events, &key::event(facts.number, place));
            let event = event.and_then(luge_core::record::EventRecord::decode);
            let holds = event.expect("the event is stored").event_id;
            assert_eq!(holds, event_id, "{kind} {state_key} of room {room}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn pollers_that_race_tell_the_truth_in_the_end(
        limit in 2..6_usize,
        state_after in any::<bool>(),
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let mut play = Play::new(limit, state_after);
        for action in actions {
            play.act(action);
        }
        play.check_truth();
    }
}
