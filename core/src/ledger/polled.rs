//! One `/sync` answer: rooms in order of their last event, then what is the
//! user's own, then what is the device's own with its `since` (INV-6).

use super::{
    command::{Polled, Reply},
    fold::Fold,
};
use crate::{
    id::{DeviceNumber, RoomNumber, UserNumber},
    record::{AccountDataRecord, Membership, UserRecord, UserRoomRecord, key},
    request::MEMBER,
    upstream::{RoomBatch, Section, SyncEvent, Typed},
    view::Table,
    world::Room,
};

/// A batch with more events, or more bytes of them, is not shown before it is
/// durable: it would have to be kept in memory until then.
const EARLY_EVENTS_MAX: usize = 200;
const EARLY_BYTES_MAX: usize = 256 << 10;

/// Who polled, and how.
#[derive(Clone, Copy)]
pub(super) struct Poll {
    pub(super) user: UserNumber,
    pub(super) device: DeviceNumber,
    /// Whether this is an initial sync.
    pub(super) initial: bool,
    /// Whether the answer is to a `since` that the device has no more: it was
    /// taken in before, and says nothing of what holds now.
    pub(super) repeated: bool,
    /// The homeserver knew everything up to this number when it made the
    /// answer: it had been taken in before the homeserver was asked. Later
    /// numbers raced with the answer, and may be newer than it.
    pub(super) knew: u64,
    /// What happened in rooms before this number the device was not told, and
    /// maybe nobody was.
    pub(super) rooms_from: u64,
    /// When it was asked for, unix milliseconds; 0 where it is repeated.
    pub(super) asked_ms: u64,
}

