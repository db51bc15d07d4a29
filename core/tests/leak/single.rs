//! What the towns do not live through: other people's positions, people whom one
//! ignores, and an end that changes no count.

use luge_core::request::Dialect;
use serde_json::json;

use crate::{
    answers::position,
    events::{ALICE, BOB, at, invited, joined, joined_with, made, member, message, state},
    relations::Relation,
    requests,
    town::{DORA, INVITE, Observer, ROOM, SECRET, Town},
};

const DIALECTS: [Dialect; 3] = [Dialect::Simplified, Dialect::V4, Dialect::Msc3575];

/// Goal: a position is of no use to another user, nor to another device.
#[test]
fn positions_of_others_open_nothing() {
    for dialect in DIALECTS {
        let mut town = Town::new(dialect);
        Relation::Member.begin(&mut town);
        let alice = town.client(Observer::Alice);
        for (name, body) in requests::all(dialect) {
            let answer = town.ask(&alice, "main", &body);
            for other in [Observer::Bob, Observer::SecondDevice] {
                let client = town.client(other);
                let mut request = at(position(&answer), body.clone());
                request["conn_id"] = "main".into();
                let refused = town.luge.refused(&client, request);
                let unknown = (400, "M_UNKNOWN_POS".to_owned());
                assert_eq!(refused, unknown, "{dialect:?}, {name}, {other:?}");
            }
        }
    }
}

/// Goal: of somebody whom Bob ignores, he sees neither messages nor invites, also
/// where he asks for the very room; Alice sees the messages.
#[test]
fn people_whom_one_ignores_are_not_heard() {
    for dialect in DIALECTS {
        let mut town = Town::new(dialect);
        Relation::Member.begin(&mut town);
        let ignored = json!({"ignored_users": {DORA: {}}});
        town.bob_hears(json!({"account_data": {"events": [
            {"type": "m.ignored_user_list", "content": ignored},
        ]}}));
        town.happens(&[message("$s3cret", DORA), message("$heard", ALICE)]);
        let mut invite = invited(INVITE, DORA, BOB);
        let stripped = &mut invite["rooms"]["invite"][INVITE]["invite_state"]["events"];
        stripped[1]["content"]["name"] = SECRET.into();
        town.bob_hears(invite);
        town.luge.wait(5_000);
        for (name, body) in requests::all(dialect) {
            let [bob, alice] = [Observer::Bob, Observer::Alice].map(|it| town.client(it));
            let answer = town.ask(&bob, "main", &body);
            assert!(!answer.to_string().contains(SECRET), "{dialect:?}, {name}: {answer}");
            let of_others = town.ask(&alice, "main", &body).to_string();
            if name == "everything" {
                assert!(answer.to_string().contains("$heard"), "{dialect:?}: {answer}");
                assert!(of_others.contains(SECRET), "{dialect:?}: {of_others}");
            }
        }
    }
}

/// Goal: an alias that comes after the end is not the room's name for who left,
/// also where the end itself changed no count.
#[test]
fn a_later_alias_names_no_room_that_was_left() {
    let mut town = Town::new(Dialect::Msc3575);
    // So many that Bob is none of those whom the room would be named after.
    let others = ["@e1:x", "@e2:x", "@e3:x", "@e4:x", "@e5:x"];
    town.happens(&others.map(|it| member(&format!("${it}"), it, "join")));
    Relation::Member.begin(&mut town);
    let body = requests::all(Dialect::Msc3575).swap_remove(0).1;
    let bob = town.client(Observer::Bob);
    let alias = |alias: &str| {
        let content = json!({"alias": alias});
        state(&format!("${}", &alias[1..]), "m.room.canonical_alias", "", ALICE, content)
    };
    town.happens(&[alias("#early:x")]);
    let before = town.ask(&bob, "main", &body);
    assert_eq!(before["rooms"][ROOM]["name"], "#early:x");
    // Bob goes, and somebody whom Luge was not told of has come.
    let end = [made("$out", ALICE, BOB, "leave")];
    let same = json!({"summary": {"m.joined_member_count": 8}});
    town.alice_hears(joined_with(ROOM, &end, same));
    town.alice_hears(joined(ROOM, &[alias("#s3cret:x")]));
    let after = town.ask(&bob, "main", &at(position(&before), body.clone()));
    assert!(after["rooms"][ROOM].is_object(), "{after}");
    assert!(!after.to_string().contains(SECRET), "{after}");
    let fresh = town.ask(&bob, "fresh", &body);
    assert!(!fresh.to_string().contains(SECRET), "{fresh}");
}

/// Goal: who asks for more state is not told what went before they came.
#[test]
fn what_was_gone_before_a_stay_is_not_told_to_be_gone() {
    for dialect in DIALECTS {
        let mut town = Town::new(dialect);
        town.hides_end_of_state();
        town.misses_state();
        Relation::Member.begin(&mut town);
        let bob = town.client(Observer::Bob);
        let (name, little) = requests::all(dialect).swap_remove(3);
        assert_eq!(name, "lazy");
        let answer = town.ask(&bob, "main", &little);
        let request = at(position(&answer), requests::all_of_room(dialect));
        let answer = town.ask(&bob, "main", &request);
        assert!(answer["rooms"][ROOM]["required_state"].is_array(), "{dialect:?}: {answer}");
        assert!(!answer.to_string().contains(SECRET), "{dialect:?}: {answer}");
    }
}
