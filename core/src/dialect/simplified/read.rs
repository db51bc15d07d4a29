//! The request: `pos` and `timeout` in the query, all else in the body. Unknown
//! keys are ignored; nothing is sticky.

use std::sync::Arc;

use crate::{
    dialect::{
        RequestError, RequestLimits,
        body::{
            self, Object, Result, find, object, optional, optional_array, optional_object,
            optional_string,
        },
        common::{self, Names},
    },
    request::{Dialect, ListRequest, Request, RequiredState, RoomConfig, SharedConfigs},
};

const NAMES: Names =
    Names { is_invite: "is_invite", typing: "typing", tombstones: false, wildcards: true };

/// The request in `query` (decoded pairs) and `body`, sent by `user_id`.
///
/// # Errors
/// What is wrong, as the dialect's clients expect it.
pub fn parse(
    query: &[(String, String)],
    body: &[u8],
    user_id: &str,
    limits: &RequestLimits,
) -> Result<Request> {
    with_query(parse_body(body, user_id, limits)?, query, limits)
}

/// What the body says of the request.
pub(in crate::dialect) fn parse_body(
    body: &[u8],
    user_id: &str,
    limits: &RequestLimits,
) -> Result<Request> {
    let reader = Reader { user_id, limits };
    let body = body::body(body, limits)?;
    let request = Request {
        dialect: Dialect::Simplified,
        conn_id: body::conn_id(&body, limits)?,
        position: optional_string(&body, "pos", "pos")?,
        timeout_ms: 0,
        lists: reader.lists(&body)?.into(),
        subscriptions: reader.subscriptions(&body)?.into(),
        extensions: common::extensions(&body, &NAMES)?.into(),
        changes: None,
        sticky: None,
    };
    request.check_size(limits.size)?;
    Ok(request)
}

/// The request with what the query says. A client that speaks the accepted form
/// has its position in the body.
pub(in crate::dialect) fn with_query(
    request: Request,
    query: &[(String, String)],
    limits: &RequestLimits,
) -> Result<Request> {
    Ok(Request {
        position: find(query, "pos").map(str::to_owned).or(request.position),
        timeout_ms: body::query_timeout(find(query, "timeout"), limits)?.unwrap_or(0),
        ..request
    })
}

struct Reader<'a> {
    user_id: &'a str,
    limits: &'a RequestLimits,
}

