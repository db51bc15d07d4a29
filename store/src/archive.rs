//! A value's bytes on disk: `[version: 1][digest: 8][archive]` (INV-9).
//!
//! rkyv looks for the root at the end of an archive, so a value cut short can
//! still be a well-formed archive of something else. The digest covers the
//! archive and its place (table and key), so that a value that was cut, changed
//! or moved is refused before anybody reads it. What an archive means is not
//! known here.

use luge_core::view::{KEY_BYTES_MAX, Table};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Raised with every change to the header, or to rkyv's features in the
/// workspace manifest, which are part of the format.
pub const FORMAT_VERSION: u8 = 1;

/// How many bytes come before the archive.
pub const HEADER_BYTES: usize = 1 + size_of::<u64>();

/// Why a value cannot be read as what was written under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damaged {
    /// Shorter than its own header.
    #[error("value has no header")]
    Headless,
    /// Written in another format.
    #[error("value has format {found}, this build reads {FORMAT_VERSION}")]
    Version {
        /// The version byte on disk.
        found: u8,
    },
    /// Not the bytes that were written at this place.
    #[error("value does not match its digest")]
    Digest,
}

/// An archive with its header, as it lies under `key`.
pub fn seal(table: Table, key: &[u8], archive: &[u8]) -> Vec<u8> {
    [header(table, key, archive).as_slice(), archive].concat()
}

/// The archive in `value`, if it is what was written under `key`.
pub fn check<'v>(table: Table, key: &[u8], value: &'v [u8]) -> Result<&'v [u8], Damaged> {
    let (&[found], rest) = value.split_first_chunk().ok_or(Damaged::Headless)?;
    let (&stored, archive) = rest.split_first_chunk().ok_or(Damaged::Headless)?;
    if found != FORMAT_VERSION {
        return Err(Damaged::Version { found });
    }
    if digest(table, key, archive) != u64::from_le_bytes(stored) {
        return Err(Damaged::Digest);
    }
    Ok(archive)
}

/// What comes before `archive` on disk.
pub(crate) fn header(table: Table, key: &[u8], archive: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [FORMAT_VERSION; HEADER_BYTES];
    header[1..].copy_from_slice(&digest(table, key, archive).to_le_bytes());
    header
}

/// The place seeds the archive's digest, so that no byte can change sides
/// between key and archive, and so that nothing is copied to be hashed.
fn digest(table: Table, key: &[u8], archive: &[u8]) -> u64 {
    let mut place = [0; 1 + KEY_BYTES_MAX];
    place[0] = table as u8;
    let key = &key[..key.len().min(KEY_BYTES_MAX)];
    place[1..=key.len()].copy_from_slice(key);
    xxh3_64_with_seed(archive, xxh3_64(&place[..=key.len()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"room\x01";

    fn archives() -> Vec<Vec<u8>> {
        [0, 1, 7, 64, 239, 240, 241, 1000].map(|length| vec![0x5a; length]).to_vec()
    }

    #[test]
    fn value_at_its_place_reads_back() {
        for archive in archives() {
            let value = seal(Table::Rooms, KEY, &archive);
            assert_eq!(value.len(), HEADER_BYTES + archive.len());
            assert_eq!(check(Table::Rooms, KEY, &value), Ok(&*archive));
        }
    }

    #[test]
    fn value_cut_short_or_made_longer_is_refused() {
        for archive in archives() {
            let mut value = seal(Table::Rooms, KEY, &archive);
            for length in 0..value.len() {
                assert!(check(Table::Rooms, KEY, &value[..length]).is_err(), "{length} bytes");
            }
            value.push(0);
            assert_eq!(check(Table::Rooms, KEY, &value), Err(Damaged::Digest));
        }
    }

    #[test]
    fn value_with_any_bit_flipped_is_refused() {
        let sealed = seal(Table::Rooms, KEY, b"an archive of some length");
        for bit in 0..sealed.len() * 8 {
            let mut value = sealed.clone();
            value[bit / 8] ^= 1 << (bit % 8);
            assert!(check(Table::Rooms, KEY, &value).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn value_moved_to_another_key_or_table_is_refused() {
        let value = seal(Table::Rooms, KEY, b"archive");
        assert_eq!(check(Table::Rooms, b"room\x02", &value), Err(Damaged::Digest));
        assert_eq!(check(Table::Rooms, b"room", &value), Err(Damaged::Digest));
        assert_eq!(check(Table::Events, KEY, &value), Err(Damaged::Digest));
    }

    #[test]
    fn bytes_that_change_sides_between_key_and_archive_are_refused() {
        let value = seal(Table::Rooms, b"ab", b"c");
        let moved = [&value[..HEADER_BYTES], b"bc"].concat();
        assert_eq!(check(Table::Rooms, b"a", &moved), Err(Damaged::Digest));
    }

    #[test]
    fn value_of_another_format_is_named() {
        let mut value = seal(Table::Rooms, KEY, b"archive");
        value[0] = FORMAT_VERSION + 1;
        let found = FORMAT_VERSION + 1;
        assert_eq!(check(Table::Rooms, KEY, &value), Err(Damaged::Version { found }));
    }

    #[test]
    fn bytes_on_disk_are_pinned() {
        let value = seal(Table::Events, b"key", b"archive");
        let expected = [1, 23, 63, 107, 46, 200, 120, 41, 143];
        assert_eq!(value[..HEADER_BYTES], expected, "a change here is a change of format");
    }
}
