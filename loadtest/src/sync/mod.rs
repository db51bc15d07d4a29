//! `GET /_matrix/client/v3/sync` (version 2), as Synapse answers it.
//!
//! `request` reads what is asked, `room` writes one room, `token` the positions; this file puts an answer together.
//! Nothing here changes rooms or users, save that a device's acknowledged to-device messages are deleted.

mod request;
mod room;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

pub use request::{Filter, SyncRequest};
pub use token::Token;

use crate::model::{Homeserver, Membership, Room, TokenOwner, User, UserRoom, push_string};

/// An answer to a `/sync`.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The JSON body.
    pub(crate) body: String,
    /// Whether there is nothing in it that is worth ending a long poll for.
    pub(crate) is_empty: bool,
}

/// The four kinds of rooms in an answer, as JSON objects with commas between.
#[derive(Default)]
struct Sections(BTreeMap<&'static str, String>);

impl Sections {
    fn add(&mut self, section: &'static str, room_id: &str, entry: &str) {
        let out = self.0.entry(section).or_default();
        if !out.is_empty() {
            out.push(',');
        }
        push_string(out, room_id);
        out.push(':');
        out.push_str(entry);
    }
}

impl Homeserver {
    /// Answers a `/sync` as of now, whether or not there is anything new.
    pub(crate) fn sync(&mut self, owner: &TokenOwner, request: &SyncRequest, now: u64) -> Outcome {
        if let Some(since) = request.since
            && let Some(device) = self.device_mut(&owner.user_id, &owner.device_id)
        {
            while device.to_device.front().is_some_and(|(stream, _)| *stream <= since.to_device) {
                device.to_device.pop_front();
            }
        }
        let mut sent_members = Vec::new();
        let outcome = self.write_sync(owner, request, now, &mut sent_members);
        if let Some(device) = self.device_mut(&owner.user_id, &owner.device_id) {
            for (room_id, members) in sent_members {
                device.sent_members.entry(room_id).or_default().extend(members);
            }
        }
        outcome
    }

    fn write_sync(
        &self,
        owner: &TokenOwner,
        request: &SyncRequest,
        now: u64,
        sent_members: &mut Vec<(String, BTreeSet<String>)>,
    ) -> Outcome {
        let empty = User::default();
        let user = self.users.get(&owner.user_id).unwrap_or(&empty);
        let since = request.since.map(|token| token.stream);
        let mut is_empty = since.is_some() && !request.full_state;
        let mut parts = Vec::new();

        let (to_device, next) = self.write_to_device(user, &owner.device_id);
        if !to_device.is_empty() {
            is_empty = false;
            parts.push(format!("\"to_device\":{{\"events\":[{to_device}]}}"));
        }
        if since.is_none_or(|since| user.stream > since) {
            let account_data = write_account_data(&user.account_data, since);
            if !account_data.is_empty() {
                is_empty = false;
                parts.push(format!("\"account_data\":{{\"events\":[{account_data}]}}"));
            }
            if let Some(lists) = since.and_then(|since| self.write_device_lists(user, since)) {
                is_empty = false;
                parts.push(lists);
            }
            let view = room::View { homeserver: self, owner, request, since, now };
            if let Some(rooms) = view.write_rooms(user, sent_members) {
                is_empty = false;
                parts.push(rooms);
            }
        }
        if let Some(device) = user.devices.get(&owner.device_id) {
            let counts = serde_json::json!(device.one_time_keys);
            let fallback = serde_json::json!(device.fallback_keys);
            parts.push(format!(
                "\"device_one_time_keys_count\":{counts},\"device_unused_fallback_key_types\":{fallback},\
                 \"org.matrix.msc2732.device_unused_fallback_key_types\":{fallback}"
            ));
        }
        parts.push(format!("\"next_batch\":\"{}\"", self.write_token(next)));
        Outcome { body: format!("{{{}}}", parts.join(",")), is_empty }
    }

    /// The waiting to-device messages, and the position that acknowledges them.
    fn write_to_device(&self, user: &User, device_id: &str) -> (String, Token) {
        let mut next = Token { stream: self.stream, to_device: self.stream };
        let mut out = String::new();
        if let Some(device) = user.devices.get(device_id) {
            let max = self.options.to_device_events_max;
            for (stream, message) in device.to_device.iter().take(max) {
                if !out.is_empty() {
                    out.push(',');
                }
                let _ = write!(out, "{message}");
                if device.to_device.len() > max {
                    next.to_device = *stream;
                }
            }
        }
        (out, next)
    }

    /// Whose devices have changed, and with whom no room is shared any longer.
    fn write_device_lists(&self, user: &User, since: u64) -> Option<String> {
        let user_id = user.user_id.as_str();
        let first = self.device_changes.partition_point(|(stream, _)| *stream <= since);
        let mut changed: BTreeSet<&str> = self.device_changes[first..]
            .iter()
            .map(|(_, other)| other.as_str())
            .filter(|other| *other == user_id || self.share_a_room(user_id, other))
            .collect();
        let mut gone = BTreeSet::new();
        for room in user.rooms.keys().filter_map(|room_id| self.rooms.get(room_id)) {
            if room.stream > since {
                note_company(room, user_id, since, &mut changed, &mut gone);
            }
        }
        gone.retain(|other| *other != user_id && !self.share_a_room(user_id, other));
        changed.retain(|other| !gone.contains(other));
        if changed.is_empty() && gone.is_empty() {
            return None;
        }
        let lists = serde_json::json!({"changed": changed, "left": gone});
        Some(format!("\"device_lists\":{lists}"))
    }
}

/// Notes whom a room has newly brought together with a user, and whom it may have parted from them.
fn note_company<'a>(
    room: &'a Room,
    user_id: &str,
    since: u64,
    changed: &mut BTreeSet<&'a str>,
    gone: &mut BTreeSet<&'a str>,
) {
    let begin = room.first_after(since);
    let was_in = room.membership_at(user_id, begin) == Some(Membership::Join);
    let is_in = room.joined.contains(user_id);
    match (was_in, is_in) {
        (false, true) => changed.extend(room.joined.iter().map(String::as_str)),
        (true, false) => gone.extend(room.joined.iter().map(String::as_str)),
        (false, false) => {}
        (true, true) => {
            for (place, event) in room.events.iter().enumerate().skip(begin) {
                let (Some(membership), Some(other)) = (event.membership, &event.state_key) else {
                    continue;
                };
                let before = room.membership_at(other, place);
                match membership {
                    Membership::Join if before != Some(Membership::Join) => {
                        changed.insert(other);
                    }
                    Membership::Leave | Membership::Ban => _ = gone.insert(other),
                    _ => {}
                }
            }
        }
    }
}

/// Account data that changed after `since`, as JSON objects with commas between.
fn write_account_data(data: &BTreeMap<String, (u64, Value)>, since: Option<u64>) -> String {
    let mut out = String::new();
    for (kind, (stream, content)) in data {
        if since.is_none_or(|since| *stream > since) {
            if !out.is_empty() {
                out.push(',');
            }
            let _ = write!(out, "{{\"content\":{content},\"type\":");
            push_string(&mut out, kind);
            out.push('}');
        }
    }
    out
}

/// Whether a room has anything for a user after `since`; cheap, for accounts with thousands of rooms.
fn may_have_news(room: &Room, user_room: &UserRoom, since: Option<u64>) -> bool {
    since.is_none_or(|since| room.stream > since || user_room.stream > since)
}
