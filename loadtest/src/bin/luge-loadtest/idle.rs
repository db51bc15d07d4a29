//! Long polls that wait and are told nothing: what each holds, what all cost.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use clap::Args;
use luge_io::{
    task,
    time::{clock, sleep},
};
use luge_loadtest::model::Homeserver;

use crate::{
    Failure,
    child::{Meter, need_open_files},
    client::Device,
    progress::Progress,
    report::{Plot, Report, Table},
    say,
    stand::{LugeArguments, Stand},
    town,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    luge: LugeArguments,
    /// Users with one device each; each device waits with two connections
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    users: u32,
    /// How long CPU time is watched
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

const PATIENCE: Duration = Duration::from_mins(2);
/// Users in one room.
const CIRCLE: usize = 10;
/// Longer than anything here takes.
const WAIT_MS: u64 = 290_000;
/// Between the beginnings of two long polls.
const BETWEEN: Duration = Duration::from_millis(4);
/// For what happened last to be over.
const SETTLE: Duration = Duration::from_secs(3);
/// How often memory is looked at for its curve.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    // Two connections of each device, and its poll of the homeserver.
    need_open_files(u64::from(arguments.users) * 3)?;
    let mut homeserver = Homeserver::empty(1);
    town::add_circles(&mut homeserver, "user", arguments.users, CIRCLE);
    let stand = arguments.luge.start(homeserver).await?;
    let luge = &stand.luge;
    let curve = Rc::new(RefCell::new(Vec::new()));
    drop(task::spawn(watch(luge.meter, Rc::downgrade(&curve))));
    let empty = luge.memory()?;
    let connections = come(&stand, arguments.users).await?;
    sleep(SETTLE).await;
    let loaded = luge.memory()?;
    let waiting = Rc::new(Cell::new(0_u32));
    let polls = connections.len();
    wait(connections, &waiting).await;
    sleep(SETTLE).await;
    say(&format!("{} of {polls} long polls wait", waiting.get()));
    let parked = luge.memory()?;
    let waiting_before = waiting.get();
    let cpu = luge.cpu()?;
    sleep(Duration::from_secs(u64::from(arguments.seconds))).await;
    let cpu = luge.cpu()?.saturating_sub(cpu);
    let outcome = Outcome {
        empty,
        loaded,
        parked,
        polls,
        waiting: (waiting_before, waiting.get()),
        cpu_percent: cpu.as_secs_f64() / f64::from(arguments.seconds) * 100.0,
        curve: curve.take(),
    };
    Ok(report(outcome, &arguments))
}

/// A connection, its position, and whether it asks for the room list.
type Connection = (Device, String, bool);

/// Lets each user come for the first time, one after another: both connections of
/// their device, up to date.
async fn come(stand: &Stand, users: u32) -> Result<Vec<Connection>, Failure> {
    let mut connections = Vec::new();
    let progress = Progress::new("users come", users.into());
    for user in &stand.simulated.users {
        let rooms = stand.device(&user.access_token, "room-list");
        let encryption = stand.device(&user.access_token, "encryption");
        rooms.first_contact(PATIENCE).await?;
        let first = rooms.list(None, 19, 0).await?.position()?;
        // The second says what the first had not told, so that the third waits.
        let first = rooms.list(Some(&first), 19, 0).await?.position()?;
        let second = encryption.encryption(None, 0).await?.position()?;
        connections.extend([(rooms, first, true), (encryption, second, false)]);
        progress.advance();
    }
    Ok(connections)
}

/// Lets each connection begin its long poll; `waiting` counts those that have no
/// answer.
async fn wait(connections: Vec<Connection>, waiting: &Rc<Cell<u32>>) {
    let progress = Progress::new("long polls begin", connections.len() as u64);
    for (device, position, lists) in connections {
        let waiting = Rc::clone(waiting);
        drop(task::spawn(async move {
            waiting.set(waiting.get() + 1);
            // What it says, or that it fails, shows in the count.
            drop(if lists {
                device.list(Some(&position), 19, WAIT_MS).await
            } else {
                device.encryption(Some(&position), WAIT_MS).await
            });
            waiting.set(waiting.get() - 1);
        }));
        progress.advance();
        // Clients do not all come at once, and what all need at once is not what
        // they hold.
        sleep(BETWEEN).await;
    }
}

/// Seconds since the start, and MiB.
type Curve = RefCell<Vec<(f64, f64)>>;

/// Follows the memory of a process for as long as somebody wants to know.
async fn watch(meter: Meter, curve: Weak<Curve>) {
    let begun = clock::monotonic();
    while let (Some(curve), Ok(memory)) = (curve.upgrade(), meter.memory()) {
        let mebibytes = memory as f64 / f64::from(1 << 20);
        curve.borrow_mut().push((begun.elapsed().as_secs_f64(), mebibytes));
        drop(curve);
        sleep(LOOK_EVERY).await;
    }
}

/// Memory in bytes: without users, with users, with their long polls.
struct Outcome {
    empty: u64,
    loaded: u64,
    parked: u64,
    polls: usize,
    /// Long polls that wait, before and after CPU time was watched.
    waiting: (u32, u32),
    cpu_percent: f64,
    curve: Vec<(f64, f64)>,
}

fn report(it: Outcome, arguments: &Arguments) -> Report {
    let per = |bytes: u64, of: usize| format!("{:.1}", bytes as f64 / of.max(1) as f64 / 1_024.0);
    let (of_users, of_polls) =
        (it.loaded.saturating_sub(it.empty), it.parked.saturating_sub(it.loaded));
    let mut table = Table::new("Long polls that wait", &["what", "figure"]);
    let mut row = |what: &str, figure: String| table.row(&[what.to_owned(), figure]);
    row("users, a device each", arguments.users.to_string());
    row("long polls that wait, before", it.waiting.0.to_string());
    row("long polls that wait, after", it.waiting.1.to_string());
    row("memory without users, KiB", per(it.empty, 1));
    row("memory for each user and poller, KiB", per(of_users, it.polls / 2));
    row("memory for each long poll, KiB", per(of_polls, it.polls));
    row("CPU, per cent of a core", format!("{:.2}", it.cpu_percent));
    let mut plot = Plot::linear("Luge's memory while users come, then long polls", "s", "MiB");
    plot.line("resident, anonymous", it.curve);
    let mut report = Report::new("idle");
    report.note(format!(
        "anonymous resident memory; long polls begin {} ms after one another; connections that were opened before are kept and used again; {} s, {}",
        BETWEEN.as_millis(),
        arguments.seconds,
        arguments.luge.shards()
    ));
    report.table(table);
    report.plot(&plot);
    report
}
