//! What clients of all dialects choose to ask: lists with filters, sorts and
//! windows that grow, subscriptions that come and go, scopes of extensions.

use std::collections::BTreeSet;

use luge_core::request::Dialect;

use crate::{
    account::TAGS,
    random::Random,
    wanted::{EXTENSIONS, FiltersWanted, ListWanted, RoomWanted, ScopeWanted, StateWanted, Wanted},
};

/// Who chooses, and among what.
#[derive(Debug)]
pub(crate) struct Chooser<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) dialect: Dialect,
    pub(crate) rooms: usize,
    pub(crate) lazy: bool,
}

/// The lists that there may be. The one of MSC3575 that messages alone bump is
/// always so, since that cannot be taken back.
const LISTS: [&str; 4] = ["all", "some", "bumped", "more"];

const SORTS: [&str; 5] = [
    "by_recency",
    "by_name",
    "by_notification_level",
    "by_notification_count",
    "by_highlight_count",
];

impl Chooser<'_> {
    /// Something else, or more of the same.
    pub(crate) fn next(&mut self, before: &Wanted) -> Wanted {
        if !before.lists.is_empty() && self.random.chance(400) {
            return self.grown(before);
        }
        let mut wanted = Wanted::default();
        for key in LISTS {
            if self.random.chance(450) {
                let list = self.list(key);
                wanted.lists.insert(key.to_owned(), list);
            }
        }
        for _ in 0..self.random.between(0, 2) {
            let room = self.random.below(self.rooms);
            let config = self.room();
            wanted.subscriptions.insert(room, config);
        }
        for name in EXTENSIONS {
            if self.random.chance(850) {
                let scope = self.scope(&wanted);
                wanted.extensions.insert(name, scope);
            }
        }
        wanted
    }

    /// What is asked for at the end: every room is in a list of all, and every
    /// extension is for all.
    pub(crate) fn last(&mut self) -> Wanted {
        let mut wanted = Wanted::default();
        for key in LISTS {
            if key != "all" && !self.random.chance(600) {
                continue;
            }
            let mut list = self.list(key);
            list.room.limit = self.random.between(5, 8);
            list.ranges = match (self.dialect, self.random.below(3)) {
                (Dialect::V4, 0) => Vec::new(),
                (Dialect::V4, _) | (_, 0) => vec![(0, 10_000)],
                _ => vec![(0, 1), (2, 10_000)],
            };
            if key == "all" {
                list.filters = FiltersWanted::default();
            }
            wanted.lists.insert(key.to_owned(), list);
        }
        if self.random.chance(300) {
            let room = self.random.below(self.rooms);
            let config = self.room();
            wanted.subscriptions.insert(room, config);
        }
        for name in EXTENSIONS {
            wanted.extensions.insert(name, ScopeWanted::default());
        }
        wanted
    }

    fn grown(&mut self, before: &Wanted) -> Wanted {
        let mut wanted = before.clone();
        for list in wanted.lists.values_mut() {
            if let Some((_, to)) = list.ranges.last_mut() {
                *to += self.random.between(0, 3);
            }
            list.room.limit += self.random.between(0, 3);
        }
        for config in wanted.subscriptions.values_mut() {
            config.limit += self.random.between(0, 3);
        }
        wanted
    }

    fn list(&mut self, key: &str) -> ListWanted {
        let is_sticky = self.dialect == Dialect::Msc3575;
        let mut sort = Vec::new();
        if is_sticky {
            for _ in 0..self.random.between(1, 3) {
                sort.push(SORTS[self.random.below(SORTS.len())]);
            }
        }
        ListWanted {
            ranges: self.ranges(),
            room: self.room(),
            filters: if self.random.chance(600) {
                self.filters()
            } else {
                FiltersWanted::default()
            },
            sort,
            bumped_by_messages: is_sticky && key == "bumped",
            slow_get_all_rooms: is_sticky && self.random.chance(100),
        }
    }

    fn ranges(&mut self) -> Vec<(u64, u64)> {
        let rooms = self.rooms as u64;
        if self.dialect == Dialect::V4 && self.random.chance(200) {
            return Vec::new();
        }
        let mut from = if self.random.chance(200) { self.random.between(0, 2) } else { 0 };
        let mut ranges = Vec::new();
        let many = self.dialect != Dialect::V4 && self.random.chance(250);
        for _ in 0..if many { 2 } else { 1 } {
            let to = from + self.random.between(0, rooms);
            ranges.push((from, to));
            from = to + 1 + self.random.between(0, 2);
        }
        ranges
    }

    fn room(&mut self) -> RoomWanted {
        let all = self.random.chance(300);
        let mut pairs = BTreeSet::from([("m.room.name", "")]);
        for pair in [
            ("m.room.topic", ""),
            ("m.room.avatar", ""),
            ("m.room.create", ""),
            ("m.room.encryption", ""),
            ("org.widget", "a"),
            ("org.widget", "b"),
        ] {
            if self.random.chance(400) {
                pairs.insert(pair);
            }
        }
        RoomWanted {
            limit: self.random.between(0, 8),
            state: StateWanted {
                all,
                except: all && self.dialect != Dialect::Simplified && self.random.chance(300),
                pairs: if all && self.dialect != Dialect::Simplified {
                    BTreeSet::new()
                } else {
                    pairs
                },
                own: !(all && self.dialect == Dialect::V4) && self.random.chance(700),
                lazy: self.lazy,
            },
        }
    }

    fn filters(&mut self) -> FiltersWanted {
        let flag = |random: &mut Random| random.chance(250).then(|| random.chance(500));
        let tag = |random: &mut Random| random.chance(200).then(|| TAGS[random.below(TAGS.len())]);
        let random = &mut *self.random;
        FiltersWanted {
            is_dm: flag(random),
            is_invite: flag(random),
            is_encrypted: flag(random),
            tag: tag(random),
            not_tag: tag(random),
            name_like: (self.dialect == Dialect::Simplified && random.chance(150)).then_some("1"),
        }
    }

    fn scope(&mut self, wanted: &Wanted) -> ScopeWanted {
        let random = &mut *self.random;
        let mut scope = ScopeWanted::default();
        if random.chance(300) {
            let lists = wanted.lists.keys().filter(|_| random.chance(500));
            scope.lists = Some(lists.cloned().collect());
        }
        if random.chance(300) {
            let rooms = wanted.subscriptions.keys().filter(|_| random.chance(500));
            scope.rooms = Some(rooms.copied().collect());
        }
        scope
    }
}
