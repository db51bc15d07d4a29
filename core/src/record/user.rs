//! Users, their rooms, their devices.

use rkyv::{Archive, Deserialize, Serialize};

use super::{event::Place, record};

/// A user's own relation to a room, as far as it matters to what they see.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[rkyv(derive(Debug, PartialEq))]
pub enum Membership {
    /// Joined.
    Join,
    /// Invited.
    Invite,
    /// Knocked.
    Knock,
    /// Left of one's own will: left the room, rejected the invite, took back
    /// the knock.
    Leave,
    /// Made to leave by somebody else.
    Kick,
    /// Banned.
    Ban,
}

/// What one user has in one room, in `Table::UserRooms`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct UserRoomRecord {
    /// The user's membership.
    pub membership: Membership,
    /// When it became that, in the ledger's sequence. For the memberships that
    /// end a stay this is also the last number that the user may see.
    pub since: u64,
    /// When it became that, unix milliseconds: where the room stands in lists
    /// while the user is not joined.
    pub since_ms: u64,
    /// The user's member event, where the room's state has it.
    pub own_event: Option<Place>,
    /// The first number of the timeline that the user may see: the oldest
    /// event that the homeserver gave this user in this stay.
    pub visible_from: u64,
    /// The first number that the user may see of what was fetched for them as
    /// history; `u64::MAX` where nothing was.
    pub history_from: u64,
    /// The first number behind that. What was put in front of later segments was
    /// given to others.
    pub history_until: u64,
    /// The number of an event before which the homeserver had nothing more for
    /// the user; 0 where it is not known to have none.
    pub history_end: u64,
    /// Where joined: the last number, in the ledger's sequence, up to which the
    /// homeserver has told this very user that they are. It is kept up with the
    /// gaps of the room's timeline, not with its events.
    pub vouched: u64,
    /// Whether the user was ever joined, invited or knocking: a ban of somebody
    /// who never was is not shown.
    pub ever_member: bool,
    /// `unread_notifications.notification_count`.
    pub notification_count: u64,
    /// `unread_notifications.highlight_count`.
    pub highlight_count: u64,
    /// When this record last changed, in the ledger's sequence.
    pub changed: u64,
    /// The stripped state of an invite or knock, each a JSON object; the user's
    /// own member event last.
    pub stripped: Vec<String>,
    /// The ids of the last events of a stay that has ended, oldest first, the
    /// end itself last, where the room's timeline up to `since` lacks some of
    /// them: others were not given these, or not in this place. Empty where it
    /// lacks none.
    pub ending: Vec<String>,
}

/// Account data, in `Table::AccountData`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct AccountDataRecord {
    /// When it last changed, in the ledger's sequence.
    pub changed: u64,
    /// The whole `{"type":…,"content":…}`.
    pub json: String,
}

/// What is known of a user as a whole, in `Table::Devices`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRecord {
    /// Whether an initial sync with all rooms has been taken in.
    pub rooms_known: bool,
}

/// A device, in `Table::Devices`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Whose it is.
    pub user: u32,
    /// Its id.
    pub device_id: String,
    /// The homeserver's token for the next `/sync`; `None` before the first.
    pub since: Option<String>,
    /// `device_one_time_keys_count`, a JSON object, once known.
    pub one_time_keys_count: Option<String>,
    /// `device_unused_fallback_key_types`, a JSON array, once known.
    pub fallback_key_types: Option<String>,
    /// The number of the last to-device message that came; they are numbered
    /// from 1 within the device.
    pub to_device_last: u64,
    /// Every message up to this number was acknowledged by the client.
    pub to_device_acknowledged: u64,
    /// What is added to a message's number to make the client's token.
    pub to_device_offset: u64,
    /// Whether the offset has been settled by a first request.
    pub adopted: bool,
    /// The ledger's sequence when its last answer was taken in. What was known
    /// then the homeserver knew when it made the next one.
    pub answered: u64,
    /// The ledger's sequence when its first answer was taken in, if that was
    /// without rooms and it is not yet certain that another device has told of
    /// all that happened before; else 0.
    pub rooms_from: u64,
}

/// One user of a device's list changes, in `Table::DeviceLists`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DeviceListRecord {
    /// When it last changed, in the ledger's sequence.
    pub changed: u64,
    /// Whether the user left the device's sight (else: their devices changed).
    pub left: bool,
}

/// An access token, in `Table::Tokens`, under its keyed hash (INV-10).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The user it was issued to.
    pub user: u32,
    /// The device it was issued to.
    pub device: u32,
    /// The token, encrypted.
    pub sealed: Vec<u8>,
}

record! {
    UserRoomRecord => ArchivedUserRoomRecord,
    AccountDataRecord => ArchivedAccountDataRecord,
    UserRecord => ArchivedUserRecord,
    DeviceRecord => ArchivedDeviceRecord,
    DeviceListRecord => ArchivedDeviceListRecord,
    TokenRecord => ArchivedTokenRecord,
}
