//! What comes in: a large first answer, and many small changes, until they are
//! durable.
//!
//! An answer is durable when Luge asks the homeserver for what comes after it:
//! it does so no earlier. Meanwhile other users of the same shard ask, and are
//! timed.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use clap::Args;
use luge_io::{
    task,
    time::{clock, sleep},
};
use luge_loadtest::{model::Session, traffic::Kind};

use crate::{
    Failure,
    progress::Progress,
    report::{Plot, Report, Table},
    say,
    stand::{LugeArguments, Stand},
    statistics::{Samples, ms},
    town,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    luge: LugeArguments,
    /// Rooms of the account whose first answer is taken in
    #[arg(long, value_name = "N", default_value_t = 20_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rooms: u32,
    /// Other users, who ask all the while
    #[arg(long, value_name = "N", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=500))]
    others: u32,
    /// Changes after the first answer, a body each
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(0..=1_000))]
    changes: u32,
    /// Messages in each
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=50_000))]
    messages: u32,
}

const PATIENCE: Duration = Duration::from_mins(5);
/// How often each of the other users asks.
const OTHERS_PAUSE: Duration = Duration::from_millis(50);
/// How long they are timed while nothing else happens.
const QUIET: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Rooms that later messages are spread over: an answer has at most 50 of each.
const TALKED_IN: usize = 1_000;

/// What taking something in came to.
struct Taken {
    bytes: u64,
    events: usize,
    took: Duration,
    cpu: Duration,
    /// Memory beyond what it was before, at most.
    memory: u64,
    others: Samples,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    say(&format!("filling the homeserver with {} rooms", arguments.rooms));
    let mut homeserver = town::account(arguments.rooms, town::DIRECT_PERCENT);
    let user = homeserver.sessions().into_iter().next().ok_or("there is nobody")?;
    let body = town::first_answer(&mut homeserver, &user.user_id);
    let (bytes, events) = (body.len() as u64, town::occurrences(&body, "\"event_id\""));
    homeserver.prepare_first_answer(&user.user_id, body);
    let others = town::add_circles(&mut homeserver, "zz-other", arguments.others, 10);
    let stand = arguments.luge.start(homeserver).await?;
    let crowd = Crowd::gather(&stand, &others).await?;
    let bench = Bench { stand, user, crowd, memory: RefCell::default() };
    sleep(QUIET).await;
    let quiet = bench.crowd.samples.take();
    let first = bench.first(bytes, events).await?;
    let memory = bench.memory.take();
    let mut later = Vec::new();
    if arguments.changes > 0 {
        sleep(QUIET).await;
        let progress = Progress::new("changes", u64::from(arguments.changes));
        for _ in 0..arguments.changes {
            later.push(bench.change(arguments.messages).await?);
            progress.advance();
        }
    }
    bench.crowd.over.set(true);
    drop(bench.stand);
    Ok(report(&arguments, &quiet, &first, &later, memory))
}

/// Users who ask again and again.
struct Crowd {
    samples: Rc<RefCell<Samples>>,
    over: Rc<Cell<bool>>,
}

impl Crowd {
    async fn gather(stand: &Stand, users: &[Session]) -> Result<Self, Failure> {
        let crowd = Self { samples: Rc::default(), over: Rc::default() };
        for user in users {
            let device = stand.device(&user.access_token, "luge-loadtest");
            device.first_contact(PATIENCE).await?;
            let (samples, over) = (Rc::clone(&crowd.samples), Rc::clone(&crowd.over));
            drop(task::spawn(async move {
                let mut position = None;
                while !over.get() {
                    let answer = device.list(position.as_deref(), 19, 0).await;
                    position = answer.as_ref().ok().and_then(|answer| answer.position().ok());
                    samples.borrow_mut().extend(answer.ok().map(|answer| answer.took));
                    sleep(OTHERS_PAUSE).await;
                }
            }));
        }
        Ok(crowd)
    }
}

struct Bench {
    stand: Stand,
    user: Session,
    crowd: Crowd,
    /// Seconds since the first answer was asked for, and MiB.
    memory: RefCell<Vec<(f64, f64)>>,
}

