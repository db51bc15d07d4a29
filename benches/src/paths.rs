//! The hot paths, each as something that can be prepared and then run.
//!
//! Preparing is not measured, running is. Runs of one path differ in nothing
//! but numbers, so that each costs the same.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use luge_core::{
    dialect::simplified,
    ledger::Command,
    shard::{Effect, Event},
    upstream::{Limits, parse},
    user::User,
};

use crate::{
    account::{Shape, USER_ID, incremental_body, initial_body},
    luge::{LIVELY, Luge},
    plumbing,
};

/// A prepared run; what it returns grows with what was done.
pub type Run = Box<dyn FnOnce() -> usize>;

/// Makes runs of a path.
pub type Prepare = Box<dyn FnMut() -> Run>;

/// One path.
pub struct Path {
    /// Its name, in tables and in the baseline.
    pub name: &'static str,
    /// Builds what it works on.
    pub build: fn(&mut Accounts) -> Prepare,
}

/// Growth that is not allowed: the larger path may cost so much of the smaller.
pub struct Growth {
    /// The path on the small account.
    pub small: &'static str,
    /// The same path on the large one.
    pub large: &'static str,
    /// The most that the large one may cost, in per cent of the small one.
    pub percent_max: u64,
}

/// What must not grow with the account, or not faster than it does.
///
/// Who asks for a window of all rooms is answered with their ids, and has one more
/// room to be told of for each that there is; who has it all waits at no cost that
/// grows. What the shard's other users wait for costs nobody else anything.
pub const GROWTHS: &[Growth] = &[
    Growth { small: "publish, 100 rooms", large: "publish, 20000 rooms", percent_max: 110 },
    Growth {
        small: "first response, 100 rooms",
        large: "first response, 20000 rooms",
        percent_max: 130,
    },
    Growth {
        small: "empty response, 100 rooms",
        large: "empty response, 20000 rooms",
        percent_max: 120,
    },
    Growth { small: "live event, 100 rooms", large: "live event, 20000 rooms", percent_max: 120 },
    Growth { small: "wait, window of 1000", large: "wait, window of 20000", percent_max: 110 },
    Growth { small: "ledger, 10 members", large: "ledger, 500 members", percent_max: 120 },
    Growth {
        small: "live event, 10 neighbours",
        large: "live event, 500 neighbours",
        percent_max: 140,
    },
];

/// How often a path may ask for memory at most, whatever the baseline says.
pub const ALLOCATIONS_MAX: &[(&str, u64)] = &[
    // One, which is the world itself.
    ("publish, 100 rooms", 1),
    ("publish, 20000 rooms", 1),
    // One for the text, which is as large as it has to be.
    ("write a first response", 2),
    ("write 1000 rooms", 2),
];

/// Accounts that several paths work on, each built once.
#[derive(Default)]
pub struct Accounts {
    built: Vec<((usize, bool), Rc<RefCell<Luge>>)>,
}

impl Accounts {
    fn whole(&mut self) -> Rc<RefCell<Luge>> {
        self.of(Shape::whole(1_000))
    }

    fn lean(&mut self, rooms: usize) -> Rc<RefCell<Luge>> {
        self.of(Shape::lean(rooms))
    }

    fn of(&mut self, shape: Shape) -> Rc<RefCell<Luge>> {
        let key = (shape.rooms, shape.whole);
        if let Some((_, luge)) = self.built.iter().find(|(known, _)| *known == key) {
            return Rc::clone(luge);
        }
        let luge = Rc::new(RefCell::new(Luge::with_account(&initial_body(shape))));
        self.built.push((key, Rc::clone(&luge)));
        luge
    }
}

