//! MSC3575's operations: what a client does to the order that it holds to come
//! to the order that there is.
//!
//! Derived from the two orders alone. Clients disagree on what an `INSERT`
//! shifts: the proposal says towards the closest empty index, some shift towards
//! the index of the `DELETE` before. Where the two would come to different
//! orders, a whole range is sent instead.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use super::window;
use crate::id::RoomNumber;

/// Rooms at consecutive indices from the first on; in order, and never side by
/// side.
pub type Runs = Vec<(u64, Vec<RoomNumber>)>;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<Room> {
    /// These rooms are at the indices from the first to the second.
    Sync((u64, u64), Vec<Room>),
    /// The room comes to the index; what is there makes way.
    Insert(u64, Room),
    /// The index is empty.
    Delete(u64),
    /// The indices from the first to the second are empty.
    Invalidate((u64, u64)),
}

/// Moves in one run that are told one by one; more, and the run is sent whole.
const MOVES_MAX: usize = 4;

/// The rooms at the indices of `ranges`.
pub fn runs(rooms: &[RoomNumber], ranges: &[(u64, u64)]) -> Runs {
    let mut by_index: BTreeMap<u64, RoomNumber> = BTreeMap::new();
    for range in ranges {
        by_index.extend((range.0..).zip(window(rooms, *range).iter().copied()));
    }
    runs_of(by_index)
}

fn runs_of(by_index: impl IntoIterator<Item = (u64, RoomNumber)>) -> Runs {
    let mut runs: Runs = Vec::new();
    for (index, room) in by_index {
        match runs.last_mut() {
            Some((from, rooms)) if *from + rooms.len() as u64 == index => rooms.push(room),
            _ => runs.push((index, vec![room])),
        }
    }
    runs
}

fn end((from, rooms): &(u64, Vec<RoomNumber>)) -> u64 {
    from + rooms.len() as u64 - 1
}

fn by_index(runs: &Runs) -> BTreeMap<u64, RoomNumber> {
    runs.iter().flat_map(|(from, rooms)| (*from..).zip(rooms.iter().copied())).collect()
}

/// What makes `after` of `before`. `anew`: nothing of what the client holds is
/// of use.
pub fn operations(before: &Runs, after: &Runs, anew: bool) -> Vec<Operation<RoomNumber>> {
    if !anew && before == after {
        return Vec::new();
    }
    let (held, wanted) = (by_index(before), by_index(after));
    let keep = |index: &u64| !anew && wanted.contains_key(index);
    let gone = held.iter().filter(|(index, _)| !keep(index));
    let mut operations: Vec<_> = runs_of(gone.map(|(index, room)| (*index, *room)))
        .iter()
        .map(|run| Operation::Invalidate((run.0, end(run))))
        .collect();
    let kept = held.iter().filter(|(index, _)| keep(index));
    for (from, rooms) in runs_of(kept.map(|(index, room)| (*index, *room))) {
        let there: Vec<RoomNumber> =
            (from..).take(rooms.len()).filter_map(|index| wanted.get(&index).copied()).collect();
        rearrange(from, rooms, there, &mut operations);
    }
    let added = wanted.iter().filter(|(index, _)| anew || !held.contains_key(index));
    for run in runs_of(added.map(|(index, room)| (*index, *room))) {
        operations.push(Operation::Sync((run.0, end(&run)), run.1));
    }
    operations
}

/// Makes `after` of `before`, which are at the same indices from `from` on.
fn rearrange(
    from: u64,
    before: Vec<RoomNumber>,
    after: Vec<RoomNumber>,
    operations: &mut Vec<Operation<RoomNumber>>,
) {
    if before == after {
        return;
    }
    if let Some(moves) = moves(from, before, &after) {
        for (index, to, room) in moves {
            operations.push(Operation::Delete(index));
            operations.push(Operation::Insert(to, room));
        }
    } else {
        let range = (from, from + after.len() as u64 - 1);
        operations.push(Operation::Invalidate(range));
        operations.push(Operation::Sync(range, after));
    }
}

