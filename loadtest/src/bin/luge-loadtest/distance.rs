//! The distance to the limit: answers in a second of CPU, beside a bare server on
//! the same runtime that reads the same request and returns the same bytes.

use std::{
    cell::{Cell, RefCell},
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use clap::Args;
use http::{HeaderValue, Request, Response, header};
use luge_io::{
    driver::Choice,
    http::{Body, Incoming, ServerConfig, bind, serve},
    shards,
    stop::Stop,
    task,
    time::clock,
};
use luge_loadtest::model::{Homeserver, Size};

use crate::{
    Failure,
    child::{Luge, Meter},
    client::Device,
    progress::Progress,
    report::{Dots, Report, Table},
    say,
    stand::LugeArguments,
    statistics::{Samples, ms},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    luge: LugeArguments,
    /// Rooms of the account
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rooms: u32,
    /// Connections that ask at once
    #[arg(long, value_name = "N", default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=16))]
    clients: u32,
    /// How long each server is asked in a round
    #[arg(long, value_name = "SECONDS", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// The bare server, as a process of its own.
#[derive(Debug, Args)]
pub(crate) struct BareArguments {
    /// What it answers
    #[arg(long)]
    body: PathBuf,
    /// A file to write its URL to
    #[arg(long)]
    ready_file: PathBuf,
}

const PATIENCE: Duration = Duration::from_mins(5);
const BODY_BYTES_MAX: usize = 1 << 20;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// An incremental response with nothing new.
    Empty,
    /// A first response of 20 rooms.
    First,
}

const WORK: [(Work, &str); 2] =
    [(Work::Empty, "incremental, nothing new"), (Work::First, "first response, 20 rooms")];

struct Contender {
    name: &'static str,
    meter: Meter,
    devices: Vec<Device>,
    answers: u64,
    cpu: Duration,
    wall: Duration,
    samples: Samples,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    say("filling the homeserver");
    let size =
        Size { rooms: arguments.rooms as usize, users: 1, invites_per_user: 0, ..Size::default() };
    let mut stand = arguments.luge.start(Homeserver::new(&size, clock::now_ms())).await?;
    let token = stand.first_token()?;
    let mut table = Table::new(
        "Answers for a second of one core",
        &[
            "what",
            "server",
            "bytes",
            "answers/s",
            "CPU for each, µs",
            "answers per CPU s",
            "of the bare server",
            "median ms",
            "99 % ms",
        ],
    );
    let names = ["bare hyper", "Luge"];
    let mut dots = Dots::new("CPU for one answer", "µs", &names);
    let driver = Choice::Auto.decide()?;
    for (work, what) in WORK {
        let device = stand.device(&token, "sample");
        device.first_contact(PATIENCE).await?;
        let sample = sample(&device, work).await?;
        let mut bare = start_bare(stand.folder.path(), &sample).await?;
        let contenders = [(names[0], &bare), (names[1], &stand.luge)];
        let mut contenders = contenders.map(|(name, server)| Contender {
            devices: (0..arguments.clients)
                .map(|client| {
                    Device::new(&stand.network, &server.url, &token, &format!("c{client}"))
                })
                .collect(),
            name,
            meter: server.meter,
            answers: 0,
            cpu: Duration::ZERO,
            wall: Duration::ZERO,
            samples: Samples::default(),
        });
        let progress = Progress::new(what, u64::from(arguments.rounds) * 2);
        for _ in 0..arguments.rounds {
            for contender in &mut contenders {
                contender.ask(work, Duration::from_secs(arguments.seconds.into())).await?;
                progress.advance();
            }
        }
        rows(&mut table, what, sample.len(), &contenders);
        dots.row(what, &contenders.each_ref().map(|it| 1e6 / it.rate()));
        bare.stop().await?;
    }
    stand.luge.stop().await?;
    let mut report = Report::new("distance");
    report.note(format!(
        "turn by turn, {} connections, {} rounds of {} s each, {} rooms, {}, {driver:?}; the bare server is hyper on the same runtime, reads the request and returns the same bytes",
        arguments.clients,
        arguments.rounds,
        arguments.seconds,
        arguments.rooms,
        arguments.luge.shards(),
    ));
    report.table(table);
    report.dots(&dots);
    Ok(report)
}

fn rows(table: &mut Table, what: &str, bytes: usize, contenders: &[Contender]) {
    let limit = contenders.first().map_or(1.0, Contender::rate);
    for it in contenders {
        table.row(&[
            what.to_owned(),
            it.name.to_owned(),
            bytes.to_string(),
            format!("{:.0}", it.answers as f64 / it.wall.as_secs_f64().max(1e-3)),
            format!("{:.1}", 1e6 / it.rate()),
            format!("{:.0}", it.rate()),
            format!("{:.0} %", 100.0 * it.rate() / limit),
            ms(it.samples.median_ms()),
            ms(it.samples.per_mille_ms(990)),
        ]);
    }
}

/// One answer as the work has it.
async fn sample(device: &Device, work: Work) -> Result<String, Failure> {
    let first = device.list(None, 19, 0).await?;
    if work == Work::First {
        return Ok(first.body);
    }
    // The second says what the first had not told.
    let second = device.list(Some(&first.position()?), 19, 0).await?;
    Ok(device.list(Some(&second.position()?), 19, 0).await?.body)
}

impl Contender {
    /// Answers for a second of CPU.
    fn rate(&self) -> f64 {
        self.answers as f64 / self.cpu.as_secs_f64().max(1e-3)
    }

    async fn ask(&mut self, work: Work, time: Duration) -> Result<(), Failure> {
        let over = Rc::new(Cell::new(false));
        let samples = Rc::new(RefCell::new(Samples::default()));
        let (cpu, begun) = (self.meter.cpu()?, clock::monotonic());
        let tasks: Vec<_> = self
            .devices
            .iter()
            .map(|device| {
                let (device, over, samples) =
                    (device.clone(), Rc::clone(&over), Rc::clone(&samples));
                task::spawn(async move {
                    let mut position: Option<String> = None;
                    let mut answers = 0_u64;
                    while !over.get() {
                        let answer = device.list(position.as_deref(), 19, 0).await.ok()?;
                        position = (work == Work::Empty).then(|| answer.position().ok()).flatten();
                        samples.borrow_mut().add(answer.took);
                        answers += 1;
                    }
                    Some(answers)
                })
            })
            .collect();
        luge_io::time::sleep(time).await;
        over.set(true);
        let mut answers = 0;
        for task in tasks {
            answers += task.await.ok_or("a request failed")?;
        }
        self.answers += answers;
        self.wall += begun.elapsed();
        self.cpu += self.meter.cpu()?.saturating_sub(cpu);
        self.samples.merge(&samples.borrow());
        Ok(())
    }
}

async fn start_bare(folder: &Path, body: &str) -> Result<Luge, Failure> {
    let folder = folder.join("bare");
    fs::create_dir_all(&folder)?;
    let file = folder.join("body.json");
    fs::write(&file, body)?;
    let arguments: [&OsStr; 3] = ["bare".as_ref(), "--body".as_ref(), file.as_ref()];
    Luge::run(&std::env::current_exe()?, &arguments, &folder).await
}

/// A server that does nothing but the wire: one shard, which reads each request
/// and returns the same bytes.
pub(crate) fn bare(arguments: &BareArguments) -> Result<(), Failure> {
    let body = fs::read_to_string(&arguments.body)?;
    let driver = Choice::Auto.decide()?;
    let mut sockets = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1)?;
    let socket = sockets.pop().ok_or("one socket was asked for and none was bound")?;
    let url = format!("http://{}", socket.address());
    let mut parts = Some((socket, body));
    let config = shards::Config { count: 1, ..shards::Config::new(driver) };
    let shards = shards::start(&config, |_| {
        let parts = parts.take();
        move |_context| async move {
            let Some((socket, body)) = parts else { return };
            let handler = move |request: Request<Incoming>, _peer| answer(request, body.clone());
            // It ends with its process.
            drop(serve(socket, Rc::new(handler), ServerConfig::default(), Stop::new()).await);
        }
    })?;
    fs::write(&arguments.ready_file, url)?;
    shards.join();
    Ok(())
}

async fn answer(request: Request<Incoming>, body: String) -> Response<Body> {
    // What it says does not matter here.
    drop(request.into_body().read_limited(BODY_BYTES_MAX).await);
    let mut response = Response::new(Body::from(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
