//! The request: `pos` and `timeout` in the query, all else in the body. Unknown
//! keys are ignored; nothing is sticky.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{
    dialect::{RequestError, RequestLimits},
    request::{
        Dialect, Extensions, Filters, ListRequest, Request, RequiredState, RoomConfig, Scope,
        ToDevice,
    },
};

type Result<T> = std::result::Result<T, RequestError>;
type Object = Map<String, Value>;

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
    let reader = Reader { user_id, limits };
    let body = reader.body(body)?;
    let conn_id = optional_string(&body, "conn_id", "conn_id")?.unwrap_or_default();
    if conn_id.len() > limits.conn_id_bytes_max {
        let problem = format!("is longer than {} bytes", limits.conn_id_bytes_max);
        return Err(RequestError::invalid("conn_id", problem));
    }
    let find = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    Ok(Request {
        dialect: Dialect::Simplified,
        conn_id,
        // A client that speaks the accepted form has it in the body.
        position: match find("pos") {
            Some(position) => Some(position.clone()),
            None => optional_string(&body, "pos", "pos")?,
        },
        timeout_ms: reader.timeout(find("timeout"))?,
        lists: reader.lists(&body)?,
        subscriptions: reader.subscriptions(&body)?,
        extensions: extensions(&body)?,
    })
}

struct Reader<'a> {
    user_id: &'a str,
    limits: &'a RequestLimits,
}

impl Reader<'_> {
    fn body(&self, body: &[u8]) -> Result<Object> {
        if depth(body) > self.limits.depth_max {
            let problem = format!("is nested deeper than {} levels", self.limits.depth_max);
            return Err(RequestError::bad("the body", problem));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(RequestError::bad("the body", "is not an object")),
            Err(error) => Err(RequestError::NotJson(error.to_string())),
        }
    }

    fn timeout(&self, timeout: Option<&String>) -> Result<u64> {
        let Some(timeout) = timeout else { return Ok(0) };
        let timeout = timeout.parse::<u64>().map_err(|_| {
            RequestError::invalid("timeout", "is not a whole number of milliseconds")
        })?;
        Ok(timeout.min(self.limits.timeout_ms_cap))
    }

    fn lists(&self, body: &Object) -> Result<Vec<(String, ListRequest)>> {
        let Some(lists) = optional_object(body, "lists", "lists")? else { return Ok(Vec::new()) };
        if lists.len() > self.limits.lists_max {
            let problem = format!("has more than {} lists", self.limits.lists_max);
            return Err(RequestError::bad("lists", problem));
        }
        lists.iter().map(|(key, list)| Ok((key.clone(), self.list(key, list)?))).collect()
    }

    fn list(&self, key: &str, list: &Value) -> Result<ListRequest> {
        let place = format!("lists.{key}");
        if key.len() > self.limits.list_key_bytes_max {
            let problem =
                format!("has a key of more than {} bytes", self.limits.list_key_bytes_max);
            return Err(RequestError::bad("lists", problem));
        }
        let list = object(list, &place)?;
        Ok(ListRequest {
            ranges: self.ranges(list, &place)?,
            config: self.config(list, &place)?,
            filters: filters(list, &place)?,
        })
    }

    fn ranges(&self, list: &Object, place: &str) -> Result<Vec<(u64, u64)>> {
        let place = format!("{place}.ranges");
        let Some(ranges) = optional_array(list, "ranges", &place)? else { return Ok(Vec::new()) };
        let range = |range: &Value| {
            let ends = range.as_array().filter(|ends| ends.len() == 2);
            let ends = ends.and_then(|ends| Some((ends[0].as_u64()?, ends[1].as_u64()?)));
            ends.ok_or_else(|| RequestError::bad(&place, "is not pairs of whole numbers from 0 on"))
        };
        ranges.iter().take(self.limits.ranges_max).map(range).collect()
    }

    fn config(&self, of: &Object, place: &str) -> Result<RoomConfig> {
        let limit_place = format!("{place}.timeline_limit");
        let limit = of.get("timeline_limit").filter(|limit| !limit.is_null());
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
        })
    }

    fn required_state(&self, of: &Object, place: &str) -> Result<RequiredState> {
        let pairs = optional_array(of, "required_state", place)?
            .ok_or_else(|| RequestError::MissingParam(place.to_owned()))?;
        if pairs.len() > self.limits.required_state_max {
            let problem = format!("has more than {} pairs", self.limits.required_state_max);
            return Err(RequestError::bad(place, problem));
        }
        let pair = |pair: &'_ Value| {
            let both = pair.as_array().filter(|both| both.len() == 2)?;
            Some((both[0].as_str()?.to_owned(), both[1].as_str()?.to_owned()))
        };
        let pairs: Option<Vec<_>> = pairs.iter().map(pair).collect();
        let pairs = pairs.ok_or_else(|| RequestError::bad(place, "is not pairs of strings"))?;
        let pairs = pairs.iter().map(|(kind, state_key)| (&**kind, &**state_key));
        Ok(RequiredState::from_pairs(pairs, self.user_id))
    }

    fn subscriptions(&self, body: &Object) -> Result<Vec<(String, RoomConfig)>> {
        let place = "room_subscriptions";
        let Some(rooms) = optional_object(body, place, place)? else { return Ok(Vec::new()) };
        let one = |(room_id, config): (&String, &Value)| {
            let place = format!("{place}.{room_id}");
            Ok((room_id.clone(), self.config(object(config, &place)?, &place)?))
        };
        rooms.iter().take(self.limits.subscriptions_max).map(one).collect()
    }
}

