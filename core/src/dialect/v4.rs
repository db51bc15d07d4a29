//! MSC4186 as accepted.

mod read;
mod write;

pub use read::parse;
pub(super) use read::{Cut, cut};
pub use write::write;

/// The path that this dialect is served at.
pub const PATH: &str = "/_matrix/client/v4/sync";

/// The typing extension, whose proposal (MSC4508) is not yet accepted.
const TYPING: &str = "org.matrix.msc4508.typing";
