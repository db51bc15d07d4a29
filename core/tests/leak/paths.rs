//! What happens that only some may learn of, and where those see it.

use std::collections::BTreeMap;

use luge_core::request::Dialect::{self, Msc3575, Simplified, V4};
use serde_json::{Value, json};

use crate::{
    events::{ALICE, event, invited, joined_with, made, member, merge, message, name, state},
    town::{DORA, INVITE, OWN, Observer, ROOM, SECRET, Town},
};

/// Who may learn of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Of {
    /// Who is in the room.
    Room,
    /// Alice, with each of her devices.
    Alice,
    /// Alice's first device.
    Device,
}

/// Something that happens, told to Alice's first device.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    pub(crate) of: Of,
    /// What has to come before it, whether or not it happens then.
    pub(crate) prepare: Option<fn(&mut Town)>,
    /// What happens.
    pub(crate) happens: fn(&mut Town),
    /// Whether it has been so since the room was made: who has been there knows.
    pub(crate) is_old: bool,
    /// Whether it is history to who joins later.
    pub(crate) is_history: bool,
    /// Whether it changes what others see and tells them nothing: its secret is
    /// looked for, and the answers are not compared.
    pub(crate) shows_otherwise: bool,
    /// Those of one group do not hide each other, and may happen together.
    pub(crate) group: u8,
    pub(crate) shown: &'static [Shown],
}

/// Where something shows: the field that shows it, in which dialects, in the
/// answer to which request, and where there.
pub(crate) type Shown = (&'static str, &'static [Dialect], &'static str, &'static str);

impl Path {
    /// Who sees it for sure.
    pub(crate) fn insider(&self) -> Observer {
        if self.of == Of::Room { Observer::Bob } else { Observer::Alice }
    }
}

const ALL: &[Dialect] = &[Simplified, V4, Msc3575];
const S: &[Dialect] = &[Simplified];
const A: &[Dialect] = &[V4];
const M: &[Dialect] = &[Msc3575];
const S_A: &[Dialect] = &[Simplified, V4];
const S_M: &[Dialect] = &[Simplified, Msc3575];

const fn path(name: &'static str, of: Of, happens: fn(&mut Town), shown: &'static [Shown]) -> Path {
    let (is_old, is_history, shows_otherwise, group) = (false, false, false, 0);
    let prepare = None;
    Path { name, of, prepare, happens, is_old, is_history, shows_otherwise, group, shown }
}

/// The paths in batches that may happen together.
pub(crate) fn batches() -> Vec<Vec<&'static Path>> {
    let mut batches: BTreeMap<_, Vec<&Path>> = BTreeMap::new();
    for path in PATHS {
        let kind = (path.of, path.is_old, path.shows_otherwise, path.group);
        batches.entry(kind).or_default().push(path);
    }
    batches.into_values().collect()
}

