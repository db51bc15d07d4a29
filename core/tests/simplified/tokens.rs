//! Requests whose token the homeserver has yet to speak of: until it has, they do
//! nothing.

use luge_core::{
    request::Dialect,
    shard::{PollOutcome, Refusal, ShardLimits, Ticket, Validation},
};
use serde_json::{Value, json};

use crate::{
    answers::{position, timeline},
    driver::{Client, Luge},
    events::{ALICE, BOB, at, beginning, joined, message, waiting},
};

const DIALECTS: [Dialect; 3] = [Dialect::Simplified, Dialect::V4, Dialect::Msc3575];

/// A device with a token that was good a moment ago, and with an older one.
struct Device {
    luge: Luge,
    client: Client,
    doubtful: Client,
    request: Value,
    first: String,
}

impl Device {
    fn new(dialect: Dialect) -> Self {
        Self::with(dialect, ShardLimits::default())
    }

    fn with(dialect: Dialect, limits: ShardLimits) -> Self {
        let mut luge = Luge::with(limits);
        luge.speak(dialect);
        let doubtful = luge.sign_in_with(ALICE, "A", "/old");
        let client = luge.sign_in_with(ALICE, "A", "/new");
        luge.sync(&client, joined("!r:x", &beginning("$r", &[ALICE, BOB])));
        let mut list = json!({"timeline_limit": 5, "required_state": []});
        if dialect == Dialect::V4 {
            list["required_state"] = json!({"include": []});
        } else {
            list["ranges"] = json!([[0, 9]]);
        }
        let request = json!({"lists": {"all": list}});
        luge.ask(&doubtful, request.clone());
        luge.ask(&client, request.clone());
        luge.sync(&client, json!({}));
        luge.wait(61_000);
        luge.sync(&client, json!({}));
        luge.validates = false;
        let answer = luge.ask(&client, request.clone());
        let first = position(&answer).to_owned();
        Self { luge, client, doubtful, request, first }
    }

    fn named(&self, conn_id: &str) -> Value {
        let mut request = self.request.clone();
        request["conn_id"] = conn_id.into();
        request
    }

    /// Sends with the older token what must not be answered.
    fn doubt(&mut self, request: Value) -> Ticket {
        let ticket = self.luge.send(&self.doubtful, request);
        assert_eq!(self.luge.answered(ticket), None, "the homeserver is asked first");
        ticket
    }

    fn status(&mut self, ticket: Ticket) -> Option<u16> {
        self.luge.answered(ticket).map(|got| got.status)
    }

    fn revoke(&mut self) {
        let refusal = Refusal::new(401, "M_UNKNOWN_TOKEN", "no");
        self.luge.validate(&self.doubtful, Validation::Refused(refusal));
    }
}

/// Goal: with a token that was revoked, of which Luge does not know yet, nobody
/// ends a request, takes in an answer, or restarts a connection.
#[test]
fn a_token_in_doubt_does_nothing_to_a_connection() {
    for dialect in DIALECTS {
        let mut it = Device::new(dialect);
        let (request, first) = (it.request.clone(), it.first.clone());
        let held = it.luge.send(&it.client, waiting(&first, request.clone()));
        let again = it.doubt(at(&first, request.clone()));
        assert_eq!(it.luge.answered(held), None, "{dialect:?}: it waits on");
        it.revoke();
        let anew = it.doubt(request.clone());
        it.revoke();
        assert_eq!(it.luge.answered(held), None, "{dialect:?}: it waits on");
        assert_eq!([again, anew].map(|it_was| it.status(it_was)), [Some(401); 2]);
        it.luge.sync(&it.client, joined("!r:x", &[message("$m", BOB)]));
        let answer = it.luge.body(held);
        assert_eq!(timeline(&answer, "!r:x"), ["$m"], "{dialect:?}");
        let taken_in = it.doubt(at(position(&answer), request.clone()));
        it.revoke();
        assert_eq!(it.status(taken_in), Some(401));
        let answer = it.luge.ask(&it.client, at(&first, request));
        assert_eq!(timeline(&answer, "!r:x"), ["$m"], "{dialect:?}: it was lost, and comes again");
    }
}

