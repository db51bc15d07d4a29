//! Two people with a device each, a room that they share, and a room for each of them where
//! somebody of another server talks: what is said there, nobody else's poller brings.

use luge_io::driver::{Choice, Driver};
use luge_loadtest::{
    model::{Homeserver, Membership, NewEvent, NewRoom, Session},
    server::Simulated,
};
use luge_server::config::Config;
use serde_json::json;

use crate::{harness::setup::Setup, log};

/// Somebody of another server, who is in every room.
pub(crate) const STRANGER: &str = "@rosa:elsewhere.test";

/// A small homeserver, Luge in front of it, and whom it is about.
pub(crate) struct Town {
    pub(crate) setup: Setup,
    pub(crate) ann: Session,
    pub(crate) bob: Session,
    /// Ann's, Bob's and the stranger's.
    pub(crate) shared: String,
    /// Ann's and the stranger's.
    pub(crate) anns: String,
}

/// The homeserver of a town, not yet served.
pub(crate) struct Plan {
    pub(crate) homeserver: Homeserver,
    ann: Session,
    bob: Session,
    shared: String,
    anns: String,
}

/// Runs the test with Luge and its clients on each driver that works here.
pub(crate) fn on_each_driver<F: Future<Output = ()>>(test: impl Fn(Choice) -> F) {
    log::keep();
    for driver in Driver::available() {
        let choice = match driver {
            Driver::IoUring => Choice::IoUring,
            Driver::Epoll => Choice::Epoll,
        };
        driver.block_on(test(choice)).unwrap();
    }
}

/// Short waits, so that a test that fails upstream often is not a long one.
pub(crate) fn impatient(config: &mut Config, driver: Choice) {
    config.driver = driver;
    config.shards = Some(2);
    config.shard_limits.backoff_min_ms = 10;
    config.shard_limits.backoff_max_ms = 100;
    config.shard_limits.refusal_ttl_ms = 100;
}

impl Plan {
    pub(crate) fn new(now: u64) -> Self {
        let mut homeserver = Homeserver::empty(now);
        let [ann, bob] = ["ann", "bob"].map(|name| {
            let user_id = homeserver.register(name, name, "password");
            homeserver.log_in(&user_id, None).unwrap()
        });
        let shared = room(&mut homeserver, "Harbour", &[&ann.user_id, &bob.user_id], now);
        let anns = room(&mut homeserver, "Quay", &[&ann.user_id], now);
        Self { homeserver, ann, bob, shared, anns }
    }

    pub(crate) fn serve(self, change: impl FnOnce(&mut Config)) -> Town {
        let Self { homeserver, ann, bob, shared, anns } = self;
        let simulated = Simulated::serve(homeserver, "127.0.0.1:0".parse().unwrap()).unwrap();
        Town { setup: Setup::start(simulated, change), ann, bob, shared, anns }
    }
}

impl Town {
    /// A town whose clients and homeserver do what they should.
    pub(crate) fn start(driver: Choice, change: impl FnOnce(&mut Config)) -> Self {
        Plan::new(luge_io::time::clock::now_ms()).serve(|config| {
            impatient(config, driver);
            change(config);
        })
    }

    /// The stranger says something.
    pub(crate) fn say(&self, room_id: &str, text: &str) {
        let (room_id, text) = (room_id.to_owned(), text.to_owned());
        self.setup.act(move |homeserver, now| say(homeserver, &room_id, &text, now));
    }
}

/// A room with some talk in it.
pub(crate) fn room(homeserver: &mut Homeserver, name: &str, members: &[&str], now: u64) -> String {
    let new = NewRoom { name: Some(name.to_owned()), public: true, ..NewRoom::default() };
    let room_id = homeserver.create_room(members[0], &new, now);
    for member in &members[1..] {
        let joins = (*member, Membership::Join);
        homeserver.set_membership(&room_id, member, joins, None, now).unwrap();
    }
    let content = json!({"membership": "join", "displayname": "Rosa"});
    let joins = NewEvent::state(STRANGER, "m.room.member", STRANGER, content);
    homeserver.append(&room_id, joins, now);
    say(homeserver, &room_id, "hello", now);
    room_id
}

/// The stranger says something in a room.
pub(crate) fn say(homeserver: &mut Homeserver, room_id: &str, text: &str, now: u64) {
    let content = json!({"msgtype": "m.text", "body": text});
    homeserver.append(room_id, NewEvent::message(STRANGER, "m.room.message", content), now);
}
