//! The ledger's logic: commands in, writes and a delta out.
//!
//! One thread owns a [`Ledger`]; it is the only writer of global facts, of
//! user-scoped facts on the shards' behalf, and of the sequence. Everything
//! here is pure: the clock's reading and the tables come in as arguments, and
//! what is to be written goes out. No protocol rule of a *response* lives here.

mod command;

pub use command::{
    Applied, Change, Command, ConnectionWrite, Delta, DeviceChange, MemberList, Polled, Reply,
    SignIn, UserChange,
};
