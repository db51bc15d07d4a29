//! What a connection asked of rooms before its last request.
//!
//! A room that was sent remembers what was asked of it, so that the client is
//! later told what it lacks. A client that asks for something else each time
//! would have all of it remembered: beyond a limit it is forgotten, and such a
//! room's state is sent again when it is asked for.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::state::{SentRoom, State};
use crate::request::RoomConfig;

/// Configurations that rooms may have been sent with, and that the last request
/// does not ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// The newest last.
    configs: Vec<Arc<RoomConfig>>,
    /// About how many bytes of memory they take.
    bytes: usize,
}

/// Earlier configurations that a request's are compared with.
const COMPARED_MAX: usize = 64;

impl Earlier {
    /// Those that were asked for last.
    pub(super) fn newest(&self) -> &[Arc<RoomConfig>] {
        &self.configs[self.configs.len().saturating_sub(COMPARED_MAX)..]
    }
}

impl State {
    /// Notes which configurations were those of the last request, which are no
    /// longer: `before`. Of those that are not asked for about `bytes_max` bytes
    /// are remembered.
    pub(super) fn note_earlier(&mut self, before: &[Arc<RoomConfig>], bytes_max: usize) {
        let is_same = before.len() == self.configs.len()
            && before.iter().zip(&self.configs).all(|(one, other)| Arc::ptr_eq(one, other));
        if is_same {
            return;
        }
        let asked: FxHashSet<usize> = self.configs.iter().map(address).collect();
        let mut earlier = Arc::unwrap_or_clone(std::mem::take(&mut self.earlier));
        let mut seen = FxHashSet::default();
        earlier.configs.extend_from_slice(before);
        earlier.configs.retain(|it| !asked.contains(&address(it)) && seen.insert(address(it)));
        earlier.bytes = earlier.configs.iter().map(|it| it.bytes()).sum();
        if earlier.bytes > bytes_max {
            let held: FxHashSet<usize> =
                self.rooms.values().map(|sent| address(&sent.config)).collect();
            earlier.configs.retain(|it| held.contains(&address(it)));
            earlier.bytes = earlier.configs.iter().map(|it| it.bytes()).sum();
        }
        if earlier.bytes > bytes_max {
            self.forget(&std::mem::take(&mut earlier));
        }
        self.earlier = Arc::new(earlier);
    }

    /// Forgets what rooms were sent with: of each no more is known than how much
    /// of its timeline was asked for.
    fn forget(&mut self, earlier: &Earlier) {
        let forgotten: FxHashSet<usize> = earlier.configs.iter().map(address).collect();
        let mut bare: Vec<Arc<RoomConfig>> = Vec::new();
        let rooms = self.rooms.iter();
        let rooms = rooms.filter(|(_, sent)| forgotten.contains(&address(&sent.config)));
        let rooms: Vec<_> = rooms.map(|(room, sent)| (*room, Arc::clone(sent))).collect();
        for (room, sent) in rooms {
            let RoomConfig { timeline_limit, include_heroes, .. } = *sent.config;
            let config = RoomConfig { timeline_limit, include_heroes, ..RoomConfig::default() };
            let known = bare.iter().find(|known| ***known == config);
            let config = known.cloned().unwrap_or_else(|| {
                bare.push(Arc::new(config));
                Arc::clone(&bare[bare.len() - 1])
            });
            self.rooms.insert(room, Arc::new(SentRoom { config, ..(*sent).clone() }));
        }
    }
}

fn address(config: &Arc<RoomConfig>) -> usize {
    Arc::as_ptr(config).addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{RoomNumber, Sequence},
        record::Membership,
        request::RequiredState,
    };

    fn config(at: u32) -> Arc<RoomConfig> {
        let kind = format!("a.type.{at}");
        let required_state = RequiredState::from_pairs([(&*kind, "")], "@me:x");
        Arc::new(RoomConfig { timeline_limit: 3, required_state, ..RoomConfig::default() })
    }

    fn sent(config: &Arc<RoomConfig>) -> Arc<SentRoom> {
        Arc::new(SentRoom {
            cursor: Sequence(1),
            membership: Membership::Join,
            since: Sequence(1),
            config: Arc::clone(config),
            name: 0,
            avatar: 0,
            heroes: 0,
            counts: None,
            bump_stamp: 0,
            unread: (0, 0),
            short_from: 0,
            is_dm: false,
            lazy_members: imbl::OrdSet::new(),
            missing_members: imbl::OrdSet::new(),
        })
    }

    /// What the state after another request is: `rooms` were sent with `config`.
    fn asked(state: &State, config: &Arc<RoomConfig>, rooms: &[u32], bytes_max: usize) -> State {
        let mut next = state.clone();
        next.configs = vec![Arc::clone(config)];
        for room in rooms {
            next.rooms.insert(RoomNumber(*room), sent(config));
        }
        next.note_earlier(&state.configs, bytes_max);
        next
    }

    fn config_of(state: &State, room: u32) -> &RoomConfig {
        &state.rooms[&RoomNumber(room)].config
    }

    /// Goal: whatever a client asks for one after another, what is remembered of
    /// it has a size, and rooms have theirs as long as it fits.
    #[test]
    fn what_is_remembered_of_earlier_requests_has_a_size() {
        let bytes_max = 10 * config(0).bytes();
        let mut state = State::default();
        for at in 0..100 {
            state = asked(&state, &config(at), &[at], bytes_max);
            let mut seen = FxHashSet::default();
            let held = state.rooms.values().filter(|it| seen.insert(address(&it.config)));
            let bytes: usize = held.map(|it| it.config.bytes()).sum();
            assert!(bytes <= bytes_max + 3 * config(at).bytes(), "{at}: {bytes}");
            assert_eq!(config_of(&state, at), &*config(at), "what was asked for last");
        }
        let first = config_of(&state, 0);
        assert!(first.required_state.is_empty() && first.timeline_limit == 3);
    }

    #[test]
    fn what_no_room_has_any_more_makes_nothing_be_forgotten() {
        let bytes_max = 10 * config(0).bytes();
        let mut state = asked(&State::default(), &config(1_000), &[7], bytes_max);
        for at in 0..100 {
            state = asked(&state, &config(at), &[8], bytes_max);
        }
        assert_eq!(config_of(&state, 7), &*config(1_000));
        assert!(state.earlier.bytes <= bytes_max);
        let again = Arc::clone(&state.rooms[&RoomNumber(7)].config);
        let state = asked(&state, &again, &[8], bytes_max);
        assert!(!state.earlier.configs.iter().any(|it| Arc::ptr_eq(it, &again)), "asked for again");
    }
}
