//! A busy homeserver of two thousand rooms and three hundred users, Luge with four shards in front
//! of it, and a client for each user: whatever happens meanwhile, everybody ends up with the truth.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::print_stderr,
    reason = "how far a long test has got, and how fast, is worth knowing"
)]

#[expect(dead_code, reason = "the other suite uses the rest")]
#[path = "../harness/mod.rs"]
mod harness;

mod churn;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use harness::{
    follower::{Follower, Trouble},
    setup::Setup,
};
use luge_io::{
    driver::Driver,
    gate::Gate,
    task::{self, Task},
    time::{clock, sleep},
};
use luge_loadtest::{conversation::Pace, model::Size, server::Simulated};
use serde_json::json;

const USERS: usize = 300;
/// First responses that are waited for at once.
const FIRST_MAX: usize = 40;
/// How long a live client's long poll waits.
const POLL_MS: u64 = 2_000;
/// Global account data that says that everything before it has been told.
const MARKER: &str = "test.settled";

/// What all clients do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    /// Follow what happens.
    Live,
    /// Ask until nothing new comes, and be done.
    Drain,
}

/// What the clients share with the script.
struct Stage {
    phase: Cell<Phase>,
    restarting: Cell<bool>,
    /// Whether nothing more is to happen.
    quiet: Cell<bool>,
    first: Gate,
    first_responses: RefCell<Vec<Duration>>,
    /// Clients that have all their rooms; that went on after the restart; that have settled.
    grown: Cell<usize>,
    resumed: Cell<usize>,
    settled: Cell<usize>,
    restarts: Cell<usize>,
}

#[test]
fn everybody_ends_up_with_the_truth_through_talk_churn_and_a_restart() {
    Driver::Epoll.block_on(scenario()).unwrap();
}

async fn scenario() {
    let begin = Instant::now();
    let note = |what: &str| eprintln!("{:>6.1} s  {what}", begin.elapsed().as_secs_f64());
    let size = Size { rooms: 2_000, users: USERS, remote_users: 400, ..Size::default() };
    let homeserver = Simulated::start(&size).unwrap();
    let setup = Setup::start(homeserver, |config| {
        config.shards = Some(4);
        // A slow machine is not what is tested.
        config.shard_limits.patience_ms = 85_000;
    });
    assert_eq!(setup.sessions.len(), USERS);
    note("the homeserver is full");
    let stage = Rc::new(Stage {
        phase: Cell::new(Phase::Live),
        restarting: Cell::new(false),
        quiet: Cell::new(false),
        first: Gate::new(FIRST_MAX),
        first_responses: RefCell::default(),
        grown: Cell::new(0),
        resumed: Cell::new(0),
        settled: Cell::new(0),
        restarts: Cell::new(0),
    });
    let pace = Pace { messages_per_second: 4.0, other_percent: 20, ..Pace::default() };
    setup.homeserver().talk(pace).unwrap();
    let churn = task::spawn(churn::go_on(setup.homeserver(), Rc::clone(&stage)));
    let clients: Vec<Task<Follower>> = setup
        .sessions
        .iter()
        .map(|session| task::spawn(live(setup.follower(session), Rc::clone(&stage))))
        .collect();
    reach(&stage.grown).await;
    note(&times("first responses", &mut stage.first_responses.borrow_mut()));
    note("everybody has all rooms");

    stage.restarting.set(true);
    setup.restart().await;
    stage.restarts.set(1);
    stage.restarting.set(false);
    reach(&stage.resumed).await;
    note("everybody went on after the restart");

    stage.quiet.set(true);
    note(&format!("{} acts were done", churn.await));
    setup.homeserver().hush().unwrap();
    setup.act(|homeserver, _| {
        let users: Vec<String> = homeserver.user_ids().map(str::to_owned).collect();
        for user_id in users {
            homeserver.set_account_data(&user_id, MARKER, json!({"yes": true}));
        }
    });
    reach(&stage.settled).await;
    stage.phase.set(Phase::Drain);
    let mut followers = Vec::new();
    for client in clients {
        followers.push(client.await);
    }
    note("everything has settled");
    compare(&setup, &mut followers).await;
    note("everything was compared");
    setup.end().await;
    note("everything has ended");
}

