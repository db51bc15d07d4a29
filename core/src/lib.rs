//! The sliding sync domain, pure: no I/O, no clock, no threads, no database.
//!
//! Start at [`shard`] for what happens, at [`view`] for how records are read, at
//! [`upstream`] for what comes in, at [`ledger`] for what is made of it, at
//! [`world`] for the result, and at [`connection`] for what goes out.
#![forbid(unsafe_code)]

pub mod connection;
pub mod dialect;
pub mod extension;
pub mod gate;
pub mod id;
pub mod json;
pub mod ledger;
pub mod list;
pub mod name;
pub mod record;
pub mod redaction;
pub mod request;
pub mod response;
pub mod shard;
pub mod upstream;
pub mod user;
pub mod view;
pub mod world;
