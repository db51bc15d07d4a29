//! Which rooms a request selects, and what it asks of each.

use std::{collections::BTreeSet, sync::Arc};

use imbl::OrdMap;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    answer::{Asked, Windows, gate},
    covered::{self, Lists},
    left,
    state::{SentList, digest},
};
use crate::{
    gate::Gate,
    id::RoomNumber,
    list::{self, Head, Operation},
    record::Membership,
    request::{ListRequest, RoomConfig},
    response::{List, Window},
    user::{Rank, digest_of_room},
};

/// Which rooms a request selects, and what it asks of each.
pub(super) struct Selection<'a> {
    asked: Asked<'a>,
    /// Those that are looked at.
    pub(super) rooms: Vec<(RoomNumber, Arc<RoomConfig>)>,
    pub(super) index: FxHashMap<RoomNumber, usize>,
    /// The rooms of each list's windows that are looked at.
    pub(super) windows: Windows,
    /// Every configuration that is asked of a room, each once.
    pub(super) configs: Vec<Arc<RoomConfig>>,
    /// The unions of two of them that were made, by their addresses: they stay
    /// where they are as long as `configs` has them.
    unions: FxHashMap<[usize; 2], Arc<RoomConfig>>,
    /// What is asked of any room, where so many configurations are asked for
    /// that each room might have its own union of them.
    everything: Option<Arc<RoomConfig>>,
    /// What the next response has to know of it.
    pub(super) told: Lists,
    /// The orders that the client holds then.
    pub(super) orders: OrdMap<String, Arc<SentList>>,
    /// The rooms that may have something to tell, in order; `None` for all.
    pub(super) looked_at: Option<Vec<RoomNumber>>,
}

impl<'a> Selection<'a> {
    /// The selection, and what the lists answer.
    pub(super) fn of(asked: Asked<'a>) -> (Self, Vec<(String, List)>) {
        let newly_left = newly_left(asked);
        let heads = heads(asked, &newly_left);
        let lists = asked.request.lists.iter();
        let windows: Vec<u64> = lists.zip(&heads).map(|((_, it), head)| set(it, head)).collect();
        let looked_at = covered::rooms_to_look_at(asked, &windows);
        let holds_left = !newly_left.is_empty();
        let mut selection = Self {
            asked,
            rooms: Vec::new(),
            index: FxHashMap::default(),
            windows: Vec::new(),
            configs: Vec::new(),
            unions: FxHashMap::default(),
            everything: None,
            told: Lists { configs: Vec::new(), windows, holds_left },
            orders: OrdMap::new(),
            looked_at,
        };
        if selection.looked_at.is_some() {
            selection.configs = asked.base.map(|base| base.configs.clone()).unwrap_or_default();
        }
        selection.note_configs();
        selection.note_everything();
        let answers = selection.lists(heads);
        selection.subscriptions();
        selection.old_rooms();
        selection.departed();
        (selection, answers)
    }

    /// Finds what is asked of the rooms of each list and of each subscription.
    fn note_configs(&mut self) {
        if let Some(known) = covered::configs(self.asked) {
            self.told.configs = known.to_vec();
            for config in known {
                if !self.configs.iter().any(|known| Arc::ptr_eq(known, config)) {
                    self.configs.push(Arc::clone(config));
                }
            }
            return;
        }
        let request = self.asked.request;
        let of_lists = request.lists.iter().map(|(_, wanted)| &wanted.config);
        for config in of_lists.chain(request.subscriptions.iter().map(|(_, wanted)| wanted)) {
            let config = self.shared(config);
            self.told.configs.push(config);
        }
    }

    /// Where many configurations are asked for, rooms of which more than one is
    /// asked get the union of them all: each set of them would else be another
    /// union, and there are more sets than memory.
    fn note_everything(&mut self) {
        let mut seen = FxHashSet::default();
        let configs = self.told.configs.iter();
        let differing: Vec<_> =
            configs.filter(|it| seen.insert(Arc::as_ptr(it).addr())).cloned().collect();
        if differing.len() <= APART_MAX {
            return;
        }
        let old_rooms = differing.iter().filter_map(|config| config.old_rooms.as_deref());
        let mut parts: Vec<RoomConfig> =
            differing.iter().map(|config| &**config).chain(old_rooms).cloned().collect();
        // Each is taken up few times only, however many there are.
        while parts.len() > 1 {
            let pairs = parts.chunks(2);
            parts = pairs.map(|pair| pair[0].union(pair.last().unwrap_or(&pair[0]))).collect();
        }
        self.everything = parts.pop().map(|everything| self.shared(&Arc::new(everything)));
    }

