//! What a room hides from who comes into it.
//!
//! Where a room does not share its history, a homeserver leaves out of the answer to
//! who has just come what they may not see, and says nothing of it: between the events
//! from before they came, of which Synapse gives those that are the state now, any
//! number may be missing. What others are to be shown rests on nothing of the kind.

use super::{fold::Fold, polled::Poll, state::previous_membership, timeline::LOOKED_AT_MAX};
use crate::{
    record::{EventRecord, Place, StateRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, SyncEvent},
    view::Table,
    world::Room,
};

const HISTORY_VISIBILITY: &str = "m.room.history_visibility";

impl Fold<'_> {
    /// Takes out of a batch's timeline what stands before the event with which the
    /// poller's user came into the room, where that may have holes. What of it is state
    /// is state as of then.
    pub(super) fn leave_out_hidden(&self, poll: Poll, room: &Room, batch: &mut RoomBatch) {
        let Some(user_id) = self.ledger.world.user_id(poll.user).cloned() else { return };
        let Some(came) = self.hidden_before(room, batch, &user_id) else { return };
        let mut before: Vec<SyncEvent> = batch.timeline.drain(..came).collect();
        // What is set again behind it is told there, and the state after a timeline lacks
        // none but members.
        let is_same = |one: &SyncEvent, other: &SyncEvent| {
            one.kind == other.kind && one.state_key == other.state_key
        };
        let is_after = batch.state_is_after;
        before.retain(|event| {
            let is_told = batch.timeline.iter().any(|later| is_same(later, event))
                || (is_after && batch.state.iter().any(|entry| is_same(entry, event)));
            event.state_key.is_some() && !is_told && (event.kind == MEMBER || !is_after)
        });
        batch.state.extend(before);
        batch.limited = true;
        // It stands before what is hidden from one user, and not from others.
        batch.prev_batch = None;
    }

    /// The place in a batch's timeline of the event with which a user came into the
    /// room, where what stands before it may have holes.
    pub(super) fn hidden_before(
        &self,
        room: &Room,
        batch: &RoomBatch,
        user_id: &str,
    ) -> Option<usize> {
        let came = batch.timeline.iter().rposition(|event| begins_stay(event, user_id))?;
        // Nothing lies between a room's creation and its creator's coming.
        let created =
            |event: &SyncEvent| event.kind == "m.room.create" && *event.sender == *user_id;
        let is_creator = came == 1 && created(&batch.timeline[0]);
        let told = batch.state.iter().chain(&batch.timeline);
        let told_hides = told.filter(|event| event.kind == HISTORY_VISIBILITY).any(hides);
        (came > 0 && !is_creator && (told_hides || self.hides_history(room))).then_some(came)
    }

    /// Whether a batch's timeline begins with its user's coming: they see nothing from
    /// before it.
    pub(super) fn begins_with_coming(&self, poll: Poll, batch: &RoomBatch) -> bool {
        let user_id = self.ledger.world.user_id(poll.user);
        let first = batch.timeline.first().zip(user_id);
        first.is_some_and(|(first, user_id)| begins_stay(first, user_id))
    }

    /// Whether a room hides what was before from who comes, by its state or what that
    /// was just before.
    fn hides_history(&self, room: &Room) -> bool {
        self.visibility(room).is_some_and(|json| hides_by(&json))
    }

    fn visibility(&self, room: &Room) -> Option<String> {
        let archive = self.get(Table::State, &key::state(room.number, HISTORY_VISIBILITY, ""));
        let entry = archive.and_then(StateRecord::decode)?;
        Some(self.event(room.number, entry.place)?.json)
    }

    /// Whether a page of history may have holes from before its user came, by the room's
    /// state, or the page itself, or by the timeline from `first` on where the state was
    /// another before.
    pub(super) fn may_hide(&self, room: &Room, first: u64, page: &[SyncEvent]) -> bool {
        let hid = |event: &EventRecord| event.kind == HISTORY_VISIBILITY && hides_by(&event.json);
        let now = self.visibility(room);
        now.as_deref().is_some_and(hides_by)
            || page.iter().any(|event| event.kind == HISTORY_VISIBILITY && hides(event))
            || (now.as_deref().is_some_and(was_set_before) && self.has_since(room, first, hid))
    }

    /// Whether a user came into the room with an event of its timeline that is not
    /// older than `first`.
    pub(super) fn came_since(&self, room: &Room, user_id: &str, first: u64) -> bool {
        self.has_since(room, first, |event| {
            let is_own = event.kind == MEMBER && event.state_key.as_deref() == Some(user_id);
            is_own && comes_in(&event.json)
        })
    }

    /// Whether the timeline from `first` on has such a state event, or is too long to say.
    fn has_since(&self, room: &Room, first: u64, is_it: impl Fn(&EventRecord) -> bool) -> bool {
        let timeline = |sequence| key::event(room.number, Place { timeline: true, sequence });
        let (mut has, mut looked_at) = (false, 0);
        let to = timeline(room.last_event.0.saturating_add(1));
        self.scan_back(Table::Events, &timeline(first), &to, &mut |_, archive| {
            looked_at += 1;
            let event = EventRecord::access(archive).filter(|event| event.state_key.is_some());
            let event = event.and_then(|_| EventRecord::decode(archive));
            has = looked_at > LOOKED_AT_MAX || event.is_some_and(|event| is_it(&event));
            !has
        });
        has
    }
}

