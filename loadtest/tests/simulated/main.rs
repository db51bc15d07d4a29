//! The simulated homeserver as a client sees it: rule by rule (`sync_v2`, `reset`), as a whole (`truth`), and over sockets
//! (`wire`).

#![expect(clippy::unwrap_used, reason = "what is missing where it must be fails the test")]

mod common;
mod reset;
mod sync_v2;
mod truth;
mod wire;
