//! `/sync` version 2, rule by rule, on the model alone.

use crate::common::{
    LAZY, NOW, call, events, join, members, people, shared_room, summary, sync, sync_target,
    sync_with,
};
use luge_loadtest::api::{Answer, Request};
use luge_loadtest::model::{Homeserver, Membership, NewRoom, Session};
use serde_json::{Value, json};

fn say(homeserver: &mut Homeserver, room: &str, who: &str, text: &str) {
    homeserver.say(room, who, text, NOW).unwrap();
}

/// Goal: an initial sync has the newest events, says that there are more, and has state as of before them.
#[test]
fn initial_sync_has_the_newest_events_and_the_state_before_them() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room = shared_room(&mut homeserver, &[&ann, &bob]);
    for text in ["1", "2", "3", "4", "5", "6"] {
        say(&mut homeserver, &room, &ann.user_id, text);
    }
    let (answer, _) = sync(&mut homeserver, &ann, None);
    let entry = &answer["rooms"]["join"][&room];
    assert_eq!(summary(&entry["timeline"]), ["2", "3", "4", "5", "6"]);
    assert_eq!(entry["timeline"]["limited"], true);
    assert!(summary(&entry["state"]).contains(&"m.room.create".to_owned()));
    assert_eq!(members(&entry["state"]), [ann.user_id.as_str()], "bob said nothing");
    assert_eq!(entry["summary"]["m.joined_member_count"], 2);
    assert!(entry["summary"]["m.heroes"].is_null(), "the room has a name");
    assert!(events(&answer["account_data"]).iter().any(|event| event["type"] == "m.push_rules"));
    assert_eq!(answer["device_one_time_keys_count"]["signed_curve25519"], 50);
    assert!(answer["device_lists"].is_null());
}

/// Goal: an incremental sync has what is new and nothing else; nothing new gives nothing.
#[test]
fn incremental_sync_has_only_what_is_new() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room = shared_room(&mut homeserver, &[&ann, &bob]);
    let quiet = shared_room(&mut homeserver, &[&bob]);
    let (_, since) = sync(&mut homeserver, &bob, None);
    let (nothing, _) = sync(&mut homeserver, &bob, Some(&since));
    assert!(nothing["rooms"].is_null());
    say(&mut homeserver, &room, &ann.user_id, "hello");
    let (answer, next) = sync(&mut homeserver, &bob, Some(&since));
    let entry = &answer["rooms"]["join"][&room];
    assert_eq!(summary(&entry["timeline"]), ["hello"]);
    assert_eq!(entry["timeline"]["limited"], false);
    assert_eq!(
        members(&entry["state"]),
        [ann.user_id.as_str()],
        "the sender's member event, lazily"
    );
    assert_eq!(entry["unread_notifications"]["notification_count"], 1);
    assert!(answer["rooms"]["join"][&quiet].is_null());
    let (again, _) = sync(&mut homeserver, &bob, Some(&since));
    assert_eq!(again["rooms"]["join"][&room]["timeline"], entry["timeline"]);
    assert!(sync(&mut homeserver, &bob, Some(&next)).0["rooms"].is_null());
}

