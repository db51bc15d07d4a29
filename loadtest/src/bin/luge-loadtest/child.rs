//! Processes of our own, and what they use: a Luge, or a bare server, started as
//! a child and ended by its id; and the meter of any process.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use luge_io::{
    open_files,
    time::{clock, sleep},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// For it to accept connections.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// For it to end when asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);

/// Open files of a process beside those of clients and pollers.
const OPEN_FILES_BESIDE: u64 = 500;

/// Lets this process and its children have as many open files as the system
/// allows; fails where these are too few for so many connections in each.
pub(crate) fn need_open_files(connections: u64) -> Result<(), Failure> {
    let (needed, allowed) = (connections + OPEN_FILES_BESIDE, open_files::raise_limit());
    if needed <= allowed {
        return Ok(());
    }
    let remedy = open_files::REMEDY;
    Err(format!(
        "this needs {needed} open files in each of two processes, and the system allows {allowed}: \
         take fewer, or {remedy}"
    )
    .into())
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter(u32);

impl Meter {
    /// The meter of a process of this machine.
    pub(crate) fn of(process_id: u32) -> Self {
        Self(process_id)
    }

    /// CPU time so far, user and system together.
    pub(crate) fn cpu(self) -> Result<Duration, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The second field is a name in brackets, which may hold anything.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: u64 = fields.skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()))
    }

    /// Resident memory, in bytes, files that are mapped not counted.
    pub(crate) fn memory(self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kib.ok_or("the system does not tell of memory")? << 10)
    }
}

/// A running server of ours. Dropping it kills it.
pub(crate) struct Luge {
    child: Child,
    pub(crate) url: String,
    pub(crate) meter: Meter,
}

impl Luge {
    /// Starts `luge serve` in front of `homeserver`, with its data in `folder` and
    /// further arguments.
    pub(crate) async fn start(
        program: &Path,
        homeserver: &str,
        folder: &Path,
        more: &[String],
    ) -> Result<Self, Failure> {
        let data = folder.join("data");
        let serve = ["--log", "warn", "serve", "--homeserver", homeserver];
        let mut arguments: Vec<&OsStr> = serve.iter().map(OsStr::new).collect();
        arguments.extend(["--listen", "127.0.0.1:0", "--data"].map(OsStr::new));
        arguments.push(data.as_os_str());
        arguments.extend(more.iter().map(OsStr::new));
        Self::run(program, &arguments, folder).await
    }

    /// Starts a program that writes its URL to the file after `--ready-file`.
    pub(crate) async fn run(
        program: &Path,
        arguments: &[&OsStr],
        folder: &Path,
    ) -> Result<Self, Failure> {
        let ready = folder.join("ready");
        drop(fs::remove_file(&ready));
        let child = Command::new(program)
            .args(arguments)
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let meter = Meter::of(child.id());
        let mut luge = Self { child, url: String::new(), meter };
        let begun = clock::monotonic();
        loop {
            if let Ok(url) = fs::read_to_string(&ready)
                && url.trim().starts_with("http")
            {
                url.trim().clone_into(&mut luge.url);
                return Ok(luge);
            }
            if let Some(status) = luge.child.try_wait()? {
                return Err(format!("{} ended with {status}", program.display()).into());
            }
            if begun.elapsed() > START_PATIENCE {
                return Err(format!("{} does not get ready", program.display()).into());
            }
            sleep(PAUSE).await;
        }
    }

    /// As [`Meter::cpu`].
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        self.meter.cpu()
    }

    /// As [`Meter::memory`].
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        self.meter.memory()
    }

    /// Asks it to stop, and waits until it has: how long that took.
    pub(crate) async fn stop(&mut self) -> Result<Duration, Failure> {
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
