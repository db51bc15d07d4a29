//! The response. What is omitted has not changed, but for an `initial` entry,
//! where it is not there.

use super::TYPING;
use crate::{
    dialect::writing::{
        entries, estimate, push_mention, push_number, push_objects, push_true, write_extensions,
        write_heroes,
    },
    json::{push_comma, push_free_key, push_key, push_string},
    record::Membership,
    response::{Response, Room, Timeline},
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
    push_key(&mut out, "rooms");
    out.push('{');
    for room in &response.rooms {
        push_free_key(&mut out, &room.room_id);
        write_room(&mut out, room);
    }
    out.push('}');
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
    if let Some(heroes) = room.heroes.as_ref().filter(|heroes| !heroes.is_empty()) {
        push_key(out, "heroes");
        write_heroes(out, heroes);
    }
    let is_dm_told = if room.initial { room.is_dm } else { room.is_dm_changed };
    if is_dm_told {
        push_key(out, "is_dm");
        out.push_str(if room.is_dm { "true" } else { "false" });
    }
    push_number(out, "joined_count", room.joined_count);
    push_number(out, "invited_count", room.invited_count);
    push_objects(out, "required_state", &room.required_state);
    if let Some(timeline) = &room.timeline {
        write_timeline(out, timeline);
    }
}

fn write_timeline(out: &mut String, timeline: &Timeline) {
    push_objects(out, "timeline", &timeline.events);
    push_true(out, "limited", timeline.limited);
    if let Some(prev_batch) = &timeline.prev_batch {
        push_key(out, "prev_batch");
        push_string(out, prev_batch);
    }
    push_true(out, "expanded_timeline", timeline.expanded);
    push_number(out, "num_live", Some(timeline.num_live));
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
