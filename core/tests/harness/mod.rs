//! What both suites stand on: the ledger with its tables, and a strict reader
//! of responses. No test and no rule of the protocol lives here.

mod book;
mod strict;

pub(crate) use book::{Book, Group};
pub(crate) use strict::strict;
