//! The `luge` program.
fn main() {}
