//! The parts that a test is put together from; each file is one of them.
//!
//! Nothing here knows what a particular test is about.

pub mod account;
pub mod dialect;
pub mod install;
pub mod luge;
pub mod node;
pub mod process;
pub mod raw;
pub mod sdk;
pub mod stack;
pub mod synapse;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long a test waits for one thing to happen before it fails, saying what it was.
///
/// Generous: a loaded machine of two cores must not fail a test that would pass a second later.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How long a loop rests between two looks at something that cannot wake it.
pub const GLANCE: Duration = Duration::from_millis(100);

/// Waits for `future`, and fails with what was awaited after [`PATIENCE`].
pub async fn within<T>(awaited: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .with_context(|| format!("waited {} s for: {awaited}", PATIENCE.as_secs()))?
        .with_context(|| format!("while waiting for: {awaited}"))
}

/// Looks again and again until `look` finds something, and fails with what was awaited after
/// [`PATIENCE`].
pub async fn eventually<T, F, L>(awaited: &str, mut look: L) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
    L: FnMut() -> F,
{
    within(awaited, async move {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(GLANCE).await;
        }
    })
    .await
}
