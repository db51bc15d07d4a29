//! Drives Luge as its users meet it: a real Synapse behind it, real clients in front of it.
//!
//! Here lives what the tests of this package share. What Luge answers is asserted in `tests/`, never
//! here, except for one thing that holds for every answer: [`harness::raw`] refuses a sliding sync
//! answer that Element X's own parser would refuse.
//!
//! `cargo test -p luge-e2e` installs what it needs below the target folder: Synapse from the Python
//! package index (python3 3.9 or newer must be on PATH), matrix-js-sdk and a Node.js to run it from
//! the npm registry (any node and npm must be on PATH).
//!
//! | variable | meaning |
//! | --- | --- |
//! | `LUGE_E2E_TARGET=synapse` | clients talk to Synapse's own sliding sync: tells whether a test or Luge is wrong |
//! | `LUGE_E2E_BINARY=PATH` | use this `luge` instead of building one |
//! | `LUGE_E2E_KEEP=1` | keep the temporary folders, with logs and databases |

#![recursion_limit = "256"]
#![expect(clippy::large_futures, reason = "those of the SDK are, and a test makes few of them")]

pub mod harness;
