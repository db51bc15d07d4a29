//! Filters on what a user may know of a room: as it is, as it was, or as an
//! invite shows it.

use serde_json::{Value, json};

use crate::{
    answers::{position, window},
    driver::{Client, Luge},
    events::{
        ALICE, BOB, all, at, beginning, joined, joined_with, left, list, made, member, merge,
        message, state,
    },
};

fn filtered(filters: &Value) -> Value {
    let mut request = list(1, json!([["m.room.member", "$ME"]]));
    request["lists"]["all"]["filters"] = filters.clone();
    request
}

fn encryption(id: &str) -> Value {
    state(id, "m.room.encryption", "", BOB, json!({"algorithm": "m.megolm.v1.aes-sha2"}))
}

fn typed(prefix: &str, kind: &str) -> Vec<Value> {
    let mut events = beginning(prefix, &[BOB, ALICE]);
    events[0]["content"]["type"] = kind.into();
    events
}

/// The rooms of the list, in order of id.
fn listed(luge: &mut Luge, client: &Client, filters: &Value) -> Vec<String> {
    let answer = luge.ask(client, filtered(filters));
    let mut ids: Vec<String> =
        window(&answer, "all", 0).iter().map(|id| (*id).to_owned()).collect();
    ids.sort_unstable();
    assert_eq!(answer["lists"]["all"]["count"], ids.len(), "{filters}");
    ids
}

/// Goal: a room that becomes encrypted goes from the one list to the other.
#[test]
fn a_room_that_becomes_encrypted_changes_lists() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(&alice, joined("!r:x", &beginning("$r", &[BOB, ALICE])));
    let mut request = filtered(&json!({"is_encrypted": true}));
    request["lists"]["plain"] = filtered(&json!({"is_encrypted": false}))["lists"]["all"].clone();
    let answer = luge.ask(&alice, request.clone());
    assert_eq!((window(&answer, "all", 0), window(&answer, "plain", 0)), (vec![], vec!["!r:x"]));
    luge.sync(&alice, joined("!r:x", &[encryption("$e")]));
    let answer = luge.ask(&alice, at(position(&answer), request));
    assert_eq!((window(&answer, "all", 0), window(&answer, "plain", 0)), (vec!["!r:x"], vec![]));
}

/// Goal: who was thrown out does not learn by a filter what the room became.
#[test]
fn a_room_counts_as_it_was_when_the_user_left() {
    let mut luge = Luge::new();
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.sign_in(BOB, "B"));
    let plain = beginning("$p", &[BOB, ALICE]);
    let secret = [beginning("$s", &[BOB, ALICE]), vec![encryption("$e")]].concat();
    let rooms = all([joined("!plain:x", &plain), joined("!secret:x", &secret)]);
    luge.sync(&alice, rooms.clone());
    luge.sync(&bob, rooms);
    let kicks = ["plain", "secret"]
        .map(|room| (format!("!{room}:x"), made(&format!("$kick-{room}"), BOB, ALICE, "leave")));
    luge.sync(&alice, all(kicks.iter().map(|(room, kick)| left(room, std::slice::from_ref(kick)))));
    let later = kicks.map(|(room, kick)| {
        joined(
            &room,
            &[kick, encryption(&format!("$later-{room}")), message(&format!("$m-{room}"), BOB)],
        )
    });
    luge.sync(&bob, later[0].clone());
    assert_eq!(listed(&mut luge, &alice, &json!({"is_encrypted": false})), ["!plain:x"]);
    assert_eq!(listed(&mut luge, &alice, &json!({"is_encrypted": true})), ["!secret:x"]);
    assert_eq!(listed(&mut luge, &bob, &json!({"is_encrypted": false})), [] as [&str; 0]);
}

/// Goal: the last that is told of a room one left passes the filters that the
/// room passed.
#[test]
fn the_end_of_a_room_is_told_in_the_list_that_had_it() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(
        &alice,
        all([
            joined("!space:x", &typed("$s", "m.space")),
            joined("!secret:x", &[beginning("$e", &[BOB, ALICE]), vec![encryption("$c")]].concat()),
        ]),
    );
    let mut request = filtered(&json!({"is_encrypted": true}));
    request["lists"]["spaces"] =
        filtered(&json!({"room_types": ["m.space"]}))["lists"]["all"].clone();
    let answer = luge.ask(&alice, request.clone());
    luge.sync(
        &alice,
        all(["space", "secret"].map(|room| {
            left(&format!("!{room}:x"), &[member(&format!("$bye-{room}"), ALICE, "leave")])
        })),
    );
    let answer = luge.ask(&alice, at(position(&answer), request.clone()));
    assert_eq!(window(&answer, "all", 0), ["!secret:x"]);
    assert_eq!(window(&answer, "spaces", 0), ["!space:x"]);
    let own = &answer["rooms"]["!secret:x"]["required_state"][0];
    assert_eq!(own["event_id"], "$bye-secret");
    let answer = luge.ask(&alice, at(position(&answer), request));
    assert_eq!(answer["lists"]["all"]["count"], 0);
    assert_eq!(answer["lists"]["spaces"]["count"], 0);
}

