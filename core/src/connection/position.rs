//! Positions: what `pos` says, and which state it stands for.
//!
//! A response is provisional until a request brings its position (INV-7).
//! Position numbers are never issued twice, also not by another run of the
//! server: they start from the time of its start.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::state::State;
use crate::id::Sequence;

/// Limits of one connection.
#[derive(Clone, Debug)]
pub struct PositionLimits {
    /// Responses that await acknowledgement; beyond it the oldest is no longer
    /// known.
    pub provisional_max: usize,
}

impl Default for PositionLimits {
    fn default() -> Self {
        Self { provisional_max: 4 }
    }
}

/// Where position numbers come from: one for each shard.
#[derive(Clone, Copy, Debug)]
pub struct Positions {
    next: u64,
    secret: u64,
}

impl Positions {
    /// Numbers of a run that started at `start_ms`. `secret` is the store's
    /// own, so that positions that carry all their state cannot be made up.
    pub fn new(start_ms: u64, secret: u64) -> Self {
        Self { next: start_ms << 20, secret }
    }

    /// A number that was never issued before.
    pub fn issue(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The position of a state without rooms: it says everything itself, so
    /// that it stays good whatever else is asked on the connection, and over
    /// any restart.
    pub fn roomless(&self, owner: &str, state: &State) -> String {
        let flags = u8::from(state.account_data.is_some());
        let digest = self.digest(owner, state.cursor, flags);
        format!("0_{}_{flags}_{digest:016x}", state.cursor.0)
    }

    fn digest(&self, owner: &str, cursor: Sequence, flags: u8) -> u64 {
        xxh3_64_with_seed(format!("{owner}\0{}\0{flags}", cursor.0).as_bytes(), self.secret)
    }

    /// The state that a position without rooms stands for, where it was issued
    /// to `owner`.
    pub fn read_roomless(&self, owner: &str, position: &str) -> Option<State> {
        let mut parts = position.split('_');
        let (zero, cursor, flags, digest) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let cursor = Sequence(cursor.parse().ok()?);
        let flags: u8 = flags.parse().ok()?;
        let sound = zero == "0"
            && parts.next().is_none()
            && digest == format!("{:016x}", self.digest(owner, cursor, flags));
        sound.then(|| State {
            cursor,
            account_data: (flags & 1 == 1).then_some(cursor),
            device_lists: Some(cursor),
            ..State::default()
        })
    }
}

/// The smallest number that a run issues: the time of its start is in it. Well
/// before any run, and far above the numbers in tokens of homeservers.
const ISSUED_MIN: u64 = 1 << 60;

/// Whether `text` has the form of a position of this server's, whoever's it was
/// and however long ago. Tokens of homeservers do not have it.
pub fn is_position(text: &str) -> bool {
    let is_issued = |number: &str| number.parse().is_ok_and(|number: u64| number >= ISSUED_MIN);
    let is_digest =
        |digest: &str| digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.split('_').collect::<Vec<_>>()[..] {
        [connection, response] => is_issued(connection) && is_issued(response),
        ["0", cursor, flags, digest] => {
            cursor.parse::<u64>().is_ok() && flags.parse::<u8>().is_ok() && is_digest(digest)
        }
        _ => false,
    }
}

/// A connection that has told of rooms.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// Its number; another connection of the same name has another.
    pub number: u64,
    /// What the client is known to hold, and the response that told it; `None`
    /// before the first acknowledgement.
    pub acknowledged: Option<(u64, State)>,
    /// What it may hold, oldest first.
    pub provisional: Vec<(u64, State)>,
    /// When it was last asked for something, unix milliseconds.
    pub used_ms: u64,
}

/// What a position stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// This state.
    State(State),
    /// None that is known.
    Unknown,
}

impl Connection {
    /// A connection without any response.
    pub fn new(number: u64, used_ms: u64) -> Self {
        Self { number, acknowledged: None, provisional: Vec::new(), used_ms }
    }

    /// The state that `position` stands for. Bringing a position acknowledges
    /// its response: others that await it, and all before, are then unknown.
    pub fn resolve(&mut self, position: &str) -> Resolved {
        let Some(response) = self.response_of(position) else { return Resolved::Unknown };
        if let Some((number, state)) = &self.acknowledged
            && *number == response
        {
            return Resolved::State(state.clone());
        }
        let found = self.provisional.iter().position(|(number, _)| *number == response);
        let Some(found) = found else { return Resolved::Unknown };
        let (number, state) = self.provisional.swap_remove(found);
        self.provisional.clear();
        self.acknowledged = Some((number, state.clone()));
        Resolved::State(state)
    }

    /// As [`Self::resolve`], where responses form one order: bringing a position
    /// acknowledges its response and all before, and those behind stay. `kept`
    /// are the responses that can be given again; one that cannot, as after a
    /// restart, never was, nor were those behind it.
    pub fn resolve_in_order(&mut self, position: &str, kept: &[u64]) -> Resolved {
        let Some(response) = self.response_of(position) else { return Resolved::Unknown };
        if self.acknowledged.as_ref().is_none_or(|(number, _)| *number != response) {
            let found = self.provisional.iter().position(|(number, _)| *number == response);
            let Some(found) = found else { return Resolved::Unknown };
            self.acknowledged = self.provisional.drain(..=found).next_back();
        }
        let is_kept = |(number, _): &(u64, State)| kept.contains(number);
        let lost = self.provisional.iter().position(|it| !is_kept(it));
        self.provisional.truncate(lost.unwrap_or(self.provisional.len()));
        let newest = self.provisional.last().or(self.acknowledged.as_ref());
        newest.map_or(Resolved::Unknown, |(_, state)| Resolved::State(state.clone()))
    }

