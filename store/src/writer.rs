//! The one writer (INV-5): a prepared list of writes becomes durable whole, or
//! not at all.
//!
//! The ledger folds against its pending writes layered over a reader, and then
//! hands the list over. Since the list outlives the attempt, the map can grow
//! under it and the attempt be made again, without the ledger's knowing.

use std::{
    fmt,
    io::{self, Write as _},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use heed::MdbError;
use luge_core::view::{KEY_BYTES_MAX, Table, Write};

use crate::{
    archive::{self, HEADER_BYTES},
    env::{DatabaseError, Growth, Inner, Store},
    schema::SCHEMA_KEY,
};

/// The store has its writer already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store's one writer is taken: send the writes to the ledger")]
pub struct WriterTaken;

/// Why nothing of a group was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// No space, or the quota or file size limit is used up. Try again later.
    #[error("no space left for {}: free some disk space, or raise the quota", path.display())]
    DiskFull {
        /// The data folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk refused a write or took only part of it, which is also how LMDB
    /// reports the very moment at which a disk becomes full. Try again later.
    #[error("the disk failed or is full under {}: check free space and the system's log", path.display())]
    DiskFailed {
        /// The data folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The group did not fit into memory. Try again later, or split it.
    #[error("no memory for {writes_count} writes: raise the memory limit, or split the group")]
    OutOfMemory {
        /// How many writes the group had.
        writes_count: usize,
    },
    /// The map is as large as the options allow.
    #[error("the database has reached {limit_bytes} bytes: raise `map_bytes_max`, or prune sooner")]
    MapFull {
        /// The limit.
        limit_bytes: u64,
    },
    /// More changed pages than one transaction can hold.
    #[error("{writes_count} writes are too many for one transaction: split the group")]
    TooLarge {
        /// How many writes the group had.
        writes_count: usize,
    },
    /// A key that is empty, too long, or the store's own.
    #[error("table {} takes no key of {key_bytes} bytes like this: 1 to {KEY_BYTES_MAX} bytes, and not the schema version", table.name())]
    Key {
        /// Where it was to be written.
        table: Table,
        /// Its length.
        key_bytes: usize,
    },
    /// Called from within [`Store::read`], where growing would wait for itself.
    #[error("a commit cannot run inside a read: end the read first")]
    InsideRead,
    /// The map could not be had back after it was to grow.
    #[error(
        "the database is no longer mapped: raise the limit on virtual memory (ulimit -v) and start again"
    )]
    Unmapped,
    /// LMDB cannot go on in this process.
    #[error("the database cannot be written any more: check the disk and start again")]
    Database(#[source] DatabaseError),
}

impl CommitError {
    /// Whether the same group may succeed later, in this process.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::DiskFailed { .. } | Self::OutOfMemory { .. })
    }
}

impl Store {
    /// The one writer; another can be had only once this one is dropped.
    pub fn writer(&self) -> Result<Writer, WriterTaken> {
        if self.0.writer_taken.swap(true, Ordering::AcqRel) {
            return Err(WriterTaken);
        }
        Ok(Writer { inner: Arc::clone(&self.0) })
    }
}

/// The right to write.
pub struct Writer {
    inner: Arc<Inner>,
}

impl Writer {
    /// Applies `writes` in order, and returns once they are durable. Grows the
    /// map where it must, for which it waits until no reader is open. After an
    /// error nothing has changed.
    pub fn commit(&mut self, writes: &[Write]) -> Result<(), CommitError> {
        if self.inner.gate.is_inside() {
            return Err(CommitError::InsideRead);
        }
        writes.iter().try_for_each(check_key)?;
        if writes.is_empty() {
            return Ok(());
        }
        loop {
            if self.inner.unmapped.load(Ordering::Acquire) {
                return Err(CommitError::Unmapped);
            }
            match self.attempt(writes) {
                Ok(()) => return Ok(()),
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                Err(error) => return Err(self.explain(error, writes.len())),
            }
        }
    }

    fn attempt(&self, writes: &[Write]) -> heed::Result<()> {
        let mut transaction = self.inner.env.write_txn()?;
        for write in writes {
            let database = self.inner.tables.of(write.table);
            let Some(archive) = &write.value else {
                database.delete(&mut transaction, &write.key)?;
                continue;
            };
            let header = archive::header(write.table, &write.key, archive);
            let bytes = HEADER_BYTES + archive.len();
            database.put_reserved(&mut transaction, &write.key, bytes, |space| {
                space.write_all(&header)?;
                space.write_all(archive)
            })?;
        }
        transaction.commit()
    }