/// Goal: after a gap, state that changed inside of the gap comes in `state`, and all of it in `state_after`.
#[test]
fn gap_brings_the_state_that_changed_in_it() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room = shared_room(&mut homeserver, &[&ann, &bob]);
    let (_, since) = sync(&mut homeserver, &bob, None);
    let topic = |text: &str| json!({"topic": text});
    let key = ("m.room.topic", "");
    homeserver.set_state(&room, &ann.user_id, key, topic("in the gap"), NOW).unwrap();
    for text in ["1", "2", "3", "4"] {
        say(&mut homeserver, &room, &ann.user_id, text);
    }
    let name = json!({"name": "New"});
    homeserver.set_state(&room, &ann.user_id, ("m.room.name", ""), name, NOW).unwrap();
    let (answer, _) = sync(&mut homeserver, &bob, Some(&since));
    let entry = &answer["rooms"]["join"][&room];
    assert_eq!(entry["timeline"]["limited"], true);
    assert_eq!(summary(&entry["timeline"]), ["1", "2", "3", "4", "m.room.name"]);
    let state = summary(&entry["state"]);
    assert!(state.contains(&"m.room.topic".into()) && !state.contains(&"m.room.name".into()));

    for parameter in ["&use_state_after=true", "&org.matrix.msc4222.use_state_after=true"] {
        let (answer, _) = sync_with(&mut homeserver, &bob, Some(&since), LAZY, parameter);
        let entry = &answer["rooms"]["join"][&room];
        assert!(entry["state"].is_null());
        let after = summary(&entry["org.matrix.msc4222.state_after"]);
        assert!(after.contains(&"m.room.topic".into()) && after.contains(&"m.room.name".into()));
    }
    homeserver.options.state_after = false;
    let (answer, _) = sync_with(&mut homeserver, &bob, Some(&since), LAZY, "&use_state_after=true");
    assert!(answer["rooms"]["join"][&room]["state"].is_object());
}

/// Goal: `prev_batch` continues in `/messages` exactly where the timeline ends, and so does `start` of `/context`.
#[test]
fn messages_continue_before_the_timeline_without_hole_or_overlap() {
    let (mut homeserver, [ann]) = people(["ann"]);
    let room = shared_room(&mut homeserver, &[&ann]);
    for number in 0..40 {
        say(&mut homeserver, &room, &ann.user_id, &number.to_string());
    }
    let (answer, _) = sync(&mut homeserver, &ann, None);
    let timeline = &answer["rooms"]["join"][&room]["timeline"];
    let mut seen: Vec<String> =
        events(timeline).iter().map(|event| event["event_id"].as_str().unwrap().into()).collect();
    let path = format!("/_matrix/client/v3/rooms/{room}");
    let context = format!("{path}/context/{}?limit=0", seen[0].replace('$', "%24"));
    let start = call(&mut homeserver, &ann, "GET", &context, None).json()["start"].clone();
    assert_eq!(start, timeline["prev_batch"]);
    let mut from = timeline["prev_batch"].as_str().unwrap().to_owned();
    loop {
        let target = format!("{path}/messages?dir=b&limit=7&from={from}");
        let page = call(&mut homeserver, &ann, "GET", &target, None).json();
        for event in page["chunk"].as_array().unwrap() {
            assert_eq!(event["room_id"], *room);
            seen.insert(0, event["event_id"].as_str().unwrap().into());
        }
        match page["end"].as_str() {
            Some(end) => from = end.to_owned(),
            None => break,
        }
    }
    let all: Vec<&str> =
        homeserver.room(&room).unwrap().events.iter().map(|event| &*event.event_id).collect();
    assert_eq!(seen, all);
}

/// Goal: an invite comes with stripped state, the own member event last; joining brings the whole room.
#[test]
fn invite_comes_stripped_and_joining_brings_the_room() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let (_, since) = sync(&mut homeserver, &bob, None);
    let new = NewRoom {
        name: Some("Choir".into()),
        invite: vec![bob.user_id.clone()],
        direct: true,
        ..NewRoom::default()
    };
    let room = homeserver.create_room(&ann.user_id, &new, NOW);
    let (answer, since) = sync(&mut homeserver, &bob, Some(&since));
    let stripped = &answer["rooms"]["invite"][&room]["invite_state"];
    assert!(summary(stripped).contains(&"m.room.name".to_owned()));
    let own = events(stripped).last().unwrap();
    assert_eq!(own["state_key"], *bob.user_id);
    assert_eq!(own["content"]["is_direct"], true);
    assert!(own["event_id"].is_null() && own["origin_server_ts"].is_null());
    say(&mut homeserver, &room, &ann.user_id, "not for bob yet");
    let (quiet, since) = sync(&mut homeserver, &bob, Some(&since));
    assert!(quiet["rooms"].is_null(), "an invite is told once");

    join(&mut homeserver, &room, &bob);
    let (answer, _) = sync(&mut homeserver, &bob, Some(&since));
    let entry = &answer["rooms"]["join"][&room];
    assert!(answer["rooms"]["invite"].is_null());
    assert_eq!(entry["timeline"]["limited"], true, "newly joined");
    assert!(summary(&entry["timeline"]).contains(&"not for bob yet".to_owned()), "shared history");
    assert!(summary(&entry["state"]).contains(&"m.room.create".to_owned()));
    assert_eq!(answer["device_lists"]["changed"], json!([ann.user_id, bob.user_id]));
}

