//! The request, all of it in the body. Unknown keys are ignored; nothing is
//! sticky.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::TYPING;
use crate::{
    dialect::{
        RequestError, RequestLimits,
        body::{
            self, Object, Result, object, optional, optional_array, optional_bool, optional_object,
            optional_string,
        },
        common::{self, Names},
    },
    request::{
        Dialect, ListRequest, Request, RequiredState, RoomConfig, SharedConfigs, StatePattern,
    },
    upstream::scan::{Cursor, Kind},
};

const NAMES: Names =
    Names { is_invite: "is_invited", typing: TYPING, tombstones: false, wildcards: false };

/// Every room of a list.
const ALL: (u64, u64) = (0, u64::MAX);

/// The request in `body`.
///
/// # Errors
/// What is wrong, as the proposal has it.
pub fn parse(body: &[u8], limits: &RequestLimits) -> Result<Request> {
    let reader = Reader { limits };
    let body = body::body(body, limits)?;
    check_presence(&body)?;
    let request = Request {
        dialect: Dialect::V4,
        conn_id: body::conn_id(&body, limits)?,
        position: optional_string(&body, "pos", "pos")?,
        timeout_ms: reader.timeout(&body)?,
        lists: reader.lists(&body)?.into(),
        subscriptions: reader.subscriptions(&body)?.into(),
        extensions: common::extensions(&body, &NAMES)?.into(),
        changes: None,
        sticky: None,
    };
    request.check_size(limits.size)?;
    Ok(request)
}

/// A body without its position.
pub(in crate::dialect) struct Cut<'a> {
    pub(in crate::dialect) before: &'a [u8],
    pub(in crate::dialect) position: Option<&'a str>,
    pub(in crate::dialect) behind: &'a [u8],
}

/// Cuts the position out of a body; `None` where the body is not as usual.
pub(in crate::dialect) fn cut<'a>(body: &'a [u8], limits: &RequestLimits) -> Option<Cut<'a>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut cursor = Cursor::new(text);
    if cursor.kind().ok()? != Kind::Object {
        return None;
    }
    let mut walk = cursor.object().ok()?;
    let mut position = None;
    while let Some(key) = cursor.key(&mut walk).ok()? {
        if key.escaped() {
            return None;
        }
        let kind = cursor.kind().ok()?;
        let range = cursor.skip(limits.depth_max).ok()?;
        if key.decode()? == "pos" {
            let value = text.get(range.clone())?.strip_prefix('"')?.strip_suffix('"')?;
            let is_plain = kind == Kind::String && !value.contains('\\') && position.is_none();
            position = Some((range, value)).filter(|_| is_plain);
            position.as_ref()?;
        }
    }
    cursor.end().ok()?;
    Some(match position {
        Some((range, value)) => {
            let (before, behind) = (&body[..range.start], &body[range.end..]);
            Cut { before, position: Some(value), behind }
        }
        None => Cut { before: body, position: None, behind: &[] },
    })
}

/// A presence that there is; what it says is not passed on, since pollers are
/// offline.
fn check_presence(body: &Object) -> Result<()> {
    match optional_string(body, "set_presence", "set_presence")?.as_deref() {
        None | Some("online" | "offline" | "unavailable") => Ok(()),
        Some(_) => {
            Err(RequestError::invalid("set_presence", "is none of online, offline and unavailable"))
        }
    }
}

struct Reader<'a> {
    limits: &'a RequestLimits,
}

