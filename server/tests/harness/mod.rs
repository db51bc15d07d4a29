//! A simulated homeserver, Luge in front of it, and devices that follow it as Element X does. What
//! a test makes of that is not in here.

pub(crate) mod device;
pub(crate) mod facts;
pub(crate) mod follower;
pub(crate) mod setup;
