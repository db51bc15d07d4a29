//! The request: `pos` and `timeout` in the query, all else in the body, where
//! what is absent or null is as it was.

use std::sync::Arc;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    dialect::{
        RequestError, RequestLimits,
        body::{
            self, Object, Result, find, object, optional, optional_array, optional_bool,
            optional_object, optional_string, optional_strings,
        },
        common::{self, Names},
    },
    request::{
        Changes, Dialect, ExtensionChange, ExtensionName, ListChange, Request, RequiredState,
        RoomConfig, SharedConfigs, Sort,
    },
};

const NAMES: Names =
    Names { is_invite: "is_invite", typing: "typing", tombstones: true, wildcards: true };

/// How long a client waits that does not say how long.
const TIMEOUT_MS: u64 = 10_000;
/// The most messages of one answer.
const TO_DEVICE_LIMIT_MAX: u64 = 100;

/// The request in `query` (decoded pairs) and `body`, sent by `user_id`. It is
/// whole once it is settled with what the connection has asked for before.
///
/// # Errors
/// What is wrong.
pub fn parse(
    query: &[(String, String)],
    body: &[u8],
    user_id: &str,
    limits: &RequestLimits,
) -> Result<Request> {
    let reader = Reader { user_id, limits };
    let body = body::body(if body.is_empty() { b"{}" } else { body }, limits)?;
    Ok(Request {
        dialect: Dialect::Msc3575,
        conn_id: body::conn_id(&body, limits)?,
        position: find(query, "pos").map(str::to_owned),
        timeout_ms: body::query_timeout(find(query, "timeout"), limits)?
            .unwrap_or(TIMEOUT_MS.min(limits.timeout_ms_cap)),
        lists: Arc::default(),
        subscriptions: Arc::default(),
        extensions: Arc::default(),
        changes: Some(Box::new(reader.changes(body)?)),
        sticky: None,
    })
}

struct Reader<'a> {
    user_id: &'a str,
    limits: &'a RequestLimits,
}

