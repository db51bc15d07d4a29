//! What Luge costs the homeserver, beside what a poller for each device with
//! whole member lists would: requests and bytes, counted by the homeserver.

use std::{cell::Cell, rc::Rc, time::Duration};

use clap::Args;
use luge_io::{
    task,
    time::{clock, sleep},
};
use luge_loadtest::{
    conversation::Pace,
    model::{Homeserver, Size},
    server::Simulated,
    traffic::Count,
};

use crate::{
    Failure,
    client::{Device, Network},
    progress::Progress,
    report::{Dots, Report, Table},
    say,
    stand::LugeArguments,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    luge: LugeArguments,
    /// Rooms of the account
    #[arg(long, value_name = "N", default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rooms: u32,
    /// Members of one room at most
    #[arg(long, value_name = "N", default_value_t = 400,
        value_parser = clap::value_parser!(u32).range(2..=10_000))]
    members: u32,
    /// Messages in a second, over all rooms
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// How long people talk
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
}

/// Devices behind Luge, and the same with a poller of their own.
const DEVICES: [(&str, &str, &str); 3] = [
    ("first device", "FIRST", "ALONE1"),
    ("second device", "SECOND", "ALONE2"),
    ("a device that nobody uses", "UNUSED", "ALONE3"),
];
const PATIENCE: Duration = Duration::from_mins(5);
/// How long Luge polls a device for after it was last used; far less than
/// its default, or the run would take as long.
const PARK_AFTER: &str = "5s";
/// What a simple poller asks for: everything.
const FILTER: &str = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A50%7D%7D%7D";

type Counts = Vec<[Count; 2]>;

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    say("filling the homeserver");
    let size = Size {
        rooms: arguments.rooms as usize,
        users: 1,
        remote_users: arguments.members as usize * 2,
        members_max: arguments.members.into(),
        messages_max: 60,
        invites_per_user: 0,
        ..Size::default()
    };
    let mut homeserver = Homeserver::new(&size, clock::now_ms());
    let user_id = homeserver.user_ids().next().ok_or("there is nobody")?.to_owned();
    let mut tokens = Vec::new();
    for (_, behind, alone) in DEVICES {
        for device_id in [behind, alone] {
            let session = homeserver.log_in(&user_id, Some(device_id)).ok_or("nobody logs in")?;
            tokens.push(session.access_token);
        }
    }
    let stand = arguments.luge.start_with(homeserver, &["--park-after", PARK_AFTER]).await?;
    let simulated = &stand.simulated;
    let over = Rc::new(Cell::new(false));
    let mut followers = Vec::new();
    for ((what, ..), tokens) in DEVICES.iter().zip(tokens.chunks(2)) {
        say(&format!("{what}: first contact"));
        let device = stand.device(&tokens[0], "luge-loadtest");
        device.first_contact(PATIENCE).await?;
        let poller = Alone {
            network: stand.network.clone(),
            url: simulated.url.clone(),
            token: tokens[1].clone(),
        };
        let since = poller.poll(None, 0).await?;
        followers.push((device, poller, since));
    }
    // Luge asks once more for rooms after a device's first answer.
    sleep(Duration::from_secs(2)).await;
    let contact = counts(simulated, false).await?;
    for (index, (device, poller, since)) in followers.into_iter().enumerate() {
        let is_used = index + 1 < DEVICES.len();
        if is_used {
            drop(task::spawn(follow(device, Rc::clone(&over))));
        }
        drop(task::spawn(poller.go_on(since, Rc::clone(&over))));
    }
    let parked = Progress::new("until the unused device is left alone", 40);
    for _ in 0..40 {
        sleep(Duration::from_secs(1)).await;
        parked.advance();
    }
    drop(parked);
    counts(simulated, true).await?;
    let pace =
        Pace { messages_per_second: arguments.rate.into(), other_percent: 0, ..Pace::default() };
    simulated.handle().talk(pace)?;
    let progress = Progress::new("people talk", arguments.seconds.into());
    for _ in 0..arguments.seconds {
        sleep(Duration::from_secs(1)).await;
        progress.advance();
    }
    drop(progress);
    let talk = counts(simulated, false).await?;
    over.set(true);
    drop(stand);
    Ok(report(&arguments, &contact, &talk))
}

/// What each device asked for so far, behind Luge and alone.
async fn counts(simulated: &Simulated, forget: bool) -> Result<Counts, Failure> {
    let counts = simulated.handle().begin(move |homeserver, _| {
        let traffic = homeserver.traffic();
        let of = DEVICES.map(|(_, behind, alone)| [traffic.of_all(behind), traffic.of_all(alone)]);
        if forget {
            traffic.clear();
        }
        of.to_vec()
    })?;
    Ok(counts.await.map_err(|_| "the simulated homeserver has ended")?)
}

async fn follow(device: Device, over: Rc<Cell<bool>>) {
    let mut position = None;
    while !over.get() {
        let timeout_ms = if position.is_some() { 30_000 } else { 0 };
        let answer = device.list(position.as_deref(), 19, timeout_ms).await;
        position = answer.ok().and_then(|answer| answer.position().ok());
    }
}

/// A device that polls the homeserver itself, and wants everything.
struct Alone {
    network: Network,
    url: String,
    token: String,
}

impl Alone {
    async fn poll(&self, since: Option<&str>, timeout_ms: u64) -> Result<String, Failure> {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let url = format!(
            "{}/_matrix/client/v3/sync?timeout={timeout_ms}&filter={FILTER}{since}",
            self.url
        );
        let answer = self.network.get(&url, &self.token).await?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        Ok(answer["next_batch"].as_str().ok_or("an answer has no next_batch")?.to_owned())
    }

    async fn go_on(self, mut since: String, over: Rc<Cell<bool>>) {
        while !over.get() {
            match self.poll(Some(&since), 30_000).await {
                Ok(next) => since = next,
                Err(_) => return,
            }
        }
    }
}

fn report(arguments: &Arguments, contact: &Counts, talk: &Counts) -> Report {
    let columns = [
        "device",
        "requests by Luge",
        "KB",
        "requests alone",
        "alone, KB",
        "Luge's of these bytes",
    ];
    let mut report = Report::new("upstream");
    report.note(format!(
        "an account of {} rooms with up to {} members; {} messages a second for {} s; bytes are those of bodies and targets; alone: a poller for each device, with whole member lists; Luge leaves a device alone after {PARK_AFTER} here, by default after 10 minutes",
        arguments.rooms, arguments.members, arguments.rate, arguments.seconds
    ));
    for (title, counts) in [("Until the first answer", contact), ("While people talk", talk)] {
        let mut table = Table::new(title, &columns);
        let mut dots = Dots::new(
            &format!("{title}: bytes"),
            "KB, in and out of the homeserver",
            &["Luge", "alone"],
        );
        for ((what, ..), [behind, alone]) in DEVICES.iter().zip(counts) {
            let bytes = |count: &Count| (count.bytes_in + count.bytes_out) as f64;
            dots.row(what, &[bytes(behind) / 1e3, bytes(alone) / 1e3]);
            table.row(&[
                (*what).to_owned(),
                behind.asked.to_string(),
                format!("{:.1}", bytes(behind) / 1e3),
                alone.asked.to_string(),
                format!("{:.1}", bytes(alone) / 1e3),
                format!("{:.1} %", 100.0 * bytes(behind) / bytes(alone).max(1.0)),
            ]);
        }
        report.table(table);
        report.dots(&dots);
    }
    report
}
