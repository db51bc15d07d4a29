//! What comes apart from sync answers: members, tokens for paging back,
//! connections, forgotten rooms.

use std::sync::Arc;

use super::{
    command::{ConnectionWrite, MemberList, Reply},
    fold::Fold,
};
use crate::{
    id::{RoomNumber, UserNumber},
    record::{Membership, Place, key},
    view::Table,
};

impl Fold<'_> {
    pub(super) fn members(&mut self, list: MemberList) -> Reply {
        let Some(room) = self.ledger.world.room(list.room) else { return Reply::Done };
        let mut room = (**room).clone();
        self.fetched_members(&mut room, &list.events);
        if list.complete {
            self.members_complete(&mut room);
        }
        self.set_room(room);
        Reply::Done
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
