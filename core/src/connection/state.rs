//! What a client holds, as far as the server has to remember it.
//!
//! Persistent (imbl): a response forks the state it answers from, and the fork
//! shares all that did not change (INV-7).

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use xxhash_rust::xxh3::xxh3_64;

use super::{covered::Covered, earlier::Earlier};
use crate::{
    id::{RoomNumber, Sequence},
    list::Runs,
    record::Membership,
    request::{RoomConfig, Sticky},
    world::Hero,
};

/// What a client holds after a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The world that the response was computed from.
    pub cursor: Sequence,
    /// The rooms that were ever sent.
    pub rooms: OrdMap<RoomNumber, Arc<SentRoom>>,
    /// How far extensions have told of each room that was in their scope.
    pub scopes: OrdMap<RoomNumber, SentScope>,
    /// How far global account data was told; `None` where never.
    pub account_data: Option<Sequence>,
    /// How far device lists were told; `None` where never.
    pub device_lists: Option<Sequence>,
    /// The orders that the client holds, by list (MSC3575 alone).
    pub lists: OrdMap<String, Arc<SentList>>,
    /// What the connection asks for (MSC3575 alone).
    pub sticky: Option<Arc<Sticky>>,
    /// The configurations of the last request, so that equal ones are shared.
    pub configs: Vec<Arc<RoomConfig>>,
    /// Those of requests before it, which rooms may have been sent with.
    pub earlier: Arc<Earlier>,
    /// What the response covered. Not kept over a restart.
    pub covered: Option<Arc<Covered>>,
}

impl State {
    /// Whether the client has never been told of a room: nothing but the
    /// cursor matters then.
    pub fn is_roomless(&self) -> bool {
        self.rooms.is_empty() && self.scopes.is_empty()
    }
}

/// What a client holds of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentList {
    /// Digest of how the list is filtered and sorted: another makes it another
    /// list.
    pub kind: u64,
    /// The rooms at the indices that the client has.
    pub runs: Runs,
}

/// What a client holds of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRoom {
    /// Everything of the room up to this number was told.
    pub cursor: Sequence,
    /// The membership that was told.
    pub membership: Membership,
    /// When that membership began: another number is another stay.
    pub since: Sequence,
    /// What the client asked of the room.
    pub config: Arc<RoomConfig>,
    /// Digest of the name that was told; 0 for none.
    pub name: u64,
    /// Digest of the avatar that was told; 0 for none.
    pub avatar: u64,
    /// Digest of the heroes that were told; 0 for none.
    pub heroes: u64,
    /// The joined and invited counts that were told.
    pub counts: Option<(u64, u64)>,
    /// The bump stamp that was told; 0 of the end of a stay that was told without
    /// its event.
    pub bump_stamp: u64,
    /// The unread notifications and highlights that were told.
    pub unread: (u64, u64),
    /// The number of the first event that was told, where the client asked for
    /// more than there was; 0 where not.
    pub short_from: u64,
    /// Whether it was told to be a direct chat.
    pub is_dm: bool,
    /// Members whose event was told for the timeline's sake.
    pub lazy_members: OrdSet<Arc<str>>,
    /// Members whose event the timeline needed and nobody had: told when they
    /// have been fetched. Not kept over a restart.
    pub missing_members: OrdSet<Arc<str>>,
}

/// How far extensions have told of a room; `None` where never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentScope {
    /// Room account data.
    pub account_data: Option<Sequence>,
    /// Receipts.
    pub receipts: Option<Sequence>,
    /// Typing.
    pub typing: Option<Sequence>,
}

/// A digest that tells one text from another; 0 for none.
pub(super) fn digest(text: Option<&str>) -> u64 {
    text.map_or(0, |text| xxh3_64(text.as_bytes()).max(1))
}

/// A digest that tells one set of heroes from another; 0 for none.
pub(super) fn digest_heroes(heroes: &[Hero]) -> u64 {
    let text = |text: &Option<Arc<str>>| digest(text.as_deref());
    let part = |hero: &Hero| {
        [digest(Some(&hero.user_id)), text(&hero.displayname), text(&hero.avatar_url)]
    };
    let bytes: Vec<u8> = heroes.iter().flat_map(part).flat_map(u64::to_le_bytes).collect();
    if bytes.is_empty() { 0 } else { xxh3_64(&bytes).max(1) }
}
