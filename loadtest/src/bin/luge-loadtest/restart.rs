//! A start with a full store: how long until the first answer, against what is
//! stored.

use std::{fs, path::Path, time::Duration};

use clap::Args;
use luge_io::time::{clock, sleep};
use luge_loadtest::model::{Homeserver, NewRoom};

use crate::{
    Failure,
    progress::Progress,
    report::{Plot, Report, Table},
    stand::{LugeArguments, Stand},
    statistics::{Samples, ms},
    town,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    luge: LugeArguments,
    /// Users, each in rooms of their own; one of them asks
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    users: u32,
    /// Rooms of each user
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
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    let (homeserver, events) = filled(rooms, arguments)?;
    let mut stand = arguments.luge.start(homeserver).await?;
    come(&stand, rooms).await?;
    let token = &stand.first_token()?;
    let mut position = stand.device(token, "luge-loadtest").list(None, 19, 0).await?.position()?;
    stand.luge.stop().await?;
    let mut outcome = Outcome {
        rooms,
        events,
        store: stored(&stand.folder.path().join("data"))?,
        ready: Samples::default(),
        kept: Samples::default(),
        first: Samples::default(),
        memory: 0,
        lost: 0,
    };
    let progress = Progress::new(&format!("{rooms} rooms each: starting"), arguments.times.into());
    for _ in 0..arguments.times {
        position = outcome.start(&mut stand, token, &position).await?;
        progress.advance();
    }
    Ok(outcome)
}

/// Lets each user come for the first time, until all of their rooms are stored.
async fn come(stand: &Stand, rooms: u32) -> Result<(), Failure> {
    let users = &stand.simulated.users;
    let progress = Progress::new(&format!("{rooms} rooms each: users come"), users.len() as u64);
    for user in users {
        stand.device(&user.access_token, "luge-loadtest").first_contact(PATIENCE).await?;
        let begun = clock::monotonic();
        while stand.asked(user).await? == 0 {
            if begun.elapsed() > PATIENCE {
                return Err("a first answer does not become durable".into());
            }
            sleep(LOOK_EVERY).await;
        }
        progress.advance();
    }
    Ok(())
}

impl Outcome {
    /// Starts Luge, asks with a position that a client had before, and stops it
    /// again; returns the next position.
    async fn start(
        &mut self,
        stand: &mut Stand,
        token: &str,
        position: &str,
    ) -> Result<String, Failure> {
        let begun = clock::monotonic();
        stand.start_again().await?;
        self.ready.add(begun.elapsed());
        let device = stand.device(token, "luge-loadtest");
        let kept = device.list(Some(position), 19, 0).await;
        self.kept.add(begun.elapsed());
        self.lost += u32::from(kept.is_err());
        let first = stand.device(token, "another").list(None, 19, 0).await?;
        self.first.add(first.took);
        self.memory = stand.luge.memory()?;
        let position = match kept {
            Ok(kept) => kept.position()?,
            Err(_) => device.list(None, 19, 0).await?.position()?,
        };
        stand.luge.stop().await?;
        Ok(position)
    }
}

/// Users in rooms of their own, each room with so many events, all told; their
/// first answers are made.
fn filled(rooms: u32, arguments: &Arguments) -> Result<(Homeserver, usize), Failure> {
    let mut homeserver = Homeserver::empty(1);
    let mut events = 0;
    let what = format!("{rooms} rooms each: filling the homeserver");
    let progress = Progress::new(&what, u64::from(rooms) * u64::from(arguments.users));
    for user in 0..arguments.users {
        let name = format!("user{user:05}");
        let user_id = homeserver.register(&name, &name, "password");
        homeserver.log_in(&user_id, None).ok_or("nobody can log in")?;
        let now = clock::now_ms();
        for room in 0..rooms {
            let at = now - u64::from(rooms - room) * 1_000;
            events += add_room(&mut homeserver, &user_id, room, arguments.events, at)?;
            progress.advance();
        }
        let body = town::first_answer(&mut homeserver, &user_id);
        homeserver.prepare_first_answer(&user_id, body);
    }
    homeserver.take_woken();
    Ok((homeserver, events))
}

/// Adds a room with so many events, or a few more where its state takes more.
fn add_room(
    homeserver: &mut Homeserver,
    user_id: &str,
    room: u32,
    events: u32,
    at: u64,
) -> Result<usize, Failure> {
    let new = NewRoom { name: Some(format!("Room {room}")), ..NewRoom::default() };
    let room_id = homeserver.create_room(user_id, &new, at);
    let state = homeserver.room(&room_id).map_or(0, |room| room.events.len());
    for message in state..events as usize {
        let text = format!("message {message}, of the length that people write in a room");
        homeserver.say(&room_id, user_id, &text, at).map_err(|error| error.to_string())?;
    }
    Ok(homeserver.room(&room_id).map_or(0, |room| room.events.len()))
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
            "rooms of each user",
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
        "{} users; {} starts of each store after orderly stops, warm: the system has the store in memory; {}",
        arguments.users, arguments.times, arguments.luge.shards()
    ));
    report.table(table);
    report.plot(&plot);
    report
}
