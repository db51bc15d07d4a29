//! Server and client against each other, over real sockets, on each driver that works here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client;
mod counted;
mod lifetime;
mod parked;
mod parked_client;
mod process;
mod server;
mod setup;
mod streams;
mod upgrade;
