//! How much a request asks for: the pieces of state that it names, and about
//! how many bytes of memory it takes. What a client asks is remembered with what
//! it was sent, so both have limits.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Dialect, Extensions, Filters, ListRequest, PartialState, Request, RequiredState, RoomConfig,
    Scope, StatePattern,
};
use crate::dialect::RequestError;

/// Limits on what a request asks for in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLimits {
    /// Different pieces of state that the request names, in all its lists and
    /// subscriptions together: of one room no more are looked up.
    pub state_max: usize,
    /// Bytes of memory that it takes, about.
    pub bytes_max: usize,
}

impl Default for SizeLimits {
    fn default() -> Self {
        Self { state_max: 1_000, bytes_max: 2 << 20 }
    }
}

/// What an element of a set takes besides its text.
const ELEMENT_BYTES: usize = 40;
/// What a set takes besides its elements, where it has any.
const SET_BYTES: usize = 280;

fn texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    let bytes: usize = texts.into_iter().map(|text| ELEMENT_BYTES + text.len()).sum();
    if bytes == 0 { 0 } else { SET_BYTES + bytes }
}

impl StatePattern {
    fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        2 * ELEMENT_BYTES + text(&self.kind) + text(&self.state_key)
    }
}

impl RequiredState {
    fn bytes(&self) -> usize {
        let types = self.types.iter();
        let types =
            types.map(|(kind, keys)| 2 * ELEMENT_BYTES + kind.len() + texts(keys.iter().flatten()));
        let partial = self.partial.iter().map(|partial| {
            let excluded: usize = partial.excluded.iter().map(StatePattern::bytes).sum();
            2 * SET_BYTES + partial.included.bytes() + excluded
        });
        types.sum::<usize>() + texts(&self.state_keys) + partial.sum::<usize>()
    }

    /// The pieces of state that are named, exceptions too.
    fn count(&self) -> usize {
        let types = self.types.values().map(|keys| keys.as_ref().map_or(1, BTreeSet::len));
        let partial = self.partial.iter().map(PartialState::count);
        usize::from(self.all)
            + self.state_keys.len()
            + types.sum::<usize>()
            + partial.sum::<usize>()
    }
}

impl PartialState {
    fn count(&self) -> usize {
        self.included.count() + self.excluded.len()
    }
}

impl RoomConfig {
    /// About how many bytes of memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let old_rooms = self.old_rooms.as_ref().map_or(0, |old| old.bytes());
        size_of::<Self>() + self.required_state.bytes() + old_rooms
    }
}

impl Filters {
    fn bytes(&self) -> usize {
        let types = self.room_types.iter().chain(&self.not_room_types).flatten();
        let types = types.map(|it| ELEMENT_BYTES + it.as_ref().map_or(0, String::len));
        let sets = self.tags.iter().chain(&self.not_tags).chain(&self.spaces);
        types.sum::<usize>()
            + sets.map(texts).sum::<usize>()
            + self.room_name_like.as_ref().map_or(0, String::len)
    }
}

impl ListRequest {
    fn bytes(&self) -> usize {
        let types = self.bump_event_types.as_ref().map_or(0, texts);
        size_of::<Self>()
            + size_of_val(&*self.ranges)
            + size_of_val(&*self.sort)
            + self.config.bytes()
            + self.filters.bytes()
            + types
    }
}

impl Extensions {
    fn bytes(&self) -> usize {
        let scopes = [&self.account_data, &self.receipts, &self.typing].into_iter().flatten();
        let axes = scopes.flat_map(|Scope { lists, rooms }| lists.iter().chain(rooms));
        let since = self.to_device.iter().filter_map(|it| it.since.as_ref());
        axes.map(texts).sum::<usize>() + since.map(String::len).sum::<usize>()
    }
}

impl Request {
    /// # Errors
    /// Where it asks for more than may be asked for in all.
    pub(crate) fn check_size(&self, limits: SizeLimits) -> Result<(), RequestError> {
        let refused = |problem: String| match self.dialect {
            Dialect::Simplified => RequestError::bad("the request", problem),
            Dialect::V4 | Dialect::Msc3575 => RequestError::invalid("the request", problem),
        };
        let SizeLimits { state_max, bytes_max } = limits;
        if self.names_more_state_than(state_max) {
            let problem = format!("names more than {state_max} pieces of state in all");
            return Err(refused(problem));
        }
        if self.bytes() > bytes_max {
            return Err(refused(format!("asks for more than fits into {bytes_max} bytes")));
        }
        Ok(())
    }

    fn configs(&self) -> impl Iterator<Item = &RoomConfig> {
        let of_lists = self.lists.iter().map(|(_, list)| &*list.config);
        let all = of_lists.chain(self.subscriptions.iter().map(|(_, config)| &**config));
        all.flat_map(|config| std::iter::successors(Some(config), |it| it.old_rooms.as_deref()))
    }

    fn names_more_state_than(&self, max: usize) -> bool {
        // What the least clients ask for needs no set.
        if self.configs().map(|config| config.required_state.count()).sum::<usize>() <= max {
            return false;
        }
        let mut named = Named::default();
        self.configs().any(|config| {
            named.add(&config.required_state);
            named.count() > max
        })
    }