impl Reader<'_> {
    fn lists(&self, body: &Object) -> Result<Vec<(String, ListRequest)>> {
        let Some(lists) = optional_object(body, "lists", "lists")? else { return Ok(Vec::new()) };
        if lists.len() > self.limits.lists_max {
            let problem = format!("has more than {} lists", self.limits.lists_max);
            return Err(RequestError::bad("lists", problem));
        }
        lists.iter().map(|(key, list)| Ok((key.clone(), self.list(key, list)?))).collect()
    }

    fn list(&self, key: &str, list: &serde_json::Value) -> Result<ListRequest> {
        let place = format!("lists.{key}");
        if key.len() > self.limits.list_key_bytes_max {
            let problem =
                format!("has a key of more than {} bytes", self.limits.list_key_bytes_max);
            return Err(RequestError::bad("lists", problem));
        }
        let list = object(list, &place)?;
        Ok(ListRequest {
            ranges: self.ranges(list, &place)?,
            config: Arc::new(self.config(list, &place)?),
            filters: common::filters(list, &place, &NAMES)?,
            ..ListRequest::default()
        })
    }

    fn ranges(&self, list: &Object, place: &str) -> Result<Vec<(u64, u64)>> {
        let place = format!("{place}.ranges");
        let Some(ranges) = optional_array(list, "ranges", &place)? else { return Ok(Vec::new()) };
        ranges.iter().take(self.limits.ranges_max).map(|it| body::range(it, &place)).collect()
    }

    fn config(&self, of: &Object, place: &str) -> Result<RoomConfig> {
        let limit_place = format!("{place}.timeline_limit");
        let limit = optional(of, "timeline_limit");
        let limit = limit.ok_or_else(|| RequestError::MissingParam(limit_place.clone()))?;
        let limit = limit
            .as_i64()
            .ok_or_else(|| RequestError::bad(&limit_place, "is not a whole number"))?;
        let timeline_limit = u64::try_from(limit).unwrap_or(0);
        if timeline_limit > self.limits.timeline_limit_max {
            let problem = format!("is more than {}", self.limits.timeline_limit_max);
            return Err(RequestError::bad(&limit_place, problem));
        }
        Ok(RoomConfig {
            timeline_limit: timeline_limit.min(self.limits.timeline_limit_cap),
            required_state: self.required_state(of, &format!("{place}.required_state"))?,
            ..RoomConfig::default()
        })
    }

    fn required_state(&self, of: &Object, place: &str) -> Result<RequiredState> {
        let pairs = optional_array(of, "required_state", place)?
            .ok_or_else(|| RequestError::MissingParam(place.to_owned()))?;
        let pairs = body::pairs(pairs, place, self.limits)?;
        let pairs = pairs.iter().map(|(kind, state_key)| (&**kind, &**state_key));
        Ok(RequiredState::from_pairs(pairs, self.user_id))
    }

    fn subscriptions(&self, body: &Object) -> Result<Vec<(String, Arc<RoomConfig>)>> {
        let place = "room_subscriptions";
        let Some(rooms) = optional_object(body, place, place)? else { return Ok(Vec::new()) };
        let mut shared = SharedConfigs::default();
        let one = |(room_id, config): (&String, &serde_json::Value)| {
            let place = format!("{place}.{room_id}");
            let config = self.config(object(config, &place)?, &place)?;
            Ok((room_id.clone(), shared.share(config.into())))
        };
        rooms.iter().take(self.limits.subscriptions_max).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Scope;

    fn parsed(query: &str, body: &str) -> Result<Request> {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        };
        let query: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
        parse(&query, body.as_bytes(), "@me:x", &RequestLimits::default())
    }

    #[test]
    fn an_element_x_request_is_understood() {
        let request = parsed(
            "pos=5&timeout=30000",
            r#"{"conn_id":"room-list","lists":{"all_rooms":{"ranges":[[0,19]],"timeline_limit":1,
               "filters":{},"required_state":[["m.room.member","$LAZY"],["m.room.member","$ME"]]}},
               "room_subscriptions":{"!a:x":{"timeline_limit":20,"required_state":[]}},
               "extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true,"rooms":["*"]},
               "to_device":{"enabled":true,"since":"4"},"e2ee":{"enabled":false},"other":{"enabled":1}}}"#,
        )
        .unwrap();
        assert_eq!(request.position.as_deref(), Some("5"));
        assert_eq!((request.timeout_ms, &*request.conn_id), (30_000, "room-list"));
        let (key, list) = &request.lists[0];
        assert_eq!((&**key, &*list.ranges), ("all_rooms", &[(0, 19)][..]));
        assert!(list.filters.is_empty() && list.config.required_state.lazy_members);
        assert!(list.config.required_state.matches("m.room.member", "@me:x"));
        assert_eq!(request.subscriptions[0].1.timeline_limit, 20);
        let everything = Scope { lists: None, rooms: None };
        assert_eq!(request.extensions.receipts, Some(everything.clone()));
        assert_eq!(request.extensions.account_data, Some(everything));
        assert_eq!(request.extensions.to_device.as_ref().unwrap().since.as_deref(), Some("4"));
        assert!(!request.extensions.e2ee);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_right_code() {
        let list = |inner: &str| format!(r#"{{"lists":{{"a":{{{inner}}}}}}}"#);
        let many = format!("[{}]", "[".repeat(70) + &"]".repeat(70));
        for (query, body, errcode) in [
            ("", String::new(), "M_NOT_JSON"),
            ("", "{".to_owned(), "M_NOT_JSON"),
            ("", "[]".to_owned(), "M_BAD_JSON"),
            ("", many, "M_BAD_JSON"),
            ("timeout=-1", "{}".to_owned(), "M_INVALID_PARAM"),
            ("timeout=soon", "{}".to_owned(), "M_INVALID_PARAM"),
            ("", r#"{"conn_id":5}"#.to_owned(), "M_BAD_JSON"),
            ("", format!(r#"{{"conn_id":"{}"}}"#, "c".repeat(65)), "M_INVALID_PARAM"),
            ("", r#"{"lists":[]}"#.to_owned(), "M_BAD_JSON"),
            ("", list(r#""required_state":[]"#), "M_MISSING_PARAM"),
            ("", list(r#""timeline_limit":1"#), "M_MISSING_PARAM"),
            ("", list(r#""timeline_limit":1001,"required_state":[]"#), "M_BAD_JSON"),
            ("", list(r#""timeline_limit":1,"required_state":[["a"]]"#), "M_BAD_JSON"),
            ("", list(r#""timeline_limit":1,"required_state":[],"ranges":[[-1,2]]"#), "M_BAD_JSON"),
            (
                "",
                list(r#""timeline_limit":1,"required_state":[],"filters":{"is_dm":1}"#),
                "M_BAD_JSON",
            ),
            ("", r#"{"extensions":{"e2ee":[]}}"#.to_owned(), "M_BAD_JSON"),
        ] {
            let error = parsed(query, &body).unwrap_err();
            assert_eq!(error.errcode(), errcode, "{body}: {error}");
        }
    }

    #[test]
    fn the_least_request_is_enough() {
        let request = parsed("", "{}").unwrap();
        assert_eq!((request.position, request.timeout_ms), (None, 0));
        assert!(request.lists.is_empty() && request.subscriptions.is_empty());
    }

    /// Goal: a client that speaks the accepted form has its position in the body;
    /// the query's counts where both are there. Presence is not this dialect's.
    #[test]
    fn a_position_in_the_body_counts_where_the_query_has_none() {
        for (query, expected) in [("", "body"), ("pos=query", "query"), ("set_presence=x", "body")]
        {
            let request = parsed(query, r#"{"pos":"body"}"#).unwrap();
            assert_eq!(request.position.as_deref(), Some(expected), "{query}");
        }
        assert_eq!(
            parsed("pos=query", r#"{"pos":null}"#).unwrap().position.as_deref(),
            Some("query")
        );
    }
}