/// Pairs of an index that is deleted and one where a room is inserted; `None`
/// where they would be too many, or clients could read them differently.
fn moves(
    from: u64,
    mut held: Vec<RoomNumber>,
    wanted: &[RoomNumber],
) -> Option<Vec<(u64, u64, RoomNumber)>> {
    let mut moves = Vec::new();
    while held != wanted {
        let differ = |at: &usize| held[*at] != wanted[*at];
        let first = (0..held.len()).find(differ)?;
        let last = (0..held.len()).rev().find(differ)?;
        let falls = held[first + 1..=last] == wanted[first..last];
        let (delete, insert) =
            if falls { (first, last) } else { (place_of_surplus(&held, wanted, first)?, first) };
        if moves.len() >= MOVES_MAX || !is_plain(from, held.len(), delete, insert) {
            return None;
        }
        held.remove(delete);
        held.insert(insert, wanted[insert]);
        moves.push((from + delete as u64, from + insert as u64, wanted[insert]));
    }
    Some(moves)
}

/// Where the room is that belongs to `first`; else, where it comes from outside,
/// the last place of a room that goes there.
fn place_of_surplus(held: &[RoomNumber], wanted: &[RoomNumber], first: usize) -> Option<usize> {
    if let Some(at) = held.iter().position(|room| *room == wanted[first]) {
        return Some(at);
    }
    let stay: FxHashSet<RoomNumber> = wanted.iter().copied().collect();
    held.iter().rposition(|room| !stay.contains(room))
}

/// Whether the deleted index is closer to the inserted than any other empty one.
fn is_plain(from: u64, length: usize, delete: usize, insert: usize) -> bool {
    let distance = delete.abs_diff(insert);
    let closer_than_before = from == 0 || distance < insert + 1;
    closer_than_before && distance < length - insert
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(numbers: &[u32]) -> Vec<RoomNumber> {
        numbers.iter().copied().map(RoomNumber).collect()
    }

    fn between(before: &[u32], after: &[u32], ranges: &[(u64, u64)]) -> Vec<Operation<RoomNumber>> {
        operations(&runs(&rooms(before), ranges), &runs(&rooms(after), ranges), false)
    }

    #[test]
    fn one_room_that_moves_is_one_pair() {
        use Operation::{Delete, Insert};
        for (name, before, after, ranges, expected) in [
            (
                "to the top",
                &[0, 1, 2, 3][..],
                &[3, 0, 1, 2][..],
                vec![(0, 9)],
                vec![Delete(3), Insert(0, RoomNumber(3))],
            ),
            (
                "into the window, from outside",
                &[0, 1, 2, 3],
                &[3, 0, 1, 2],
                vec![(0, 1)],
                vec![Delete(1), Insert(0, RoomNumber(3))],
            ),
            (
                "downwards",
                &[0, 1, 2, 3, 4],
                &[1, 2, 0, 3, 4],
                vec![(0, 9)],
                vec![Delete(0), Insert(2, RoomNumber(0))],
            ),
            ("outside of the windows", &[0, 1, 2, 3], &[0, 1, 3, 2], vec![(0, 1)], vec![]),
        ] {
            assert_eq!(between(before, after, &ranges), expected, "{name}");
        }
    }

    #[test]
    fn what_clients_could_read_differently_is_sent_whole() {
        // The closest empty index to 4 is 5, not 0.
        let operations = between(&[0, 1, 2, 3, 4], &[1, 2, 3, 4, 0], &[(0, 9)]);
        assert_eq!(
            operations,
            [Operation::Invalidate((0, 4)), Operation::Sync((0, 4), rooms(&[1, 2, 3, 4, 0])),]
        );
    }

    #[test]
    fn rooms_that_come_and_go_change_the_end() {
        assert_eq!(
            between(&[0, 1], &[2, 0, 1], &[(0, 9)]),
            [
                Operation::Delete(1),
                Operation::Insert(0, RoomNumber(2)),
                Operation::Sync((2, 2), rooms(&[1])),
            ]
        );
        assert_eq!(between(&[0, 1], &[0], &[(0, 9)]), [Operation::Invalidate((1, 1))]);
        assert_eq!(between(&[0], &[], &[(0, 9)]), [Operation::Invalidate((0, 0))]);
        assert_eq!(between(&[], &[], &[(0, 9)]), []);
    }
}
