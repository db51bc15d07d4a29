//! What the towns do not live through: other people's positions, people whom one
//! ignores, an end that changes no count, and one that the leaver alone is told of.

use luge_core::request::Dialect;
use serde_json::json;

use crate::{
    answers::position,
    events::{ALICE, BOB, at, invited, joined, joined_with, left, made, member, message, state},
    relations::Relation,
    requests,
    secrecy::differences,
    town::{DORA, INVITE, Look, Observer, ROOM, SECRET, Seen, Town, text_of},
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

/// What an observer sees where Eve leaves, or does not, of which her own poller alone
/// tells, beside the timeline; then Bob's poller tells that he was out before, or
/// Alice's tells of both.
fn around_a_lone_end(
    dialect: Dialect,
    observer: Observer,
    (she_leaves, is_told): (bool, Option<Observer>),
) -> Vec<Seen> {
    let mut town = Town::new(dialect);
    let eve = town.luge.sign_in("@eve:x", "E");
    let events = [member("$eve", "@eve:x", "join"), message("$eve-hello", "@eve:x")];
    town.happens(&events);
    town.luge.sync(&eve, joined(ROOM, &events));
    Relation::Member.begin(&mut town);
    town.life_goes_on();
    let names = requests::all(dialect).into_iter().map(|(name, _)| name).collect();
    let mut look = Look::begin(&mut town, observer, &names);
    look.go_on(&mut town);
    look.end(&mut town, |town| {
        let mut kick = made("$out", ALICE, BOB, "leave");
        kick["origin_server_ts"] = (town.luge.now_ms() - 2).into();
        let mut end = made("$s3cret", "@eve:x", "@eve:x", "leave");
        end["origin_server_ts"] = (town.luge.now_ms() - 1).into();
        end["content"]["displayname"] = SECRET.into();
        if she_leaves {
            let mut answer = left(ROOM, std::slice::from_ref(&end));
            answer["rooms"]["leave"][ROOM]["timeline"]["limited"] = true.into();
            town.luge.sync(&eve, answer);
        }
        match is_told {
            Some(Observer::Bob) => town.bob_hears(left(ROOM, &[kick])),
            Some(_) => {
                let end = Some(end).filter(|_| she_leaves);
                town.alice_hears(joined(
                    ROOM,
                    &[[kick].to_vec(), end.into_iter().collect()].concat(),
                ));
            }
            None => {}
        }
    })
}

/// Goal: the end of a stay that the leaver's own poller tells, ahead of all others,
/// changes nothing for who is taken for a member, since they may have been out by
/// then; nor for who was, when that is told. When another's poller tells of it, who is
/// there is shown it.
#[test]
fn an_end_that_the_leaver_alone_is_told_of_shows_to_nobody_else() {
    let (alice, bob) = (Observer::Alice, Observer::Bob);
    for dialect in DIALECTS {
        for (observer, is_told) in [(alice, None), (bob, None), (bob, Some(bob))] {
            let [quiet, seen] =
                [false, true].map(|leaves| around_a_lone_end(dialect, observer, (leaves, is_told)));
            let found = differences(&quiet, &seen);
            assert!(found.is_empty(), "{dialect:?}, {observer:?}, {is_told:?}: {found:#.500?}");
            assert!(!text_of(&seen).contains(SECRET), "{dialect:?}, {observer:?}, {is_told:?}");
        }
        for (observer, shows) in [(bob, false), (alice, true)] {
            let seen = around_a_lone_end(dialect, observer, (true, Some(alice)));
            assert_eq!(text_of(&seen).contains(SECRET), shows, "{dialect:?}, {observer:?}");
        }
    }
}

/// What an observer sees where Alice is given a member who speaks, or is not, and Bob's
/// poller tells then that he was out before, or does not tell of anything.
fn around_a_given_member(
    dialect: Dialect,
    observer: Observer,
    (is_given, is_out): (bool, bool),
) -> Vec<Seen> {
    let mut town = Town::new(dialect);
    Relation::Member.begin(&mut town);
    town.life_goes_on();
    let names = requests::all(dialect).into_iter().map(|(name, _)| name).collect();
    let mut look = Look::begin(&mut town, observer, &names);
    town.lacks_a_member();
    look.go_on(&mut town);
    look.end(&mut town, |town| {
        let mut kick = made("$out", ALICE, BOB, "leave");
        kick["origin_server_ts"] = (town.luge.now_ms() - 1).into();
        if is_given {
            town.is_given_a_member();
        }
        if is_out {
            town.bob_hears(left(ROOM, &[kick]));
        }
    })
}

/// Goal: a member that was fetched for somebody changes nothing for who is taken for
/// a member, since they may have been out by then, whatever their clocks say; nor for
/// who was, when that is told. To whom it was given it is shown at once.
#[test]
fn a_member_that_was_fetched_for_one_shows_to_nobody_else() {
    for dialect in DIALECTS {
        for is_out in [false, true] {
            let [quiet, seen] = [false, true]
                .map(|given| around_a_given_member(dialect, Observer::Bob, (given, is_out)))
                // What he lacks he may be given by himself.
                .map(|seen| {
                    seen.into_iter().filter(|it| it.request != "fetches").collect::<Vec<_>>()
                });
            let found = differences(&quiet, &seen);
            assert!(found.is_empty(), "{dialect:?}, {is_out}: {found:#.500?}");
            assert!(!text_of(&seen).contains(SECRET), "{dialect:?}, {is_out}");
        }
        let seen = around_a_given_member(dialect, Observer::Alice, (true, false));
        assert!(text_of(&seen).contains(SECRET), "{dialect:?}");
    }
}
