//! Guards of how a stay ends: what is taken for an end and what is not, and what
//! exactly is left to who has left.

use std::collections::BTreeSet;

use luge_core::{
    id::Sequence,
    ledger::{Command, MemberList, WholeList},
    record::Membership,
    upstream::{RoomBatch, SyncBatch, SyncEvent, Typed},
    view::Table,
};
use serde_json::json;

use crate::table::{
    ALICE, BOB, Books, DAVE, Who, create, event, invited, joined, kick, left, limited, member,
    member_after, message, messages, name, shared_by_three, with_state,
};

const EVE: &str = "@eve:example.org";

fn leaves(id: &str, user_id: &str) -> SyncEvent {
    member_after(id, user_id, "join", "leave")
}

fn is(books: &Books, who: Who) -> Membership {
    books.of_user(who).expect("they have to do with the room").membership
}

/// What Dave is told at his own end, while others still follow the room.
fn history_of_dave(mut timeline: Vec<SyncEvent>) -> RoomBatch {
    timeline.push(leaves("leave50", DAVE));
    RoomBatch { limited: true, ..left(timeline) }
}

#[test]
fn an_end_in_the_timeline_is_where_it_stands_whatever_clocks_say() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![joined(vec![message("m30"), kick("kick11", BOB), message("m12")])]);
    assert_eq!(books.visible(bob).last().unwrap(), "kick11");
    assert_eq!(books.of_user(bob).unwrap().since, books.sequence("kick11"));
    assert!(books.of_user(bob).unwrap().ending.is_empty());
}

#[test]
fn an_end_out_of_a_gap_is_before_all_that_was_sent_later() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let batch = limited(messages(&["m30", "m4-late"]));
    books.poll(alice, vec![with_state(batch, vec![leaves("leave11", BOB)])]);
    assert_eq!(books.of_user(bob).unwrap().since, books.sequence("m5"));
    assert!(books.sees_state(bob, "m.room.create", ""));
}

#[test]
fn an_end_that_is_told_last_is_before_all_that_was_sent_later() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![limited(messages(&["m30", "m4-late"]))]);
    let (room, user) = (books.number(), alice.user);
    let (events, whole) = (vec![leaves("leave11", BOB)], Some(WholeList::default()));
    books.apply(Command::Members(MemberList { room, user, events, whole }));
    assert_eq!(books.of_user(bob).unwrap().since, books.sequence("m5"));
}

#[test]
fn a_stay_is_certain_up_to_its_own_last_event_also_after_a_restart() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let renamed = || vec![message("m20"), member_after("join21", BOB, "join", "join")];
    books.poll(alice, vec![limited(renamed())]);
    books.poll(bob, vec![limited(renamed())]);
    let mut books = Books::open(books.tables, 2_000_000);
    let invite = member_after("invite31", BOB, "leave", "invite");
    books.poll(alice, vec![limited(vec![message("m30"), invite])]);
    assert_eq!(books.visible(bob), ["m20", "join21"]);
}

#[test]
fn an_end_that_is_known_whole_keeps_nothing_apart() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let told = || vec![message("m6"), leaves("leave11", BOB)];
    books.poll(alice, vec![joined(told())]);
    books.poll(bob, vec![left(told())]);
    assert!(books.of_user(bob).unwrap().ending.is_empty());
    let (mut books, [_, bob, _]) = shared_by_three();
    books.poll(bob, vec![left(told())]);
    assert!(books.of_user(bob).unwrap().ending.is_empty());
}

#[test]
fn what_is_kept_apart_has_its_own_token_and_transaction_ids() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    let mut own = message("m9");
    BOB.clone_into(&mut own.sender);
    own.transaction_id = Some("t".to_owned());
    let timeline = vec![own, message("m10"), leaves("leave11", BOB)];
    books.poll(bob, vec![RoomBatch { prev_batch: Some("before".to_owned()), ..left(timeline) }]);
    assert_eq!(books.event("m9").unwrap().prev_batch.as_deref(), Some("before"));
    assert_eq!(books.event("m10").unwrap().prev_batch, None);
    let ids = books.entries(Table::TransactionIds).into_iter().map(|(_, value)| value);
    assert_eq!(ids.filter(|id| id == b"t").count(), 1);
}

