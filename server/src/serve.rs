//! The start-up order, and the way down: everything is checked and bound in one
//! thread before the first shard runs, and one shard that fails ends it all.

use std::{
    io,
    path::Path,
    rc::Rc,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use luge_core::{
    ledger::{Ledger, OpenError as LedgerError},
    shard::Shard,
};
use luge_io::{
    dns,
    driver::{Driver as RuntimeDriver, DriverError},
    helpers::Helpers,
    http::{self, BindError, BoundSocket, Client, ClientConfig, ServerConfig},
    mailbox::{self, Inbox, Outbox},
    shards::{self, ShardContext, ShardError, Shards},
    stop::Stop,
    task,
    time::{Pace, Ticker, clock},
    tls, turn,
};
use luge_store::{Options, Secrets, Store};

use crate::{
    config::Config,
    front::{Front, FrontConfig},
    ledger::{self, LedgerHandle},
    message::{Message, Outboxes},
    shard::{Driver, Ports, PortsConfig},
    sync::{Endpoint, EndpointConfig},
    upstream::{Homeserver, Taker, UrlError},
};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The homeserver's URL.
    #[error(transparent)]
    Homeserver(#[from] UrlError),
    /// The public URL, or another setting of front mode.
    #[error("front mode cannot be set up: {0}")]
    Front(String),
    /// The data folder.
    #[error("the data folder cannot be opened")]
    Store(#[from] luge_store::OpenError),
    /// The data in it.
    #[error("the data folder's tables cannot be read")]
    Read(#[from] luge_store::ReadError),
    /// The facts in them.
    #[error("the data folder's contents make no sense")]
    Ledger(#[from] LedgerError),
    /// The folder's secret.
    #[error("the data folder's secret cannot be used")]
    Secret(#[from] luge_store::SecretError),
    /// Two writers, which a fresh store cannot have.
    #[error(transparent)]
    Writer(#[from] luge_store::WriterTaken),
    /// The address to listen on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The roots that are trusted.
    #[error("TLS cannot be set up")]
    Tls(#[from] tls::TlsError),
    /// The kernel's interface.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The shards.
    #[error(transparent)]
    Shards(#[from] ShardError),
    /// A thread.
    #[error("a thread cannot be started: check the limit on processes")]
    Thread(#[source] io::Error),
    /// The file that says that the server is ready.
    #[error("the ready file cannot be written: check its folder")]
    ReadyFile(#[source] io::Error),
}

/// A server that runs.
pub struct Running {
    url: String,
    stop: StopHandle,
    shards: Shards,
    ledger: LedgerHandle,
    ledger_thread: JoinHandle<()>,
}

/// The means to stop a server, from any thread.
#[derive(Clone)]
pub struct StopHandle(Arc<Mutex<Option<Outboxes>>>);

impl StopHandle {
    /// Asks the server to end in order: no new connections, what is ready goes
    /// out, held requests are answered with what there is, connections are
    /// written to the store. Only the first call counts.
    pub fn stop(&self) {
        let outboxes = self.0.lock().ok().and_then(|mut outboxes| outboxes.take());
        let Some(outboxes) = outboxes else { return };
        for shard in 0..outboxes.count() {
            if outboxes.send(shard, Message::Stop).is_err() {
                tracing::error!(shard, "a shard cannot be asked to stop");
            }
        }
    }
}

impl Running {
    /// Where it listens, such as `http://127.0.0.1:8009`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks it to end in order; see [`StopHandle::stop`].
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// The means to stop it from elsewhere.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Waits until it has ended, with everything durable.
    pub fn join(self) {
        self.shards.join();
        // Tasks that a shard's end cut short may still hold the ledger, and say
        // nothing any more.
        while !self.ledger_thread.is_finished() && !self.ledger.finish() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        if self.ledger_thread.join().is_err() {
            tracing::error!("the ledger ended badly");
        }
    }
}

/// Everything that each shard is made of.
struct Parts {
    config: Config,
    shards: Outboxes,
    ledger: LedgerHandle,
    store: Store,
    secrets: Arc<Secrets>,
    secret: u64,
    helpers: Helpers,
    tls: tls::ClientTls,
    resolver: dns::Resolver,
    start_ms: u64,
}

/// Starts a server.
///
/// # Errors
/// What is wrong, and what to do about it. Nothing is running then.
pub fn start(config: Config) -> Result<Running, StartError> {
    let runtime = config.driver.decide()?;
    let tls = tls::ClientTls::new(&config.roots)?;
    let resolver = dns::Resolver::start().map_err(StartError::Thread)?;
    let count = config.shards_count();
    let sockets = http::bind(config.listen, count)?;
    let url = format!("http://{}", sockets.first().map_or(config.listen, BoundSocket::address));

    let store = Store::open(&config.data, &Options::default())?;
    let secrets = Arc::new(Secrets::open(&config.data)?);
    let mut folded = store.read(|reader| Ledger::open(reader))??;
    folded.set_limits(config.ledger_limits.clone());
    let (outboxes, inboxes): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mailbox::inbox(config.limits.inbox_events_max)).unzip();
    let outboxes = Outboxes::new(outboxes);
    let (ledger, ledger_thread) = ledger::start(ledger::Start {
        ledger: folded,
        writer: store.writer()?,
        store: store.clone(),
        shards: outboxes.clone(),
        commands_max: config.limits.ledger_commands_max,
        group_max: config.limits.group_commands_max,
    })
    .map_err(StartError::Thread)?;
    let helpers = Helpers::start("helper", count.clamp(1, 4), config.limits.helper_jobs_max)
        .map_err(StartError::Thread)?;
    let secret = secret_number(&secrets);
    let ready_file = config.ready_file.clone();
    let ledger_handle = ledger.clone();
    let parts = Arc::new(Parts {
        config,
        shards: outboxes.clone(),
        ledger,
        store,
        secrets,
        secret,
        helpers,
        tls,
        resolver,
        start_ms: clock::now_ms(),
    });
    let shards = start_shards(&parts, runtime, sockets, inboxes)?;
    if let Some(path) = ready_file {
        write_ready_file(&path, &url).map_err(StartError::ReadyFile)?;
    }
    let stop = StopHandle(Arc::new(Mutex::new(Some(outboxes))));
    Ok(Running { url, stop, shards, ledger: ledger_handle, ledger_thread })
}

fn start_shards(
    parts: &Arc<Parts>,
    runtime: RuntimeDriver,
    sockets: Vec<BoundSocket>,
    inboxes: Vec<Inbox<Message>>,
) -> Result<Shards, StartError> {
    // What a shard cannot refuse once it runs is tried here first.
    Homeserver::new(client(parts), &parts.config.homeserver, &parts.config.limits)?;
    front_config(&parts.config)?;
    let config = shards::Config { count: sockets.len(), ..shards::Config::new(runtime) };
    let mut each = sockets.into_iter().zip(inboxes);
    let shards = shards::start(&config, |_index| {
        let one = each.next();
        let parts = Arc::clone(parts);
        move |context| async move {
            if let Some((socket, inbox)) = one {
                run_shard(parts, context, socket, inbox).await;
            }
        }
    })?;
    Ok(shards)
}

/// A number that only this store knows, for positions that cannot be made up.
fn secret_number(secrets: &Secrets) -> u64 {
    let key = secrets.lookup_key("luge position secret");
    key.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn write_ready_file(path: &Path, url: &str) -> io::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, url)?;
    std::fs::rename(&partial, path)
}

fn client(parts: &Parts) -> Client {
    let config = ClientConfig {
        connect_timeout: Duration::from_millis(parts.config.limits.connect_timeout_ms),
        park_after: Duration::from_millis(parts.config.limits.light_wait_after_ms),
        ..ClientConfig::default()
    };
    Client::new(config, parts.tls.clone(), parts.resolver.clone())
}

fn front_config(config: &Config) -> Result<FrontConfig, StartError> {
    FrontConfig::new(&config.homeserver, config.public_url.as_deref())
        .map_err(|error| StartError::Front(error.to_string()))
}

/// How often time moves on for a shard.
const PACE: Pace = Pace { at_least: Duration::from_millis(50), at_most: Duration::from_secs(1) };

/// One shard, from its start to its end.
async fn run_shard(
    parts: Arc<Parts>,
    context: ShardContext,
    socket: BoundSocket,
    inbox: Inbox<Message>,
) {
    let client = client(&parts);
    let Ok(homeserver) =
        Homeserver::new(client.clone(), &parts.config.homeserver, &parts.config.limits)
    else {
        return;
    };
    let stop = Stop::new();
    let endpoint = endpoint(&parts, context.index, client, homeserver.clone());
    let server_config = ServerConfig {
        connections_max: parts.config.limits.connections_max,
        park_after: Duration::from_millis(parts.config.limits.light_wait_after_ms),
        ..ServerConfig::default()
    };
    let server = http::serve(socket, endpoint, server_config, stop.clone());
    let server = task::spawn(server);
    let Some(own) = parts.shards.own(context.index) else { return };
    let (ticker, _ticks) = Ticker::start(PACE, own.clone(), Message::Tick);
    let ports = ports(&parts, own, homeserver);
    let driver = driver(&parts, context, Rc::clone(&ports), ticker, stop);
    drop(parts);
    if let Err(error) = turn::run(driver, inbox).await {
        tracing::error!(%error, "a shard cannot go on: ending; start Luge again");
        std::process::exit(1);
    }
    ports.wind_up().await;
    tracing::debug!(shard = context.index, "the shard has drained");
    if let Err(error) = server.await {
        tracing::error!(%error, "a listener ended badly");
    }
    tracing::debug!(shard = context.index, "the listener has ended");
}

fn endpoint(
    parts: &Arc<Parts>,
    shard: usize,
    client: Client,
    homeserver: Homeserver,
) -> Rc<Endpoint> {
    let config = EndpointConfig {
        shard,
        shards: parts.shards.clone(),
        ledger: parts.ledger.clone(),
        store: parts.store.clone(),
        secrets: Arc::clone(&parts.secrets),
        homeserver,
        request_limits: parts.config.request_limits.clone(),
        body_bytes_max: parts.config.limits.body_bytes_max,
        tokens_max: parts.config.limits.tokens_max,
        known_requests_bytes_max: parts.config.limits.known_requests_bytes_max,
    };
    Endpoint::new(config, |endpoint| {
        let front = front_config(&parts.config).ok().filter(|_| parts.config.front)?;
        let hints = move |hint| {
            if let Some(endpoint) = endpoint.upgrade() {
                endpoint.hint(hint);
            }
        };
        Some(Front::new(Rc::new(client), front, hints))
    })
}

fn ports(parts: &Parts, inbox: Outbox<Message>, homeserver: Homeserver) -> Rc<Ports> {
    Ports::new(PortsConfig {
        inbox,
        ledger: parts.ledger.clone(),
        store: parts.store.clone(),
        homeserver,
        taker: Taker::new(parts.ledger.clone(), parts.helpers.clone()),
        fetches_max: parts.config.limits.fetches_max,
        backlog_max: parts.config.limits.ledger_commands_max,
    })
}

fn driver(
    parts: &Parts,
    context: ShardContext,
    ports: Rc<Ports>,
    ticker: Ticker,
    stop: Stop,
) -> Driver {
    let mut limits = parts.config.shard_limits.clone();
    // The limit is the server's; each shard has its share of it.
    limits.initial_syncs_max = limits.initial_syncs_max.div_ceil(context.count);
    // Position numbers of different shards never meet.
    let start_ms = parts.start_ms + context.index as u64;
    let shard = Shard::new(limits, parts.ledger.world(), start_ms, parts.secret);
    let patience = Duration::from_millis(parts.config.limits.stop_timeout_ms);
    Driver::new(shard, parts.store.clone(), ports, ticker, stop, patience)
}
