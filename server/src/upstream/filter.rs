//! What a poll asks for: a filter, in the URL or by the id that the homeserver
//! has stored it under, which saves some 400 bytes of each poll.
//!
//! An id is kept in memory alone: a filter that is stored again is the same to a
//! homeserver, and one request is soon worth its cost. A poller asks for an id
//! only after some polls, so that not all ask at once when Luge starts.

use std::{cell::RefCell, rc::Rc};

use luge_core::{id::UserNumber, shard::PollOrder};
use rustc_hash::FxHashMap;

/// Polls with the filter in the URL before it is stored.
const STORED_AFTER_POLLS: u32 = 3;
/// How long a homeserver that did not store a filter is not asked to again, in
/// milliseconds.
const REFUSED_MS: u64 = 3_600_000;

/// The filter of an order, as JSON.
pub(super) fn text(order: &PollOrder) -> String {
    let limit = if order.since.is_some() { 50 } else { 20 };
    let rooms = if order.with_rooms { "" } else { r#""rooms":[],"# };
    format!(
        r#"{{"presence":{{"not_types":["*"]}},"room":{{{rooms}"timeline":{{"limit":{limit}}},"state":{{"lazy_load_members":true,"include_redundant_members":true}}}}}}"#
    )
}

/// What is known of users' stored filters. They belong to a user, not to a
/// device.
#[derive(Debug)]
pub(super) struct Filters {
    users: RefCell<FxHashMap<UserNumber, Known>>,
    users_max: usize,
}

#[derive(Clone, Debug)]
enum Known {
    /// So many polls had it in their URL.
    Inline(u32),
    /// It is stored under this id.
    Stored(Rc<str>),
    /// It could not be stored, or was forgotten: not to be tried before this
    /// time, unix milliseconds.
    Refused(u64),
}

/// How a poll gives its filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In its URL.
    Inline,
    /// In its URL, unless it can be stored first.
    Store,
    /// By this id.
    Stored(Rc<str>),
}

impl Filters {
    /// Remembers ids of at most so many users.
    pub(super) fn new(users_max: usize) -> Self {
        Self { users: RefCell::default(), users_max }
    }

    /// How the next poll gives its filter.
    pub(super) fn way(&self, order: &PollOrder, now_ms: u64) -> Way {
        // The first polls of a device ask for something else, and only once.
        if order.since.is_none() || !order.with_rooms {
            return Way::Inline;
        }
        let mut users = self.users.borrow_mut();
        if users.len() >= self.users_max && !users.contains_key(&order.user) {
            // Whoever still polls stores it again, in some polls' time.
            users.clear();
        }
        match users.entry(order.user).or_insert(Known::Inline(0)) {
            Known::Stored(id) => Way::Stored(Rc::clone(id)),
            Known::Refused(until_ms) if now_ms < *until_ms => Way::Inline,
            Known::Inline(polls) if *polls < STORED_AFTER_POLLS => {
                *polls += 1;
                Way::Inline
            }
            Known::Refused(_) | Known::Inline(_) => Way::Store,
        }
    }

    /// Notes under what id the homeserver has stored the filter; `None` where it
    /// has not, or does not know it any more.
    pub(super) fn note(&self, user: UserNumber, id: Option<&str>, now_ms: u64) {
        self.learn(
            user,
            match id {
                Some(id) => Known::Stored(id.into()),
                None => Known::Refused(now_ms + REFUSED_MS),
            },
        );
    }

    /// Notes that a poll by id failed, be it for the id or not: a homeserver that
    /// fails at an id that it does not know would fail for ever.
    pub(super) fn doubt(&self, user: UserNumber) {
        self.learn(user, Known::Inline(0));
    }