#[test]
fn what_was_told_before_the_end_is_not_told_with_it_again() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![joined(messages(&["m6"]))]);
    let told = Sequence(books.sequence("m6"));
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    books.poll(bob, vec![left(vec![message("m6"), message("m7"), leaves("leave11", BOB)])]);
    let news = ["m7", "leave11"].map(str::to_owned).to_vec();
    assert_eq!(books.visible_after(bob, told), (news.clone(), false));
    assert_eq!(books.newest(bob, 2), (news, true));
}

#[test]
fn the_last_events_leave_out_whom_one_ignores_but_not_what_they_did() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    // All that has no other sender is Carol's.
    let ignored = json!({"@carol:example.org": {}});
    let json = json!({"type": "m.ignored_user_list", "content": {"ignored_users": ignored}});
    let data = Typed { kind: "m.ignored_user_list".to_owned(), json: json.to_string().into() };
    let next_batch = Some("2".to_owned());
    let batch = SyncBatch { next_batch, account_data: vec![data], ..SyncBatch::default() };
    books.poll_batch(bob, batch);
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    books.poll(bob, vec![left(vec![message("m9"), kick("kick11", BOB)])]);
    assert_eq!(books.visible(bob), ["kick11"]);
}

#[test]
fn who_was_not_given_what_came_before_their_stay_misses_nothing_of_it() {
    let (mut books, [alice, ..]) = shared_by_three();
    let eve = books.sign_in(EVE, "A");
    let join = || member_after("join6", EVE, "invite", "join");
    books.poll(alice, vec![joined(vec![join()])]);
    books.poll(eve, vec![joined(vec![join()])]);
    let before = Sequence(books.sequence("m4"));
    assert_eq!(books.visible_after(eve, before), (vec!["join6".to_owned()], false));
    books.poll(alice, vec![joined(vec![leaves("leave7", EVE)])]);
    books.poll(eve, vec![left(vec![leaves("leave7", EVE)])]);
    let stay = ["join6", "leave7"].map(str::to_owned).to_vec();
    assert_eq!(books.visible_after(eve, Sequence::default()), (stay.clone(), false));
    // Something lies between what was told in another stay and this one, or not.
    assert_eq!(books.visible_after(eve, before), (stay.clone(), true));
    let next = Sequence(books.sequence("m5"));
    assert_eq!(books.visible_after(eve, next), (stay, false));
}

#[test]
fn a_known_kick_that_another_is_told_as_history_ends_no_later_stay() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    let again = || member_after("join12", BOB, "leave", "join");
    // By a clock that is ahead.
    books.poll(alice, vec![joined(vec![kick("kick99", BOB), again()])]);
    books.poll(bob, vec![limited(vec![again()])]);
    assert_eq!(is(&books, bob), Membership::Join);
    books.poll(dave, vec![history_of_dave(vec![kick("kick99", BOB)])]);
    assert_eq!(is(&books, bob), Membership::Join);
}

#[test]
fn a_kick_in_history_is_older_than_a_join_that_was_sent_just_then() {
    let (mut books, [alice, bob, dave]) = shared_by_three();
    let back = || vec![leaves("leave6", BOB), member_after("join11", BOB, "leave", "join")];
    books.poll(alice, vec![joined(back())]);
    books.poll(bob, vec![limited(back())]);
    books.poll(dave, vec![history_of_dave(vec![kick("kick11", BOB)])]);
    assert_eq!(is(&books, bob), Membership::Join);
}

#[test]
fn state_about_somebody_that_is_no_member_event_ends_no_stay() {
    let (mut books, [_, bob, dave]) = shared_by_three();
    let about = event("about11", "org.example", Some(BOB), &json!({"membership": "leave"}));
    books.poll(dave, vec![history_of_dave(vec![about])]);
    assert_eq!(is(&books, bob), Membership::Join);
}

