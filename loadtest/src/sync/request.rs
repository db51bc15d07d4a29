//! What a `/sync` request asks for: its query parameters and its filter.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Token;
use crate::api::Query;
use crate::model::{Homeserver, Refusal};

/// Events of a room's timeline when the filter says nothing.
const TIMELINE_LIMIT: usize = 10;

/// A `/sync` request.
#[derive(Debug, Clone, Default)]
pub struct SyncRequest {
    /// Where the client is.
    pub since: Option<Token>,
    /// How long to wait for something new.
    pub timeout_ms: u64,
    /// What to give.
    pub filter: Filter,
    /// Whether state is to be given as it is after the timeline.
    pub state_after: bool,
    /// Whether to give all state, and at once.
    pub full_state: bool,
}

/// The parts of a filter that are honoured.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Only these rooms; none at all when empty.
    pub rooms: Option<BTreeSet<String>>,
    /// Not these rooms.
    pub not_rooms: BTreeSet<String>,
    /// Events of a room's timeline at most.
    pub timeline_limit: usize,
    /// Only the members that the timeline needs.
    pub lazy_load_members: bool,
    /// Members even if they were given before.
    pub include_redundant_members: bool,
    /// Rooms that the user has left of themselves, in an initial sync.
    pub include_leave: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            rooms: None,
            not_rooms: BTreeSet::new(),
            timeline_limit: TIMELINE_LIMIT,
            lazy_load_members: false,
            include_redundant_members: false,
            include_leave: false,
        }
    }
}

impl Filter {
    /// Whether a room is asked for.
    pub fn wants(&self, room_id: &str) -> bool {
        !self.not_rooms.contains(room_id)
            && self.rooms.as_ref().is_none_or(|rooms| rooms.contains(room_id))
    }

    /// Reads a filter; what is not understood is left at its default.
    fn parse(text: &str, limit_max: usize) -> Result<Self, Refusal> {
        let filter: Value = serde_json::from_str(text)
            .map_err(|_| Refusal::new(400, "M_NOT_JSON", "Invalid filter JSON"))?;
        let ids = |value: &Value| {
            value.as_array().map(|ids| {
                ids.iter().filter_map(Value::as_str).map(str::to_owned).collect::<BTreeSet<_>>()
            })
        };
        let flag = |value: &Value| value.as_bool().unwrap_or(false);
        let (room, state) = (&filter["room"], &filter["room"]["state"]);
        let limit = room["timeline"]["limit"]
            .as_u64()
            .map_or(TIMELINE_LIMIT, |limit| usize::try_from(limit).unwrap_or(limit_max));
        Ok(Self {
            rooms: ids(&room["rooms"]),
            not_rooms: ids(&room["not_rooms"]).unwrap_or_default(),
            timeline_limit: limit.min(limit_max),
            lazy_load_members: flag(&state["lazy_load_members"]),
            include_redundant_members: flag(&state["include_redundant_members"]),
            include_leave: flag(&room["include_leave"]),
        })
    }
}

impl SyncRequest {
    /// Reads the query of a `/sync` request.
    pub fn parse(homeserver: &Homeserver, user_id: &str, query: &Query) -> Result<Self, Refusal> {
        let number = |name: &str| match query.get(name) {
            None => Ok(0),
            Some(text) => text.parse::<u64>().map_err(|_| {
                let message = format!("Query parameter '{name}' must be an integer");
                Refusal::new(400, "M_INVALID_PARAM", message)
            }),
        };
        let flag = |name: &str| query.get(name) == Some("true");
        let since = match query.get("since") {
            None => None,
            Some(text) => Some(
                homeserver
                    .read_token(text)
                    .ok_or_else(|| Refusal::new(400, "M_UNKNOWN", "Invalid stream token"))?,
            ),
        };
        let filter = match query.get("filter") {
            None => Filter::default(),
            Some(text) if text.starts_with('{') => {
                Filter::parse(text, homeserver.options.timeline_limit_max)?
            }
            Some(id) => {
                let stored = homeserver
                    .users
                    .get(user_id)
                    .and_then(|user| user.filters.get(id.parse::<usize>().ok()?));
                let stored =
                    stored.ok_or_else(|| Refusal::new(400, "M_INVALID_PARAM", "No such filter"))?;
                Filter::parse(stored, homeserver.options.timeline_limit_max)?
            }
        };
        let asked = flag("use_state_after") || flag("org.matrix.msc4222.use_state_after");
        Ok(Self {
            since,
            timeout_ms: number("timeout")?.min(homeserver.options.timeout_ms_max),
            filter,
            state_after: asked && homeserver.options.state_after,
            full_state: flag("full_state"),
        })
    }
}
