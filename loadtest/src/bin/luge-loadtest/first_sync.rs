//! Accounts of growing size: what the first answer costs, and what does not grow.

use std::time::Duration;

use clap::Args;
use luge_io::time::clock;

use crate::{
    Failure,
    client::Device,
    report::{Plot, Report, Table},
    say,
    stand::LugeArguments,
    statistics::{Samples, ms},
    town,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    luge: LugeArguments,
    /// Sizes of the account, in rooms
    #[arg(long, value_name = "N,N", value_delimiter = ',',
        default_values_t = [10, 100, 1_000, 5_000, 20_000],
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rooms: Vec<u32>,
    /// How often each answer is asked for
    #[arg(long, value_name = "N", default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    times: u32,
    /// Of a hundred rooms, how many are direct chats: `m.direct` names each, and
    /// is part of every first answer
    #[arg(long, value_name = "N", default_value_t = town::DIRECT_PERCENT,
        value_parser = clap::value_parser!(u8).range(0..=100))]
    direct: u8,
}

/// For the first contact with a large account.
const PATIENCE: Duration = Duration::from_mins(5);

struct Outcome {
    rooms: u32,
    body_bytes: usize,
    contact: Duration,
    cpu: Duration,
    memory: u64,
    first: Samples,
    /// Bytes of the last first answer.
    first_bytes: usize,
    hundred: Samples,
    all: Samples,
    empty: Samples,
    empty_all: Samples,
    restart: Duration,
    kept: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    let mut outcomes = Vec::new();
    for rooms in &arguments.rooms {
        outcomes.push(one(*rooms, &arguments).await?);
    }
    Ok(report(&outcomes, &arguments))
}

async fn one(rooms: u32, arguments: &Arguments) -> Result<Outcome, Failure> {
    say(&format!("{rooms} rooms: filling the homeserver"));
    let mut homeserver = town::account(rooms, arguments.direct);
    let user_id = homeserver.user_ids().next().ok_or("there is nobody")?.to_owned();
    let body_bytes = town::first_answer(&mut homeserver, &user_id).len();
    let mut stand = arguments.luge.start(homeserver).await?;
    let token = stand.first_token()?;
    let device = stand.device(&token, "luge-loadtest");
    say(&format!("{rooms} rooms: first contact"));
    let contact = device.first_contact(PATIENCE).await?;
    let mut outcome = Outcome {
        rooms,
        body_bytes,
        contact,
        cpu: stand.luge.cpu()?,
        memory: 0,
        first: Samples::default(),
        first_bytes: 0,
        hundred: Samples::default(),
        all: Samples::default(),
        empty: Samples::default(),
        empty_all: Samples::default(),
        restart: Duration::ZERO,
        kept: false,
    };
    say(&format!("{rooms} rooms: asking"));
    let position = outcome.ask(&device, arguments.times).await?;
    outcome.memory = stand.luge.memory()?;
    say(&format!("{rooms} rooms: starting again"));
    stand.luge.stop().await?;
    let begun = clock::monotonic();
    stand.start_again().await?;
    let device = stand.device(&token, "luge-loadtest");
    outcome.kept = device.list(Some(&position), 19, 0).await.is_ok();
    outcome.restart = begun.elapsed();
    stand.luge.stop().await?;
    Ok(outcome)
}

impl Outcome {
    async fn ask(&mut self, device: &Device, times: u32) -> Result<String, Failure> {
        let mut position = String::new();
        let mut last = 0;
        for _ in 0..times {
            let first = device.list(None, 19, 0).await?;
            self.first.add(first.took);
            self.first_bytes = first.body.len();
            last = first.count()?.saturating_sub(1);
            let hundred = device.list(Some(&first.position()?), last.min(99), 0).await?;
            self.hundred.add(hundred.took);
            position = hundred.position()?;
        }
        for time in 0..times.min(10) {
            let before = if time == 0 {
                position.clone()
            } else {
                device.list(None, 19, 0).await?.position()?
            };
            let all = device.list(Some(&before), last, 0).await?;
            self.all.add(all.took);
            position = all.position()?;
        }
        for (until, whole) in [(19, false), (last, true)] {
            for _ in 0..times * 3 {
                let answer = device.list(Some(&position), until, 0).await?;
                position = answer.position()?;
                let samples = if whole { &mut self.empty_all } else { &mut self.empty };
                samples.add(answer.took);
            }
        }
        Ok(position)
    }
}

fn report(outcomes: &[Outcome], arguments: &Arguments) -> Report {
    let mut table = Table::new(
        "Medians in milliseconds, against the size of the account",
        &[
            "rooms",
            "first 20",
            "its KB",
            "up to 100",
            "all",
            "empty, window 20",
            "empty, whole window",
        ],
    );
    let mut contact = Table::new(
        "First contact, memory, restart",
        &[
            "rooms",
            "homeserver's body MB",
            "first contact ms",
            "of it Luge's CPU ms",
            "memory MB",
            "start to first answer ms",
            "position kept",
        ],
    );
    for it in outcomes {
        let median = |samples: &Samples| ms(samples.median_ms());
        table.row(&[
            it.rooms.to_string(),
            median(&it.first),
            (it.first_bytes / 1_000).to_string(),
            median(&it.hundred),
            median(&it.all),
            median(&it.empty),
            median(&it.empty_all),
        ]);
        contact.row(&[
            it.rooms.to_string(),
            format!("{:.2}", it.body_bytes as f64 / 1e6),
            ms(it.contact.as_secs_f64() * 1e3),
            it.cpu.as_millis().to_string(),
            format!("{:.1}", it.memory as f64 / 1e6),
            ms(it.restart.as_secs_f64() * 1e3),
            if it.kept { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let mut plot = Plot::new("Medians against the size of the account", "rooms", "ms");
    let lines: [(&str, fn(&Outcome) -> &Samples); 5] = [
        ("first 20", |it| &it.first),
        ("up to 100", |it| &it.hundred),
        ("all", |it| &it.all),
        ("empty, window 20", |it| &it.empty),
        ("empty, whole window", |it| &it.empty_all),
    ];
    for (name, samples) in lines {
        let points = outcomes.iter().map(|it| (f64::from(it.rooms), samples(it).median_ms()));
        plot.line(name, points.collect());
    }
    let mut report = Report::new("first-sync");
    report.note(format!(
        "{} of each, {}; times are until the last byte; {} % of the rooms are direct chats",
        arguments.times,
        arguments.luge.shards(),
        arguments.direct
    ));
    report.table(table);
    report.table(contact);
    report.plot(&plot);
    report
}
