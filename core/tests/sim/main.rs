//! A seeded simulation of everything that thinks: several shards, the ledger, a
//! homeserver, and clients that come, go, retry and cancel, with polls that
//! fail, messages that are late and crashes. One run is a [`simulation::Simulation`]; a
//! failure names its seed, and `LUGE_SIM_SEED` runs that one alone.

#![expect(clippy::print_stderr, reason = "a failure names its seed, and a log is asked for")]

#[path = "../harness/mod.rs"]
mod harness;

mod activity;
mod client;
mod exchange;
mod fetch;
mod homeserver;
mod log;
mod quiescence;
mod random;
mod simulation;
mod visibility;

use simulation::{Settings, Simulation};

/// Runs one seed, and says which it was if it fails.
fn run(seed: u64, settings: Settings) -> Simulation {
    let result = std::panic::catch_unwind(|| {
        let mut simulation = Simulation::new(seed, settings);
        simulation.run();
        simulation
    });
    match result {
        Ok(simulation) => simulation,
        Err(panic) => {
            eprintln!("the simulation fails with LUGE_SIM_SEED={seed} and {settings:?}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn seeds(default: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("LUGE_SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("LUGE_SIM_SEED is a number")],
        Err(_) => default.collect(),
    }
}

/// Goal: whatever happens in between, every client ends up with the truth.
#[test]
fn sim_clients_end_up_with_the_truth() {
    for seed in seeds(0..12) {
        run(seed, Settings::default());
    }
}

/// Goal: without crashes no position is ever lost, stops in order included.
#[test]
fn sim_positions_are_kept_where_nothing_crashes() {
    for seed in seeds(100..106) {
        run(seed, Settings { crashes: false, ..Settings::default() });
    }
}

/// Goal: an event that a slow poller brings is kept from who joined behind it,
/// also where nothing known follows it in the answer.
#[test]
fn sim_late_events_are_not_shown_to_who_joined_behind_them() {
    run(24, Settings::default());
}

/// Goal: who starts anew misses nothing that came out of order.
#[test]
fn sim_late_events_leave_no_hole_for_who_starts_anew() {
    run(36, Settings::default());
}

/// Goal: INV-11.
#[test]
fn sim_equal_seeds_have_equal_traces() {
    for seed in seeds(200..202) {
        let settings = Settings { actions: 300, ..Settings::default() };
        let traces = [run(seed, settings).trace(), run(seed, settings).trace()];
        assert_eq!(traces[0], traces[1], "seed {seed}");
        assert_ne!(traces[0], run(seed + 1_000, settings).trace());
    }
}

/// Goal: a thousand users through a million events in one run. For a release
/// build; `LUGE_SIM_USERS` and `LUGE_SIM_EVENTS` change its size. With 200 users
/// it fails after a second: somebody is shown receipts of a room that they have
/// left. Whether Luge is wrong there, or the check is too strict, is not known.
#[test]
#[ignore = "fails: what is shown to who has left is not yet right, or not yet checked right, at this size"]
fn sim_a_thousand_users_through_a_million_events() {
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
    };
    let users = number("LUGE_SIM_USERS", 1_000);
    let events = number("LUGE_SIM_EVENTS", 1_000_000);
    for seed in seeds(1..2) {
        let settings = Settings {
            users,
            rooms: users / 2,
            shards: 4,
            events,
            actions: usize::MAX,
            pause_ms: 3,
            ..Settings::default()
        };
        let simulation = run(seed, settings);
        assert!(simulation.events() >= events as u64);
    }
}
