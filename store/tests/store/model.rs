//! The store against a map: any sequence of groups gives the same picture.

use luge_core::view::{Direction, KeyRanges, Layered, MemoryTables, Pending, Table, View, Write};
use luge_store::{Options, Store};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// Few tables and short keys of few letters, so that writes meet each other.
const TABLES: [Table; 2] = [Table::Rooms, Table::TransactionIds];

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => vec(select(vec![0_u8, 1, 0x7f, 0xff]), 1..4),
        1 => (select(vec![0_u8, 0xff]), 500..=511_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn bound() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => Just(Vec::new()), 4 => key(), 1 => Just(vec![0xff; 600])]
}

fn write() -> impl Strategy<Value = Write> {
    let value = prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 5000..9000)];
    (select(TABLES.to_vec()), key(), option::weighted(0.7, value)).prop_map(
        |(table, key, value)| Write { table, key: key.into(), value: value.map(Into::into) },
    )
}

fn scan(view: &impl View, table: Table, bounds: (&[u8], &[u8]), direction: Direction) -> Entries {
    let mut seen = Vec::new();
    view.scan(table, bounds.0, bounds.1, direction, &mut |key, value| {
        seen.push((key.to_vec(), value.to_vec()));
        true
    });
    seen
}

fn first(view: &impl View, table: Table, bounds: (&[u8], &[u8]), direction: Direction) -> Entries {
    let mut seen = Vec::new();
    view.scan(table, bounds.0, bounds.1, direction, &mut |key, value| {
        seen.push((key.to_vec(), value.to_vec()));
        seen.len() < 2
    });
    seen
}

/// What begins with the first of a pair, or is the second, in one pass.
fn in_ranges(view: &impl View, table: Table, bounds: &[(Vec<u8>, Vec<u8>)]) -> Entries {
    let mut ranges = KeyRanges::default();
    for (prefix, key) in bounds.iter().filter(|(prefix, _)| !prefix.is_empty()) {
        ranges.add_prefix(prefix);
        ranges.add_key(&[key]);
    }
    ranges.settle();
    let mut seen = Vec::new();
    view.scan_ranges(table, &ranges, &mut |key, value| {
        seen.push((key.to_vec(), value.to_vec()));
        true
    });
    seen
}

fn assert_same(view: &impl View, model: &MemoryTables, bounds: &[(Vec<u8>, Vec<u8>)]) {
    let everything = (Vec::new(), Vec::new());
    for table in TABLES {
        let prefixes = bounds.iter().map(|(prefix, _)| prefix).filter(|it| !it.is_empty());
        let keys = bounds.iter().filter(|(prefix, _)| !prefix.is_empty()).map(|(_, key)| key);
        let (prefixes, keys): (Vec<_>, Vec<_>) = (prefixes.collect(), keys.collect());
        let mut expected = scan(model, table, (&[], &[]), Direction::Forward);
        expected.retain(|(key, _)| {
            keys.contains(&key) || prefixes.iter().any(|prefix| key.starts_with(prefix))
        });
        assert_eq!(in_ranges(view, table, bounds), expected);
        for (from, to) in bounds.iter().chain([&everything]) {
            for direction in [Direction::Forward, Direction::Backward] {
                let expected = scan(model, table, (from, to), direction);
                assert_eq!(scan(view, table, (from, to), direction), expected);
                let some = first(model, table, (from, to), direction);
                assert_eq!(first(view, table, (from, to), direction), some);
                for (key, value) in &expected {
                    assert_eq!(view.get(table, key), Some(&**value));
                }
            }
            assert_eq!(view.get(table, from), model.get(table, from));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_groups_read_back_as_from_a_map(
        groups in vec(vec(write(), 0..30), 1..6),
        above in vec(write(), 0..20),
        bounds in vec((bound(), bound()), 1..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { map_bytes: 0, ..Options::default() };
        let mut store = Store::open(folder.path(), &options).unwrap();
        let mut model = MemoryTables::default();
        for group in &groups {
            store.writer().unwrap().commit(group).unwrap();
            model.apply(group);
            store.read(|reader| assert_same(reader, &model, &bounds)).unwrap();
        }
        drop(store);
        store = Store::open(folder.path(), &options).unwrap();
        store.read(|reader| assert_same(reader, &model, &bounds)).unwrap();

        let pending: Pending =
            above.iter().map(|write| ((write.table, write.key.clone()), write.value.clone())).collect();
        model.apply(&above);
        store
            .read(|reader| assert_same(&Layered { pending: &pending, below: reader }, &model, &bounds))
            .unwrap();
        prop_assert_eq!(store.stats().unwrap().damaged_entries, 0);
    }
}
