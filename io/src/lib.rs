//! The runtime and the wire: threads, inboxes, time, HTTP. Generic on purpose: nothing here knows
//! what Luge is about, and nothing outside of this crate names monoio, hyper, flume or rustls.
//!
//! # Tour
//!
//! A process decides on a [`driver`], binds its sockets ([`http::bind`]) and starts its [`shards`].
//! On each shard runs one future, which is not `Send`, and neither is anything that it makes: tasks
//! ([`task::spawn`]), the HTTP server ([`http::serve`]) and client ([`http::Client`]), bodies, the
//! [`stop::Stop`] signal, a [`gate::Gate`].
//!
//! What crosses threads: events through a [`mailbox`] (`try_send` only), one answer through a
//! [`oneshot`], work for [`helpers`], and the means to make the rest ([`tls::ClientTls`],
//! [`dns::Resolver`], [`http::BoundSocket`]).
//!
//! ```
//! use std::{rc::Rc, time::Duration};
//! use luge_io::{dns, driver, http, mailbox, shards, stop::Stop, task, time, tls, turn};
//!
//! enum Event { Tick(time::Tick), Greet(luge_io::oneshot::Sender<String>) }
//!
//! struct Greeter { greeted: u32 }
//!
//! impl turn::Machine for Greeter {
//!     type Event = Event;
//!     fn turn(&mut self, events: &mut Vec<Event>) -> turn::Flow {
//!         for event in events.drain(..) {
//!             match event {
//!                 Event::Tick(_) => {}
//!                 Event::Greet(reply) => {
//!                     self.greeted += 1;
//!                     drop(reply.send(format!("hello, number {}", self.greeted)));
//!                 }
//!             }
//!         }
//!         turn::Flow::Continue
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let driver = driver::Choice::Auto.decide()?;
//! let config = shards::Config { count: 1, ..shards::Config::new(driver) };
//! let mut sockets = http::bind("127.0.0.1:0".parse()?, config.count)?.into_iter();
//! let client_tls = tls::ClientTls::new(&tls::Roots::Mozilla)?;
//! let resolver = dns::Resolver::start()?;
//!
//! let running = shards::start(&config, |_index| {
//!     let socket = sockets.next().expect("one was bound for each shard");
//!     let (client_tls, resolver) = (client_tls.clone(), resolver.clone());
//!     move |_context| async move {
//!         let address = socket.address();
//!         let (outbox, inbox) = mailbox::inbox::<Event>(1024);
//!         let pace = time::Pace {
//!             at_least: Duration::from_millis(50),
//!             at_most: Duration::from_secs(1),
//!         };
//!         let (_ticker, _ticks) = time::Ticker::start(pace, outbox.clone(), Event::Tick);
//!         drop(task::spawn(turn::run(Greeter { greeted: 0 }, inbox)));
//!
//!         let handler = move |_request: ::http::Request<http::Incoming>, _peer| {
//!             let outbox = outbox.clone();
//!             async move {
//!                 let (reply, answer) = luge_io::oneshot::channel();
//!                 drop(outbox.try_send(Event::Greet(reply)));
//!                 let greeting = answer.await.unwrap_or_default();
//!                 ::http::Response::new(http::Body::from(greeting))
//!             }
//!         };
//!         let stop = Stop::new();
//!         let server = http::serve(socket, Rc::new(handler), http::ServerConfig::default(), stop.clone());
//!         let server = task::spawn(server);
//!
//!         let client = http::Client::new(http::ClientConfig::default(), client_tls, resolver);
//!         let request = ::http::Request::get(format!("http://{address}/")).body(http::Body::empty());
//!         let response = client.send(request.unwrap()).await.unwrap();
//!         let body = response.into_body().read_limited(1000).await.unwrap();
//!         assert!(body.starts_with(b"hello, number"));
//!
//!         stop.fire(Duration::from_secs(5));
//!         server.await.unwrap();
//!     }
//! })?;
//! running.join();
//! # Ok(())
//! # }
//! ```
//!
//! # What to know
//!
//! - A handler's future is dropped when its client goes away ([`http::Handler`]).
//! - A receive from an inbox is never raced or dropped; everything else here may be
//!   ([`time::timeout`] has the list).
//! - A panic in a handler costs its connection; a panic in any other task ends the process.
//! - A streamed body that its producer drops unfinished breaks its connection, on purpose
//!   ([`http::BodySender`]).
//! - An upgrade is passed on with [`http::Body::upgrade`], [`http::Incoming::upgraded`] and
//!   [`http::splice`].
//! - Tests run on each of [`driver::Driver::available`] by [`driver::Driver::block_on`].

pub mod dns;
pub mod driver;
pub mod gate;
pub mod helpers;
pub mod http;
pub mod huge_pages;
mod hyper_stream;
pub mod mailbox;
pub mod oneshot;
pub mod open_files;
pub mod shards;
pub mod signal;
pub mod slice;
pub mod stop;
mod stream;
pub mod task;
pub mod time;
pub mod tls;
pub mod turn;
