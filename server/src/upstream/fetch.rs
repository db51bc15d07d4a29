//! What a response lacked or the ledger doubts: member lists, single members,
//! tokens for paging back, the state of a room. Each is fetched once and kept.

use std::collections::BTreeSet;

use luge_core::{
    connection::{HistoryWant, Want},
    id::RoomNumber,
    ledger::{Command, History, MemberList, RoomState},
    shard::FetchOrder,
    upstream::{self, Limits},
};
use luge_io::http::ClientError;
use serde::Deserialize;

use super::{
    ask::{Homeserver, escaped},
    take::Taker,
};

/// Fetches what `order` wants and has the ledger keep it; true once it is
/// durable.
pub async fn fetch(homeserver: &Homeserver, taker: &Taker, order: &FetchOrder) -> bool {
    let commands = match &order.want {
        Want::Members(room) => members(homeserver, taker, order, *room).await,
        Want::Member(room, user_id) => {
            member(homeserver, order, *room, user_id).await.map(|command| vec![command])
        }
        Want::PrevBatch(room, sequence, event_id) => {
            let (room, sequence) = (*room, *sequence);
            let token = prev_batch(homeserver, taker, order, event_id).await;
            token.map(|token| vec![Command::PrevBatch { room, sequence, token }])
        }
        Want::JoinedRooms(_) => joined_rooms(homeserver, taker, order).await.map(|it| vec![it]),
        Want::History(want) => {
            history(homeserver, taker, order, want).await.map(|command| vec![command])
        }
        Want::State(room) => state(homeserver, taker, order, *room).await,
    };
    let Some(commands) = commands else { return false };
    for command in commands {
        let Ok(reply) = taker.ledger().submit(command) else { return false };
        if reply.await.is_err() {
            return false;
        }
    }
    true
}

/// Members that go to the ledger at once: others wait behind them.
const MEMBERS_AT_ONCE: usize = 1_000;

async fn get(homeserver: &Homeserver, order: &FetchOrder, path: &str) -> Option<bytes::Bytes> {
    let bytes_max = homeserver.limits().answer_bytes_max;
    let patience = homeserver.answer_timeout();
    let answer = homeserver.get(path, &order.token.secret, patience, bytes_max).await;
    match answer {
        Ok(answer) if answer.status().is_success() => Some(answer.into_body()),
        Ok(answer) => {
            tracing::debug!(status = answer.status().as_u16(), "a fetch was refused");
            None
        }
        Err(ClientError::TooLarge { max }) => {
            tracing::warn!(
                what = name(&order.want),
                room_id = &*order.room_id,
                max,
                "an answer of the homeserver's is larger than Luge reads: raise --answer-max; \
                 until then what is known is served, and it is asked for again after a while"
            );
            None
        }
        Err(error) => {
            tracing::debug!(%error, "a fetch failed");
            None
        }
    }
}

fn name(want: &Want) -> &'static str {
    match want {
        Want::Members(_) => "a room's members",
        Want::Member(..) => "a member",
        Want::PrevBatch(..) => "a token for paging back",
        Want::History(_) => "a room's history",
        Want::State(_) => "a room's state",
        Want::JoinedRooms(_) => "a user's rooms",
    }
}

async fn members(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
    room: RoomNumber,
) -> Option<Vec<Command>> {
    let path = format!(
        "/_matrix/client/v3/rooms/{}/members?not_membership=leave",
        escaped(&order.room_id)
    );
    let body = get(homeserver, order, &path).await?;
    // A member list may be long: it is not parsed on the shard.
    let parse = move || upstream::parse_events(&body, "chunk", &Limits::default()).ok();
    let (events, set_asides) = taker.off_shard(parse).await??;
    if set_asides.count > 0 {
        let count = set_asides.count;
        tracing::warn!(room_id = &*order.room_id, count, "malformed members set aside");
    }
    let who = (order.user, order.knew);
    let lists = MemberList::in_parts(room, who, &events, MEMBERS_AT_ONCE);
    Some(lists.into_iter().map(Command::Members).collect())
}

