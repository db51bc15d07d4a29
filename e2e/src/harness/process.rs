//! A server that a test started: its process, its log, its end.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A running process that ends with the value that holds it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is appended to the file `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks the process to stop (SIGTERM) and waits for it; kills it if it takes longer than `limit`.
    ///
    /// Gives the exit status, or nothing where it had to be killed.
    pub async fn stop(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        if self.ended()?.is_none() {
            let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            kill_process(id.context("the process has no id")?, Signal::TERM)?;
        }
        let ended = tokio::time::timeout(limit, async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return Ok::<_, std::io::Error>(status);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        if let Ok(status) = ended {
            return Ok(Some(status?));
        }
        self.kill()?;
        Ok(None)
    }

    /// Ends the process at once (SIGKILL), as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }

    /// Everything that the process has printed.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines that the process has printed.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a process that cannot be killed.
        let _ = self.kill();
    }
}

/// A TCP port that was free a moment ago, and that the system gives to no outgoing connection.
///
/// For servers that come back on the same port: a client that tries to reach the port in between
/// may otherwise be given that very port for its own end, and hold it.
pub fn lasting_port() -> Result<u16> {
    let seed = std::process::id() as usize + SEED.fetch_add(7919, Ordering::Relaxed);
    let ports = (0..2_000).map(|step| 12_000 + (seed + step * 7) % 18_000);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports
        .filter_map(|port| u16::try_from(port).ok())
        .find(free)
        .context("no port between 12000 and 30000 is free")
}

/// Tells the ports of one process apart.
static SEED: AtomicUsize = AtomicUsize::new(0);

/// A TCP port that was free a moment ago.
///
/// For servers that cannot say which port they were given. Another process may take it first, so
/// whoever uses this tries again with another port when its server does not come up.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
