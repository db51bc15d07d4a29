//! luge-e2e.
