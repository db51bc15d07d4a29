//! The ledger, rule by rule, and random histories told by racing pollers.

mod asides;
mod clocks;
mod copies;
mod doubt;
mod ends;
mod gaps;
mod heroes;
mod hidden;
mod leavers;
mod model;
mod parts;
mod places;
mod properties;
mod races;
mod replaced;
mod rules;
mod table;
mod turns;