impl Reader<'_> {
    fn changes(&self, mut body: Object) -> Result<Changes> {
        let txn_id = optional_string(&body, "txn_id", "txn_id")?;
        if txn_id.as_ref().is_some_and(|it| it.len() > self.limits.txn_id_bytes_max) {
            let problem = format!("is longer than {} bytes", self.limits.txn_id_bytes_max);
            return Err(RequestError::invalid("txn_id", problem));
        }
        body.remove("txn_id");
        let unsubscribe = "unsubscribe_rooms";
        let unsubscriptions = optional_strings(&body, unsubscribe, unsubscribe)?;
        Ok(Changes {
            txn_id,
            lists: self.lists(&body)?,
            subscriptions: self.subscriptions(&body)?,
            unsubscriptions: unsubscriptions.into_iter().flatten().collect(),
            extensions: extensions(&body)?,
            lists_max: self.limits.lists_max,
            subscriptions_max: self.limits.subscriptions_max,
            sticky_bytes_max: self.limits.sticky_bytes_max,
            size: self.limits.size,
            digest: xxh3_64(Value::Object(body).to_string().as_bytes()),
        })
    }

    fn lists(&self, body: &Object) -> Result<Vec<(String, ListChange)>> {
        let Some(lists) = optional_object(body, "lists", "lists")? else { return Ok(Vec::new()) };
        if lists.len() > self.limits.lists_max {
            let problem = format!("has more than {} lists", self.limits.lists_max);
            return Err(RequestError::invalid("lists", problem));
        }
        let long = |key: &&String| key.len() > self.limits.list_key_bytes_max;
        if lists.keys().any(|key| long(&key)) {
            let problem =
                format!("has a key of more than {} bytes", self.limits.list_key_bytes_max);
            return Err(RequestError::invalid("lists", problem));
        }
        lists.iter().map(|(key, list)| Ok((key.clone(), self.list(key, list)?))).collect()
    }

    fn list(&self, key: &str, list: &Value) -> Result<ListChange> {
        let place = format!("lists.{key}");
        let list = object(list, &place)?;
        let of = |key: &str| format!("{place}.{key}");
        let old_rooms = optional_object(list, "include_old_rooms", &of("include_old_rooms"))?;
        let old_rooms = old_rooms.map(|old| self.config(old, &of("include_old_rooms")));
        let has_filters = optional(list, "filters").is_some();
        let filters = common::filters(list, &place, &NAMES)?;
        Ok(ListChange {
            deleted: optional_bool(list, "deleted", &of("deleted"))? == Some(true),
            ranges: self.ranges(list, &of("ranges"))?,
            timeline_limit: self.timeline_limit(list, &place)?,
            required_state: self.required_state(list, &of("required_state"))?,
            old_rooms: old_rooms.transpose()?,
            include_heroes: optional_bool(list, "include_heroes", &of("include_heroes"))?,
            filters: has_filters.then_some(filters),
            sort: sort(list, &of("sort"))?,
            bump_event_types: optional_strings(list, "bump_event_types", &of("bump_event_types"))?,
            slow_get_all_rooms: optional_bool(
                list,
                "slow_get_all_rooms",
                &of("slow_get_all_rooms"),
            )?,
        })
    }

    /// Ranges that neither end before they begin nor share an index.
    fn ranges(&self, list: &Object, place: &str) -> Result<Option<Vec<(u64, u64)>>> {
        let Some(ranges) = optional_array(list, "ranges", place)? else { return Ok(None) };
        let ranges = ranges.iter().take(self.limits.ranges_max);
        let ranges: Vec<_> =
            ranges.map(|range| body::range(range, place)).collect::<Result<_>>()?;
        let mut sorted = ranges.clone();
        sorted.sort_unstable();
        let inverted = sorted.iter().any(|(from, to)| to < from);
        if inverted || sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
            return Err(RequestError::invalid(place, "has ranges that are inverted or overlap"));
        }
        Ok(Some(ranges))
    }

    fn timeline_limit(&self, of: &Object, place: &str) -> Result<Option<u64>> {
        let place = format!("{place}.timeline_limit");
        let Some(limit) = optional(of, "timeline_limit") else { return Ok(None) };
        let limit =
            limit.as_i64().ok_or_else(|| RequestError::bad(&place, "is not a whole number"))?;
        let limit = u64::try_from(limit).unwrap_or(0);
        if limit > self.limits.timeline_limit_max {
            let problem = format!("is more than {}", self.limits.timeline_limit_max);
            return Err(RequestError::invalid(&place, problem));
        }
        Ok(Some(limit.min(self.limits.timeline_limit_cap)))
    }

    fn required_state(&self, of: &Object, place: &str) -> Result<Option<RequiredState>> {
        let Some(pairs) = optional_array(of, "required_state", place)? else { return Ok(None) };
        let pairs = body::pairs(pairs, place, self.limits)?;
        let pairs = pairs.iter().map(|(kind, state_key)| (&**kind, &**state_key));
        Ok(Some(RequiredState::from_filtering_pairs(pairs, self.user_id)))
    }

    /// A subscription; what is absent is nothing.
    fn config(&self, of: &Object, place: &str) -> Result<RoomConfig> {
        let old_place = format!("{place}.include_old_rooms");
        let old_rooms = match optional_object(of, "include_old_rooms", &old_place)? {
            Some(old) => Some(Arc::new(RoomConfig {
                timeline_limit: self.timeline_limit(old, &old_place)?.unwrap_or(0),
                required_state: self
                    .required_state(old, &format!("{old_place}.required_state"))?
                    .unwrap_or_default(),
                ..RoomConfig::default()
            })),
            None => None,
        };
        let include_heroes =
            optional_bool(of, "include_heroes", &format!("{place}.include_heroes"))?;
        Ok(RoomConfig {
            timeline_limit: self.timeline_limit(of, place)?.unwrap_or(0),
            required_state: self
                .required_state(of, &format!("{place}.required_state"))?
                .unwrap_or_default(),
            old_rooms,
            include_heroes: include_heroes == Some(true),
        })
    }

    fn subscriptions(&self, body: &Object) -> Result<Vec<(String, Arc<RoomConfig>)>> {
        let place = "room_subscriptions";
        let Some(rooms) = optional_object(body, place, place)? else { return Ok(Vec::new()) };
        let mut shared = SharedConfigs::default();
        let one = |(room_id, config): (&String, &Value)| {
            let place = format!("{place}.{room_id}");
            let config = self.config(object(config, &place)?, &place)?;
            Ok((room_id.clone(), shared.share(config.into())))
        };
        rooms.iter().take(self.limits.subscriptions_max).map(one).collect()
    }
}