/// Every path.
pub(crate) const PATHS: &[Path] = &[
    Path {
        is_history: true,
        ..path(
            "a message",
            Of::Room,
            message_comes,
            &[
                ("Room.timeline", ALL, "everything", "/rooms/!r:x/timeline"),
                ("Room.initial", ALL, "everything", "/rooms/!r:x"),
                ("Room.room_id", ALL, "lazy", "/rooms/!r:x"),
                ("Timeline.events", ALL, "lazy", "/rooms/!r:x/timeline"),
                ("Timeline.num_live", ALL, "everything", "/rooms/!r:x/num_live"),
                ("Room.bump_stamp", S_A, "everything", "/rooms/!r:x/bump_stamp"),
                ("Room.timestamp", M, "everything", "/rooms/!r:x/timestamp"),
                ("Room.lists", A, "orders", "/rooms/!r:x/lists"),
                ("Window.room_ids", S, "orders", "/lists/top/ops"),
                ("List.operations", M, "everything", "/lists/all/ops"),
                ("Sort.Recency", M, "orders", "/lists/by_recency/ops"),
                ("ListRequest.bump_event_types", M, "orders", "/lists/bumped/ops"),
                ("RoomConfig.old_rooms", M, "replaced", "/rooms/!r:x/timeline"),
            ],
        )
    },
    Path {
        is_history: true,
        group: 4,
        ..path(
            "a gap",
            Of::Room,
            gap_comes,
            &[
                ("Timeline.limited", ALL, "everything", "/rooms/!r:x/limited"),
                ("Timeline.prev_batch", ALL, "everything", "/rooms/!r:x/prev_batch"),
            ],
        )
    },
    Path {
        shows_otherwise: true,
        ..path(
            "a redaction",
            Of::Room,
            redactions_come,
            &[
                ("Timeline.events", ALL, "everything", "/rooms/!r:x/timeline"),
                ("Room.required_state", ALL, "me", "/rooms/!r:x/required_state"),
            ],
        )
    },
    path(
        "state of a type that was asked for",
        Of::Room,
        topic_comes,
        &[
            ("Room.required_state", ALL, "everything", "/rooms/!r:x/required_state"),
            ("Room.required_state", ALL, "types", "/rooms/!r:x/required_state"),
        ],
    ),
    path(
        "state with a key that was asked for",
        Of::Room,
        keyed_state_comes,
        &[
            ("Room.required_state", ALL, "keys", "/rooms/!r:x/required_state"),
            ("Room.required_state", ALL, "types", "/rooms/!r:x/required_state"),
        ],
    ),
    Path {
        group: 4,
        ..path(
            "a member",
            Of::Room,
            member_comes,
            &[
                ("Room.required_state", ALL, "lazy", "/rooms/!r:x/required_state"),
                ("Room.joined_count", ALL, "everything", "/rooms/!r:x/joined_count"),
                ("Room.heroes", ALL, "everything", "/rooms/!r:x/heroes"),
                ("Hero.user_id", ALL, "everything", "/rooms/!r:x/heroes/2/user_id"),
                ("Hero.displayname", ALL, "everything", "/rooms/!r:x/heroes/2/displayname"),
                ("Hero.avatar_url", ALL, "everything", "/rooms/!r:x/heroes/2/avatar_url"),
                ("Room.name", M, "everything", "/rooms/!r:x/name"),
            ],
        )
    },
    path(
        "somebody whose member event is not known",
        Of::Room,
        stranger_speaks,
        &[("Want.Member", ALL, "fetches", "")],
    ),
    Path {
        group: 4,
        ..path(
            "an invite of somebody else",
            Of::Room,
            other_is_invited,
            &[("Room.invited_count", ALL, "everything", "/rooms/!r:x/invited_count")],
        )
    },
    Path {
        group: 1,
        ..path(
            "a name",
            Of::Room,
            name_comes,
            &[
                ("Room.name", ALL, "everything", "/rooms/!r:x/name"),
                ("Filters.room_name_like", ALL, "filters", "/lists/named/count"),
                ("Sort.Name", M, "orders", "/lists/by_name/ops"),
            ],
        )
    },
    Path {
        group: 2,
        ..path(
            "an alias",
            Of::Room,
            alias_comes,
            &[
                ("Room.name", M, "everything", "/rooms/!r:x/name"),
                ("Filters.room_name_like", ALL, "filters", "/lists/named/count"),
            ],
        )
    },
    Path {
        group: 2,
        ..path(
            "an avatar",
            Of::Room,
            avatar_comes,
            &[("Room.avatar", ALL, "everything", "/rooms/!r:x/avatar")],
        )
    },
    Path {
        group: 1,
        ..path(
            "encryption",
            Of::Room,
            encryption_comes,
            &[
                ("Filters.is_encrypted", ALL, "filters", "/lists/encrypted/count"),
                ("Filters.is_encrypted", ALL, "filters", "/lists/plain/count"),
            ],
        )
    },
    Path {
        group: 1,
        ..path(
            "a tombstone",
            Of::Room,
            tombstone_comes,
            &[
                ("Filters.is_tombstoned", M, "filters", "/lists/replaced/count"),
                ("Filters.is_tombstoned", M, "filters", "/lists/current/count"),
                ("Room.required_state", ALL, "everything", "/rooms/!r:x/required_state"),
            ],
        )
    },
    Path {
        group: 3,
        ..path(
            "a tombstone that leads where Bob is",
            Of::Room,
            tombstone_leads_home,
            &[
                ("List.count", M, "everything", "/lists/all/count"),
                ("Room.required_state", ALL, "everything", "/rooms/!r:x/required_state"),
            ],
        )
    },
    path(
        "a space's child",
        Of::Room,
        child_comes,
        &[("Filters.spaces", ALL, "filters", "/lists/children/count")],
    ),
    Path {
        is_old: true,
        ..path(
            "a type",
            Of::Room,
            has_type,
            &[
                ("Filters.room_types", ALL, "filters", "/lists/typed/count"),
                ("Filters.not_room_types", ALL, "filters", "/lists/untyped/count"),
            ],
        )
    },
    Path {
        is_old: true,
        ..path(
            "a predecessor",
            Of::Room,
            has_predecessor,
            &[("RoomConfig.old_rooms", M, "old rooms", "/rooms/!own:x")],
        )
    },
    path(
        "typing",
        Of::Room,
        dora_types,
        &[
            ("Extensions.typing", S_M, "everything", "/extensions/typing/rooms/!r:x"),
            (
                "Extensions.typing",
                A,
                "everything",
                "/extensions/org.matrix.msc4508.typing/rooms/!r:x",
            ),
        ],
    ),
    Path {
        is_history: true,
        ..path(
            "a receipt",
            Of::Room,
            dora_reads,
            &[("Extensions.receipts", ALL, "everything", "/extensions/receipts/rooms/!r:x")],
        )
    },
    Path {
        is_history: true,
        ..path(
            "a receipt of a thread",
            Of::Room,
            dora_reads_thread,
            &[("Extensions.receipts", ALL, "everything", "/extensions/receipts/rooms/!r:x")],
        )
    },
    Path {
        prepare: Some(Town::hides_end_of_state),
        is_history: true,
        group: 5,
        ..path(
            "state that the homeserver has no more",
            Of::Room,
            Town::misses_state,
            &[
                ("Want.State", S_M, "everything", "/rooms/!r:x/initial"),
                ("Want.State", A, "everything", "/rooms/!r:x/required_state"),
            ],
        )
    },
    Path {
        prepare: Some(Town::asks_for_history),
        is_history: true,
        group: 5,
        ..path(
            "history that was fetched for Alice",
            Of::Alice,
            Town::is_given_history,
            &[("Want.History", ALL, "everything", "/rooms/!r:x/timeline")],
        )
    },
    Path {
        prepare: Some(Town::lacks_a_member),
        group: 6,
        ..path(
            "a member that was fetched for Alice",
            Of::Room,
            Town::is_given_a_member,
            &[("Want.Member", ALL, "lazy", "/rooms/!r:x/required_state")],
        )
    },
    path(
        "a private receipt",
        Of::Alice,
        alice_reads_privately,
        &[("Extensions.receipts", ALL, "everything", "/extensions/receipts/rooms/!r:x")],
    ),
    path(
        "account data",
        Of::Alice,
        account_data_comes,
        &[("AccountData.global", ALL, "everything", "/extensions/account_data/global")],
    ),
    path(
        "account data of the room",
        Of::Alice,
        room_account_data_comes,
        &[("AccountData.rooms", ALL, "everything", "/extensions/account_data/rooms/!r:x")],
    ),
    path(
        "a tag",
        Of::Alice,
        tag_comes,
        &[
            ("Filters.tags", ALL, "filters", "/lists/tagged/count"),
            ("Filters.not_tags", ALL, "filters", "/lists/untagged/count"),
        ],
    ),
    path(
        "a direct chat",
        Of::Alice,
        room_is_direct,
        &[
            ("Room.is_dm", ALL, "everything", "/rooms/!r:x/is_dm"),
            ("Room.is_dm_changed", A, "lazy", "/rooms/!r:x"),
            ("Filters.is_dm", ALL, "filters", "/lists/direct/count"),
            ("Filters.is_dm", ALL, "filters", "/lists/indirect/count"),
        ],
    ),
    path(
        "unread counts",
        Of::Alice,
        alice_is_notified,
        &[
            ("Room.unread", S_M, "everything", "/rooms/!r:x/notification_count"),
            ("Room.unread", S_M, "everything", "/rooms/!r:x/highlight_count"),
            ("Sort.NotificationCount", M, "orders", "/lists/by_notification_count/ops"),
            ("Sort.HighlightCount", M, "orders", "/lists/by_highlight_count/ops"),
            ("Sort.NotificationLevel", M, "orders", "/lists/by_notification_level/ops"),
        ],
    ),
    path(
        "an invite",
        Of::Alice,
        alice_is_invited,
        &[
            ("Room.stripped", S_M, "everything", "/rooms/!i:x/invite_state"),
            ("Room.stripped", A, "everything", "/rooms/!i:x/stripped_state"),
            ("Room.membership", A, "everything", "/rooms/!i:x/membership"),
            ("List.count", ALL, "everything", "/lists/all/count"),
            ("Filters.is_invite", ALL, "filters", "/lists/invites/count"),
            ("ListRequest.slow_get_all_rooms", M, "orders", "/lists/slow/count"),
        ],
    ),
    path(
        "a message to the device",
        Of::Device,
        to_device_comes,
        &[
            ("ToDevice.events", ALL, "everything", "/extensions/to_device/events"),
            ("ToDevice.next_batch", ALL, "everything", "/extensions/to_device/next_batch"),
        ],
    ),
    path(
        "device lists",
        Of::Device,
        device_lists_change,
        &[("E2ee.device_lists", ALL, "everything", "/extensions/e2ee/device_lists")],
    ),
    path(
        "key counts",
        Of::Device,
        keys_are_used,
        &[
            (
                "E2ee.one_time_keys_count",
                ALL,
                "everything",
                "/extensions/e2ee/device_one_time_keys_count",
            ),
            (
                "E2ee.fallback_key_types",
                ALL,
                "everything",
                "/extensions/e2ee/device_unused_fallback_key_types",
            ),
        ],
    ),
    Path {
        shows_otherwise: true,
        ..path(
            "a transaction id",
            Of::Device,
            alice_speaks,
            &[("Timeline.events", ALL, "everything", "/rooms/!r:x/timeline")],
        )
    },
];

