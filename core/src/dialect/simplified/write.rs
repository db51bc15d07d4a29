//! The response, as Synapse writes it.

use crate::{
    json::{push_comma, push_display, push_free_key, push_key, push_string},
    response::{
        AccountData, E2ee, Extensions, List, Mention, Objects, Response, Room, Timeline, ToDevice,
        Window,
    },
    world::Hero,
};

/// The response's body.
pub fn write(response: &Response) -> String {
    let mut out = String::with_capacity(estimate(response));
    out.push('{');
    push_key(&mut out, "pos");
    push_string(&mut out, &response.position);
    if !response.lists.is_empty() {
        push_key(&mut out, "lists");
        entries(&mut out, &response.lists, write_list);
    }
    push_key(&mut out, "rooms");
    out.push('{');
    for room in &response.rooms {
        push_free_key(&mut out, &room.room_id);
        write_room(&mut out, room);
    }
    out.push('}');
    push_key(&mut out, "extensions");
    write_extensions(&mut out, &response.extensions);
    out.push('}');
    out
}

/// A guess at the body's size that spares most of the growing.
fn estimate(response: &Response) -> usize {
    let listed = |list: &List| list.windows.iter().map(|it| it.room_ids.len()).sum::<usize>();
    let listed: usize = response.lists.iter().map(|(_, list)| listed(list)).sum();
    1024 + listed * 48 + response.rooms.len() * 4096
}

fn entries<K: AsRef<str>, V>(
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

fn write_list(out: &mut String, list: &List) {
    out.push('{');
    push_key(out, "count");
    push_display(out, list.count);
    push_key(out, "ops");
    out.push('[');
    for window in &list.windows {
        push_comma(out);
        write_window(out, window);
    }
    out.push_str("]}");
}

fn write_window(out: &mut String, window: &Window) {
    let (from, to) = window.range;
    push_display(out, format_args!(r#"{{"op":"SYNC","range":[{from},{to}],"room_ids":["#));
    for room_id in &window.room_ids {
        push_comma(out);
        push_string(out, room_id);
    }
    out.push_str("]}");
}

fn write_room(out: &mut String, room: &Room) {
    out.push('{');
    if room.initial {
        push_key(out, "initial");
        out.push_str("true");
    }
    // A removed name is not for this dialect: the state event says it.
    if let Mention::Set(name) = &room.name {
        push_key(out, "name");
        push_string(out, name);
    }
    match &room.avatar {
        Mention::Silent => {}
        Mention::Removed => {
            push_key(out, "avatar");
            out.push_str("null");
        }
        Mention::Set(avatar) => {
            push_key(out, "avatar");
            push_string(out, avatar);
        }
    }
    if let Some(heroes) = room.heroes.as_ref().filter(|heroes| !heroes.is_empty()) {
        push_key(out, "heroes");
        write_heroes(out, heroes);
    }
    if room.is_dm {
        push_key(out, "is_dm");
        out.push_str("true");
    }
    push_number(out, "bump_stamp", room.bump_stamp);
    push_number(out, "joined_count", room.joined_count);
    push_number(out, "invited_count", room.invited_count);
    push_objects(out, "required_state", &room.required_state);
    if let Some(timeline) = &room.timeline {
        write_timeline(out, timeline);
    }
    if let Some(stripped) = &room.stripped {
        push_key(out, "invite_state");
        stripped.write(out);
    }
    if let Some((notifications, highlights)) = room.unread {
        push_number(out, "notification_count", Some(notifications));
        push_number(out, "highlight_count", Some(highlights));
    }
    out.push('}');
}

fn push_number(out: &mut String, key: &str, number: Option<u64>) {
    if let Some(number) = number {
        push_key(out, key);
        push_display(out, number);
    }
}

fn push_objects(out: &mut String, key: &str, objects: &Objects) {
    if !objects.is_empty() {
        push_key(out, key);
        objects.write(out);
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

fn write_timeline(out: &mut String, timeline: &Timeline) {
    push_objects(out, "timeline", &timeline.events);
    if timeline.limited {
        push_key(out, "limited");
        out.push_str("true");
    }
    if let Some(prev_batch) = &timeline.prev_batch {
        push_key(out, "prev_batch");
        push_string(out, prev_batch);
    }
    if timeline.expanded {
        push_key(out, "unstable_expanded_timeline");
        out.push_str("true");
    }
    push_number(out, "num_live", Some(timeline.num_live));
}

fn write_extensions(out: &mut String, extensions: &Extensions) {
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
    for (key, rooms) in [("receipts", &extensions.receipts), ("typing", &extensions.typing)] {
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
