//! Tasks of a shard: futures that run on the thread that spawned them.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// A running task. Awaiting it gives its result; dropping it lets the task go on alone.
pub struct Task<T>(monoio::task::JoinHandle<T>);

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Task")
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Starts a task on this shard. A panic in it ends the shard, and with it the process; a task that
/// serves a stranger's input guards itself, as the HTTP server's connections do.
///
/// A task that waits for something that can never happen, because nothing keeps its waker, is
/// dropped: to hold something for ever, keep it elsewhere.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(monoio::spawn(future))
}
