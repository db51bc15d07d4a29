//! The response, as Synapse writes it.

use crate::{
    dialect::writing::{
        entries, estimate, push_mention, push_number, push_objects, push_true, write_extensions,
        write_heroes,
    },
    json::{push_comma, push_display, push_free_key, push_key, push_string},
    response::{List, Mention, Response, Room, Timeline, Window},
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
    write_extensions(&mut out, &response.extensions, "typing");
    out.push('}');
    out
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
    push_true(out, "initial", room.initial);
    // A removed name is not for this dialect: the state event says it.
    if let Mention::Set(name) = &room.name {
        push_key(out, "name");
        push_string(out, name);
    }
    push_mention(out, "avatar", &room.avatar);
    if let Some(heroes) = room.heroes.as_ref().filter(|heroes| !heroes.is_empty()) {
        push_key(out, "heroes");
        write_heroes(out, heroes);
    }
    push_true(out, "is_dm", room.is_dm);
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

fn write_timeline(out: &mut String, timeline: &Timeline) {
    push_objects(out, "timeline", &timeline.events);
    push_true(out, "limited", timeline.limited);
    if let Some(prev_batch) = &timeline.prev_batch {
        push_key(out, "prev_batch");
        push_string(out, prev_batch);
    }
    push_true(out, "unstable_expanded_timeline", timeline.expanded);
    push_number(out, "num_live", Some(timeline.num_live));
}