/// Everything that is measured, in the order of a fact's way from the
/// homeserver to the client.
pub const PATHS: &[Path] = &[
    Path { name: "parse, one message", build: |_| parse_body(incremental_body(LIVELY, 1)) },
    Path { name: "parse, 1000 rooms", build: |_| parse_body(initial_body(Shape::whole(1_000))) },
    Path { name: "ledger, one message", build: |accounts| ledger(accounts.whole()) },
    Path { name: "ledger, 10 members", build: |_| ledger(members(10)) },
    Path { name: "ledger, 500 members", build: |_| ledger(members(500)) },
    Path { name: "publish, 100 rooms", build: |accounts| publish(accounts.lean(100)) },
    Path { name: "publish, 20000 rooms", build: |accounts| publish(accounts.lean(20_000)) },
    Path { name: "load a user, 1000 rooms", build: |accounts| load(accounts.whole()) },
    Path { name: "first response, 100 rooms", build: |accounts| first(accounts.lean(100)) },
    Path { name: "first response, 1000 rooms", build: |accounts| first(accounts.whole()) },
    Path { name: "first response, 20000 rooms", build: |accounts| first(accounts.lean(20_000)) },
    Path { name: "all 1000 rooms", build: |accounts| all(accounts.whole()) },
    Path { name: "empty response, 100 rooms", build: |accounts| empty(accounts.lean(100), 19) },
    Path { name: "empty response, 1000 rooms", build: |accounts| empty(accounts.whole(), 19) },
    Path {
        name: "empty response, 20000 rooms",
        build: |accounts| empty(accounts.lean(20_000), 19),
    },
    Path { name: "empty response, window of 1000", build: |accounts| empty(accounts.whole(), 999) },
    Path { name: "wait, window of 1000", build: |accounts| wait(accounts.whole(), 999) },
    Path { name: "wait, window of 20000", build: |accounts| wait(accounts.lean(20_000), 19_999) },
    Path {
        name: "empty response, window of 20000",
        build: |accounts| empty(accounts.lean(20_000), 19_999),
    },
    Path { name: "live event, 100 rooms", build: |accounts| live(accounts.lean(100), 19) },
    Path { name: "live event, 1000 rooms", build: |accounts| live(accounts.whole(), 19) },
    Path { name: "live event, 20000 rooms", build: |accounts| live(accounts.lean(20_000), 19) },
    Path { name: "live event, 10 neighbours", build: |_| live(crowd(10), 19) },
    Path { name: "live event, 500 neighbours", build: |_| live(crowd(500), 19) },
    Path { name: "live event, window of 1000", build: |accounts| live(accounts.whole(), 999) },
    Path { name: "write a first response", build: |accounts| write(accounts.whole(), 19) },
    Path { name: "write 1000 rooms", build: |accounts| write(accounts.whole(), 999) },
    Path { name: "save a connection, 1000 rooms", build: |accounts| encode(accounts.whole()) },
    Path { name: "store, put 100", build: |_| plumbing::put(100) },
    Path { name: "store, put 1000", build: |_| plumbing::put(1_000) },
    Path { name: "store, get 100", build: |_| plumbing::get(100) },
    Path { name: "store, get 1000", build: |_| plumbing::get(1_000) },
    Path { name: "store, scan 1000", build: |_| plumbing::scan(1_000) },
    Path { name: "hop, a turn's events", build: |_| plumbing::hop() },
];

fn parse_body(body: String) -> Prepare {
    let body: Arc<str> = Arc::from(body);
    Box::new(move || {
        let body = Arc::clone(&body);
        Box::new(move || {
            let batch = parse(body.as_bytes(), &Limits::default()).expect("an object");
            batch.rooms.len()
        })
    })
}

fn ledger(luge: Rc<RefCell<Luge>>) -> Prepare {
    Box::new(move || {
        let luge = Rc::clone(&luge);
        let command = {
            let mut luge = luge.borrow_mut();
            let body = incremental_body(LIVELY, luge.polls());
            luge.polled(&body)
        };
        Box::new(move || luge.borrow_mut().ledger_apply(command))
    })
}

fn publish(luge: Rc<RefCell<Luge>>) -> Prepare {
    Box::new(move || {
        let luge = Rc::clone(&luge);
        Box::new(move || luge.borrow_mut().publish().rooms.len())
    })
}

fn load(luge: Rc<RefCell<Luge>>) -> Prepare {
    Box::new(move || {
        let luge = Rc::clone(&luge);
        Box::new(move || {
            let luge = luge.borrow();
            let (number, id) = (luge.user(), Arc::from(USER_ID));
            User::load(number, id, luge.world(), luge.view()).rooms.len()
        })
    })
}

fn turn(luge: Rc<RefCell<Luge>>, event: Event) -> Run {
    Box::new(move || {
        let mut luge = luge.borrow_mut();
        let effects = luge.turn(event);
        luge.response(effects).map_or(0, |response| 1 + response.rooms.len())
    })
}

fn first(luge: Rc<RefCell<Luge>>) -> Prepare {
    Box::new(move || {
        let request = luge.borrow_mut().request(None, (0, 19), 0);
        turn(Rc::clone(&luge), request)
    })
}

