//! Opening a data folder: the lock, the LMDB environment, its tables and its
//! limits; and growing the map.
//!
//! Nothing here reads or writes records. LMDB's unsafe calls are all here.
#![expect(unsafe_code, reason = "LMDB cannot check who else touches its file and its map")]

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use heed::{Database, Env, EnvFlags, EnvOpenOptions, MdbError, WithoutTls, types::Bytes};
use luge_core::view::Table;

use crate::{
    gate::{Closed, Gate},
    schema::{self, MIGRATIONS, SCHEMA_VERSION},
};

/// A multiple of every page size in use, as LMDB wants for its map.
const MAP_BYTES_STEP: u64 = 64 << 10;
/// The smallest map that holds the empty tables.
const MAP_BYTES_MIN: u64 = 4 * MAP_BYTES_STEP;
/// Named databases beyond today's tables, for a migration's use.
const TABLES_SPARE: u32 = 16;
/// Held by the process that has the folder open.
const LOCK_FILE: &str = "luge.lock";

/// The limits of a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address space for the map at start, in bytes; not disk space. Less is
    /// taken where the system does not grant it. Default 64 GiB.
    pub map_bytes: u64,
    /// What the map may grow to, in bytes. Default 4 TiB.
    pub map_bytes_max: u64,
    /// Read transactions open at one time, over all threads. Default 512.
    pub readers_max: u32,
    /// Damaged entries that are logged in a process's life; all are counted.
    /// Default 100.
    pub damage_logs_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { map_bytes: 64 << 30, map_bytes_max: 4 << 40, readers_max: 512, damage_logs_max: 100 }
    }
}

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store of this one, has the folder open.
    #[error(
        "data folder {} is in use by process {holder}: stop it, or give this one a folder of its own",
        path.display()
    )]
    InUse {
        /// The data folder.
        path: PathBuf,
        /// The process id that the holder wrote down.
        holder: String,
    },
    /// The path, or a part of it, is a file.
    #[error("{} is not a directory: give the path of a folder, or remove the file", path.display())]
    NotADirectory {
        /// What was asked for.
        path: PathBuf,
    },
    /// The process may not read and write there.
    #[error(
        "no permission to read and write {}: run as its owner, or change the owner of the folder and everything in it",
        path.display()
    )]
    Permission {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No space, or the quota is used up.
    #[error("no space left for {}: free some disk space, or raise the quota", path.display())]
    DiskFull {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system cannot be written.
    #[error("{} is on a read-only file system: mount it writable", path.display())]
    ReadOnly {
        /// What was asked for.
        path: PathBuf,
    },
    /// Not even the smallest map could be had.
    #[error(
        "no address space to map the database in {}: raise the limit on virtual memory (ulimit -v)",
        path.display()
    )]
    AddressSpace {
        /// What was asked for.
        path: PathBuf,
    },
    /// `data.mdb` is something else, or was cut short.
    #[error(
        "data.mdb in {} is not a database of luge: restore the folder from a backup, or move it away to start anew from the homeserver",
        path.display()
    )]
    NotADatabase {
        /// What was asked for.
        path: PathBuf,
        /// What LMDB said.
        source: DatabaseError,
    },
    /// Written by a newer build.
    #[error(
        "data folder has schema {found}, this build knows up to {known}: start the newer luge again, or restore the backup from before the upgrade"
    )]
    SchemaNewer {
        /// On disk.
        found: u32,
        /// What this build writes.
        known: u32,
    },
    /// Written by a build so old that no migration is left.
    #[error(
        "data folder has schema {found}, this build cannot bring it to {known}: upgrade through an earlier release, or move the folder away to start anew from the homeserver"
    )]
    SchemaOlder {
        /// On disk.
        found: u32,
        /// What this build writes.
        known: u32,
    },
    /// There are records, but no sound schema version.
    #[error(
        "the schema version in the data folder cannot be read: restore the folder from a backup, or move it away to start anew from the homeserver"
    )]
    SchemaUnreadable,
    /// Another failure of the file system.
    #[error("cannot open {}: check the disk and the system's log", path.display())]
    Io {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another failure of the database.
    #[error("the database could not be opened: check the disk and the system's log")]
    Database(#[from] DatabaseError),
}

/// What LMDB said.
#[derive(Debug, thiserror::Error)]
#[error("lmdb: {0}")]
pub struct DatabaseError(pub(crate) heed::Error);

/// One named database a table; keys and values are bytes.
#[derive(Debug)]
pub(crate) struct Tables(Vec<Database<Bytes, Bytes>>);

const _: () = {
    let mut index = 0;
    while index < Table::ALL.len() {
        assert!(Table::ALL[index] as usize == index, "Tables::of indexes by discriminant");
        index += 1;
    }
};

impl Tables {
    pub(crate) fn of(&self, table: Table) -> Database<Bytes, Bytes> {
        self.0[table as usize]
    }
}

/// An open data folder. Cheap to clone; the folder closes with the last clone.
///
/// The folder must not lie on a network file system: LMDB's locks and map do
/// not work there.
#[derive(Clone, Debug)]
pub struct Store(pub(crate) Arc<Inner>);

/// What all clones share. The lock is the last field, so that it is let go
/// after the environment is closed.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) env: Env<WithoutTls>,
    pub(crate) tables: Tables,
    pub(crate) gate: Gate,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    /// Damaged entries met so far.
    pub(crate) damaged: AtomicU64,
    /// How often the map has grown.
    pub(crate) growths: AtomicU64,
    /// The old map is gone and the new one was not granted: LMDB would follow a
    /// null pointer from here on.
    pub(crate) unmapped: AtomicBool,
    pub(crate) writer_taken: AtomicBool,
    _lock: FolderLock,
}

