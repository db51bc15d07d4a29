//! Clients that come to Luge from the homeserver's own sliding sync, with its
//! positions and tokens still at hand.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    driver::{Client, Luge},
    homeserver::Homeserver,
    recording::{Conversation, Exchange, Stand, conversations, elements, text},
};

/// A Luge that knows all that the homeserver knew in the end, and the users.
fn after(conversation: &Conversation) -> (Luge, BTreeMap<&str, Client>) {
    let homeserver = Homeserver::of(conversation);
    let stands = conversation.exchanges.iter().filter_map(Exchange::answered_at);
    let end = stands.fold(Stand::default(), Stand::max);
    let mut luge = Luge::new();
    luge.pages_by_event = true;
    let mut clients = BTreeMap::new();
    for exchange in &conversation.exchanges {
        clients.entry(&*exchange.user).or_insert_with(|| {
            let client = luge.sign_in(&exchange.user, &exchange.device);
            let first = homeserver.sync(&exchange.user, None, end);
            luge.sync(&client, first.expect("a first answer is never nothing"));
            client
        });
    }
    (luge, clients)
}

/// Goal: a position of the homeserver's own sliding sync starts a client anew,
/// whatever it says, and never ends in another error, which clients repeat for
/// ever.
#[test]
fn positions_of_the_homeserver_are_unknown() {
    let mut tried = 0;
    for conversation in conversations() {
        let (mut luge, clients) = after(&conversation);
        for exchange in &conversation.exchanges {
            let Some(pos) = &exchange.query.pos else { continue };
            let mut request = exchange.request.clone();
            (request["pos"], request["timeout"]) = (pos.clone().into(), json!("30000"));
            let refused = luge.refused(&clients[&*exchange.user], request);
            assert_eq!(refused, (400, "M_UNKNOWN_POS".to_owned()), "{pos}");
            tried += 1;
        }
    }
    assert_eq!(tried, 101);
}

/// Goal: a token of the homeserver's acknowledges no message that Luge has, and
/// Luge's own go on from behind it.
#[test]
fn tokens_of_the_homeserver_acknowledge_nothing() {
    let mut messages = 0;
    for conversation in conversations() {
        let mut first: BTreeMap<&str, (&Exchange, &str)> = BTreeMap::new();
        let mut sent: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for exchange in &conversation.exchanges {
            let since = &exchange.request["extensions"]["to_device"]["since"];
            if let Some(since) = since.as_str() {
                // The least token: as many messages could be taken for acknowledged.
                first.entry(&exchange.user).or_insert((exchange, since));
            }
            let response = exchange.response.iter();
            let events = response.flat_map(|it| elements(&it["extensions"]["to_device"]["events"]));
            sent.entry(&exchange.user).or_default().extend(events);
        }
        let (mut luge, clients) = after(&conversation);
        for (user, (exchange, since)) in first {
            let answer = luge.ask(&clients[user], exchange.request.clone());
            let to_device = &answer["extensions"]["to_device"];
            let events: Vec<_> = elements(&to_device["events"]).iter().collect();
            assert_eq!(events, sent[user], "{user}");
            let [since, next] = [since, text(&to_device["next_batch"])]
                .map(|token| token.parse::<usize>().expect("a token is a number"));
            assert_eq!(next, since + events.len(), "{user}");
            messages += events.len();
        }
    }
    assert_eq!(messages, 4);
}
