//! Writing what the dialects write alike.

use std::sync::Arc;

use crate::{
    json::{push_comma, push_display, push_free_key, push_key, push_string},
    response::{
        AccountData, E2ee, Extensions, List, Mention, Objects, Response, Room, Timeline, ToDevice,
    },
    world::Hero,
};

/// A guess at the body's size that spares most of the growing.
pub(super) fn estimate(response: &Response) -> usize {
    let listed = |list: &List| list.windows.iter().map(|it| it.room_ids.len()).sum::<usize>();
    let listed: usize = response.lists.iter().map(|(_, list)| listed(list)).sum();
    // Global account data can be larger than everything else together.
    let account_data = response.extensions.account_data.as_ref();
    let account_data = account_data.map_or(0, |it| it.global.bytes());
    let rooms = response.rooms.iter().map(estimate_room).sum::<usize>();
    512 + listed * 48 + rooms + account_data
}

/// What a room's entry has besides its events is short.
fn estimate_room(room: &Room) -> usize {
    let timeline = room.timeline.as_ref().map_or(0, |timeline| timeline.events.bytes());
    let stripped = room.stripped.as_ref().map_or(0, Objects::bytes);
    768 + room.required_state.bytes() + timeline + stripped
}

pub(super) fn entries<K: AsRef<str>, V>(
    out: &mut String,
    entries: &[(K, V)],
    mut value: impl FnMut(&mut String, &V),
) {
    out.push('{');
    for (key, entry) in entries {
        push_free_key(out, key.as_ref());
        value(out, entry);
    }
    out.push('}');
}

pub(super) fn push_rooms(
    out: &mut String,
    rooms: &[Room],
    mut room: impl FnMut(&mut String, &Room),
) {
    push_key(out, "rooms");
    out.push('{');
    for it in rooms {
        push_free_key(out, &it.room_id);
        room(out, it);
    }
    out.push('}');
}

/// The rooms of a range, as both drafts have them.
pub(super) fn write_sync(out: &mut String, range: (u64, u64), room_ids: &[Arc<str>]) {
    let (from, to) = range;
    push_display(out, format_args!(r#"{{"op":"SYNC","range":[{from},{to}],"room_ids":["#));
    for room_id in room_ids {
        push_comma(out);
        push_string(out, room_id);
    }
    out.push_str("]}");
}

pub(super) fn push_number(out: &mut String, key: &str, number: Option<u64>) {
    if let Some(number) = number {
        push_key(out, key);
        push_display(out, number);
    }
}

pub(super) fn push_objects(out: &mut String, key: &str, objects: &Objects) {
    if !objects.is_empty() {
        push_key(out, key);
        objects.write(out);
    }
}

pub(super) fn push_heroes(out: &mut String, room: &Room) {
    if let Some(heroes) = room.heroes.as_ref().filter(|heroes| !heroes.is_empty()) {
        push_key(out, "heroes");
        write_heroes(out, heroes);
    }
}

fn write_heroes(out: &mut String, heroes: &[Hero]) {
    out.push('[');
    for hero in heroes {
        push_comma(out);
        out.push('{');
        push_key(out, "user_id");
        push_string(out, &hero.user_id);
        for (key, value) in [("displayname", &hero.displayname), ("avatar_url", &hero.avatar_url)] {
            if let Some(value) = value {
                push_key(out, key);
                push_string(out, value);
            }
        }
        out.push('}');
    }
    out.push(']');
}

/// The counts, the state and the timeline; `expanded` is the key that says that a longer timeline
/// was asked for, in dialects that have one.
pub(super) fn push_contents(out: &mut String, room: &Room, expanded: Option<&str>) {
    push_number(out, "joined_count", room.joined_count);
    push_number(out, "invited_count", room.invited_count);
    push_objects(out, "required_state", &room.required_state);
    if let Some(timeline) = &room.timeline {
        push_timeline(out, timeline, expanded);
    }
}

fn push_timeline(out: &mut String, timeline: &Timeline, expanded: Option<&str>) {
    push_objects(out, "timeline", &timeline.events);
    push_true(out, "limited", timeline.limited);
    if let Some(prev_batch) = &timeline.prev_batch {
        push_key(out, "prev_batch");
        push_string(out, prev_batch);
    }
    if let Some(expanded) = expanded {
        push_true(out, expanded, timeline.expanded);
    }
    push_number(out, "num_live", Some(timeline.num_live));
}

/// What both drafts have behind the timeline.
pub(super) fn push_invite_and_unread(out: &mut String, room: &Room) {
    if let Some(stripped) = &room.stripped {
        push_key(out, "invite_state");
        stripped.write(out);
    }
    if let Some((notifications, highlights)) = room.unread {
        push_number(out, "notification_count", Some(notifications));
        push_number(out, "highlight_count", Some(highlights));
    }
}

pub(super) fn write_extensions(out: &mut String, extensions: &Extensions, typing: &str) {
    out.push('{');
    if let Some(to_device) = &extensions.to_device {
        push_key(out, "to_device");
        write_to_device(out, to_device);
    }
    if let Some(e2ee) = &extensions.e2ee {
        push_key(out, "e2ee");
        write_e2ee(out, e2ee);
    }
    if let Some(account_data) = &extensions.account_data {
        push_key(out, "account_data");
        write_account_data(out, account_data);
    }
    for (key, rooms) in [("receipts", &extensions.receipts), (typing, &extensions.typing)] {
        if let Some(rooms) = rooms {
            push_key(out, key);
            out.push_str("{\"rooms\":");
            entries(out, rooms, |out, event| out.push_str(event));
            out.push('}');
        }
    }
    out.push('}');
}

fn write_to_device(out: &mut String, to_device: &ToDevice) {
    out.push('{');
    push_key(out, "next_batch");
    push_string(out, &to_device.next_batch);
    push_key(out, "events");
    to_device.events.write(out);
    out.push('}');
}

fn write_e2ee(out: &mut String, e2ee: &E2ee) {
    out.push('{');
    if let Some((changed, left)) = &e2ee.device_lists {
        push_key(out, "device_lists");
        out.push('{');
        for (key, users) in [("changed", changed), ("left", left)] {
            push_key(out, key);
            out.push('[');
            for user in users {
                push_comma(out);
                push_string(out, user);
            }
            out.push(']');
        }
        out.push('}');
    }
    for (key, json) in [
        ("device_one_time_keys_count", &e2ee.one_time_keys_count),
        ("device_unused_fallback_key_types", &e2ee.fallback_key_types),
    ] {
        if let Some(json) = json {
            push_key(out, key);
            out.push_str(json);
        }
    }
    out.push('}');
}

fn write_account_data(out: &mut String, account_data: &AccountData) {
    out.push('{');
    push_key(out, "global");
    account_data.global.write(out);
    push_key(out, "rooms");
    entries(out, &account_data.rooms, |out, events| events.write(out));
    out.push('}');
}

/// A value that is a string, or null where it was removed.
pub(super) fn push_mention(out: &mut String, key: &str, mention: &Mention<std::sync::Arc<str>>) {
    match mention {
        Mention::Silent => {}
        Mention::Removed => {
            push_key(out, key);
            out.push_str("null");
        }
        Mention::Set(value) => {
            push_key(out, key);
            push_string(out, value);
        }
    }
}

/// A flag, where it is set.
pub(super) fn push_true(out: &mut String, key: &str, flag: bool) {
    if flag {
        push_key(out, key);
        out.push_str("true");
    }
}
