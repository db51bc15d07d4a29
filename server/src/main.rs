//! The `luge` program: an allocator and the command line. Everything else is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Where it cannot be had, Luge takes more memory, and nothing else is different.
    let _unchanged = luge_io::huge_pages::avoid();
    luge_server::cli::run()
}
