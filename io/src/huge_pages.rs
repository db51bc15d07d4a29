//! Memory in pages of the usual size.
//!
//! Where the kernel gives huge pages, each piece of fresh memory that is touched is 2 MiB that are
//! cleared first, and of which most may never be used.

use std::io;

/// Has the kernel give this process no huge pages from here on, whatever the system's setting is.
///
/// # Errors
/// The kernel does not know the call, or a sandbox forbids it: nothing has changed then.
pub fn avoid() -> io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_wish() {
        let before = rustix::thread::transparent_huge_pages_are_disabled().unwrap();
        avoid().unwrap();
        let after = rustix::thread::transparent_huge_pages_are_disabled().unwrap();
        assert!(after, "before: {before}");
    }
}
