//! The same client's work for several servers, turn by turn, so that the
//! machine's moods are shared.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    Failure,
    client::{Device, Network},
    report::{Dots, Report, Table},
    say,
    statistics::{Samples, ms},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A server and what to call it; give it once for each
    #[arg(long, value_name = "URL=NAME", required = true, value_parser = named)]
    against: Vec<(String, String)>,
    /// An access token of the account; the servers share a homeserver
    #[arg(long, value_name = "TOKEN", required_unless_present = "token_file")]
    token: Option<String>,
    /// A file with that token, as `populate` writes it
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// How often everything is done
    #[arg(long, value_name = "N", default_value_t = 7,
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Empty responses in each round
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    empty: u32,
}

fn named(text: &str) -> Result<(String, String), String> {
    let (url, name) = text.rsplit_once('=').ok_or("give it as http://host:port=NAME")?;
    Ok((url.to_owned(), name.to_owned()))
}

const WORK: [&str; 4] = [
    "first response, 20 rooms",
    "all others, one response",
    "empty response",
    "empty, whole window",
];

struct Contender {
    name: String,
    device: Device,
    samples: [Samples; WORK.len()],
    bytes: [usize; WORK.len()],
    rooms: usize,
    /// Until the first answer of all, which is not counted.
    contact: Duration,
}

/// For the first contact with a large account.
const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    let network = Network::new()?;
    let token = match (&arguments.token, &arguments.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => fs::read_to_string(file)?.trim().to_owned(),
        (None, None) => return Err("give the account's token".into()),
    };
    let mut contenders = Vec::new();
    for (url, name) in &arguments.against {
        let device = Device::new(&network, url, &token, "luge-loadtest");
        say(&format!("{name}: first contact"));
        let contact = device.first_contact(PATIENCE).await?;
        contenders.push(Contender {
            name: name.clone(),
            device,
            samples: std::array::from_fn(|_| Samples::default()),
            bytes: [0; WORK.len()],
            rooms: 0,
            contact,
        });
    }
    for round in 1..=arguments.rounds {
        for contender in &mut contenders {
            say(&format!("round {round} of {}: {}", arguments.rounds, contender.name));
            contender.round(arguments.empty).await?;
        }
    }
    Ok(report(&contenders, &arguments))
}

impl Contender {
    async fn round(&mut self, empty: u32) -> Result<(), Failure> {
        let first = self.device.list(None, 19, 0).await?;
        self.note(0, &first);
        self.rooms = first.count()?;
        let mut position = first.position()?;
        let last = self.rooms.saturating_sub(1);
        let all = self.device.list(Some(&position), last, 0).await?;
        self.note(1, &all);
        position = all.position()?;
        for (work, until) in [(2, 19), (3, last)] {
            for _ in 0..empty {
                let answer = self.device.list(Some(&position), until, 0).await?;
                position = answer.position()?;
                self.note(work, &answer);
            }
        }
        Ok(())
    }

    fn note(&mut self, work: usize, answer: &crate::client::Answer) {
        self.samples[work].add(answer.took);
        self.bytes[work] = answer.body.len();
    }
}

fn report(contenders: &[Contender], arguments: &Arguments) -> Report {
    let mut columns = vec!["server", "rooms", "what", "median ms", "90 % ms", "bytes"];
    columns.push("times the fastest");
    let mut table = Table::new("Turn by turn", &columns);
    for (work, what) in WORK.iter().enumerate() {
        let medians = contenders.iter().map(|it| it.samples[work].median_ms());
        let best = medians.fold(f64::INFINITY, f64::min);
        for contender in contenders {
            let samples = &contender.samples[work];
            table.row(&[
                contender.name.clone(),
                contender.rooms.to_string(),
                (*what).to_owned(),
                ms(samples.median_ms()),
                ms(samples.per_mille_ms(900)),
                contender.bytes[work].to_string(),
                format!("{:.1}", samples.median_ms() / best),
            ]);
        }
    }
    let names: Vec<&str> = contenders.iter().map(|it| &*it.name).collect();
    let mut dots = Dots::new("Medians", "ms, to the last byte", &names);
    for (work, what) in WORK.iter().enumerate() {
        let medians: Vec<f64> = contenders.iter().map(|it| it.samples[work].median_ms()).collect();
        dots.row(what, &medians);
    }
    let mut contact = Table::new("First contact with the account", &["server", "ms"]);
    for it in contenders {
        contact.row(&[it.name.clone(), ms(it.contact.as_secs_f64() * 1e3)]);
    }
    let mut report = Report::new("compare");
    report.note(format!(
        "{} rounds, {} empty responses in each; times are until the last byte",
        arguments.rounds, arguments.empty
    ));
    report.table(table);
    report.table(contact);
    report.dots(&dots);
    report
}
