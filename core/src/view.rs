//! Reading records without knowing a database.
//!
//! A [`View`] is handed in for one call: LMDB's read transaction in the server,
//! a map in the simulation. Values are archives of the records in
//! [`crate::record`], already checked for version and digest (INV-9). What the
//! ledger has published but not yet committed lies in a [`Pending`] that a
//! [`Layered`] view reads first.

mod ranges;

use std::{borrow::Borrow, cmp::Ordering, collections::BTreeMap, ops::Bound, sync::Arc};

use imbl::OrdMap;

pub use ranges::{KeyRanges, visit_ranges};

/// The tables of the store. The discriminants are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Counters and the schema version, by name.
    Meta = 0,
    /// Names to numbers and back (rooms, users, devices).
    Names = 1,
    /// Room summaries, by room.
    Rooms = 2,
    /// Events, by (room, sequence).
    Events = 3,
    /// Event ids to sequence, by (room, event id).
    EventIds = 4,
    /// Current state, by (room, type, state key).
    State = 5,
    /// What one user has in one room, by (user, room).
    UserRooms = 6,
    /// Account data, by (user, room or none, type).
    AccountData = 7,
    /// Devices, by device.
    Devices = 8,
    /// Undelivered to-device messages, by (device, sequence).
    ToDevice = 9,
    /// Device list changes, by (device, user id).
    DeviceLists = 10,
    /// Access tokens, by keyed hash.
    Tokens = 11,
    /// Receipts, by (room, user, kind, thread).
    Receipts = 12,
    /// Receipts in order of arrival, by (room, sequence).
    ReceiptOrder = 13,
    /// Sliding sync connections, by (device, conn_id).
    Connections = 14,
    /// Transaction ids of a device's own events, by (device, room, event sequence).
    TransactionIds = 15,
}

impl Table {
    /// Every table, in order of discriminant.
    pub const ALL: [Self; 16] = [
        Self::Meta,
        Self::Names,
        Self::Rooms,
        Self::Events,
        Self::EventIds,
        Self::State,
        Self::UserRooms,
        Self::AccountData,
        Self::Devices,
        Self::ToDevice,
        Self::DeviceLists,
        Self::Tokens,
        Self::Receipts,
        Self::ReceiptOrder,
        Self::Connections,
        Self::TransactionIds,
    ];

    /// The table's name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Names => "names",
            Self::Rooms => "rooms",
            Self::Events => "events",
            Self::EventIds => "event_ids",
            Self::State => "state",
            Self::UserRooms => "user_rooms",
            Self::AccountData => "account_data",
            Self::Devices => "devices",
            Self::ToDevice => "to_device",
            Self::DeviceLists => "device_lists",
            Self::Tokens => "tokens",
            Self::Receipts => "receipts",
            Self::ReceiptOrder => "receipt_order",
            Self::Connections => "connections",
            Self::TransactionIds => "transaction_ids",
        }
    }
}

/// Which end a scan starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

/// Visits one entry of a scan; false ends it.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// A consistent, read-only picture of the tables. An entry that fails its
/// check is reported by the implementation and counts as absent.
pub trait View {
    /// The archive under `key`.
    fn get(&self, table: Table, key: &[u8]) -> Option<&[u8]>;

    /// Visits the entries with `from <= key < to` until `visit` returns false.
    /// An empty `to` means no upper bound.
    fn scan(&self, table: Table, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>);

    /// Visits the entries in settled `ranges`, in order of their keys, until
    /// `visit` returns false.
    fn scan_ranges(&self, table: Table, ranges: &KeyRanges, visit: Visit<'_>);
}

/// One change to the tables; `None` removes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// At most [`KEY_BYTES_MAX`] bytes, never empty.
    pub key: Box<[u8]>,
    /// The new archive (without header), or removal.
    pub value: Option<Arc<[u8]>>,
}

/// The longest key a table takes: LMDB's own limit.
pub const KEY_BYTES_MAX: usize = 511;

/// Writes that are published but not yet durable.
pub type Pending = OrdMap<(Table, Box<[u8]>), Option<Arc<[u8]>>>;

/// Where a record is. Lets one be looked up by a key that is lent.
trait Place {
    fn place(&self) -> (Table, &[u8]);
}

impl Place for (Table, Box<[u8]>) {
    fn place(&self) -> (Table, &[u8]) {
        (self.0, &self.1)
    }
}

impl Place for (Table, &[u8]) {
    fn place(&self) -> (Table, &[u8]) {
        *self
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Place + '_ {}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As the owned keys are ordered.
impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl<'a> Borrow<dyn Place + 'a> for (Table, Box<[u8]>) {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

/// What is pending under a key, else what `below` gives.
pub(crate) fn pending_or<'a>(
    pending: &'a Pending,
    (table, key): (Table, &[u8]),
    below: impl FnOnce() -> Option<&'a [u8]>,
) -> Option<&'a [u8]> {
    if pending.is_empty() {
        return below();
    }
    let place: &dyn Place = &(table, key);
    pending.get(place).map_or_else(below, Option::as_deref)
}

/// A view of pending writes on top of another view.
#[derive(Clone, Copy, Debug)]
pub struct Layered<'a, V: ?Sized> {
    /// Read first.
    pub pending: &'a Pending,
    /// Read where `pending` says nothing.
    pub below: &'a V,
}

