//! A Luge of our own: started as a child process, asked about its CPU time and
//! memory, and ended by its id.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use luge_io::time::{clock, sleep};
use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// For it to accept connections.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// For it to end when asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// A running `luge serve`. Dropping it kills it.
pub(crate) struct Luge {
    child: Child,
    pub(crate) url: String,
}

impl Luge {
    /// Starts it in front of `homeserver`, with its data in `folder`.
    pub(crate) async fn start(
        program: &Path,
        homeserver: &str,
        folder: &Path,
        shards: u16,
    ) -> Result<Self, Failure> {
        let ready = folder.join("ready");
        drop(fs::remove_file(&ready));
        let child = Command::new(program)
            .args(["--log", "warn", "serve", "--homeserver", homeserver, "--listen", "127.0.0.1:0"])
            .arg("--shards")
            .arg(shards.to_string())
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let mut luge = Self { child, url: String::new() };
        let begun = clock::monotonic();
        loop {
            if let Ok(url) = fs::read_to_string(&ready)
                && url.trim().starts_with("http")
            {
                url.trim().clone_into(&mut luge.url);
                return Ok(luge);
            }
            if let Some(status) = luge.child.try_wait()? {
                return Err(format!("Luge ended with {status}").into());
            }
            if begun.elapsed() > START_PATIENCE {
                return Err("Luge does not get ready".into());
            }
            sleep(PAUSE).await;
        }
    }

    /// CPU time so far, user and system together.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is a name in brackets, which may hold anything.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: u64 = fields.skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()))
    }

    /// Resident memory, in bytes, files that are mapped not counted.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kib.ok_or("the system does not tell of memory")? << 10)
    }

    /// Asks it to stop, and waits until it has: how long that took.
    pub(crate) async fn stop(mut self) -> Result<Duration, Failure> {
        let begun = clock::monotonic();
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("a process has an id")?, Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > STOP_PATIENCE {
                return Err("Luge does not stop".into());
            }
            sleep(PAUSE).await;
        }
        Ok(begun.elapsed())
    }
}

impl Drop for Luge {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
