//! The ledger, rule by rule, and random histories told by racing pollers.

mod copies;
mod ends;
mod gaps;
mod hidden;
mod leavers;
mod lone_ends;
mod model;
mod parts;
mod properties;
mod races;
mod rules;
mod table;
mod turns;
