//! What the domain stands on: the tables on disk, and the way of an event to
//! another shard. What the kernel does for them is not counted.

use std::{rc::Rc, sync::Arc};

use luge_core::view::{Direction, Table, View, Write};
use luge_io::mailbox::{TURN_EVENTS_MAX, inbox};
use luge_store::{Options, Store};
use tempfile::TempDir;

use crate::paths::{Prepare, Run};

/// As large as an event is, with its envelope.
const RECORD_BYTES: usize = 700;
/// Records that were there before: some pages of a tree with several levels.
const RECORDS: u64 = 20_000;

/// A data folder with records, and the counter of the runs that worked on it.
struct Folder {
    store: Store,
    /// Held for as long as the store is open.
    _folder: TempDir,
}

impl Folder {
    fn filled() -> Self {
        let folder = TempDir::new().expect("there is a folder for temporary files");
        // valgrind has no room for the default's address space.
        let options = Options { map_bytes: 256 << 20, ..Options::default() };
        let store = Store::open(folder.path(), &options).expect("an empty folder opens");
        commit(&store, &(0..RECORDS).map(record).collect::<Vec<_>>());
        Self { store, _folder: folder }
    }
}

fn commit(store: &Store, writes: &[Write]) {
    let mut writer = store.writer().expect("one writer at a time");
    writer.commit(writes).expect("the disk takes some megabytes");
}

/// Numbers are spread over the keys, as events are over rooms.
fn key(number: u64) -> Box<[u8]> {
    Box::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
}

fn record(number: u64) -> Write {
    let value: Arc<[u8]> = vec![b'x'; RECORD_BYTES].into();
    Write { table: Table::Events, key: key(number), value: Some(value) }
}

/// One group of writes, over records that are there.
pub(crate) fn put(records: u64) -> Prepare {
    let folder = Rc::new(Folder::filled());
    Box::new(move || {
        let folder = Rc::clone(&folder);
        let writes: Vec<_> = (0..records).map(record).collect();
        Box::new(move || {
            commit(&folder.store, &writes);
            writes.len()
        })
    })
}

/// One read transaction, with records from all over the table.
pub(crate) fn get(records: u64) -> Prepare {
    let folder = Rc::new(Folder::filled());
    Box::new(move || {
        let folder = Rc::clone(&folder);
        Box::new(move || {
            let read = folder.store.read(|reader| {
                let value = |number| reader.get(Table::Events, &key(number * 37));
                (0..records).filter_map(value).map(<[u8]>::len).sum()
            });
            read.expect("nobody else reads")
        })
    })
}

/// One read transaction, with records that follow each other.
pub(crate) fn scan(records: usize) -> Prepare {
    let folder = Rc::new(Folder::filled());
    Box::new(move || {
        let folder = Rc::clone(&folder);
        Box::new(move || {
            let mut left = records;
            let read = folder.store.read(|reader| {
                reader.scan(Table::Events, &[], &[], Direction::Forward, &mut |_, _| {
                    left -= 1;
                    left > 0
                });
            });
            read.expect("nobody else reads");
            records - left
        })
    })
}

/// One turn's share of events goes through a shard's inbox.
pub(crate) fn hop() -> Prepare {
    Box::new(move || -> Run {
        let (outbox, inbox) = inbox(TURN_EVENTS_MAX);
        Box::new(move || {
            for number in 0..TURN_EVENTS_MAX {
                outbox.try_send(Box::new(number)).expect("the inbox holds a turn's share");
            }
            let mut batch = Vec::with_capacity(TURN_EVENTS_MAX);
            inbox.drain(&mut batch, TURN_EVENTS_MAX)
        })
    })
}
