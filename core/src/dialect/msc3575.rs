//! MSC3575, as the older proxy served it.

mod read;
mod write;

pub use read::parse;
pub use write::write;

/// The path that this dialect is served at.
pub const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3575/sync";
/// Another, which it shares with the classic sync: there it is `POST`, while that
/// is `GET`.
pub const SHARED_PATH: &str = "/_matrix/client/v3/sync";
