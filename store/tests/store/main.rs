//! What the store promises, seen from outside: what was written is there, whole,
//! in order, after a kill, and while the map grows.
//!
//! Some tests need a process of their own to kill or to confine; they start this
//! test binary again, for one test, with [`ROLE`] set.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod confined;
mod growth;
mod kill;
mod model;
mod opening;

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use luge_core::view::{Table, Write};

/// Tells a process started by a test what to do; unset in the first process.
const ROLE: &str = "LUGE_STORE_TEST_ROLE";
/// The data folder of a process started by a test.
const FOLDER: &str = "LUGE_STORE_TEST_FOLDER";

/// The folder to work in, if this process was started to play `role`.
fn folder_of_role(role: &str) -> Option<PathBuf> {
    let mine = env::var(ROLE).is_ok_and(|played| played == role);
    mine.then(|| PathBuf::from(env::var_os(FOLDER).unwrap()))
}

/// This binary again, for the one test that plays `role`; it reports on
/// standard error, where the test harness writes nothing.
fn process_of_role(
    mut command: Command,
    test: &str,
    role: &str,
    folder: &std::path::Path,
) -> Command {
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(FOLDER, folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write { table, key: key.into(), value: Some(value.into()) }
}
