//! The client-server API over the model, without a transport.
//!
//! `request` has the shapes, `rooms` the endpoints below `/rooms` and what makes rooms, `account` the rest; this file
//! finds the endpoint, checks the token, and lets faults have their way with `/sync`.

mod account;
mod request;
mod rooms;

use serde_json::Value;

pub(crate) use request::decode;
pub use request::{Answer, Query, Reply, Request, Wait, encode};

use crate::model::{Homeserver, Milliseconds, Refusal, TokenOwner};
use crate::sync::SyncRequest;

/// One request of a known user, with its path taken apart.
struct Call<'a> {
    owner: TokenOwner,
    method: &'a str,
    query: Query,
    request: &'a Request,
    now: Milliseconds,
}

impl Homeserver {
    /// Answers a request, or says that it has to wait.
    pub fn handle(&mut self, request: &Request, now: Milliseconds) -> Answer {
        self.tick(now);
        let answer = self.answer(request, now);
        let bytes = match &answer {
            Answer::Ready(reply) => Some(reply.body.len()),
            Answer::Wait(_) => None,
        };
        self.note_traffic(request, bytes);
        answer
    }

    fn answer(&mut self, request: &Request, now: Milliseconds) -> Answer {
        let segments: Vec<String> =
            request.path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let answer = match (request.method.as_str(), segments.as_slice()) {
            ("GET", ["_matrix", "client", "v3" | "r0", "sync"]) => self.handle_sync(request, now),
            (_, ["_matrix", "client", "v3" | "r0" | "v1", rest @ ..]) => {
                self.route(request, rest, now)
            }
            ("GET", ["_matrix", "client", "versions"]) => Ok(self.versions()),
            ("GET", [".well-known", "matrix", "client"]) => Ok(self.well_known()),
            _ => Err(unrecognized()),
        };
        match answer {
            Ok(Handled::Json(value)) => Answer::Ready(Reply::new(200, value.to_string())),
            Ok(Handled::Text(text)) => Answer::Ready(Reply::new(200, text)),
            Ok(Handled::Answer(answer)) => answer,
            Err(refusal) => Answer::Ready(refusal.into()),
        }
    }

    /// The owner of the request's token, or the refusal that an unknown token meets.
    fn authenticate(&self, request: &Request, query: &Query) -> Result<TokenOwner, Refusal> {
        let token = request.token.as_deref().or_else(|| query.get("access_token"));
        let Some(token) = token else {
            return Err(Refusal::new(401, "M_MISSING_TOKEN", "Missing access token"));
        };
        let owner = self.tokens.get(token);
        let soft_logout = owner.map_or(Some(false), |owner| owner.refused);
        match (owner, soft_logout) {
            (Some(owner), None) => Ok(owner.clone()),
            (_, soft_logout) => Err(Refusal {
                soft_logout: Some(soft_logout.unwrap_or(false)),
                ..Refusal::new(401, "M_UNKNOWN_TOKEN", "Invalid access token passed.")
            }),
        }
    }

    fn route(
        &mut self,
        request: &Request,
        segments: &[&str],
        now: Milliseconds,
    ) -> Result<Handled, Refusal> {
        if segments == ["login"] {
            return self.login(request).map(Handled::Json);
        }
        let query = Query::parse(&request.query);
        let owner = self.authenticate(request, &query)?;
        let call = Call { owner, method: &request.method, query, request, now };
        match segments {
            ["rooms", room_id, rest @ ..] => self.route_room(&call, room_id, rest),
            ["createRoom" | "join" | "knock" | "joined_rooms", ..] => {
                self.route_rooms(&call, segments)
            }
            _ => self.route_account(&call, segments).map(Handled::Json),
        }
    }

    fn handle_sync(&mut self, request: &Request, now: Milliseconds) -> Result<Handled, Refusal> {
        let query = Query::parse(&request.query);
        let owner = self.authenticate(request, &query)?;
        if let Some(reply) = self.faults.take_instead(&owner.user_id) {
            return Ok(Handled::Answer(Answer::Ready(reply)));
        }
        let sync = SyncRequest::parse(self, &owner.user_id, &query)?;
        if sync.since.is_none()
            && let Some(body) = self.prepared.remove(&owner.user_id)
        {
            self.syncs_count += 1;
            self.initial_syncs_count += 1;
            return Ok(Handled::Answer(Answer::Ready(Reply::new(200, body))));
        }
        let until = request.waiting_until.unwrap_or(now + sync.timeout_ms);
        let outcome = self.sync(&owner, &sync, now);
        if outcome.is_empty && now < until {
            let wait = Wait { user_id: owner.user_id, until };
            return Ok(Handled::Answer(Answer::Wait(wait)));
        }
        self.syncs_count += 1;
        self.initial_syncs_count += u64::from(sync.since.is_none());
        let reply = self.faults.damage(&owner.user_id, outcome.body);
        Ok(Handled::Answer(Answer::Ready(reply)))
    }
}

/// What an endpoint gives.
enum Handled {
    Json(Value),
    Text(String),
    Answer(Answer),
}

fn unrecognized() -> Refusal {
    Refusal::new(404, "M_UNRECOGNIZED", "Unrecognized request")
}

/// A member of a body that must be there and be a string.
fn required<'a>(body: &'a Value, key: &str) -> Result<&'a str, Refusal> {
    match body.get(key) {
        None => Err(Refusal::new(400, "M_MISSING_PARAM", format!("Missing params: ['{key}']"))),
        Some(value) => value.as_str().ok_or_else(|| {
            Refusal::new(400, "M_INVALID_PARAM", format!("'{key}' must be a string"))
        }),
    }
}