    fn lists(&mut self, heads: Vec<Head>) -> Vec<(String, List)> {
        let request = self.asked.request;
        let mut lists = Vec::with_capacity(heads.len());
        for (at, ((key, wanted), mut head)) in request.lists.iter().zip(heads).enumerate() {
            let config = Arc::clone(&self.told.configs[at]);
            let mut answer = List { count: head.count as u64, ..List::default() };
            if request.dialect.keeps_responses() {
                list::sort(self.asked.source, &mut head.rooms, wanted);
                answer.operations = self.operations(key, wanted, &head.rooms);
            }
            let mut in_windows = Vec::new();
            for range in ranges(wanted) {
                let rooms = list::window(&head.rooms, *range);
                for room in rooms {
                    if self.looks_at(*room) {
                        self.select(*room, &config);
                        in_windows.push(*room);
                    }
                }
                let mut room_ids = Vec::with_capacity(rooms.len());
                room_ids.extend(rooms.iter().filter_map(|room| self.room_id(*room)));
                answer.windows.push(Window { range: *range, room_ids });
            }
            self.windows.push((key.clone(), in_windows));
            lists.push((key.clone(), answer));
        }
        lists
    }

    fn looks_at(&self, room: RoomNumber) -> bool {
        self.looked_at.as_ref().is_none_or(|rooms| rooms.binary_search(&room).is_ok())
    }

    fn room_id(&self, room: RoomNumber) -> Option<Arc<str>> {
        self.asked.source.world.room(room).map(|room| Arc::clone(&room.id))
    }

    /// What makes of the order that the client holds the one that there is.
    fn operations(
        &mut self,
        key: &str,
        wanted: &ListRequest,
        members: &[RoomNumber],
    ) -> Vec<Operation<Arc<str>>> {
        let nothing = Arc::default();
        let before = self.asked.base.and_then(|base| base.lists.get(key)).unwrap_or(&nothing);
        let next = SentList {
            kind: kind(wanted),
            runs: if wanted.slow_get_all_rooms {
                Vec::new()
            } else {
                list::runs(members, &wanted.ranges)
            },
        };
        let anew = before.kind != next.kind;
        let mut operations = list::operations(&before.runs, &next.runs, anew);
        // Who wants every room is told once which they are, and sorts them.
        if wanted.slow_get_all_rooms && anew && !members.is_empty() {
            operations.push(Operation::Sync((0, members.len() as u64 - 1), members.to_vec()));
        }
        self.orders.insert(key.to_owned(), Arc::new(next));
        let named = |operation| {
            Some(match operation {
                Operation::Sync(range, rooms) => {
                    let rooms = rooms.into_iter().filter_map(|room| self.room_id(room)).collect();
                    Operation::Sync(range, rooms)
                }
                Operation::Insert(index, room) => Operation::Insert(index, self.room_id(room)?),
                Operation::Delete(index) => Operation::Delete(index),
                Operation::Invalidate(range) => Operation::Invalidate(range),
            })
        };
        operations.into_iter().filter_map(named).collect()
    }

    /// The joined rooms that selected ones replaced, where they are asked for.
    fn old_rooms(&mut self) {
        for at in 0..self.rooms.len() {
            let (mut room, config) = (self.rooms[at].0, Arc::clone(&self.rooms[at].1));
            let Some(wanted) = &config.old_rooms else { continue };
            let wanted = self.shared(wanted);
            let mut seen = BTreeSet::from([room]);
            while seen.len() <= PREDECESSORS_MAX
                && let Some(old) = self.predecessor(room)
                && seen.insert(old)
            {
                self.select(old, &wanted);
                room = old;
            }
        }
    }

    fn predecessor(&self, room: RoomNumber) -> Option<RoomNumber> {
        let predecessor = gate(self.asked, room).filter(Gate::is_joined)?.predecessor()?;
        let old = self.asked.source.world.find_room(&predecessor)?.number;
        gate(self.asked, old).is_some_and(|gate| gate.is_joined()).then_some(old)
    }

    /// Rooms that the user has left and the connection has yet to learn of,
    /// where no list holds them.
    fn departed(&mut self) {
        if self.asked.request.dialect.lists_left_rooms() {
            return;
        }
        for (room, sent) in self.asked.base.into_iter().flat_map(|base| &base.rooms) {
            let of_user = self.asked.source.user.rooms.get(room);
            let of_user = of_user.filter(|it| {
                matches!(it.membership, Membership::Leave | Membership::Kick | Membership::Ban)
            });
            if of_user.is_some_and(|of_user| !left::is_end_told(of_user, sent)) {
                let config = self.shared(&sent.config);
                self.select(*room, &config);
            }
        }
    }