/// The right to open the folder.
#[derive(Debug)]
struct FolderLock(File);

impl Drop for FolderLock {
    /// Closing is not enough: a process that is being started elsewhere in this
    /// one has a copy of every descriptor until it runs its own program.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "data folder stays locked until the process ends");
        }
    }
}

impl Store {
    /// Opens the data folder, and creates it (for its owner only) where there
    /// is none.
    pub fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let explain = |source| explain_io(path, source);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(explain)?;
        let lock = lock_folder(path)?;
        let (env, map_bytes) = open_env(path, options)?;
        let stale = env.clear_stale_readers().map_err(|error| explain_lmdb(path, error))?;
        let tables = open_tables(path, &env)?;
        tracing::info!(path = %path.display(), map_bytes, stale_readers = stale, "store opened");
        Ok(Self(Arc::new(Inner {
            env,
            tables,
            gate: Gate::default(),
            path: path.to_owned(),
            options: options.clone(),
            damaged: AtomicU64::new(0),
            growths: AtomicU64::new(0),
            unmapped: AtomicBool::new(false),
            writer_taken: AtomicBool::new(false),
            _lock: lock,
        })))
    }

    #[cfg(test)]
    pub(crate) fn parts(&self) -> (&Env<WithoutTls>, &Tables) {
        (&self.0.env, &self.0.tables)
    }
}

/// How an attempt to grow the map ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// The map is larger.
    Grown,
    /// The map is as large as the options allow.
    AtLimit,
    /// There is no map any more.
    Unmapped,
}

impl Inner {
    /// Doubles the map. The caller is the writer, with no transaction open, and
    /// not inside a read.
    pub(crate) fn grow(&self) -> Growth {
        let closed = self.gate.close();
        let current = self.env.info().map_size as u64;
        let limit = round_map(self.options.map_bytes_max);
        if limit <= current {
            return Growth::AtLimit;
        }
        let next = round_map(current.saturating_mul(2).min(limit));
        let growth = self.resize(&closed, next);
        if growth == Growth::Grown {
            self.growths.fetch_add(1, Ordering::Relaxed);
            tracing::info!(from_bytes = current, to_bytes = next, "map grown");
        } else {
            tracing::error!(from_bytes = current, to_bytes = next, "map lost while growing");
        }
        growth
    }

    fn resize(&self, _nobody_inside: &Closed<'_>, bytes: u64) -> Growth {
        let Ok(bytes) = usize::try_from(bytes) else {
            return Growth::AtLimit;
        };
        // SAFETY: INV-5. No transaction is open: the gate is closed and empty,
        // which every read transaction of this process passes; the one writer
        // is the caller; and the folder's lock keeps other processes out.
        let resized = unsafe { self.env.resize(bytes) };
        if resized.is_ok() {
            return Growth::Grown;
        }
        // LMDB gives the old map away before it asks for the new one.
        self.unmapped.store(true, Ordering::Release);
        Growth::Unmapped
    }
}

