//! From the homeserver's `/sync` answer to a [`SyncBatch`].
//!
//! Parsing hostile input does not fail as a whole: what is sound is taken, what
//! is not is set aside with its room and reason. Nothing here knows the world; of what is a
//! copy of what is known it is told ([`Lately`]).
//!
//! [`parse`] takes a whole answer at once. A large one is taken room by room:
//! [`Scanned::scan`] finds the rooms, [`Scanned::room`] builds one.
//! Each file stands on those before it: `scan` (the grammar), `sound` (what may
//! be kept), `event`, `taker` (set aside or take), `room`, `parse`.

mod batch;
mod copy;
mod event;
mod identifier;
mod parse;
mod room;
pub(crate) mod scan;
mod sound;
mod taker;

pub use batch::{
    Receipt, RoomBatch, Section, SetAside, Stripped, Summary, SyncBatch, SyncEvent, Typed,
};
pub use copy::{Copy, Known, Lately, Told};
pub use parse::{
    Limits, ParseError, RoomRange, Scanned, SetAsides, parse, parse_event, parse_event_array,
    parse_events, parse_news,
};
pub use room::parse_room;
