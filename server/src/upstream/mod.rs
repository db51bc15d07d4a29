//! The homeserver: what is asked of it, and what its answers mean. No decision
//! about when to ask lives here; that is the shard's.

mod ask;
mod fetch;
mod filter;
mod poll;
mod take;

pub use ask::{Homeserver, Identity, UrlError};
pub use fetch::fetch;
pub use poll::{poll, validate};
pub use take::Taker;
