//! Whether anything of a room, a user or a device reaches who may not see it.
//!
//! Each [`paths::Path`] is something that happens and that only some may learn
//! of; each [`relations::Relation`] is a way of not being in the room. For every
//! pair, in every dialect, two towns live through the same, but that in one of
//! them it happens: whatever the curious user asks for, the answers must be the
//! same, and be silent or come together. So a count, an order or a wake-up tells
//! no more than an event does. That each path does lead to who may see it is
//! tested too, and that every field of a response has one.

#[path = "../harness/mod.rs"]
mod harness;

#[path = "../simplified/answers.rs"]
#[expect(dead_code, reason = "the suites need different parts of it")]
mod answers;
#[path = "../simplified/driver.rs"]
#[expect(dead_code, reason = "the suites need different parts of it")]
mod driver;
#[path = "../simplified/events.rs"]
#[expect(dead_code, reason = "the suites need different parts of it")]
mod events;

mod fields;
mod paths;
mod relations;
mod requests;
mod secrecy;
mod single;
mod town;
