//! Stays that an answer of their user's own has put in doubt: it says that they are only
//! asked in, another device was told meanwhile that they are in the room, and nothing says
//! which is newer.
//!
//! They count as asked in then: nothing is shown in doubt. Where their stay has gone on all
//! the time, the next answer says so without a word of how it began.

use super::{fold::Fold, polled::Poll, user_room::OwnPoll};
use crate::{
    record::{Membership, Place, UserRoomRecord},
    request::MEMBER,
    upstream::{RoomBatch, SyncEvent},
    world::Room,
};

impl Fold<'_> {
    /// Keeps in mind what was a user's of a room, where that was told while an answer was
    /// on its way that has them asked in.
    pub(super) fn doubt_stay(&mut self, own: &OwnPoll<'_>, before: Option<&UserRoomRecord>) {
        let is_doubted =
            |it: &&UserRoomRecord| it.membership == Membership::Join && it.since > own.poll.knew;
        let Some(stay) = before.filter(is_doubted) else { return };
        if self.ledger.doubted.len() >= self.ledger.limits.doubted_max {
            self.ledger.doubted.clear();
        }
        self.ledger.doubted.insert((own.poll.user, own.room.number), stay.clone());
    }

    /// Whether an answer goes on with a stay that was in doubt.
    pub(super) fn resumes(&self, poll: Poll, room: &Room, batch: &RoomBatch) -> bool {
        let user_id = self.ledger.world.user_id(poll.user).map(|user_id| &**user_id);
        let is_own =
            |event: &SyncEvent| event.kind == MEMBER && event.state_key.as_deref() == user_id;
        self.ledger.doubted.contains_key(&(poll.user, room.number))
            && !batch.state.iter().chain(&batch.timeline).any(is_own)
    }

    /// The stay that was in doubt and has gone on: their own poller has them in the room,
    /// tells of no member event of theirs, and the state has the same.
    pub(super) fn goes_on(
        &self,
        own: &OwnPoll<'_>,
        own_event: Option<Place>,
    ) -> Option<UserRoomRecord> {
        let stay = self.ledger.doubted.get(&(own.poll.user, own.room.number))?;
        let is_same = own.own_event().is_none() && own_event == stay.own_event;
        is_same.then(|| stay.clone())
    }
}
