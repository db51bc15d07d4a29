//! What rooms hide of their history, as Synapse decides it: of what was before
//! somebody came they are given what `m.room.history_visibility` lets them see,
//! and where it hides something nobody says so.

use std::{collections::BTreeSet, ops::Range};

use crate::{
    homeserver::{Homeserver, Is, MEMBER, Room, user_id},
    random::Random,
};

pub(crate) const HISTORY_VISIBILITY: &str = "m.room.history_visibility";

/// What a room may be set to, the most open first.
const VISIBILITIES: [&str; 4] = ["world_readable", "shared", "invited", "joined"];

/// The place of `shared` in [`VISIBILITIES`], which is what holds where nothing is set.
const SHARED: usize = 1;

/// Pages of events that are read, in search of what may be seen, for one timeline.
const PAGES_MAX: usize = 5;

/// The events of a room that an answer has.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Oldest first.
    pub(crate) indices: Vec<usize>,
    /// Whether there are more before them, seen or not.
    pub(crate) limited: bool,
    /// The index that the token for paging back stands before.
    pub(crate) token: usize,
    /// Where it ends.
    pub(crate) end: usize,
}

impl Part {
    /// The index of the first event, or of what comes next.
    pub(crate) fn begin(&self) -> usize {
        self.indices.first().copied().unwrap_or(self.end)
    }
}

/// What a room is created with: a third show nothing from before one's coming.
pub(crate) fn visibility_of_new(random: &mut Random) -> Option<&'static str> {
    match random.below(6) {
        0 | 1 => Some("joined"),
        2 => Some("invited"),
        3 => Some("world_readable"),
        4 => Some("shared"),
        _ => None,
    }
}

pub(crate) fn any_visibility(random: &mut Random) -> &'static str {
    VISIBILITIES[random.below(VISIBILITIES.len())]
}

impl Room {
    /// How open the room is just before the event at `end`: a place in
    /// [`VISIBILITIES`].
    fn visibility(&self, end: usize) -> usize {
        let set = self.state.get(&(HISTORY_VISIBILITY, String::new()));
        let at = set.and_then(|indices| Self::as_of(indices, end));
        let value = at.map(|at| &self.events[at].value);
        let place = value.and_then(|value| VISIBILITIES.iter().position(|it| it == value));
        place.unwrap_or(SHARED)
    }

    /// Whether somebody who is or was there may see an event.
    pub(crate) fn shows(&self, user: usize, index: usize) -> bool {
        let event = &self.events[index];
        let before = self.visibility(index);
        let visibility = match event.kind {
            HISTORY_VISIBILITY => before.min(self.visibility(index + 1)),
            _ => before,
        };
        let after = self.membership_at(user, event.stream);
        let is = if event.kind == MEMBER && event.state_key == Some(user_id(user)) {
            let before = self.membership_at(user, event.stream - 1);
            let was_asked = matches!(before, Some(Is::Join | Is::Invite));
            if was_asked && matches!(after, Some(Is::Leave | Is::Kick)) {
                return true;
            }
            if before == Some(Is::Join) { before } else { after }
        } else {
            after
        };
        is == Some(Is::Join)
            || visibility <= SHARED
            || (VISIBILITIES[visibility] == "invited" && is == Some(Is::Invite))
    }

    /// Whether an event is part of the state as it is now.
    fn is_current(&self, index: usize) -> bool {
        let event = &self.events[index];
        let Some(key) = &event.state_key else { return false };
        self.current(event.kind, key).is_some_and(|current| current.id == event.id)
    }

    /// The newest `limit` events of a timeline, and what of the state now lies among
    /// them, seen or not.
    pub(crate) fn part(&self, user: usize, range: Range<usize>, limit: usize) -> Part {
        let page = (limit * 2).max(10);
        let (mut first, mut indices) = (range.end, Vec::new());
        for _ in 0..PAGES_MAX {
            if first == range.start || indices.len() >= limit {
                break;
            }
            let next = first.saturating_sub(page).max(range.start);
            let is_given = |at: &usize| self.shows(user, *at) || self.is_current(*at);
            indices.extend((next..first).rev().filter(is_given));
            first = next;
        }
        let is_cut = indices.len() > limit;
        indices.truncate(limit);
        indices.reverse();
        let limited = is_cut || first > range.start;
        let begin = indices.first().copied().unwrap_or(range.end);
        // Where nothing was cut off, the token stands for where the search began.
        let token = if is_cut || !limited { begin } else { range.end };
        Part { indices, limited, token, end: range.end }
    }

    /// The state that goes with a part of the timeline: what was set after `floor`,
    /// members only as far as the timeline or the user needs them.
    pub(crate) fn state_of(
        &self,
        user: usize,
        floor: u64,
        part: &Part,
        state_after: bool,
    ) -> Vec<usize> {
        let senders: BTreeSet<String> =
            part.indices.iter().map(|at| user_id(self.events[*at].sender)).collect();
        let own = user_id(user);
        let mut state = Vec::new();
        for ((kind, key), indices) in &self.state {
            let is_apart = |at: &usize| *at >= part.begin() && !part.indices.contains(at);
            // What the timeline hides and nothing replaced is there as well.
            let at_end = Self::as_of(indices, part.end);
            let at_end = at_end.filter(|at| state_after || is_apart(at));
            let Some(at) = at_end.or_else(|| Self::as_of(indices, part.begin())) else { continue };
            let changed = self.events[at].stream > floor;
            let wanted = if *kind == MEMBER {
                senders.contains(key) || (*key == own && changed)
            } else {
                changed
            };
            if wanted {
                state.push(at);
            }
        }
        state
    }
}

impl Homeserver {
    /// Who shows the room's history from now on is changed.
    pub(crate) fn shows_history(&mut self, room: usize, sender: usize, visibility: &'static str) {
        let of = &self.rooms[room];
        let before = of.current(HISTORY_VISIBILITY, "").map(|event| event.value.clone());
        let content = format!(r#"{{"history_visibility":"{visibility}"}}"#);
        let value = visibility.to_owned();
        let replaced = self.replaced(room, HISTORY_VISIBILITY, "");
        let index = self.happens(room, HISTORY_VISIBILITY, Some(""), sender, &content, value);
        if let Some(before) = before {
            let content = format!(r#"{{"history_visibility":"{before}"}}"#);
            self.rooms[room].events[index].replaces(&content, replaced.as_deref());
        }
    }
}