/// The orders that are known; what is not is left out.
fn sort(list: &Object, place: &str) -> Result<Option<Vec<Sort>>> {
    let Some(names) = optional_array(list, "sort", place)? else { return Ok(None) };
    let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
    let names = names.ok_or_else(|| RequestError::bad(place, "is not an array of strings"))?;
    let known = |name: &str| {
        Some(match name {
            "by_recency" => Sort::Recency,
            "by_name" => Sort::Name,
            "by_notification_level" => Sort::NotificationLevel,
            "by_notification_count" => Sort::NotificationCount,
            "by_highlight_count" => Sort::HighlightCount,
            _ => return None,
        })
    };
    let mut sorts: Vec<Sort> = names.into_iter().filter_map(known).collect();
    if sorts.is_empty() {
        sorts.push(Sort::Recency);
    }
    sorts.truncate(SORTS_MAX);
    Ok(Some(sorts))
}

/// Orders of one list; those behind can decide nothing.
const SORTS_MAX: usize = 5;

fn extensions(body: &Object) -> Result<Vec<(ExtensionName, ExtensionChange)>> {
    let Some(all) = optional_object(body, "extensions", "extensions")? else {
        return Ok(Vec::new());
    };
    let mut changes = Vec::new();
    for (name, key) in ExtensionName::ALL {
        let place = format!("extensions.{key}");
        let of = |key: &str| format!("{place}.{key}");
        let Some(extension) = optional_object(all, key, &place)? else { continue };
        let since = match extension.get("since") {
            Some(Value::String(since)) => Some(since.clone()),
            Some(Value::Number(since)) => Some(since.to_string()),
            _ => None,
        };
        let limit = match optional(extension, "limit") {
            None => None,
            Some(limit) => Some(limit.as_u64().ok_or_else(|| {
                RequestError::bad(of("limit"), "is not a whole number from 0 on")
            })?),
        };
        let change = ExtensionChange {
            enabled: optional_bool(extension, "enabled", &of("enabled"))?,
            lists: optional_strings(extension, "lists", &of("lists"))?,
            rooms: optional_strings(extension, "rooms", &of("rooms"))?,
            since,
            limit: limit.map(|limit| limit.min(TO_DEVICE_LIMIT_MAX)),
        };
        changes.push((name, change));
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<Request> {
        parse(&[], body.as_bytes(), "@me:x", &RequestLimits::default())
    }

    #[test]
    fn what_is_absent_stays_as_it_was() {
        let mut first = parsed(
            r#"{"txn_id":"a","lists":{"l":{"ranges":[[0,1],[5,9]],"sort":["by_name","by_magic"],
               "filters":{"is_dm":true,"tags":["t"]},"timeline_limit":3,
               "required_state":[["m.room.name",""]],"include_old_rooms":{"timeline_limit":1}},
               "other":{}},
               "room_subscriptions":{"!a:x":{"timeline_limit":1},"!b:x":{"timeline_limit":2}},
               "extensions":{"to_device":{"enabled":true,"since":"4"},"typing":{"enabled":true,"lists":["l"]}}}"#,
        )
        .unwrap();
        first.settle(None).unwrap();
        let mut second = parsed(
            r#"{"lists":{"l":{"filters":{"is_dm":false},"timeline_limit":0,"ranges":null},"other":{"deleted":true}},
               "room_subscriptions":{"!b:x":{}},"unsubscribe_rooms":["!a:x"],
               "extensions":{"to_device":{"since":"5"},"typing":{"enabled":false}}}"#,
        )
        .unwrap();
        second.settle(first.sticky.as_ref()).unwrap();
        let [(key, list)] = &second.lists[..] else { panic!("one list is left") };
        assert_eq!((&**key, &*list.ranges), ("l", &[(0, 1), (5, 9)][..]));
        assert_eq!(list.sort, [Sort::Name]);
        assert_eq!((list.filters.is_dm, &list.filters.tags), (Some(false), &None));
        assert_eq!(list.config.timeline_limit, 0, "0 is a value");
        assert!(list.config.required_state.matches("m.room.name", ""));
        assert_eq!(list.config.old_rooms.as_ref().unwrap().timeline_limit, 1);
        let subscriptions = [("!b:x".to_owned(), Arc::default())];
        assert_eq!(*second.subscriptions, subscriptions, "a new subscription replaces the old");
        let to_device = second.extensions.to_device.as_ref().unwrap();
        assert_eq!((to_device.since.as_deref(), to_device.limit), (Some("5"), 100));
        assert_eq!(second.extensions.typing, None);
        // The first list of a request without anything is the default one.
        assert_eq!(first.lists[1].1.ranges, [(0, u64::MAX)]);
        assert_eq!(first.lists[1].1.sort, [Sort::Recency]);
        let mut third = parsed("").unwrap();
        third.settle(second.sticky.as_ref()).unwrap();
        assert_eq!((&third.lists, &third.extensions), (&second.lists, &second.extensions));
    }

    #[test]
    fn transaction_ids_do_not_tell_requests_apart() {
        let digest = |body: &str| parsed(body).unwrap().changes.unwrap().digest;
        assert_eq!(digest(r#"{"txn_id":"a","lists":{}}"#), digest(r#"{"lists":{},"txn_id":"b"}"#));
        assert_ne!(digest(r#"{"lists":{}}"#), digest(r#"{"lists":{"a":{}}}"#));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let list = |inner: &str| format!(r#"{{"lists":{{"a":{{{inner}}}}}}}"#);
        let long = "t".repeat(65);
        for (body, errcode) in [
            ("{".to_owned(), "M_NOT_JSON"),
            ("[]".to_owned(), "M_BAD_JSON"),
            (format!(r#"{{"txn_id":"{long}"}}"#), "M_INVALID_PARAM"),
            (format!(r#"{{"lists":{{"{long}":{{}}}}}}"#), "M_INVALID_PARAM"),
            (list(r#""ranges":[[5,1]]"#), "M_INVALID_PARAM"),
            (list(r#""ranges":[[0,5],[5,9]]"#), "M_INVALID_PARAM"),
            (list(r#""ranges":[[-1,5]]"#), "M_BAD_JSON"),
            (list(r#""sort":"by_name""#), "M_BAD_JSON"),
            (list(r#""timeline_limit":1001"#), "M_INVALID_PARAM"),
            (list(r#""filters":{"is_tombstoned":1}"#), "M_BAD_JSON"),
            (r#"{"unsubscribe_rooms":[1]}"#.to_owned(), "M_BAD_JSON"),
            (r#"{"extensions":{"to_device":{"limit":-1}}}"#.to_owned(), "M_BAD_JSON"),
        ] {
            let error = parsed(&body).unwrap_err();
            assert_eq!(error.errcode(), errcode, "{body}: {error}");
        }
    }

    /// Goal: what is asked for request by request does not grow without bound.
    #[test]
    fn what_a_connection_asks_for_has_a_size() {
        let limits = RequestLimits { sticky_bytes_max: 12_000, ..RequestLimits::default() };
        let tags = |list: usize| {
            let body = format!(
                r#"{{"lists":{{"{list}":{{"filters":{{"tags":["{}"]}}}}}}}}"#,
                "t".repeat(3_000)
            );
            parse(&[], body.as_bytes(), "@me:x", &limits).unwrap()
        };
        let mut sticky = None;
        for list in 0..3 {
            let mut request = tags(list);
            request.settle(sticky.as_ref()).unwrap();
            sticky = request.sticky;
        }
        assert_eq!(tags(3).settle(sticky.as_ref()).unwrap_err().errcode(), "M_INVALID_PARAM");
        tags(2).settle(sticky.as_ref()).expect("what replaces adds nothing");
        let mut none = parse(&[], b"{}", "@me:x", &limits).unwrap();
        none.settle(sticky.as_ref()).expect("what adds nothing is no more");
    }

    #[test]
    fn a_connection_has_no_more_lists_than_a_request() {
        let lists = |from: usize| {
            let all: Vec<_> = (from..from + 60).map(|at| format!(r#""{at}":{{}}"#)).collect();
            parsed(&format!(r#"{{"lists":{{{}}}}}"#, all.join(","))).unwrap()
        };
        let mut first = lists(0);
        first.settle(None).unwrap();
        let error = lists(60).settle(first.sticky.as_ref()).unwrap_err();
        assert_eq!(error.errcode(), "M_INVALID_PARAM");
    }
}