/// An event that Dora sends.
fn says(kind: &str, key: Option<&str>, content: Value) -> Value {
    let id = "$s3cret";
    match key {
        Some(key) => state(id, kind, key, DORA, content),
        None => event(id, kind, DORA, content),
    }
}

fn message_comes(town: &mut Town) {
    let content = json!({"msgtype": "m.text", "body": SECRET});
    town.happens(&[says("m.room.message", None, content)]);
}

fn gap_comes(town: &mut Town) {
    let messages = ["$s3cret-1", "$s3cret-2", "$s3cret-3"].map(|id| message(id, DORA));
    town.happens_later(&messages, "s3cret-token");
}

/// Of a message in each stay of Bob's, and of the events that begin and end it.
fn redactions_come(town: &mut Town) {
    let redactions = ["$in-hello", "$in", "$out", "$invite", "$knock"].map(|redacted| {
        let id = format!("$s3cret-{}", &redacted[1..]);
        let mut event = event(&id, "m.room.redaction", ALICE, json!({"reason": SECRET}));
        event["redacts"] = redacted.into();
        event
    });
    town.happens(&redactions);
}

fn topic_comes(town: &mut Town) {
    town.happens(&[says("m.room.topic", Some(""), json!({"topic": SECRET}))]);
}

fn keyed_state_comes(town: &mut Town) {
    town.happens(&[says("org.example.s3", Some("key"), json!({"v": SECRET}))]);
}

