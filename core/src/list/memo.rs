//! What several lists of one request need, computed once.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use rustc_hash::FxHashMap;

use crate::id::RoomNumber;

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