fn filters(list: &Object, place: &str) -> Result<Filters> {
    let place = format!("{place}.filters");
    let Some(filters) = optional_object(list, "filters", &place)? else {
        return Ok(Filters::default());
    };
    let place = |key: &str| format!("{place}.{key}");
    let flag = |key: &str| optional_bool(filters, key, &place(key));
    let strings = |key: &str| optional_strings(filters, key, &place(key));
    Ok(Filters {
        is_dm: flag("is_dm")?,
        is_encrypted: flag("is_encrypted")?,
        is_invite: flag("is_invite")?,
        room_types: room_types(filters, "room_types", &place("room_types"))?,
        not_room_types: room_types(filters, "not_room_types", &place("not_room_types"))?,
        room_name_like: optional_string(filters, "room_name_like", &place("room_name_like"))?,
        tags: strings("tags")?,
        not_tags: strings("not_tags")?,
        spaces: strings("spaces")?,
    })
}

fn room_types(of: &Object, key: &str, place: &str) -> Result<Option<Vec<Option<String>>>> {
    let Some(types) = optional_array(of, key, place)? else { return Ok(None) };
    let one = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::String(kind) => Ok(Some(kind.clone())),
        _ => Err(RequestError::bad(place, "is not strings and nulls")),
    };
    types.iter().map(one).collect::<Result<_>>().map(Some)
}

fn extensions(body: &Object) -> Result<Extensions> {
    let Some(all) = optional_object(body, "extensions", "extensions")? else {
        return Ok(Extensions::default());
    };
    Ok(Extensions {
        to_device: enabled(all, "to_device")?.map(to_device).transpose()?,
        e2ee: enabled(all, "e2ee")?.is_some(),
        account_data: scoped(all, "account_data")?,
        receipts: scoped(all, "receipts")?,
        typing: scoped(all, "typing")?,
    })
}

fn enabled<'a>(all: &'a Object, name: &str) -> Result<Option<&'a Object>> {
    let place = format!("extensions.{name}");
    let Some(extension) = optional_object(all, name, &place)? else { return Ok(None) };
    let on = optional_bool(extension, "enabled", &format!("{place}.enabled"))?;
    Ok((on == Some(true)).then_some(extension))
}

/// Messages of one answer, also where the client asks for more.
const TO_DEVICE_LIMIT: u64 = 100;

fn to_device(extension: &Object) -> Result<ToDevice> {
    let limit = match extension.get("limit") {
        None | Some(Value::Null) => TO_DEVICE_LIMIT,
        Some(limit) => limit.as_u64().ok_or_else(|| {
            RequestError::bad("extensions.to_device.limit", "is not a whole number from 0 on")
        })?,
    };
    // Any form of token is let in: clients bring those of other servers.
    let since = match extension.get("since") {
        Some(Value::String(since)) => Some(since.clone()),
        Some(Value::Number(since)) => Some(since.to_string()),
        _ => None,
    };
    Ok(ToDevice { since, limit: limit.min(TO_DEVICE_LIMIT) })
}

fn scoped(all: &Object, name: &str) -> Result<Option<Scope>> {
    let Some(extension) = enabled(all, name)? else { return Ok(None) };
    let axis = |key: &str| {
        let place = format!("extensions.{name}.{key}");
        Ok(match extension.get(key) {
            None => None,
            Some(Value::Null) => Some(BTreeSet::new()),
            Some(_) => {
                optional_strings(extension, key, &place)?.filter(|names| !names.contains("*"))
            }
        })
    };
    Ok(Some(Scope { lists: axis("lists")?, rooms: axis("rooms")? }))
}

fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Object> {
    value.as_object().ok_or_else(|| RequestError::bad(place, "is not an object"))
}

fn optional<'a>(of: &'a Object, key: &str) -> Option<&'a Value> {
    of.get(key).filter(|value| !value.is_null())
}

fn optional_object<'a>(of: &'a Object, key: &str, place: &str) -> Result<Option<&'a Object>> {
    optional(of, key).map(|value| object(value, place)).transpose()
}

fn optional_array<'a>(of: &'a Object, key: &str, place: &str) -> Result<Option<&'a Vec<Value>>> {
    let array = |value: &'a Value| {
        value.as_array().ok_or_else(|| RequestError::bad(place, "is not an array"))
    };
    optional(of, key).map(array).transpose()
}

fn optional_string(of: &Object, key: &str, place: &str) -> Result<Option<String>> {
    let string = |value: &Value| {
        let string = value.as_str().map(str::to_owned);
        string.ok_or_else(|| RequestError::bad(place, "is not a string"))
    };
    optional(of, key).map(string).transpose()
}

fn optional_bool(of: &Object, key: &str, place: &str) -> Result<Option<bool>> {
    let flag = |value: &Value| {
        value.as_bool().ok_or_else(|| RequestError::bad(place, "is neither true nor false"))
    };
    optional(of, key).map(flag).transpose()
}

fn optional_strings(of: &Object, key: &str, place: &str) -> Result<Option<BTreeSet<String>>> {
    let Some(array) = optional_array(of, key, place)? else { return Ok(None) };
    let strings: Option<_> = array.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    strings.map(Some).ok_or_else(|| RequestError::bad(place, "is not an array of strings"))
}

/// How deep the brackets of `json` nest, strings aside.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(request.extensions.to_device.unwrap().since.as_deref(), Some("4"));
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
}
