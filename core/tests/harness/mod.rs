//! What both suites stand on: the ledger with its tables, and a strict reader
//! of responses. No test and no rule of the protocol lives here.

pub(crate) mod book;
mod strict;

pub(crate) use book::Book;
pub(crate) use strict::strict;
