//! Answers of a homeserver's `/sync`, byte for byte the same in every run.
//!
//! The sizes are those of real rooms: names, topics, power levels, members of
//! the timeline, receipts. Where an account is only there to be large,
//! [`Shape::lean`] keeps its rooms small.

use std::fmt::Write as _;

/// When the history begins, unix milliseconds.
pub const START_MS: u64 = 1_800_000_000_000;

/// The user whose account it is.
pub const USER_ID: &str = "@measured:bench.test";

/// What an account looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rooms that the user is in.
    pub rooms: usize,
    /// Messages in each room's timeline.
    pub messages: usize,
    /// Whether rooms have all the state that real ones have.
    pub whole: bool,
}

impl Shape {
    /// Rooms as a homeserver's first answer has them.
    pub fn whole(rooms: usize) -> Self {
        Self { rooms, messages: 20, whole: true }
    }

    /// Rooms with a name, a member and a message.
    pub fn lean(rooms: usize) -> Self {
        Self { rooms, messages: 1, whole: false }
    }
}

/// The id of a room by its index.
pub fn room_id(room: usize) -> String {
    format!("!room{room:06}aBcDeFgHiJ:bench.test")
}

/// The answer to the first poll.
pub fn initial_body(shape: Shape) -> String {
    initial_body_of(USER_ID, shape, 0)
}