    fn learn(&self, user: UserNumber, known: Known) {
        let mut users = self.users.borrow_mut();
        if users.len() < self.users_max || users.contains_key(&user) {
            users.insert(user, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use luge_core::{id::DeviceNumber, shard::Token};

    use super::*;

    fn order(user: u32, since: Option<&str>, with_rooms: bool) -> PollOrder {
        PollOrder {
            user: UserNumber(user),
            device: DeviceNumber(1),
            token: Token { key: [0; 32], secret: "t".into() },
            since: since.map(str::to_owned),
            with_rooms,
            timeout_ms: 0,
            asked_ms: 0,
            may_repeat: false,
            silence: None,
        }
    }

    fn polls(filters: &Filters, order: &PollOrder, now_ms: u64) -> Vec<Way> {
        (0..=STORED_AFTER_POLLS).map(|_| filters.way(order, now_ms)).collect()
    }

    /// Goal: the stored filter is the one of a poll that goes on, and only of that.
    #[test]
    fn a_filter_says_what_a_poll_asks_for() {
        let first = text(&order(1, None, true));
        let next = text(&order(1, Some("s"), true));
        let without_rooms = text(&order(1, Some("s"), false));
        assert!(first.contains(r#""timeline":{"limit":20}"#), "{first}");
        assert!(next.contains(r#""timeline":{"limit":50}"#), "{next}");
        assert!(!next.contains(r#""rooms""#), "{next}");
        assert!(without_rooms.contains(r#""room":{"rooms":[],"#), "{without_rooms}");
    }

    #[test]
    fn a_filter_is_stored_after_some_polls_and_then_named() {
        let filters = Filters::new(10);
        let order = order(1, Some("s"), true);
        let ways = polls(&filters, &order, 0);
        let (last, before) = ways.split_last().unwrap();
        assert!(before.iter().all(|way| *way == Way::Inline), "{ways:?}");
        assert_eq!(*last, Way::Store);
        filters.note(order.user, Some("f/1"), 0);
        assert_eq!(filters.way(&order, 0), Way::Stored("f/1".into()));
    }

    /// Goal: what a device asks for only once is not stored, nor counted.
    #[test]
    fn a_first_poll_has_its_own_filter() {
        let filters = Filters::new(10);
        filters.note(UserNumber(1), Some("f"), 0);
        assert_eq!(filters.way(&order(1, None, true), 0), Way::Inline);
        assert_eq!(filters.way(&order(1, None, false), 0), Way::Inline);
        assert_eq!(filters.way(&order(1, Some("s"), false), 0), Way::Inline, "without rooms");
        assert_eq!(filters.way(&order(1, Some("s"), true), 0), Way::Stored("f".into()));
        assert_eq!(filters.way(&order(2, Some("s"), true), 0), Way::Inline, "of another user");
    }

    #[test]
    fn a_homeserver_that_refuses_or_forgets_is_asked_again_much_later() {
        let filters = Filters::new(10);
        let order = order(1, Some("s"), true);
        filters.note(order.user, None, 1_000);
        assert!(polls(&filters, &order, REFUSED_MS).iter().all(|way| *way == Way::Inline));
        assert_eq!(filters.way(&order, REFUSED_MS + 1_000), Way::Store);
    }

    #[test]
    fn an_id_that_a_poll_failed_with_is_stored_anew() {
        let filters = Filters::new(10);
        let order = order(1, Some("s"), true);
        filters.note(order.user, Some("f"), 0);
        filters.doubt(order.user);
        let ways = polls(&filters, &order, 0);
        assert_eq!((&ways[0], ways.last()), (&Way::Inline, Some(&Way::Store)));
    }

    #[test]
    fn ids_of_no_more_users_than_allowed_are_remembered() {
        let filters = Filters::new(2);
        filters.note(UserNumber(1), Some("a"), 0);
        filters.note(UserNumber(2), Some("b"), 0);
        assert_eq!(filters.way(&order(2, Some("s"), true), 0), Way::Stored("b".into()));
        filters.note(UserNumber(3), Some("x"), 0);
        assert_eq!(filters.users.borrow().len(), 2, "there is no room for a third");
        filters.note(UserNumber(2), Some("c"), 0);
        assert_eq!(filters.way(&order(2, Some("s"), true), 0), Way::Stored("c".into()));
        for user in 3..10 {
            filters.way(&order(user, Some("s"), true), 0);
            filters.note(UserNumber(user + 10), Some("c"), 0);
            assert!(filters.users.borrow().len() <= 2);
        }
    }
}
