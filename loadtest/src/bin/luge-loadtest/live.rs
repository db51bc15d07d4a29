//! A message's way from the homeserver to every client that waits for it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
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
    model::{Homeserver, NewRoom, Session},
    server::Handle,
};

use crate::{
    Failure,
    child::{Meter, need_open_files},
    client::{Device, Network, escaped},
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
    /// Also looks for the highest rate at which 99 of 100 deliveries take less
    #[arg(long, value_name = "MILLISECONDS",
        value_parser = clap::value_parser!(u32).range(1..=60_000))]
    limit: Option<u32>,
    /// A relay that does nothing but read and write, in Luge's place: what a delivery costs at the
    /// least
    #[arg(long, conflicts_with_all = ["against", "luge", "shards"])]
    bare: bool,
    /// A server that runs already, instead of one that is started
    #[arg(long, value_name = "URL", conflicts_with_all = ["luge", "shards"],
        requires_all = ["homeserver", "tokens", "room"])]
    against: Option<String>,
    /// The homeserver that messages are sent to
    #[arg(long, value_name = "URL")]
    homeserver: Option<String>,
    /// A file with an access token of a member of the room on each line: the first one speaks too
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// The id of the room
    #[arg(long, value_name = "ID")]
    room: Option<String>,
    /// The process id of that server, for its CPU time
    #[arg(long, value_name = "PID", requires = "against")]
    pid: Option<u32>,
}

struct Outcome {
    clients: u32,
    rate: u32,
    samples: Samples,
    /// For each message that reached everybody, when it had.
    last: Samples,
    expected: usize,
    responses: u64,
    cpu: Option<Duration>,
}

const PATIENCE: Duration = Duration::from_mins(2);
/// What marks the time of sending in a message.
pub(crate) const MARK: &str = "sent-at-";
/// Events of the room in one response, so that a client that is behind gets all.
const TIMELINE: u32 = 20;
/// Clients that come at once.
const ARRIVALS: u32 = 8;
/// For what the last arrivals set off.
const SETTLING: Duration = Duration::from_millis(500);
/// Rates tried in a search.
const TRIES_MAX: u32 = 12;

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    let mut outcomes = Vec::new();
    let mut limits = Vec::new();
    if let Some(stage) = Stage::real(&arguments)? {
        stage.run(&arguments, &mut outcomes, &mut limits).await?;
    } else {
        for clients in &arguments.clients {
            let stage = Stage::simulated(*clients, &arguments).await?;
            stage.run(&arguments, &mut outcomes, &mut limits).await?;
        }
    }
    Ok(report(&outcomes, &limits, &arguments))
}

/// Who speaks, and how.
enum Speaker {
    Simulated { homeserver: Handle, room_id: String, sender: String },
    Real { network: Network, url: String, token: String, room_id: String },
}

impl Speaker {
    /// Says something that tells when it was said.
    async fn say(&self, begun: Instant) -> Result<(), Failure> {
        match self {
            Self::Simulated { homeserver, room_id, sender } => {
                let (room_id, sender) = (room_id.clone(), sender.clone());
                let act = homeserver.begin(move |homeserver, now| {
                    let text = format!("{MARK}{}.", begun.elapsed().as_nanos());
                    homeserver.say(&room_id, &sender, &text, now).map_err(|error| error.to_string())
                });
                // A thread that is behind shows in the times.
                drop(act?.await);
                Ok(())
            }
            Self::Real { network, url, token, room_id } => {
                let sent = begun.elapsed().as_nanos();
                let url = format!(
                    "{url}/_matrix/client/v3/rooms/{}/send/m.room.message/loadtest{sent}",
                    escaped(room_id)
                );
                let body = format!(r#"{{"msgtype":"m.text","body":"{MARK}{sent}."}}"#);
                network.put(&url, token, body).await
            }
        }
    }
}

/// Clients that wait, and somebody who speaks.
struct Stage {
    clients: u32,
    speaker: Speaker,
    devices: Vec<Device>,
    meter: Option<Meter>,
    own: Option<Stand>,
}

impl Stage {
    async fn simulated(clients: u32, arguments: &Arguments) -> Result<Self, Failure> {
        // Each client's connection, and its poll of the homeserver.
        need_open_files(u64::from(clients) * 2)?;
        let (homeserver, room_id) = one_room(clients);
        let stand = if arguments.bare {
            Stand::bare(homeserver).await?
        } else {
            arguments.luge.start(homeserver).await?
        };
        let users = &stand.simulated.users;
        let members = users.iter().take(clients as usize);
        let device = |user: &Session| stand.device(&user.access_token, "luge-loadtest");
        let devices = members.map(device).collect();
        let sender = users.last().ok_or("there is nobody")?.user_id.clone();
        let homeserver = stand.simulated.handle();
        Ok(Self {
            clients,
            speaker: Speaker::Simulated { homeserver, room_id, sender },
            devices,
            meter: Some(stand.luge.meter),
            own: Some(stand),
        })
    }

