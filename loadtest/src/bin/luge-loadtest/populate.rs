//! Fills a real homeserver: an account in so many rooms, for `compare`.
//!
//! Rooms that the account is in already count: a run that was broken off goes on
//! where it was.

use std::{
    cell::Cell,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use clap::Args;
use http::{Method, StatusCode};
use luge_io::{
    task,
    time::{clock, sleep},
};
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    Failure,
    client::{Network, escaped},
    progress::Progress,
    report::{Report, Table},
    say,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The homeserver
    #[arg(long, value_name = "URL")]
    homeserver: String,
    /// The account's access token; where there is no such file, an account is made, and its token
    /// written there
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// A file with Synapse's `registration_shared_secret`, to make the account with
    #[arg(long, value_name = "FILE")]
    shared_secret_file: Option<PathBuf>,
    /// The new account's name
    #[arg(long, value_name = "NAME", default_value = "luge-loadtest")]
    user: String,
    /// Rooms that the account shall be in
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rooms: u32,
    /// Messages in each new room
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(0..=1_000))]
    messages: u32,
    /// Rooms that are made at once
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    at_once: u16,
}

/// How often one request is tried where the homeserver has too much to do.
const TRIES_MAX: u32 = 20;
/// How long it is left alone then, where it does not say how long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest that it is left alone for, whatever it says.
const PAUSE_MAX: Duration = Duration::from_mins(5);

