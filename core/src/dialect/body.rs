//! Reading a request's body: its members by name and type, and what is wrong
//! where they are not there. No dialect is known here.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{RequestError, RequestLimits};

pub(super) type Result<T> = std::result::Result<T, RequestError>;
pub(super) type Object = Map<String, Value>;

/// The body as an object.
pub(super) fn body(body: &[u8], limits: &RequestLimits) -> Result<Object> {
    if depth(body) > limits.depth_max {
        let problem = format!("is nested deeper than {} levels", limits.depth_max);
        return Err(RequestError::bad("the body", problem));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(RequestError::bad("the body", "is not an object")),
        Err(error) => Err(RequestError::NotJson(error.to_string())),
    }
}

/// `conn_id`; empty where there is none.
pub(super) fn conn_id(body: &Object, limits: &RequestLimits) -> Result<String> {
    let conn_id = optional_string(body, "conn_id", "conn_id")?.unwrap_or_default();
    if conn_id.len() > limits.conn_id_bytes_max {
        let problem = format!("is longer than {} bytes", limits.conn_id_bytes_max);
        return Err(RequestError::invalid("conn_id", problem));
    }
    Ok(conn_id)
}

/// `timeout` of a query, in milliseconds.
pub(super) fn query_timeout(timeout: Option<&str>, limits: &RequestLimits) -> Result<Option<u64>> {
    let Some(timeout) = timeout else { return Ok(None) };
    let timeout = timeout
        .parse::<u64>()
        .map_err(|_| RequestError::invalid("timeout", "is not a whole number of milliseconds"))?;
    Ok(Some(timeout.min(limits.timeout_ms_cap)))
}

/// The first value of `name` in a query.
pub(super) fn find<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
}

/// A pair of whole numbers from 0 on.
pub(super) fn range(range: &Value, place: &str) -> Result<(u64, u64)> {
    let ends = range.as_array().filter(|ends| ends.len() == 2);
    let ends = ends.and_then(|ends| Some((ends[0].as_u64()?, ends[1].as_u64()?)));
    ends.ok_or_else(|| RequestError::bad(place, "is not pairs of whole numbers from 0 on"))
}

/// Bytes of an event type or a state key: no event has longer ones, and what
/// asks for one asks for nothing.
pub(super) const STATE_TEXT_BYTES_MAX: usize = 255;

/// The `[type, state_key]` pairs of an array, less those that no event has.
pub(super) fn pairs(
    pairs: &[Value],
    place: &str,
    limits: &RequestLimits,
) -> Result<Vec<(String, String)>> {
    if pairs.len() > limits.required_state_max {
        let problem = format!("has more than {} pairs", limits.required_state_max);
        return Err(RequestError::bad(place, problem));
    }
    let pair = |pair: &'_ Value| {
        let both = pair.as_array().filter(|both| both.len() == 2)?;
        Some((both[0].as_str()?.to_owned(), both[1].as_str()?.to_owned()))
    };
    let pairs: Option<Vec<_>> = pairs.iter().map(pair).collect();
    let mut pairs = pairs.ok_or_else(|| RequestError::bad(place, "is not pairs of strings"))?;
    let fits = |text: &str| text.len() <= STATE_TEXT_BYTES_MAX;
    pairs.retain(|(kind, state_key)| fits(kind) && fits(state_key));
    Ok(pairs)
}

pub(super) fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Object> {
    value.as_object().ok_or_else(|| RequestError::bad(place, "is not an object"))
}

pub(super) fn optional<'a>(of: &'a Object, key: &str) -> Option<&'a Value> {
    of.get(key).filter(|value| !value.is_null())
}

pub(super) fn optional_object<'a>(
    of: &'a Object,
    key: &str,
    place: &str,
) -> Result<Option<&'a Object>> {
    optional(of, key).map(|value| object(value, place)).transpose()
}

pub(super) fn optional_array<'a>(
    of: &'a Object,
    key: &str,
    place: &str,
) -> Result<Option<&'a Vec<Value>>> {
    let array = |value: &'a Value| {
        value.as_array().ok_or_else(|| RequestError::bad(place, "is not an array"))
    };
    optional(of, key).map(array).transpose()
}

pub(super) fn optional_string(of: &Object, key: &str, place: &str) -> Result<Option<String>> {
    let string = |value: &Value| {
        let string = value.as_str().map(str::to_owned);
        string.ok_or_else(|| RequestError::bad(place, "is not a string"))
    };
    optional(of, key).map(string).transpose()
}

pub(super) fn optional_bool(of: &Object, key: &str, place: &str) -> Result<Option<bool>> {
    let flag = |value: &Value| {
        value.as_bool().ok_or_else(|| RequestError::bad(place, "is neither true nor false"))
    };
    optional(of, key).map(flag).transpose()
}

pub(super) fn optional_strings(
    of: &Object,
    key: &str,
    place: &str,
) -> Result<Option<BTreeSet<String>>> {
    let Some(array) = optional_array(of, key, place)? else { return Ok(None) };
    let strings: Option<_> = array.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    strings.map(Some).ok_or_else(|| RequestError::bad(place, "is not an array of strings"))
}

/// How deep the brackets of `json` nest, strings aside.
pub(super) fn depth(json: &[u8]) -> usize {
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
