//! One shard in the running server: its inbox, its state machine, and what its
//! effects do. Lives on the shard's thread; decides nothing.

mod driver;
mod ports;

pub use driver::Driver;
pub use ports::{Ports, PortsConfig};
