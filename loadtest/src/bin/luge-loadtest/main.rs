//! `luge-loadtest`: puts sliding sync servers to work and says how they took it.
//!
//! `client` speaks to a server as Element X does, `town` has simulated
//! homeservers, `stand` a Luge in front of one, `child` processes, `progress` says how far a run
//! is and `report` what came of it; every other file is a subcommand. Figures go
//! to stdout, progress to stderr.

#![forbid(unsafe_code)]

mod child;
mod client;
mod compare;
mod distance;
mod first_sync;
mod idle;
mod ingest;
mod live;
mod plot;
mod populate;
mod progress;
mod relay;
mod report;
mod restart;
mod stand;
mod statistics;
mod town;
mod upstream;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use luge_io::driver::Choice;
use report::Report;

/// What any subcommand may fail with: it is told, and that is all.
type Failure = Box<dyn Error>;

const AFTER_HELP: &str = "\
Examples:
  Synapse's own sliding sync and Luge in front of it, with one account in 1,000 rooms:
    luge-loadtest populate --homeserver http://127.0.0.1:8008 --rooms 1000 \\
        --token-file token --shared-secret-file secret
    luge-loadtest compare --against http://127.0.0.1:8008=Synapse \\
        --against http://127.0.0.1:8009=Luge --token-file token

  Luge by itself, in front of a simulated homeserver:
    luge-loadtest first-sync --html first-sync.html

  Messages that are sent in a real room, to a Luge that runs already:
    luge-loadtest live --against http://127.0.0.1:8009 --homeserver http://127.0.0.1:8008 \\
        --tokens tokens.txt --room '!room:example.org' --rates 5

Build it, and Luge, with --release: figures of anything else mean nothing.";

/// Puts sliding sync servers to work, and says how they took it.
#[derive(Debug, Parser)]
#[command(name = "luge-loadtest", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Output {
    /// Writes all figures to a file, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with tables and plots, which needs nothing else to be read
    #[arg(long, global = true, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The same work for any number of servers, turn by turn
    Compare(compare::Arguments),
    /// First response, growth and empty responses against the size of the account
    FirstSync(first_sync::Arguments),
    /// Makes an account in many rooms on a real homeserver, to compare with
    Populate(populate::Arguments),
    /// From sending to delivery, against the rate and the number of clients
    Live(live::Arguments),
    /// Memory and CPU for long polls that wait
    Idle(idle::Arguments),
    /// A large first answer and many changes, until they are durable
    Ingest(ingest::Arguments),
    /// Time to the first answer of a Luge that has much stored
    Restart(restart::Arguments),
    /// Requests and bytes at the homeserver, by device
    Upstream(upstream::Arguments),
    /// Answers in a second of CPU, beside a bare server that returns the same bytes
    Distance(distance::Arguments),
    #[command(hide = true)]
    Bare(distance::BareArguments),
    #[command(hide = true)]
    BareRelay(relay::Arguments),
}

/// Luge's own, so that what stands in its place costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { command, output } = Cli::parse();
    luge_io::open_files::raise_limit();
    let done = match command {
        Command::Bare(arguments) => distance::bare(&arguments),
        Command::BareRelay(arguments) => relay::run(&arguments),
        command => run(command).and_then(|report| show(&report, &output)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("luge-loadtest: {error}"));
            let mut source = error.source();
            while let Some(cause) = source {
                say(&format!("  because: {cause}"));
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<Report, Failure> {
    let driver = Choice::Auto.decide()?;
    driver.block_on(async {
        match command {
            Command::Compare(arguments) => compare::run(arguments).await,
            Command::FirstSync(arguments) => first_sync::run(arguments).await,
            Command::Populate(arguments) => populate::run(arguments).await,
            Command::Live(arguments) => live::run(arguments).await,
            Command::Idle(arguments) => idle::run(arguments).await,
            Command::Ingest(arguments) => ingest::run(arguments).await,
            Command::Restart(arguments) => restart::run(arguments).await,
            Command::Upstream(arguments) => upstream::run(arguments).await,
            Command::Distance(arguments) => distance::run(arguments).await,
            Command::Bare(_) | Command::BareRelay(_) => {
                Err("a bare server has a runtime of its own".into())
            }
        }
    })?
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn show(report: &Report, output: &Output) -> Result<(), Failure> {
    println!("{}", report.text());
    if let Some(file) = &output.json {
        std::fs::write(file, report.json())?;
    }
    if let Some(file) = &output.html {
        std::fs::write(file, report.html())?;
    }
    Ok(())
}

/// Progress, for who waits.
#[expect(clippy::print_stderr, reason = "progress is for people")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_run_but_a_comparison_can_be_started_without_saying_where_luge_is() {
        for run in ["first-sync", "live", "idle", "ingest", "restart", "upstream", "distance"] {
            Cli::try_parse_from(["luge-loadtest", run]).unwrap();
            Cli::try_parse_from(["luge-loadtest", run, "--luge=luge", "--shards=2"]).unwrap();
        }
    }
}