#[test]
fn an_invite_goes_on_until_somebody_takes_it_back() {
    let (mut books, [alice, ..]) = shared_by_three();
    let eve = books.sign_in(EVE, "A");
    let own = || vec![invited(Vec::new())];
    books.poll(eve, own());
    books.poll(alice, vec![joined(vec![member_after("invite2000006", EVE, "leave", "invite")])]);
    assert_eq!(is(&books, eve), Membership::Invite);
    // All this comes later than the invite, and their own poller has yet to tell of it.
    books.poll(alice, vec![joined(vec![member_after("join2000007", EVE, "invite", "join")])]);
    assert_eq!(is(&books, eve), Membership::Invite);
    books.poll(alice, vec![joined(vec![kick("kick2000008", EVE)])]);
    let record = books.of_user(eve).unwrap();
    assert_eq!((record.membership, record.stripped.len()), (Membership::Kick, 0));
    assert!(books.visible(eve).is_empty());
}

#[test]
fn an_end_that_the_own_poller_has_told_a_return_from_ends_nothing() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(bob, vec![joined(vec![member_after("join8", BOB, "leave", "join")])]);
    books.poll(alice, vec![joined(vec![leaves("leave6", BOB)])]);
    assert_eq!(is(&books, bob), Membership::Join);
}

#[test]
fn an_end_by_a_clock_that_is_behind_ends_a_stay_that_was_known() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let again = || vec![leaves("leave6", BOB), member_after("join14", BOB, "leave", "join")];
    books.poll(alice, vec![joined(again())]);
    books.poll(bob, vec![limited(again())]);
    let counts =
        RoomBatch { notification_count: Some(3), highlight_count: Some(2), ..joined(vec![]) };
    books.poll(bob, vec![counts]);
    // What has come since is known when this is asked for.
    books.poll(alice, Vec::new());
    books.poll(alice, vec![joined(vec![kick("kick9", BOB)])]);
    let record = books.of_user(bob).unwrap();
    assert_eq!(record.membership, Membership::Kick);
    assert_eq!((record.notification_count, record.highlight_count), (0, 0));
}

#[test]
fn who_is_asked_in_again_was_out_also_after_a_stay_that_began_lately() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let again = || vec![leaves("leave6", BOB), member_after("join8", BOB, "leave", "join")];
    books.poll(alice, vec![joined(again())]);
    books.poll(bob, vec![limited(again())]);
    let invite = member_after("invite25", BOB, "leave", "invite");
    books.poll(alice, vec![limited(vec![message("m20"), invite])]);
    assert_eq!(is(&books, bob), Membership::Leave);
}

#[test]
fn who_comes_again_had_left_also_where_nothing_told_how_their_stay_began() {
    let mut books = Books::new();
    let [alice, bob] = [ALICE, BOB].map(|user_id| books.sign_in(user_id, "A"));
    let before = || vec![create(), member("join1", ALICE, "join"), message("m4")];
    books.poll(alice, vec![joined(before())]);
    books.poll(bob, vec![joined(before())]);
    assert_eq!(books.of_user(bob).unwrap().own_event, None);
    // Later than now, when the stay was learnt of.
    let again = member_after("join2000021", BOB, "leave", "join");
    books.poll(alice, vec![limited(vec![message("m20"), again, name("name22", &json!("N"))])]);
    assert_eq!(is(&books, bob), Membership::Leave);
    assert_eq!(books.visible(bob), ["create0", "join1", "m4"]);
}

/// The homeserver has Bob in no room, as of now.
fn bob_is_found_to_be_out(books: &mut Books, bob: Who) {
    books.now_ms += 10_000_000;
    let knew = books.world.sequence;
    books.apply(Command::JoinedRooms { user: bob.user, knew, rooms: BTreeSet::new() });
    let record = books.of_user(bob).expect("he was in the room");
    assert_eq!((record.membership, record.own_event), (Membership::Leave, None));
}

