//! What a response lacked or the ledger doubts: member lists, single members,
//! tokens for paging back, the state of a room. Each is fetched once and kept.

use std::collections::BTreeSet;

use http::StatusCode;
use luge_core::{
    connection::{HistoryWant, Want},
    id::RoomNumber,
    ledger::{Command, History, MemberList, RoomState},
    shard::{FetchOrder, FetchOutcome},
    upstream::{self, Limits, SyncEvent},
};
use luge_io::http::ClientError;
use serde::Deserialize;

use super::{
    ask::{Homeserver, escaped},
    take::Taker,
};

/// What is to be kept of an answer, or why there is none: any outcome but
/// [`FetchOutcome::Done`].
type Fetched<T> = Result<T, FetchOutcome>;

/// Fetches what `order` wants and has the ledger keep it; done once it is durable.
pub async fn fetch(homeserver: &Homeserver, taker: &Taker, order: &FetchOrder) -> FetchOutcome {
    let commands = match fetched(homeserver, taker, order).await {
        Ok(commands) => commands,
        Err(outcome) => return outcome,
    };
    for command in commands {
        let Ok(reply) = taker.ledger().submit(command) else { return FetchOutcome::Failed };
        if reply.await.is_err() {
            return FetchOutcome::Failed;
        }
    }
    FetchOutcome::Done
}

async fn fetched(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
) -> Fetched<Vec<Command>> {
    match &order.want {
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
    }
}

/// Members that go to the ledger at once: others wait behind them.
const MEMBERS_AT_ONCE: usize = 1_000;

async fn get(homeserver: &Homeserver, order: &FetchOrder, path: &str) -> Fetched<bytes::Bytes> {
    let bytes_max = homeserver.limits().answer_bytes_max;
    let patience = homeserver.answer_timeout();
    let token = &order.token.secret;
    let answer = homeserver.get(path.to_owned(), token, patience, bytes_max).await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(answer.into_body()),
        Ok(answer) => {
            tracing::debug!(status = answer.status().as_u16(), "a fetch was refused");
            Err(outcome_of(answer.status()))
        }
        Err(ClientError::TooLarge { max }) => {
            if !order.was_too_large {
                tracing::warn!(
                    what = name(&order.want),
                    room_id = &*order.room_id,
                    max,
                    "an answer of the homeserver's is larger than Luge reads: raise --answer-max; \
                     until then what is known is served, it is asked for again after hours, and \
                     this is not said again"
                );
            }
            Err(FetchOutcome::TooLarge)
        }
        Err(error) => {
            tracing::debug!(%error, "a fetch failed");
            Err(FetchOutcome::Failed)
        }
    }
}

/// What an answer without what was asked for comes to. A token that is not accepted
/// any more is not the end: another of the user's, or of somebody else's, may be.
fn outcome_of(status: StatusCode) -> FetchOutcome {
    let may_pass = matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    );
    if status.is_client_error() && !may_pass { FetchOutcome::Refused } else { FetchOutcome::Failed }
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
) -> Fetched<Vec<Command>> {
    let path = format!(
        "/_matrix/client/v3/rooms/{}/members?not_membership=leave",
        escaped(&order.room_id)
    );
    let body = get(homeserver, order, &path).await?;
    // A member list may be long: it is not parsed on the shard.
    let who = (order.user, order.knew);
    let parse = move || {
        let (events, set_asides) =
            upstream::parse_events(&body, "chunk", &Limits::default()).ok()?;
        Some((MemberList::in_parts(room, who, &events, MEMBERS_AT_ONCE), set_asides))
    };
    let (lists, set_asides) = parsed(taker.off_shard(parse).await.flatten())?;
    if set_asides.count > 0 {
        let count = set_asides.count;
        tracing::warn!(room_id = &*order.room_id, count, "malformed members set aside");
    }
    Ok(lists.into_iter().map(Command::Members).collect())
}

/// What the homeserver gives the user from before an event.
async fn history(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
    want: &HistoryWant,
) -> Fetched<Command> {
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
    let (events, end) = parsed(taker.off_shard(parse).await.flatten())?;
    let HistoryWant { room, user, before, .. } = *want;
    Ok(Command::History(Box::new(History { room, user, before, events, end })))
}