/// Goal: a kick shows what came up to it and nothing later, in incremental and in initial syncs; leaving of oneself
/// shows in the former only.
#[test]
fn kicked_user_sees_the_room_up_to_the_kick() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room = shared_room(&mut homeserver, &[&ann, &bob]);
    let (_, since) = sync(&mut homeserver, &bob, None);
    say(&mut homeserver, &room, &ann.user_id, "goodbye");
    let target = (bob.user_id.as_str(), Membership::Leave);
    homeserver.set_membership(&room, &ann.user_id, target, Some("rude"), NOW).unwrap();
    say(&mut homeserver, &room, &ann.user_id, "he is gone");
    for since in [Some(since.as_str()), None] {
        let (answer, _) = sync(&mut homeserver, &bob, since);
        assert!(answer["rooms"]["join"].is_null());
        let timeline = &answer["rooms"]["leave"][&room]["timeline"];
        let seen = summary(timeline);
        assert_eq!(seen[seen.len() - 2..], ["goodbye", "m.room.member"], "{seen:?}");
        let kick = events(timeline).last().unwrap();
        assert_eq!(kick["content"]["reason"], "rude");
        assert_eq!(kick["unsigned"]["membership"], "leave");
    }
    let (answer, since) = sync(&mut homeserver, &bob, Some(&since));
    assert_eq!(answer["device_lists"]["left"], json!([ann.user_id]));
    assert!(sync(&mut homeserver, &bob, Some(&since)).0["rooms"].is_null(), "told once");
    let truth = homeserver.truth(&bob.user_id);
    assert_eq!(truth.rooms[&room].membership, Membership::Leave);

    join(&mut homeserver, &room, &bob);
    let path = format!("/_matrix/client/v3/rooms/{room}/leave");
    call(&mut homeserver, &bob, "POST", &path, None);
    assert!(!sync(&mut homeserver, &bob, Some(&since)).0["rooms"]["leave"][&room].is_null());
    assert!(sync(&mut homeserver, &bob, None).0["rooms"]["leave"].is_null());
}

/// Goal: declining an invite and being banned from afar show the own member event, and nothing of the room.
#[test]
fn outsider_sees_only_the_own_member_event() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let new = NewRoom { invite: vec![bob.user_id.clone()], ..NewRoom::default() };
    let room = homeserver.create_room(&ann.user_id, &new, NOW);
    let (_, since) = sync(&mut homeserver, &bob, None);
    let decline = (bob.user_id.as_str(), Membership::Leave);
    homeserver.set_membership(&room, &bob.user_id, decline, None, NOW).unwrap();
    let (answer, since) = sync(&mut homeserver, &bob, Some(&since));
    let entry = &answer["rooms"]["leave"][&room];
    assert_eq!(summary(&entry["timeline"]), ["m.room.member"]);
    assert!(events(&entry["state"]).is_empty());
    let ban = (bob.user_id.as_str(), Membership::Ban);
    homeserver.set_membership(&room, &ann.user_id, ban, None, NOW).unwrap();
    let (answer, _) = sync(&mut homeserver, &bob, Some(&since));
    assert_eq!(summary(&answer["rooms"]["leave"][&room]["timeline"]), ["m.room.member"]);
    let barred = (bob.user_id.as_str(), Membership::Join);
    let refusal = homeserver.set_membership(&room, &bob.user_id, barred, None, NOW).unwrap_err();
    assert_eq!((refusal.status, refusal.errcode), (403, "M_FORBIDDEN"));
}

