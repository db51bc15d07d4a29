//! The differences that there are meant to be, each with its reason. The same
//! table is in `docs/conformance.md`.

use serde_json::Value;

use crate::{
    compare::{
        Difference,
        Kind::{self, Missing},
    },
    homeserver::Homeserver,
    player::Answered,
    recording::{elements, text},
};

/// One way in which Luge's answers differ from the homeserver's.
pub(crate) struct Row {
    /// Where: as [`Difference::at`].
    pub(crate) at: &'static str,
    kind: Kind,
    /// What it is, told to readers.
    pub(crate) what: &'static str,
    /// Why it is so.
    pub(crate) why: &'static str,
    /// Whether a difference there is of this kind and no worse.
    is_this: fn(&Difference, &Beside<'_>) -> bool,
}

impl Row {
    /// Whether the row speaks of the difference.
    pub(crate) fn covers(&self, difference: &Difference, beside: &Beside<'_>) -> bool {
        self.at == difference.at
            && self.kind == difference.kind
            && (self.is_this)(difference, beside)
    }
}

/// What a difference is looked at beside.
pub(crate) struct Beside<'a> {
    pub(crate) answered: &'a Answered<'a>,
    pub(crate) homeserver: &'a Homeserver,
}

impl Beside<'_> {
    fn recorded_entry(&self, difference: &Difference) -> &Value {
        &self.answered.recorded["rooms"][room(difference)]
    }

    fn luges_entry(&self, difference: &Difference) -> &Value {
        &self.answered.luges["rooms"][room(difference)]
    }
}

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    Row {
        at: "pos",
        kind: Kind::Value,
        what: "other text",
        why: "a client hands it back and reads nothing in it",
        is_this: are_texts,
    },
    Row {
        at: "lists.*.ops[].room_ids",
        kind: Kind::Value,
        what: "the room of the last event first, also where the window holds the whole list",
        why: "Synapse then saves the sorting; clients sort by `bump_stamp`",
        is_this: is_sorted,
    },
    Row {
        at: "rooms.*.bump_stamp",
        kind: Kind::Value,
        what: "milliseconds, not a number in Synapse's stream of events; rooms compare in the same way",
        why: "Luge has no such number that would be comparable across restarts of a homeserver",
        is_this: is_same_recency,
    },
    Row {
        at: "rooms.*.bump_stamp",
        kind: Missing,
        what: "left out where the client has it already",
        why: "what is absent is unchanged",
        is_this: |it, beside| beside.luges_entry(it).get("initial").is_none(),
    },
    Row {
        at: "rooms.*.limited",
        kind: Missing,
        what: "left out where it is `false`",
        why: "that is its default",
        is_this: |it, _| it.recorded == false,
    },
    Row {
        at: "rooms.*.prev_batch",
        kind: Kind::Value,
        what: "other text: the homeserver's own token for the place before the timeline's first event",
        why: "clients hand it to `/messages` and read nothing in it",
        is_this: is_before_the_timeline,
    },
    Row {
        at: "rooms.*.prev_batch",
        kind: Missing,
        what: "left out before a preview of one event, and where nothing is missing before the timeline",
        why: "the homeserver would have to be asked for each: `decisions/0008-prev-batch-of-previews.md`",
        is_this: is_preview_or_whole,
    },
    Row {
        at: "rooms.*.num_live",
        kind: Kind::Value,
        what: "the own invite counts as live in the answer that brings the join",
        why: "its event came from another member's poller, after the invite had been told",
        is_this: is_own_invite,
    },
    Row {
        at: "rooms.*.heroes",
        kind: Missing,
        what: "left out of a room that has a name",
        why: "clients then name it by that; Synapse looks only at whether the entry tells the name",
        is_this: |it, beside| beside.homeserver.is_named(room(it), beside.answered.stand),
    },
    Row {
        at: "rooms.*.notification_count",
        kind: Kind::Value,
        what: "the number of unread messages",
        why: "the homeserver tells it in `/sync`; Synapse's own sliding sync says 0",
        is_this: |it, _| it.recorded == 0 && it.luges.as_u64().is_some_and(|count| count > 0),
    },
    Row {
        at: "rooms.*.notification_count",
        kind: Missing,
        what: "left out of an invite",
        why: "nothing in it can be unread, and absent is 0",
        is_this: is_zero_of_an_invite,
    },
    Row {
        at: "rooms.*.highlight_count",
        kind: Missing,
        what: "left out of an invite",
        why: "nothing in it can be unread, and absent is 0",
        is_this: is_zero_of_an_invite,
    },
    Row {
        at: "rooms.*.required_state[]",
        kind: Missing,
        what: "an event that the connection was sent is not sent again because more state is asked for",
        why: "the client has it",
        is_this: |it, beside| beside.answered.held.contains(text(&it.recorded["event_id"])),
    },
    Row {
        at: "rooms.*.required_state[].room_id",
        kind: Missing,
        what: "no event has it; on Synapse the create event of a room of version 12 does",
        why: "the room is known from where the event is",
        is_this: is_room_of_create_event,
    },
    Row {
        at: "rooms.*.timeline[].room_id",
        kind: Missing,
        what: "the same",
        why: "the same",
        is_this: is_room_of_create_event,
    },
    Row {
        at: "rooms.*.required_state[].unsigned",
        kind: Missing,
        what: "left out where nothing would be in it",
        why: "see `age`",
        is_this: is_of_the_moment,
    },
    Row {
        at: "rooms.*.timeline[].unsigned",
        kind: Missing,
        what: "left out where nothing would be in it",
        why: "see `age` and `membership`",
        is_this: is_of_the_moment,
    },
    Row {
        at: "rooms.*.required_state[].unsigned.age",
        kind: Missing,
        what: "left out",
        why: "it was true when the homeserver answered Luge, and events are served as they are stored",
        is_this: always,
    },
    Row {
        at: "rooms.*.timeline[].unsigned.age",
        kind: Missing,
        what: "left out",
        why: "the same",
        is_this: always,
    },
    Row {
        at: "rooms.*.timeline[].unsigned.membership",
        kind: Missing,
        what: "left out",
        why: "it is the membership of who asked, and events are stored once for all (MSC4115 lets it be absent)",
        is_this: always,
    },
    Row {
        at: "extensions.to_device.next_batch",
        kind: Kind::Value,
        what: "other numbers",
        why: "they are Luge's own: `decisions/0004-to-device-tokens.md`",
        is_this: are_numbers_as_text,
    },
    Row {
        at: "extensions.account_data.global[]",
        kind: Missing,
        what: "once, where Synapse says it twice",
        why: "Synapse reads ahead of the position that it answers with, and then comes to it again",
        is_this: is_read_ahead,
    },
    Row {
        at: "extensions.account_data.rooms.*",
        kind: Missing,
        what: "a room without account data is left out",
        why: "an empty list says nothing; clients skip it",
        is_this: |it, _| it.recorded == serde_json::json!([]),
    },
    Row {
        at: "extensions.org.matrix.msc4262.profiles",
        kind: Missing,
        what: "not served",
        why: "`/sync` does not tell profiles; `/versions` says so",
        is_this: always,
    },
];

