//! What the ledger keeps of a room, and when it takes what for settled.

use super::HISTORY_MAX;

/// Limits of the ledger. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct LedgerLimits {
    /// Removed entries of a room's state that are known one by one. Of older ones
    /// only the last number is kept: who was told of the room before it is told
    /// all of it again.
    pub removed_max: usize,
    /// Member events of one room that are no part of its state yet: ends of stays that their
    /// users' own pollers alone have told, and members that were fetched for single users.
    /// For one more the oldest is shown, and the room withheld from each member until
    /// their own poller vouches for them.
    pub asides_max: usize,
    /// Events put in front of one segment of a timeline; each has numbers for 100,
    /// so that more than that has no effect.
    pub history_max: u64,
    /// Where the homeserver gives the state after each timeline, a gap can hide no
    /// more than what was taken away by a reset. That is rare, and the whole state
    /// of a large room is dear: it is looked for so often at most.
    pub reset_check_every_ms: u64,
    /// How long after somebody came into a room a list of the homeserver's that
    /// lacks it puts them out: one of several processes may yet have to list who
    /// has just come.
    pub joined_settles_ms: u64,
    /// Rooms of which it is kept in mind what was told lately, so that copies of it
    /// are known; some 2 KiB each.
    pub lively_rooms_max: usize,
    /// Stays in doubt that are kept in mind, some 200 bytes each: two devices of their user
    /// were told at once that they are in the room and that they are asked in. Where there
    /// are more all are forgotten, and one that goes on shows what comes from then on.
    pub doubted_max: usize,
}

impl Default for LedgerLimits {
    fn default() -> Self {
        Self {
            removed_max: 32,
            asides_max: 100,
            history_max: HISTORY_MAX,
            reset_check_every_ms: 24 * 3_600_000,
            joined_settles_ms: 60_000,
            lively_rooms_max: 4_000,
            doubted_max: 1_000,
        }
    }
}
