//! Luge beside Synapse's own sliding sync: one account of one Synapse, in many rooms.
//!
//! `cargo build --release -p luge-server -p luge-loadtest`, then `cargo run -p luge-e2e --example
//! compare -- [ROOMS] [ARGUMENTS OF luge-loadtest compare]`. The programs are those of
//! `target/release`; or `LUGE_E2E_BINARY` names a `luge`, and `luge-loadtest` lies beside it.
#![recursion_limit = "256"]

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use luge_e2e::harness::install::profile_folder;
use luge_e2e::harness::luge::Luge;
use luge_e2e::harness::stack::Folder;
use luge_e2e::harness::synapse::{REGISTRATION_SECRET, Synapse, SynapseOptions};

const ROOMS_DEFAULT: u32 = 1_000;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let given = arguments.first().and_then(|first| first.to_str()?.parse().ok());
    if given.is_some() {
        arguments.remove(0);
    }
    let rooms: u32 = given.unwrap_or(ROOMS_DEFAULT);
    let program = program()?;
    let loadtest = program.with_file_name("luge-loadtest");
    let synapse =
        Synapse::start(SynapseOptions { native_sliding_sync: true, experiments: false }).await?;
    let folder = Folder::new("compare")?;
    let (secret, token) = (folder.path().join("secret"), folder.path().join("token"));
    fs::write(&secret, REGISTRATION_SECRET)?;
    run(Command::new(&loadtest)
        .args(["populate", "--homeserver", synapse.url(), "--rooms", &rooms.to_string()])
        .arg("--shared-secret-file")
        .arg(&secret)
        .arg("--token-file")
        .arg(&token))?;
    let mut luge = Luge::start_program(program, synapse.url()).await?;
    run(Command::new(&loadtest)
        .args(["compare", "--against", &format!("{}=Luge", luge.url())])
        .args(["--against", &format!("{}=Synapse", synapse.url())])
        .arg("--token-file")
        .arg(&token)
        .args(&arguments))?;
    luge.stop().await
}

/// An optimized `luge`.
fn program() -> Result<PathBuf> {
    let program = match std::env::var_os("LUGE_E2E_BINARY") {
        Some(given) => PathBuf::from(given),
        None => profile_folder()?.with_file_name("release").join("luge"),
    };
    for name in ["luge", "luge-loadtest"] {
        let file = program.with_file_name(name);
        ensure!(
            file.is_file(),
            "there is no {}: cargo build --release -p luge-server -p luge-loadtest",
            file.display()
        );
    }
    Ok(program)
}

/// Runs a command whose output is for who waits.
fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
