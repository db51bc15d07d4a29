//! The simplified dialect, from requests to JSON answers: what a client may
//! rely on, case by case. A [`driver::Luge`] is fed with `/sync` answers and
//! asked; nothing here looks inside it.

#[path = "../harness/mod.rs"]
mod harness;

mod answers;
mod connection;
mod driver;
mod encryption;
mod events;
mod extensions;
mod fetches;
mod filters;
mod gaps;
mod history;
mod large;
mod lists;
mod loading;
mod membership;
mod meta;
mod own_events;
mod polling;
mod repair;
mod required_state;
mod stays;
mod subscriptions;
mod timeline;
mod tokens;