    /// About how many bytes of memory it takes, equal configurations of
    /// subscriptions once where they are shared.
    fn bytes(&self) -> usize {
        let lists = self.lists.iter().map(|(key, list)| key.len() + list.bytes());
        let mut last = None;
        let mut seen = BTreeSet::new();
        let subscriptions = self.subscriptions.iter().map(|(room_id, config)| {
            let address = Arc::as_ptr(config).addr();
            let is_new = last.replace(address) != Some(address) && seen.insert(address);
            ELEMENT_BYTES + room_id.len() + if is_new { config.bytes() } else { 0 }
        });
        let subscriptions: usize = subscriptions.sum();
        lists.sum::<usize>() + subscriptions + self.extensions.bytes()
    }
}

/// Different pieces of state, and sets with exceptions.
#[derive(Default)]
struct Named<'a> {
    patterns: BTreeSet<(Option<&'a str>, Option<&'a str>)>,
    partial: BTreeSet<&'a PartialState>,
    /// Of the sets: an entry is held against each exception of each.
    partial_count: usize,
}

impl<'a> Named<'a> {
    fn add(&mut self, wanted: &'a RequiredState) {
        self.patterns.extend(wanted.all.then_some((None, None)));
        self.patterns.extend(wanted.state_keys.iter().map(|key| (None, Some(&**key))));
        for (kind, keys) in &wanted.types {
            match keys {
                None => drop(self.patterns.insert((Some(kind), None))),
                Some(keys) => {
                    let keys = keys.iter().map(|key| (Some(&**kind), Some(&**key)));
                    self.patterns.extend(keys);
                }
            }
        }
        for partial in &wanted.partial {
            if self.partial.insert(partial) {
                self.partial_count += partial.count();
            }
        }
    }

    fn count(&self) -> usize {
        self.patterns.len() + self.partial_count
    }
}

/// Makes equal configurations of one request one: a client asks the same of
/// most rooms.
#[derive(Debug, Default)]
pub struct SharedConfigs(Vec<Arc<RoomConfig>>);

/// Configurations that another is compared with.
const COMPARED_MAX: usize = 16;

