//! A bare relay in Luge's place: the same long polls, the same bytes, on the same
//! runtime and with the same HTTP, and nothing else. What it costs is what a
//! delivery costs at the least.
//!
//! For each token that a client brings, it polls the homeserver; what comes of a
//! message is passed on to the client that waits. It reads two things of an
//! answer, `next_batch` and the mark in a message, and stores nothing.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use clap::Args;
use http::{HeaderValue, Request, Response, header};
use luge_io::{
    dns::Resolver,
    driver::Choice,
    http::{Body, Client, ClientConfig, Incoming, ServerConfig, Timeouts, bind, serve},
    oneshot, shards,
    stop::Stop,
    task,
    time::sleep,
    tls::{ClientTls, Roots},
};

use crate::{Failure, client::escaped, live::MARK};

/// The relay, as a process of its own.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The homeserver that it polls
    #[arg(long)]
    homeserver: String,
    /// A file to write its URL to
    #[arg(long)]
    ready_file: PathBuf,
}

/// Bytes of a response with one message, as Luge's to a client that asks as
/// Element X does.
const RESPONSE_BYTES: usize = 1_050;
/// Bytes of an answer or a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a poll may wait at the homeserver, in milliseconds.
const POLL_MS: u64 = 30_000;
/// What a poll asks for: about as many bytes as Luge's has once its filter is stored.
const POLL: &str = "/_matrix/client/v3/sync?use_state_after=true&filter=%7B%22room%22%3A%7B%22state%22%3A%7B%22lazy_load_members%22%3Atrue%7D%7D%7D&timeout=";
const PATIENCE: Duration = Duration::from_mins(2);
/// Before a failed poll is repeated.
const PAUSE: Duration = Duration::from_millis(50);

/// The arguments that start a relay in front of `homeserver`.
pub(crate) fn command_line(homeserver: &str) -> [OsString; 3] {
    ["bare-relay", "--homeserver", homeserver].map(Into::into)
}

/// Runs until the process is ended.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let driver = Choice::Auto.decide()?;
    let mut sockets = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1)?;
    let socket = sockets.pop().ok_or("one socket was asked for and none was bound")?;
    let url = format!("http://{}", socket.address());
    let (tls, resolver) = (ClientTls::new(&Roots::Mozilla)?, Resolver::start()?);
    let mut parts = Some((socket, arguments.homeserver.clone(), tls, resolver));
    let config = shards::Config { count: 1, ..shards::Config::new(driver) };
    let shards = shards::start(&config, |_| {
        let parts = parts.take();
        move |_context| async move {
            let Some((socket, homeserver, tls, resolver)) = parts else { return };
            let client = Client::new(ClientConfig::default(), tls, resolver);
            let relay =
                Rc::new(Relay { client, homeserver: homeserver.into(), seats: RefCell::default() });
            let handler = move |request: Request<Incoming>, _peer| {
                let relay = Rc::clone(&relay);
                async move { relay.answer(request).await }
            };
            drop(serve(socket, Rc::new(handler), ServerConfig::default(), Stop::new()).await);
        }
    })?;
    announce(&arguments.ready_file, &url)?;
    shards.join();
    Ok(())
}

fn announce(file: &Path, url: &str) -> Result<(), Failure> {
    // Whole or not at all, since somebody waits for it.
    let part = file.with_extension("part");
    fs::write(&part, url)?;
    Ok(fs::rename(part, file)?)
}

struct Relay {
    client: Client,
    homeserver: Rc<str>,
    /// By token.
    seats: RefCell<BTreeMap<String, Rc<Seat>>>,
}

/// What is known of one client.
#[derive(Default)]
struct Seat {
    /// What nobody has been told of.
    untold: RefCell<String>,
    waiting: RefCell<Option<oneshot::Sender<String>>>,
    position: Cell<u64>,
}

