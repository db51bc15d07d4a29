//! luge-benches.
