//! Which shape the tables have, and how an older shape becomes this one.
//!
//! Runs inside the one write transaction of opening: a folder is either
//! migrated whole or left as it was.

use heed::RwTxn;
use luge_core::view::Table;

use crate::{
    archive,
    env::{DatabaseError, OpenError, Tables},
};

/// The shape that this build reads and writes.
pub const SCHEMA_VERSION: u32 = 6;

/// Where the schema version lies in [`Table::Meta`]; no [`luge_core::view::Write`] may touch it.
pub const SCHEMA_KEY: &[u8] = b"schema_version";

/// One step from an older shape to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    /// Turns this version into the one after it.
    pub(crate) from: u32,
    /// Rewrites the records; must be whole within the transaction.
    pub(crate) run: fn(&Tables, &mut RwTxn<'_>) -> Result<(), DatabaseError>,
}

/// The steps that this build knows.
pub(crate) const MIGRATIONS: &[Migration] = &[];

/// Brings the tables to `target`, or says why that cannot be.
pub(crate) fn settle(
    tables: &Tables,
    transaction: &mut RwTxn<'_>,
    migrations: &[Migration],
    target: u32,
) -> Result<(), OpenError> {
    let Some(mut version) = find_version(tables, transaction)? else {
        return put_version(tables, transaction, target);
    };
    if version == target {
        return Ok(());
    }
    let found = version;
    if found > target {
        return Err(OpenError::SchemaNewer { found, known: target });
    }
    while version < target {
        let step = migrations.iter().find(|migration| migration.from == version);
        let step = step.ok_or(OpenError::SchemaOlder { found, known: target })?;
        (step.run)(tables, transaction)?;
        version += 1;
    }
    tracing::info!(from = found, to = target, "data folder migrated");
    put_version(tables, transaction, target)
}

/// The stored version; `None` in a folder that was never used.
fn find_version(tables: &Tables, transaction: &RwTxn<'_>) -> Result<Option<u32>, OpenError> {
    let value = tables.of(Table::Meta).get(transaction, SCHEMA_KEY).map_err(DatabaseError)?;
    if let Some(value) = value {
        let archive = archive::check(Table::Meta, SCHEMA_KEY, value).ok();
        let version = archive.and_then(|archive| archive.try_into().ok());
        return version.map(u32::from_le_bytes).map(Some).ok_or(OpenError::SchemaUnreadable);
    }
    for table in Table::ALL {
        if !tables.of(table).is_empty(transaction).map_err(DatabaseError)? {
            return Err(OpenError::SchemaUnreadable);
        }
    }
    Ok(None)
}

fn put_version(
    tables: &Tables,
    transaction: &mut RwTxn<'_>,
    version: u32,
) -> Result<(), OpenError> {
    let value = archive::seal(Table::Meta, SCHEMA_KEY, &version.to_le_bytes());
    let put = tables.of(Table::Meta).put(transaction, SCHEMA_KEY, &value);
    Ok(put.map_err(DatabaseError)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Store};

    fn with_settled<R>(
        store: &Store,
        migrations: &[Migration],
        target: u32,
        then: impl FnOnce(&Tables, &RwTxn<'_>) -> R,
    ) -> Result<R, OpenError> {
        let (env, tables) = store.parts();
        let mut transaction = env.write_txn().map_err(DatabaseError)?;
        settle(tables, &mut transaction, migrations, target)?;
        let result = then(tables, &transaction);
        transaction.commit().map_err(DatabaseError)?;
        Ok(result)
    }

    fn mark(tables: &Tables, transaction: &mut RwTxn<'_>) -> Result<(), DatabaseError> {
        tables.of(Table::Names).put(transaction, b"migrated", b"once").map_err(DatabaseError)
    }

    #[test]
    fn folder_of_a_newer_build_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let newer = SCHEMA_VERSION + 1;
        with_settled(&store, &[Migration { from: SCHEMA_VERSION, run: mark }], newer, |_, _| ())
            .unwrap();
        drop(store);
        let error = Store::open(folder.path(), &Options::default()).unwrap_err();
        assert!(matches!(error, OpenError::SchemaNewer { found, .. } if found == newer), "{error}");
        assert!(error.to_string().contains("newer luge"), "{error}");
    }

    #[test]
    fn older_folder_runs_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let nothing = |_: &Tables, _: &mut RwTxn<'_>| Ok(());
        let of = |from, run| Migration { from, run };
        let steps = [of(SCHEMA_VERSION, nothing), of(SCHEMA_VERSION + 1, mark)];
        let migrated = with_settled(&store, &steps, SCHEMA_VERSION + 2, |tables, transaction| {
            tables.of(Table::Names).get(transaction, b"migrated").unwrap().is_some()
        });
        assert!(migrated.unwrap());
        with_settled(&store, &[], SCHEMA_VERSION + 2, |_, _| ()).unwrap();
    }

    #[test]
    fn older_folder_without_a_step_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let steps = [Migration { from: SCHEMA_VERSION, run: mark }];
        let newer = SCHEMA_VERSION + 2;
        let error = with_settled(&store, &steps, newer, |_, _| ()).unwrap_err();
        assert!(
            matches!(error, OpenError::SchemaOlder { found: SCHEMA_VERSION, known } if known == newer),
            "{error}"
        );
        let untouched = with_settled(&store, &[], SCHEMA_VERSION, |tables, transaction| {
            tables.of(Table::Names).is_empty(transaction).unwrap()
        });
        assert!(untouched.unwrap());
    }

    #[test]
    fn damaged_or_missing_version_beside_data_is_refused() {
        for replacement in [Some(b"garbage".as_slice()), None] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), &Options::default()).unwrap();
            let (env, tables) = store.parts();
            let mut transaction = env.write_txn().unwrap();
            mark(tables, &mut transaction).unwrap();
            let meta = tables.of(Table::Meta);
            match replacement {
                Some(value) => meta.put(&mut transaction, SCHEMA_KEY, value).unwrap(),
                None => assert!(meta.delete(&mut transaction, SCHEMA_KEY).unwrap()),
            }
            transaction.commit().unwrap();
            drop(store);
            let error = Store::open(folder.path(), &Options::default()).unwrap_err();
            assert!(matches!(error, OpenError::SchemaUnreadable), "{error}");
        }
    }
}