/// Goal: an invite is what its stripped state says.
#[test]
fn an_invite_is_filtered_by_its_stripped_state() {
    let invite = |room: &str, create: Value, more: &[Value]| {
        let stripped = |kind: &str, key: &str, content: Value| json!({"type": kind, "state_key": key, "sender": BOB, "content": content});
        let mut events = vec![stripped("m.room.create", "", create)];
        events.extend_from_slice(more);
        events.push(stripped("m.room.member", ALICE, json!({"membership": "invite"})));
        json!({"rooms": {"invite": {room: {"invite_state": {"events": events}}}}})
    };
    let encrypted = json!({
        "type": "m.room.encryption", "state_key": "", "sender": BOB, "content": {"algorithm": "m.x"},
    });
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    luge.sync(
        &alice,
        all([
            invite("!plain:x", json!({}), &[]),
            invite("!secret:x", json!({}), &[encrypted]),
            invite("!space:x", json!({"type": "m.space"}), &[]),
        ]),
    );
    for (filters, expected) in [
        (json!({"is_encrypted": true}), vec!["!secret:x"]),
        (json!({"is_encrypted": false}), vec!["!plain:x", "!space:x"]),
        (json!({"room_types": ["m.space"]}), vec!["!space:x"]),
        (json!({"room_types": [null]}), vec!["!plain:x", "!secret:x"]),
        (json!({"not_room_types": [null]}), vec!["!space:x"]),
    ] {
        assert_eq!(listed(&mut luge, &alice, &filters), expected, "{filters}");
    }
}

/// Goal: of types and tags any of those asked for is enough, and none of those
/// ruled out is let through.
#[test]
fn what_is_ruled_out_wins_over_what_is_asked_for() {
    let tagged = |room: &str, tags: &[&str]| {
        let tags: Value = tags.iter().map(|tag| ((*tag).to_owned(), json!({}))).collect();
        let event = json!({"type": "m.tag", "content": {"tags": tags}});
        joined_with(room, &[], json!({"account_data": {"events": [event]}}))
    };
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let mut rooms = all([
        joined("!none:x", &beginning("$n", &[BOB, ALICE])),
        joined("!space:x", &typed("$s", "m.space")),
        joined("!custom:x", &typed("$c", "org.custom")),
    ]);
    merge(&mut rooms, tagged("!none:x", &["a", "b"]));
    merge(&mut rooms, tagged("!space:x", &["b"]));
    luge.sync(&alice, rooms);
    for (filters, expected) in [
        (json!({"room_types": [null, "org.custom"]}), vec!["!custom:x", "!none:x"]),
        (json!({"room_types": []}), vec![]),
        (json!({"not_room_types": [null, "m.space"]}), vec!["!custom:x"]),
        (json!({"room_types": ["m.space"], "not_room_types": ["m.space"]}), vec![]),
        (json!({"tags": ["a", "z"]}), vec!["!none:x"]),
        (json!({"tags": ["a", "b"]}), vec!["!none:x", "!space:x"]),
        (json!({"not_tags": ["a"]}), vec!["!custom:x", "!space:x"]),
        (json!({"tags": ["b"], "not_tags": ["a"]}), vec!["!space:x"]),
    ] {
        assert_eq!(listed(&mut luge, &alice, &filters), expected, "{filters}");
    }
}

/// Goal: a space shows its children to who is in it, and to nobody else.
#[test]
fn a_space_shows_its_children_to_its_members_alone() {
    let mut luge = Luge::new();
    let (alice, bob) = (luge.sign_in(ALICE, "A"), luge.sign_in(BOB, "B"));
    let child = state("$k", "m.space.child", "!child:x", BOB, json!({"via": ["x"]}));
    let mut space = beginning("$s", &[BOB]);
    space[0]["content"]["type"] = "m.space".into();
    space.push(child);
    let room = joined("!child:x", &beginning("$c", &[BOB, ALICE]));
    luge.sync(&bob, all([joined("!space:x", &space), room.clone()]));
    luge.sync(&alice, room);
    let filters = json!({"spaces": ["!space:x"]});
    assert_eq!(listed(&mut luge, &bob, &filters), ["!child:x"]);
    assert_eq!(listed(&mut luge, &alice, &filters), [] as [&str; 0]);
    let join = member("$join", ALICE, "join");
    luge.sync(&alice, joined("!space:x", &[space, vec![join]].concat()));
    assert_eq!(listed(&mut luge, &alice, &filters), ["!child:x"]);
    luge.sync(&alice, left("!space:x", &[made("$out", BOB, ALICE, "leave")]));
    assert_eq!(listed(&mut luge, &alice, &filters), [] as [&str; 0]);
}

/// Goal: what a request costs does not grow with how many of its lists ask for
/// one space: its children are looked up once.
#[test]
fn a_space_is_looked_up_once_for_all_lists() {
    let mut luge = Luge::new();
    let alice = luge.sign_in(ALICE, "A");
    let child = |at: usize| {
        let content = json!({"via": ["x"]});
        state(&format!("$child{at}"), "m.space.child", &format!("!{at}:x"), BOB, content)
    };
    let space = [typed("$s", "m.space"), (0..40).map(child).collect()].concat();
    let rooms = (0..40).map(|at| {
        joined(&format!("!{at}:x"), &beginning(&format!("$r{at}"), std::slice::from_ref(&ALICE)))
    });
    luge.sync(&alice, all([joined("!space:x", &space)].into_iter().chain(rooms)));
    let lists = |count: usize| {
        let list = filtered(&json!({"spaces": ["!space:x"]}))["lists"]["all"].clone();
        let named = (0..count).map(|at| (format!("l{at}"), list.clone()));
        json!({"lists": named.collect::<serde_json::Map<_, _>>()})
    };
    assert_eq!(luge.ask(&alice, lists(1))["lists"]["l0"]["count"], 40);
    let (one, many) = (luge.reads_for(&alice, lists(1)), luge.reads_for(&alice, lists(50)));
    assert!(many < one + 40, "{one} entries for one list, {many} for fifty");
}
