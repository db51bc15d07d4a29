//! When a wait ends, so that many end at once.
//!
//! Ten thousand waits that end one by one wake a thread ten thousand times, each
//! time for little, with everything that it needs gone from the CPU's caches.
//! What waits for half a minute loses nothing by a tenth of a second, and ends
//! together with what else would have ended around then.
//!
//! Nothing that somebody waits *for* belongs here: news are told at once.

/// The part of a wait that may be cut off: one in so many.
const SHARE: u64 = 10;

/// When a wait of `wait_ms` that begins at `from_ms` ends: at the last multiple
/// of the slack that it reaches. The slack is `slack_ms`, but no more than a
/// tenth of the wait.
pub(super) fn end_ms(from_ms: u64, wait_ms: u64, slack_ms: u64) -> u64 {
    let end_ms = from_ms.saturating_add(wait_ms);
    match slack_ms.min(wait_ms / SHARE) {
        0 => end_ms,
        slack_ms => end_ms - end_ms % slack_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_together_and_never_late() {
        for (from_ms, wait_ms, slack_ms, expected) in [
            (0, 30_000, 100, 30_000),
            (1, 30_000, 100, 30_000),
            (99, 30_000, 100, 30_000),
            (100, 30_000, 100, 30_100),
            (7, 30_000, 0, 30_007),
            // A short wait loses no more than a tenth of itself.
            (7, 500, 100, 500),
            (47, 500, 100, 500),
            (57, 500, 100, 550),
            (7, 9, 100, 16),
            (7, 0, 100, 7),
            (u64::MAX, 1_000, 100, u64::MAX - u64::MAX % 100),
        ] {
            let case = format!("{from_ms} {wait_ms} {slack_ms}");
            assert_eq!(end_ms(from_ms, wait_ms, slack_ms), expected, "{case}");
        }
    }
}
