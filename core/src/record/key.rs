//! The keys of the tables. Numbers are big-endian, so that keys sort as they do.

use super::event::Place;
use crate::{
    id::{DeviceNumber, RoomNumber, UserNumber},
    view::{KEY_BYTES_MAX, KeyRanges},
};

/// A key.
pub type Key = Box<[u8]>;

/// The room part of an account data key that is for no room.
const GLOBAL: u32 = u32::MAX;

fn join(parts: &[&[u8]]) -> Key {
    parts.concat().into_boxed_slice()
}

/// The least key that is greater than every key beginning with `prefix`; empty
/// (no bound) where there is none.
pub fn after_prefix(prefix: &[u8]) -> Key {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
    let mut end = prefix[..kept].to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into_boxed_slice()
}

/// `Table::Names`: a room id's number (four bytes).
pub fn room_name(room_id: &str) -> Key {
    join(&[b"r", room_id.as_bytes()])
}

/// `Table::Names`: a room number's id.
pub fn room_number(room: RoomNumber) -> Key {
    join(&[b"R", &room.0.to_be_bytes()])
}

/// `Table::Names`: a user id's number (four bytes).
pub fn user_name(user_id: &str) -> Key {
    join(&[b"u", user_id.as_bytes()])
}

/// `Table::Names`: a user number's id.
pub fn user_number(user: UserNumber) -> Key {
    join(&[b"U", &user.0.to_be_bytes()])
}

/// `Table::Names`: the number of a user's device (four bytes). Device ids are
/// the homeserver's; one that is too long for a key goes by its digest.
pub fn device_name(user: UserNumber, device_id: &str) -> Key {
    let key = join(&[b"d", &user.0.to_be_bytes(), device_id.as_bytes()]);
    if key.len() <= KEY_BYTES_MAX { key } else { digested(&key, 5) }
}

/// `Table::Rooms`.
pub fn room(room: RoomNumber) -> Key {
    join(&[&room.0.to_be_bytes()])
}

/// `Table::Events`.
pub fn event(room: RoomNumber, place: Place) -> Key {
    join(&[&room.0.to_be_bytes(), &[u8::from(place.timeline)], &place.sequence.to_be_bytes()])
}

/// Adds the key of an event to `ranges`.
pub fn add_event(ranges: &mut KeyRanges, room: RoomNumber, place: Place) {
    let (room, timeline) = (room.0.to_be_bytes(), [u8::from(place.timeline)]);
    ranges.add_key(&[&room, &timeline, &place.sequence.to_be_bytes()]);
}

/// `Table::EventIds`; the value is [`place_bytes`].
pub fn event_id(room: RoomNumber, event_id: &str) -> Key {
    join(&[&room.0.to_be_bytes(), event_id.as_bytes()])
}

/// A place as nine bytes.
pub fn place_bytes(place: Place) -> Key {
    join(&[&[u8::from(place.timeline)], &place.sequence.to_be_bytes()])
}

/// The place in nine bytes.
pub fn place_from(bytes: &[u8]) -> Option<Place> {
    let (timeline, sequence) = bytes.split_first()?;
    let sequence = u64::from_be_bytes(sequence.try_into().ok()?);
    Some(Place { timeline: *timeline == 1, sequence })
}

/// The sequence at the end of a key that ends with one.
pub fn sequence_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The number in a four byte value.
pub fn number_from(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// `Table::State`. A state key that does not fit goes by its digest, behind a
/// prefix that still begins with the type.
pub fn state(room: RoomNumber, kind: &str, state_key: &str) -> Key {
    let key = join(&[&room.0.to_be_bytes(), kind.as_bytes(), b"\0", state_key.as_bytes()]);
    if key.len() <= KEY_BYTES_MAX { key } else { digested(&key, 5 + kind.len()) }
}

/// Whether the key of such an entry of the state begins with the room and is the
/// same in every room but for that: one that does not fit goes by its digest.
pub fn is_state_key_plain(kind: &str, state_key: &str) -> bool {
    5 + kind.len() + state_key.len() <= KEY_BYTES_MAX
}

/// Adds the key of an entry of the state to `ranges`.
pub fn add_state(ranges: &mut KeyRanges, room: RoomNumber, kind: &str, state_key: &str) {
    if is_state_key_plain(kind, state_key) {
        ranges.add_key(&[&room.0.to_be_bytes(), kind.as_bytes(), b"\0", state_key.as_bytes()]);
    } else {
        ranges.add_key(&[&state(room, kind, state_key)]);
    }
}

/// `Table::State`: what the keys of one type begin with.
pub fn state_of_type(room: RoomNumber, kind: &str) -> Key {
    join(&[&room.0.to_be_bytes(), kind.as_bytes(), b"\0"])
}

/// `Table::UserRooms`.
pub fn user_room(user: UserNumber, room: RoomNumber) -> Key {
    join(&[&user.0.to_be_bytes(), &room.0.to_be_bytes()])
}

/// Where the keys of one user begin, in `Table::UserRooms` and
/// `Table::AccountData`.
pub fn of_user(user: UserNumber) -> Key {
    join(&[&user.0.to_be_bytes()])
}

/// The room in a `Table::UserRooms` or `Table::AccountData` key; `None` for
/// global account data.
pub fn room_of(key: &[u8]) -> Option<RoomNumber> {
    let bytes = key.get(4..8)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes)).filter(|room| *room != GLOBAL).map(RoomNumber)
}