/// The same for another user, whose rooms begin with another index.
pub fn initial_body_of(user_id: &str, shape: Shape, first: usize) -> String {
    let mut out = String::from(r#"{"next_batch":"s0_1_2_3","rooms":{"join":{"#);
    for room in 0..shape.rooms {
        comma(&mut out, room);
        write_room(&mut out, user_id, shape, first + room);
    }
    out.push_str(r#"}},"account_data":{"events":["#);
    write_direct(&mut out, if shape.whole { shape.rooms } else { shape.rooms.min(LEAN_DIRECT) });
    out.push_str("]},");
    push(&mut out, format_args!(r#""device_one_time_keys_count":{{"signed_curve25519":50}}}}"#));
    out
}

/// The answer to a later poll: one message in one room, and a receipt.
pub fn incremental_body(room: usize, number: u64) -> String {
    let mut out = String::with_capacity(2_048);
    push(&mut out, format_args!(r#"{{"next_batch":"s{number}_1_2_3","rooms":{{"join":{{"#));
    push(&mut out, format_args!(r#""{}":{{"timeline":{{"events":["#, room_id(room)));
    let ms = START_MS + 1_000_000_000 + number;
    write_message(&mut out, &format!("live{number}"), &member_id(room, 1), ms);
    push(&mut out, format_args!(r#"],"prev_batch":"p{number}","limited":false}},"#));
    write_receipt(&mut out, room, &format!("live{number}"), ms);
    out.push_str(r#","unread_notifications":{"notification_count":1,"highlight_count":0}}}}"#);
    out.push_str(r#","device_one_time_keys_count":{"signed_curve25519":50}}"#);
    out
}

fn write_room(out: &mut String, user_id: &str, shape: Shape, room: usize) {
    let created_ms = START_MS + room as u64 * 1_000;
    push(
        out,
        format_args!(r#""{}":{{"org.matrix.msc4222.state_after":{{"events":["#, room_id(room)),
    );
    let state = |out: &mut String, kind: &str, state_key: &str, content: &str| {
        let sender = member_id(room, 1);
        push(
            out,
            format_args!(
                r#"{{"type":"{kind}","state_key":"{state_key}","sender":"{sender}","event_id":"$state{room}{kind}{state_key}","origin_server_ts":{created_ms},"content":{content}}}"#
            ),
        );
    };
    state(out, "m.room.create", "", r#"{"room_version":"11"}"#);
    out.push(',');
    let member = |user: usize| format!(r#"{{"membership":"join","displayname":"Member {user}"}}"#);
    state(out, "m.room.member", user_id, &member(0));
    out.push(',');
    state(out, "m.room.name", "", &format!(r#"{{"name":"Room number {room}"}}"#));
    if shape.whole {
        for (kind, content) in WHOLE_STATE {
            out.push(',');
            state(out, kind, "", content);
        }
        for user in 1..=SPEAKERS {
            out.push(',');
            state(out, "m.room.member", &member_id(room, user), &member(user));
        }
    }
    out.push_str(r#"]},"timeline":{"events":["#);
    for message in 0..shape.messages {
        comma(out, message);
        let ms = created_ms + 1 + message as u64;
        let sender = member_id(room, 1 + message % SPEAKERS);
        write_message(out, &format!("r{room}m{message}"), &sender, ms);
    }
    push(out, format_args!(r#"],"prev_batch":"p{room}","limited":true}},"#));
    if shape.whole {
        write_receipt(out, room, &format!("r{room}m0"), created_ms + 100);
        out.push_str(r#","account_data":{"events":[{"type":"m.tag","content":{"tags":{"m.favourite":{"order":0.5}}}}]},"#);
    }
    let heroes = format!(r#"["{}","{}"]"#, member_id(room, 1), member_id(room, 2));
    push(
        out,
        format_args!(
            r#""summary":{{"m.heroes":{heroes},"m.joined_member_count":42,"m.invited_member_count":0}},"unread_notifications":{{"notification_count":3,"highlight_count":1}}}}"#
        ),
    );
}

/// Who speaks in a room.
const SPEAKERS: usize = 4;

const WHOLE_STATE: [(&str, &str); 7] = [
    (
        "m.room.power_levels",
        r#"{"users":{"@member1:bench.test":100},"users_default":0,"events":{"m.room.name":50,"m.room.power_levels":100,"m.room.history_visibility":100,"m.room.canonical_alias":50,"m.room.avatar":50,"m.room.tombstone":100,"m.room.server_acl":100,"m.room.encryption":100},"events_default":0,"state_default":50,"ban":50,"kick":50,"redact":50,"invite":0,"historical":100}"#,
    ),
    ("m.room.join_rules", r#"{"join_rule":"invite"}"#),
    ("m.room.history_visibility", r#"{"history_visibility":"shared"}"#),
    ("m.room.guest_access", r#"{"guest_access":"can_join"}"#),
    ("m.room.topic", r#"{"topic":"What this room is for, in one sentence of usual length"}"#),
    ("m.room.avatar", r#"{"url":"mxc://bench.test/QwErTyUiOpAsDfGhJkLz"}"#),
    ("m.room.encryption", r#"{"algorithm":"m.megolm.v1.aes-sha2"}"#),
];

fn member_id(room: usize, user: usize) -> String {
    format!("@member{}:bench.test", room % 50 * 10 + user)
}

fn write_message(out: &mut String, event: &str, sender: &str, ms: u64) {
    push(
        out,
        format_args!(
            r#"{{"type":"m.room.message","sender":"{sender}","event_id":"$messageAbCdEfGhIjKlMnOpQrStUvWxYz{event}","origin_server_ts":{ms},"content":{{"msgtype":"m.text","body":"A message of the length that people write, with \"quotes\" and a line\nbreak"}},"unsigned":{{"age":1234}}}}"#
        ),
    );
}

fn write_receipt(out: &mut String, room: usize, event: &str, ms: u64) {
    let reader = member_id(room, 2);
    push(
        out,
        format_args!(
            r#""ephemeral":{{"events":[{{"type":"m.receipt","content":{{"$messageAbCdEfGhIjKlMnOpQrStUvWxYz{event}":{{"m.read":{{"{reader}":{{"ts":{ms}}}}}}}}}}}]}}"#
        ),
    );
}

/// Of the rooms of a lean account, those that direct chats are among. `m.direct`
/// names each of them and is part of every first response: with more of them
/// there is more to say, however little else grows.
const LEAN_DIRECT: usize = 100;

/// A third of these rooms are direct chats.
fn write_direct(out: &mut String, rooms: usize) {
    out.push_str(r#"{"type":"m.direct","content":{"#);
    for (index, room) in (0..rooms).step_by(3).enumerate() {
        comma(out, index);
        push(out, format_args!(r#""@friend{room}:bench.test":["{}"]"#, room_id(room)));
    }
    out.push_str("}}");
}

fn comma(out: &mut String, index: usize) {
    if index > 0 {
        out.push(',');
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing into a string does not fail");
}
