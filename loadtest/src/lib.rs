//! luge-loadtest.
