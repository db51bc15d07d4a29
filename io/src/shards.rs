//! The shards' threads: one runtime each, pinned to a CPU that the process may use.
//!
//! What a shard does is the caller's future; this file starts it, and sees to it that the process
//! does not outlive one of them by accident.

use std::{
    future::Future,
    io,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{
    driver::{Driver, RING_ENTRIES_DEFAULT, Runtime},
    slice,
};

/// How many shards are started at most: more threads than any machine has use for.
pub const SHARDS_MAX: usize = 1024;

/// How the shards are started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads; default: the CPUs that affinity and the cgroup's quota leave to the process.
    pub count: usize,
    /// What they wait on.
    pub driver: Driver,
    /// Whether each is tied to one CPU; default: true. With more shards than CPUs, CPUs are shared.
    pub pin: bool,
    /// Entries of each shard's ring; default: [`RING_ENTRIES_DEFAULT`].
    pub ring_entries: u32,
    /// Stack of each shard's thread; default: 8 MiB of address space.
    pub stack_bytes: usize,
}

impl Config {
    /// The defaults on a driver.
    pub fn new(driver: Driver) -> Self {
        Self {
            count: count_default(),
            driver,
            pin: true,
            ring_entries: RING_ENTRIES_DEFAULT,
            stack_bytes: 8 << 20,
        }
    }
}

/// Where a shard's future finds itself.
#[derive(Debug, Clone, Copy)]
pub struct ShardContext {
    /// This shard, counted from 0.
    pub index: usize,
    /// All shards.
    pub count: usize,
    /// What this shard waits on.
    pub driver: Driver,
    /// The CPU it is tied to.
    pub cpu: Option<usize>,
}

/// Why the shards did not start. None of them is running then.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// No shards, or too many.
    #[error("cannot start {0} shards; choose from 1 to {SHARDS_MAX}")]
    Count(usize),
    /// The system refused a thread or a runtime.
    #[error(
        "cannot start shard {index}; check the limits on threads, open files and locked memory"
    )]
    Start {
        /// The first shard that could not be started.
        index: usize,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The running shards.
#[derive(Debug)]
pub struct Shards(Vec<thread::JoinHandle<()>>);

impl Shards {
    /// Waits until each shard's future has ended.
    pub fn join(self) {
        for handle in self.0 {
            handle.join().expect("a shard's panic ends the process before its thread ends");
        }
    }
}

/// The CPUs that affinity and the cgroup's quota leave to the process.
pub fn count_default() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Starts the shards. `make` is called here, once for each index; what it returns is sent to that
/// shard's thread and called there, so the future itself need not be `Send`.
///
/// A panic that reaches a shard's root ends the process: half a server is worse than a restart.
pub fn start<M, F>(config: &Config, mut make: impl FnMut(usize) -> M) -> Result<Shards, ShardError>
where
    M: FnOnce(ShardContext) -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    if config.count == 0 || SHARDS_MAX < config.count {
        return Err(ShardError::Count(config.count));
    }
    let cpus = if config.pin { cpus_allowed() } else { Vec::new() };
    let mut starting = Vec::with_capacity(config.count);
    for index in 0..config.count {
        let cpu = (!cpus.is_empty()).then(|| cpus[index % cpus.len()]);
        let context = ShardContext { index, count: config.count, driver: config.driver, cpu };
        starting.push(Starting::spawn(config, context, make(index))?);
    }
    for shard in &starting {
        shard.ready()?;
    }
    // Only now does any shard run: either all do, or none.
    Ok(Shards(starting.into_iter().map(Starting::go).collect()))
}

struct Starting {
    index: usize,
    handle: thread::JoinHandle<()>,
    built: mpsc::Receiver<io::Result<()>>,
    go: mpsc::Sender<()>,
}

impl Starting {
    fn spawn<M, F>(config: &Config, context: ShardContext, make: M) -> Result<Self, ShardError>
    where
        M: FnOnce(ShardContext) -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let (report, built) = mpsc::channel();
        let (go, started) = mpsc::channel();
        let ring_entries = config.ring_entries;
        let body = move || {
            pin(&context);
            if let Err(error) = slice::ask_for_short() {
                tracing::debug!(shard = context.index, %error, "slices of CPU time are as usual");
            }
            let mut runtime = match Runtime::build(context.driver, ring_entries) {
                Ok(runtime) => runtime,
                Err(error) => return report.send(Err(error)).unwrap_or_default(),
            };
            // A closed channel means that another shard failed to start.
            if report.send(Ok(())).is_err() || started.recv().is_err() {
                return;
            }
            let run = AssertUnwindSafe(|| runtime.block_on(make(context)));
            if catch_unwind(run).is_err() {
                tracing::error!(shard = context.index, "a shard panicked, the process ends");
                std::process::abort();
            }
        };
        let index = context.index;
        let handle = thread::Builder::new()
            .name(format!("shard-{index}"))
            .stack_size(config.stack_bytes)
            .spawn(body)
            .map_err(|source| ShardError::Start { index, source })?;
        Ok(Self { index, handle, built, go })
    }

    fn ready(&self) -> Result<(), ShardError> {
        let built = self.built.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
        built.map_err(|source| ShardError::Start { index: self.index, source })
    }

    fn go(self) -> thread::JoinHandle<()> {
        self.go.send(()).expect("the thread waits for this message once it has reported");
        self.handle
    }
}

fn cpus_allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

fn pin(context: &ShardContext) {
    let Some(cpu) = context.cpu else { return };
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(shard = context.index, cpu, %error, "cannot pin the shard, it runs anywhere");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn each_shard_runs_once_with_its_index_on_every_driver() {
        for driver in Driver::available() {
            let seen = Arc::new(AtomicUsize::new(0));
            let config = Config { count: 3, ..Config::new(driver) };
            let shards = start(&config, |_| {
                let seen = Arc::clone(&seen);
                move |context: ShardContext| async move {
                    assert_eq!((context.count, context.driver), (3, driver));
                    seen.fetch_add(1 << (8 * context.index), Ordering::Relaxed);
                }
            });
            shards.unwrap().join();
            assert_eq!(seen.load(Ordering::Relaxed), 0x01_01_01);
        }
    }

    #[test]
    fn pinned_shard_may_use_one_allowed_cpu_only() {
        let (sender, receiver) = mpsc::channel();
        let config = Config { count: 1, ..Config::new(Driver::Epoll) };
        let shards = start(&config, |_| {
            let sender = sender.clone();
            move |context: ShardContext| async move {
                sender.send((cpus_allowed(), context.cpu)).unwrap();
            }
        });
        shards.unwrap().join();
        let (cpus, cpu) = receiver.recv().unwrap();
        assert_eq!(cpus, vec![cpu.unwrap()]);
        assert!(cpus_allowed().contains(&cpus[0]));
    }

    #[test]
    fn no_shards_and_too_many_are_refused() {
        for count in [0, SHARDS_MAX + 1] {
            let config = Config { count, ..Config::new(Driver::Epoll) };
            let refused = start(&config, |_| |_| async {});
            assert!(matches!(refused, Err(ShardError::Count(refused)) if refused == count));
        }
    }
}