impl Relay {
    async fn answer(self: &Rc<Self>, request: Request<Incoming>) -> Response<Body> {
        let bearer = request.headers().get(header::AUTHORIZATION);
        let token = bearer.and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
        let token = token.unwrap_or_default().to_owned();
        let query = request.uri().query().unwrap_or_default();
        let waits = !query.split('&').any(|pair| pair == "timeout=0");
        // What it says does not matter here.
        drop(request.into_body().read_limited(BODY_BYTES_MAX).await);
        let seat = self.seat(token);
        let mut news = seat.untold.take();
        if news.is_empty() && waits {
            let (tell, told) = oneshot::channel();
            seat.waiting.replace(Some(tell));
            news = told.await.unwrap_or_default();
        }
        seat.position.set(seat.position.get() + 1);
        let mut response = Response::new(Body::from(response(seat.position.get(), &news)));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    /// The client with this token, who is polled for from now on.
    fn seat(self: &Rc<Self>, token: String) -> Rc<Seat> {
        if let Some(seat) = self.seats.borrow().get(&token) {
            return Rc::clone(seat);
        }
        let seat = Rc::<Seat>::default();
        self.seats.borrow_mut().insert(token.clone(), Rc::clone(&seat));
        let (relay, polled) = (Rc::clone(self), Rc::clone(&seat));
        drop(task::spawn(async move { relay.poll(&token, &polled).await }));
        seat
    }

    async fn poll(&self, token: &str, seat: &Seat) {
        let mut since = None;
        loop {
            let timeout_ms = if since.is_some() { POLL_MS } else { 0 };
            let Some(answer) = self.poll_once(token, since.as_deref(), timeout_ms).await else {
                sleep(PAUSE).await;
                continue;
            };
            since = between(&answer, r#""next_batch":""#, '"').map(str::to_owned);
            let news = news(&answer);
            if timeout_ms > 0 && !news.is_empty() {
                seat.tell(&news);
            }
        }
    }

    async fn poll_once(&self, token: &str, since: Option<&str>, timeout_ms: u64) -> Option<String> {
        let since = since.map(|since| format!("&since={}", escaped(since)));
        let since = since.unwrap_or_default();
        let request = Request::get(format!("{}{POLL}{timeout_ms}{since}", self.homeserver))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::ACCEPT, "application/json")
            .body(Body::empty());
        let timeouts = Timeouts { header: PATIENCE, body_chunk: PATIENCE };
        let answer = self.client.fetch(request.ok()?, timeouts, BODY_BYTES_MAX).await.ok()?;
        String::from_utf8(answer.into_body().to_vec()).ok()
    }
}

impl Seat {
    fn tell(&self, news: &str) {
        let waiting = self.waiting.take();
        let news = news.to_owned();
        let untold = match waiting {
            Some(waiting) => waiting.send(news).err(),
            None => Some(news),
        };
        self.untold.borrow_mut().push_str(&untold.unwrap_or_default());
    }
}

/// The marks of all messages in an answer.
fn news(answer: &str) -> String {
    let mark = |(at, _)| answer[at..].split_inclusive('.').next();
    answer.match_indices(MARK).filter_map(mark).collect()
}

/// What stands between `before` and the next `after`.
fn between<'a>(text: &'a str, before: &str, after: char) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    text[start..].split(after).next()
}

fn response(position: u64, news: &str) -> String {
    let mut body = format!(r#"{{"pos":"{position}","lists":{{}},"rooms":"{news}","_":""#);
    body.extend(std::iter::repeat_n('-', RESPONSE_BYTES.saturating_sub(body.len() + 2)));
    body.push_str("\"}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_the_position_the_messages_and_the_size_of_a_real_one() {
        let news = news(r#"{"body":"sent-at-12."},{"body":"sent-at-3."}"#);
        assert_eq!(news, "sent-at-12.sent-at-3.");
        let body = response(7, &news);
        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&read["pos"], &read["rooms"]), (&"7".into(), &(*news).into()));
        assert_eq!(body.len(), RESPONSE_BYTES);
    }
}
