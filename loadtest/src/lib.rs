//! A simulated Matrix homeserver: for tests, for faults, and for a demonstration without a homeserver.
//!
//! # Tour
//!
//! - [`model`] is the homeserver's state, a pure and seeded state machine: people, rooms, talk, and what a user
//!   ought to have seen of it ([`model::Truth`]).
//! - [`sync`] is `/sync` version 2 over that state, as Synapse answers it; [`api`] the rest of the client-server API,
//!   without a transport ([`model::Homeserver::handle`]).
//! - [`faults`] lets a user's next answers go wrong in a named way.
//! - [`traffic`] counts what was asked of it, and by which device.
//! - [`conversation`] keeps people talking.
//! - [`server`] serves all of it over HTTP, on a thread of its own ([`server::Simulated`]).
//!
//! One seed gives one history; no file here but `server` reads a clock.

#![forbid(unsafe_code)]

pub mod api;
pub mod conversation;
pub mod faults;
pub mod model;
pub mod random;
pub mod server;
pub mod sync;
pub mod traffic;
mod words;