fn all(luge: Rc<RefCell<Luge>>) -> Prepare {
    Box::new(move || {
        let request = {
            let mut luge = luge.borrow_mut();
            let position = luge.ask(None, (0, 19), 0).position;
            luge.request(Some(&position), (0, 999), 0)
        };
        turn(Rc::clone(&luge), request)
    })
}

/// Nothing has changed since the last response.
fn empty(luge: Rc<RefCell<Luge>>, until: usize) -> Prepare {
    Box::new(move || {
        let request = {
            let mut luge = luge.borrow_mut();
            let position = luge.all_rooms(until);
            // The second says what the first had not told of receipts.
            let position = luge.ask(Some(&position), (0, until), 0).position;
            luge.request(Some(&position), (0, until), 0)
        };
        turn(Rc::clone(&luge), request)
    })
}

/// Nothing has changed, and the client has time.
fn wait(luge: Rc<RefCell<Luge>>, until: usize) -> Prepare {
    Box::new(move || {
        let request = {
            let mut luge = luge.borrow_mut();
            let position = luge.all_rooms(until);
            luge.request(Some(&position), (0, until), 30_000)
        };
        let luge = Rc::clone(&luge);
        Box::new(move || {
            let mut luge = luge.borrow_mut();
            let effects = luge.turn(request);
            assert!(luge.response(effects).is_none(), "nothing is new, so the request waits");
            1
        })
    })
}

/// An account whose shard has other users who wait as well, and whom nothing concerns.
fn crowd(count: usize) -> Rc<RefCell<Luge>> {
    let mut luge = Luge::with_account(&initial_body(Shape::lean(100)));
    luge.crowd(count);
    Rc::new(RefCell::new(luge))
}

/// An account whose most lively room has other local members, each with a device.
fn members(count: usize) -> Rc<RefCell<Luge>> {
    let mut luge = Luge::with_account(&initial_body(Shape::lean(100)));
    luge.members(count);
    Rc::new(RefCell::new(luge))
}

/// A message reaches a client that waits.
fn live(luge: Rc<RefCell<Luge>>, until: usize) -> Prepare {
    Box::new(move || {
        let delta = {
            let mut luge = luge.borrow_mut();
            let position = luge.all_rooms(until);
            let position = luge.ask(Some(&position), (0, until), 0).position;
            let request = luge.request(Some(&position), (0, until), 30_000);
            let answer = luge.apply(request);
            assert!(answer.is_none(), "nothing is new, so the request waits");
            let body = incremental_body(LIVELY, luge.polls());
            luge.poll_apart(&body)
        };
        turn(Rc::clone(&luge), delta)
    })
}

fn write(luge: Rc<RefCell<Luge>>, until: usize) -> Prepare {
    Box::new(move || {
        let response = luge.borrow_mut().ask(None, (0, until), 0);
        Box::new(move || simplified::write(&response).len())
    })
}

/// A connection that has changed is saved when it is time.
fn encode(luge: Rc<RefCell<Luge>>) -> Prepare {
    Box::new(move || {
        let luge = Rc::clone(&luge);
        luge.borrow_mut().all_rooms(999);
        Box::new(move || {
            let mut luge = luge.borrow_mut();
            let tick = luge.tick();
            let effects = luge.turn(tick);
            effects.iter().map(saved_bytes).sum()
        })
    })
}

fn saved_bytes(effect: &Effect) -> usize {
    let Effect::Ledger(Command::Connections(writes)) = effect else { return 0 };
    writes.iter().filter_map(|write| write.state.as_ref()).map(|state| state.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_does_something_and_the_same_each_time() {
        let mut accounts = Accounts::default();
        let large = ["20000 rooms", "500 neighbours", "500 members"];
        let small = |path: &&Path| !large.iter().any(|large| path.name.contains(large));
        for path in PATHS.iter().filter(small) {
            let mut prepare = (path.build)(&mut accounts);
            // The first may be the one that fills what later ones find.
            let done: Vec<usize> = (0..4).map(|_| prepare()()).skip(1).collect();
            assert!(done[0] > 0, "{}: {done:?}", path.name);
            let spread = done.iter().max().unwrap() - done.iter().min().unwrap();
            assert!(spread <= done[0] / 20, "{}: {done:?}", path.name);
        }
    }

    #[test]
    fn growths_name_paths() {
        for growth in GROWTHS {
            for name in [growth.small, growth.large] {
                assert!(PATHS.iter().any(|path| path.name == name), "{name}");
            }
        }
    }
}
