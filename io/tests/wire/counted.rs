//! Counts what the wire traces, since it shows nowhere else whether hyper was put
//! away.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{Event, Metadata, Subscriber, span};

use crate::setup::{PATIENCE, on_each_driver};

/// Counts events that say `phrase`.
struct Counter {
    phrase: &'static str,
    count: Count,
}

/// How often it was said.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits, on a thread of its own, until it was said so often.
    pub(crate) fn wait_for(&self, count: usize) {
        let begun = Instant::now();
        while self.get() < count {
            assert!(begun.elapsed() < PATIENCE, "it was said {} times, not {count}", self.get());
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("luge_io::http")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Says<'a>(&'a Counter);
        impl tracing::field::Visit for Says<'_> {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if format!("{value:?}").contains(self.0.phrase) {
                    self.0.count.0.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        event.record(&mut Says(self));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Runs a test on each driver, and tells how often `phrase` was traced on each.
pub(crate) fn counted<F: Future<Output = ()>>(
    phrase: &'static str,
    test: impl Fn(Count) -> F,
) -> Vec<usize> {
    let counts = RefCell::new(Vec::new());
    on_each_driver(|| {
        let count = Count::default();
        let counter = Counter { phrase, count: count.clone() };
        let guard = tracing::subscriber::set_default(counter);
        let (test, counts) = (test(count.clone()), &counts);
        async move {
            test.await;
            drop(guard);
            counts.borrow_mut().push(count.get());
        }
    });
    counts.into_inner()
}
