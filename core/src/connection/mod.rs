//! One sliding sync connection: what it was sent, and what it is sent next.
//!
//! A connection holds state, not queues: [`answer`] computes a response from
//! the newest world and what was sent before. Nothing here waits or knows
//! which request is held; that is [`crate::shard`]'s business.

mod answer;
mod covered;
mod earlier;
mod left;
mod member;
mod position;
mod record;
mod removed;
mod required;
mod selection;
mod state;

pub(crate) use answer::gate;
pub use answer::{Answer, AnswerLimits, Asked, HistoryWant, Want, answer};
pub use covered::{Covered, is_quiet};
pub use earlier::Earlier;
pub use position::{Connection, PositionLimits, Positions, Resolved, is_position};
pub use record::ConnectionRecord;
pub use state::{SentList, SentRoom, SentScope, State};
