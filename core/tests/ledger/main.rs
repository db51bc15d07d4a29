//! The ledger, rule by rule, and random histories told by racing pollers.

mod model;
mod properties;
mod races;
mod rules;
mod table;
