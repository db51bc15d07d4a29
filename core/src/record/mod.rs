//! What the tables hold: the records, their keys, and their bytes.
//!
//! A record is an rkyv archive. Reading one checks it (bytecheck) each time;
//! that the bytes are whole and in the right place is the store's business
//! (INV-9). Nothing here knows a rule of the protocol.

mod event;
pub mod key;
mod user;

pub use event::{
    ArchivedEventRecord, ArchivedReceiptRecord, ArchivedStateRecord, EventRecord, Place,
    ReceiptRecord, RoomRecord, StateRecord,
};
pub use user::{
    AccountDataRecord, ArchivedAccountDataRecord, ArchivedDeviceListRecord, ArchivedMembership,
    ArchivedUserRoomRecord, DeviceListRecord, DeviceRecord, Membership, TokenRecord, UserRecord,
    UserRoomRecord,
};

/// Gives a record its two directions.
macro_rules! record {
    ($($name:ident => $archived:ident),* $(,)?) => {$(
        impl $name {
            /// The archive of this record.
            ///
            /// # Panics
            /// Never: serializing into memory has no other failure than none.
            pub fn encode(&self) -> std::sync::Arc<[u8]> {
                rkyv::to_bytes::<rkyv::rancor::Error>(self)
                    .expect("a record of strings and integers always serializes")
                    .as_slice()
                    .into()
            }

            /// The record in `archive`, in place; `None` where it is not one.
            pub fn access(archive: &[u8]) -> Option<&$archived> {
                rkyv::access::<$archived, rkyv::rancor::Error>(archive).ok()
            }

            /// The record in `archive`, copied out; `None` where it is not one.
            pub fn decode(archive: &[u8]) -> Option<Self> {
                rkyv::from_bytes::<Self, rkyv::rancor::Error>(archive).ok()
            }
        }
    )*};
}
use record;
