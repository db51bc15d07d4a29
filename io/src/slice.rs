//! Short slices of CPU time, for threads that work for microseconds and are waited for.
//!
//! Where all CPUs are busy, a thread that is woken waits until whoever runs has used up its slice,
//! which is milliseconds, and a live event crosses two threads. Linux (from 6.12 on) lets a thread
//! ask for a shorter slice of its own: it gets no more CPU time than before, and gets it sooner, in
//! smaller pieces. Older kernels take no notice.
#![expect(unsafe_code, reason = "no crate that is used here has these two calls")]

use std::{io, time::Duration};

/// What is asked for: as little as the kernel gives. A shard's turn is hardly longer.
pub const SLICE: Duration = Duration::from_micros(100);

/// `struct sched_attr` of `linux/sched/types.h`, in its first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// The slice in nanoseconds, where the policy is the usual one.
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SIZE: u32 = size_of::<Attributes>() as u32;
/// The policy of threads that nobody gave another.
const SCHED_OTHER: u32 = 0;

/// Asks for short slices for the calling thread, where it is scheduled as usual. Its priority stays
/// as it is.
///
/// # Errors
/// The kernel does not know the call, or a sandbox forbids it: nothing has changed then.
pub fn ask_for_short() -> io::Result<()> {
    let attributes = attributes()?;
    if attributes.policy != SCHED_OTHER {
        return Ok(());
    }
    let runtime = u64::try_from(SLICE.as_nanos()).unwrap_or(u64::MAX);
    let attributes = Attributes { size: SIZE, runtime, ..attributes };
    // SAFETY: the kernel reads `size` bytes at the pointer, which are those of `attributes`.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How the calling thread is scheduled.
fn attributes() -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    let to = &raw mut attributes;
    // SAFETY: the kernel writes at most `SIZE` bytes at the pointer, which are those of `attributes`,
    // and any bytes are a valid value of it.
    let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, to, SIZE, 0) };
    if done == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_all_that_changes() {
        let Ok(before) = attributes() else { return };
        if ask_for_short().is_err() || before.policy != SCHED_OTHER {
            return;
        }
        let after = attributes().unwrap();
        assert_eq!((after.policy, after.nice), (before.policy, before.nice));
        let slice = u64::try_from(SLICE.as_nanos()).unwrap();
        assert!(after.runtime == slice || after.runtime == before.runtime, "{after:?}");
    }
}
