//! The filter of polls: stored at the homeserver where it stores one, and in the URL where it does
//! not, or has forgotten it.

use luge_loadtest::{
    model::Session,
    traffic::{Count, Kind},
};

use crate::{
    harness::follower::Follower,
    town::{Town, on_each_driver},
};

/// More polls than it takes until the filter is stored.
const ENOUGH: usize = 6;

fn traffic(town: &Town, session: &Session, kind: Kind) -> Count {
    let device_id = session.device_id.clone();
    town.setup.act(move |homeserver, _| homeserver.traffic().of(&device_id, kind))
}

/// Has the stranger say something so often, and waits for each time.
async fn hear(town: &Town, ann: &mut Follower, what: &str) {
    for number in 0..ENOUGH {
        let text = format!("{what} {number}");
        town.say(&town.anns, &text);
        ann.until(&text, |ann| ann.has_text(&town.anns, &text)).await;
    }
}

#[test]
fn filter_is_stored_once_and_polls_name_it() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut ann = town.setup.follower(&town.ann);
        ann.must_step(0).await;
        hear(&town, &mut ann, "before").await;
        let polls = traffic(&town, &town.ann, Kind::Sync);
        assert!(0 < polls.named_filters && polls.named_filters < polls.asked, "{polls:?}");
        hear(&town, &mut ann, "after").await;
        let later = traffic(&town, &town.ann, Kind::Sync);
        let more = later.asked - polls.asked;
        assert_eq!(later.named_filters - polls.named_filters, more, "{polls:?}, {later:?}");
        assert_eq!(traffic(&town, &town.ann, Kind::Filter).asked, 1);
        assert_eq!(traffic(&town, &town.ann, Kind::FirstSync).asked, 1);
        town.setup.end().await;
    });
}

#[test]
fn homeserver_that_stores_no_filter_is_asked_once() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        town.setup.act(|homeserver, _| homeserver.options.stores_filters = false);
        let mut ann = town.setup.follower(&town.ann);
        ann.must_step(0).await;
        hear(&town, &mut ann, "first").await;
        hear(&town, &mut ann, "second").await;
        assert_eq!(traffic(&town, &town.ann, Kind::Filter).asked, 1);
        assert_eq!(traffic(&town, &town.ann, Kind::Sync).named_filters, 0);
        town.setup.end().await;
    });
}

/// Goal: its answer is the one that an unknown `since` gets, and must not cost an initial sync.
#[test]
fn homeserver_that_forgets_a_filter_is_polled_on() {
    on_each_driver(|driver| async move {
        let town = Town::start(driver, |_| {});
        let mut ann = town.setup.follower(&town.ann);
        ann.must_step(0).await;
        hear(&town, &mut ann, "before").await;
        let named = traffic(&town, &town.ann, Kind::Sync).named_filters;
        assert_ne!(named, 0);
        town.setup.act(|homeserver, _| homeserver.forget_filters());
        hear(&town, &mut ann, "after").await;
        assert_eq!(traffic(&town, &town.ann, Kind::FirstSync).asked, 1);
        // The poll that was under way and the one that learned of it.
        assert!(traffic(&town, &town.ann, Kind::Sync).named_filters <= named + 2);
        assert_eq!(traffic(&town, &town.ann, Kind::Filter).asked, 1);
        town.setup.end().await;
    });
}
