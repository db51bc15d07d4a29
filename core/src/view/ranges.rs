//! Many ranges of one table's keys, visited in one pass.
//!
//! Looking for each key by itself costs a way through the whole table each
//! time; entries that are wanted together mostly lie together.

use super::Visit;
use crate::record::key;

/// Ranges of keys. Once [settled](Self::settle) they are in order, and none
/// meets another.
#[derive(Clone, Debug, Default)]
pub struct KeyRanges {
    bytes: Vec<u8>,
    /// Where in `bytes` each range's first key lies, and the key behind its
    /// last: empty where there is no end.
    bounds: Vec<Bounds>,
}

/// A range's two keys, as places in the common bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    from: (usize, usize),
    to: (usize, usize),
}

impl KeyRanges {
    /// None yet, with room for `count` of about `bytes` bytes each.
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(count * bytes), bounds: Vec::with_capacity(count) }
    }

    /// Adds the one key that is made of `parts`.
    pub fn add_key(&mut self, parts: &[&[u8]]) {
        let start = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let end = self.bytes.len();
        // The least key behind a key is that key and a zero byte.
        self.bytes.push(0);
        self.bounds.push(Bounds { from: (start, end), to: (start, end + 1) });
    }

    /// Adds every key that begins with `prefix`.
    pub fn add_prefix(&mut self, prefix: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(prefix);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(&key::after_prefix(prefix));
        self.bounds.push(Bounds { from: (start, end), to: (end, self.bytes.len()) });
    }

    /// Puts the ranges in order, and makes one of those that meet.
    pub fn settle(&mut self) {
        let bytes = &self.bytes;
        let slice = |(start, end): (usize, usize)| &bytes[start..end];
        let in_order = |one: &Bounds, next: &Bounds| slice(one.from) <= slice(next.from);
        if !self.bounds.is_sorted_by(in_order) {
            self.bounds.sort_by(|one, other| slice(one.from).cmp(slice(other.from)));
        }
        self.bounds.dedup_by(|next, kept| {
            let meets = is_before(slice(next.from), slice(kept.to));
            if meets && is_before(slice(kept.to), slice(next.to)) && kept.to.0 < kept.to.1 {
                kept.to = next.to;
            }
            meets
        });
    }

    /// Has all keys begin with `prefix`, in place of what they begin with: as many
    /// bytes, the same in each of them. Settled ranges stay so.
    pub fn set_prefix(&mut self, prefix: &[u8]) {
        for Bounds { from, to } in &self.bounds {
            for (start, end) in [*from, *to] {
                if end - start >= prefix.len() {
                    self.bytes[start..start + prefix.len()].copy_from_slice(prefix);
                }
            }
        }
    }

    /// The ranges: the first key, and the key behind the last (empty: no end).
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let slice = |(start, end): (usize, usize)| &self.bytes[start..end];
        self.bounds.iter().map(move |it| (slice(it.from), slice(it.to)))
    }

    /// Whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }
}

/// Whether `key` comes before the end of a range.
pub(super) fn is_before(key: &[u8], to: &[u8]) -> bool {
    to.is_empty() || key < to
}

/// Entries that are passed one by one before the next range is looked for anew.
const PASSED_MAX: usize = 4;