pub(crate) async fn run(arguments: Arguments) -> Result<Report, Failure> {
    let begun = clock::monotonic();
    let account = Rc::new(Account::of(&arguments).await?);
    let joined = account.ask(Method::GET, "joined_rooms", "").await?;
    let joined = joined["joined_rooms"].as_array().map_or(0, Vec::len);
    let there = u32::try_from(joined)?.min(arguments.rooms);
    let progress = Rc::new(Progress::new("rooms", arguments.rooms.into()));
    progress.set(there.into());
    let next = Rc::new(Cell::new(there));
    let tasks: Vec<_> = (0..arguments.at_once)
        .map(|_| {
            let (account, next, progress) =
                (Rc::clone(&account), Rc::clone(&next), Rc::clone(&progress));
            let (rooms, messages) = (arguments.rooms, arguments.messages);
            task::spawn(async move {
                while next.get() < rooms {
                    let number = next.replace(next.get() + 1);
                    if let Err(error) = account.make_room(number, messages).await {
                        // The others need not go on either.
                        next.set(rooms);
                        return Err(error.to_string());
                    }
                    progress.advance();
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    let mut table = Table::new("The account", &["what", "figure"]);
    let mut row = |what: &str, figure: String| table.row(&[what.to_owned(), figure]);
    row("rooms that it was in", joined.to_string());
    row("rooms made", (arguments.rooms - there).to_string());
    row("messages in each", arguments.messages.to_string());
    row("seconds", format!("{:.0}", begun.elapsed().as_secs_f64()));
    let mut report = Report::new("populate");
    report.note(format!("its token is in {}", arguments.token_file.display()));
    report.table(table);
    Ok(report)
}

/// An account of a real homeserver.
struct Account {
    network: Network,
    url: String,
    token: String,
}

impl Account {
    async fn of(arguments: &Arguments) -> Result<Self, Failure> {
        let network = Network::new()?;
        let url = arguments.homeserver.trim_end_matches('/').to_owned();
        let file = &arguments.token_file;
        let token = match fs::read_to_string(file) {
            Ok(token) => token.trim().to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let secret = arguments.shared_secret_file.as_ref().ok_or_else(|| {
                    let file = file.display();
                    format!(
                        "there is no {file}: write a token into it, or give --shared-secret-file"
                    )
                })?;
                let secret = fs::read_to_string(secret)?;
                let token = register(&network, &url, &arguments.user, secret.trim()).await?;
                write_secretly(file, &token)?;
                say(&format!("made the account {}", arguments.user));
                token
            }
            Err(error) => return Err(format!("cannot read {}: {error}", file.display()).into()),
        };
        Ok(Self { network, url, token })
    }

    /// A request below `/_matrix/client/v3/`, made again while the homeserver has
    /// too much to do.
    async fn ask(&self, method: Method, path: &str, body: &str) -> Result<Value, Failure> {
        let url = format!("{}/_matrix/client/v3/{path}", self.url);
        for _ in 0..TRIES_MAX {
            let (status, answer) =
                self.network.ask(method.clone(), &url, Some(&self.token), body.to_owned()).await?;
            let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
            if status == StatusCode::OK {
                return Ok(answer);
            }
            if status != StatusCode::TOO_MANY_REQUESTS {
                return Err(format!("{method} {url}: {status} {answer}").into());
            }
            let pause = answer["retry_after_ms"].as_u64().map_or(PAUSE, Duration::from_millis);
            say(&format!("the homeserver wants {:.0} s of rest", pause.as_secs_f64()));
            sleep(pause.min(PAUSE_MAX)).await;
        }
        Err(format!("{url}: the homeserver has too much to do; raise its limits").into())
    }

    async fn make_room(&self, number: u32, messages: u32) -> Result<(), Failure> {
        let body = json!({ "name": format!("Room {number}"), "preset": "private_chat" });
        let room = self.ask(Method::POST, "createRoom", &body.to_string()).await?;
        let room_id = room["room_id"].as_str().ok_or("createRoom gives no room")?;
        for message in 0..messages {
            let path = format!("rooms/{}/send/m.room.message/loadtest{message}", escaped(room_id));
            let text = format!("message {message}, of the length that people write in a room");
            let body = json!({ "msgtype": "m.text", "body": text });
            self.ask(Method::PUT, &path, &body.to_string()).await?;
        }
        Ok(())
    }
}

/// Makes an account as Synapse's administrators do; its token.
async fn register(
    network: &Network,
    url: &str,
    user: &str,
    secret: &str,
) -> Result<String, Failure> {
    let url = format!("{url}/_synapse/admin/v1/register");
    let said = |(status, answer): (StatusCode, String)| {
        let value: Value = serde_json::from_str(&answer).unwrap_or_default();
        let explained = || format!("{url}: {status} {answer}");
        if status == StatusCode::OK { Ok(value) } else { Err(explained()) }
    };
    let nonce = said(network.ask(Method::GET, &url, None, String::new()).await?)?;
    let nonce = nonce["nonce"].as_str().ok_or("Synapse gives no nonce")?;
    // Nobody is to log in with it.
    let password: [u8; 16] = ring::rand::generate(&ring::rand::SystemRandom::new())
        .map_err(|_| "the system gives no randomness")?
        .expose();
    let password = hex(&password);
    let body = json!({
        "nonce": nonce, "username": user, "password": password, "admin": false,
        "mac": registration_mac(secret, nonce, user, &password),
    });
    let account = said(network.ask(Method::POST, &url, None, body.to_string()).await?)?;
    Ok(account["access_token"].as_str().ok_or("Synapse gives no token")?.to_owned())
}

/// What proves that the secret is known; `register_new_matrix_user` computes the
/// same.
fn registration_mac(secret: &str, nonce: &str, user: &str, password: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let text = [nonce, user, password, "notadmin"].join("\0");
    hex(hmac::sign(&key, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// For its owner's eyes only.
fn write_secretly(file: &Path, text: &str) -> Result<(), Failure> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(file, "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use luge_io::driver::Choice;
    use luge_loadtest::model::{Event, Homeserver};

    use super::*;
    use crate::town;

    #[test]
    fn an_account_gets_the_rooms_that_it_lacks() {
        let mut homeserver = Homeserver::empty(1);
        let user_id = homeserver.register("user", "User", "password");
        let token = homeserver.log_in(&user_id, None).unwrap().access_token;
        let simulated = town::serve(homeserver).unwrap();
        let token_file = tempfile::NamedTempFile::new().unwrap();
        fs::write(token_file.path(), format!("{token}\n")).unwrap();
        // The third time none is missing, and none goes.
        for (wanted, there) in [(3, 3), (7, 7), (5, 7)] {
            let arguments = Arguments {
                homeserver: format!("{}/", simulated.url),
                token_file: token_file.path().to_owned(),
                shared_secret_file: None,
                user: String::new(),
                rooms: wanted,
                messages: 2,
                at_once: 2,
            };
            Choice::Auto.decide().unwrap().block_on(run(arguments)).unwrap().unwrap();
            let user_id = user_id.clone();
            let messages = simulated.act(move |homeserver, _| {
                let rooms = homeserver.joined_rooms(&user_id);
                let said = |event: &&Event| &*event.kind == "m.room.message";
                rooms.map(|room| room.events.iter().filter(said).count()).collect::<Vec<_>>()
            });
            assert_eq!(messages.unwrap(), vec![2; there]);
        }
    }

    #[test]
    fn the_mac_is_hmac_sha1_of_the_fields_with_zero_bytes_between() {
        // By Python's hmac module.
        let mac = registration_mac("secret", "nonce", "user", "password");
        assert_eq!(mac, "c1f0d90d291fd4e72d1a2b0f7115902c4a0348eb");
    }
}