fn member_comes(town: &mut Town) {
    let mut join = member("$s3cret", "@s3cret:x", "join");
    join["content"]["displayname"] = SECRET.into();
    join["content"]["avatar_url"] = "mxc://x/s3cret".into();
    town.happens(&[join, message("$s3cret-message", "@s3cret:x")]);
}

fn stranger_speaks(town: &mut Town) {
    town.happens(&[message("$s3cret", "@s3cret:x")]);
}

fn other_is_invited(town: &mut Town) {
    town.happens(&[made("$s3cret", ALICE, "@s3cret:x", "invite")]);
}

fn name_comes(town: &mut Town) {
    town.happens(&[name("$s3cret", DORA, "Zzz s3cret")]);
}

fn alias_comes(town: &mut Town) {
    town.happens(&[says("m.room.canonical_alias", Some(""), json!({"alias": "#s3cret:x"}))]);
}

fn avatar_comes(town: &mut Town) {
    town.happens(&[says("m.room.avatar", Some(""), json!({"url": "mxc://x/s3cret"}))]);
}

fn encryption_comes(town: &mut Town) {
    town.happens(&[says("m.room.encryption", Some(""), json!({"algorithm": SECRET}))]);
}

fn tombstone_comes(town: &mut Town) {
    let content = json!({"body": SECRET, "replacement_room": "!s3cret:x"});
    town.happens(&[says("m.room.tombstone", Some(""), content)]);
}

