//! The map grows under open readers, and up to its limit only.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use luge_core::view::{Direction, Table, View};
use luge_store::{CommitError, Options, Store};

use crate::put;

const READERS: usize = 3;
const GROUPS: u32 = 60;

#[test]
fn map_grows_under_readers_on_other_threads() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::open(folder.path(), &Options { map_bytes: 0, ..Options::default() }).unwrap();
    let before = store.stats().unwrap().map_bytes;
    let mut writer = store.writer().unwrap();
    let finished = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> =
            (0..READERS).map(|_| scope.spawn(|| read_until(&store, &finished))).collect();
        for number in 0..GROUPS {
            let key = number.to_be_bytes();
            let value = vec![number as u8; 100_000];
            writer
                .commit(&[put(Table::Events, &key, &value), put(Table::Meta, b"last", &key)])
                .unwrap();
        }
        finished.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    let after = store.stats().unwrap();
    assert!(after.map_growths >= 4, "{} growths", after.map_growths);
    assert!(after.map_bytes > 6_000_000 && after.map_bytes >= 16 * before);
    assert_eq!(after.damaged_entries, 0);
    assert_eq!(after.readers_open, 0);
    drop((writer, store));

    let options = Options { map_bytes: 0, ..Options::default() };
    let store = Store::open(folder.path(), &options).unwrap();
    assert_eq!(store.stats().unwrap().tables[Table::Events as usize].entries, u64::from(GROUPS));
}

/// Each picture is whole: as many events as the count that lies beside them,
/// each of them readable to its end.
fn read_until(store: &Store, finished: &AtomicBool) -> u64 {
    let mut pictures = 0;
    loop {
        let last = finished.load(Ordering::Acquire);
        store
            .read(|view| {
                let mut events = 0_u32;
                view.scan(Table::Events, b"", b"", Direction::Forward, &mut |_, value| {
                    assert!(value.iter().all(|byte| *byte == events as u8));
                    events += 1;
                    true
                });
                let counted =
                    store.read(|inner| inner.get(Table::Meta, b"last").is_some()).unwrap();
                assert!(counted || events == 0);
                let key = view.get(Table::Meta, b"last");
                let expected = key.map_or(0, |key| u32::from_be_bytes(key.try_into().unwrap()) + 1);
                assert_eq!(events, expected);
            })
            .unwrap();
        pictures += 1;
        if last {
            return pictures;
        }
    }
}

#[test]
fn one_group_larger_than_many_maps_grows_them_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::open(folder.path(), &Options { map_bytes: 0, ..Options::default() }).unwrap();
    let value = vec![3; 8 << 20];
    store.writer().unwrap().commit(&[put(Table::Events, b"large", &value)]).unwrap();
    let read = store.read(|view| view.get(Table::Events, b"large") == Some(&*value));
    assert!(read.unwrap());
    assert!(store.stats().unwrap().map_growths > 3);
}

#[test]
fn map_at_its_limit_refuses_the_group_and_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let limit_bytes = 1 << 20;
    let options = Options { map_bytes: 0, map_bytes_max: limit_bytes, ..Options::default() };
    let store = Store::open(folder.path(), &options).unwrap();
    let mut writer = store.writer().unwrap();
    writer.commit(&[put(Table::Rooms, b"before", b"value")]).unwrap();
    let group =
        [put(Table::Rooms, b"with", b"value"), put(Table::Events, b"large", &vec![0; 2 << 20])];
    let error = writer.commit(&group).unwrap_err();
    assert!(
        matches!(error, CommitError::MapFull { limit_bytes: found } if found == limit_bytes),
        "{error}"
    );
    assert!(!error.is_transient());
    writer.commit(&[put(Table::Rooms, b"after", b"value")]).unwrap();
    store
        .read(|view| {
            assert!(view.get(Table::Rooms, b"before").is_some());
            assert!(view.get(Table::Rooms, b"with").is_none());
            assert!(view.get(Table::Rooms, b"after").is_some());
        })
        .unwrap();
    assert_eq!(store.stats().unwrap().map_bytes, limit_bytes);
}

#[test]
fn removed_entries_leave_room_for_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { map_bytes: 0, map_bytes_max: 2 << 20, ..Options::default() };
    let store = Store::open(folder.path(), &options).unwrap();
    let mut writer = store.writer().unwrap();
    for number in 0..100_u32 {
        let value = vec![number as u8; 200_000];
        writer.commit(&[put(Table::Events, b"same", &value)]).unwrap();
    }
    let read = store.read(|view| view.get(Table::Events, b"same").map(|value| value[0]));
    assert_eq!(read.unwrap(), Some(99));
}