    fn subscriptions(&mut self) {
        let request = self.asked.request;
        for (at, (room_id, _)) in request.subscriptions.iter().enumerate() {
            let room = self.asked.source.world.find_room(room_id);
            if let Some(room) = room.filter(|room| self.looks_at(room.number)) {
                let config = Arc::clone(&self.told.configs[request.lists.len() + at]);
                self.select(room.number, &config);
            }
        }
    }

    fn select(&mut self, room: RoomNumber, config: &Arc<RoomConfig>) {
        match self.index.get(&room) {
            None => {
                self.index.insert(room, self.rooms.len());
                self.rooms.push((room, Arc::clone(config)));
            }
            Some(at) if Arc::ptr_eq(&self.rooms[*at].1, config) => {}
            Some(at) => {
                let at = *at;
                let before = Arc::clone(&self.rooms[at].1);
                self.rooms[at].1 = self.union(&before, config);
            }
        }
    }

    /// What satisfies both of two known configurations.
    fn union(&mut self, one: &Arc<RoomConfig>, other: &Arc<RoomConfig>) -> Arc<RoomConfig> {
        if let Some(everything) = &self.everything {
            return Arc::clone(everything);
        }
        let both = [Arc::as_ptr(one).addr(), Arc::as_ptr(other).addr()];
        if let Some(known) = self.unions.get(&both) {
            return Arc::clone(known);
        }
        let union = self.shared(&Arc::new(one.union(other)));
        self.unions.insert(both, Arc::clone(&union));
        union
    }

    /// The configuration, as the last request or this one already has it: that
    /// two are the same is then seen at a glance.
    fn shared(&mut self, config: &Arc<RoomConfig>) -> Arc<RoomConfig> {
        let is_it = |known: &&Arc<RoomConfig>| Arc::ptr_eq(known, config) || **known == *config;
        if let Some(known) = self.configs.iter().find(is_it) {
            return Arc::clone(known);
        }
        let base = self.asked.base.into_iter();
        let mut before = base.flat_map(|base| base.configs.iter().chain(base.earlier.newest()));
        let shared = Arc::clone(before.find(is_it).unwrap_or(config));
        self.configs.push(Arc::clone(&shared));
        shared
    }
}

/// The beginning of each list, as far as its windows reach.
fn heads(asked: Asked<'_>, newly_left: &[Rank]) -> Vec<Head> {
    let request = asked.request;
    let head = |(_, wanted): &(String, ListRequest)| {
        let end = wanted.ranges.iter().map(|(_, to)| *to).max().unwrap_or(0);
        let end = if request.dialect.keeps_responses() { u64::MAX } else { end };
        list::head(asked.source, request.dialect, &wanted.filters, newly_left, end)
    };
    request.lists.iter().map(head).collect()
}

/// The ranges that a list is answered with.
fn ranges(wanted: &ListRequest) -> &[(u64, u64)] {
    if wanted.slow_get_all_rooms { &[(0, u64::MAX)] } else { &wanted.ranges }
}

/// A digest of the set of rooms in a list's windows.
fn set(wanted: &ListRequest, head: &Head) -> u64 {
    match (head.digest, ranges(wanted)) {
        (Some(digest), [(0, to)]) if to.saturating_add(1) >= head.count as u64 => digest,
        (_, ranges) => {
            let rooms = ranges.iter().flat_map(|range| list::window(&head.rooms, *range));
            rooms.fold(0, |set, room| set.wrapping_add(digest_of_room(*room)))
        }
    }
}

/// Different configurations of one request of which rooms get just those that
/// are asked of them.
const APART_MAX: usize = 8;

/// Predecessors of one room that are followed.
const PREDECESSORS_MAX: usize = 16;

/// A digest that tells lists apart which have nothing to do with each other.
fn kind(list: &ListRequest) -> u64 {
    let parts = (&list.filters, &list.sort, list.slow_get_all_rooms);
    serde_json::to_string(&parts).map_or(0, |parts| digest(Some(&parts)))
}

/// Rooms that the user has left, or was kept out of as an invite, and the
/// connection has yet to learn of, where they are in lists.
fn newly_left(asked: Asked<'_>) -> Vec<Rank> {
    let request = asked.request;
    let in_lists = request.dialect.lists_left_rooms() && !request.lists.is_empty();
    let Some(base) = asked.base.filter(|_| in_lists) else { return Vec::new() };
    let user = asked.source.user;
    let unknown = |(_, _, room): &&Rank| {
        let Some(of_user) = user.rooms.get(room) else { return false };
        let is_listed = of_user.membership != Membership::Leave && request.dialect.lists(of_user);
        !is_listed && base.rooms.get(room).is_some_and(|sent| !left::is_end_told(of_user, sent))
    };
    user.left.iter().filter(unknown).copied().collect()
}
