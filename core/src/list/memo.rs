//! What several lists of one request need, computed once.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, sync::Arc};

use rustc_hash::FxHashMap;

use crate::{id::RoomNumber, request::RoomConfig, view::KeyRanges};

/// What was computed while one request is answered. Good for one world and one
/// view.
#[derive(Debug, Default)]
pub struct Memo {
    /// The children of each space.
    children: RefCell<FxHashMap<RoomNumber, Rc<[RoomNumber]>>>,
    /// What each room's name is searched in.
    searched: RefCell<FxHashMap<RoomNumber, Option<Rc<str>>>>,
    /// What each room is sorted by.
    sorted_by: RefCell<FxHashMap<RoomNumber, Rc<str>>>,
    /// Where in the state table what is asked of a room lies, for the configuration
    /// that was last asked of one.
    state_ranges: RefCell<Option<(Arc<RoomConfig>, KeyRanges)>>,
}

impl Memo {
    /// The children of all of `spaces`, each of which `compute` knows.
    pub(super) fn children(
        &self,
        spaces: impl Iterator<Item = RoomNumber>,
        compute: impl Fn(RoomNumber) -> Rc<[RoomNumber]>,
    ) -> BTreeSet<RoomNumber> {
        let of = |space| once(&self.children, space, || compute(space));
        spaces.flat_map(|space| of(space).to_vec()).collect()
    }

    pub(super) fn searched(
        &self,
        room: RoomNumber,
        compute: impl FnOnce() -> Option<Rc<str>>,
    ) -> Option<Rc<str>> {
        once(&self.searched, room, compute)
    }

    /// Lends where what is asked of a room lies, which in all rooms is the same but
    /// for the room's own number.
    pub(crate) fn state_ranges(
        &self,
        room: RoomNumber,
        config: &Arc<RoomConfig>,
        compute: impl FnOnce() -> KeyRanges,
        then: impl FnOnce(&KeyRanges),
    ) {
        let known = self.state_ranges.take().filter(|(of, _)| Arc::ptr_eq(of, config));
        let known = known.map(|(config, mut ranges)| {
            ranges.set_prefix(&room.0.to_be_bytes());
            (config, ranges)
        });
        let known = known.unwrap_or_else(|| (Arc::clone(config), compute()));
        then(&known.1);
        *self.state_ranges.borrow_mut() = Some(known);
    }

    pub(super) fn sorted_by(&self, room: RoomNumber, compute: impl FnOnce() -> Rc<str>) -> Rc<str> {
        once(&self.sorted_by, room, compute)
    }
}

fn once<T: Clone>(
    known: &RefCell<FxHashMap<RoomNumber, T>>,
    room: RoomNumber,
    compute: impl FnOnce() -> T,
) -> T {
    if let Some(value) = known.borrow().get(&room) {
        return value.clone();
    }
    let value = compute();
    known.borrow_mut().insert(room, value.clone());
    value
}
