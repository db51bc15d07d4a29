//! The operations between two orders, for any two: a client that applies them to
//! the one comes to the other.
//!
//! `LUGE_ORDERS_SEED` gives one seed, `LUGE_ORDERS_STEPS` how many steps.

use std::collections::BTreeMap;

use luge_core::{
    id::RoomNumber,
    list::{Operation, Runs, operations, runs},
};

use crate::model::Held;

/// xorshift64*: the same seed, the same history.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).expect("31 bits fit") % limit.max(1)
    }
}

fn apply(held: &mut Held, operations: &[Operation<RoomNumber>]) {
    let name = |room: &RoomNumber| room.0.to_string();
    for operation in operations {
        match operation {
            Operation::Sync(range, rooms) => held.sync(*range, rooms.iter().map(name).collect()),
            Operation::Invalidate(range) => held.invalidate(*range),
            Operation::Delete(index) => held.delete(*index),
            Operation::Insert(index, room) => held.insert(*index, name(room)),
        }
    }
}

fn by_index(runs: &Runs) -> BTreeMap<u64, String> {
    let run = |(from, rooms): &(u64, Vec<RoomNumber>)| {
        (*from..).zip(rooms.iter().map(|room| room.0.to_string())).collect::<Vec<_>>()
    };
    runs.iter().flat_map(run).collect()
}

/// Changes an order as rooms do: one moves up, or anywhere, several do, some
/// come or go, or everything is shuffled.
fn change(order: &mut Vec<RoomNumber>, random: &mut Random, next: &mut u32) {
    let length = order.len();
    match random.below(12) {
        0..=4 if length > 0 => {
            let room = order.remove(random.below(length));
            order.insert(0, room);
        }
        5 | 6 if length > 0 => {
            let room = order.remove(random.below(length));
            order.insert(random.below(length), room);
        }
        7 => {
            *next += 1;
            order.insert(random.below(length + 1), RoomNumber(*next));
        }
        8 if length > 0 => drop(order.remove(random.below(length))),
        9 => {
            for _ in 0..random.below(8) {
                change(order, random, next);
            }
        }
        10 if random.below(8) == 0 => {
            for at in (1..length).rev() {
                order.swap(at, random.below(at + 1));
            }
        }
        11 if random.below(20) == 0 => order.clear(),
        _ => {}
    }
}

fn ranges(random: &mut Random) -> Vec<(u64, u64)> {
    let mut from = random.below(4) as u64 * random.below(3) as u64;
    let mut ranges = Vec::new();
    for _ in 0..random.below(4) {
        let to = from + random.below(12) as u64;
        ranges.push((from, to));
        from = to + 1 + random.below(5) as u64;
    }
    ranges
}

/// One connection: orders and windows change, answers get lost, and the client
/// goes on from what it has.
fn run(seed: u64, steps: usize) -> usize {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut next = 0;
    let mut order: Vec<RoomNumber> = Vec::new();
    let mut windows = vec![(0, 9)];
    let (mut held, mut acknowledged) = (Held::default(), Runs::new());
    let mut pairs = 0;
    for _ in 0..steps {
        change(&mut order, &mut random, &mut next);
        if random.below(15) == 0 {
            windows = ranges(&mut random);
        }
        let anew = random.below(50) == 0;
        let after = runs(&order, &windows);
        let operations = operations(&acknowledged, &after, anew);
        pairs += operations.iter().filter(|it| matches!(it, Operation::Insert(..))).count();
        let mut client = held.clone();
        apply(&mut client, &operations);
        assert_eq!(*client.rooms(), by_index(&after), "seed {seed}: {operations:?}");
        // One answer in five never arrives.
        if random.below(5) > 0 {
            (held, acknowledged) = (client, after);
        }
    }
    pairs
}

/// Goal: after any change of order and windows, and whatever was lost, the
/// client that applies the operations has the server's order.
#[test]
fn a_client_that_applies_the_operations_has_the_order() {
    let number = |name: &str| std::env::var(name).ok().map(|it| it.parse().expect("a number"));
    let steps = number("LUGE_ORDERS_STEPS").unwrap_or(120_000);
    let seeds = match number("LUGE_ORDERS_SEED") {
        Some(seed) => vec![seed],
        None => (1..=24).collect(),
    };
    let each = usize::try_from(steps).expect("fits") / seeds.len();
    let pairs: usize = seeds.iter().map(|seed| run(*seed, each)).sum();
    println!("{steps} steps over seeds {seeds:?}: {pairs} moves were told one by one");
    assert!(pairs > each, "moves are told one by one, and not as whole windows");
}