    fn grow(&self) -> Result<(), CommitError> {
        match self.inner.grow() {
            Growth::Grown => Ok(()),
            Growth::Unmapped => Err(CommitError::Unmapped),
            Growth::AtLimit => {
                Err(CommitError::MapFull { limit_bytes: self.inner.options.map_bytes_max })
            }
        }
    }

    fn explain(&self, error: heed::Error, writes_count: usize) -> CommitError {
        let path = self.inner.path.clone();
        match error {
            heed::Error::Io(source) if is_full(&source) => CommitError::DiskFull { path, source },
            heed::Error::Io(source) if source.kind() == io::ErrorKind::OutOfMemory => {
                CommitError::OutOfMemory { writes_count }
            }
            heed::Error::Io(source) => CommitError::DiskFailed { path, source },
            heed::Error::Mdb(MdbError::TxnFull) => CommitError::TooLarge { writes_count },
            error => CommitError::Database(DatabaseError(error)),
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("path", &self.inner.path).finish()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.inner.writer_taken.store(false, Ordering::Release);
    }
}

fn check_key(write: &Write) -> Result<(), CommitError> {
    let key_bytes = write.key.len();
    let fits = (1..=KEY_BYTES_MAX).contains(&key_bytes);
    if !fits || (write.table == Table::Meta && *write.key == *SCHEMA_KEY) {
        return Err(CommitError::Key { table: write.table, key_bytes });
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use luge_core::view::View;

    use super::*;
    use crate::Options;

    fn write(table: Table, key: &[u8]) -> Write {
        Write { table, key: key.into(), value: Some(b"value".as_slice().into()) }
    }

    #[test]
    fn second_writer_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let writer = store.writer().unwrap();
        assert_eq!(store.clone().writer().unwrap_err(), WriterTaken);
        drop(writer);
        store.writer().unwrap();
    }

    #[test]
    fn group_with_one_bad_key_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let mut writer = store.writer().unwrap();
        let bad = [
            write(Table::Rooms, b""),
            write(Table::Rooms, &[1; KEY_BYTES_MAX + 1]),
            write(Table::Meta, SCHEMA_KEY),
            Write { value: None, ..write(Table::Meta, SCHEMA_KEY) },
        ];
        for bad in bad {
            let error = writer.commit(&[write(Table::Rooms, b"good"), bad]).unwrap_err();
            assert!(matches!(error, CommitError::Key { .. }), "{error}");
            assert!(!error.is_transient());
        }
        assert!(store.read(|reader| reader.get(Table::Rooms, b"good").is_none()).unwrap());
        writer.commit(&[write(Table::Rooms, &[1; KEY_BYTES_MAX])]).unwrap();
    }

    #[test]
    fn commit_inside_a_read_is_refused_instead_of_waiting_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let mut writer = store.writer().unwrap();
        let error = store.read(|_| writer.commit(&[write(Table::Rooms, b"key")])).unwrap();
        assert!(matches!(error, Err(CommitError::InsideRead)), "{error:?}");
        writer.commit(&[write(Table::Rooms, b"key")]).unwrap();
    }

    #[test]
    fn disk_errors_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let writer = store.writer().unwrap();
        let of = |code| writer.explain(io::Error::from_raw_os_error(code).into(), 1);
        for code in [28, 122, 27] {
            assert!(matches!(of(code), CommitError::DiskFull { .. }), "{code}");
            assert!(of(code).is_transient());
        }
        assert!(matches!(of(5), CommitError::DiskFailed { .. }));
        assert!(matches!(of(12), CommitError::OutOfMemory { writes_count: 1 }));
        let too_large = writer.explain(heed::Error::Mdb(MdbError::TxnFull), 9);
        assert!(matches!(too_large, CommitError::TooLarge { writes_count: 9 }));
        let fatal = writer.explain(heed::Error::Mdb(MdbError::Panic), 1);
        assert!(matches!(fatal, CommitError::Database(_)) && !fatal.is_transient());
    }
}
