//! Numbers that stand for names inside one store.
//!
//! A room, user or device id is a string a stranger chose; inside Luge each is
//! a dense number, given by the ledger when the name is first seen, kept in the
//! store, and never reused. Numbers never leave the process.

use rkyv::{Archive, Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash,
            PartialOrd, Ord,
        )]
        pub struct $name(pub $inner);
    };
}

number! {
    /// A room of this store.
    RoomNumber(u32)
}
number! {
    /// A user of this store: somebody who has a device that Luge serves.
    UserNumber(u32)
}
number! {
    /// A (user, device) pair of this store.
    DeviceNumber(u32)
}
number! {
    /// The ledger's sequence. Events, receipts, typing and account data changes
    /// draw from one sequence, so that one cursor covers them all. Starts at 1;
    /// 0 means "before everything".
    Sequence(u64)
}

impl Sequence {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