/// Goal: a knock shows its stripped state to who knocks, and is told once.
#[test]
fn knock_comes_stripped() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let new = NewRoom { knock: true, name: Some("Board".into()), ..NewRoom::default() };
    let room = homeserver.create_room(&ann.user_id, &new, NOW);
    let path = format!("/_matrix/client/v3/knock/{room}");
    assert_eq!(call(&mut homeserver, &bob, "POST", &path, None).status, 200);
    let (answer, since) = sync(&mut homeserver, &bob, None);
    let stripped = &answer["rooms"]["knock"][&room]["knock_state"];
    assert_eq!(events(stripped).last().unwrap()["content"]["membership"], "knock");
    assert!(sync(&mut homeserver, &bob, Some(&since)).0["rooms"].is_null());
}

/// Goal: lazily loaded members come again only when redundant ones are asked for; heroes stand for nameless rooms.
#[test]
fn lazy_members_follow_the_timeline_and_heroes_name_the_nameless() {
    let (mut homeserver, [ann, bob, cem]) = people(["ann", "bob", "cem"]);
    let new = NewRoom { public: true, ..NewRoom::default() };
    let room = homeserver.create_room(&ann.user_id, &new, NOW);
    join(&mut homeserver, &room, &bob);
    join(&mut homeserver, &room, &cem);
    for text in ["1", "2", "3", "4", "5"] {
        say(&mut homeserver, &room, &ann.user_id, text);
    }
    let (answer, since) = sync(&mut homeserver, &ann, None);
    let entry = &answer["rooms"]["join"][&room];
    assert_eq!(entry["summary"]["m.heroes"], json!([bob.user_id, cem.user_id]));
    assert_eq!(members(&entry["state"]).len(), 3, "heroes come with their member events");

    say(&mut homeserver, &room, &bob.user_id, "hi");
    let sparing = LAZY.replace("\"include_redundant_members\":true", "\"x\":1");
    let (answer, _) = sync(&mut homeserver, &ann, Some(&since));
    assert_eq!(members(&answer["rooms"]["join"][&room]["state"]), [bob.user_id.as_str()]);
    let (answer, _) = sync_with(&mut homeserver, &ann, Some(&since), &sparing, "");
    assert!(members(&answer["rooms"]["join"][&room]["state"]).is_empty());
    let (answer, _) = sync_with(&mut homeserver, &ann, None, "{}", "");
    let entry = &answer["rooms"]["join"][&room];
    assert_eq!(entry["summary"], json!({}), "no summary without lazy loading");
}

/// Goal: to-device messages stay until their position is used, come in portions, and go to the named device alone.
#[test]
fn to_device_messages_are_deleted_by_the_next_since() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    homeserver.options.to_device_events_max = 2;
    let other = homeserver.log_in(&bob.user_id, Some("OTHER")).unwrap();
    let (_, since) = sync(&mut homeserver, &bob, None);
    for number in 0..3 {
        let body = json!({"messages": {&bob.user_id: {&bob.device_id: {"n": number}}}});
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/t{number}");
        for _ in 0..2 {
            call(&mut homeserver, &ann, "PUT", &path, Some(&body));
        }
    }
    let numbers = |answer: &Value| -> Vec<u64> {
        events(&answer["to_device"]).iter().map(|m| m["content"]["n"].as_u64().unwrap()).collect()
    };
    let (first, next) = sync(&mut homeserver, &bob, Some(&since));
    assert_eq!(numbers(&first), [0, 1]);
    assert_eq!(numbers(&sync(&mut homeserver, &bob, Some(&since)).0), [0, 1], "not acknowledged");
    let (second, last) = sync(&mut homeserver, &bob, Some(&next));
    assert_eq!(numbers(&second), [2]);
    assert!(homeserver.waiting_to_device(&bob.user_id, &bob.device_id).len() == 1);
    assert!(numbers(&sync(&mut homeserver, &bob, Some(&last)).0).is_empty());
    assert!(homeserver.waiting_to_device(&bob.user_id, &bob.device_id).is_empty());
    assert!(numbers(&sync(&mut homeserver, &other, None).0).is_empty());
}

