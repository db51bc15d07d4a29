//! The response, as Synapse writes it.

use crate::{
    dialect::writing::{
        entries, estimate, push_contents, push_heroes, push_invite_and_unread, push_mention,
        push_number, push_rooms, push_true, write_extensions, write_sync,
    },
    json::{push_comma, push_display, push_key, push_string},
    response::{List, Mention, Response, Room},
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
    push_rooms(&mut out, &response.rooms, write_room);
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
        write_sync(out, window.range, &window.room_ids);
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
    push_heroes(out, room);
    push_true(out, "is_dm", room.is_dm);
    push_number(out, "bump_stamp", room.bump_stamp);
    push_contents(out, room, Some("unstable_expanded_timeline"));
    push_invite_and_unread(out, room);
    out.push('}');
}