    fn real(arguments: &Arguments) -> Result<Option<Self>, Failure> {
        let Some(against) = &arguments.against else { return Ok(None) };
        let missing = "give --homeserver, --tokens and --room too";
        let file = arguments.tokens.as_ref().ok_or(missing)?;
        let text = fs::read_to_string(file)?;
        let tokens: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
        let network = Network::new()?;
        let device = |token: &&str| Device::new(&network, against, token, "luge-loadtest");
        let speaker = Speaker::Real {
            network: network.clone(),
            url: arguments.homeserver.clone().ok_or(missing)?.trim_end_matches('/').to_owned(),
            token: (*tokens.first().ok_or("the file of tokens is empty")?).to_owned(),
            room_id: arguments.room.clone().ok_or(missing)?,
        };
        Ok(Some(Self {
            clients: u32::try_from(tokens.len())?,
            speaker,
            devices: tokens.iter().map(device).collect(),
            meter: arguments.pid.map(Meter::of),
            own: None,
        }))
    }

    async fn run(
        mut self,
        arguments: &Arguments,
        outcomes: &mut Vec<Outcome>,
        limits: &mut Vec<(u32, u32)>,
    ) -> Result<(), Failure> {
        let seen = Rc::new(Seen::new(clock::monotonic()));
        let devices = std::mem::take(&mut self.devices);
        come(&devices).await?;
        let waiting = Rc::new(Cell::new(0));
        for device in devices {
            let device = device.with_timeline(TIMELINE);
            drop(task::spawn(follow(device, Rc::clone(&seen), Rc::clone(&waiting))));
        }
        let deadline = clock::monotonic() + PATIENCE;
        while waiting.get() < self.clients && clock::monotonic() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(SETTLING).await;
        for rate in &arguments.rates {
            say(&format!("{} clients, {rate} messages a second", self.clients));
            outcomes.push(self.hold(*rate, arguments.seconds, &seen).await?);
        }
        if let Some(limit) = arguments.limit {
            limits.push((self.clients, self.search(limit, arguments.seconds, &seen).await?));
        }
        seen.over.set(true);
        if let Some(own) = &mut self.own {
            drop(own.luge.stop().await);
        }
        Ok(())
    }

    /// Speaks at a rate for so long.
    async fn hold(&self, rate: u32, seconds: u32, seen: &Seen) -> Result<Outcome, Failure> {
        seen.take();
        let cpu = self.meter.map(Meter::cpu).transpose()?;
        let messages = rate * seconds;
        let expected = messages as usize * self.clients as usize;
        let pause = Duration::from_secs(1) / rate;
        let start = clock::monotonic();
        for message in 0..messages {
            sleep_until(start + pause * message).await;
            self.speaker.say(seen.begun).await?;
        }
        let deadline = clock::monotonic() + Duration::from_secs(5);
        while seen.samples.borrow().count() < expected && clock::monotonic() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        let after = self.meter.map(Meter::cpu).transpose()?;
        let cpu = after.zip(cpu).map(|(after, before)| after.saturating_sub(before));
        let clients = self.clients;
        let (samples, last, responses) = seen.take();
        let everybody = last.into_values().filter(|(reached, _)| *reached >= clients);
        let mut last = Samples::default();
        last.extend(everybody.map(|(_, delay)| delay));
        Ok(Outcome { clients, rate, samples, last, expected, responses, cpu })
    }

    /// The highest rate found that keeps the limit: doubled until it fails, then
    /// halved in between. 0 where even one message a second is too much.
    async fn search(&self, limit_ms: u32, seconds: u32, seen: &Seen) -> Result<u32, Failure> {
        let (mut holds, mut fails, mut rate) = (0, None, 16);
        for _ in 0..TRIES_MAX {
            let outcome = self.hold(rate, seconds, seen).await?;
            let slow = outcome.samples.per_mille_ms(990);
            let kept = slow < f64::from(limit_ms) && outcome.samples.count() >= outcome.expected;
            say(&format!("{rate} messages a second: 99 % within {} ms", ms(slow)));
            if kept {
                holds = rate;
            } else {
                fails = Some(rate);
            }
            rate = match fails {
                None => (rate * 2).min(10_000),
                Some(fails) => u32::midpoint(holds, fails),
            };
            if rate == holds || rate * 20 < holds * 21 || holds == 10_000 {
                break;
            }
        }
        Ok(holds)
    }
}

/// A homeserver with one room, in which everybody is, and one who speaks.
fn one_room(clients: u32) -> (Homeserver, String) {
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
    let room_id = homeserver.create_room(&users[0], &new, clock::now_ms());
    for user_id in &users[1..] {
        town::join(&mut homeserver, &room_id, user_id);
    }
    homeserver.take_woken();
    (homeserver, room_id)
}

/// How many clients a message has reached, and how long it took to the last.
type Reached = BTreeMap<Duration, (u32, Duration)>;

/// What all clients have seen.
struct Seen {
    begun: Instant,
    /// What was said before does not count.
    from: Cell<Duration>,
    samples: RefCell<Samples>,
    /// By when a message was sent.
    last: RefCell<Reached>,
    responses: Cell<u64>,
    over: Cell<bool>,
}

impl Seen {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            from: Cell::default(),
            samples: RefCell::default(),
            last: RefCell::default(),
            responses: Cell::new(0),
            over: Cell::new(false),
        }
    }

    fn take(&self) -> (Samples, Reached, u64) {
        self.from.set(self.begun.elapsed());
        (self.samples.take(), self.last.take(), self.responses.take())
    }

    /// A client got an answer.
    fn note(&self, body: &str, at: Instant) {
        let arrived = at - self.begun;
        let sent = body.match_indices(MARK).filter_map(|(at, _)| {
            let digits = body[at + MARK.len()..].split('.').next()?;
            Some(Duration::from_nanos(digits.parse().ok()?))
        });
        self.responses.set(self.responses.get() + 1);
        for sent in sent.filter(|sent| *sent >= self.from.get()) {
            let delay = arrived.saturating_sub(sent);
            self.samples.borrow_mut().add(delay);
            let mut last = self.last.borrow_mut();
            let (reached, slowest) = last.entry(sent).or_default();
            *reached += 1;
            *slowest = delay.max(*slowest);
        }
    }
}

