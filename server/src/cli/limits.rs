//! The limits that an operator may turn on the command line. Each is a field of
//! [`Config`]'s limits, where the others are documented; there is no default
//! here that is not written there.

use std::time::Duration;

use clap::Args;
use luge_core::{
    connection::AnswerLimits, dialect::RequestLimits, ledger::LedgerLimits, request::SizeLimits,
    shard::ShardLimits,
};

use crate::config::{Config, ServerLimits};

const HEADING: &str = "Limits";

/// What was given on the command line; what was not stays as it is.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct LimitArgs {
    /// How long a client may ask to wait for news [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    request_timeout_max: Option<u64>,
    /// Bytes of a sliding sync request's body [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    request_body_max: Option<u64>,
    /// Lists of a request [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    lists_max: Option<u32>,
    /// Room subscriptions of a request; on /v4/sync at most 100 of them [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscriptions_max: Option<u32>,
    /// Different pieces of state that a request names in all [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    required_state_max: Option<u32>,
    /// Memory that what a request asks for takes, and again what a connection remembers of what it
    /// asked before [default: 2MiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    request_memory_max: Option<u64>,
    /// Bytes of what a connection of MSC3575 asks for, over all its requests [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    sticky_max: Option<u64>,
    /// Events that one room's timeline has in a response [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    timeline_max: Option<u32>,
    /// Connections of a device; beyond it the one idle longest starts over [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    device_connections_max: Option<u32>,
    /// How long a connection that is not used is kept [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    connection_age_max: Option<u64>,
    /// Requests that wait for news at once, on each shard [default: 50000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    held_requests_max: Option<u32>,
    /// Initial syncs that the homeserver is asked for at once [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    initial_syncs_max: Option<u32>,
    /// How long a device is polled after its client was last there [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    park_after: Option<u64>,
    /// How long a poll may wait at the homeserver; proxies on the way must let it [default: 45s]
    #[arg(long, value_name = "TIME", value_parser = poll_timeout)]
    poll_timeout: Option<u64>,
    /// How often an answer to a poll is asked for again that nothing places among what others have
    /// told of a room; then the senders' clocks decide [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    poll_repeats_max: Option<u32>,
    /// How much sooner a poll or a request that has nothing to tell may end, so that many end at
    /// once; 0s for not at all [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    timer_slack: Option<u64>,
    /// How long a user's own message waits for its transaction id, where another user's poll
    /// brought it first; 0s for not at all [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    transaction_id_wait: Option<u64>,
    /// Bytes of an answer of the homeserver's other than /sync, such as a room's members or its
    /// whole state [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    answer_max: Option<u64>,
    /// Events fetched from before a gap in a room's timeline, where clients ask for more than there
    /// is [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100))]
    history_max: Option<u64>,
    /// Removed entries of a room's state that are remembered one by one [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    removed_state_max: Option<u32>,
    /// Members of a room who have left, or were fetched for one user, and are shown to others only
    /// when the homeserver has told another user of them or of something later [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    asides_max: Option<u32>,
    /// How often a room with gaps is looked at for state that a reset took away, where the
    /// homeserver gives the state after each timeline [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    reset_check_every: Option<u64>,
    /// How long a room that a user came into may be missing in the homeserver's list of their rooms
    /// before they count as out of it [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    joined_settles: Option<u64>,
    /// How long a request is waited for with all that it came with; after that with less memory
    /// [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    light_wait_after: Option<u64>,
}