impl Fold<'_> {
    pub(super) fn polled(&mut self, polled: Polled) -> Reply {
        let Polled { user, device, since, with_rooms, last_part, asked_ms, may_repeat, mut batch } =
            polled;
        // A device that was purged meanwhile has nobody to tell anything.
        let Some(record) = self.device_record(device) else { return Reply::Done };
        // After a rejection there is none, and an answer is not to be known.
        let repeated = record.since.is_some() && record.since != since;
        let is_next = record.since == since;
        let asked_ms = if repeated { 0 } else { asked_ms };
        let knew = if is_next { record.answered.max(self.ledger.opened) } else { 0 };
        let followed = self.ledger.followed.get(&user).copied().unwrap_or(0);
        let rooms_from = if followed < record.rooms_from { record.rooms_from } else { 0 };
        let poll =
            Poll { user, device, initial: since.is_none(), repeated, knew, rooms_from, asked_ms };
        self.early = !poll.initial && batch.to_device.is_empty() && is_small(&batch.rooms);
        let of_copies: Option<Vec<UserRoomRecord>> =
            batch.copies.iter().map(|copy| self.of_copy(poll, copy)).collect();
        let Some(of_copies) = of_copies else { return Reply::Whole };
        if may_repeat && batch.rooms.iter().any(|room| self.has_no_place(poll, room)) {
            return Reply::Again;
        }
        for (copy, before) in batch.copies.iter().zip(&of_copies) {
            self.take_copy(poll, copy, before);
        }
        let now_ms = self.now_ms;
        batch.rooms.sort_by_cached_key(|room| (recency(room, now_ms), room.room_id.clone()));
        let mut told = self.ledger.unfinished.remove(&device).unwrap_or_default();
        for room in std::mem::take(&mut batch.rooms) {
            let room_id = room.room_id.clone();
            self.room_polled(poll, room);
            if poll.initial {
                told.extend(self.ledger.world.find_room(&room_id).map(|room| room.number));
            }
        }
        if poll.initial && with_rooms && last_part {
            self.rooms_untold(poll, &told);
        } else if poll.initial && with_rooms {
            self.ledger.unfinished.insert(device, told);
        }
        for data in &batch.account_data {
            if self.account_data(poll, None, data) {
                let kind = data.kind.clone();
                self.user_change(user).account_data.push(kind);
            }
        }
        if poll.initial && with_rooms && last_part {
            let record = UserRecord { rooms_known: true };
            self.put(Table::Devices, key::user(user), record.encode());
            self.user_change(user).rooms_known = true;
        }
        self.device_polled(poll, since.as_deref(), (with_rooms, last_part), &batch);
        Reply::Done
    }

    fn room_polled(&mut self, poll: Poll, mut batch: RoomBatch) {
        let mut room = self.room(&batch.room_id);
        self.leave_out_hidden(poll, &room, &mut batch);
        let is_history = self.is_history(poll, &room, &batch);
        let whole = is_history.then(|| batch.clone());
        if is_history {
            self.take_own_event_only(poll, &room, &mut batch);
        }
        let told = whole.as_ref().unwrap_or(&batch);
        self.reserve(&room, &batch);
        let chunk = self.timeline(poll, &mut room, &batch);
        self.doubt(poll, &mut room, &batch, &chunk);
        self.state_polled(poll, &mut room, &batch, &chunk);
        self.asides_polled(poll, &mut room, &batch, &chunk);
        self.reserved = 0..0;
        if !poll.initial {
            self.note_told(&mut room, &batch, &chunk);
        }
        self.redactions(&mut room, &batch, &chunk);
        self.summary_polled(poll, &mut room, &batch, &chunk);
        if batch.section == Section::Join && !poll.repeated {
            let confirmed = self.are_confirmed(poll, &room, (&batch, &chunk));
            self.doubt_heroes(poll.user, &mut room, confirmed);
        }
        self.typing(&mut room, batch.typing.as_deref().filter(|_| !poll.repeated));
        self.receipts(poll, &mut room, &batch.receipts);
        if !poll.repeated {
            let told: Vec<&SyncEvent> = told.state.iter().chain(&told.timeline).collect();
            self.old_ends(poll.user, &room, &told);
        }
        self.user_room_polled(poll, &room, (&batch, told), &chunk);
        if let Some(of_user) = self.user_room(poll.user, &room) {
            // One that is there anew is compared with the old one, user by user.
            if !room.local_users.contains_key(&poll.user) {
                room.local_users.insert(poll.user, ());
            }
            if room.bump_stamp == 0 {
                room.bump_stamp = of_user.since_ms;
            }
        }
        for data in &batch.account_data {
            if self.account_data(poll, Some(room.number), data) {
                self.user_change(poll.user).room_account_data.push(room.number);
            }
        }
        self.set_room(room);
    }

    /// Whether a batch tells of a room that the poller's user is out of as it
    /// was at their end, while somebody here still follows it: for them that is
    /// history, and nothing of it is news.
    fn is_history(&self, poll: Poll, room: &Room, batch: &RoomBatch) -> bool {
        let joined = |user: UserNumber| {
            let of_user = self.user_room(user, room);
            of_user.is_some_and(|it| it.membership == Membership::Join)
        };
        let follows = !poll.initial && !batch.limited && joined(poll.user);
        let mut others = room.local_users.keys().filter(|user| **user != poll.user);
        batch.section == Section::Leave && !follows && others.any(|user| joined(*user))
    }

    /// Leaves of a batch what is known, and of its state the user's own member
    /// event.
    fn take_own_event_only(&self, poll: Poll, room: &Room, batch: &mut RoomBatch) {
        let user_id = self.ledger.world.user_id(poll.user).cloned().unwrap_or_default();
        let is_own = |event: &SyncEvent| {
            event.kind == MEMBER && event.state_key.as_deref() == Some(&*user_id)
        };
        let mut events = batch.state.iter().chain(&batch.timeline);
        let own = events.rfind(|event| is_own(event)).cloned();
        let is_known = |event: &SyncEvent| {
            self.place(room.number, &event.event_id).is_some_and(|place| place.timeline)
        };
        let first = batch.timeline.first().map(|event| event.event_id.clone());
        batch.timeline.retain(is_known);
        // The token stands before what was told first, and that may be gone.
        if batch.timeline.first().map(|event| &event.event_id) != first.as_ref() {
            batch.prev_batch = None;
        }
        batch.state = own.into_iter().collect();
        batch.state_is_after = true;
        batch.limited = false;
    }

    /// Stores account data; false where it was known.
    fn account_data(&mut self, poll: Poll, room: Option<RoomNumber>, data: &Typed) -> bool {
        let key = key::account_data(poll.user, room, &data.kind);
        let known = self.get(Table::AccountData, &key).and_then(AccountDataRecord::access);
        if known.is_some_and(|known| poll.repeated || known.json == *data.json) {
            return false;
        }
        let changed = self.next().0;
        let record = AccountDataRecord { changed, json: data.json.to_string() };
        self.put(Table::AccountData, key, record.encode());
        true
    }
}

fn is_small(rooms: &[RoomBatch]) -> bool {
    let events = || rooms.iter().flat_map(|room| room.timeline.iter().chain(&room.state));
    events().count() <= EARLY_EVENTS_MAX
        && events().map(|event| event.json.len()).sum::<usize>() <= EARLY_BYTES_MAX
}

/// When the room's last event was sent, never in the future.
fn recency(room: &RoomBatch, now_ms: u64) -> u64 {
    let last = room.timeline.last().or(room.state.last());
    last.map_or(now_ms, |event| event.origin_server_ts.min(now_ms))
}
