//! A few plain threads for what a shard must not do itself: long computations, files, name lookups.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use crate::{
    mailbox::{Inbox, Outbox, SendError, inbox},
    oneshot,
};

type Job = Box<dyn FnOnce() + Send>;

/// The helpers have as much to do as they take on; or they have ended. Has the work, so that it
/// can be offered again: nobody keeps a second one of what may be large.
#[derive(thiserror::Error)]
#[error("the helper threads have too much to do; try again later")]
pub struct Refused<T> {
    job: Job,
    receiver: oneshot::Receiver<T>,
}

impl<T> fmt::Debug for Refused<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Refused").finish_non_exhaustive()
    }
}

/// A fixed number of threads and a bounded queue for each. Clones share them; they end when the
/// last clone is gone and their queues are empty.
#[derive(Debug, Clone)]
pub struct Helpers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queues: Vec<Outbox<Job>>,
}

impl Helpers {
    /// Starts `threads` threads, called `name-0` and so on, each with a queue of `jobs_max`.
    pub fn start(name: &str, threads: usize, jobs_max: usize) -> io::Result<Self> {
        let queues: io::Result<Vec<_>> = (0..threads.max(1))
            .map(|index| {
                let (outbox, inbox) = inbox::<Job>(jobs_max.max(1));
                let thread = thread::Builder::new().name(format!("{name}-{index}"));
                thread.spawn(move || work(&inbox)).map(|_detached| outbox)
            })
            .collect();
        Ok(Self(Arc::new(Shared { queues: queues? })))
    }

    /// Has the closure run on a helper; the answer may be awaited on a shard. A closure that panics
    /// is an abandoned answer. Dropping the receiver does not stop what has begun.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Refused<T>> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !sender.is_abandoned() {
                // Whoever asked may have gone away meanwhile.
                drop(sender.send(job()));
            }
        });
        self.run_again(Refused { job, receiver })
    }

    /// Offers once more what was refused.
    pub fn run_again<T>(&self, refused: Refused<T>) -> Result<oneshot::Receiver<T>, Refused<T>> {
        let Refused { mut job, receiver } = refused;
        let mut queues: Vec<_> = self.0.queues.iter().collect();
        queues.sort_by_key(|queue| queue.len());
        for queue in queues {
            match queue.try_send(job) {
                Ok(()) => return Ok(receiver),
                Err(SendError::Full(back) | SendError::Closed(back)) => job = back,
            }
        }
        Err(Refused { job, receiver })
    }
}

fn work(inbox: &Inbox<Job>) {
    let mut jobs = Vec::with_capacity(1);
    while inbox.wait_for_one(&mut jobs) {
        for job in jobs.drain(..) {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a helper's job panicked, its answer is abandoned");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::driver::Driver;

    #[test]
    fn answer_of_a_helper_wakes_the_shard() {
        for driver in Driver::available() {
            let helpers = Helpers::start("test", 2, 8).unwrap();
            let answer = driver.block_on(async move {
                let (first, second) = (helpers.run(|| 1).unwrap(), helpers.run(|| 2).unwrap());
                (first.await, second.await)
            });
            assert_eq!(answer.unwrap(), (Ok(1), Ok(2)));
        }
    }

    #[test]
    fn full_queue_is_refused_and_a_panic_is_an_abandoned_answer() {
        let helpers = Helpers::start("test", 1, 1).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let first = helpers.run(move || {
            begun.send(()).unwrap();
            released.recv().is_err()
        });
        has_begun.recv().unwrap();
        let second = helpers.run(|| panic!("as the test wants")).unwrap();
        let refused = helpers.run(|| 2).unwrap_err();
        let refused = helpers.run_again(refused).unwrap_err();
        drop(release);
        let answers = Driver::Epoll.block_on(async { (first.unwrap().await, second.await) });
        assert_eq!(answers.unwrap(), (Ok(true), Err::<(), _>(oneshot::Abandoned)));
        let again = helpers.run_again(refused).unwrap();
        assert_eq!(Driver::Epoll.block_on(again).unwrap(), Ok(2));
        let third = helpers.run(|| 3).unwrap();
        assert_eq!(Driver::Epoll.block_on(third).unwrap(), Ok(3));
    }
}