fn tombstone_leads_home(town: &mut Town) {
    let content = json!({"body": SECRET, "replacement_room": OWN});
    town.happens(&[says("m.room.tombstone", Some(""), content)]);
}

fn child_comes(town: &mut Town) {
    let content = json!({"via": ["x"], "order": SECRET});
    town.happens(&[says("m.space.child", Some(OWN), content)]);
}

fn has_type(town: &mut Town) {
    town.was_created_with(json!({"type": SECRET}));
}

fn has_predecessor(town: &mut Town) {
    let predecessor = json!({"room_id": OWN, "last": SECRET});
    town.was_created_with(json!({"predecessor": predecessor}));
}

fn ephemeral(town: &mut Town, event: Value) {
    town.alice_hears(joined_with(ROOM, &[], json!({"ephemeral": {"events": [event]}})));
}

fn dora_types(town: &mut Town) {
    ephemeral(town, json!({"type": "m.typing", "content": {"user_ids": [DORA, "@s3cret:x"]}}));
}

fn reads(town: &mut Town, kind: &str, user_id: &str, data: Value) {
    let mut receipt = json!({"ts": 5});
    merge(&mut receipt, data);
    let content = json!({"$s3cret-read": {kind: {user_id: receipt}}});
    ephemeral(town, json!({"type": "m.receipt", "content": content}));
}

fn dora_reads(town: &mut Town) {
    reads(town, "m.read", DORA, json!({}));
}

fn dora_reads_thread(town: &mut Town) {
    reads(town, "m.read", DORA, json!({"thread_id": "$s3cret-thread"}));
}

fn alice_reads_privately(town: &mut Town) {
    reads(town, "m.read.private", ALICE, json!({}));
}

fn account_data(kind: &str, content: Value) -> Value {
    json!({"account_data": {"events": [{"type": kind, "content": content}]}})
}

fn account_data_comes(town: &mut Town) {
    town.alice_hears(account_data("org.example.own", json!({"v": SECRET})));
}

fn room_account_data_comes(town: &mut Town) {
    let data = account_data("org.example.own", json!({"v": SECRET}));
    town.alice_hears(joined_with(ROOM, &[], data));
}

fn tag_comes(town: &mut Town) {
    let data = account_data("m.tag", json!({"tags": {SECRET: {}}}));
    town.alice_hears(joined_with(ROOM, &[], data));
}

fn room_is_direct(town: &mut Town) {
    town.alice_hears(account_data("m.direct", json!({DORA: [ROOM], "@s3cret:x": []})));
}

fn alice_is_notified(town: &mut Town) {
    let unread = json!({"notification_count": 3, "highlight_count": 2});
    town.alice_hears(joined_with(ROOM, &[], json!({"unread_notifications": unread})));
}

fn alice_is_invited(town: &mut Town) {
    let mut invite = invited(INVITE, DORA, ALICE);
    let stripped = &mut invite["rooms"]["invite"][INVITE]["invite_state"]["events"];
    stripped[1]["content"]["name"] = SECRET.into();
    town.alice_hears(invite);
}

fn to_device_comes(town: &mut Town) {
    let event = json!({"type": "org.example.own", "sender": DORA, "content": {"v": SECRET}});
    town.alice_hears(json!({"to_device": {"events": [event]}}));
}

fn device_lists_change(town: &mut Town) {
    town.alice_hears(json!({"device_lists": {"changed": ["@s3cret:x"], "left": ["@s3cret:y"]}}));
}

fn keys_are_used(town: &mut Town) {
    town.alice_hears(json!({
        "device_one_time_keys_count": {SECRET: 7},
        "device_unused_fallback_key_types": [SECRET],
    }));
}

fn alice_speaks(town: &mut Town) {
    let mut event = message("$alice", ALICE);
    event["unsigned"] = json!({"transaction_id": SECRET});
    town.happens(&[event]);
}
