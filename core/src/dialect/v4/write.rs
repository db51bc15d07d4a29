//! The response. What is omitted has not changed, but for an `initial` entry,
//! where it is not there.

use super::TYPING;
use crate::{
    dialect::writing::{
        entries, estimate, push_contents, push_heroes, push_mention, push_number, push_rooms,
        push_true, write_extensions,
    },
    json::{push_comma, push_key, push_string},
    record::Membership,
    response::{Response, Room},
};

/// The response's body.
pub fn write(response: &Response) -> String {
    let mut out = String::with_capacity(estimate(response));
    out.push('{');
    push_key(&mut out, "pos");
    push_string(&mut out, &response.position);
    push_key(&mut out, "lists");
    entries(&mut out, &response.lists, |out, list| {
        out.push('{');
        push_number(out, "count", Some(list.count));
        out.push('}');
    });
    push_rooms(&mut out, &response.rooms, write_room);
    push_key(&mut out, "extensions");
    write_extensions(&mut out, &response.extensions, TYPING);
    out.push('}');
    out
}

fn write_room(out: &mut String, room: &Room) {
    out.push('{');
    push_number(out, "bump_stamp", room.bump_stamp);
    if let Some(membership) = room.membership {
        push_key(out, "membership");
        push_string(out, word(membership));
    }
    if !room.lists.is_empty() {
        push_key(out, "lists");
        out.push('[');
        for list in &room.lists {
            push_comma(out);
            push_string(out, list);
        }
        out.push(']');
    }
    match &room.stripped {
        Some(stripped) => {
            push_key(out, "stripped_state");
            stripped.write(out);
        }
        None => write_member_fields(out, room),
    }
    out.push('}');
}

/// What is for who is or was in the room.
fn write_member_fields(out: &mut String, room: &Room) {
    push_true(out, "initial", room.initial);
    push_mention(out, "name", &room.name);
    push_mention(out, "avatar", &room.avatar);
    push_heroes(out, room);
    let is_dm_told = if room.initial { room.is_dm } else { room.is_dm_changed };
    if is_dm_told {
        push_key(out, "is_dm");
        out.push_str(if room.is_dm { "true" } else { "false" });
    }
    push_contents(out, room, Some("expanded_timeline"));
}

/// A kick is a leave that somebody else made.
fn word(membership: Membership) -> &'static str {
    match membership {
        Membership::Join => "join",
        Membership::Invite => "invite",
        Membership::Knock => "knock",
        Membership::Leave | Membership::Kick => "leave",
        Membership::Ban => "ban",
    }
}