/// `Table::AccountData`; no room for global account data.
pub fn account_data(user: UserNumber, room: Option<RoomNumber>, kind: &str) -> Key {
    let prefix = account_data_of(user, room);
    let key = join(&[&prefix, kind.as_bytes()]);
    if key.len() <= KEY_BYTES_MAX { key } else { digested(&key, prefix.len()) }
}

/// `Table::AccountData`: what the keys of one room (or none) begin with.
pub fn account_data_of(user: UserNumber, room: Option<RoomNumber>) -> Key {
    let room = room.map_or(GLOBAL, |room| room.0);
    join(&[&user.0.to_be_bytes(), &room.to_be_bytes()])
}

/// Whether a `Table::AccountData` key is of this type, which is not so long that
/// it goes by its digest.
pub fn is_account_data_of_type(key: &[u8], kind: &str) -> bool {
    key.get(8..) == Some(kind.as_bytes())
}

/// `Table::Devices`: a device.
pub fn device(device: DeviceNumber) -> Key {
    join(&[b"d", &device.0.to_be_bytes()])
}

/// `Table::Devices`: a user.
pub fn user(user: UserNumber) -> Key {
    join(&[b"u", &user.0.to_be_bytes()])
}

/// `Table::ToDevice`.
pub fn to_device(device: DeviceNumber, number: u64) -> Key {
    join(&[&device.0.to_be_bytes(), &number.to_be_bytes()])
}

/// `Table::DeviceLists`.
pub fn device_list(device: DeviceNumber, user_id: &str) -> Key {
    join(&[&device.0.to_be_bytes(), user_id.as_bytes()])
}

/// What the keys of one device begin with, in `Table::ToDevice`,
/// `Table::DeviceLists`, `Table::Connections` and `Table::TransactionIds`.
pub fn of_device(device: DeviceNumber) -> Key {
    join(&[&device.0.to_be_bytes()])
}

/// `Table::Connections`.
pub fn connection(device: DeviceNumber, conn_id: &str) -> Key {
    join(&[&device.0.to_be_bytes(), conn_id.as_bytes()])
}

/// `Table::TransactionIds`; the value is the transaction id.
pub fn transaction_id(device: DeviceNumber, room: RoomNumber, sequence: u64) -> Key {
    join(&[&device.0.to_be_bytes(), &room.0.to_be_bytes(), &sequence.to_be_bytes()])
}

/// `Table::Receipts`; the value is the receipt's sequence, eight bytes.
pub fn receipt(room: RoomNumber, user_id: &str, kind: &str, thread_id: Option<&str>) -> Key {
    let prefix = receipts_of(room, user_id);
    let thread = thread_id.unwrap_or_default();
    let key = join(&[&prefix, kind.as_bytes(), b"\0", thread.as_bytes()]);
    if key.len() <= KEY_BYTES_MAX { key } else { digested(&key, prefix.len()) }
}

/// `Table::Receipts`: what the keys of one user begin with.
pub fn receipts_of(room: RoomNumber, user_id: &str) -> Key {
    join(&[&room.0.to_be_bytes(), user_id.as_bytes(), b"\0"])
}

/// `Table::ReceiptOrder`.
pub fn receipt_order(room: RoomNumber, sequence: u64) -> Key {
    join(&[&room.0.to_be_bytes(), &sequence.to_be_bytes()])
}

/// A key that is too long: its first `kept` bytes, then its digest.
fn digested(key: &[u8], kept: usize) -> Key {
    let digest = xxhash_rust::xxh3::xxh3_128(key).to_be_bytes();
    join(&[&key[..kept], &digest])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_behind_all_its_keys() {
        assert_eq!(&*after_prefix(&[1, 2]), &[1, 3]);
        assert_eq!(&*after_prefix(&[1, 0xff]), &[2]);
        assert_eq!(&*after_prefix(&[0xff, 0xff]), &[] as &[u8]);
    }

    #[test]
    fn the_longest_names_still_make_keys_that_differ() {
        let long = "k".repeat(255);
        let other = format!("{}x", "k".repeat(254));
        let key = |state_key: &str| state(RoomNumber(1), &long, state_key);
        assert!(key(&long).len() <= KEY_BYTES_MAX);
        assert_ne!(key(&long), key(&other));
        assert!(key(&long).starts_with(&state_of_type(RoomNumber(1), &long)));
    }

    #[test]
    fn state_only_events_sort_before_every_timeline_event() {
        let key = |timeline, sequence| event(RoomNumber(7), Place { timeline, sequence });
        assert!(key(false, u64::MAX) < key(true, 0));
        assert!(key(true, 1) < key(true, 256));
        assert_eq!(sequence_of(&key(true, 256)), Some(256));
    }
}
