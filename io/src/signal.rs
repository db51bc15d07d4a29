//! SIGTERM and SIGINT: the first asks the process to end in order, the second ends it.

use std::{io, process, thread};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// Calls `first` on a thread of its own when SIGTERM or SIGINT comes; it should do no more than send
/// messages. When a second one comes, the process ends at once, with 128 plus the signal's number.
pub fn on_termination(first: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        let mut first = Some(first);
        for signal in signals.forever() {
            match first.take() {
                Some(first) => {
                    tracing::info!(signal, "ending in order; a second signal ends at once");
                    first();
                }
                None => process::exit(128 + signal),
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}
