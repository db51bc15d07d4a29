//! luge-io.