/// Goal: the transaction id goes to the sending device alone, and a repeated one sends nothing.
#[test]
fn transaction_id_is_for_the_sending_device() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room = shared_room(&mut homeserver, &[&ann, &bob]);
    let other = homeserver.log_in(&ann.user_id, Some("OTHER")).unwrap();
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/txn1");
    let body = json!({"msgtype": "m.text", "body": "once"});
    let first = call(&mut homeserver, &ann, "PUT", &path, Some(&body)).json();
    assert_eq!(call(&mut homeserver, &ann, "PUT", &path, Some(&body)).json(), first);
    for (session, expected) in [(&ann, json!("txn1")), (&other, Value::Null), (&bob, Value::Null)] {
        let (answer, _) = sync(&mut homeserver, session, None);
        let timeline = &answer["rooms"]["join"][&room]["timeline"];
        let last = events(timeline).last().unwrap();
        assert_eq!(last["event_id"], first["event_id"]);
        assert_eq!(last["unsigned"]["transaction_id"], expected);
        assert_eq!(last["unsigned"]["age"], 0);
    }
}

/// Goal: a long poll waits while nothing happens to its user, and ends with the event or at its time.
#[test]
fn long_poll_waits_for_its_own_user_only() {
    let (mut homeserver, [ann, bob, cem]) = people(["ann", "bob", "cem"]);
    let room = shared_room(&mut homeserver, &[&ann, &bob]);
    let (_, since) = sync(&mut homeserver, &bob, None);
    homeserver.take_woken();
    let target = sync_target(Some(&since), LAZY, "&timeout=30000");
    let mut request = Request::get(&target, Some(&bob.access_token));
    let Answer::Wait(wait) = homeserver.handle(&request, NOW) else { panic!("did not wait") };
    assert_eq!((wait.user_id.as_str(), wait.until), (bob.user_id.as_str(), NOW + 30_000));
    request.waiting_until = Some(wait.until);
    homeserver.set_account_data(&cem.user_id, "x", json!({}));
    assert!(!homeserver.take_woken().contains(&bob.user_id));
    say(&mut homeserver, &room, &ann.user_id, "wake up");
    assert!(homeserver.take_woken().contains(&bob.user_id));
    let Answer::Ready(reply) = homeserver.handle(&request, NOW + 1) else { panic!("waits") };
    let next = reply.json()["next_batch"].as_str().unwrap().to_owned();
    assert_eq!(summary(&reply.json()["rooms"]["join"][&room]["timeline"]), ["wake up"]);
    let target = sync_target(Some(&next), LAZY, "&timeout=30000");
    request = Request {
        waiting_until: Some(NOW + 30_000),
        ..Request::get(&target, Some(&bob.access_token))
    };
    let Answer::Ready(reply) = homeserver.handle(&request, NOW + 30_000) else { panic!("waits") };
    assert!(reply.json()["rooms"].is_null());
}