impl Bench {
    /// Waits until the device has asked more often than `before`.
    async fn durable(&self, before: u64, begun: Instant) -> Result<u64, Failure> {
        let meter = self.stand.luge.meter;
        let mut most = 0;
        while self.stand.asked(&self.user).await? <= before {
            let memory = meter.memory()?;
            most = most.max(memory);
            let second = begun.elapsed().as_secs_f64();
            self.memory.borrow_mut().push((second, memory as f64 / f64::from(1 << 20)));
            if begun.elapsed() > PATIENCE {
                return Err("an answer does not become durable".into());
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(most)
    }

    async fn first(&self, bytes: u64, events: usize) -> Result<Taken, Failure> {
        say(&format!("taking in a first answer of {} MB", bytes / 1_000_000));
        let (cpu, memory) = (self.stand.luge.cpu()?, self.stand.luge.memory()?);
        let device = self.stand.device(&self.user.access_token, "luge-loadtest");
        let begun = clock::monotonic();
        let asking = task::spawn(async move { device.first_contact(PATIENCE).await.is_ok() });
        let most = self.durable(0, begun).await?;
        let took = begun.elapsed();
        let cpu = self.stand.luge.cpu()?.saturating_sub(cpu);
        let others = self.crowd.samples.take();
        if !asking.await {
            return Err("the account got no answer".into());
        }
        Ok(Taken { bytes, events, took, cpu, memory: most.saturating_sub(memory), others })
    }

    /// Many messages at once, in many rooms.
    async fn change(&self, messages: u32) -> Result<Taken, Failure> {
        let (cpu, memory, asked) = (
            self.stand.luge.cpu()?,
            self.stand.luge.memory()?,
            self.stand.asked(&self.user).await?,
        );
        self.crowd.samples.take();
        let user_id = self.user.user_id.clone();
        let device_id = self.user.device_id.clone();
        let begun = clock::monotonic();
        let talk = self.stand.simulated.handle().begin(move |homeserver, now| {
            let rooms: Vec<String> = homeserver
                .joined_rooms(&user_id)
                .take(TALKED_IN)
                .map(|room| room.room_id.clone())
                .collect();
            let text = "a message of the length that people write, in one of many rooms";
            let said = (0..messages as usize).filter(|number| {
                let room_id = &rooms[number % rooms.len()];
                homeserver.say(room_id, &user_id, text, now).is_ok()
            });
            (said.count(), homeserver.traffic().of(&device_id, Kind::Sync).bytes_out)
        })?;
        let (events, before) = talk.await.map_err(|_| "the simulated homeserver has ended")?;
        let most = self.durable(asked, begun).await?;
        let took = begun.elapsed();
        let cpu = self.stand.luge.cpu()?.saturating_sub(cpu);
        let device_id = self.user.device_id.clone();
        let after = self.stand.simulated.handle().begin(move |homeserver, _| {
            homeserver.traffic().of(&device_id, Kind::Sync).bytes_out
        })?;
        let after = after.await.map_err(|_| "the simulated homeserver has ended")?;
        let others = self.crowd.samples.take();
        let memory = most.saturating_sub(memory);
        Ok(Taken { bytes: after - before, events, took, cpu, memory, others })
    }
}

fn report(
    arguments: &Arguments,
    quiet: &Samples,
    first: &Taken,
    later: &[Taken],
    memory: Vec<(f64, f64)>,
) -> Report {
    let mut table = Table::new(
        "Until it is durable",
        &[
            "what",
            "MB",
            "events",
            "ms",
            "Luge's CPU, ms",
            "MB/s",
            "MB per CPU s",
            "events per CPU s",
            "memory, of the body",
        ],
    );
    let row = |table: &mut Table, what: &str, taken: &Taken| {
        let megabytes = taken.bytes as f64 / 1e6;
        let cpu = taken.cpu.as_secs_f64().max(1e-3);
        table.row(&[
            what.to_owned(),
            format!("{megabytes:.2}"),
            taken.events.to_string(),
            ms(taken.took.as_secs_f64() * 1e3),
            ms(taken.cpu.as_secs_f64() * 1e3),
            format!("{:.1}", megabytes / taken.took.as_secs_f64()),
            format!("{:.1}", megabytes / cpu),
            format!("{:.0}", taken.events as f64 / cpu),
            format!("{:.2}", taken.memory as f64 / taken.bytes.max(1) as f64),
        ]);
    };
    row(&mut table, "first answer", first);
    let mut others = Table::new(
        "The other users' answers meanwhile, milliseconds",
        &["while", "answers", "50 %", "90 %", "99 %", "slowest"],
    );
    let timed = |others: &mut Table, what: &str, samples: &Samples| {
        let mut cells = vec![what.to_owned(), samples.count().to_string()];
        cells.extend([500, 900, 990, 1_000].map(|part| ms(samples.per_mille_ms(part))));
        others.row(&cells);
    };
    timed(&mut others, "nothing happens", quiet);
    timed(&mut others, "the first answer is taken in", &first.others);
    if !later.is_empty() {
        let sum = sum(later);
        row(&mut table, &format!("{} changes, together", later.len()), &sum);
        timed(&mut others, "changes are", &sum.others);
    }
    let mut plot = Plot::linear("Luge's memory while a first answer comes in", "s", "MiB");
    plot.line("resident, anonymous", memory);
    let mut report = Report::new("ingest");
    report.note(format!(
        "{} rooms, {}, {} other users who each ask every {} ms; the first answer is made beforehand; memory is anonymous, beyond what it was; homeserver, Luge and clients share the machine",
        arguments.rooms, arguments.luge.shards(), arguments.others, OTHERS_PAUSE.as_millis()
    ));
    report.table(table);
    report.table(others);
    report.plot(&plot);
    report
}

fn sum(later: &[Taken]) -> Taken {
    let mut others = Samples::default();
    later.iter().for_each(|taken| others.merge(&taken.others));
    Taken {
        bytes: later.iter().map(|taken| taken.bytes).sum(),
        events: later.iter().map(|taken| taken.events).sum(),
        took: later.iter().map(|taken| taken.took).sum(),
        cpu: later.iter().map(|taken| taken.cpu).sum(),
        memory: later.iter().map(|taken| taken.memory).max().unwrap_or(0),
        others,
    }
}
