//! Read transactions, for one closure each (INV-5).
//!
//! A [`Reader`] cannot leave the closure it is lent to, and so cannot cross an
//! await. Every value is checked before it is shown (INV-9).

use std::{fmt, ops::Bound, sync::atomic::Ordering};

use heed::{MdbError, RoTxn, WithoutTls};
use luge_core::view::{Direction, KEY_BYTES_MAX, KeyRanges, Table, View, Visit, visit_ranges};

use crate::{
    archive::{self, Damaged},
    env::{DatabaseError, Inner, Store},
    gate::Pass,
};

/// How much of a key a log line shows.
const LOGGED_KEY_BYTES_MAX: usize = 64;

/// Why no read transaction could be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// More transactions at one time than the options allow.
    #[error("all {max} reader slots of the store are taken: raise `readers_max`")]
    ReadersFull {
        /// The limit.
        max: u32,
    },
    /// The map could not be had back after it was to grow.
    #[error(
        "the database is no longer mapped: raise the limit on virtual memory (ulimit -v) and start again"
    )]
    Unmapped,
    /// Another failure of the database.
    #[error("the database could not be read: check the disk and the system's log")]
    Database(#[source] DatabaseError),
}

impl Store {
    /// Lends `work` a consistent picture of what is committed.
    ///
    /// Short work only: while it runs, no page that the writer frees can be
    /// used again, and the map cannot grow. It may read again, and must not
    /// commit.
    pub fn read<R>(&self, work: impl FnOnce(&Reader<'_>) -> R) -> Result<R, ReadError> {
        Reader::open(&self.0).map(|reader| work(&reader))
    }
}

/// What is committed, at one moment. The pass is the last field, so that it is
/// handed back after the transaction has ended.
pub struct Reader<'s> {
    pub(crate) transaction: RoTxn<'s, WithoutTls>,
    pub(crate) inner: &'s Inner,
    _pass: Pass<'s>,
}

impl<'s> Reader<'s> {
    fn open(inner: &'s Inner) -> Result<Self, ReadError> {
        let pass = inner.gate.enter();
        if inner.unmapped.load(Ordering::Acquire) {
            return Err(ReadError::Unmapped);
        }
        match inner.env.read_txn() {
            Ok(transaction) => Ok(Self { transaction, inner, _pass: pass }),
            Err(heed::Error::Mdb(MdbError::ReadersFull)) => {
                Err(ReadError::ReadersFull { max: inner.options.readers_max })
            }
            Err(error) => Err(ReadError::Database(DatabaseError(error))),
        }
    }

    /// The archive of one entry, or nothing where it is not what was written.
    fn checked<'v>(&self, table: Table, key: &[u8], value: &'v [u8]) -> Option<&'v [u8]> {
        let checked = archive::check(table, key, value);
        checked.inspect_err(|damage| self.inner.note_damage(table, key, *damage)).ok()
    }

    fn visit_all<'v>(
        &self,
        table: Table,
        entries: impl Iterator<Item = heed::Result<(&'v [u8], &'v [u8])>>,
        visit: Visit<'_>,
    ) {
        for entry in entries {
            match entry {
                Ok((key, value)) => {
                    if let Some(archive) = self.checked(table, key, value)
                        && !visit(key, archive)
                    {
                        return;
                    }
                }
                Err(error) => return self.inner.note_failure(table, &error),
            }
        }
    }
}

