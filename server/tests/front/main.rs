//! Front mode between real sockets: a client, the front, and a small homeserver of the test's own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod passing;
mod program;
mod setup;