impl Reader<'_> {
    fn timeout(&self, body: &Object) -> Result<u64> {
        let Some(timeout) = optional(body, "timeout") else { return Ok(0) };
        let problem = "is not a whole number of milliseconds";
        if !timeout.is_number() {
            return Err(RequestError::bad("timeout", problem));
        }
        let timeout = timeout.as_u64().ok_or_else(|| RequestError::invalid("timeout", problem))?;
        Ok(timeout.min(self.limits.timeout_ms_cap))
    }

    fn lists(&self, body: &Object) -> Result<Vec<(String, ListRequest)>> {
        let Some(lists) = optional_object(body, "lists", "lists")? else { return Ok(Vec::new()) };
        if lists.len() > self.limits.lists_max {
            let problem = format!("has more than {} lists", self.limits.lists_max);
            return Err(RequestError::invalid("lists", problem));
        }
        lists.iter().map(|(key, list)| Ok((key.clone(), self.list(key, list)?))).collect()
    }

    fn list(&self, key: &str, list: &Value) -> Result<ListRequest> {
        let max = self.limits.list_key_bytes_max;
        if !is_opaque_identifier(key) || key.len() > max {
            let problem = format!(
                "has a key that is not 1 to {max} letters, digits, hyphens, dots, underscores \
                 and tildes"
            );
            return Err(RequestError::invalid("lists", problem));
        }
        let place = format!("lists.{key}");
        let list = object(list, &place)?;
        let range = optional(list, "range");
        let range = range.map(|range| body::range(range, &format!("{place}.range"))).transpose()?;
        Ok(ListRequest {
            ranges: vec![range.unwrap_or(ALL)],
            config: Arc::new(self.config(list, &place)?),
            filters: common::filters(list, &place, &NAMES)?,
            ..ListRequest::default()
        })
    }

    fn config(&self, of: &Object, place: &str) -> Result<RoomConfig> {
        let limit_place = format!("{place}.timeline_limit");
        let limit = optional(of, "timeline_limit");
        let limit = limit.ok_or_else(|| RequestError::MissingParam(limit_place.clone()))?;
        let limit = limit
            .as_i64()
            .ok_or_else(|| RequestError::bad(&limit_place, "is not a whole number"))?;
        let problem = || format!("is not from 0 to {}", self.limits.timeline_limit_max);
        let limit = u64::try_from(limit).ok().filter(|it| *it <= self.limits.timeline_limit_max);
        let limit = limit.ok_or_else(|| RequestError::invalid(&limit_place, problem()))?;
        Ok(RoomConfig {
            timeline_limit: limit.min(self.limits.timeline_limit_cap),
            required_state: self.required_state(of, &format!("{place}.required_state"))?,
            ..RoomConfig::default()
        })
    }

    fn required_state(&self, of: &Object, place: &str) -> Result<RequiredState> {
        let wanted = optional_object(of, "required_state", place)?
            .ok_or_else(|| RequestError::MissingParam(place.to_owned()))?;
        let lazy = optional_bool(wanted, "lazy_members", &format!("{place}.lazy_members"))?;
        let included = self.patterns(wanted, "include", &format!("{place}.include"))?;
        let excluded = self.patterns(wanted, "exclude", &format!("{place}.exclude"))?;
        let excluded: BTreeSet<_> = excluded.into_iter().collect();
        Ok(RequiredState::from_patterns(included, excluded, lazy == Some(true)))
    }

    fn patterns(&self, of: &Object, key: &str, place: &str) -> Result<Vec<StatePattern>> {
        let Some(patterns) = optional_array(of, key, place)? else { return Ok(Vec::new()) };
        if patterns.len() > self.limits.required_state_max {
            let problem = format!("has more than {} elements", self.limits.required_state_max);
            return Err(RequestError::invalid(place, problem));
        }
        let pattern = |pattern: &Value| {
            let pattern = object(pattern, place)?;
            Ok(StatePattern {
                kind: optional_string(pattern, "type", &format!("{place}.type"))?,
                state_key: optional_string(pattern, "state_key", &format!("{place}.state_key"))?,
            })
        };
        let mut patterns: Vec<_> = patterns.iter().map(pattern).collect::<Result<_>>()?;
        let fits = |text: &Option<String>| {
            text.as_ref().is_none_or(|text| text.len() <= body::STATE_TEXT_BYTES_MAX)
        };
        patterns.retain(|pattern| fits(&pattern.kind) && fits(&pattern.state_key));
        Ok(patterns)
    }

    fn subscriptions(&self, body: &Object) -> Result<Vec<(String, Arc<RoomConfig>)>> {
        let place = "room_subscriptions";
        let Some(rooms) = optional_object(body, place, place)? else { return Ok(Vec::new()) };
        if rooms.len() > self.limits.v4_subscriptions_max {
            let problem = format!("has more than {} rooms", self.limits.v4_subscriptions_max);
            return Err(RequestError::invalid(place, problem));
        }
        let mut shared = SharedConfigs::default();
        let one = |(room_id, config): (&String, &Value)| {
            let place = format!("{place}.{room_id}");
            let config = self.config(object(config, &place)?, &place)?;
            Ok((room_id.clone(), shared.share(config.into())))
        };
        rooms.iter().map(one).collect()
    }
}