impl SharedConfigs {
    /// The configuration, shared with an equal one of those before.
    pub fn share(&mut self, config: Arc<RoomConfig>) -> Arc<RoomConfig> {
        if let Some(known) = self.0.iter().find(|known| **known == config) {
            return Arc::clone(known);
        }
        if self.0.len() < COMPARED_MAX {
            self.0.push(Arc::clone(&config));
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{self, RequestLimits};

    const DIALECTS: [Dialect; 3] = [Dialect::Simplified, Dialect::V4, Dialect::Msc3575];

    /// A request's list or subscription that asks for this state.
    fn config(dialect: Dialect, pairs: &[(String, String)]) -> String {
        let one = |(kind, key): &(String, String)| match dialect {
            Dialect::V4 => format!(r#"{{"type":"{kind}","state_key":"{key}"}}"#),
            Dialect::Simplified | Dialect::Msc3575 => format!(r#"["{kind}","{key}"]"#),
        };
        let all: Vec<String> = pairs.iter().map(one).collect();
        let all = all.join(",");
        let state = match dialect {
            Dialect::V4 => format!(r#"{{"include":[{all}]}}"#),
            Dialect::Simplified | Dialect::Msc3575 => format!("[{all}]"),
        };
        format!(r#"{{"timeline_limit":1,"required_state":{state}}}"#)
    }

    fn pairs(of: std::ops::Range<usize>) -> Vec<(String, String)> {
        of.map(|at| (format!("t{at}"), String::new())).collect()
    }

    fn body(lists: &[String], subscriptions: &[String]) -> String {
        let named = |configs: &[String]| {
            let all: Vec<String> =
                configs.iter().enumerate().map(|(at, it)| format!(r#""k{at}":{it}"#)).collect();
            all.join(",")
        };
        format!(
            r#"{{"lists":{{{}}},"room_subscriptions":{{{}}}}}"#,
            named(lists),
            named(subscriptions)
        )
    }

    fn read(dialect: Dialect, body: &str, size: SizeLimits) -> Result<Request, RequestError> {
        let limits = RequestLimits { size, ..RequestLimits::default() };
        let mut request = dialect::parse(dialect, &[], body.as_bytes(), "@me:x", &limits)?;
        request.settle(None).map(|()| request)
    }

    /// Goal: no room is looked up for more than so much, however it is spread
    /// over lists and subscriptions; what is named twice counts once.
    #[test]
    fn a_request_names_so_many_different_pieces_of_state_in_all() {
        let size = SizeLimits { state_max: 10, ..SizeLimits::default() };
        for dialect in DIALECTS {
            let of = |range| config(dialect, &pairs(range));
            let (first, all) = (of(0..6), of(0..10));
            let fits = body(&[first.clone(), of(6..10), all.clone()], &[all.clone(), first]);
            assert!(read(dialect, &fits, size).is_ok(), "{dialect:?}");
            for exceeds in [body(&[all.clone(), of(10..11)], &[]), body(&[all], &[of(10..11)])] {
                let error = read(dialect, &exceeds, size).unwrap_err();
                let code =
                    if dialect == Dialect::Simplified { "M_BAD_JSON" } else { "M_INVALID_PARAM" };
                assert_eq!(error.errcode(), code, "{dialect:?}");
                assert_eq!(
                    error.to_string(),
                    "the request names more than 10 pieces of state in all",
                    "{dialect:?}"
                );
            }
        }
    }

    /// Goal: what is asked of replaced rooms, and exceptions, count too: each
    /// entry of the state is held against all exceptions.
    #[test]
    fn old_rooms_and_exceptions_count() {
        let size = SizeLimits { state_max: 10, ..SizeLimits::default() };
        let old = |range| config(Dialect::Msc3575, &pairs(range));
        let with = |old: String| format!(r#"{{"lists":{{"l":{{"include_old_rooms":{old}}}}}}}"#);
        assert!(read(Dialect::Msc3575, &with(old(0..10)), size).is_ok());
        assert!(read(Dialect::Msc3575, &with(old(0..11)), size).is_err());
        let except = |at: usize| {
            let some = r#"{"type":"a"},{"type":"b"}"#;
            format!(
                r#"{{"timeline_limit":1,"required_state":{{"include":[{{"type":"t{at}"}}],"exclude":[{some}]}}}}"#
            )
        };
        let sets = |count: usize| body(&(0..count).map(except).collect::<Vec<_>>(), &[]);
        assert!(read(Dialect::V4, &sets(3), size).is_ok());
        assert!(read(Dialect::V4, &sets(4), size).is_err());
    }

    /// Goal: a connection of MSC3575 asks for no more bit by bit.
    #[test]
    fn what_is_asked_for_request_by_request_counts_in_all() {
        let limits = RequestLimits {
            size: SizeLimits { state_max: 10, ..SizeLimits::default() },
            ..RequestLimits::default()
        };
        let read = |list: &str, range, before: Option<&Arc<super::super::Sticky>>| {
            let config = config(Dialect::Msc3575, &pairs(range));
            let body = format!(r#"{{"lists":{{"{list}":{config}}}}}"#);
            let mut request =
                dialect::parse(Dialect::Msc3575, &[], body.as_bytes(), "@me:x", &limits)?;
            request.settle(before).map(|()| request)
        };
        let first = read("a", 0..6, None).unwrap();
        let second = read("b", 4..10, first.sticky.as_ref()).unwrap();
        let error = read("c", 10..11, second.sticky.as_ref()).unwrap_err();
        assert_eq!(error.errcode(), "M_INVALID_PARAM");
    }

    /// Goal: no event has a longer type or state key, and asking for one is no
    /// error and asks for nothing.
    #[test]
    fn state_that_no_event_has_is_not_asked_for() {
        for dialect in DIALECTS {
            let long = "k".repeat(256);
            let pair = |kind: &str, key: &str| (kind.to_owned(), key.to_owned());
            let asked = [pair("a", &long), pair(&long, ""), pair("a", &long[1..])];
            let request =
                read(dialect, &body(&[config(dialect, &asked)], &[]), SizeLimits::default());
            let state = &request.unwrap().lists[0].1.config.required_state;
            assert_eq!(state.count(), 1, "{dialect:?}");
            assert!(state.matches("a", &long[1..]) && !state.matches("a", &long), "{dialect:?}");
        }
    }

    /// Goal: a body of short values takes no more memory than so much, and what
    /// is asked of many rooms alike takes it once.
    #[test]
    fn a_request_takes_so_much_memory() {
        let size = SizeLimits { bytes_max: 100_000, ..SizeLimits::default() };
        for dialect in DIALECTS {
            let alike = vec![config(dialect, &pairs(0..50)); 100];
            let request = read(dialect, &body(&[], &alike), size).unwrap();
            let configs = request.subscriptions.iter().map(|(_, config)| config);
            assert!(configs.clone().all(|it| Arc::ptr_eq(it, &request.subscriptions[0].1)));
            let differing: Vec<_> =
                (0..20).map(|at| config(dialect, &pairs(at..at + 50))).collect();
            let error = read(dialect, &body(&[], &differing), size).unwrap_err();
            assert_eq!(error.to_string(), "the request asks for more than fits into 100000 bytes");
            let tags: Vec<String> = (0..2_000).map(|at| format!(r#""{at}""#)).collect();
            let state = if dialect == Dialect::V4 { "{}" } else { "[]" };
            let list = format!(
                r#"{{"timeline_limit":1,"required_state":{state},"filters":{{"tags":[{}]}}}}"#,
                tags.join(",")
            );
            assert!(read(dialect, &body(std::slice::from_ref(&list), &[]), size).is_ok());
            let error = read(dialect, &body(&[list.clone(), list], &[]), size);
            assert!(error.is_err(), "{dialect:?}: filters count");
        }
    }
}