/// Bob's own poller tells of his end, by its event alone.
fn bob_left(books: &mut Books, bob: Who, id: &str) {
    let state = vec![leaves(id, BOB)];
    books.poll(bob, vec![RoomBatch { state, state_is_after: true, ..left(Vec::new()) }]);
    assert_eq!(books.own_event(bob).as_deref(), Some(id));
}

const BEFORE: [&str; 6] = ["create0", "join1", "join2", "join3", "m4", "m5"];

#[test]
fn an_end_that_is_told_without_its_event_keeps_the_known_one() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![joined(vec![kick("kick11", BOB)])]);
    books.poll(bob, vec![left(Vec::new())]);
    assert_eq!(books.own_event(bob).as_deref(), Some("kick11"));
    assert_eq!(books.visible(bob), [&BEFORE[..], &["kick11"]].concat());
}

#[test]
fn who_was_found_to_be_out_sees_their_last_events_when_their_poller_tells() {
    let (mut books, [_, bob, _]) = shared_by_three();
    bob_is_found_to_be_out(&mut books, bob);
    assert_eq!(books.visible(bob), BEFORE);
    books.poll(bob, vec![left(vec![message("m5"), message("m6"), leaves("leave11", BOB)])]);
    assert_eq!(books.visible(bob), [&BEFORE[..], &["m6", "leave11"]].concat());
}

#[test]
fn the_event_of_an_end_that_was_found_says_where_it_was_but_never_later() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![joined(messages(&["m20"]))]);
    bob_is_found_to_be_out(&mut books, bob);
    bob_left(&mut books, bob, "leave11");
    assert_eq!(books.of_user(bob).unwrap().since, books.sequence("m5"));
    let (mut books, [alice, bob, _]) = shared_by_three();
    bob_is_found_to_be_out(&mut books, bob);
    books.poll(alice, vec![joined(messages(&["m20"]))]);
    bob_left(&mut books, bob, "leave30");
    assert_eq!(books.of_user(bob).unwrap().since, books.sequence("m5"));
}

#[test]
fn a_known_end_is_not_moved_by_a_clock() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![joined(vec![message("m30"), kick("kick11", BOB), message("m12")])]);
    let before = books.of_user(bob).unwrap().since;
    let state = vec![kick("kick11", BOB)];
    books.poll(bob, vec![RoomBatch { state, state_is_after: true, ..left(Vec::new()) }]);
    assert_eq!(books.of_user(bob).unwrap().since, before);
}

#[test]
fn what_one_device_told_of_an_end_another_that_was_told_less_does_not_shorten() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    let other = books.sign_in(BOB, "B");
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    let told = |ids: &[&str]| {
        let mut timeline = messages(ids);
        timeline.push(leaves("leave11", BOB));
        vec![left(timeline)]
    };
    books.poll(bob, told(&["m9", "m10"]));
    books.poll(other, told(&["m10"]));
    assert_eq!(books.visible(bob), ["m9", "m10", "leave11"]);
}

#[test]
fn what_others_were_told_behind_a_gap_the_leaver_goes_on_to_without_one() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![limited(vec![message("m20"), leaves("leave21", BOB)])]);
    let own = vec![message("m5"), message("m20"), leaves("leave21", BOB)];
    books.poll(bob, vec![left(own)]);
    assert_eq!(books.visible(bob), [&BEFORE[..], &["m20", "leave21"]].concat());
    assert!(!books.is_limited(bob));
}

#[test]
fn what_is_kept_for_a_leaver_changes_nothing_of_the_timeline() {
    let (mut books, [alice, bob, _]) = shared_by_three();
    books.poll(alice, vec![limited(messages(&["m20"]))]);
    let timeline = vec![message("m20"), message("m21"), leaves("leave22", BOB)];
    let end = RoomBatch { limited: true, prev_batch: Some("own".to_owned()), ..left(timeline) };
    books.poll(bob, vec![end]);
    let event = books.event("m20").unwrap();
    assert_eq!((event.gap_before, event.prev_batch.as_deref()), (true, Some("back")));
    assert_eq!(books.visible(bob), ["m20", "m21", "leave22"]);
}
