//! What a response covered, so that the next looks only at what changed since.
//!
//! A response tells all that the client lacks of every room that its request
//! selects. The next one to an equal request, with the same rooms in its
//! windows, has to look only at rooms that changed in between, and at those of
//! which something was left for later. That is not kept over a restart: the
//! first response after one looks at every room.

use std::sync::Arc;

use super::{answer::Asked, state::State};
use crate::{
    extension,
    id::RoomNumber,
    request::{Extensions, ListRequest, Request, RoomConfig},
};

/// What a response covered.
#[derive(Clone, Debug, PartialEq)]
pub struct Covered {
    /// What was asked.
    lists: Arc<[(String, ListRequest)]>,
    subscriptions: Arc<[(String, Arc<RoomConfig>)]>,
    extensions: Arc<Extensions>,
    /// What is wanted of the rooms of each list, and then of each subscription.
    configs: Vec<Arc<RoomConfig>>,
    /// Of each list, a digest of the set of rooms in its windows.
    windows: Vec<u64>,
    /// Whether the lists held rooms that the user had left: the next do not, and
    /// others may come into the windows though nothing changed.
    holds_left: bool,
    /// The last of the user's news that it told of.
    news: u64,
    /// The rooms of which something was left for later, in order.
    unsettled: Vec<RoomNumber>,
}

/// What a response says of lists and subscriptions, as far as the next one has
/// to know it.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// What is wanted of the rooms of each list, and then of each subscription.
    pub(super) configs: Vec<Arc<RoomConfig>>,
    /// Of each list, a digest of the set of rooms in its windows.
    pub(super) windows: Vec<u64>,
    /// Whether there are rooms in lists that the user has left.
    pub(super) holds_left: bool,
}

impl Covered {
    /// What a response covers that told of the user's news so far, but for what
    /// `unsettled` rooms have left. Shares with `before` what is the same.
    pub(super) fn new(
        asked: Asked<'_>,
        before: Option<&Arc<Self>>,
        Lists { configs, windows, holds_left }: Lists,
        mut unsettled: Vec<RoomNumber>,
    ) -> Arc<Self> {
        unsettled.sort_unstable();
        unsettled.dedup();
        let Request { lists, subscriptions, extensions, .. } = asked.request;
        let news = asked.source.user.news();
        match before.filter(|before| before.is_of(asked.request)) {
            Some(before)
                if (before.news, &before.windows, before.holds_left)
                    == (news, &windows, holds_left)
                    && before.configs == configs
                    && before.unsettled == unsettled =>
            {
                Arc::clone(before)
            }
            before => Arc::new(Self {
                lists: Arc::clone(before.map_or(lists, |before| &before.lists)),
                subscriptions: Arc::clone(
                    before.map_or(subscriptions, |before| &before.subscriptions),
                ),
                extensions: Arc::clone(before.map_or(extensions, |before| &before.extensions)),
                configs,
                windows,
                holds_left,
                news,
                unsettled,
            }),
        }
    }

    /// Whether `request` asks for the same, to-device messages aside.
    pub(super) fn is_of(&self, request: &Request) -> bool {
        fn same<T: PartialEq + ?Sized>(one: &Arc<T>, other: &Arc<T>) -> bool {
            Arc::ptr_eq(one, other) || one == other
        }
        let scopes =
            |of: &Extensions| (of.account_data.clone(), of.receipts.clone(), of.typing.clone());
        same(&self.lists, &request.lists)
            && same(&self.subscriptions, &request.subscriptions)
            && (Arc::ptr_eq(&self.extensions, &request.extensions)
                || scopes(&self.extensions) == scopes(&request.extensions))
    }
}

/// What the response before covered, where the request asks for the same.
fn of_same_request(asked: Asked<'_>) -> Option<&Covered> {
    let covered = asked.base.and_then(|base| base.covered.as_ref())?;
    covered.is_of(asked.request).then_some(covered)
}

/// The configurations that the request asks for, of each list and then of each
/// subscription, where the last one asked for the same.
pub(super) fn configs(asked: Asked<'_>) -> Option<&[Arc<RoomConfig>]> {
    of_same_request(asked).map(|covered| &*covered.configs)
}

/// The rooms of which the client may lack something, in order of their numbers;
/// `None` where it may be any. `windows` are digests of the sets of rooms in the
/// lists' windows.
pub(super) fn rooms_to_look_at(asked: Asked<'_>, windows: &[u64]) -> Option<Vec<RoomNumber>> {
    let covered = of_same_request(asked).filter(|covered| covered.windows == *windows)?;
    let mut rooms: Vec<RoomNumber> = asked.source.user.rooms_since(covered.news)?.collect();
    rooms.extend(&covered.unsettled);
    rooms.sort_unstable();
    rooms.dedup();
    Some(rooms)
}

/// Whether it is certain, at a glance, that a response would tell nothing that
/// is worth a wake-up.
pub fn is_quiet(asked: Asked<'_>) -> bool {
    let Some(covered) = of_same_request(asked) else { return false };
    let mut rooms = asked.source.user.rooms_since(covered.news);
    covered.unsettled.is_empty()
        && !covered.holds_left
        && rooms.as_mut().is_some_and(|rooms| rooms.next().is_none())
        && extension::is_quiet(asked)
}

impl State {
    /// The state less what only spares work: what is computed from it is the
    /// same, since every room is looked at.
    #[must_use]
    pub fn without_shortcuts(&self) -> Self {
        Self { covered: None, ..self.clone() }
    }
}
