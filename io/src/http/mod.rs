//! HTTP/1.1, both ends: hyper over a shard's streams.
//!
//! Nothing here is `Send`: a connection, its bodies and its handler live and die on one shard.
//! hyper's own types do not leave this folder.

pub mod body;
mod call;
pub mod client;
mod connect;
pub mod headers;
mod incoming;
pub mod listener;
mod pool;
pub mod server;
pub mod upgrade;

pub use body::{Body, BodyError, BodySender};
pub use client::{Client, ClientConfig, ClientError, Timeouts};
pub use incoming::Incoming;
pub use listener::{BindError, BoundSocket, bind};
pub use server::{Handler, ServerConfig, serve};
pub use upgrade::{Upgraded, splice};