/// Takes the folder for this process, and writes down who has it.
fn lock_folder(path: &Path) -> Result<FolderLock, OpenError> {
    let explain = |source| explain_io(path, source);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(path.join(LOCK_FILE)).map_err(explain)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // A holder that cannot be read is merely not named.
            let read = (&lock).take(20).read_to_string(&mut holder);
            let named = read.is_ok() && !holder.trim().is_empty();
            let holder = if named { holder.trim().to_owned() } else { "(unknown)".to_owned() };
            return Err(OpenError::InUse { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(explain(source)),
    }
    let mut lock = FolderLock(lock);
    lock.0.set_len(0).map_err(explain)?;
    writeln!(lock.0, "{}", std::process::id()).map_err(explain)?;
    Ok(lock)
}

/// Opens the environment with the largest map, up to the options, that the
/// system grants.
fn open_env(path: &Path, options: &Options) -> Result<(Env<WithoutTls>, u64), OpenError> {
    let on_disk = fs::metadata(path.join("data.mdb")).map_or(0, |metadata| metadata.len());
    let floor = round_map(on_disk.saturating_mul(2));
    let mut map_bytes = round_map(options.map_bytes).max(floor);
    loop {
        match try_open_env(path, options, map_bytes) {
            Err(heed::Error::Io(error)) if error.kind() == io::ErrorKind::OutOfMemory => {
                if map_bytes <= floor {
                    return Err(OpenError::AddressSpace { path: path.to_owned() });
                }
                let less = round_map(map_bytes / 2).max(floor);
                tracing::warn!(asked_bytes = map_bytes, next_bytes = less, "map not granted");
                map_bytes = less;
            }
            Err(error) => return Err(explain_lmdb(path, error)),
            Ok(env) => return Ok((env, map_bytes)),
        }
    }
}

fn try_open_env(
    path: &Path,
    options: &Options,
    map_bytes: u64,
) -> Result<Env<WithoutTls>, heed::Error> {
    let mut open = EnvOpenOptions::new().read_txn_without_tls();
    open.map_size(
        usize::try_from(map_bytes).unwrap_or(usize::MAX & !(MAP_BYTES_STEP as usize - 1)),
    )
    .max_readers(options.readers_max.max(1))
    .max_dbs(Table::ALL.len() as u32 + TABLES_SPARE);
    // SAFETY: the flag only advises the kernel; none that weakens durability or
    // locking is set.
    unsafe { open.flags(EnvFlags::NO_READ_AHEAD) };
    // SAFETY: `lock_folder` made this process the only luge in the folder, and
    // nothing of luge changes the file except through LMDB.
    unsafe { open.open(path) }
}

/// Opens the tables and settles their schema, all in one transaction.
fn open_tables(path: &Path, env: &Env<WithoutTls>) -> Result<Tables, OpenError> {
    let explain = |error| explain_lmdb(path, error);
    let mut transaction = env.write_txn().map_err(explain)?;
    let mut databases = Vec::with_capacity(Table::ALL.len());
    for table in Table::ALL {
        let database = env.create_database(&mut transaction, Some(table.name()));
        databases.push(database.map_err(explain)?);
    }
    let tables = Tables(databases);
    schema::settle(&tables, &mut transaction, MIGRATIONS, SCHEMA_VERSION)?;
    transaction.commit().map_err(explain)?;
    Ok(tables)
}

fn round_map(bytes: u64) -> u64 {
    bytes.clamp(MAP_BYTES_MIN, 1 << 62).next_multiple_of(MAP_BYTES_STEP)
}

fn explain_io(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        // Creating a folder where a file is says that it exists.
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            OpenError::NotADirectory { path }
        }
        io::ErrorKind::PermissionDenied => OpenError::Permission { path, source },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            OpenError::DiskFull { path, source }
        }
        io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path },
        io::ErrorKind::OutOfMemory => OpenError::AddressSpace { path },
        _ => OpenError::Io { path, source },
    }
}

fn explain_lmdb(path: &Path, error: heed::Error) -> OpenError {
    match error {
        heed::Error::Io(source) => explain_io(path, source),
        heed::Error::EnvAlreadyOpened => {
            OpenError::InUse { path: path.to_owned(), holder: std::process::id().to_string() }
        }
        heed::Error::Mdb(
            MdbError::Invalid
            | MdbError::VersionMismatch
            | MdbError::Corrupted
            | MdbError::PageNotFound
            | MdbError::Incompatible,
        ) => OpenError::NotADatabase { path: path.to_owned(), source: DatabaseError(error) },
        error => OpenError::Database(DatabaseError(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn folder_is_created_for_its_owner_only() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/data");
        let _store = Store::open(&path, &Options::default()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("data.mdb")), 0o600);
    }

    #[test]
    #[expect(clippy::used_underscore_binding, reason = "held for its drop everywhere else")]
    fn closed_folder_opens_again_while_a_copy_of_its_lock_lives() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let _copy = store.0._lock.0.try_clone().unwrap();
        drop(store);
        Store::open(folder.path(), &Options::default()).unwrap();
    }

    #[test]
    fn environment_syncs_each_commit_and_keeps_its_locks() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let flags = EnvFlags::from_bits_truncate(store.0.env.get_flags().unwrap());
        let weak = EnvFlags::NO_SYNC
            | EnvFlags::NO_META_SYNC
            | EnvFlags::MAP_ASYNC
            | EnvFlags::WRITE_MAP
            | EnvFlags::NO_LOCK;
        assert!(!flags.intersects(weak), "{flags:?}");
        assert!(flags.contains(EnvFlags::NO_READ_AHEAD));
    }

    #[test]
    fn system_errors_are_told_apart() {
        let path = Path::new("somewhere");
        let of = |code| explain_lmdb(path, heed::Error::Io(io::Error::from_raw_os_error(code)));
        assert!(matches!(of(28), OpenError::DiskFull { .. }));
        assert!(matches!(of(122), OpenError::DiskFull { .. }));
        assert!(matches!(of(13), OpenError::Permission { .. }));
        assert!(matches!(of(20), OpenError::NotADirectory { .. }));
        assert!(matches!(of(30), OpenError::ReadOnly { .. }));
        assert!(matches!(of(12), OpenError::AddressSpace { .. }));
        assert!(matches!(of(5), OpenError::Io { .. }));
    }

    #[test]
    fn map_sizes_are_whole_steps_within_bounds() {
        assert_eq!(round_map(0), MAP_BYTES_MIN);
        assert_eq!(round_map(MAP_BYTES_MIN + 1), MAP_BYTES_MIN + MAP_BYTES_STEP);
        assert_eq!(round_map(u64::MAX) % MAP_BYTES_STEP, 0);
    }
}
