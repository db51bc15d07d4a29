//! What is measured: the hot paths of `luge-core`, each on inputs of known size.
//!
//! [`account`] makes the homeserver's answers, [`luge`] a Luge without a runtime
//! or a disk, [`plumbing`] what it stands on there, [`paths`] the list of what is
//! measured. Criterion
//! (`benches/paths.rs`) times them for people; the gate (`src/bin/luge-gate`)
//! counts their instructions for CI. No figure lives here.
#![forbid(unsafe_code)]

pub mod account;
pub mod luge;
pub mod paths;
pub mod plumbing;
