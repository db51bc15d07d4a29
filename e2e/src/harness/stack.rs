//! A homeserver with Luge in front of it, or the homeserver alone where Synapse is the oracle.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use super::account::Account;
use super::luge::Luge;
use super::synapse::{Synapse, SynapseOptions};

/// How many lines of each server's log a failing test shows.
const SHOWN_LINES: usize = 80;

/// A temporary folder, kept where `LUGE_E2E_KEEP` is set.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// A new, empty folder.
    pub fn new(purpose: &str) -> Result<Self> {
        let mut folder = tempfile::Builder::new()
            .prefix(&format!("luge-e2e-{purpose}-"))
            .tempdir()
            .context("cannot make a temporary folder")?;
        folder.disable_cleanup(std::env::var_os("LUGE_E2E_KEEP").is_some());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Whether clients are pointed at Synapse's own sliding sync.
pub fn synapse_is_the_target() -> bool {
    std::env::var("LUGE_E2E_TARGET").is_ok_and(|target| target == "synapse")
}

/// The servers of a test, and what they logged when it fails.
#[derive(Debug)]
pub struct Stack {
    servers: Arc<Servers>,
    http: reqwest::Client,
}

#[derive(Debug)]
struct Servers {
    synapse: Synapse,
    luge: Option<Mutex<Luge>>,
    client_url: String,
    accounts: AtomicU32,
}

/// Servers that the tests of one binary share; started by the first test and ended by the last one
/// that holds them.
#[derive(Debug, Default)]
pub struct SharedStack(Mutex<Weak<Servers>>);

impl SharedStack {
    /// Nothing started yet.
    pub const fn new() -> Self {
        Self(Mutex::const_new(Weak::new()))
    }

    /// The servers, started if no other test holds them.
    pub async fn get(&self, experiments: bool) -> Result<Stack> {
        let mut shared = self.0.lock().await;
        let servers = if let Some(servers) = shared.upgrade() {
            servers
        } else {
            let servers = Arc::new(Servers::start(experiments).await?);
            *shared = Arc::downgrade(&servers);
            servers
        };
        Stack::around(servers)
    }
}

impl Servers {
    async fn start(experiments: bool) -> Result<Self> {
        let native_sliding_sync = synapse_is_the_target();
        let synapse = Synapse::start(SynapseOptions { native_sliding_sync, experiments }).await?;
        let (luge, client_url) = if native_sliding_sync {
            (None, synapse.url().to_owned())
        } else {
            let luge = Luge::start(synapse.url()).await?;
            let url = luge.url().to_owned();
            (Some(Mutex::new(luge)), url)
        };
        Ok(Self { synapse, luge, client_url, accounts: AtomicU32::new(0) })
    }
}

impl Stack {
    /// Servers for one test alone, such as one that restarts Luge.
    pub async fn start(experiments: bool) -> Result<Self> {
        Self::around(Arc::new(Servers::start(experiments).await?))
    }

    fn around(servers: Arc<Servers>) -> Result<Self> {
        Ok(Self { servers, http: reqwest::Client::builder().no_proxy().build()? })
    }

    /// Where clients are to talk to: Luge, or Synapse where that is the target.
    pub fn url(&self) -> &str {
        &self.servers.client_url
    }

    /// Where the homeserver is, for what is done behind Luge's back.
    pub fn homeserver_url(&self) -> &str {
        self.servers.synapse.url()
    }

    /// An HTTP client for this test.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Luge, to be restarted; nothing where Synapse is the target.
    pub async fn luge(&self) -> Option<MutexGuard<'_, Luge>> {
        match &self.servers.luge {
            Some(luge) => Some(luge.lock().await),
            None => None,
        }
    }

    /// Registers a user whom no other test uses. Its calls go straight to the homeserver.
    pub async fn account(&self, name: &str) -> Result<Account> {
        let number = self.servers.accounts.fetch_add(1, Ordering::Relaxed);
        Account::register(&self.http, self.homeserver_url(), &format!("{name}-{number}")).await
    }
}

impl Drop for Stack {
    /// Shows the logs. A test that failed by an error is not panicking, so this cannot know whether it
    /// did; cargo test shows what was printed only where it did.
    #[expect(clippy::print_stderr, reason = "belongs to the failure that cargo test prints")]
    fn drop(&mut self) {
        eprintln!("--- synapse ---\n{}", self.servers.synapse.log_tail(SHOWN_LINES));
        if let Some(luge) = &self.servers.luge {
            match luge.try_lock() {
                Ok(luge) => eprintln!("--- luge ---\n{}", luge.log_tail(SHOWN_LINES)),
                Err(_) => {
                    eprintln!("--- luge is held by a task; LUGE_E2E_KEEP=1 keeps its log ---");
                }
            }
        }
    }
}
