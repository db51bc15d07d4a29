//! Guards of how a stay ends: what is taken for an end and what is not, and what
//! exactly is left to who has left.

use luge_core::{
    id::Sequence,
    record::Membership,
    upstream::{RoomBatch, SyncBatch, SyncEvent, Typed},
    view::Table,
};
use serde_json::json;

use crate::table::{
    ALICE, BOB, Books, Who, create, event, invited, joined, kick, left, limited, member,
    member_after, message, messages, name, with_state,
};

const DAVE: &str = "@dave:example.org";
const EVE: &str = "@eve:example.org";

/// A room that three have been told of up to `m5`.
fn shared() -> (Books, [Who; 3]) {
    let mut books = Books::new();
    let all = [ALICE, BOB, DAVE].map(|user_id| books.sign_in(user_id, "A"));
    let mut timeline = vec![create(), member("join1", ALICE, "join"), member("join2", BOB, "join")];
    timeline.push(member("join3", DAVE, "join"));
    timeline.extend(messages(&["m4", "m5"]));
    for who in all {
        books.poll(who, vec![joined(timeline.clone())]);
    }
    (books, all)
}

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
    let (mut books, [alice, bob, _]) = shared();
    books.poll(alice, vec![joined(vec![message("m30"), kick("kick11", BOB), message("m12")])]);
    assert_eq!(books.visible(bob).last().unwrap(), "kick11");
    assert_eq!(books.of_user(bob).unwrap().since, books.sequence("kick11"));
    assert!(books.of_user(bob).unwrap().ending.is_empty());
}

#[test]
fn an_end_out_of_a_gap_is_before_all_that_was_sent_later() {
    let (mut books, [alice, bob, _]) = shared();
    let batch = limited(messages(&["m30", "m4-late"]));
    books.poll(alice, vec![with_state(batch, vec![leaves("leave11", BOB)])]);
    assert_eq!(books.of_user(bob).unwrap().since, books.sequence("m5"));
    assert!(books.sees_state(bob, "m.room.create", ""));
}

#[test]
fn an_end_that_is_known_whole_keeps_nothing_apart() {
    let (mut books, [alice, bob, _]) = shared();
    let told = || vec![message("m6"), leaves("leave11", BOB)];
    books.poll(alice, vec![joined(told())]);
    books.poll(bob, vec![left(told())]);
    assert!(books.of_user(bob).unwrap().ending.is_empty());
    let (mut books, [_, bob, _]) = shared();
    books.poll(bob, vec![left(told())]);
    assert!(books.of_user(bob).unwrap().ending.is_empty());
}

#[test]
fn what_is_kept_apart_has_its_own_token_and_transaction_ids() {
    let (mut books, [alice, bob, _]) = shared();
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
    let (mut books, [alice, bob, _]) = shared();
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
    let (mut books, [alice, bob, _]) = shared();
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
    let (mut books, [alice, ..]) = shared();
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
    let (mut books, [alice, bob, dave]) = shared();
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
    let (mut books, [alice, bob, dave]) = shared();
    let back = || vec![leaves("leave6", BOB), member_after("join11", BOB, "leave", "join")];
    books.poll(alice, vec![joined(back())]);
    books.poll(bob, vec![limited(back())]);
    books.poll(dave, vec![history_of_dave(vec![kick("kick11", BOB)])]);
    assert_eq!(is(&books, bob), Membership::Join);
}

#[test]
fn state_about_somebody_that_is_no_member_event_ends_no_stay() {
    let (mut books, [_, bob, dave]) = shared();
    let about = event("about11", "org.example", Some(BOB), &json!({"membership": "leave"}));
    books.poll(dave, vec![history_of_dave(vec![about])]);
    assert_eq!(is(&books, bob), Membership::Join);
}

#[test]
fn an_invite_goes_on_until_somebody_takes_it_back() {
    let (mut books, [alice, ..]) = shared();
    let eve = books.sign_in(EVE, "A");
    let own = || vec![invited(Vec::new())];
    books.poll(eve, own());
    books.poll(alice, vec![joined(vec![member_after("invite6", EVE, "leave", "invite")])]);
    assert_eq!(is(&books, eve), Membership::Invite);
    // Their own poller has yet to tell of what others were told of their join.
    books.poll(alice, vec![joined(vec![member_after("join7", EVE, "invite", "join")])]);
    assert_eq!(is(&books, eve), Membership::Invite);
    books.poll(alice, vec![joined(vec![kick("kick8", EVE)])]);
    let record = books.of_user(eve).unwrap();
    assert_eq!((record.membership, record.stripped.len()), (Membership::Kick, 0));
    assert!(books.visible(eve).is_empty());
}

#[test]
fn an_end_that_the_own_poller_has_told_a_return_from_ends_nothing() {
    let (mut books, [alice, bob, _]) = shared();
    books.poll(bob, vec![joined(vec![member_after("join8", BOB, "leave", "join")])]);
    books.poll(alice, vec![joined(vec![leaves("leave6", BOB)])]);
    assert_eq!(is(&books, bob), Membership::Join);
}

#[test]
fn an_end_by_a_clock_that_is_behind_ends_a_stay_that_was_known() {
    let (mut books, [alice, bob, _]) = shared();
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
    let (mut books, [alice, bob, _]) = shared();
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