/// Whether a user comes into the room by an event: they join, and were not joined
/// before as far as it says.
pub(super) fn begins_stay(event: &SyncEvent, user_id: &str) -> bool {
    event.kind == MEMBER && event.state_key.as_deref() == Some(user_id) && comes_in(&event.json)
}

fn comes_in(json: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Event {
        content: Content,
    }
    #[derive(serde::Deserialize)]
    struct Content {
        membership: String,
    }
    let is_join =
        serde_json::from_str::<Event>(json).is_ok_and(|event| event.content.membership == "join");
    is_join && previous_membership(json).as_deref() != Some("join")
}

fn hides(event: &SyncEvent) -> bool {
    hides_by(&event.json)
}

/// Whether a room hides history by such an event, or did before it. What it says that
/// nobody knows is taken for less than all.
fn hides_by(json: &str) -> bool {
    let shares = |content: &Content| {
        let visibility = content.history_visibility.as_deref();
        matches!(visibility, None | Some("shared" | "world_readable"))
    };
    serde_json::from_str::<Visibility>(json)
        .is_ok_and(|event| !shares(&event.content) || !shares(&event.unsigned.prev_content))
}

/// Whether an event is not the first that says what a room shows of its history.
fn was_set_before(json: &str) -> bool {
    serde_json::from_str::<Visibility>(json)
        .is_ok_and(|event| event.unsigned.prev_content.history_visibility.is_some())
}

/// `m.room.history_visibility`.
#[derive(serde::Deserialize)]
struct Visibility {
    #[serde(default)]
    content: Content,
    #[serde(default)]
    unsigned: Unsigned,
}

#[derive(Default, serde::Deserialize)]
struct Unsigned {
    #[serde(default)]
    prev_content: Content,
}

#[derive(Default, serde::Deserialize)]
struct Content {
    history_visibility: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_hides_what_it_does_not_share() {
        let says = |now: &str, before: &str| {
            let unsigned = format!(r#"{{"prev_content":{{"history_visibility":"{before}"}}}}"#);
            format!(r#"{{"content":{{"history_visibility":"{now}"}},"unsigned":{unsigned}}}"#)
        };
        for (json, expected) in [
            (says("shared", "shared"), false),
            (says("world_readable", "shared"), false),
            (says("joined", "shared"), true),
            (says("invited", "shared"), true),
            (says("shared", "joined"), true),
            (says("strange", "shared"), true),
            (r#"{"content":{"history_visibility":"invited"}}"#.to_owned(), true),
            (r#"{"content":{}}"#.to_owned(), false),
            ("{}".to_owned(), false),
        ] {
            assert_eq!(hides_by(&json), expected, "{json}");
        }
    }
}
