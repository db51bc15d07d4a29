//! What a run is like: its size, what goes wrong, and which limits it has.

use luge_core::{connection::AnswerLimits, ledger::LedgerLimits, shard::ShardLimits};

use crate::{client::ROOMS_MAX, random::Random};

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) users: usize,
    pub(crate) rooms: usize,
    pub(crate) shards: usize,
    /// Things that happen at the homeserver, at most.
    pub(crate) actions: usize,
    /// Events that happen at the homeserver, at most.
    pub(crate) events: usize,
    /// The longest pause between two of them.
    pub(crate) pause_ms: u64,
    pub(crate) crashes: bool,
    /// Whether clients speak all dialects and ask for all that there is; else
    /// they have one list in the simplified dialect.
    pub(crate) dialects: bool,
    /// Whether what is kept and told at once is so little that it is often not enough.
    pub(crate) small_limits: bool,
    /// Whether some users' clocks are behind. The homeserver says which event replaced
    /// which then, and is asked again until an answer has a place: clocks have no say.
    pub(crate) clocks_behind: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            users: 6,
            rooms: 5,
            shards: 3,
            actions: 700,
            events: usize::MAX,
            pause_ms: 150,
            crashes: true,
            dialects: false,
            small_limits: false,
            clocks_behind: std::env::var_os("LUGE_SIM_CLOCKS").is_some(),
        }
    }
}

impl Settings {
    pub(crate) fn answer_limits(&self) -> AnswerLimits {
        let usual = AnswerLimits { rooms_max: ROOMS_MAX, ..AnswerLimits::default() };
        if !self.small_limits {
            return usual;
        }
        AnswerLimits { receipts_max: 2, earlier_bytes_max: 2_000, bytes_max: 3_000, ..usual }
    }

    /// How far each user's clock is behind, in milliseconds: most are right, and others
    /// wrong by seconds, minutes or hours.
    pub(crate) fn clocks(&self, seed: u64) -> Vec<u64> {
        if !self.clocks_behind {
            return Vec::new();
        }
        let mut random = Random::new(seed.rotate_left(16));
        let clock = |_| {
            let most_ms = [0, 0, 0, 10_000, 600_000, 36_000_000][random.below(6)];
            random.between(0, most_ms)
        };
        (0..self.users).map(clock).collect()
    }

    pub(crate) fn poll_repeats_max(&self) -> u32 {
        if self.clocks_behind { u32::MAX } else { ShardLimits::default().poll_repeats_max }
    }

    pub(crate) fn ledger_limits(&self) -> LedgerLimits {
        if !self.small_limits {
            return LedgerLimits::default();
        }
        LedgerLimits {
            removed_max: 1,
            asides_max: 1,
            history_max: 3,
            lively_rooms_max: 1,
            ..LedgerLimits::default()
        }
    }
}
