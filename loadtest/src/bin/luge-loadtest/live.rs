//! A message's way from the homeserver to every client that waits for it.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use clap::Args;
use luge_io::{
    task,
    time::{clock, sleep, sleep_until},
};
use luge_loadtest::{
    model::{Homeserver, Membership, NewRoom},
    server::Simulated,
};

use crate::{
    Failure,
    child::Luge,
    client::{Device, Network},
    report::{Plot, Report, Table},
    say,
    statistics::{Samples, ms},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The program `luge`
    #[arg(long, value_name = "PATH")]
    luge: PathBuf,
    /// Messages in a second
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [10, 50, 100],
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rates: Vec<u32>,
    /// Clients, all in the one room that is talked in
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 10, 50],
        value_parser = clap::value_parser!(u32).range(1..=5_000))]
    clients: Vec<u32>,
    /// How long each rate is held
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Luge's shards
    #[arg(long, value_name = "N", default_value_t = 1)]
    shards: u16,
}

struct Outcome {
    clients: u32,
    rate: u32,
    samples: Samples,
    expected: usize,
    responses: u64,
    cpu: Duration,
}

const PATIENCE: Duration = Duration::from_mins(2);
/// What marks the time of sending in a message.
const MARK: &str = "sent-at-";

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    let mut outcomes = Vec::new();
    for clients in &arguments.clients {
        run_clients(*clients, &arguments, &mut outcomes).await?;
    }
    Ok(report(&outcomes, &arguments))
}

async fn run_clients(
    clients: u32,
    arguments: &Arguments,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Failure> {
    let (homeserver, room_id) = one_room(clients);
    let simulated = Simulated::serve(homeserver, SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let folder = tempfile::tempdir()?;
    let luge =
        Luge::start(&arguments.luge, &simulated.url, folder.path(), arguments.shards).await?;
    let network = Network::new()?;
    let begun = clock::monotonic();
    let seen = Rc::new(Seen { begun, ..Seen::new(begun) });
    for user in simulated.users.iter().take(clients as usize) {
        let device = Device::new(&network, &luge.url, &user.access_token, "luge-loadtest");
        device.first_contact(PATIENCE).await?;
        drop(task::spawn(follow(device, Rc::clone(&seen))));
    }
    say(&format!("{clients} clients are there"));
    sleep(Duration::from_millis(500)).await;
    let sender = simulated.users.last().ok_or("there is nobody")?.user_id.clone();
    for rate in &arguments.rates {
        say(&format!("{clients} clients, {rate} messages a second"));
        seen.take();
        let cpu = luge.cpu()?;
        let messages = rate * arguments.seconds;
        let expected = messages as usize * clients as usize;
        let pause = Duration::from_secs(1) / *rate;
        let start = clock::monotonic();
        for message in 0..messages {
            sleep_until(start + pause * message).await;
            let (room_id, sender) = (room_id.clone(), sender.clone());
            let act = simulated.handle().begin(move |homeserver, now| {
                let text = format!("{MARK}{}.", begun.elapsed().as_nanos());
                homeserver.say(&room_id, &sender, &text, now).map_err(|error| error.to_string())
            });
            drop(act?.await);
        }
        let deadline = clock::monotonic() + Duration::from_secs(5);
        while seen.samples.borrow().count() < expected && clock::monotonic() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        let cpu = luge.cpu()?.saturating_sub(cpu);
        let (samples, responses) = seen.take();
        outcomes.push(Outcome { clients, rate: *rate, samples, expected, responses, cpu });
    }
    seen.over.set(true);
    drop(luge.stop().await);
    simulated.stop();
    Ok(())
}

/// A homeserver with one room, in which everybody is, and one who speaks.
fn one_room(clients: u32) -> (Homeserver, String) {
    let now = clock::now_ms();
    let mut homeserver = Homeserver::empty(1);
    let users: Vec<String> = (0..=clients)
        .map(|user| {
            // The one who speaks comes last, by name as well.
            let name = if user == clients { "z".to_owned() } else { format!("client{user:05}") };
            let user_id = homeserver.register(&name, &name, "password");
            homeserver.log_in(&user_id, None);
            user_id
        })
        .collect();
    let new = NewRoom { name: Some("Fan-out".into()), public: true, ..NewRoom::default() };
    let room_id = homeserver.create_room(&users[0], &new, now);
    for user_id in &users[1..] {
        let join = (user_id.as_str(), Membership::Join);
        homeserver
            .set_membership(&room_id, user_id, join, None, now)
            .expect("a public room lets everybody in");
    }
    homeserver.take_woken();
    (homeserver, room_id)
}

/// What all clients have seen.
struct Seen {
    begun: Instant,
    samples: RefCell<Samples>,
    responses: Cell<u64>,
    over: Cell<bool>,
}

impl Seen {
    fn new(begun: Instant) -> Self {
        Self { begun, samples: RefCell::default(), responses: Cell::new(0), over: Cell::new(false) }
    }

    fn take(&self) -> (Samples, u64) {
        (self.samples.take(), self.responses.take())
    }
}

/// A client that waits for news until it is over.
async fn follow(device: Device, seen: Rc<Seen>) {
    let mut position = None;
    while !seen.over.get() {
        let timeout_ms = if position.is_some() { 30_000 } else { 0 };
        let Ok(answer) = device.list(position.as_deref(), 19, timeout_ms).await else {
            position = None;
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        position = answer.position().ok();
        let arrived = answer.at - seen.begun;
        let sent = answer.body.match_indices(MARK).filter_map(|(at, _)| {
            let digits = answer.body[at + MARK.len()..].split('.').next()?;
            Some(Duration::from_nanos(digits.parse().ok()?))
        });
        let delays: Vec<Duration> = sent.map(|sent| arrived.saturating_sub(sent)).collect();
        seen.responses.set(seen.responses.get() + 1);
        seen.samples.borrow_mut().extend(delays);
    }
}

fn report(outcomes: &[Outcome], arguments: &Arguments) -> Report {
    let mut table = Table::new(
        "From the homeserver's sending to the client's last byte, milliseconds",
        &[
            "clients",
            "messages/s",
            "delivered",
            "of",
            "50 %",
            "90 %",
            "99 %",
            "slowest",
            "responses",
            "Luge's CPU, µs per delivery",
        ],
    );
    for it in outcomes {
        let delivered = it.samples.count();
        table.row(&[
            it.clients.to_string(),
            it.rate.to_string(),
            delivered.to_string(),
            it.expected.to_string(),
            ms(it.samples.per_mille_ms(500)),
            ms(it.samples.per_mille_ms(900)),
            ms(it.samples.per_mille_ms(990)),
            ms(it.samples.per_mille_ms(1_000)),
            it.responses.to_string(),
            format!("{:.0}", it.cpu.as_secs_f64() * 1e6 / delivered.max(1) as f64),
        ]);
    }
    let mut plot = Plot::new("The slowest of a hundred deliveries", "messages a second", "ms");
    for clients in &arguments.clients {
        let of = outcomes.iter().filter(|it| it.clients == *clients);
        let points = of.map(|it| (f64::from(it.rate), it.samples.per_mille_ms(990))).collect();
        plot.line(&format!("{clients} clients"), points);
    }
    let mut report = Report::new("live");
    report.note(format!(
        "{} s of each rate, {} shards; homeserver, Luge and clients share the machine; a client that is behind gets several messages in one response, of which the newest is shown",
        arguments.seconds, arguments.shards
    ));
    report.table(table);
    report.plot(plot);
    report
}
