//! Tokens that are refused, users who are, and a homeserver that is not there.

use luge_io::{
    task,
    time::{clock, sleep},
};
use luge_loadtest::faults::Fault;
use serde_json::Value;
use std::time::Duration;

use crate::{
    door::{Door, Sign},
    harness::{device::PATIENCE, follower::Trouble, setup::Setup},
    town::{Plan, Town, impatient, on_each_driver},
};

/// A long poll that is waiting, or about to, when the next line of the test runs: both ways of the
/// race must end the same.
const LONG_MS: u64 = 60_000;

#[test]
fn soft_logout_reaches_who_waits_and_a_new_token_goes_on() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut ann = town.setup.follower(&town.ann);
        ann.must_step(0).await;
        ann.drain().await;
        let waiting = task::spawn(async move {
            // News that was on its way may still come first.
            loop {
                if let Err(trouble) = ann.step(LONG_MS).await {
                    break (ann, trouble);
                }
            }
        });
        let token = town.ann.access_token.clone();
        town.setup.act(move |homeserver, _| homeserver.refuse_token(&token, true));
        let (mut ann, trouble) = waiting.await;
        let Trouble::Refused(answer) = trouble else { panic!("{trouble:?}") };
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["errcode"]), (401, &"M_UNKNOWN_TOKEN".into()));
        assert_eq!(body["soft_logout"], true);
        assert_eq!(body["error"], "Invalid access token passed.", "the homeserver's own words");

        town.say(&town.anns, "while logged out");
        let (user_id, device_id) = (town.ann.user_id.clone(), town.ann.device_id.clone());
        let session =
            town.setup.act(move |homeserver, _| homeserver.log_in(&user_id, Some(&device_id)));
        ann.device.token = session.unwrap().access_token;
        for text in ["while logged out", "after"] {
            if text == "after" {
                town.say(&town.anns, text);
            }
            ann.until(text, |ann| ann.has_text(&town.anns, text)).await;
        }
        ann.drain().await;
        ann.compare(&town.setup.facts(&town.ann.user_id));
        assert!(ann.problems.is_empty(), "{:#?}", ann.problems);
        town.setup.end().await;
    });
}

#[test]
fn user_who_is_refused_is_told_and_keeps_the_connection() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut ann = town.setup.follower(&town.ann);
        ann.must_step(0).await;
        ann.drain().await;
        let waiting = task::spawn(async move {
            loop {
                if let Err(trouble) = ann.step(LONG_MS).await {
                    break (ann, trouble);
                }
            }
        });
        let user_id = town.ann.user_id.clone();
        town.setup.act(move |homeserver, _| homeserver.inject(&user_id, &Fault::Status(403), 1));
        let (mut ann, trouble) = waiting.await;
        let Trouble::Refused(answer) = trouble else { panic!("{trouble:?}") };
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(answer.text().contains("Internal server error"), "the homeserver's own words");
        town.say(&town.anns, "after");
        let deadline = clock::monotonic() + PATIENCE;
        while !ann.has_text(&town.anns, "after") {
            assert!(clock::monotonic() < deadline, "the device is wedged");
            if let Err(Trouble::Refused(again)) = ann.step(500).await {
                assert_eq!(again.status, 403, "{}", again.text());
                sleep(Duration::from_millis(20)).await;
            }
        }
        ann.drain().await;
        ann.compare(&town.setup.facts(&town.ann.user_id));
        assert!(ann.problems.is_empty(), "{:#?}", ann.problems);
        town.setup.end().await;
    });
}

#[test]
fn unknown_and_missing_tokens_are_refused() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut device = town.setup.device(&town.ann);
        "syt_made_up".clone_into(&mut device.token);
        let answer = device.ask(None, 0, "{}".to_owned()).await.unwrap();
        assert_eq!((answer.status, &*answer.errcode()), (401, "M_UNKNOWN_TOKEN"));
        device.token.clear();
        let answer = device.ask(None, 0, "{}".to_owned()).await.unwrap();
        assert_eq!((answer.status, &*answer.errcode()), (401, "M_MISSING_TOKEN"));
        town.setup.end().await;
    });
}

#[test]
fn homeserver_that_is_down_at_start_is_named_and_found_when_it_is_up() {
    on_each_driver(|driver| async move {
        let door = Door::new();
        let town = Plan::new(clock::now_ms()).serve(|config| impatient(config, driver));
        let setup = Setup::before(&door.url, |config| {
            impatient(config, driver);
            config.limits.answer_timeout_ms = 300;
        });
        let mut ann = setup.follower(&town.ann);
        for (sign, status) in [(Sign::Shut, 502), (Sign::Silent, 504)] {
            door.turn(sign.clone());
            let Err(Trouble::Refused(answer)) = ann.step(0).await else {
                panic!("{sign:?} should be refused");
            };
            assert_eq!((answer.status, &*answer.errcode()), (status, "M_UNKNOWN"), "{sign:?}");
            assert!(answer.text().contains("the homeserver gives no answer"), "{}", answer.text());
        }
        let address = town.setup.homeserver_url().trim_start_matches("http://").to_owned();
        door.turn(Sign::Open(address));
        ann.must_step(0).await;
        town.say(&town.anns, "up again");
        ann.until("what was said", |ann| ann.has_text(&town.anns, "up again")).await;
        ann.compare(&town.setup.facts(&town.ann.user_id));
        assert!(ann.problems.is_empty(), "{:#?}", ann.problems);
        setup.end().await;
        door.end();
        town.setup.end().await;
    });
}