/// The rooms that the user is in.
async fn joined_rooms(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
) -> Fetched<Command> {
    #[derive(Deserialize)]
    struct Joined {
        joined_rooms: BTreeSet<String>,
    }
    let body = get(homeserver, order, "/_matrix/client/v3/joined_rooms").await?;
    // Nor is a long list of rooms.
    let parse = move || serde_json::from_slice::<Joined>(&body).ok().map(|it| it.joined_rooms);
    let rooms = parsed(taker.off_shard(parse).await.flatten())?;
    Ok(Command::JoinedRooms { user: order.user, knew: order.knew, rooms })
}

/// The state of a room as it is now.
async fn state(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
    room: RoomNumber,
) -> Fetched<Vec<Command>> {
    let path = format!("/_matrix/client/v3/rooms/{}/state", escaped(&order.room_id));
    let body = get(homeserver, order, &path).await?;
    let user_id = taker.ledger().world().user_id(order.user).cloned();
    let user_id = user_id.ok_or(FetchOutcome::Failed)?;
    let (user, knew) = (order.user, order.knew);
    // It may be long: it is not parsed on the shard.
    let parse = move || {
        let (events, set_asides) = upstream::parse_event_array(&body, &Limits::default()).ok()?;
        Some((RoomState::in_parts((room, user), &user_id, knew, events)?, set_asides))
    };
    let found = taker.off_shard(parse).await.ok_or(FetchOutcome::Failed)?;
    if found.is_none() {
        let room_id = &*order.room_id;
        tracing::warn!(room_id, "a room's state cannot be used, or the user is not in the room");
    }
    let (parts, set_asides) = parsed(found)?;
    if set_asides.count > 0 {
        let count = set_asides.count;
        tracing::warn!(room_id = &*order.room_id, count, "malformed state set aside");
    }
    Ok(parts.into_iter().map(|part| Command::State(Box::new(part))).collect())
}

/// A whole member event, which `/state/{type}/{key}` gives on request of some
/// servers alone; `/members` gives it everywhere.
async fn member(
    homeserver: &Homeserver,
    order: &FetchOrder,
    room: RoomNumber,
    user_id: &str,
) -> Fetched<Command> {
    let path = format!(
        "/_matrix/client/v3/rooms/{}/state/m.room.member/{}?format=event",
        escaped(&order.room_id),
        escaped(user_id)
    );
    let body = get(homeserver, order, &path).await?;
    let event = std::str::from_utf8(&body).ok();
    let event = event.and_then(|event| upstream::parse_event(event, &Limits::default()).ok());
    let is_it = |event: &SyncEvent| {
        event.kind == "m.room.member" && event.state_key.as_deref() == Some(user_id)
    };
    let event = event.filter(is_it).ok_or(FetchOutcome::Failed)?;
    let (user, events) = (order.user, vec![event]);
    Ok(Command::Members(MemberList { room, user, events, whole: None }))
}

/// The token for paging back from before an event. The answer brings the state
/// there too, of which the members alone can be declined.
async fn prev_batch(
    homeserver: &Homeserver,
    taker: &Taker,
    order: &FetchOrder,
    event_id: &str,
) -> Fetched<String> {
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
    parsed(taker.off_shard(parse).await.flatten())
}

/// What was made of an answer off the shard; `None` where nothing could be, or nobody
/// had time for it.
fn parsed<T>(found: Option<T>) -> Fetched<T> {
    found.ok_or(FetchOutcome::Failed)
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
    fn what_the_homeserver_will_not_give_is_told_from_what_may_pass() {
        for (status, outcome) in [
            (400, FetchOutcome::Refused),
            (401, FetchOutcome::Failed),
            (403, FetchOutcome::Refused),
            (404, FetchOutcome::Refused),
            (408, FetchOutcome::Failed),
            (429, FetchOutcome::Failed),
            (500, FetchOutcome::Failed),
            (502, FetchOutcome::Failed),
            (302, FetchOutcome::Failed),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(outcome_of(status), outcome, "{status}");
        }
    }

    #[test]
    fn tokens_of_no_sensible_length_are_not_kept() {
        let max = Limits::default().token_bytes_max;
        for (length, is_kept) in [(0, false), (1, true), (max, true), (max + 1, false)] {
            assert_eq!(token(&"t".repeat(length)).is_some(), is_kept, "{length}");
        }
    }
}