/// Waits until every client has got so far.
async fn reach(count: &Cell<usize>) {
    let deadline = clock::monotonic() + Duration::from_mins(5);
    while count.get() < USERS {
        assert!(clock::monotonic() < deadline, "only {} of {USERS} got so far", count.get());
        sleep(Duration::from_millis(20)).await;
    }
}

/// One client's whole life.
async fn live(mut follower: Follower, stage: Rc<Stage>) -> Follower {
    let permit = stage.first.enter().await;
    let begin = Instant::now();
    follower.must_step(0).await;
    stage.first_responses.borrow_mut().push(begin.elapsed());
    for window_end in [99, 100_000] {
        follower.window_end = window_end;
        follower.must_step(0).await;
    }
    drop(permit);
    count(&stage.grown);
    while stage.grown.get() < USERS {
        sleep(Duration::from_millis(200)).await;
    }
    let (mut resumed, mut settled) = (false, false);
    while stage.phase.get() == Phase::Live {
        let restarts = stage.restarts.get();
        go_on(&mut follower, &stage).await;
        if restarts > 0 && !std::mem::replace(&mut resumed, true) {
            count(&stage.resumed);
        }
        let told = follower.account_data.contains_key(MARKER);
        if told && !std::mem::replace(&mut settled, true) {
            count(&stage.settled);
        }
    }
    follower.drain().await;
    follower
}

/// One long poll. Only while Luge stops and starts may there be no answer; it then comes later.
async fn go_on(follower: &mut Follower, stage: &Stage) {
    while let Err(trouble) = follower.step(POLL_MS).await {
        let may_be = match &trouble {
            Trouble::Broken(_) => true,
            Trouble::Refused(answer) => answer.status == 503,
        };
        let text = match &trouble {
            Trouble::Broken(error) => error.to_string(),
            Trouble::Refused(answer) => format!("{} {}", answer.status, answer.text()),
        };
        assert!(may_be && stage.restarts_or_has(), "{}: {text}", follower.user_id);
        sleep(Duration::from_millis(50)).await;
    }
}

fn count(of: &Cell<usize>) {
    of.set(of.get() + 1);
}

impl Stage {
    /// Whether Luge stops and starts now, or has done so: a poll may have begun before.
    fn restarts_or_has(&self) -> bool {
        self.restarting.get() || self.restarts.get() > 0
    }
}

/// Holds what everybody keeps against the truth, and for some of them also what a client gets that
/// begins now.
async fn compare(setup: &Setup, followers: &mut [Follower]) {
    let mut problems = Vec::new();
    let mut again = Vec::new();
    let mut first_responses = Vec::new();
    let mut rooms_count = 0;
    for (number, follower) in followers.iter_mut().enumerate() {
        let facts = setup.facts(&follower.user_id);
        rooms_count += facts.rooms.len();
        follower.compare(&facts);
        problems.append(&mut follower.problems);
        if number % 10 == 0 {
            let mut anew = follower.anew("a new one");
            let begin = Instant::now();
            anew.must_step(0).await;
            first_responses.push(begin.elapsed());
            anew.drain().await;
            anew.compare(&facts);
            again.append(&mut anew.problems);
        }
    }
    eprintln!("         {rooms_count} rooms of users were compared");
    eprintln!("         {}", times("first responses of all rooms", &mut first_responses));
    let some =
        |problems: &[String]| problems.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), some(&problems));
    assert!(again.is_empty(), "{} problems when begun anew:\n{}", again.len(), some(&again));
}

fn times(of: &str, times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("{of}: p50 {:?}, p99 {:?}", at(50), at(99))
}
