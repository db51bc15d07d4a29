//! `luge demo`: a simulated homeserver full of people who talk, and Luge in front of it. Everything
//! in front is the real program; nothing here may make it easier for it.

use std::{io, net::SocketAddr, sync::mpsc, time::Duration};

use http::{Request, StatusCode, header};
use luge_io::{
    dns::Resolver,
    driver::Choice,
    http::{Body, Client, ClientConfig, Timeouts},
    signal,
    time::{clock, sleep},
    tls::{ClientTls, Roots},
};
use luge_loadtest::{
    conversation::Pace,
    model::{Session, Size},
    server::{Simulated, StartError as SimulatedError},
};

use crate::{
    config::Config,
    serve::{self, StartError},
};

const SYNC_PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
/// What the printed commands ask for: the twenty rooms with the latest messages, each by its name
/// and its last message.
const FIRST_BODY: &str = r#"{"lists":{"rooms":{"ranges":[[0,19]],"timeline_limit":1,"required_state":[["m.room.name",""]]}}}"#;
/// On a connection of its own, so that the demo's question takes nothing from the user's.
const PROBE_BODY: &str = r#"{"conn_id":"luge-demo","lists":{}}"#;
/// For the first user's first sync to be answered.
const READY_PATIENCE: Duration = Duration::from_mins(2);
const PROBE_PAUSE: Duration = Duration::from_millis(100);
const PROBE_BYTES_MAX: usize = 1 << 20;
/// Users that are listed for people to read.
const USERS_SHOWN_MAX: usize = 3;

