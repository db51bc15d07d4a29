//! What an operator may decide. No parsing of arguments here, and no defaults
//! that are not written beside their field.

use std::{net::SocketAddr, path::PathBuf};

use luge_core::{dialect::RequestLimits, ledger::LedgerLimits, shard::ShardLimits};
use luge_io::{driver, shards, tls};

/// Everything that a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The homeserver's client-server API, such as `http://127.0.0.1:8008`.
    pub homeserver: String,
    /// The data folder; created where it is not there.
    pub data: PathBuf,
    /// Where clients connect to.
    pub listen: SocketAddr,
    /// Threads that serve users; `None` for one on each CPU but one, at least
    /// one.
    pub shards: Option<usize>,
    /// How the shards talk to the kernel.
    pub driver: driver::Choice,
    /// Whether requests other than sync are passed on to the homeserver.
    pub front: bool,
    /// The URL that clients reach this server by, where it is not the one they
    /// ask with (`Host` and `X-Forwarded-Proto`).
    pub public_url: Option<String>,
    /// Whose certificates to trust when talking to the homeserver.
    pub roots: tls::Roots,
    /// Written with the server's URL once it accepts connections.
    pub ready_file: Option<PathBuf>,
    /// Limits on requests.
    pub request_limits: RequestLimits,
    /// Limits of each shard.
    pub shard_limits: ShardLimits,
    /// Limits of the ledger.
    pub ledger_limits: LedgerLimits,
    /// Limits of the server itself.
    pub limits: ServerLimits,
}

/// Limits of what is neither a request's nor a shard's.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Bytes of a sliding sync request's body.
    pub body_bytes_max: usize,
    /// Bytes of a homeserver's `/sync` answer.
    pub sync_bytes_max: usize,
    /// Bytes of any other answer that is read whole.
    pub answer_bytes_max: usize,
    /// Connections of clients, on each shard.
    pub connections_max: usize,
    /// Events in a shard's inbox.
    pub inbox_events_max: usize,
    /// Commands waiting for the ledger.
    pub ledger_commands_max: usize,
    /// Commands in one commit.
    pub group_commands_max: usize,
    /// Bytes of a `/sync` answer from which on it is parsed off the shard.
    pub parse_inline_bytes_max: usize,
    /// Fetches in flight at once (members, tokens for paging back), on each shard.
    pub fetches_max: usize,
    /// Access tokens whose owner is remembered, on each shard.
    pub tokens_max: usize,
    /// Users whose stored filters are remembered, on each shard.
    pub filters_max: usize,
    /// Bytes of requests that are remembered as read, since clients send the same
    /// ones again and again; on each shard.
    pub known_requests_bytes_max: usize,
    /// Jobs that wait for each helper thread.
    pub helper_jobs_max: usize,
    /// Milliseconds for the homeserver to accept a connection.
    pub connect_timeout_ms: u64,
    /// Milliseconds for the homeserver to begin an answer, beside what it was
    /// asked to wait.
    pub answer_timeout_ms: u64,
    /// Milliseconds for the homeserver to begin the answer to an initial sync.
    pub initial_sync_timeout_ms: u64,
    /// Milliseconds between two pieces of a body.
    pub body_timeout_ms: u64,
    /// Milliseconds that a stop may take.
    pub stop_timeout_ms: u64,
    /// Milliseconds after which a request that is still to be answered, a client's
    /// or one to the homeserver, is waited for with less memory.
    pub light_wait_after_ms: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            sync_bytes_max: 1 << 30,
            answer_bytes_max: 64 << 20,
            connections_max: 16_384,
            inbox_events_max: 262_144,
            ledger_commands_max: 65_536,
            group_commands_max: 256,
            parse_inline_bytes_max: 64 << 10,
            fetches_max: 32,
            tokens_max: 65_536,
            filters_max: 100_000,
            known_requests_bytes_max: 128 << 20,
            helper_jobs_max: 1_024,
            connect_timeout_ms: 10_000,
            answer_timeout_ms: 30_000,
            initial_sync_timeout_ms: 600_000,
            body_timeout_ms: 60_000,
            stop_timeout_ms: 10_000,
            light_wait_after_ms: 1_000,
        }
    }
}

impl Config {
    /// How many threads serve users: as many as asked for, else one for each CPU but one.
    pub fn shards_count(&self) -> usize {
        self.shards.unwrap_or_else(|| shards::count_default().saturating_sub(1)).max(1)
    }

    /// A server with all defaults.
    pub fn new(
        homeserver: impl Into<String>,
        data: impl Into<PathBuf>,
        listen: SocketAddr,
    ) -> Self {
        Self {
            homeserver: homeserver.into(),
            data: data.into(),
            listen,
            shards: None,
            driver: driver::Choice::Auto,
            front: true,
            public_url: None,
            roots: tls::Roots::System,
            ready_file: None,
            request_limits: RequestLimits::default(),
            shard_limits: ShardLimits::default(),
            ledger_limits: LedgerLimits::default(),
            limits: ServerLimits::default(),
        }
    }
}
