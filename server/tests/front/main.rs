//! Front mode between real sockets: a client, the front, and a small homeserver of the test's own.

mod answers;
mod passing;
mod setup;
