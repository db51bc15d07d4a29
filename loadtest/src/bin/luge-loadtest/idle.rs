//! Long polls that wait and are told nothing: what each holds, what all cost.

use std::{cell::Cell, rc::Rc, time::Duration};

use clap::Args;
use luge_io::{task, time::sleep};
use luge_loadtest::model::Homeserver;

use crate::{
    Failure,
    child::need_open_files,
    progress::Progress,
    report::{Report, Table},
    say,
    stand::LugeArguments,
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

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    // Two connections of each device, and its poll of the homeserver.
    need_open_files(u64::from(arguments.users) * 3)?;
    let mut homeserver = Homeserver::empty(1);
    town::add_circles(&mut homeserver, "user", arguments.users, CIRCLE);
    let stand = arguments.luge.start(homeserver).await?;
    let luge = &stand.luge;
    let empty = luge.memory()?;
    let mut devices = Vec::new();
    let progress = Progress::new("users come", arguments.users.into());
    for user in &stand.simulated.users {
        let rooms = stand.device(&user.access_token, "room-list");
        let encryption = stand.device(&user.access_token, "encryption");
        rooms.first_contact(PATIENCE).await?;
        let first = rooms.list(None, 19, 0).await?.position()?;
        // The second says what the first had not told, so that the third waits.
        let first = rooms.list(Some(&first), 19, 0).await?.position()?;
        let second = encryption.encryption(None, 0).await?.position()?;
        devices.push((rooms, first, encryption, second));
        progress.advance();
    }
    drop(progress);
    sleep(Duration::from_secs(3)).await;
    let loaded = luge.memory()?;
    let waiting = Rc::new(Cell::new(0_u32));
    let polls = devices.len() * 2;
    let progress = Progress::new("long polls begin", polls as u64);
    for (rooms, first, encryption, second) in devices {
        for (device, position, lists) in [(rooms, first, true), (encryption, second, false)] {
            let waiting = Rc::clone(&waiting);
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
            // Clients do not all come at once, and what all need at once is not
            // what they hold.
            sleep(BETWEEN).await;
        }
    }
    drop(progress);
    sleep(Duration::from_secs(3)).await;
    say(&format!("{} of {polls} long polls wait", waiting.get()));
    let parked = luge.memory()?;
    let waiting_before = waiting.get();
    let cpu = luge.cpu()?;
    sleep(Duration::from_secs(u64::from(arguments.seconds))).await;
    let cpu = luge.cpu()?.saturating_sub(cpu);
    let waiting_after = waiting.get();
    drop(stand);

    let per = |bytes: u64, of: usize| format!("{:.1}", bytes as f64 / of.max(1) as f64 / 1_024.0);
    let mut table = Table::new("Long polls that wait", &["what", "figure"]);
    let row = |table: &mut Table, what: &str, figure: String| table.row(&[what.to_owned(), figure]);
    row(&mut table, "users, a device each", arguments.users.to_string());
    row(&mut table, "long polls that wait, before", waiting_before.to_string());
    row(&mut table, "long polls that wait, after", waiting_after.to_string());
    row(&mut table, "memory without users, KiB", per(empty, 1));
    row(
        &mut table,
        "memory for each user and poller, KiB",
        per(loaded.saturating_sub(empty), polls / 2),
    );
    row(&mut table, "memory for each long poll, KiB", per(parked.saturating_sub(loaded), polls));
    let percent = cpu.as_secs_f64() / f64::from(arguments.seconds) * 100.0;
    row(&mut table, "CPU, per cent of a core", format!("{percent:.2}"));
    let mut report = Report::new("idle");
    report.note(format!(
        "anonymous resident memory; long polls begin {} ms after one another; connections that were opened before are kept and used again; {} s, {} shards",
        BETWEEN.as_millis(),
        arguments.seconds, arguments.luge.shards
    ));
    report.table(table);
    Ok(report)
}
