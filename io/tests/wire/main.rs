//! Server and client against each other, over real sockets, on each driver that works here.

mod client;
mod lifetime;
mod process;
mod server;
mod setup;
mod streams;
mod upgrade;
