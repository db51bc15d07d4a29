//! What happens, in a line each: for who looks into a seed with `LUGE_SIM_LOG`.

use luge_core::{
    ledger::Command,
    upstream::{RoomBatch, SyncEvent},
};
use serde_json::Value;

use crate::{
    client::{Asking, Connection},
    homeserver::Homeserver,
    simulation::START_MS,
};

/// Says what a client gets.
pub(crate) fn answer(now_ms: u64, connection: &Connection, status: u16, body: &str, lost: bool) {
    let Ok(mut value) = serde_json::from_str::<Value>(body) else { return };
    let ids = |events: &Value| -> Value {
        let events = events.as_array().into_iter().flatten();
        events.map(|event| event["event_id"].clone()).collect()
    };
    for (_, entry) in value["rooms"].as_object_mut().into_iter().flatten() {
        for place in ["timeline", "required_state"] {
            if entry.get(place).is_some() {
                entry[place] = ids(&entry[place]);
            }
        }
    }
    let (device, at_ms) = (connection.device, now_ms - START_MS);
    let (user, position) = (connection.user, &connection.position);
    eprintln!("{at_ms} u{user} d{device} lost={lost} {status} from {position:?}: {value}");
}

/// Says what a client asks.
pub(crate) fn request(now_ms: u64, connection: &Connection, asking: &Asking) {
    let (device, at_ms) = (connection.device, now_ms - START_MS);
    let (user, position) = (connection.user, &connection.position);
    eprintln!("{at_ms} u{user} d{device} asks from {position:?}: {}", asking.body);
}

/// Says what happened at the homeserver.
pub(crate) fn truth(homeserver: &Homeserver) {
    for event in homeserver.rooms.iter().flat_map(|room| &room.events) {
        eprintln!("{} {} {}", event.stream, event.id, event.json);
    }
}

/// Says what the ledger is asked.
pub(crate) fn command(now_ms: u64, command: &Command) {
    let text = match command {
        Command::Polled(polled) => {
            let rooms = polled.batch.rooms.iter().map(|room| {
                let ids = |events: &[SyncEvent]| -> Vec<String> {
                    events.iter().map(|event| event.event_id.clone()).collect()
                };
                let (timeline, state) = (ids(&room.timeline), ids(&room.state));
                let RoomBatch { room_id, section, limited, summary, .. } = room;
                format!(
                    "{room_id} {section:?} limited={limited} {timeline:?} {state:?} {summary:?}"
                )
            });
            let rooms: Vec<String> = rooms.collect();
            let batch = &polled.batch;
            format!(
                "polled {:?} {:?} {:?}->{:?} {} messages {rooms:#?}",
                polled.user,
                polled.device,
                polled.since,
                batch.next_batch,
                batch.to_device.len()
            )
        }
        Command::Connections(_) => "connections".to_owned(),
        Command::Members(list) => {
            let ids: Vec<&str> = list.events.iter().map(|event| &*event.event_id).collect();
            format!("members of {:?} {ids:?}", list.room)
        }
        Command::State(state) => {
            let ids: Vec<&str> = state.events.iter().map(|event| &*event.event_id).collect();
            format!("state of {:?} for {:?}, {:?} {ids:?}", state.room, state.user, state.knew)
        }
        Command::History(history) => {
            let ids: Vec<&str> = history.events.iter().map(|event| &*event.event_id).collect();
            let (room, user, before) = (history.room, history.user, history.before);
            format!("history of {room:?} for {user:?} before {before} {ids:?}")
        }
        other => format!("{other:?}"),
    };
    eprintln!("{} ledger: {text}", now_ms - START_MS);
}
