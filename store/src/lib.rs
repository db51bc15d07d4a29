//! Records at rest: LMDB tables, the one writer, readers, and the secrets of
//! access tokens.
//!
//! Start at [`Store::open`]. A shard reads through [`Store::read`]; the ledger
//! takes the one [`Writer`] and hands it a prepared list of writes. What a
//! record means is `luge-core`'s business: here a value is bytes with a version
//! and a digest. Only this crate names heed.
#![deny(unsafe_code)]

pub mod archive;
mod env;
mod gate;
mod reader;
mod schema;
mod secrets;
mod stats;
mod writer;

pub use env::{DatabaseError, OpenError, Options, Store};
pub use reader::{ReadError, Reader};
pub use schema::{SCHEMA_KEY, SCHEMA_VERSION};
pub use secrets::{SECRET_BYTES, SecretError, Secrets};
pub use stats::{Stats, TableStats};
pub use writer::{CommitError, Writer, WriterTaken};
