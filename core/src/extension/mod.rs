//! The extensions: one file each. What is told apart from rooms and lists.

mod account_data;
mod e2ee;
mod receipts;
mod to_device;
mod typing;

use std::{collections::BTreeSet, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

pub use to_device::{Tokens, issued_number};

use crate::{
    connection::{Asked, SentScope, State},
    gate::Gate,
    id::RoomNumber,
    request::{RoomConfig, Scope},
    response,
};

/// What a response tells of timelines, by room.
pub(crate) type SentEvents = FxHashMap<RoomNumber, SentTimeline>;

/// What a response tells of one room's timeline.
#[derive(Debug, Default)]
pub(crate) struct SentTimeline {
    /// The ids of its events.
    pub(crate) event_ids: Vec<String>,
    /// Whether they are not only news: the room is new to the client, or it
    /// asks for more than before.
    pub(crate) anew: bool,
}

/// What extensions' scopes are made of.
#[derive(Clone, Copy)]
pub(crate) struct Scoping<'a> {
    pub(crate) asked: Asked<'a>,
    /// The rooms of each list's windows.
    pub(crate) windows: &'a [(String, Vec<RoomNumber>)],
    /// Every room that the request selects.
    pub(crate) rooms: &'a [(RoomNumber, Arc<RoomConfig>)],
    /// Whether these are all, and not only those that may have something new.
    pub(crate) is_whole: bool,
    /// Rooms that the response has no place for: what there is of them comes
    /// with them.
    pub(crate) left_over: &'a BTreeSet<RoomNumber>,
}

/// The answers to the extensions that are asked for; `next` learns what they
/// tell, and `unsettled` of which rooms there is more.
pub(crate) fn answer(
    scoping: Scoping<'_>,
    sent_events: &SentEvents,
    next: &mut State,
    unsettled: &mut Vec<RoomNumber>,
) -> response::Extensions {
    let asked = scoping.asked;
    let wanted = &asked.request.extensions;
    response::Extensions {
        to_device: wanted.to_device.as_ref().map(|wanted| to_device::answer(asked, wanted)),
        e2ee: wanted.e2ee.then(|| e2ee::answer(asked, next)),
        account_data: wanted
            .account_data
            .as_ref()
            .map(|scope| account_data::answer(scoping, scope, next)),
        receipts: wanted
            .receipts
            .as_ref()
            .map(|scope| receipts::answer(scoping, scope, sent_events, next, unsettled)),
        typing: wanted.typing.as_ref().map(|scope| typing::answer(scoping, scope, next)),
    }
}

/// Whether no extension has news of anything but rooms.
pub(crate) fn is_quiet(asked: Asked<'_>) -> bool {
    let (wanted, Some(base)) = (&asked.request.extensions, asked.base) else { return false };
    let account_data = asked.source.user.account_data_changed;
    wanted.to_device.as_ref().is_none_or(|wanted| !to_device::has_any(asked, wanted))
        && (!wanted.e2ee || !e2ee::has_any(asked, base))
        && (wanted.account_data.is_none() || base.account_data.is_some_and(|it| account_data <= it))
}

impl<'a> Scoping<'a> {
    /// The gates of the rooms in `scope`, each once: those of the named lists'
    /// windows and those that are named, as far as the request selects them.
    fn gates(self, scope: &Scope) -> impl Iterator<Item = Gate<'a>> + use<'a> {
        let rooms = self.in_scope(scope);
        let rooms = rooms.into_iter().filter(move |room| !self.left_over.contains(room));
        rooms.filter_map(move |room| crate::connection::gate(self.asked, room))
    }

    fn in_scope(&self, scope: &Scope) -> Vec<RoomNumber> {
        let selected = self.rooms.iter().map(|(room, _)| *room);
        let by_subscription = self.asked.request.dialect.scopes_by_subscription();
        let named = match &scope.rooms {
            None if !by_subscription => return selected.collect(),
            named => named,
        };
        let listed = |key: &String| scope.lists.as_ref().is_none_or(|lists| lists.contains(key));
        let windows = self.windows.iter().filter(|(key, _)| listed(key));
        let subscribed = self.subscribed();
        let mut seen = FxHashSet::default();
        let in_windows = windows.flat_map(|(_, rooms)| rooms.iter().copied());
        let named = selected.filter(|room| match named {
            Some(named) => {
                self.is_named(*room, named) && (!by_subscription || subscribed.contains(room))
            }
            None => subscribed.contains(room),
        });
        in_windows.chain(named).filter(|room| seen.insert(*room)).collect()
    }

    fn subscribed(&self) -> FxHashSet<RoomNumber> {
        let subscriptions = self.asked.request.subscriptions.iter();
        let world = self.asked.source.world;
        subscriptions.filter_map(|(id, _)| world.find_room(id)).map(|room| room.number).collect()
    }

    fn is_named(&self, room: RoomNumber, named: &BTreeSet<String>) -> bool {
        self.asked.source.world.room(room).is_some_and(|room| named.contains(&*room.id))
    }
}

/// Notes what was told of a room, if that is news to the state.
fn note(next: &mut State, room: RoomNumber, change: impl FnOnce(&mut SentScope)) {
    let mut scope = next.scopes.get(&room).copied().unwrap_or_default();
    change(&mut scope);
    next.scopes.insert(room, scope);
}

/// What was told of a room before, where that is still so.
fn told(asked: Asked<'_>, gate: &Gate<'_>) -> SentScope {
    let told = asked.base.and_then(|base| base.scopes.get(&gate.room_number()));
    let SentScope { account_data, receipts, typing } = told.copied().unwrap_or_default();
    SentScope {
        account_data: gate.told_in_stay(account_data),
        receipts: gate.told_in_stay(receipts),
        typing,
    }
}
