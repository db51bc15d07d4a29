//! What a shard may hold, and for how long it waits.

use crate::connection::{AnswerLimits, PositionLimits};

/// Limits of one shard. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct ShardLimits {
    /// Limits of each connection.
    pub positions: PositionLimits,
    /// Limits of each response.
    pub answers: AnswerLimits,
    /// Connections of one device; beyond it the one that was idle longest goes.
    pub connections_max: usize,
    /// Requests held at once; beyond it further ones are refused.
    pub held_max: usize,
    /// Users in memory; beyond it further ones are refused.
    pub users_max: usize,
    /// Rooms of users that are brought into memory in one turn.
    pub load_rooms_max: usize,
    /// Tokens remembered of one device.
    pub tokens_max: usize,
    /// Initial syncs in flight.
    pub initial_syncs_max: usize,
    /// How long a request waits for a user's first sync.
    pub patience_ms: u64,
    /// How long a request waits for a member list that it asks for.
    pub members_patience_ms: u64,
    /// How long a request waits for a token for paging back, where its answer
    /// would else have a hole.
    pub prev_batch_patience_ms: u64,
    /// How long an event of the user's own that another user's poller brought
    /// first is held back for the device's own poller, which alone knows its
    /// transaction id; 0 for not at all. Nothing is held back from a device
    /// whose poller is not running.
    pub transaction_id_wait_ms: u64,
    /// How long a request waits for its token to be validated.
    pub validation_patience_ms: u64,
    /// How long the homeserver's word about a token holds.
    pub token_ttl_ms: u64,
    /// How long a device is polled after its client was last seen.
    pub park_after_ms: u64,
    /// How long a poll may wait at the homeserver.
    pub poll_timeout_ms: u64,
    /// How much sooner a poll, or a client's request, that has nothing to tell may
    /// end, so that many end at once; 0 for not at all. No wait loses more than a
    /// tenth of itself.
    pub timer_slack_ms: u64,
    /// How often an answer to a poll is asked for again that has no place among what
    /// others have told ([`crate::ledger::Reply::Again`]). The second has one nearly
    /// always: it has the newest events, and lacks those that are known only where more
    /// came meanwhile than it has. Behind that the senders' clocks decide.
    pub poll_repeats_max: u32,
    /// The first wait after a failed poll; it doubles with each further one.
    pub backoff_min_ms: u64,
    /// The longest wait after a failed poll.
    pub backoff_max_ms: u64,
    /// How long a refusal of the homeserver's is passed on without asking it
    /// again.
    pub refusal_ttl_ms: u64,
    /// How long another device of the user may be silent and still count as the
    /// one that keeps the rooms current.
    pub covered_ms: u64,
    /// How long after a failed fetch it is not tried again; of a room's members or
    /// state this doubles with each further failure.
    pub refetch_after_ms: u64,
    /// The same where the answer was too large; it doubles likewise.
    pub too_large_after_ms: u64,
    /// Fetches remembered at once; beyond it further ones wait.
    pub fetches_max: usize,
    /// How long a room's state is in doubt before it is fetched: what else comes
    /// to be in doubt meanwhile is then settled with it.
    pub repair_delay_ms: u64,
    /// How long after its state was fetched a room's is not fetched again.
    pub repair_interval_ms: u64,
    /// States of rooms that are being fetched at once, and users whose list of
    /// rooms is.
    pub repairs_in_flight_max: usize,
    /// Rooms that wait for their state to be fetched; others wait for another
    /// cause, or for a member to come back.
    pub repairs_max: usize,
    /// How often the rooms of a user who is polled for are compared with those
    /// that the homeserver has them in, at the least.
    pub rooms_check_every_ms: u64,
    /// How often changed connections are written to the store.
    pub save_every_ms: u64,
    /// Connections written at once.
    pub save_max: usize,
    /// How often memory is looked over.
    pub sweep_every_ms: u64,
    /// How long a user whom nobody polls for stays in memory.
    pub unload_after_ms: u64,
    /// How long an unused connection is kept.
    pub connection_age_ms: u64,
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self {
            positions: PositionLimits::default(),
            answers: AnswerLimits::default(),
            connections_max: 16,
            held_max: 50_000,
            users_max: 100_000,
            load_rooms_max: 500,
            tokens_max: 8,
            initial_syncs_max: 4,
            patience_ms: 60_000,
            members_patience_ms: 2_000,
            prev_batch_patience_ms: 500,
            transaction_id_wait_ms: 1_000,
            validation_patience_ms: 30_000,
            token_ttl_ms: 60_000,
            park_after_ms: 600_000,
            poll_timeout_ms: 45_000,
            timer_slack_ms: 100,
            poll_repeats_max: 10,
            backoff_min_ms: 500,
            backoff_max_ms: 60_000,
            refusal_ttl_ms: 5_000,
            covered_ms: 60_000,
            refetch_after_ms: 60_000,
            too_large_after_ms: 6 * 3_600_000,
            fetches_max: 10_000,
            repair_delay_ms: 1_000,
            repair_interval_ms: 600_000,
            repairs_in_flight_max: 2,
            repairs_max: 10_000,
            rooms_check_every_ms: 3_600_000,
            save_every_ms: 10_000,
            save_max: 256,
            sweep_every_ms: 60_000,
            unload_after_ms: 3_600_000,
            connection_age_ms: 7 * 24 * 3_600_000,
        }
    }
}