/// Goal: receipts, typing and account data come when they change; private receipts to their owner alone.
#[test]
fn ephemeral_and_account_data_come_when_they_change() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room = shared_room(&mut homeserver, &[&ann, &bob]);
    let event_id = homeserver.say(&room, &ann.user_id, "read me", NOW).unwrap();
    let (_, since) = sync(&mut homeserver, &ann, None);
    let base = format!("/_matrix/client/v3/rooms/{room}");
    let receipt = format!("{base}/receipt/m.read.private/{}", event_id.replace('$', "%24"));
    assert_eq!(call(&mut homeserver, &bob, "POST", &receipt, None).status, 200);
    assert!(sync(&mut homeserver, &ann, Some(&since)).0["rooms"].is_null());
    let (answer, _) = sync(&mut homeserver, &bob, Some(&since));
    let entry = &answer["rooms"]["join"][&room];
    let content = &events(&entry["ephemeral"])[0]["content"];
    assert_eq!(content[&event_id]["m.read.private"][&bob.user_id]["ts"], NOW);
    assert_eq!(entry["unread_notifications"]["notification_count"], 0);

    let typing = format!("{base}/typing/{}", bob.user_id);
    let body = json!({"typing": true, "timeout": 4000});
    call(&mut homeserver, &bob, "PUT", &typing, Some(&body));
    let (answer, next) = sync(&mut homeserver, &ann, Some(&since));
    let event = &events(&answer["rooms"]["join"][&room]["ephemeral"])[0];
    assert_eq!(event["content"]["user_ids"], json!([bob.user_id]));
    homeserver.tick(NOW + 4000);
    let (answer, next) = sync(&mut homeserver, &ann, Some(&next));
    let event = &events(&answer["rooms"]["join"][&room]["ephemeral"])[0];
    assert_eq!(event["content"]["user_ids"], json!([]));

    let tag = format!("/_matrix/client/v3/user/{}/rooms/{room}/tags/m.favourite", ann.user_id);
    call(&mut homeserver, &ann, "PUT", &tag, Some(&json!({"order": 0.5})));
    let (answer, _) = sync(&mut homeserver, &ann, Some(&next));
    let event = &events(&answer["rooms"]["join"][&room]["account_data"])[0];
    assert_eq!(event["content"]["tags"]["m.favourite"]["order"], 0.5);
}

/// Goal: `room.rooms` of the filter is honoured, the empty list included.
#[test]
fn filter_by_rooms_is_honoured() {
    let (mut homeserver, [ann]) = people(["ann"]);
    let one = shared_room(&mut homeserver, &[&ann]);
    let two = shared_room(&mut homeserver, &[&ann]);
    let (answer, since) = sync_with(&mut homeserver, &ann, None, r#"{"room":{"rooms":[]}}"#, "");
    assert!(answer["rooms"].is_null());
    assert!(sync(&mut homeserver, &ann, Some(&since)).0["rooms"].is_null());
    let filter = json!({"room": {"rooms": [one]}}).to_string();
    let (answer, _) = sync_with(&mut homeserver, &ann, None, &filter, "");
    assert!(answer["rooms"]["join"][&one].is_object());
    assert!(answer["rooms"]["join"][&two].is_null());
}

/// Goal: what is wrong with a request is said with the right status and code.
#[test]
fn wrong_requests_get_matrix_errors() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    let room = shared_room(&mut homeserver, &[&ann]);
    let (_, since) = sync(&mut homeserver, &ann, None);
    let forged = since.replacen('_', "_9", 1);
    let path = format!("/_matrix/client/v3/rooms/{room}");
    let cases = [
        (format!("/_matrix/client/v3/sync?since={forged}"), 400, "M_UNKNOWN"),
        ("/_matrix/client/v3/sync?since=s1".into(), 400, "M_UNKNOWN"),
        ("/_matrix/client/v3/sync?timeout=soon".into(), 400, "M_INVALID_PARAM"),
        ("/_matrix/client/v3/sync?filter=%7B".into(), 400, "M_NOT_JSON"),
        (format!("{path}/state/m.room.topic/"), 404, "M_NOT_FOUND"),
        (format!("{path}/messages?from=nonsense"), 400, "M_INVALID_PARAM"),
        ("/_matrix/client/v3/nonsense".into(), 404, "M_UNRECOGNIZED"),
    ];
    for (target, status, errcode) in cases {
        let reply = call(&mut homeserver, &ann, "GET", &target, None);
        assert_eq!(
            (reply.status, reply.json()["errcode"].as_str()),
            (status, Some(errcode)),
            "{target}"
        );
    }
    let reply = call(&mut homeserver, &bob, "GET", &format!("{path}/members"), None);
    assert_eq!((reply.status, reply.json()["errcode"].as_str()), (403, Some("M_FORBIDDEN")));
    let whoami = "/_matrix/client/v3/account/whoami";
    let Answer::Ready(reply) = homeserver.handle(&Request::get(whoami, None), NOW) else {
        panic!()
    };
    assert_eq!((reply.status, reply.json()["errcode"].as_str()), (401, Some("M_MISSING_TOKEN")));
    for soft_logout in [true, false] {
        homeserver.refuse_token(&bob.access_token, soft_logout);
        let reply = call(&mut homeserver, &bob, "GET", whoami, None);
        assert_eq!(reply.status, 401);
        assert_eq!(reply.json()["errcode"], "M_UNKNOWN_TOKEN");
        assert_eq!(reply.json()["soft_logout"], soft_logout);
    }
}

