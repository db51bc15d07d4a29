//! Server and client against each other, over real sockets, on each driver that works here.

mod server;
mod setup;