/// What the homeserver gives the user from before an event.
async fn history(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
    want: &HistoryWant,
) -> Option<Command> {
    #[derive(Deserialize)]
    struct End {
        end: Option<String>,
    }
    let from = match &want.prev_batch {
        Some(token) => token.clone(),
        None => prev_batch(homeserver, taker, order, &want.event_id).await?,
    };
    let path = format!(
        "/_matrix/client/v3/rooms/{}/messages?dir=b&from={}&limit={}",
        escaped(&order.room_id),
        escaped(&from),
        want.limit
    );
    let body = get(homeserver, order, &path).await?;
    let parse = move || {
        let end = serde_json::from_slice::<End>(&body).ok()?.end;
        let (events, _) = upstream::parse_events(&body, "chunk", &Limits::default()).ok()?;
        // The end of history, where it is no token that can be kept, is not
        // known: the next answer for it says.
        if end.is_some() && end.as_deref().and_then(token).is_none() {
            return None;
        }
        Some((events, end))
    };
    let (events, end) = taker.off_shard(parse).await??;
    let HistoryWant { room, user, before, .. } = *want;
    Some(Command::History(Box::new(History { room, user, before, events, end })))
}

/// The rooms that the user is in.
async fn joined_rooms(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
) -> Option<Command> {
    #[derive(Deserialize)]
    struct Joined {
        joined_rooms: BTreeSet<String>,
    }
    let body = get(homeserver, order, "/_matrix/client/v3/joined_rooms").await?;
    // Nor is a long list of rooms.
    let parse = move || serde_json::from_slice::<Joined>(&body).ok().map(|it| it.joined_rooms);
    let rooms = taker.off_shard(parse).await??;
    Some(Command::JoinedRooms { user: order.user, knew: order.knew, rooms })
}

/// The state of a room as it is now.
async fn state(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
    room: RoomNumber,
) -> Option<Vec<Command>> {
    let path = format!("/_matrix/client/v3/rooms/{}/state", escaped(&order.room_id));
    let body = get(homeserver, order, &path).await?;
    let user_id = taker.ledger().world().user_id(order.user).cloned()?;
    let (user, knew) = (order.user, order.knew);
    // It may be long: it is not parsed on the shard.
    let parse = move || {
        let (events, set_asides) = upstream::parse_event_array(&body, &Limits::default()).ok()?;
        Some((RoomState::in_parts((room, user), &user_id, knew, events)?, set_asides))
    };
    let parsed = taker.off_shard(parse).await?;
    if parsed.is_none() {
        let room_id = &*order.room_id;
        tracing::warn!(room_id, "a room's state cannot be used, or the user is not in the room");
    }
    let (parts, set_asides) = parsed?;
    if set_asides.count > 0 {
        let count = set_asides.count;
        tracing::warn!(room_id = &*order.room_id, count, "malformed state set aside");
    }
    Some(parts.into_iter().map(|part| Command::State(Box::new(part))).collect())
}

/// A whole member event, which `/state/{type}/{key}` gives on request of some
/// servers alone; `/members` gives it everywhere.
async fn member(
    homeserver: &Homeserver,
    order: &FetchOrder,
    room: RoomNumber,
    user_id: &str,
) -> Option<Command> {
    let path = format!(
        "/_matrix/client/v3/rooms/{}/state/m.room.member/{}?format=event",
        escaped(&order.room_id),
        escaped(user_id)
    );
    let body = get(homeserver, order, &path).await?;
    let event = upstream::parse_event(std::str::from_utf8(&body).ok()?, &Limits::default()).ok()?;
    let is_it = event.kind == "m.room.member" && event.state_key.as_deref() == Some(user_id);
    is_it.then(|| Command::Members(MemberList { room, events: vec![event], whole: None }))
}

/// The token for paging back from before an event. The answer brings the state
/// there too, of which the members alone can be declined.
async fn prev_batch(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
    event_id: &str,
) -> Option<String> {
    #[derive(Deserialize)]
    struct Context {
        start: String,
    }
    let path = format!(
        "/_matrix/client/v3/rooms/{}/context/{}?limit=0&filter={}",
        escaped(&order.room_id),
        escaped(event_id),
        escaped(r#"{"lazy_load_members":true}"#)
    );
    let body = get(homeserver, order, &path).await?;
    // It may be long all the same: it is not parsed on the shard.
    let parse = move || {
        let start = serde_json::from_slice::<Context>(&body).ok()?.start;
        token(&start).map(str::to_owned)
    };
    taker.off_shard(parse).await?
}

/// A token that is not larger than tokens are: it is kept, and goes to clients
/// and into URLs.
fn token(text: &str) -> Option<&str> {
    (1..=Limits::default().token_bytes_max).contains(&text.len()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_no_sensible_length_are_not_kept() {
        let max = Limits::default().token_bytes_max;
        for (length, is_kept) in [(0, false), (1, true), (max, true), (max + 1, false)] {
            assert_eq!(token(&"t".repeat(length)).is_some(), is_kept, "{length}");
        }
    }
}
