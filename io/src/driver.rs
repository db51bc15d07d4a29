//! Which of the kernel's two interfaces a shard waits on, and how that is decided at start.
//!
//! Everything that names monoio's drivers is here. What runs on them is not.

use std::{fmt, future::Future, io, str::FromStr};

use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder, time::TimeDriver};

use crate::time::RuntimeGuard;

/// Entries of a shard's submission ring, and events taken from epoll at once.
pub const RING_ENTRIES_DEFAULT: u32 = 1024;

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// io_uring where the kernel allows it, epoll where it does not.
    #[default]
    Auto,
    /// io_uring, or no start.
    IoUring,
    /// epoll, whatever the kernel can do.
    Epoll,
}

/// What the shards run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Completion based; sockets are still used by readiness.
    IoUring,
    /// Readiness based; works wherever Linux does.
    Epoll,
}

/// The word in `--driver` is not one of the three.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown driver {0:?}; use auto, io_uring or epoll")]
pub struct UnknownChoice(String);

/// io_uring was demanded and is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("io_uring cannot be used: {reason}; {remedy}; or start with --driver auto")]
pub struct DriverError {
    /// What the kernel said.
    pub reason: String,
    /// What an operator can do about it.
    pub remedy: &'static str,
}

impl FromStr for Choice {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, UnknownChoice> {
        match word {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::IoUring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(UnknownChoice(word.to_owned())),
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

impl Choice {
    /// Decides once, before any shard starts, and logs what was decided and why.
    pub fn decide(self) -> Result<Driver, DriverError> {
        if self == Self::Epoll {
            tracing::info!(driver = %Driver::Epoll, "driver chosen by configuration");
            return Ok(Driver::Epoll);
        }
        match (probe_ring(), self) {
            (Ok(()), _) => {
                tracing::info!(driver = %Driver::IoUring, "driver chosen, the kernel allows io_uring");
                Ok(Driver::IoUring)
            }
            (Err(error), Self::IoUring) => Err(error),
            (Err(error), _) => {
                tracing::info!(
                    driver = %Driver::Epoll,
                    reason = error.reason,
                    remedy = error.remedy,
                    "driver chosen, io_uring cannot be used",
                );
                Ok(Driver::Epoll)
            }
        }
    }
}

impl Driver {
    /// The drivers that work on this machine, for tests that run on each of them.
    pub fn available() -> Vec<Self> {
        let ring = probe_ring().is_ok().then_some(Self::IoUring);
        ring.into_iter().chain([Self::Epoll]).collect()
    }

    /// Runs one future to its end on this thread, with timers and sockets at hand: for tests and
    /// small tools. A server uses [`crate::shards::start`].
    pub fn block_on<F: Future>(self, future: F) -> io::Result<F::Output> {
        Ok(Runtime::build(self, RING_ENTRIES_DEFAULT)?.block_on(future))
    }
}

/// One thread's runtime.
pub(crate) struct Runtime(FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>);

impl Runtime {
    pub(crate) fn build(driver: Driver, ring_entries: u32) -> io::Result<Self> {
        Ok(Self(match driver {
            Driver::IoUring => RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(ring_entries)
                .enable_timer()
                .build()?
                .into(),
            Driver::Epoll => RuntimeBuilder::<LegacyDriver>::new()
                .with_entries(ring_entries)
                .enable_timer()
                .build()?
                .into(),
        }))
    }

    pub(crate) fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        self.0.block_on(async {
            let _guard = RuntimeGuard;
            future.await
        })
    }
}

/// Builds a ring as large as a shard's and asks which operations it knows. A kernel's version
/// says little: containers and administrators forbid io_uring on kernels that have it.
fn probe_ring() -> Result<(), DriverError> {
    if let Err(error) = Runtime::build(Driver::IoUring, RING_ENTRIES_DEFAULT) {
        return Err(DriverError { reason: error.to_string(), remedy: remedy(&error) });
    }
    if monoio::utils::detect_uring() {
        return Ok(());
    }
    Err(DriverError {
        reason: "the kernel lacks operations that are needed, or MONOIO_FORCE_LEGACY_DRIVER is set"
            .to_owned(),
        remedy: "run on Linux 5.11 or later with that variable unset",
    })
}

fn remedy(error: &io::Error) -> &'static str {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile, \
             and set the sysctl kernel.io_uring_disabled to 0"
        }
        Some(Errno::NOMEM) => {
            "raise the limit on locked memory (LimitMEMLOCK in systemd, ulimit -l elsewhere)"
        }
        Some(Errno::NOSYS) => "run on Linux 5.11 or later with io_uring built in",
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit on open files (LimitNOFILE)",
        _ => "see the kernel's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line_are_understood_and_others_refused() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("io_uring".parse(), Ok(Choice::IoUring));
        assert_eq!("epoll".parse(), Ok(Choice::Epoll));
        let refused = "uring".parse::<Choice>().unwrap_err();
        assert!(refused.to_string().contains("use auto, io_uring or epoll"), "{refused}");
    }

    #[test]
    fn auto_agrees_with_what_is_available() {
        assert_eq!(Choice::Auto.decide().unwrap(), Driver::available()[0]);
        assert_eq!(Choice::Epoll.decide().unwrap(), Driver::Epoll);
        assert_eq!(
            Choice::IoUring.decide().is_ok(),
            Driver::available().contains(&Driver::IoUring)
        );
    }

    #[test]
    fn refusal_by_seccomp_names_the_three_calls() {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error());
        assert!(remedy(&error).contains("io_uring_enter"));
    }
}