    fn response_of(&self, position: &str) -> Option<u64> {
        let (connection, response) = position.split_once('_')?;
        (connection == self.number.to_string()).then(|| response.parse().ok()).flatten()
    }

    /// Remembers a response's state and gives its position.
    pub fn remember(&mut self, response: u64, state: State, limits: &PositionLimits) -> String {
        self.provisional.push((response, state));
        if self.provisional.len() > limits.provisional_max {
            self.provisional.remove(0);
        }
        format!("{}_{response}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(cursor: u64) -> State {
        State { cursor: Sequence(cursor), ..State::default() }
    }

    #[test]
    fn a_position_acknowledges_and_can_be_brought_again() {
        let limits = PositionLimits::default();
        let mut connection = Connection::new(7, 0);
        let first = connection.remember(10, state(1), &limits);
        let lost = connection.remember(11, state(2), &limits);
        assert_eq!(connection.resolve(&first), Resolved::State(state(1)));
        assert_eq!(connection.resolve(&first), Resolved::State(state(1)), "a retry");
        assert_eq!(connection.resolve(&lost), Resolved::Unknown, "a sibling");
        let second = connection.remember(12, state(3), &limits);
        let third = connection.remember(13, state(4), &limits);
        assert_eq!(connection.resolve(&third), Resolved::State(state(4)));
        assert_eq!(connection.resolve(&second), Resolved::Unknown);
        assert_eq!(connection.resolve(&first), Resolved::Unknown, "an older one");
    }

    #[test]
    fn responses_in_order_stay_until_they_are_taken_in() {
        let limits = PositionLimits::default();
        let mut connection = Connection::new(7, 0);
        let first = connection.remember(10, state(1), &limits);
        let second = connection.remember(11, state(2), &limits);
        let third = connection.remember(12, state(3), &limits);
        let kept = [10, 11, 12];
        let newest = |state_of| Resolved::State(state(state_of));
        assert_eq!(connection.resolve_in_order(&first, &kept), newest(3));
        assert_eq!(connection.resolve_in_order(&first, &kept), newest(3), "a retry");
        assert_eq!(connection.resolve_in_order(&second, &kept), newest(3));
        assert_eq!(connection.resolve_in_order(&first, &kept), Resolved::Unknown, "an older one");
        assert_eq!(connection.resolve_in_order(&second, &[]), newest(2), "after a restart");
        assert_eq!(connection.resolve_in_order(&third, &[]), Resolved::Unknown);
    }

    #[test]
    fn what_was_not_issued_is_unknown_whatever_its_form() {
        let mut connection = Connection::new(7, 0);
        connection.remember(10, state(1), &PositionLimits::default());
        for position in
            ["", "7", "7_", "7_11", "8_10", "7_10_1", "07_10", "25/s989_10", "7_+10x", "é"]
        {
            assert_eq!(connection.resolve(position), Resolved::Unknown, "{position}");
        }
    }

    #[test]
    fn a_roomless_position_is_good_for_its_owner_alone() {
        let positions = Positions::new(1_000, 42);
        let position = positions.roomless("@a:x/DEV/encryption", &state(5));
        let read = positions.read_roomless("@a:x/DEV/encryption", &position).unwrap();
        assert_eq!(read.cursor, Sequence(5));
        assert_eq!(positions.read_roomless("@a:x/DEV/other", &position), None);
        assert_eq!(Positions::new(1_000, 43).read_roomless("@a:x/DEV/encryption", &position), None);
        let forged = position.replacen("0_5", "0_6", 1);
        assert_eq!(positions.read_roomless("@a:x/DEV/encryption", &forged), None);
        let later = Positions::new(2_000, 42);
        assert_eq!(later.read_roomless("@a:x/DEV/encryption", &position), Some(read));
    }

    /// Goal: positions are told from the tokens that homeservers issue.
    #[test]
    fn positions_have_a_form_that_no_homeserver_uses() {
        let mut positions = Positions::new(1_700_000_000_000, 7);
        let mut connection = Connection::new(positions.issue(), 0);
        let issued = positions.issue();
        let of_rooms = connection.remember(issued, state(5), &PositionLimits::default());
        for ours in [of_rooms, positions.roomless("owner", &state(5))] {
            assert!(is_position(&ours), "{ours}");
        }
        for theirs in [
            "",
            "5",
            "1800000000000000000",
            "5_7",
            "0_5_1",
            "0_5_1_0123456789abcde",
            "0_5_1_0123456789abcdef_1",
            "s26_17_0_1_1_1_1_3_0_1",
            "t26-14_17_0_1_1_1_1_3_0_1",
            "25/s989_10_1_1",
            "m1800000000000000000_1800000000000000000",
            "1800000000000000000_1800000000000000000_1",
        ] {
            assert!(!is_position(theirs), "{theirs}");
        }
    }
}
