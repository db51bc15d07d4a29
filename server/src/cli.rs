//! The command line: what may be asked of the program, and how it says no. What is then done is in
//! [`serve`](crate::serve) and [`demo`](crate::demo).

mod limits;

use std::{
    error::Error,
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use luge_io::{driver, open_files, signal, tls};

use self::limits::LimitArgs;
use crate::{
    config::Config,
    demo::{self, DemoOptions},
    front, logging, serve,
};

const LISTEN_DEFAULT: &str = "127.0.0.1:8009";

const AFTER_HELP: &str = "\
Examples:
  Try it without a homeserver; prints a curl command that returns rooms:
    luge demo

  Put it in front of a homeserver, for clients that reach it as https://matrix.example.org:
    luge serve --homeserver http://127.0.0.1:8008 --data /var/lib/luge \\
        --public-url https://matrix.example.org

What to do next:
  Point your reverse proxy at Luge instead of at the homeserver (it passes on whatever is not
  sliding sync), or start it with --no-front and send it sliding sync alone. Then check that
    curl -s http://127.0.0.1:8009/_matrix/client/versions
  names org.matrix.simplified_msc3575, and log in with a client.

Environment:
  LUGE_LOG   what to log, where --log does not say it

Exit status:
  0 after an orderly stop (SIGTERM or SIGINT; a second one ends at once), 1 if Luge could not start
  or go on, 2 if the command line is wrong.";

const SERVE_AFTER_HELP: &str = "\
Examples:
  luge serve --homeserver http://127.0.0.1:8008 --data ./luge-data
  luge serve --homeserver https://matrix.internal --ca-file internal-ca.pem \\
      --data /var/lib/luge --listen 0.0.0.0:8009 --public-url https://matrix.example.org

Prints \"luge: listening on http://ADDRESS\" once clients can connect. The data folder belongs to one
Luge at a time; all of it but waiting to-device messages can be fetched again from the homeserver.";

const DEMO_AFTER_HELP: &str = "\
Example:
  luge demo --rooms 1000 --users 50

Nothing is kept: its data folder is temporary, and the same seed makes the same rooms again.";

/// A sliding sync server for Matrix: stands in front of a homeserver and answers its clients' sync
/// from memory, so that room lists load at once, however many rooms an account has.
#[derive(Debug, Parser)]
#[command(name = "luge", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What to log to stderr: error, warn, info, debug, trace, or for parts: info,luge_server=debug
    /// [default: LUGE_LOG, else info, for the demo warn]
    #[arg(long, global = true, value_name = "FILTER", value_parser = log_filter)]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves clients of a homeserver
    Serve(Box<ServeArgs>),
    /// Shows what Luge does, with a simulated homeserver full of people who talk
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
#[command(after_help = SERVE_AFTER_HELP)]
struct ServeArgs {
    /// The homeserver's base URL, such as http://127.0.0.1:8008
    #[arg(long, value_name = "URL", value_parser = homeserver)]
    homeserver: String,
    /// The folder that Luge keeps its data in; made if it is not there
    #[arg(long, value_name = "DIR", value_parser = data_folder)]
    data: PathBuf,
    /// Where clients connect to: an IP address and a port; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT, value_parser = address)]
    listen: SocketAddr,
    /// Threads that serve users [default: one for each CPU but one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: Option<u16>,
    /// How to wait for the network: auto, io_uring or epoll
    #[arg(long, value_name = "DRIVER", default_value = "auto", value_parser = driver_choice)]
    driver: driver::Choice,
    /// Answers sliding sync alone and passes nothing on: your reverse proxy does that
    #[arg(long)]
    no_front: bool,
    /// The URL that clients are told to use [default: what they ask with, by Host and
    /// X-Forwarded-Proto]
    #[arg(long, value_name = "URL", value_parser = public_url)]
    public_url: Option<String>,
    /// Certificates to trust when talking to the homeserver, and no others [default: the system's]
    #[arg(long, value_name = "PEM", value_parser = readable_file)]
    ca_file: Option<PathBuf>,
    /// A file to write Luge's URL to once it accepts connections
    #[arg(long, value_name = "FILE", value_parser = ready_file)]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, Args)]
#[command(after_help = DEMO_AFTER_HELP)]
struct DemoArgs {
    /// Prints one line of JSON with the URL and the users' tokens instead of an explanation
    #[arg(long)]
    json: bool,
    /// Where clients connect to: an IP address and a port; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT, value_parser = address)]
    listen: SocketAddr,
    /// How many rooms there are
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rooms: u32,
    /// How many people have an account
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    users: u32,
    /// What everything random is drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl ServeArgs {
    fn into_config(self) -> Config {
        let mut config = Config::new(self.homeserver, self.data, self.listen);
        config.shards = self.shards.map(usize::from);
        config.driver = self.driver;
        config.front = !self.no_front;
        config.public_url = self.public_url;
        config.ready_file = self.ready_file;
        if let Some(path) = self.ca_file {
            config.roots = tls::Roots::File(path);
        }
        self.limits.apply(&mut config);
        config
    }
}

/// The whole program, from its arguments to its exit status. Wrong arguments end it here.
pub fn run() -> ExitCode {
    let Cli { command, log } = Cli::parse();
    let done = match command {
        Command::Serve(args) => serve(log.as_deref(), *args),
        Command::Demo(args) => demo(log.as_deref(), &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn serve(log: Option<&str>, args: ServeArgs) -> Result<(), Box<dyn Error>> {
    logging::start(log, "info")?;
    let config = args.into_config();
    let open_files = open_files::raise_limit();
    let clients = config.shards_count() as u64 * config.limits.connections_max as u64;
    if open_files < clients {
        let remedy = open_files::REMEDY;
        tracing::warn!(open_files, clients, remedy, "fewer files than clients may be open at once");
    }
    let running = serve::start(config)?;
    let stop = running.stop_handle();
    signal::on_termination(move || stop.stop())?;
    say(&format!("luge: listening on {}", running.url()));
    running.join();
    Ok(())
}

fn demo(log: Option<&str>, args: &DemoArgs) -> Result<(), Box<dyn Error>> {
    logging::start(log, "warn")?;
    let options = DemoOptions {
        json: args.json,
        listen: args.listen,
        rooms_count: args.rooms as usize,
        users_count: args.users as usize,
        seed: args.seed,
    };
    demo::run(&options, say)?;
    Ok(())
}

/// On stdout, where a script may read it. That nobody reads it is no reason to stop.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// On stderr, with everything that led to it.
fn complain(error: &dyn Error) {
    let mut text = format!("luge: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    drop(writeln!(io::stderr(), "{text}"));
}

fn homeserver(text: &str) -> Result<String, front::UrlError> {
    text.parse::<front::Homeserver>().map(|url| url.to_string())
}

fn public_url(text: &str) -> Result<String, front::UrlError> {
    front::parse_public_url(text)
}

fn log_filter(text: &str) -> Result<String, logging::LogError> {
    logging::parse(text).map(|_| text.to_owned())
}

fn driver_choice(text: &str) -> Result<driver::Choice, driver::UnknownChoice> {
    text.parse()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    local.as_deref().unwrap_or(text).parse().map_err(|_| {
        "give an IP address and a port, such as 127.0.0.1:8009, or 0.0.0.0:8009 for every network"
            .to_owned()
    })
}

fn data_folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match fs::metadata(&path) {
        Ok(found) if !found.is_dir() => {
            Err("this is a file; name a folder, or a path where one can be made".to_owned())
        }
        _ if text.is_empty() => Err("name a folder, such as ./luge-data".to_owned()),
        _ => Ok(path),
    }
}

fn readable_file(text: &str) -> Result<PathBuf, String> {
    match fs::File::open(text).and_then(|file| file.metadata()) {
        Ok(found) if found.is_dir() => Err("this is a folder; name a PEM file".to_owned()),
        Ok(_) => Ok(PathBuf::from(text)),
        Err(error) => Err(format!("cannot read it ({error}); name a readable PEM file")),
    }
}

fn ready_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() || path.file_name().is_none() {
        return Err("this is a folder; name a file in it".to_owned());
    }
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Err("its folder is not there; make it first".to_owned());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn serve_args(arguments: &[&str]) -> Result<ServeArgs, clap::Error> {
        let all = ["luge", "serve"].iter().chain(arguments).copied();
        match Cli::try_parse_from(all)?.command {
            Command::Serve(args) => Ok(*args),
            Command::Demo(_) => panic!("the demo was not asked for"),
        }
    }

    #[test]
    fn definition_is_consistent_and_help_teaches() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        for word in ["luge demo", "luge serve --homeserver", "LUGE_LOG", "What to do next"] {
            assert!(help.contains(word), "{word}: {help}");
        }
    }

    #[test]
    fn arguments_become_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let pem = folder.path().join("ca.pem");
        fs::write(&pem, "").unwrap();
        let ready = folder.path().join("ready");
        let args = serve_args(&[
            "--homeserver=http://hs:8008/",
            "--data",
            folder.path().to_str().unwrap(),
            "--listen=localhost:0",
            "--shards=3",
            "--driver=epoll",
            "--no-front",
            "--public-url=https://m.example.org/",
            "--ca-file",
            pem.to_str().unwrap(),
            "--ready-file",
            ready.to_str().unwrap(),
            "--transaction-id-wait=2s",
            "--log=debug",
        ]);
        let config = args.unwrap().into_config();
        assert_eq!(config.homeserver, "http://hs:8008");
        assert_eq!(config.data, folder.path());
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.shards, Some(3));
        assert_eq!(config.driver, driver::Choice::Epoll);
        assert!(!config.front);
        assert_eq!(config.public_url.as_deref(), Some("https://m.example.org"));
        assert_eq!(config.ready_file, Some(ready));
        assert_eq!(config.shard_limits.transaction_id_wait_ms, 2_000);
        assert!(matches!(config.roots, tls::Roots::File(path) if path == pem));
    }

    #[test]
    fn least_arguments_take_the_defaults() {
        let config = serve_args(&["--homeserver=http://hs", "--data=x"]).unwrap().into_config();
        assert_eq!(config.listen.to_string(), LISTEN_DEFAULT);
        assert!(config.front);
        assert_eq!((config.shards, config.driver), (None, driver::Choice::Auto));
        assert!(matches!(config.roots, tls::Roots::System));
    }

    #[test]
    fn wrong_arguments_are_refused_with_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let in_file = format!("--data={}", file.path().display());
        let folder = tempfile::tempdir().unwrap();
        let nowhere = format!("--ready-file={}/none/ready", folder.path().display());
        for (arguments, advice) in [
            (["--homeserver=hs:8008", "--data=x"], "did you mean http://hs:8008?"),
            (["--homeserver=http://hs", &in_file], "this is a file; name a folder"),
            (["--homeserver=http://hs", "--listen=:8009"], "give an IP address and a port"),
            (["--homeserver=http://hs", "--driver=kqueue"], "use auto, io_uring or epoll"),
            (["--homeserver=http://hs", "--shards=0"], "1..=256"),
            (["--homeserver=http://hs", "--public-url=m.org"], "did you mean http://m.org?"),
            (
                ["--homeserver=http://hs", "--ca-file=/nonexistent/ca.pem"],
                "name a readable PEM file",
            ),
            (["--homeserver=http://hs", &nowhere], "make it first"),
            (["--homeserver=http://hs", "--log=luge=loud"], "use error, warn, info"),
            (["--homeserver=http://hs", "--transaction-id-wait=1"], "such as 500ms or 7d"),
            (["--homeserver=http://hs", "--request-body-max=0"], "such as 512KiB or 1MiB"),
        ] {
            let refused = serve_args(&arguments).unwrap_err();
            assert_eq!(refused.exit_code(), 2);
            let text = refused.to_string();
            assert!(text.contains(advice), "{arguments:?}: {text}");
        }
        let refused = serve_args(&["--data=x"]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::MissingRequiredArgument);
    }
}