impl<V: View + ?Sized> View for Layered<'_, V> {
    fn get(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        pending_or(self.pending, (table, key), || self.below.get(table, key))
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>) {
        if self.pending.is_empty() {
            return self.below.scan(table, from, to, direction, visit);
        }
        let low = Bound::Included((table, Box::from(from)));
        let range = self.pending.range((low, above(table, to)));
        let mut above: Vec<(&[u8], Option<&[u8]>)> =
            range.map(|((_, key), value)| (&**key, value.as_deref())).collect();
        if direction == Direction::Backward {
            above.reverse();
        }
        let below = |visit: Visit<'_>| self.below.scan(table, from, to, direction, visit);
        merge(&above, direction, below, visit);
    }

    fn scan_ranges(&self, table: Table, ranges: &KeyRanges, visit: Visit<'_>) {
        let above = self.above(table, ranges);
        if above.is_empty() {
            return self.below.scan_ranges(table, ranges, visit);
        }
        let below = |visit: Visit<'_>| self.below.scan_ranges(table, ranges, visit);
        merge(&above, Direction::Forward, below, visit);
    }
}

/// A key that was written, and what is there now.
type Above<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'a, V: View + ?Sized> Layered<'a, V> {
    /// What is pending in settled `ranges`.
    fn above(&self, table: Table, ranges: &KeyRanges) -> Vec<Above<'a>> {
        let mut ranges = ranges.iter().peekable();
        let first = ranges.peek().map(|(from, _)| (table, Box::from(*from)));
        let Some(first) = first.filter(|_| !self.pending.is_empty()) else { return Vec::new() };
        let mut above = Vec::new();
        for ((at, key), value) in self.pending.range(first..) {
            while ranges.next_if(|(_, to)| !ranges::is_before(key, to)).is_some() {}
            match ranges.peek() {
                Some((from, _)) if *at == table => {
                    if &**key >= *from {
                        above.push((&**key, value.as_deref()));
                    }
                }
                _ => break,
            }
        }
        above
    }
}

/// The end of a range of one table's keys: behind the last where `to` is empty.
fn above(table: Table, to: &[u8]) -> Bound<(Table, Box<[u8]>)> {
    if to.is_empty() {
        Bound::Included((table, Box::from([0xff; KEY_BYTES_MAX + 1].as_slice())))
    } else {
        Bound::Excluded((table, Box::from(to)))
    }
}

/// Visits `above` and what `below` visits in one order; an entry above hides its
/// equal below.
fn merge(
    above: &[Above<'_>],
    direction: Direction,
    below: impl FnOnce(Visit<'_>),
    visit: Visit<'_>,
) {
    let comes_first = |left: &[u8], right: &[u8]| match direction {
        Direction::Forward => left < right,
        Direction::Backward => left > right,
    };
    let mut next = 0;
    let mut going = true;
    below(&mut |key, value| {
        while let Some(&(over_key, over_value)) = above.get(next) {
            if !comes_first(over_key, key) {
                break;
            }
            next += 1;
            going = over_value.is_none_or(|value| visit(over_key, value));
            if !going {
                return false;
            }
        }
        if let Some(&(over_key, over_value)) = above.get(next)
            && over_key == key
        {
            next += 1;
            going = over_value.is_none_or(|value| visit(over_key, value));
        } else {
            going = visit(key, value);
        }
        going
    });
    while going && let Some(&(key, value)) = above.get(next) {
        next += 1;
        going = value.is_none_or(|value| visit(key, value));
    }
}

/// Tables in memory: the simulation's store, and the ledger's picture of one
/// group of batches in tests.
#[derive(Clone, Debug, Default)]
pub struct MemoryTables(BTreeMap<(Table, Box<[u8]>), Arc<[u8]>>);

impl MemoryTables {
    /// Applies writes in order.
    pub fn apply<'a>(&mut self, writes: impl IntoIterator<Item = &'a Write>) {
        for write in writes {
            let key = (write.table, write.key.clone());
            match &write.value {
                Some(value) => drop(self.0.insert(key, Arc::clone(value))),
                None => drop(self.0.remove(&key)),
            }
        }
    }
}

impl View for MemoryTables {
    fn get(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        let place: &dyn Place = &(table, key);
        self.0.get(place).map(|value| &**value)
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>) {
        // No key is longer than a table takes, and none is behind the longest.
        let is_empty = from > [0xff; KEY_BYTES_MAX].as_slice() || (!to.is_empty() && to <= from);
        if is_empty {
            return;
        }
        let low = Bound::Included((table, Box::from(from)));
        let mut entries = self.0.range((low, above(table, to)));
        let mut visit = |((_, key), value): (&(Table, Box<[u8]>), &Arc<[u8]>)| visit(key, value);
        match direction {
            Direction::Forward => _ = entries.all(&mut visit),
            Direction::Backward => _ = entries.rev().all(&mut visit),
        }
    }

    fn scan_ranges(&self, table: Table, ranges: &KeyRanges, visit: Visit<'_>) {
        let seek = |from: &[u8]| {
            let of_table = self.0.range((table, Box::from(from))..);
            let of_table = of_table.take_while(move |((at, _), _)| *at == table);
            of_table.map(|((_, key), value)| (&**key, &**value))
        };
        visit_ranges(ranges, seek, visit);
    }
}