impl View for Reader<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        // LMDB takes no such key, so none was ever written.
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return None;
        }
        match self.inner.tables.of(table).get(&self.transaction, key) {
            Ok(value) => self.checked(table, key, value?),
            Err(error) => {
                self.inner.note_failure(table, &error);
                None
            }
        }
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>) {
        if !to.is_empty() && to <= from {
            return;
        }
        // LMDB refuses to look for an empty key.
        let low = if from.is_empty() { Bound::Unbounded } else { Bound::Included(from) };
        let high = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        let (database, range) = (self.inner.tables.of(table), (low, high));
        let scanned = match direction {
            Direction::Forward => database
                .range(&self.transaction, &range)
                .map(|entries| self.visit_all(table, entries, visit)),
            Direction::Backward => database
                .rev_range(&self.transaction, &range)
                .map(|entries| self.visit_all(table, entries, visit)),
        };
        if let Err(error) = scanned {
            self.inner.note_failure(table, &error);
        }
    }

    fn scan_ranges(&self, table: Table, ranges: &KeyRanges, visit: Visit<'_>) {
        let seek = |from: &[u8]| {
            let low = if from.is_empty() { Bound::Unbounded } else { Bound::Included(from) };
            let range = (low, Bound::<&[u8]>::Unbounded);
            let entries = self.inner.tables.of(table).range(&self.transaction, &range);
            let entries = entries.map_err(|error| self.inner.note_failure(table, &error));
            entries.into_iter().flatten().map_while(|entry| {
                entry.map_err(|error| self.inner.note_failure(table, &error)).ok()
            })
        };
        visit_ranges(ranges, seek, &mut |key, value| {
            self.checked(table, key, value).is_none_or(|archive| visit(key, archive))
        });
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Inner {
    fn note_damage(&self, table: Table, key: &[u8], damage: Damaged) {
        if self.count_damage() {
            let key = key[..key.len().min(LOGGED_KEY_BYTES_MAX)].escape_ascii();
            let table = table.name();
            tracing::error!(table, %key, %damage, "damaged entry counts as absent");
        }
    }

    fn note_failure(&self, table: Table, error: &heed::Error) {
        if self.count_damage() {
            tracing::error!(table = table.name(), %error, "table cannot be read here");
        }
    }

    /// Counts; true while it may also be logged.
    fn count_damage(&self) -> bool {
        let before = self.damaged.fetch_add(1, Ordering::Relaxed);
        if before == self.options.damage_logs_max {
            tracing::error!("further damaged entries are counted, and not logged");
        }
        before < self.options.damage_logs_max
    }
}

#[cfg(test)]
mod tests {
    use luge_core::view::Write;

    use super::*;
    use crate::Options;

    fn entries(reader: &Reader<'_>, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut seen = Vec::new();
        reader.scan(Table::Rooms, b"", b"", direction, &mut |key, value| {
            seen.push((key.to_vec(), value.to_vec()));
            true
        });
        seen
    }

    #[test]
    fn damaged_and_moved_entries_are_absent_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let (env, tables) = store.parts();
        let mut flipped = archive::seal(Table::Rooms, b"flipped", b"value");
        *flipped.last_mut().unwrap() ^= 1;
        let mut transaction = env.write_txn().unwrap();
        for (key, value) in [
            (b"flipped".as_slice(), flipped),
            (b"moved", archive::seal(Table::Rooms, b"elsewhere", b"value")),
            (b"short", archive::seal(Table::Rooms, b"short", b"value")[..5].to_vec()),
            (b"sound", archive::seal(Table::Rooms, b"sound", b"value")),
        ] {
            tables.of(Table::Rooms).put(&mut transaction, key, &value).unwrap();
        }
        transaction.commit().unwrap();
        store
            .read(|reader| {
                for key in [b"flipped".as_slice(), b"moved", b"short"] {
                    assert_eq!(reader.get(Table::Rooms, key), None);
                }
                assert_eq!(reader.get(Table::Rooms, b"sound"), Some(b"value".as_slice()));
                let sound = vec![(b"sound".to_vec(), b"value".to_vec())];
                assert_eq!(entries(reader, Direction::Forward), sound);
                assert_eq!(entries(reader, Direction::Backward), sound);
            })
            .unwrap();
        assert_eq!(store.stats().unwrap().damaged_entries, 9);
    }

    #[test]
    fn keys_that_lmdb_takes_not_are_absent_and_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        store
            .read(|reader| {
                assert_eq!(reader.get(Table::Rooms, b""), None);
                assert_eq!(reader.get(Table::Rooms, &[7; KEY_BYTES_MAX + 1]), None);
            })
            .unwrap();
        assert_eq!(store.stats().unwrap().damaged_entries, 0);
    }

    #[test]
    fn reader_keeps_its_picture_while_the_writer_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let mut writer = store.writer().unwrap();
        let write = |value: &[u8]| Write {
            table: Table::Rooms,
            key: Box::from(b"key".as_slice()),
            value: Some(value.into()),
        };
        writer.commit(&[write(b"old")]).unwrap();
        store
            .read(|reader| {
                let commit = || writer.commit(&[write(b"new")]).unwrap();
                std::thread::scope(|scope| scope.spawn(commit).join()).unwrap();
                assert_eq!(reader.get(Table::Rooms, b"key"), Some(b"old".as_slice()));
                let newer = store.read(|inner| inner.get(Table::Rooms, b"key").map(<[u8]>::to_vec));
                assert_eq!(newer.unwrap().as_deref(), Some(b"new".as_slice()));
            })
            .unwrap();
    }

    #[test]
    fn one_reader_too_many_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { readers_max: 1, ..Options::default() };
        let store = Store::open(folder.path(), &options).unwrap();
        let second = store.read(|_| store.read(|_| ())).unwrap();
        assert!(matches!(second, Err(ReadError::ReadersFull { max: 1 })), "{second:?}");
        store.read(|_| ()).unwrap();
    }
}
