//! The opaque strings that stand for a moment (`next_batch`) and for a place in a room (`prev_batch`).
//!
//! Check digits show that this homeserver issued a token; what a token means is `super`'s and `api`'s business.

use crate::model::{EventIndex, Homeserver};

/// A moment: everything up to these points of the streams was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Of everything but to-device messages.
    pub stream: u64,
    /// Of to-device messages, of which one answer may hold back some.
    pub to_device: u64,
}

impl Homeserver {
    /// The string for a moment.
    pub fn write_token(&self, token: Token) -> String {
        let Token { stream, to_device } = token;
        format!("s{stream}_{}_0_1_1_1_{to_device}_1_0_1", self.check_digits(stream, to_device))
    }

    /// The moment that a string stands for, if this homeserver issued it.
    pub fn read_token(&self, text: &str) -> Option<Token> {
        let mut parts = text.strip_prefix('s')?.split('_');
        let stream = parts.next()?.parse().ok()?;
        let check: u64 = parts.next()?.parse().ok()?;
        let to_device = parts.nth(4)?.parse().ok()?;
        let token = Token { stream, to_device };
        let sound = check == self.check_digits(stream, to_device)
            && stream <= self.stream
            && self.write_token(token) == text;
        sound.then_some(token)
    }

    /// The string for the place just before an event of a room.
    pub(crate) fn write_place(&self, place: EventIndex) -> String {
        format!("t{place}-{}_0_0_0_0_0_0_0_0_0", self.check_digits(place as u64, u64::MAX))
    }

    /// The place that a string stands for.
    pub(crate) fn read_place(&self, text: &str) -> Option<EventIndex> {
        let (place, rest) = text.strip_prefix('t')?.split_once('-')?;
        let place: EventIndex = place.parse().ok()?;
        let check: u64 = rest.split('_').next()?.parse().ok()?;
        (check == self.check_digits(place as u64, u64::MAX)).then_some(place)
    }
}
