//! The fields of requests and responses, as the code has them: what has a new
//! one does not compile here until it is named, and then fails until a path
//! leads to it or a reason is given.

use luge_core::{
    connection::Want,
    request::{Filters, ListRequest, RoomConfig, Sort},
    response::{AccountData, E2ee, Extensions, List, Response, Room, Timeline, ToDevice, Window},
    world::Hero,
};

/// The names of all fields of a type, each behind the type's own.
macro_rules! fields {
    ($type:ident { $($field:ident),+ $(,)? }) => {{
        let _ = |it: &$type| { let $type { $($field: _),+ } = it; };
        [$(concat!(stringify!($type), ".", stringify!($field))),+]
    }};
}

/// The names of all variants of a type, each behind the type's own.
macro_rules! variants {
    ($type:ident { $($variant:ident),+ $(,)? }) => {{
        let _ = |it: &$type| match it { $($type::$variant { .. } => {})+ };
        [$(concat!(stringify!($type), ".", stringify!($variant))),+]
    }};
}

/// Fields that no path leads to, and why that is no hole in the tests.
pub(crate) const EXEMPT: [(&str, &str); 22] = [
    ("Response.position", "its form is tested apart, and nobody uses another's"),
    ("Response.txn_id", "what the same request said"),
    ("Response.lists", "its parts have paths"),
    ("Response.rooms", "its parts have paths"),
    ("Response.extensions", "its parts have paths"),
    ("List.windows", "its parts have paths"),
    ("Window.range", "what the same request said"),
    ("Timeline.expanded", "follows from what the same connection asked for before"),
    ("Extensions.to_device", "its parts have paths"),
    ("Extensions.e2ee", "its parts have paths"),
    ("Extensions.account_data", "its parts have paths"),
    ("ListRequest.ranges", "selects, and shows nothing itself"),
    ("ListRequest.config", "its parts have paths"),
    ("ListRequest.filters", "its parts have paths"),
    ("ListRequest.sort", "its values have paths"),
    ("RoomConfig.timeline_limit", "selects, and shows nothing itself"),
    ("RoomConfig.required_state", "selects; each kind of pattern is a request"),
    ("RoomConfig.include_heroes", "selects, and shows nothing itself"),
    ("Want.Members", "no outsider's request may fetch anything at all"),
    ("Want.PrevBatch", "no outsider's request may fetch anything at all"),
    ("Want.Member", "no outsider's request may fetch anything at all"),
    ("Want.JoinedRooms", "no request causes it, and it tells of the user's own rooms"),
];

/// Every field through which something could show.
pub(crate) fn all() -> Vec<&'static str> {
    let mut all = Vec::new();
    all.extend(fields!(Response { position, txn_id, lists, rooms, extensions }));
    all.extend(fields!(List { count, windows, operations }));
    all.extend(fields!(Window { range, room_ids }));
    all.extend(fields!(Room {
        room_id,
        initial,
        name,
        avatar,
        heroes,
        is_dm,
        is_dm_changed,
        membership,
        timestamp,
        lists,
        joined_count,
        invited_count,
        bump_stamp,
        required_state,
        timeline,
        stripped,
        unread,
    }));
    all.extend(fields!(Hero { user_id, displayname, avatar_url }));
    all.extend(fields!(Timeline { events, limited, prev_batch, num_live, expanded }));
    all.extend(fields!(Extensions { to_device, e2ee, account_data, receipts, typing }));
    all.extend(fields!(ToDevice { next_batch, events }));
    all.extend(fields!(E2ee { device_lists, one_time_keys_count, fallback_key_types }));
    all.extend(fields!(AccountData { global, rooms }));
    all.extend(fields!(ListRequest {
        ranges,
        config,
        filters,
        sort,
        bump_event_types,
        slow_get_all_rooms,
    }));
    all.extend(fields!(Filters {
        is_dm,
        is_encrypted,
        is_invite,
        is_tombstoned,
        room_types,
        not_room_types,
        room_name_like,
        tags,
        not_tags,
        spaces,
    }));
    all.extend(variants!(Sort {
        Recency,
        Name,
        NotificationLevel,
        NotificationCount,
        HighlightCount,
    }));
    all.extend(fields!(RoomConfig { timeline_limit, required_state, old_rooms, include_heroes }));
    all.extend(variants!(Want { Members, Member, PrevBatch, History, State, JoinedRooms }));
    all
}
