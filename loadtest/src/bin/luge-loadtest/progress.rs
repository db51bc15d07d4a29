//! How far a run is, on stderr, for who waits: a bar on a terminal, else a line
//! now and then.

use std::{
    cell::Cell,
    io::{IsTerminal as _, Write as _, stderr},
    time::{Duration, Instant},
};

/// How often a bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const SAY_EVERY: Duration = Duration::from_secs(10);
const BAR: usize = 30;

/// One thing that is under way.
pub(crate) struct Progress {
    what: String,
    total: u64,
    done: Cell<u64>,
    shown: Cell<Option<Instant>>,
    on_terminal: bool,
}

impl Progress {
    /// Something with so many steps.
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let on_terminal = stderr().is_terminal();
        let progress = Self {
            what: what.to_owned(),
            total: total.max(1),
            done: Cell::new(0),
            shown: Cell::new(None),
            on_terminal,
        };
        progress.show(true);
        progress
    }

    /// One more step is done.
    pub(crate) fn advance(&self) {
        self.set(self.done.get() + 1);
    }

    /// So many steps are done.
    pub(crate) fn set(&self, done: u64) {
        self.done.set(done.min(self.total));
        self.show(false);
    }

    fn show(&self, now: bool) {
        let every = if self.on_terminal { DRAW_EVERY } else { SAY_EVERY };
        let due = self.shown.get().is_none_or(|shown| shown.elapsed() >= every);
        if !(now || due) {
            return;
        }
        self.shown.set(Some(Instant::now()));
        let text = line(&self.what, self.done.get(), self.total);
        let text = if self.on_terminal { format!("\r\x1b[2K{text}") } else { format!("{text}\n") };
        // Whoever closed stderr does not want to know.
        drop(stderr().write_all(text.as_bytes()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.on_terminal {
            self.show(true);
            drop(stderr().write_all(b"\n"));
        }
    }
}

/// A bar, the share that is done, and of what.
fn line(what: &str, done: u64, total: u64) -> String {
    let filled = usize::try_from(done * BAR as u64 / total).unwrap_or(BAR).min(BAR);
    format!(
        "[{}{}] {:>3} %  {what}",
        "#".repeat(filled),
        ".".repeat(BAR - filled),
        done * 100 / total
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_empty_at_the_beginning_and_full_at_the_end() {
        assert_eq!(line("x", 0, 7), format!("[{}]   0 %  x", ".".repeat(BAR)));
        assert_eq!(line("x", 7, 7), format!("[{}] 100 %  x", "#".repeat(BAR)));
        assert_eq!(line("x", 5, 10).matches('#').count(), BAR / 2);
    }
}