fn room(difference: &Difference) -> &str {
    difference.room.as_deref().expect("the difference is in a room's entry")
}

fn always(_: &Difference, _: &Beside<'_>) -> bool {
    true
}

fn are_texts(it: &Difference, _: &Beside<'_>) -> bool {
    it.recorded.is_string() && it.luges.is_string()
}

fn are_numbers_as_text(it: &Difference, _: &Beside<'_>) -> bool {
    let is_number = |it: &Value| it.as_str().is_some_and(|it| it.parse::<u64>().is_ok());
    is_number(&it.recorded) && is_number(&it.luges)
}

/// The same rooms, all that there are, in the true order.
fn is_sorted(it: &Difference, beside: &Beside<'_>) -> bool {
    let answered = beside.answered;
    let order = beside.homeserver.order(&answered.exchange.user, answered.stand);
    let in_order: Vec<_> = elements(&it.luges).iter().map(text).collect();
    let mut recorded: Vec<_> = elements(&it.recorded).iter().map(text).collect();
    let mut all = order.clone();
    recorded.sort_unstable();
    all.sort_unstable();
    in_order == order && recorded == all
}

/// The room compares with all others of the answer as its recorded stamp does.
fn is_same_recency(it: &Difference, beside: &Beside<'_>) -> bool {
    let stamp = |answer: &Value, room: &str| answer["rooms"][room]["bump_stamp"].as_u64();
    let (recorded, luges) = (beside.answered.recorded, &beside.answered.luges);
    let rooms = recorded["rooms"].as_object().into_iter().flatten();
    let same = |other: &str| {
        let compared = |answer| Some(stamp(answer, room(it))?.cmp(&stamp(answer, other)?));
        stamp(luges, other).is_none() || compared(recorded) == compared(luges)
    };
    it.luges.as_u64().is_some_and(|it| it < 1 << 53)
        && rooms.into_iter().all(|(other, _)| same(other))
}

