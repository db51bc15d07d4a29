//! From the homeserver's `/sync` answer to a [`SyncBatch`].
//!
//! Parsing hostile input does not fail as a whole: what is sound is taken, what
//! is not is set aside with its room and reason. Nothing here knows the world.

mod batch;

pub use batch::{
    Receipt, RoomBatch, Section, SetAside, Stripped, Summary, SyncBatch, SyncEvent, Typed,
};
