//! The response, as the older proxy wrote it.

use std::sync::Arc;

use crate::{
    dialect::writing::{
        entries, estimate, push_mention, push_number, push_objects, push_true, write_extensions,
        write_heroes,
    },
    json::{push_comma, push_display, push_free_key, push_key, push_string},
    list::Operation,
    response::{List, Response, Room, Timeline},
};

/// The response's body.
pub fn write(response: &Response) -> String {
    let mut out = String::with_capacity(estimate(response));
    out.push('{');
    push_key(&mut out, "pos");
    push_string(&mut out, &response.position);
    if let Some(txn_id) = &response.txn_id {
        push_key(&mut out, "txn_id");
        push_string(&mut out, txn_id);
    }
    push_key(&mut out, "lists");
    entries(&mut out, &response.lists, write_list);
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
    push_number(out, "count", Some(list.count));
    if !list.operations.is_empty() {
        push_key(out, "ops");
        out.push('[');
        for operation in &list.operations {
            push_comma(out);
            write_operation(out, operation);
        }
        out.push(']');
    }
    out.push('}');
}

fn write_operation(out: &mut String, operation: &Operation<Arc<str>>) {
    match operation {
        Operation::Sync((from, to), room_ids) => {
            push_display(out, format_args!(r#"{{"op":"SYNC","range":[{from},{to}],"room_ids":["#));
            for room_id in room_ids {
                push_comma(out);
                push_string(out, room_id);
            }
            out.push(']');
        }
        Operation::Insert(index, room_id) => {
            push_display(out, format_args!(r#"{{"op":"INSERT","index":{index},"room_id":"#));
            push_string(out, room_id);
        }
        Operation::Delete(index) => {
            push_display(out, format_args!(r#"{{"op":"DELETE","index":{index}"#));
        }
        Operation::Invalidate((from, to)) => {
            push_display(out, format_args!(r#"{{"op":"INVALIDATE","range":[{from},{to}]"#));
        }
    }
    out.push('}');
}

fn write_room(out: &mut String, room: &Room) {
    out.push('{');
    push_true(out, "initial", room.initial);
    push_mention(out, "name", &room.name);
    push_mention(out, "avatar", &room.avatar);
    if let Some(heroes) = room.heroes.as_ref().filter(|heroes| !heroes.is_empty()) {
        push_key(out, "heroes");
        write_heroes(out, heroes);
    }
    push_true(out, "is_dm", room.is_dm);
    push_number(out, "timestamp", room.timestamp);
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
    push_number(out, "num_live", Some(timeline.num_live));
}
