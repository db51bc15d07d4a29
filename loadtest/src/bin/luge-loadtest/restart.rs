//! A start with a full store: how long until the first answer, against what is
//! stored.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use luge_io::time::clock;
use luge_loadtest::model::{Homeserver, NewRoom};

use crate::{
    Failure,
    child::Luge,
    client::{Device, Network},
    progress::Progress,
    report::{Plot, Report, Table},
    say,
    statistics::{Samples, ms},
    town,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The program `luge`
    #[arg(long, value_name = "PATH")]
    luge: PathBuf,
    /// Rooms that are stored
    #[arg(long, value_name = "N,N", value_delimiter = ',',
        default_values_t = [500, 5_000, 50_000],
        value_parser = clap::value_parser!(u32).range(1..=200_000))]
    rooms: Vec<u32>,
    /// Events that are stored of each, its state included
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(8..=100))]
    events: u32,
    /// How often Luge is started
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,
}

const PATIENCE: Duration = Duration::from_mins(10);

struct Outcome {
    rooms: u32,
    events: usize,
    store: u64,
    ready: Samples,
    kept: Samples,
    first: Samples,
    memory: u64,
    lost: u32,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    let mut outcomes = Vec::new();
    for rooms in &arguments.rooms {
        outcomes.push(one(*rooms, &arguments).await?);
    }
    Ok(report(&outcomes, &arguments))
}

async fn one(rooms: u32, arguments: &Arguments) -> Result<Outcome, Failure> {
    let mut homeserver = Homeserver::empty(1);
    let (user_id, token) = fill(&mut homeserver, rooms, arguments.events)?;
    let body = town::first_answer(&mut homeserver, &user_id);
    let events = town::occurrences(&body, "\"event_id\"");
    homeserver.prepare_first_answer(&user_id, body);
    let simulated = town::serve(homeserver)?;
    let folder = tempfile::tempdir()?;
    let luge = Luge::start(&arguments.luge, &simulated.url, folder.path(), 1).await?;
    let network = Network::new()?;
    let device = Device::new(&network, &luge.url, &token, "luge-loadtest");
    say(&format!("{rooms} rooms: first contact"));
    device.first_contact(PATIENCE).await?;
    let mut position = device.list(None, 19, 0).await?.position()?;
    luge.stop().await?;
    let mut outcome = Outcome {
        rooms,
        events,
        store: stored(&folder.path().join("data"))?,
        ready: Samples::default(),
        kept: Samples::default(),
        first: Samples::default(),
        memory: 0,
        lost: 0,
    };
    let progress = Progress::new(&format!("{rooms} rooms: starting"), arguments.times.into());
    for _ in 0..arguments.times {
        let begun = clock::monotonic();
        let luge = Luge::start(&arguments.luge, &simulated.url, folder.path(), 1).await?;
        outcome.ready.add(begun.elapsed());
        let device = Device::new(&network, &luge.url, &token, "luge-loadtest");
        let kept = device.list(Some(&position), 19, 0).await;
        outcome.kept.add(begun.elapsed());
        outcome.lost += u32::from(kept.is_err());
        let first = Device::new(&network, &luge.url, &token, "another");
        outcome.first.add(first.list(None, 19, 0).await?.took);
        outcome.memory = luge.memory()?;
        position = match kept {
            Ok(kept) => kept.position()?,
            Err(_) => device.list(None, 19, 0).await?.position()?,
        };
        luge.stop().await?;
        progress.advance();
    }
    simulated.stop();
    Ok(outcome)
}

/// A user in rooms of their own, each with so many events.
fn fill(homeserver: &mut Homeserver, rooms: u32, events: u32) -> Result<(String, String), Failure> {
    let now = clock::now_ms();
    let user_id = homeserver.register("user", "User", "password");
    let session = homeserver.log_in(&user_id, None).ok_or("nobody can log in")?;
    let progress = Progress::new(&format!("{rooms} rooms: filling the homeserver"), rooms.into());
    for room in 0..rooms {
        let new = NewRoom { name: Some(format!("Room {room}")), ..NewRoom::default() };
        let at = now - u64::from(rooms - room) * 1_000;
        let room_id = homeserver.create_room(&user_id, &new, at);
        let state = homeserver.room(&room_id).map_or(0, |room| room.events.len());
        for message in state..events as usize {
            let text = format!("message {message}, of the length that people write in a room");
            homeserver.say(&room_id, &user_id, &text, at).map_err(|error| error.to_string())?;
        }
        progress.advance();
    }
    homeserver.take_woken();
    Ok((user_id, session.access_token))
}

/// Bytes of a folder's files, as far as the disk holds them.
fn stored(folder: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt as _;

    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}

fn report(outcomes: &[Outcome], arguments: &Arguments) -> Report {
    let mut table = Table::new(
        "From the start of the process, milliseconds",
        &[
            "rooms",
            "events",
            "store MB",
            "accepts, median",
            "answers a kept position, median",
            "slowest",
            "a new connection's first 20, median",
            "memory MiB",
            "positions lost",
        ],
    );
    let mut plot = Plot::new("From the start to the first answer", "events stored", "ms");
    for it in outcomes {
        table.row(&[
            it.rooms.to_string(),
            it.events.to_string(),
            format!("{:.1}", it.store as f64 / 1e6),
            ms(it.ready.median_ms()),
            ms(it.kept.median_ms()),
            ms(it.kept.per_mille_ms(1_000)),
            ms(it.first.median_ms()),
            (it.memory >> 20).to_string(),
            it.lost.to_string(),
        ]);
    }
    let lines: [(&str, fn(&Outcome) -> &Samples); 3] = [
        ("accepts connections", |it| &it.ready),
        ("answers a kept position", |it| &it.kept),
        ("a new connection", |it| &it.first),
    ];
    for (name, samples) in lines {
        let points = outcomes.iter().map(|it| (it.events as f64, samples(it).median_ms()));
        plot.line(name, points.collect());
    }
    let mut report = Report::new("restart");
    report.note(format!(
        "{} starts of each after orderly stops, warm: the system has the store in memory; one shard",
        arguments.times
    ));
    report.table(table);
    report.plot(plot);
    report
}
