//! Luge itself, as an operator starts it: one binary, a data folder, a port.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::install;
use super::process::{Process, lasting_port};
use super::stack::Folder;

/// How long Luge may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long Luge may take to stop when it is asked to.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A Luge that can be stopped, killed and started again on the same data and the same port.
#[derive(Debug)]
pub struct Luge {
    binary: PathBuf,
    homeserver: String,
    folder: Folder,
    url: String,
    process: Option<Process>,
}

impl Luge {
    /// Builds Luge where it is outdated, and starts it in front of the homeserver at `homeserver`.
    pub async fn start(homeserver: &str) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(install::luge).await??;
        Self::start_program(binary, homeserver).await
    }

    /// Starts this `luge`, as it is.
    pub async fn start_program(binary: PathBuf, homeserver: &str) -> Result<Self> {
        let mut luge = Self {
            binary,
            homeserver: homeserver.to_owned(),
            folder: Folder::new("luge")?,
            url: String::new(),
            process: None,
        };
        luge.start_again().await?;
        Ok(luge)
    }

    /// Where it listens; the same after each restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts it after [`Luge::stop`] or [`Luge::kill`].
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "luge is still running");
        let ready = self.folder.path().join("ready");
        if ready.exists() {
            fs::remove_file(&ready)?;
        }
        let listen = match self.url.strip_prefix("http://") {
            Some(listen) => listen.to_owned(),
            None => format!("127.0.0.1:{}", lasting_port()?),
        };
        let mut command = Command::new(&self.binary);
        command
            .arg("serve")
            .args(["--homeserver", &self.homeserver])
            .arg("--data")
            .arg(self.folder.path().join("data"))
            .args(["--listen", &listen])
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null());
        let mut process = Process::start(&mut command, &self.log_file())?;
        let url = tokio::time::timeout(START_LIMIT, async {
            loop {
                let text = fs::read_to_string(&ready).unwrap_or_default();
                if !text.trim().is_empty() {
                    return Ok(text.trim().trim_end_matches('/').to_owned());
                }
                if let Some(status) = process.ended()? {
                    bail!("luge ended with {status}");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .context("luge does not say that it is ready")
        .flatten()
        .with_context(|| process.log_tail(50))?;
        ensure!(
            self.url.is_empty() || self.url == url,
            "luge came back at {url}, not {}",
            self.url
        );
        self.url = url;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it gracefully (SIGTERM); fails if it ended with an error or had to be killed.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("luge is not running")?;
        match process.stop(STOP_LIMIT).await? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("luge ended with {status}:\n{}", process.log_tail(50)),
            None => bail!("luge took too long to stop:\n{}", process.log_tail(50)),
        }
    }

    /// Ends it at once (SIGKILL), in the middle of whatever it is doing.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("luge is not running")?;
        if let Some(status) = process.ended()? {
            bail!(
                "luge was not running any more: it ended with {status}:\n{}",
                process.log_tail(50)
            );
        }
        process.kill()
    }

    /// Everything it has logged, through all restarts.
    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("luge.log")
    }
}
