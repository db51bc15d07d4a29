//! How large the store is and who is reading it, for metrics.

use std::sync::atomic::Ordering;

use luge_core::view::Table;

use crate::{
    env::{DatabaseError, Store},
    reader::ReadError,
};

/// A picture of the store at one moment.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Address space of the map.
    pub map_bytes: u64,
    /// Bytes a page.
    pub page_bytes: u32,
    /// Pages of the file that have ever been used; the map is full when they
    /// fill it and none of them is free.
    pub pages_used: u64,
    /// Pages that hold the tables now; the others are free, or waiting for an
    /// old reader to end.
    pub pages_live: u64,
    /// Read transactions open now, this picture's own not counted.
    pub readers_open: usize,
    /// Reader slots of LMDB that have ever been used at one time.
    pub reader_slots: u32,
    /// How many there can be.
    pub readers_max: u32,
    /// Entries met that failed their check, since the start.
    pub damaged_entries: u64,
    /// How often the map has grown since the start.
    pub map_growths: u64,
    /// One for each of [`Table::ALL`], in its order.
    pub tables: Vec<TableStats>,
}

/// The size of one table.
#[derive(Clone, Copy, Debug)]
pub struct TableStats {
    /// Which.
    pub table: Table,
    /// How many entries.
    pub entries: u64,
    /// How many pages.
    pub pages: u64,
}

impl Store {
    /// Sizes and counters.
    pub fn stats(&self) -> Result<Stats, ReadError> {
        self.read(|reader| {
            let inner = reader.inner;
            let tables: Result<Vec<_>, _> = Table::ALL
                .iter()
                .map(|&table| {
                    let stat = inner.tables.of(table).stat(&reader.transaction)?;
                    let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
                    Ok(TableStats { table, entries: stat.entries as u64, pages: pages as u64 })
                })
                .collect();
            let tables = tables.map_err(|error| ReadError::Database(DatabaseError(error)))?;
            let info = inner.env.info();
            Ok(Stats {
                map_bytes: info.map_size as u64,
                page_bytes: inner.env.stat().page_size,
                pages_used: info.last_page_number as u64 + 1,
                pages_live: tables.iter().map(|table| table.pages).sum(),
                readers_open: inner.gate.count().saturating_sub(1),
                reader_slots: info.number_of_readers,
                readers_max: info.maximum_number_of_readers,
                damaged_entries: inner.damaged.load(Ordering::Relaxed),
                map_growths: inner.growths.load(Ordering::Relaxed),
                tables,
            })
        })?
    }
}

#[cfg(test)]
mod tests {
    use luge_core::view::Write;

    use super::*;
    use crate::Options;

    #[test]
    fn stats_follow_what_is_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Options::default()).unwrap();
        let before = store.stats().unwrap();
        let writes: Vec<_> = (0_u32..300)
            .map(|number| Write {
                table: Table::Events,
                key: number.to_be_bytes().into(),
                value: Some([7; 100].as_slice().into()),
            })
            .collect();
        store.writer().unwrap().commit(&writes).unwrap();
        let after = store.read(|_| store.stats()).unwrap().unwrap();
        let events = after.tables[Table::Events as usize];
        assert_eq!((events.table, events.entries), (Table::Events, 300));
        assert_eq!(after.tables[Table::Meta as usize].entries, 1);
        assert_eq!(after.pages_live - before.pages_live, events.pages);
        assert!(events.pages >= 300 * 100 / u64::from(after.page_bytes));
        assert!(after.pages_live <= after.pages_used);
        assert_eq!((before.readers_open, after.readers_open), (0, 1));
        assert_eq!(after.map_bytes, before.map_bytes);
    }
}