/// The token is for the place before the first event: the homeserver's tokens
/// name the event.
fn is_before_the_timeline(it: &Difference, beside: &Beside<'_>) -> bool {
    let first = &beside.luges_entry(it)["timeline"][0]["event_id"];
    it.luges == format!("before-{}", text(first))
}

fn is_preview_or_whole(it: &Difference, beside: &Beside<'_>) -> bool {
    let entry = beside.luges_entry(it);
    elements(&entry["timeline"]).len() == 1 || entry.get("limited").is_none()
}

fn is_own_invite(it: &Difference, beside: &Beside<'_>) -> bool {
    let user = &*beside.answered.exchange.user;
    let is_invite =
        |event: &Value| event["state_key"] == user && event["content"]["membership"] == "invite";
    let timeline = elements(&beside.recorded_entry(it)["timeline"]);
    let ends_with_join = timeline.last().is_some_and(|event| {
        event["state_key"] == user && event["content"]["membership"] == "join"
    });
    ends_with_join && timeline.iter().any(is_invite) && it.recorded == 1 && it.luges == 2
}

fn is_zero_of_an_invite(it: &Difference, beside: &Beside<'_>) -> bool {
    it.recorded == 0 && beside.luges_entry(it).get("invite_state").is_some()
}

fn is_room_of_create_event(it: &Difference, beside: &Beside<'_>) -> bool {
    let entry = beside.recorded_entry(it);
    let events = elements(&entry["timeline"]).iter().chain(elements(&entry["required_state"]));
    let mut with_room = events.filter(|event| event.get("room_id").is_some());
    it.recorded == room(it) && with_room.all(|event| event["type"] == "m.room.create")
}

/// Nothing but what is true for the moment or for who asks.
fn is_of_the_moment(it: &Difference, _: &Beside<'_>) -> bool {
    let mut members = it.recorded.as_object().into_iter().flatten();
    members.all(|(key, _)| matches!(&**key, "age" | "membership"))
}

/// The stream of account data had not moved.
fn is_read_ahead(_: &Difference, beside: &Beside<'_>) -> bool {
    let exchange = beside.answered.exchange;
    let before = exchange.asked_from().map(|it| it.account_data);
    before.is_some() && before == exchange.answered_at().map(|it| it.account_data)
}

/// Whether account data that it read ahead is all that the homeserver answered
/// with: that is no news yet.
pub(crate) fn is_all_read_ahead(answered: &Answered<'_>) -> bool {
    let (exchange, recorded) = (answered.exchange, answered.recorded);
    let extensions = &recorded["extensions"];
    let account_data = elements(&extensions["account_data"]["global"]);
    exchange.asked_from() == exchange.answered_at()
        && !account_data.is_empty()
        && recorded["rooms"] == serde_json::json!({})
        && extensions["typing"]["rooms"] == serde_json::json!({})
}
