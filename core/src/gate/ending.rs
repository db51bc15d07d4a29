//! What the timeline of a stay that has ended shows beside what all see.

use super::{Gate, Stretch, TimelineEvent};
use crate::{
    id::Sequence,
    record::{Place, key},
    view::{Direction, Table},
};

impl Gate<'_> {
    /// The last events of a stay, newest first, as far as the timeline lacks
    /// some of them, and the number up to which the timeline goes before them;
    /// `None` where something is missing between.
    ///
    /// What the timeline lacks was never told before, whatever its number. But where
    /// something is missing before it, and an event behind it was told, what is told
    /// goes on from that event: who begins anew would lack it.
    pub(super) fn ending(&self, after: Sequence, limit: u64, stretch: &mut Stretch) -> Option<u64> {
        let mut told_behind = None;
        let goes_on = self.last_events(after, limit, stretch, &mut told_behind);
        if let (None, Some(behind)) = (goes_on, told_behind) {
            stretch.events.truncate(behind);
            return Some(after.0);
        }
        goes_on
    }

    /// As [`Self::ending`]. `told_behind` is how many events lie behind the newest
    /// that was told.
    fn last_events(
        &self,
        after: Sequence,
        limit: u64,
        stretch: &mut Stretch,
        told_behind: &mut Option<usize>,
    ) -> Option<u64> {
        let mut goes_on = None;
        for event_id in self.of_user.ending.iter().rev() {
            let place = self.view.get(Table::EventIds, &key::event_id(self.room.number, event_id));
            let place = place.and_then(key::place_from)?;
            let archive = self.view.get(Table::Events, &key::event(self.room.number, place));
            let record = archive.and_then(|archive| self.event(archive))?;
            let sequence = place.sequence;
            let is_on = place.timeline && sequence <= self.visible.1 && !record.gap_before;
            goes_on = is_on.then(|| sequence.saturating_sub(1));
            let is_told = place.timeline && sequence <= after.0;
            let is_ignored =
                record.state_key.is_none() && self.user.ignored.contains(&record.sender);
            if is_told {
                told_behind.get_or_insert(stretch.events.len());
            }
            if is_told || is_ignored {
                continue;
            }
            if stretch.events.len() as u64 >= limit {
                return None;
            }
            stretch.events.push(TimelineEvent { sequence, record });
        }
        goes_on
    }

    /// Whether something of the timeline lies between what was told and `first`,
    /// where the stay that has ended begins: it was told of another, and what came
    /// between is not the user's.
    pub(super) fn is_another_stay(&self, told: Sequence, first: u64) -> bool {
        let key = |sequence| key::event(self.room.number, Place { timeline: true, sequence });
        if self.is_joined() || told == Sequence::default() || told.0 >= first {
            return false;
        }
        let mut is_there = false;
        let (from, to) = (key(told.0.saturating_add(1)), key(first));
        self.view.scan(Table::Events, &from, &to, Direction::Forward, &mut |_, _| {
            is_there = true;
            false
        });
        is_there
    }
}