/// What is shown.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// One line of JSON, and no explanation.
    pub json: bool,
    /// Where clients connect to.
    pub listen: SocketAddr,
    /// Rooms in the homeserver.
    pub rooms_count: usize,
    /// Accounts in the homeserver.
    pub users_count: usize,
    /// What everything random is drawn from.
    pub seed: u64,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// No data folder.
    #[error("cannot make a temporary folder; check TMPDIR and the space on its disk")]
    Folder(#[source] io::Error),
    /// No homeserver.
    #[error("the simulated homeserver did not start")]
    Simulated(#[from] SimulatedError),
    /// No server.
    #[error("Luge did not start; if the port is taken, try --listen 127.0.0.1:0")]
    Serve(#[from] StartError),
    /// No signals.
    #[error("cannot wait for SIGTERM and SIGINT")]
    Signals(#[source] io::Error),
    /// No means to ask it something.
    #[error("cannot ask Luge for a first sync: {0}")]
    Probe(String),
    /// No answer.
    #[error("Luge did not answer a first sync in time; run again with --log debug. Last: {last}")]
    NotReady {
        /// What it answered.
        last: String,
    },
}

/// Runs the demo until SIGTERM or SIGINT; `say` gets what is to be read on stdout.
pub fn run(options: &DemoOptions, say: impl Fn(&str)) -> Result<(), DemoError> {
    let (stop, stopped) = mpsc::channel();
    let ask_to_stop = move || {
        // Who waits for it may have given up for another reason.
        let _ = stop.send(());
    };
    signal::on_termination(ask_to_stop).map_err(DemoError::Signals)?;
    let folder = tempfile::Builder::new().prefix("luge-demo-").tempdir();
    let folder = folder.map_err(DemoError::Folder)?;
    let size = Size {
        rooms: options.rooms_count,
        users: options.users_count,
        seed: options.seed,
        ..Size::default()
    };
    let simulated = Simulated::start(&size)?;
    let config = Config::new(simulated.url.clone(), folder.path(), options.listen);
    let running = serve::start(config)?;
    let outcome = show(options, &simulated, running.url(), say);
    if outcome.is_ok() {
        // An error would mean that nothing can ask for a stop any more: then it is time for one.
        let _ = stopped.recv();
    }
    running.stop();
    running.join();
    simulated.stop();
    if let Err(error) = folder.close() {
        tracing::warn!(%error, "the demo's folder could not be removed");
    }
    outcome
}

fn show(
    options: &DemoOptions,
    simulated: &Simulated,
    url: &str,
    say: impl Fn(&str),
) -> Result<(), DemoError> {
    let Some(first) = simulated.users.first() else {
        return Err(DemoError::Probe("there are no users; ask for some with --users".to_owned()));
    };
    wait_until_ready(url, &first.access_token)?;
    let pace = Pace { seed: options.seed, ..Pace::default() };
    if simulated.handle().talk(pace).is_err() {
        tracing::warn!("the people of the demo do not talk");
    }
    if options.json {
        say(&as_json(url, &simulated.users));
    } else {
        say(&explanation(options, url, &simulated.users, first));
    }
    Ok(())
}

/// Asks for a first sync until there is one.
fn wait_until_ready(url: &str, token: &str) -> Result<(), DemoError> {
    let failed = |error: &dyn std::error::Error| DemoError::Probe(error.to_string());
    let driver = Choice::Auto.decide().map_err(|error| failed(&error))?;
    let tls = ClientTls::new(&Roots::Mozilla).map_err(|error| failed(&error))?;
    let resolver = Resolver::start().map_err(|error| failed(&error))?;
    let answered = driver.block_on(async {
        let client = Client::new(ClientConfig::default(), tls, resolver);
        let deadline = clock::monotonic() + READY_PATIENCE;
        loop {
            let last = match probe(&client, url, token).await {
                Ok(StatusCode::OK) => return Ok(()),
                Ok(status) => status.to_string(),
                Err(error) => error,
            };
            if deadline <= clock::monotonic() {
                return Err(DemoError::NotReady { last });
            }
            sleep(PROBE_PAUSE).await;
        }
    });
    answered.map_err(|error| failed(&error))?
}

async fn probe(client: &Client, url: &str, token: &str) -> Result<StatusCode, String> {
    let request = Request::post(format!("{url}{SYNC_PATH}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(PROBE_BODY))
        .map_err(|error| error.to_string())?;
    let timeouts = Timeouts { header: READY_PATIENCE, ..Timeouts::default() };
    let answer = client.fetch(request, timeouts, PROBE_BYTES_MAX).await;
    answer.map(|answer| answer.status()).map_err(|error| error.to_string())
}

fn as_json(url: &str, users: &[Session]) -> String {
    let users: Vec<_> = users
        .iter()
        .map(|user| {
            serde_json::json!({ "user_id": user.user_id, "access_token": user.access_token })
        })
        .collect();
    serde_json::json!({ "url": url, "users": users }).to_string()
}

fn explanation(options: &DemoOptions, url: &str, users: &[Session], first: &Session) -> String {
    let names: Vec<&str> =
        users.iter().take(USERS_SHOWN_MAX).map(|user| user.user_id.as_str()).collect();
    let more = users.len().saturating_sub(names.len());
    let names = names.join(", ");
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let password = Size::default().password;
    let request = sync_command(url, &first.access_token, "");
    let next = sync_command(url, &first.access_token, "?timeout=30000&pos=POS");
    format!(
        "\
Luge is running in front of a simulated homeserver: {rooms} rooms, and people who talk in them.

  Open      {url}
            as the homeserver of any Matrix client that speaks simplified sliding sync
  Log in    {names}{more}; the password is {password:?}

Ask for the room list of {user}:

{request}

The answer has a \"pos\". Put it in place of POS here, and the answer comes with the next message:

{next}

Ctrl-C ends the demo and removes what it stored.",
        rooms = options.rooms_count,
        user = first.user_id,
    )
}

fn sync_command(url: &str, token: &str, query: &str) -> String {
    format!(
        "  curl -s -X POST '{url}{SYNC_PATH}{query}' \\
    -H 'Authorization: Bearer {token}' \\
    -H 'Content-Type: application/json' \\
    -d '{FIRST_BODY}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(user_id: &str) -> Session {
        Session {
            user_id: user_id.to_owned(),
            access_token: format!("token of {user_id}"),
            device_id: "DEVICE".to_owned(),
        }
    }

    #[test]
    fn json_is_one_line_with_url_and_users() {
        let line = as_json("http://127.0.0.1:1", &[session("@a:sim"), session("@b:sim")]);
        assert_eq!(line.lines().count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["url"], "http://127.0.0.1:1");
        assert_eq!(parsed["users"][1]["user_id"], "@b:sim");
        assert_eq!(parsed["users"][1]["access_token"], "token of @b:sim");
    }

    #[test]
    fn commands_bring_token_and_a_body_that_is_json() {
        let command = sync_command("http://h:1", "secret", "?pos=POS");
        assert!(command.contains(&format!("'http://h:1{SYNC_PATH}?pos=POS'")), "{command}");
        assert!(command.contains("'Authorization: Bearer secret'"), "{command}");
        for body in [FIRST_BODY, PROBE_BODY] {
            assert!(!body.contains('\''));
            assert!(serde_json::from_str::<serde_json::Value>(body).unwrap().is_object());
        }
    }
}
