//! The program's parts: configuration, start-up, wiring, pollers, routes, front
//! mode. The wiring carries events to [`luge_core::shard`] and effects from it;
//! no rule of the protocol is written here.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod demo;
pub mod front;
pub mod ledger;
pub mod logging;
pub mod message;
pub mod serve;
pub mod shard;
pub mod sync;
pub mod upstream;