/// Goal: nor does it cost the device a connection, where there is no place for
/// more.
#[test]
fn a_token_in_doubt_takes_no_connections_place() {
    for dialect in DIALECTS {
        let limits = ShardLimits { connections_max: 1, ..ShardLimits::default() };
        let mut it = Device::with(dialect, limits);
        let other = it.doubt(it.named("other"));
        it.revoke();
        assert_eq!(it.status(other), Some(401));
        let held = it.luge.send(&it.client, waiting(&it.first, it.request.clone()));
        let other = it.doubt(it.named("other"));
        assert_eq!(it.luge.answered(held), None, "{dialect:?}: it waits on");
        it.revoke();
        assert_eq!(it.status(other), Some(401));
        it.luge.sync(&it.client, joined("!r:x", &[message("$m", BOB)]));
        assert_eq!(timeline(&it.luge.body(held), "!r:x"), ["$m"], "{dialect:?}");
    }
}

/// Goal: once the homeserver has said that the token is good, the request counts
/// as any other: it ends the one that waits, and is answered.
#[test]
fn a_token_that_is_found_good_has_its_request_go_on() {
    for dialect in DIALECTS {
        let mut it = Device::new(dialect);
        let (request, first) = (it.request.clone(), it.first.clone());
        let held = it.luge.send(&it.client, waiting(&first, request.clone()));
        let newer = it.doubt(waiting(&first, request));
        it.luge.validate(&it.doubtful, Validation::Valid);
        it.luge.body(held);
        it.luge.sync(&it.client, joined("!r:x", &[message("$m", BOB)]));
        if dialect == Dialect::Msc3575 {
            it.luge.body(newer);
        } else {
            assert_eq!(timeline(&it.luge.body(newer), "!r:x"), ["$m"]);
        }
    }
}

/// Goal: what the homeserver refuses the owner of one token, nobody is told who
/// asks with another of which it has yet to speak.
#[test]
fn a_token_in_doubt_is_told_nothing_of_anothers_refusal() {
    for dialect in DIALECTS {
        let mut it = Device::new(dialect);
        let held = it.luge.send(&it.client, waiting(&it.first, it.request.clone()));
        let doubtful = it.doubt(it.named("other"));
        let consent = Refusal::new(403, "M_CONSENT_NOT_GIVEN", "agree first");
        it.luge.end_poll(&it.client, PollOutcome::Refused(consent));
        assert_eq!([held, doubtful].map(|ticket| it.status(ticket)), [Some(403), None]);
        it.revoke();
        assert_eq!(it.status(doubtful), Some(401), "{dialect:?}: it is told its own");
    }
}

/// Goal: of two tokens in doubt, the request that came last ends the other,
/// whichever token is found good first.
#[test]
fn of_several_tokens_in_doubt_the_last_request_counts() {
    for older_first in [true, false] {
        let mut it = Device::new(Dialect::Simplified);
        let third = it.luge.sign_in_with(ALICE, "A", "/third");
        let request = waiting(&it.first, it.request.clone());
        let older = it.doubt(request.clone());
        let newer = it.luge.send(&third, request);
        let (doubtful, mut good) = (it.doubtful.clone(), vec![third]);
        good.insert(usize::from(!older_first), doubtful);
        for client in good {
            it.luge.validate(&client, Validation::Valid);
        }
        assert_eq!(it.status(older), Some(if older_first { 200 } else { 504 }));
        assert_eq!(it.luge.answered(newer), None);
        it.luge.sync(&it.client, joined("!r:x", &[message("$m", BOB)]));
        assert_eq!(timeline(&it.luge.body(newer), "!r:x"), ["$m"]);
    }
}

/// Goal: what waits for the homeserver's word is ended by newer requests of the
/// same token and by those of a good one, can be abandoned, and waits neither in
/// any number nor for ever.
#[test]
fn what_waits_for_a_token_is_bounded() {
    let limits = ShardLimits { connections_max: 2, ..ShardLimits::default() };
    let mut it = Device::with(Dialect::Simplified, limits);
    let again = || at(&it.first, it.request.clone());
    let (one, two, three) = (again(), again(), again());
    let first = it.doubt(one);
    let second = it.doubt(two);
    assert_eq!((it.status(first), it.status(second)), (Some(504), None), "a newer one");
    it.luge.ask(&it.client, three);
    assert_eq!(it.status(second), Some(504), "one that is known to be good");
    let many = ["a", "b", "c"].map(|name| it.doubt(it.named(name)));
    let refused = many.map(|ticket| it.status(ticket));
    assert_eq!(refused, [Some(429), None, None], "no more than a device has connections");
    it.luge.abandon(many[1]);
    it.luge.wait(30_000);
    assert_eq!([many[1], many[2]].map(|ticket| it.status(ticket)), [None, Some(504)]);
    it.luge.validate(&it.doubtful, Validation::Valid);
    assert_eq!(it.status(many[1]), None, "nobody is there to be answered");
}