impl LimitArgs {
    /// Puts what was given into `config`.
    pub(super) fn apply(self, config: &mut Config) {
        let RequestLimits {
            timeout_ms_cap,
            lists_max,
            subscriptions_max,
            v4_subscriptions_max,
            timeline_limit_cap,
            sticky_bytes_max,
            size: SizeLimits { state_max, bytes_max },
            ..
        } = &mut config.request_limits;
        let ShardLimits {
            answers: AnswerLimits { earlier_bytes_max, .. },
            connections_max,
            connection_age_ms,
            held_max,
            initial_syncs_max,
            park_after_ms,
            poll_timeout_ms,
            poll_repeats_max,
            timer_slack_ms,
            transaction_id_wait_ms,
            ..
        } = &mut config.shard_limits;
        let ServerLimits { body_bytes_max, answer_bytes_max, light_wait_after_ms, .. } =
            &mut config.limits;
        let LedgerLimits {
            removed_max,
            asides_max,
            history_max,
            reset_check_every_ms,
            joined_settles_ms,
            ..
        } = &mut config.ledger_limits;
        put(timeout_ms_cap, self.request_timeout_max);
        put(body_bytes_max, self.request_body_max.map(|bytes| bytes as usize));
        put(lists_max, self.lists_max.map(|count| count as usize));
        put(subscriptions_max, self.subscriptions_max.map(|count| count as usize));
        *v4_subscriptions_max = (*v4_subscriptions_max).min(*subscriptions_max);
        put(state_max, self.required_state_max.map(|count| count as usize));
        put(bytes_max, self.request_memory_max.map(|bytes| bytes as usize));
        put(earlier_bytes_max, self.request_memory_max.map(|bytes| bytes as usize));
        put(sticky_bytes_max, self.sticky_max.map(|bytes| bytes as usize));
        put(timeline_limit_cap, self.timeline_max.map(u64::from));
        put(connections_max, self.device_connections_max.map(|count| count as usize));
        put(connection_age_ms, self.connection_age_max);
        put(held_max, self.held_requests_max.map(|count| count as usize));
        put(initial_syncs_max, self.initial_syncs_max.map(|count| count as usize));
        put(park_after_ms, self.park_after);
        put(poll_timeout_ms, self.poll_timeout);
        put(poll_repeats_max, self.poll_repeats_max);
        put(timer_slack_ms, self.timer_slack);
        put(transaction_id_wait_ms, self.transaction_id_wait);
        put(answer_bytes_max, self.answer_max.map(|bytes| bytes as usize));
        put(light_wait_after_ms, self.light_wait_after);
        put(removed_max, self.removed_state_max.map(|count| count as usize));
        put(asides_max, self.asides_max.map(|count| count as usize));
        put(history_max, self.history_max);
        put(reset_check_every_ms, self.reset_check_every);
        put(joined_settles_ms, self.joined_settles);
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// A time such as `500ms`, `30s`, `5m`, `12h` or `7d`, in milliseconds.
fn milliseconds(text: &str) -> Result<u64, String> {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];
    number_with_unit(text, &units)
        .filter(|ms| Duration::from_millis(*ms) <= YEAR)
        .ok_or_else(|| "give a number and ms, s, m, h or d, such as 500ms or 7d".to_owned())
}

/// A time for which a poll may wait. Each answer confirms the token that it was
/// asked with and that the device keeps its user's rooms current, and both hold
/// for a minute.
fn poll_timeout(text: &str) -> Result<u64, String> {
    let given = milliseconds(text)?;
    let said = "give a time from 1s to 55s: an answer keeps its device known for a minute";
    (1_000..=55_000).contains(&given).then_some(given).ok_or_else(|| said.to_owned())
}

/// A size such as `512KiB` or `1MiB`, in bytes.
fn bytes(text: &str) -> Result<u64, String> {
    const RANGE: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 30;
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    number_with_unit(text, &units)
        .filter(|bytes| RANGE.contains(bytes))
        .ok_or_else(|| "give a size from 1KiB to 1GiB, such as 512KiB or 1MiB".to_owned())
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn config_of(arguments: &[&str]) -> Config {
        let mut config = Config::new("http://hs", "data", "127.0.0.1:0".parse().unwrap());
        let parsed = Alone::try_parse_from(["luge"].iter().chain(arguments)).unwrap();
        parsed.limits.apply(&mut config);
        config
    }

    #[test]
    fn times_and_sizes_have_units() {
        for (text, expected) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1s", Some(1_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("7d", Some(604_800_000)),
            ("366d", None),
            ("99999999999999999999s", None),
            ("1", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
        ] {
            assert_eq!(milliseconds(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("999ms", None),
            ("1s", Some(1_000)),
            ("55s", Some(55_000)),
            ("56s", None),
            ("1", None),
        ] {
            assert_eq!(poll_timeout(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("1024B", Some(1_024)),
            ("512KiB", Some(524_288)),
            ("1MiB", Some(1_048_576)),
            ("2GiB", None),
            ("1B", None),
            ("1MB", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn each_limit_reaches_its_field() {
        let config = config_of(&[
            "--request-timeout-max=1m",
            "--request-body-max=2MiB",
            "--lists-max=3",
            "--subscriptions-max=4",
            "--timeline-max=5",
            "--required-state-max=10",
            "--request-memory-max=3MiB",
            "--sticky-max=15MiB",
            "--device-connections-max=6",
            "--connection-age-max=1d",
            "--held-requests-max=7",
            "--initial-syncs-max=8",
            "--park-after=9s",
            "--transaction-id-wait=250ms",
            "--poll-timeout=16s",
            "--timer-slack=17ms",
            "--poll-repeats-max=18",
            "--answer-max=128MiB",
            "--history-max=11",
            "--removed-state-max=12",
            "--asides-max=15",
            "--reset-check-every=2d",
            "--joined-settles=13s",
            "--light-wait-after=14ms",
        ]);
        let request = &config.request_limits;
        assert_eq!((request.timeout_ms_cap, config.limits.body_bytes_max), (60_000, 2 << 20));
        assert_eq!((request.lists_max, request.timeline_limit_cap), (3, 5));
        assert_eq!((request.subscriptions_max, request.v4_subscriptions_max), (4, 4));
        assert_eq!(request.size, SizeLimits { state_max: 10, bytes_max: 3 << 20 });
        assert_eq!(request.sticky_bytes_max, 15 << 20);
        let shard = &config.shard_limits;
        assert_eq!(shard.answers.earlier_bytes_max, 3 << 20);
        assert_eq!((shard.connections_max, shard.connection_age_ms), (6, 86_400_000));
        assert_eq!((shard.held_max, shard.initial_syncs_max), (7, 8));
        assert_eq!((shard.park_after_ms, shard.transaction_id_wait_ms), (9_000, 250));
        assert_eq!((shard.poll_timeout_ms, shard.timer_slack_ms), (16_000, 17));
        assert_eq!(shard.poll_repeats_max, 18);
        assert_eq!(config.limits.answer_bytes_max, 128 << 20);
        assert_eq!(config.limits.light_wait_after_ms, 14);
        let ledger = &config.ledger_limits;
        assert_eq!((ledger.history_max, ledger.removed_max), (11, 12));
        assert_eq!(ledger.asides_max, 15);
        assert_eq!(ledger.reset_check_every_ms, 2 * 86_400_000);
        assert_eq!(ledger.joined_settles_ms, 13_000);
    }

    /// Goal: what the help says is the default is what is done.
    #[test]
    fn defaults_in_the_help_are_the_defaults() {
        let defaults = format!("{:?}", config_of(&[]));
        let mut said = Vec::new();
        for argument in Alone::command().get_arguments() {
            let Some(name) = argument.get_long() else { continue };
            let help = argument.get_help().expect("each has a help").to_string();
            let default = help.split("[default: ").nth(1).and_then(|it| it.strip_suffix(']'));
            said.push(format!("--{name}={}", default.expect("each names its default")));
        }
        assert_eq!(said.len(), 24);
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        assert_eq!(format!("{:?}", config_of(&said)), defaults);
    }
}
