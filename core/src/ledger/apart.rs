//! What comes apart from sync answers: members, tokens for paging back,
//! connections, forgotten rooms.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    command::{ConnectionWrite, MemberList, Reply, WholeList},
    fold::Fold,
    summary::content,
};
use crate::{
    id::{RoomNumber, Sequence, UserNumber},
    record::{Membership, Place, StateRecord, UserRoomRecord, key},
    request::MEMBER,
    upstream::SyncEvent,
    view::Table,
    world::Room,
};

impl MemberList {
    /// A fetched list in parts of `at_once` members, which go to the ledger one
    /// after another.
    pub fn in_parts(
        room: RoomNumber,
        (user, knew): (UserNumber, Sequence),
        events: &[SyncEvent],
        at_once: usize,
    ) -> Vec<Self> {
        let is_joined = |event: &SyncEvent| content(&event.json).text("membership") == Some("join");
        let listed = |event: &SyncEvent| Some((event.state_key.clone()?, is_joined(event)));
        let user_ids: BTreeMap<String, bool> = events.iter().filter_map(listed).collect();
        let user_ids = Arc::new(user_ids);
        let part = |(events, is_last): (&[SyncEvent], bool)| {
            let whole = WholeList { knew, user_ids: Arc::clone(&user_ids), is_last };
            Self { room, user, events: events.to_vec(), whole: Some(whole) }
        };
        let count = events.len().div_ceil(at_once.max(1)).max(1);
        let mut chunks = events.chunks(at_once.max(1));
        (1..=count).map(|at| part((chunks.next().unwrap_or_default(), at == count))).collect()
    }
}

impl Fold<'_> {
    pub(super) fn members(&mut self, list: MemberList) -> Reply {
        let Some(room) = self.ledger.world.room(list.room) else { return Reply::Done };
        let mut room = (**room).clone();
        match &list.whole {
            Some(whole) => self.member_list(&mut room, &list, whole),
            None => {
                list.events.iter().for_each(|it| self.member_fetched(&mut room, list.user, it));
            }
        }
        self.set_room(room);
        Reply::Done
    }

    fn member_list(&mut self, room: &mut Room, list: &MemberList, whole: &WholeList) {
        let is_in = |id: &str| whole.user_ids.get(id) == Some(&true);
        self.withhold_unless(room, whole.knew, is_in);
        self.fetched_members(room, &list.events);
        if whole.is_last {
            self.members_complete(room);
            self.doubt_unlisted(room, list.user, whole);
        }
    }

    /// Withholds the room, as behind a gap, where a list of who is in it lacks somebody who
    /// is taken for a member, and was when it was asked for: it tells of others who may
    /// have come when they were out.
    pub(super) fn withhold_unless(
        &mut self,
        room: &mut Room,
        knew: Sequence,
        is_in: impl Fn(&str) -> bool,
    ) {
        let is_unlisted = |user: &UserNumber| {
            let id = self.ledger.world.user_id(*user);
            let is_known = |it: UserRoomRecord| {
                it.membership == Membership::Join
                    && it.since <= knew.0
                    && it.vouched >= room.last_gap.0
            };
            id.is_some_and(|id| !is_in(id)) && self.user_room(*user, room).is_some_and(is_known)
        };
        if room.local_users.keys().any(is_unlisted) {
            self.open_gap_here(room);
        }
    }

    /// Notes that what is told from here on may be nothing for who is taken for a member.
    fn open_gap_here(&mut self, room: &mut Room) {
        let gap = self.next();
        self.note_gap(room, gap.0);
    }

    /// Puts the room's state in doubt where it has somebody in the room whom the
    /// list does not have: they left in a gap, and only the state has the event.
    fn doubt_unlisted(&mut self, room: &mut Room, user: UserNumber, list: &WholeList) {
        let mut is_doubtful = false;
        self.scan(Table::State, &key::state_of_type(room.number, MEMBER), &mut |_, archive| {
            is_doubtful = StateRecord::access(archive).is_some_and(|member| {
                member.kind == *MEMBER
                    && member.changed.to_native() <= list.knew.0
                    && member.membership.as_deref() != Some("leave")
                    && !list.user_ids.contains_key(member.state_key.as_str())
                    && room.aside(&member.state_key).is_none()
            });
            !is_doubtful
        });
        if is_doubtful {
            room.suspected = self.next();
            self.suspect(user, room.number);
        }
    }

    pub(super) fn prev_batch(&mut self, room: RoomNumber, sequence: u64, token: String) -> Reply {
        // The end of a stay may lie beside the timeline.
        let places = [true, false].map(|timeline| Place { timeline, sequence });
        let stored = places.into_iter().find_map(|place| Some((place, self.event(room, place)?)));
        if let Some((place, mut event)) = stored {
            event.prev_batch = Some(token);
            self.put(Table::Events, key::event(room, place), event.encode());
            self.room_told(room);
        }
        Reply::Done
    }

    pub(super) fn connections(&mut self, writes: Vec<ConnectionWrite>) -> Reply {
        for ConnectionWrite { device, conn_id, state } in writes {
            // A device that was purged meanwhile has none to remember.
            let known = self.device_record(device).is_some();
            let key = key::connection(device, &conn_id);
            match state.filter(|_| known) {
                Some(state) => self.put(Table::Connections, key, state),
                None => self.remove(Table::Connections, key),
            }
        }
        Reply::Done
    }

    pub(super) fn forget(&mut self, user: UserNumber, room: RoomNumber) -> Reply {
        let Some(facts) = self.ledger.world.room(room) else { return Reply::Done };
        let mut facts = (**facts).clone();
        let of_user = self.user_room(user, &facts);
        let is_in = of_user.is_none_or(|it| {
            matches!(it.membership, Membership::Join | Membership::Invite | Membership::Knock)
        });
        if is_in {
            return Reply::Done;
        }
        self.remove(Table::UserRooms, key::user_room(user, room));
        self.remove_all(Table::AccountData, &key::account_data_of(user, Some(room)), |_| true);
        facts.local_users.remove(&user);
        // Who is there is not part of what the room says.
        if let Some(known) = self.ledger.world.rooms.get_mut(room.0 as usize) {
            *known = Arc::new(facts);
        }
        self.user_change(user).rooms.push(room);
        Reply::Done
    }
}
