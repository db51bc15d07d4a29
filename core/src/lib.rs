//! The sliding sync domain, pure: no I/O, no clock, no threads, no database.
//!
//! Start at [`view`] for how records are read and at [`upstream`] for what
//! comes in.
#![forbid(unsafe_code)]

pub mod id;
pub mod upstream;
pub mod view;
