//! `org.matrix.simplified_msc3575`: what shipping clients speak, as Synapse
//! understands it.

mod read;
mod write;

pub use read::parse;
pub(super) use read::{parse_body, with_query};
pub use write::write;

/// The path that this dialect is served at.
pub const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
