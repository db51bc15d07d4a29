//! What devices cost the homeserver, and what they may take of Luge.

use luge_io::{
    task,
    time::{clock, sleep},
};
use luge_loadtest::model::Session;
use serde_json::json;
use std::time::Duration;

use crate::{
    harness::device::{Answer, Device, PATIENCE},
    town::{Town, on_each_driver},
};

#[test]
fn second_device_is_told_everything_and_asks_the_homeserver_for_no_rooms() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut first = town.setup.follower(&town.ann);
        first.must_step(0).await;
        town.say(&town.anns, "live");
        first.until("what was said", |first| first.has_text(&town.anns, "live")).await;
        let user_id = town.ann.user_id.clone();
        let session = town.setup.act(move |homeserver, _| homeserver.log_in(&user_id, None));
        let session: Session = session.unwrap();
        let mut second = town.setup.follower(&session);
        second.must_step(0).await;
        second.compare(&town.setup.facts(&town.ann.user_id));
        assert!(second.problems.is_empty(), "{:#?}", second.problems);
        town.say(&town.anns, "to both");
        second.until("what was said", |second| second.has_text(&town.anns, "to both")).await;
        let given = town.setup.act(move |homeserver, _| {
            let user = homeserver.user(&session.user_id).unwrap();
            user.devices[&session.device_id].sent_members.keys().cloned().collect::<Vec<_>>()
        });
        assert!(!given.contains(&town.shared), "the homeserver was asked for rooms: {given:?}");
        town.setup.end().await;
    });
}

#[test]
fn idle_device_is_not_polled_and_resumes_where_it_was() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |config| {
            config.shard_limits.park_after_ms = 200;
            config.shard_limits.poll_timeout_ms = 50;
        });
        let mut ann = town.setup.follower(&town.ann);
        ann.must_step(0).await;
        let count = || {
            town.setup
                .act(|homeserver, _| (homeserver.syncs_count(), homeserver.initial_syncs_count()))
        };
        let deadline = clock::monotonic() + PATIENCE;
        let parked = loop {
            let before = count();
            sleep(Duration::from_secs(1)).await;
            if count() == before {
                break before;
            }
            assert!(clock::monotonic() < deadline, "an idle device is polled on and on");
        };
        assert_eq!(parked.1, 1);
        town.say(&town.anns, "while away");
        sleep(Duration::from_millis(300)).await;
        assert_eq!(count(), parked, "a message does not wake who is parked");
        ann.until("what was said while away", |ann| ann.has_text(&town.anns, "while away")).await;
        assert_eq!(count().1, 1, "it resumes from its since");
        ann.compare(&town.setup.facts(&town.ann.user_id));
        assert!(ann.problems.is_empty(), "{:#?}", ann.problems);
        town.setup.end().await;
    });
}

fn body(conn_id: &str) -> String {
    let list = json!({"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []});
    json!({"conn_id": conn_id, "lists": {"all": list}}).to_string()
}

async fn ask(device: &Device, conn_id: &str, pos: Option<&str>, timeout_ms: u64) -> Answer {
    device.ask(pos, timeout_ms, body(conn_id)).await.unwrap()
}

#[test]
fn connection_too_many_ends_the_one_that_was_idle_longest() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |config| config.shard_limits.connections_max = 2);
        let ann = town.setup.device(&town.ann);
        let mut positions = Vec::new();
        for conn_id in ["one", "two", "three"] {
            positions.push(ask(&ann, conn_id, None, 0).await.response().pos);
            // Idle for longer than another is a matter of milliseconds.
            sleep(Duration::from_millis(120)).await;
        }
        let gone = ask(&ann, "one", Some(&positions[0]), 0).await;
        assert_eq!((gone.status, &*gone.errcode()), (400, "M_UNKNOWN_POS"));
        let three = ask(&ann, "three", Some(&positions[2]), 0).await;
        assert_eq!(three.status, 200, "{}", three.text());
        town.setup.end().await;
    });
}

#[test]
fn poll_too_many_is_refused_with_the_time_to_come_back() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |config| {
            config.shards = Some(1);
            config.shard_limits.held_max = 1;
        });
        let ann = town.setup.device(&town.ann);
        let bob = town.setup.device(&town.bob);
        let held_pos = ask(&ann, "held", None, 0).await.response().pos;
        let bob_pos = ask(&bob, "b", None, 0).await.response().pos;
        let held = {
            let (ann, held_pos) = (ann.clone(), held_pos.clone());
            task::spawn(async move { ask(&ann, "held", Some(&held_pos), 60_000).await })
        };
        let deadline = clock::monotonic() + PATIENCE;
        let refused = loop {
            let answer = ask(&bob, "b", Some(&bob_pos), 0).await;
            if answer.status != 200 {
                break answer;
            }
            assert!(clock::monotonic() < deadline, "the limit is not kept");
            sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((refused.status, &*refused.errcode()), (429, "M_LIMIT_EXCEEDED"));
        assert!(refused.headers.contains_key("retry-after"));
        town.say(&town.anns, "hello again");
        assert_eq!(held.await.status, 200);
        let bob_again = ask(&bob, "b", Some(&bob_pos), 0).await;
        assert_eq!(bob_again.status, 200, "{}", bob_again.text());
        town.setup.end().await;
    });
}