/// Visits the entries in settled `ranges` until `visit` returns false. `seek`
/// gives the entries from a key on; it is called where the next range is not
/// near.
pub fn visit_ranges<'v, E>(ranges: &KeyRanges, mut seek: impl FnMut(&[u8]) -> E, visit: Visit<'_>)
where
    E: Iterator<Item = (&'v [u8], &'v [u8])>,
{
    let mut place: Option<(E, (&[u8], &[u8]))> = None;
    for (from, to) in ranges.iter() {
        let mut passed = 0;
        let (mut entries, mut entry) = loop {
            let (entries, next) = match place.take() {
                Some((entries, entry)) if entry.0 >= from => break (entries, entry),
                Some((mut entries, _)) if passed < PASSED_MAX => {
                    passed += 1;
                    let next = entries.next();
                    (entries, next)
                }
                _ => {
                    let mut entries = seek(from);
                    let next = entries.next();
                    (entries, next)
                }
            };
            // Behind the last entry there is nothing for later ranges either.
            let Some(next) = next else { return };
            place = Some((entries, next));
        };
        while is_before(entry.0, to) {
            if !visit(entry.0, entry.1) {
                return;
            }
            match entries.next() {
                Some(next) => entry = next,
                None => return,
            }
        }
        place = Some((entries, entry));
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ops::Bound};

    use proptest::prelude::*;

    use super::*;

    fn listed(ranges: &KeyRanges) -> Vec<(Vec<u8>, Vec<u8>)> {
        ranges.iter().map(|(from, to)| (from.to_vec(), to.to_vec())).collect()
    }

    #[test]
    fn settled_ranges_are_in_order_and_apart() {
        let mut ranges = KeyRanges::default();
        ranges.add_key(&[b"b", b"1"]);
        ranges.add_prefix(b"a");
        ranges.add_key(&[b"a", b"7"]);
        ranges.add_key(&[b"b1"]);
        ranges.settle();
        let expected = [(b"a".to_vec(), b"b".to_vec()), (b"b1".to_vec(), b"b1\0".to_vec())];
        assert_eq!(listed(&ranges), expected);
        ranges.add_prefix(&[0xff]);
        ranges.add_prefix(&[0xff, 3]);
        ranges.settle();
        assert_eq!(listed(&ranges)[2..], [(vec![0xff], vec![])]);
    }

    #[test]
    fn ranges_of_one_prefix_are_those_of_another() {
        let ranges = |prefix: u8| {
            let mut ranges = KeyRanges::default();
            ranges.add_key(&[&[prefix], b"b", b"1"]);
            ranges.add_prefix(&[prefix, b'a']);
            ranges.add_prefix(&[prefix, b'a', 0xff]);
            ranges.add_key(&[&[prefix], b"a", b"7"]);
            ranges.settle();
            ranges
        };
        let mut moved = ranges(1);
        moved.set_prefix(&[7]);
        assert_eq!(listed(&moved), listed(&ranges(7)));
    }

    /// Goal: whatever the ranges, each entry in one of them is visited once and
    /// in order, and the table is not looked through from the start each time.
    #[test]
    fn near_ranges_are_walked_to_and_far_ones_looked_for() {
        let table: BTreeMap<Vec<u8>, Vec<u8>> = (0..100).map(|at| (vec![at], vec![at])).collect();
        for (wanted, seeks_expected) in
            [(&[1, 2, 3, 8][..], 1), (&[1, 50, 51], 2), (&[99, 100, 101], 1), (&[200, 201], 1)]
        {
            let mut ranges = KeyRanges::default();
            wanted.iter().for_each(|at| ranges.add_key(&[&[*at]]));
            ranges.settle();
            let (mut seeks, mut seen) = (0, Vec::new());
            let seek = |from: &[u8]| {
                seeks += 1;
                let bounds = (Bound::Included(from), Bound::Unbounded);
                table.range::<[u8], _>(bounds).map(|(key, value)| (&**key, &**value))
            };
            visit_ranges(&ranges, seek, &mut |key, _| {
                seen.push(key[0]);
                true
            });
            let expected: Vec<u8> = wanted.iter().copied().filter(|at| *at < 100).collect();
            assert_eq!((seen, seeks), (expected, seeks_expected), "{wanted:?}");
        }
    }

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0, 1, 2, 0xff]), 1..4)
    }

    proptest! {
        #[test]
        fn every_entry_of_a_range_is_visited_once(
            table in prop::collection::btree_map(keys(), keys(), 0..60),
            wanted in prop::collection::vec((keys(), any::<bool>()), 0..12),
            visits in 0..80_usize,
        ) {
            let mut ranges = KeyRanges::default();
            for (key, whole) in &wanted {
                if *whole { ranges.add_prefix(key) } else { ranges.add_key(&[key]) }
            }
            ranges.settle();
            let is_wanted = |key: &Vec<u8>| {
                wanted.iter().any(|(it, whole)| if *whole { key.starts_with(it) } else { key == it })
            };
            let expected: Vec<_> = table.keys().filter(|key| is_wanted(key)).cloned().collect();
            let seek = |from: &[u8]| {
                let bounds = (Bound::Included(from), Bound::Unbounded);
                table.range::<[u8], _>(bounds).map(|(key, value)| (&**key, &**value))
            };
            let mut seen = Vec::new();
            visit_ranges(&ranges, seek, &mut |key, value| {
                assert_eq!(value, &*table[key]);
                seen.push(key.to_vec());
                seen.len() < visits
            });
            prop_assert_eq!(&seen[..], &expected[..visits.max(1).min(expected.len())]);
        }
    }
}
