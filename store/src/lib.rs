//! luge-store.
