//! From a `/sync` answer to a batch: every field, and every malformed form.

use luge_core::upstream::{
    Limits, ParseError, RoomBatch, Scanned, Section, SyncBatch, parse, parse_event, parse_events,
    parse_room,
};
use serde_json::{Value, json};

const SYNC: &str = include_str!("data/sync.json");

fn taken(body: &str) -> SyncBatch {
    parse(body.as_bytes(), &Limits::default()).expect("the body is an object")
}

fn room<'a>(batch: &'a SyncBatch, room_id: &str) -> &'a RoomBatch {
    batch.rooms.iter().find(|room| room.room_id == room_id).expect("the room is there")
}

/// A body with one joined room whose object is `room`.
fn joined(room: &str) -> SyncBatch {
    taken(&format!(r#"{{"rooms":{{"join":{{"!r:x":{room}}}}}}}"#))
}

const GOOD: &str =
    r#"{"event_id":"$good","type":"m.a","sender":"@a:x","content":{},"origin_server_ts":1}"#;

/// A batch of one room whose timeline holds `event` before a good one.
fn beside_good(event: &str) -> SyncBatch {
    let batch = joined(&format!(r#"{{"timeline":{{"events":[{event},{GOOD}]}}}}"#));
    let last = batch.rooms[0].timeline.last().map(|event| event.event_id.as_str());
    assert_eq!(last, Some("$good"), "the next event is unharmed by {event}");
    batch
}

/// Goal: nothing that a homeserver says of a joined room is lost.
#[test]
fn joined_room_has_every_field() {
    let batch = taken(SYNC);
    assert_eq!((batch.set_aside.as_slice(), batch.set_aside_count), (&[][..], 0));
    let room = room(&batch, "!room:example.org");
    assert_eq!(room.section, Section::Join);
    assert!(room.limited && room.state_is_after);
    assert_eq!(room.prev_batch.as_deref(), Some("t34-2352"));
    let ids: Vec<_> = room.timeline.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids, ["$one", "$two", "$three"]);
    let ids: Vec<_> = room.state.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids, ["$create", "$name"]);
    assert_eq!(room.typing.as_deref(), Some(&["@bob:example.org".to_owned()][..]));
    let receipts: Vec<_> = room
        .receipts
        .iter()
        .map(|receipt| {
            let thread_id = receipt.thread_id.as_deref();
            (&*receipt.event_id, &*receipt.kind, &*receipt.user_id, thread_id, &*receipt.json)
        })
        .collect();
    assert_eq!(
        receipts,
        [
            (
                "$one",
                "m.read",
                "@bob:example.org",
                Some("main"),
                r#"{"ts":1700000000005,"thread_id":"main"}"#
            ),
            ("$one", "m.read", "@carol:example.org", None, r#"{"ts":1700000000006}"#),
            ("$one", "m.read.private", "@alice:example.org", None, r#"{ "ts" : 7 }"#),
        ]
    );
    let kinds: Vec<_> = room.account_data.iter().map(|data| data.kind.as_str()).collect();
    assert_eq!(kinds, ["m.fully_read", "m.tag"]);
    assert_eq!(
        &*room.account_data[1].json,
        r#"{"type":"m.tag","content":{"tags":{"m.favourite":{"order":0.5}}}}"#
    );
    assert_eq!((room.notification_count, room.highlight_count), (Some(3), Some(1)));
    assert_eq!((room.summary.joined, room.summary.invited), (Some(4), Some(1)));
    let heroes = ["@bob:example.org".to_owned(), "@carol:example.org".to_owned()];
    assert_eq!(room.summary.heroes.as_deref(), Some(&heroes[..]));
}

/// Goal: an event's fields, and its bytes less what is private to a device.
#[test]
fn event_keeps_its_bytes_less_what_is_private() {
    let batch = taken(SYNC);
    let timeline = &room(&batch, "!room:example.org").timeline;
    let message = &timeline[0];
    assert_eq!(
        &*message.json,
        concat!(
            r#"{"content":{"body":"hé \ud83d\ude00 \"quoted\"","msgtype":"m.text","#,
            r#""room_id":"!kept:example.org"},"event_id":"$one","origin_server_ts":1700000000001,"#,
            r#""sender":"@alice:example.org","type":"m.room.message"}"#
        )
    );
    assert_eq!(message.transaction_id.as_deref(), Some("m1.2"));
    assert_eq!(
        (message.kind.as_str(), message.sender.as_str()),
        ("m.room.message", "@alice:example.org")
    );
    assert_eq!((message.origin_server_ts, &message.state_key), (1_700_000_000_001, &None));
    assert_eq!(timeline[1].redacts.as_deref(), Some("$one"));
    assert!(
        timeline[1]
            .json
            .ends_with(r#""unsigned":{"m.relations":{"m.thread":{"count":1}}},"event_id":"$two"}"#)
    );
    assert_eq!(timeline[2].state_key.as_deref(), Some("@carol:example.org"));
    assert!(timeline[2].json.contains(
        r#""unsigned":{"replaces_state":"$old","prev_content":{"membership":"invite"}},"#
    ));
}

/// Goal: the other sections of rooms.
#[test]
fn invite_knock_and_leave_have_their_fields() {
    let batch = taken(SYNC);
    let invite = room(&batch, "!invite:example.org");
    assert_eq!(invite.section, Section::Invite);
    assert_eq!(invite.stripped.len(), 2);
    assert_eq!(invite.stripped[1].kind, "m.room.member");
    assert_eq!(invite.stripped[1].state_key, "@alice:example.org");
    assert_eq!(invite.stripped[1].sender, "@bob:example.org");
    assert!(invite.stripped[1].json.ends_with(r#""event_id":"$inv","unsigned":{"age":7}}"#));
    let knock = room(&batch, "!knock:example.org");
    assert_eq!((knock.section, knock.stripped.len()), (Section::Knock, 1));
    let left = room(&batch, "!left:example.org");
    assert_eq!((left.section, left.state_is_after), (Section::Leave, false));
    assert_eq!((left.state.len(), left.timeline.len()), (1, 1));
}

/// Goal: everything that is not a room.
#[test]
fn device_and_account_sections_are_taken() {
    let batch = taken(SYNC);
    assert_eq!(batch.next_batch.as_deref(), Some("s72595_4483_1934_1_2_1_5_1_0"));
    let kinds: Vec<_> = batch.account_data.iter().map(|data| data.kind.as_str()).collect();
    assert_eq!(kinds, ["m.push_rules", "m.direct"]);
    assert_eq!(batch.to_device.len(), 2);
    assert!(batch.to_device[0].contains(r#""n":1.50"#));
    assert_eq!(batch.device_lists_changed, ["@bob:example.org", "@carol:example.org"]);
    assert_eq!(batch.device_lists_left, ["@dan:example.org"]);
    let counts: Value = serde_json::from_str(&batch.one_time_keys_count.unwrap()).unwrap();
    assert_eq!(counts, json!({"signed_curve25519": 50, "curve25519": 0}));
    assert_eq!(batch.fallback_key_types.as_deref(), Some(r#"["signed_curve25519","other"]"#));
    let unstable = r#"{"org.matrix.msc2732.device_unused_fallback_key_types":[]}"#;
    assert_eq!(taken(unstable).fallback_key_types.as_deref(), Some("[]"));
    assert_eq!(taken("{}"), SyncBatch::default());
}

/// Goal: room by room gives what all at once gives.
#[test]
fn rooms_taken_one_by_one_are_the_same() {
    let limits = Limits::default();
    let scanned = Scanned::scan(SYNC.as_bytes(), &limits).unwrap();
    let mut batch = scanned.rest();
    assert!(batch.rooms.is_empty());
    assert_eq!(scanned.rooms().len(), 4);
    for range in scanned.rooms() {
        assert!(
            SYNC[range.range.clone()].starts_with('{') && SYNC[range.range.clone()].ends_with('}')
        );
        let (room, asides) = scanned.room(range);
        assert_eq!(asides.count, 0);
        assert_eq!(
            parse_room(&SYNC[range.range.clone()], range.section, &range.room_id, &limits).0,
            room
        );
        batch.rooms.push(room);
    }
    assert_eq!(batch, taken(SYNC));
}

/// Goal: `state_after` takes the place of `state` under either name and in any
/// order, and only where it is one.
#[test]
fn state_after_takes_the_place_of_state() {
    let event = |id: &str| {
        format!(
            r#"{{"event_id":"{id}","type":"m.a","state_key":"","sender":"@a:x","content":{{}}}}"#
        )
    };
    let (before, after) = (event("$before"), event("$after"));
    let before = format!(r#""state":{{"events":[{before}]}}"#);
    for name in ["state_after", "org.matrix.msc4222.state_after"] {
        let given = format!(r#""{name}":{{"events":[{after}]}}"#);
        for object in [format!("{{{before},{given}}}"), format!("{{{given},{before}}}")] {
            let room = &joined(&object).rooms[0];
            assert!(room.state_is_after);
            assert_eq!(room.state.len(), 1);
            assert_eq!(room.state[0].event_id, "$after");
        }
        for malformed in ["null", "[]", r#"{"events":null}"#] {
            let batch = joined(&format!(r#"{{"{name}":{malformed},{before}}}"#));
            assert!(!batch.rooms[0].state_is_after);
            assert_eq!(batch.rooms[0].state[0].event_id, "$before");
            assert_eq!(batch.set_aside_count, 1);
        }
        let room = &joined(&format!(r#"{{"{name}":{{}},{before}}}"#)).rooms[0];
        assert!(room.state_is_after && room.state.is_empty());
    }
}

/// Goal: a malformed event costs itself alone, and says why.
#[test]
fn malformed_event_is_set_aside_and_the_next_is_taken() {
    let long = "x".repeat(256);
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(63), "]".repeat(63));
    let deepest = format!(r#"{{"a":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    let event = |change: (&str, Option<&str>)| {
        let mut members = vec![
            ("event_id", r#""$e""#.to_owned()),
            ("type", r#""m.b""#.to_owned()),
            ("sender", r#""@a:x""#.to_owned()),
            ("content", "{}".to_owned()),
        ];
        members.retain(|(name, _)| *name != change.0);
        members.extend(change.1.map(|value| (change.0, value.to_owned())));
        let members: Vec<_> =
            members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let quoted = |text: &str| format!("\"{text}\"");
    let (long_id, long) = (quoted(&format!("${long}")), quoted(&long));
    let changes = [
        ("event_id", None, "no event_id"),
        ("event_id", Some("7"), "not a string"),
        ("event_id", Some("null"), "not a string"),
        ("event_id", Some("\"e\""), "form"),
        ("event_id", Some("\"\""), "no event_id"),
        ("event_id", Some(&*long_id), "255"),
        ("event_id", Some(r#""$\ud800""#), "surrogate"),
        ("type", None, "no type"),
        ("type", Some("{}"), "not a string"),
        ("type", Some("\"\""), "no type"),
        ("type", Some(&*long), "255"),
        ("sender", None, "no sender"),
        ("sender", Some("[]"), "not a string"),
        ("sender", Some("\"a:x\""), "user id"),
        ("sender", Some("\"@a\""), "user id"),
        ("sender", Some("\"@a:\""), "user id"),
        ("state_key", Some("null"), "not a string"),
        ("state_key", Some(&*long), "255"),
        ("content", None, "no content"),
        ("content", Some("null"), "not an object"),
        ("content", Some("[]"), "not an object"),
        ("content", Some(r#"{"a":"\udc00"}"#), "surrogate"),
        ("content", Some(r#"{"a":1e400}"#), "double"),
        ("content", Some(r#"{"a":1,"b":{"c":1,"\u0063":2}}"#), "twice"),
        ("content", Some(&*deep), "deep"),
        ("content", Some(&*deepest), "deep"),
        ("unsigned", Some(r#"{"age":1,"age":2}"#), "twice"),
        ("unsigned", Some(r#"{"age":"\ud800"}"#), "surrogate"),
    ];
    for (name, value, reason) in changes {
        let batch = beside_good(&event((name, value)));
        assert_eq!(batch.rooms[0].timeline.len(), 1, "{name} {value:?}");
        assert_eq!(batch.set_aside_count, 1);
        let aside = &batch.set_aside[0];
        assert_eq!((aside.room_id.as_deref(), aside.place), (Some("!r:x"), "timeline"));
        assert!(aside.reason.contains(reason), "{name} {value:?}: {}", aside.reason);
    }
    for other in ["null", "7", "[]", "\"text\"", "true"] {
        assert_eq!(beside_good(other).set_aside_count, 1, "{other}");
    }
    let twice = GOOD.replace('{', r#"{"sender":"@b:x","#).replace("{\"sender\":\"@b:x\",}", "{}");
    assert_eq!(beside_good(&twice).set_aside_count, 1);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(128 * 1024));
    assert_eq!(beside_good(&event(("content", Some(&large)))).set_aside_count, 1);
}

/// Goal: what is odd but harmless does not cost the event.
#[test]
fn odd_event_is_kept() {
    let cases = [
        (r#""origin_server_ts":-1"#, 0),
        (r#""origin_server_ts":1.0"#, 0),
        (r#""origin_server_ts":9007199254740992"#, 0),
        (r#""origin_server_ts":9007199254740991"#, 9_007_199_254_740_991),
        (r#""origin_server_ts":"5""#, 0),
        (r#""origin_server_ts":null"#, 0),
        (r#""unsigned":{}"#, 0),
        (r#""unsigned":{"transaction_id":7}"#, 0),
        (r#""a":123456789012345678901234567890"#, 0),
        (r#""a":1e-400"#, 0),
    ];
    for (member, timestamp) in cases {
        let event = format!(
            r#"{{"event_id":"$e","type":"m.a","sender":"@a:x","content":{{"redacts":"$x"}},{member}}}"#
        );
        let event = parse_event(&event, &Limits::default()).unwrap();
        assert_eq!(event.origin_server_ts, timestamp, "{member}");
        assert_eq!((event.transaction_id, event.redacts), (None, None));
        serde_json::from_str::<Value>(&event.json).unwrap();
    }
}

/// Goal: of `unsigned` exactly the private keys go, and it goes with them.
#[test]
fn unsigned_loses_its_private_keys_alone() {
    let cut = |unsigned: &str| {
        let event = format!(
            r#"{{"event_id":"$e","type":"m.a","sender":"@a:x","content":{{}},"unsigned":{unsigned}}}"#
        );
        let event = parse_event(&event, &Limits::default()).unwrap();
        let kept: Value = serde_json::from_str(&event.json).unwrap();
        kept.get("unsigned").map(ToString::to_string)
    };
    assert_eq!(cut("{}").as_deref(), Some("{}"));
    assert_eq!(cut(r#"{"age":1}"#), None);
    assert_eq!(cut(r#"{ "age" : 1 , "membership":"join","transaction_id" :"a" }"#), None);
    assert_eq!(cut(r#"{"age":1,"a":2}"#).as_deref(), Some(r#"{"a":2}"#));
    assert_eq!(cut(r#"{"a":2,"age":1}"#).as_deref(), Some(r#"{"a":2}"#));
    assert_eq!(
        cut(r#"{"a":2,"age":1,"b":{"age":3},"membership":4}"#).as_deref(),
        Some(r#"{"a":2,"b":{"age":3}}"#)
    );
    assert_eq!(
        cut(r#"{"io.element.msc4115.membership":"join","a":2,"\u0061ge":1}"#).as_deref(),
        Some(r#"{"a":2}"#)
    );
    for not_an_object in ["null", "7", "[1]", "\"a\""] {
        assert_eq!(cut(not_an_object), None);
    }
}

/// Goal: a redaction's target comes from either place, and only in redactions.
#[test]
fn redacts_is_read_from_either_place() {
    let redacts = |kind: &str, top: &str, content: &str| {
        let event = format!(
            r#"{{"event_id":"$e","sender":"@a:x","content":{{{content}}}{top},"type":"{kind}"}}"#
        );
        parse_event(&event, &Limits::default()).unwrap().redacts
    };
    let kind = "m.room.redaction";
    assert_eq!(redacts(kind, r#","redacts":"$a""#, "").as_deref(), Some("$a"));
    assert_eq!(redacts(kind, "", r#""redacts":"$b""#).as_deref(), Some("$b"));
    assert_eq!(redacts(kind, r#","redacts":"$a""#, r#""redacts":"$b""#).as_deref(), Some("$a"));
    assert_eq!(redacts(kind, r#","redacts":7"#, r#""redacts":"b""#), None);
    assert_eq!(redacts("m.room.message", r#","redacts":"$a""#, r#""redacts":"$b""#), None);
}

/// Goal: a malformed section costs itself; the room and its rest are taken.
#[test]
fn malformed_section_is_set_aside() {
    let timeline = format!(r#""timeline":{{"events":[{GOOD}]}}"#);
    let cases = [
        (r#""state":null"#, 1),
        (r#""state":[]"#, 1),
        (r#""state":{"events":{}}"#, 1),
        (r#""state":{"events":null}"#, 1),
        (r#""state":{}"#, 0),
        (r#""ephemeral":null"#, 1),
        (r#""ephemeral":{"events":[null]}"#, 1),
        (r#""ephemeral":{"events":[{"type":"m.typing"}]}"#, 1),
        (r#""ephemeral":{"events":[{"type":"m.typing","content":[]}]}"#, 2),
        (r#""ephemeral":{"events":[{"type":"m.typing","content":{"user_ids":["bob"]}}]}"#, 1),
        (r#""ephemeral":{"events":[{"type":"m.unknown","content":[]},{}]}"#, 0),
        (r#""ephemeral":{"events":[{"type":"m.receipt","content":{"$a":[],"b":{}}}]}"#, 2),
        (
            r#""ephemeral":{"events":[{"type":"m.receipt","content":{"$a":{"m.read":{"bob":{}}}}}]}"#,
            1,
        ),
        (
            r#""ephemeral":{"events":[{"type":"m.receipt","content":{"$a":{"m.read":{"@a:x":7}}}}]}"#,
            1,
        ),
        (
            r#""ephemeral":{"events":[{"type":"m.receipt","content":{"$a":{"m.read":{"@a:x":{"ts":-1}}}}}]}"#,
            1,
        ),
        (
            r#""ephemeral":{"events":[{"type":"m.receipt","content":{"$a":{"m.read":{"@a:x":{"ts":1,"thread_id":7}}}}}]}"#,
            1,
        ),
        (
            r#""account_data":{"events":[{"content":{}},{"type":7},7,{"type":"m.a","content":7}]}"#,
            4,
        ),
        (r#""summary":[]"#, 1),
        (r#""summary":{"m.heroes":null,"m.joined_member_count":null}"#, 0),
        (
            r#""summary":{"m.heroes":["bob",7],"m.joined_member_count":-1,"m.invited_member_count":1.5}"#,
            4,
        ),
        (r#""summary":{"m.joined_member_count":9007199254740992}"#, 1),
        (r#""unread_notifications":{"notification_count":"1","highlight_count":1e3}"#, 2),
        (r#""timeline":{"events":[]}"#, 1),
        (r#""unknown":{"a":1},"invite_state":null"#, 0),
    ];
    for (member, set_aside) in cases {
        let batch = joined(&format!("{{{timeline},{member}}}"));
        assert_eq!(batch.rooms[0].timeline.len(), 1, "{member}");
        assert_eq!(batch.set_aside_count, set_aside, "{member}: {:?}", batch.set_aside);
        assert_eq!(batch.rooms[0].receipts.len(), 0, "{member}");
    }
    let batch = joined(r#"{"timeline":{"events":null,"limited":1,"prev_batch":7}}"#);
    assert_eq!((batch.rooms.len(), batch.set_aside_count), (1, 3));
}

/// Goal: malformed top-level sections and rooms cost themselves.
#[test]
fn malformed_top_level_is_set_aside() {
    let long_id = format!(r#"{{"rooms":{{"join":{{"!{}":{{}}}}}}}}"#, "x".repeat(255));
    let cases = [
        (r#"{"rooms":null}"#, 1),
        (r#"{"rooms":[]}"#, 1),
        (r#"{"rooms":{"join":null,"invite":[],"other":7}}"#, 2),
        (r##"{"rooms":{"join":{"r":{},"#a:b":{},"":{}}}}"##, 3),
        (r#"{"rooms":{"join":{"!a":null,"!b":7,"!c":[]}}}"#, 3),
        (r#"{"rooms":{"join":{"!\ud800":{}}}}"#, 1),
        (&*long_id, 1),
        (r#"{"account_data":null,"to_device":[],"device_lists":7}"#, 3),
        (r#"{"to_device":{"events":[7,{"type":7},{"type":"m.a","content":{"a":"\ud800"}}]}}"#, 3),
        (r#"{"device_lists":{"changed":["bob",null],"left":{}}}"#, 3),
        (r#"{"device_one_time_keys_count":[]}"#, 1),
        (r#"{"device_unused_fallback_key_types":{}}"#, 1),
        (r#"{"next_batch":7}"#, 1),
        (r#"{"next_batch":""}"#, 1),
        (r#"{"next_batch":null}"#, 0),
        (r#"{"presence":7,"\ud800":1}"#, 1),
    ];
    for (body, set_aside) in cases {
        let batch = taken(body);
        assert_eq!(batch.set_aside_count, set_aside, "{body}: {:?}", batch.set_aside);
        assert_eq!(
            SyncBatch { set_aside: Vec::new(), set_aside_count: 0, ..batch },
            SyncBatch::default()
        );
    }
    let batch = taken(r#"{"device_one_time_keys_count":{"a":1,"b":-1,"c":"x"}}"#);
    assert_eq!(batch.one_time_keys_count.as_deref(), Some(r#"{"a":1}"#));
    let batch = taken(r#"{"rooms":{"join":{"!a":{},"!a":{},"!b":{}},"join":{"!c":{}}}}"#);
    assert_eq!((batch.rooms.len(), batch.set_aside_count), (2, 2));
}

/// Goal: only what is no JSON object at all fails as a whole.
#[test]
fn body_that_is_no_object_is_refused() {
    let limits = Limits { body_depth_max: 8, ..Limits::default() };
    let refused = |body: &[u8]| parse(body, &limits).unwrap_err();
    for body in ["null", "[]", "7", "\"a\"", "true"] {
        assert!(matches!(refused(body.as_bytes()), ParseError::OtherKind { .. }), "{body}");
    }
    for body in
        ["", "  ", "<html>", "{", "{}{}", "{\"a\":01}", "{'a':1}", "\u{feff}{}", "{\"a\":tru}"]
    {
        assert!(matches!(refused(body.as_bytes()), ParseError::NotJson { .. }), "{body}");
    }
    assert_eq!(refused(b"{\"a\":\"\xff\"}"), ParseError::NotUtf8 { at: 6 });
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(9), "]".repeat(9));
    assert!(matches!(refused(deep.as_bytes()), ParseError::TooDeep { .. }));
    for end in 0..SYNC.trim_end().len() {
        assert!(parse(&SYNC.as_bytes()[..end], &Limits::default()).is_err(), "cut at {end}");
    }
    assert_eq!(refused(b"null").to_string(), "the body is null, not an object");
}

/// Goal: what is set aside is bounded, and counted all the same.
#[test]
fn set_aside_is_bounded_and_counted() {
    let rooms: Vec<_> = (0..30)
        .map(|room| format!(r#""!{room}":{{"timeline":{{"events":[{}7]}}}}"#, "7,".repeat(9)))
        .collect();
    let batch = taken(&format!(r#"{{"rooms":{{"join":{{{}}}}}}}"#, rooms.join(",")));
    assert_eq!(batch.rooms.len(), 30);
    assert_eq!((batch.set_aside.len(), batch.set_aside_count), (100, 300));
    assert_eq!(batch.set_aside[99].room_id.as_deref(), Some("!9"));
}

/// Goal: other endpoints' events go through the same gate.
#[test]
fn events_of_another_endpoint_are_taken() {
    let body = format!(r#"{{"start":"a","chunk":[{GOOD},null,{GOOD}],"end":"b"}}"#);
    let (events, asides) = parse_events(body.as_bytes(), "chunk", &Limits::default()).unwrap();
    assert_eq!((events.len(), asides.count, asides.kept[0].place), (2, 1, "chunk"));
    assert!(parse_events(b"[]", "chunk", &Limits::default()).is_err());
    assert!(parse_event("{} {}", &Limits::default()).is_err());
    let event = parse_event(&format!(" {GOOD}\n"), &Limits::default()).unwrap();
    assert_eq!(&*event.json, GOOD);
    assert!(parse_event(&format!("{GOOD}x"), &Limits::default()).is_err());
}