/// Lets every client be known, before any waits: who comes into a room changes its
/// state, and whoever waits there would be told of all who come later.
async fn come(devices: &[Device]) -> Result<(), Failure> {
    let progress = Rc::new(Progress::new("clients come", devices.len() as u64));
    let devices = Rc::new(RefCell::new(devices.to_vec()));
    let arrivals: Vec<_> = (0..ARRIVALS)
        .map(|_| {
            let (devices, progress) = (Rc::clone(&devices), Rc::clone(&progress));
            task::spawn(async move {
                loop {
                    let next = devices.borrow_mut().pop();
                    let Some(device) = next else { return Ok(()) };
                    device.first_contact(PATIENCE).await?;
                    progress.advance();
                }
            })
        })
        .collect();
    for arrival in arrivals {
        let arrived: Result<(), Failure> = arrival.await;
        arrived?;
    }
    Ok(())
}

/// A client that waits for news until it is over; `waiting` counts those that
/// have begun to.
async fn follow(device: Device, seen: Rc<Seen>, waiting: Rc<Cell<u32>>) {
    let mut position = None;
    while !seen.over.get() {
        let timeout_ms = if position.is_some() { 30_000 } else { 0 };
        let Ok(answer) = device.list(position.as_deref(), 19, timeout_ms).await else {
            position = None;
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        if timeout_ms == 0 && position.is_none() {
            waiting.set(waiting.get() + 1);
        }
        position = answer.position().ok();
        seen.note(&answer.body, answer.at);
    }
}

fn report(outcomes: &[Outcome], limits: &[(u32, u32)], arguments: &Arguments) -> Report {
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
            "last client, 50 %",
            "responses",
            "CPU, µs each",
        ],
    );
    for it in outcomes {
        let delivered = it.samples.count();
        let cpu =
            |cpu: Duration| format!("{:.0}", cpu.as_secs_f64() * 1e6 / delivered.max(1) as f64);
        table.row(&[
            it.clients.to_string(),
            it.rate.to_string(),
            delivered.to_string(),
            it.expected.to_string(),
            ms(it.samples.per_mille_ms(500)),
            ms(it.samples.per_mille_ms(900)),
            ms(it.samples.per_mille_ms(990)),
            ms(it.samples.per_mille_ms(1_000)),
            ms(it.last.median_ms()),
            it.responses.to_string(),
            it.cpu.map_or_else(|| "–".to_owned(), cpu),
        ]);
    }
    let mut plot = Plot::new("The slowest of a hundred deliveries", "messages a second", "ms");
    let mut clients: Vec<u32> = outcomes.iter().map(|it| it.clients).collect();
    clients.dedup();
    for clients in clients {
        let of = outcomes.iter().filter(|it| it.clients == clients);
        let points = of.map(|it| (f64::from(it.rate), it.samples.per_mille_ms(990))).collect();
        let named = if clients == 1 { "client" } else { "clients" };
        plot.line(&format!("{clients} {named}"), points);
    }
    let mut report = Report::new("live");
    let (server, named) = if arguments.bare {
        ("a bare relay".to_owned(), "the relay's")
    } else {
        (arguments.luge.shards(), "Luge's")
    };
    report.note(format!(
        "{} s of each rate, {server}; CPU is {named}, for each delivery; where they are simulated, homeserver and clients share the machine with it",
        arguments.seconds
    ));
    report.table(table);
    if let Some(limit) = arguments.limit {
        let title = format!("The highest rate with 99 of 100 deliveries within {limit} ms");
        let mut table = Table::new(&title, &["clients", "messages/s", "deliveries/s"]);
        for (clients, rate) in limits {
            let deliveries = clients * rate;
            table.row(&[clients.to_string(), rate.to_string(), deliveries.to_string()]);
        }
        report.table(table);
    }
    report.plot(&plot);
    report
}
