//! The response, as the older proxy wrote it.

use std::sync::Arc;

use crate::{
    dialect::writing::{
        entries, estimate, push_contents, push_heroes, push_invite_and_unread, push_mention,
        push_number, push_rooms, push_true, write_extensions, write_sync,
    },
    json::{push_comma, push_display, push_key, push_string},
    list::Operation,
    response::{List, Response, Room},
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
    push_rooms(&mut out, &response.rooms, write_room);
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
        Operation::Sync(range, room_ids) => write_sync(out, *range, room_ids),
        Operation::Insert(index, room_id) => {
            push_display(out, format_args!(r#"{{"op":"INSERT","index":{index},"room_id":"#));
            push_string(out, room_id);
            out.push('}');
        }
        Operation::Delete(index) => {
            push_display(out, format_args!(r#"{{"op":"DELETE","index":{index}}}"#));
        }
        Operation::Invalidate((from, to)) => {
            push_display(out, format_args!(r#"{{"op":"INVALIDATE","range":[{from},{to}]}}"#));
        }
    }
}

fn write_room(out: &mut String, room: &Room) {
    out.push('{');
    push_true(out, "initial", room.initial);
    push_mention(out, "name", &room.name);
    push_mention(out, "avatar", &room.avatar);
    push_heroes(out, room);
    push_true(out, "is_dm", room.is_dm);
    push_number(out, "timestamp", room.timestamp);
    push_contents(out, room, None);
    push_invite_and_unread(out, room);
    out.push('}');
}
