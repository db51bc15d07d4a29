//! A homeserver that fails, refuses and talks nonsense, and clients that ask more than they may:
//! what each costs, and that it costs nothing else.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "the other suite uses the rest")]
#[path = "../harness/mod.rs"]
mod harness;

mod answers;
mod devices;
mod door;
mod filter;
mod log;
mod repair;
mod tokens;
mod town;
mod wire;