/// Goal: a redaction empties the event by the room version's rules and says by what.
#[test]
fn redaction_empties_the_stored_event() {
    let (mut homeserver, [ann]) = people(["ann"]);
    let room = shared_room(&mut homeserver, &[&ann]);
    let event_id = homeserver.say(&room, &ann.user_id, "oops", NOW).unwrap();
    let path =
        format!("/_matrix/client/v3/rooms/{room}/redact/{}/r1", event_id.replace('$', "%24"));
    let reply = call(&mut homeserver, &ann, "PUT", &path, Some(&json!({"reason": "typo"})));
    let (answer, _) = sync(&mut homeserver, &ann, None);
    let timeline = events(&answer["rooms"]["join"][&room]["timeline"]).to_vec();
    let redacted = &timeline[timeline.len() - 2];
    assert_eq!(redacted["content"], json!({}));
    assert_eq!(redacted["unsigned"]["redacted_because"]["event_id"], reply.json()["event_id"]);
    assert_eq!(timeline.last().unwrap()["redacts"], *event_id);
}

/// Goal: logging in checks the password, names the homeserver's URL, and the new device is told to others.
#[test]
fn login_makes_a_device_and_logout_ends_it() {
    let (mut homeserver, [ann, bob]) = people(["ann", "bob"]);
    shared_room(&mut homeserver, &[&ann, &bob]);
    homeserver.set_base_url("http://localhost:1");
    let (_, since) = sync(&mut homeserver, &bob, None);
    let mut body = json!({
        "type": "m.login.password", "identifier": {"type": "m.id.user", "user": "ann"}, "password": "no",
    });
    let login = "/_matrix/client/v3/login";
    assert_eq!(call(&mut homeserver, &bob, "POST", login, Some(&body)).status, 403);
    body["password"] = "password".into();
    let session = call(&mut homeserver, &bob, "POST", login, Some(&body)).json();
    assert_eq!(session["well_known"]["m.homeserver"]["base_url"], "http://localhost:1");
    let (answer, _) = sync(&mut homeserver, &bob, Some(&since));
    assert_eq!(answer["device_lists"]["changed"], json!([ann.user_id]));
    let session = Session {
        user_id: ann.user_id.clone(),
        access_token: session["access_token"].as_str().unwrap().into(),
        device_id: session["device_id"].as_str().unwrap().into(),
    };
    let whoami = "/_matrix/client/v3/account/whoami";
    assert_eq!(
        call(&mut homeserver, &session, "GET", whoami, None).json()["device_id"],
        *session.device_id
    );
    call(&mut homeserver, &session, "POST", "/_matrix/client/v3/logout", None);
    assert_eq!(call(&mut homeserver, &session, "GET", whoami, None).status, 401);
    assert_eq!(call(&mut homeserver, &ann, "GET", whoami, None).status, 200);
}