/// The specification's grammar of opaque identifiers.
fn is_opaque_identifier(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<Request> {
        parse(body.as_bytes(), &RequestLimits::default())
    }

    #[test]
    fn everything_is_in_the_body() {
        let request = parsed(
            r#"{"pos":"5","timeout":30000,"set_presence":"offline","conn_id":"main","unknown":1,
               "lists":{"foo-list":{"range":[0,99],"timeline_limit":10,"filters":{"is_invited":false},
                 "required_state":{"include":[{"type":"m.room.create","state_key":""}],"lazy_members":true}},
                 "all":{"timeline_limit":0,"required_state":{}}},
               "room_subscriptions":{"!a:x":{"timeline_limit":500,"required_state":{"include":[{}],
                 "exclude":[{"type":"m.room.create"}]}}},
               "extensions":{"typing":{"enabled":true},"org.matrix.msc4508.typing":{"enabled":true,"lists":["*"]}}}"#,
        )
        .unwrap();
        assert_eq!(request.position.as_deref(), Some("5"));
        assert_eq!((request.timeout_ms, &*request.conn_id), (30_000, "main"));
        let list = |name: &str| &request.lists.iter().find(|(key, _)| key == name).unwrap().1;
        assert_eq!(list("foo-list").ranges, [(0, 99)]);
        assert_eq!(list("foo-list").filters.is_invite, Some(false));
        let state = &list("foo-list").config.required_state;
        assert!(state.lazy_members && state.matches("m.room.create", ""));
        assert_eq!(list("all").ranges, [ALL], "a list without a range is of all rooms");
        assert!(list("all").config.required_state.is_empty());
        let (_, config) = &request.subscriptions[0];
        assert_eq!(config.timeline_limit, 100, "capped");
        assert!(config.required_state.matches("m.room.member", "@a:x"));
        assert!(!config.required_state.matches("m.room.create", ""));
        let typing = request.extensions.typing.as_ref().unwrap();
        assert_eq!(typing.lists, Some(BTreeSet::from(["*".to_owned()])), "no wildcard here");
        assert_eq!(typing.rooms, None);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_right_code() {
        let list = |inner: &str| format!(r#"{{"lists":{{"a":{{{inner}}}}}}}"#);
        let many = |key: &str, count: usize| {
            let one = r#"{"timeline_limit":1,"required_state":{}}"#;
            let all: Vec<_> = (0..count).map(|at| format!(r#""{at}":{one}"#)).collect();
            format!(r#"{{"{key}":{{{}}}}}"#, all.join(","))
        };
        for (body, errcode) in [
            (String::new(), "M_NOT_JSON"),
            ("[]".to_owned(), "M_BAD_JSON"),
            (r#"{"pos":5}"#.to_owned(), "M_BAD_JSON"),
            (r#"{"timeout":-1}"#.to_owned(), "M_INVALID_PARAM"),
            (r#"{"timeout":"soon"}"#.to_owned(), "M_BAD_JSON"),
            (r#"{"set_presence":"asleep"}"#.to_owned(), "M_INVALID_PARAM"),
            (many("lists", 101), "M_INVALID_PARAM"),
            (many("room_subscriptions", 101), "M_INVALID_PARAM"),
            (
                r#"{"lists":{"a b":{"timeline_limit":1,"required_state":{}}}}"#.to_owned(),
                "M_INVALID_PARAM",
            ),
            (list(r#""required_state":{}"#), "M_MISSING_PARAM"),
            (list(r#""timeline_limit":1"#), "M_MISSING_PARAM"),
            (list(r#""timeline_limit":1,"required_state":[["a",""]]"#), "M_BAD_JSON"),
            (list(r#""timeline_limit":-1,"required_state":{}"#), "M_INVALID_PARAM"),
            (list(r#""timeline_limit":1001,"required_state":{}"#), "M_INVALID_PARAM"),
            (list(r#""timeline_limit":1,"required_state":{},"range":[[0,1]]"#), "M_BAD_JSON"),
            (list(r#""timeline_limit":1,"required_state":{"include":[{"type":1}]}"#), "M_BAD_JSON"),
        ] {
            let error = parsed(&body).unwrap_err();
            assert_eq!(error.errcode(), errcode, "{body}: {error}");
        }
        assert_eq!(parsed(&many("lists", 100)).unwrap().lists.len(), 100);
        assert_eq!(parsed(&many("room_subscriptions", 100)).unwrap().subscriptions.len(), 100);
    }
}
