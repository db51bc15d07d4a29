//! What was asked of the homeserver, by whom, and how much it answered.
//!
//! Bodies and targets are counted, headers are not. A long poll whose client goes away before it is answered counts as
//! asked, and not as answered.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::api::{Query, Request};
use crate::model::Homeserver;

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `/sync` without `since`.
    FirstSync,
    /// `/sync` with `since`.
    Sync,
    /// A room's member list, or one member.
    Members,
    /// A filter to be stored.
    Filter,
    /// Everything else.
    Other,
}

/// Requests of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests that came.
    pub asked: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Bytes of their targets and bodies.
    pub bytes_in: u64,
    /// Bytes of the answers' bodies.
    pub bytes_out: u64,
    /// Requests that name a stored filter.
    pub named_filters: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.asked += other.asked;
        self.answered += other.answered;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.named_filters += other.named_filters;
    }
}

/// All requests so far, by device.
#[derive(Debug, Default)]
pub struct Traffic(BTreeMap<(String, Kind), Count>);

impl Traffic {
    /// What a device asked for, of one kind.
    pub fn of(&self, device_id: &str, kind: Kind) -> Count {
        self.0.get(&(device_id.to_owned(), kind)).copied().unwrap_or_default()
    }

    /// What a device asked for in all.
    pub fn of_all(&self, device_id: &str) -> Count {
        let mut sum = Count::default();
        for ((device, _), count) in &self.0 {
            if device == device_id {
                sum += *count;
            }
        }
        sum
    }

    /// Forgets everything so far.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Homeserver {
    /// What was asked so far.
    pub fn traffic(&mut self) -> &mut Traffic {
        &mut self.traffic
    }

    /// Notes a request, the first time that it is handled, and its answer.
    pub(crate) fn note_traffic(&mut self, request: &Request, answer: Option<usize>) {
        let owner = request.token.as_deref().and_then(|token| self.tokens.get(token));
        let Some(owner) = owner else { return };
        let key = (owner.device_id.clone(), kind(request));
        let bytes_in = request.path.len() + request.query.len() + request.body.len();
        let is_new = request.waiting_until.is_none();
        *self.traffic.0.entry(key).or_default() += Count {
            asked: u64::from(is_new),
            answered: u64::from(answer.is_some()),
            bytes_in: if is_new { bytes_in as u64 } else { 0 },
            bytes_out: answer.unwrap_or_default() as u64,
            named_filters: u64::from(is_new && names_filter(request)),
        };
    }
}

fn names_filter(request: &Request) -> bool {
    let query = Query::parse(&request.query);
    query.get("filter").is_some_and(|filter| !filter.starts_with('{'))
}

fn kind(request: &Request) -> Kind {
    if request.path.ends_with("/sync") {
        let query = Query::parse(&request.query);
        return if query.get("since").is_some() { Kind::Sync } else { Kind::FirstSync };
    }
    if request.path.ends_with("/filter") {
        return Kind::Filter;
    }
    if request.path.contains("/members") || request.path.contains("/state/m.room.member") {
        return Kind::Members;
    }
    Kind::Other
}
