//! `to_device` (MSC3885): messages until the client has acknowledged them.
//!
//! Tokens are a device's message numbers plus an offset, in plain decimal. The
//! offset keeps them apart from the tokens of any other server, whose `since` a
//! client may bring: those never acknowledge anything.

use crate::{
    connection::Asked,
    record::{DeviceRecord, key},
    request,
    response::{Objects, ToDevice},
    view::{Direction, Table},
};

/// What a device's tokens become when a request brings `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Messages up to this number are no longer needed.
    pub acknowledged: u64,
    /// What is added to a number to make a token.
    pub offset: u64,
}

impl Tokens {
    /// The tokens of `device` once a request has brought `since`.
    ///
    /// Before the first request no token was ever issued, so that any number is
    /// a stranger's: tokens then start behind it. So they do later, if a number
    /// comes that is greater than any that was issued.
    pub fn after(device: &DeviceRecord, since: Option<&str>) -> Self {
        let mut tokens =
            Self { acknowledged: device.to_device_acknowledged, offset: device.to_device_offset };
        let Some(since) = since.and_then(parse) else { return tokens };
        if !device.adopted {
            tokens.offset = since;
            return tokens;
        }
        match since.checked_sub(device.to_device_offset) {
            Some(number) if number <= device.to_device_last => {
                tokens.acknowledged = tokens.acknowledged.max(number);
            }
            Some(_) => tokens.offset = since,
            None => {}
        }
        tokens
    }
}

/// The greatest token: the greatest integer that JSON carries everywhere, less
/// room for all messages that may ever come.
const TOKEN_MAX: u64 = (1 << 53) - (1 << 40);

fn parse(since: &str) -> Option<u64> {
    let digits = !since.is_empty() && since.bytes().all(|byte| byte.is_ascii_digit());
    since.parse().ok().filter(|token| digits && *token <= TOKEN_MAX)
}

/// The number of the message that `since` acknowledges, where this server
/// issued it to the device.
pub fn issued_number(device: &DeviceRecord, since: Option<&str>) -> Option<u64> {
    let number = parse(since?)?.checked_sub(device.to_device_offset)?;
    (device.adopted && number <= device.to_device_last).then_some(number)
}

/// The messages behind the acknowledged ones.
pub(super) fn answer(asked: Asked<'_>, wanted: &request::ToDevice) -> ToDevice {
    let device = asked.of_device;
    let mut last = told(asked, wanted);
    let mut events = Objects::default();
    // A limit of none would never let a client take in anything.
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX).max(1);
    let from = key::to_device(asked.device, last.saturating_add(1));
    let to = key::to_device(asked.device, device.to_device_last.saturating_add(1));
    if has_any(asked, wanted) {
        asked.source.view.scan(
            Table::ToDevice,
            &from,
            &to,
            Direction::Forward,
            &mut |key, json| {
                if let (Some(number), Ok(json)) = (key::sequence_of(key), std::str::from_utf8(json))
                {
                    events.push(json);
                    last = number;
                }
                events.len() < limit
            },
        );
    }
    ToDevice { next_batch: (device.to_device_offset + last).to_string(), events }
}

/// The number of the last message that the client has taken in.
fn told(asked: Asked<'_>, wanted: &request::ToDevice) -> u64 {
    let issued = issued_number(asked.of_device, wanted.since.as_deref());
    issued.unwrap_or(0).max(asked.of_device.to_device_acknowledged)
}

/// Whether there are messages that the client has yet to take in.
pub(super) fn has_any(asked: Asked<'_>, wanted: &request::ToDevice) -> bool {
    asked.of_device.adopted && told(asked, wanted) < asked.of_device.to_device_last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(adopted: bool, last: u64, acknowledged: u64, offset: u64) -> DeviceRecord {
        DeviceRecord {
            adopted,
            to_device_last: last,
            to_device_acknowledged: acknowledged,
            to_device_offset: offset,
            ..DeviceRecord::default()
        }
    }

    #[test]
    fn only_a_token_that_was_issued_acknowledges() {
        for (name, device, since, acknowledged, offset) in [
            ("none", device(true, 5, 2, 0), None, 2, 0),
            ("ours", device(true, 5, 2, 0), Some("4"), 4, 0),
            ("ours again", device(true, 5, 4, 0), Some("3"), 4, 0),
            ("ours with an offset", device(true, 5, 0, 100), Some("103"), 3, 100),
            ("a stranger's, first", device(false, 5, 0, 0), Some("4"), 0, 4),
            ("a stranger's, first, far", device(false, 0, 0, 0), Some("99999"), 0, 99_999),
            ("from before the offset", device(true, 5, 1, 100), Some("40"), 1, 100),
            ("beyond all that was issued", device(true, 5, 1, 0), Some("6"), 1, 6),
            ("not a number", device(true, 5, 1, 0), Some("s12_34"), 1, 0),
            ("signed", device(true, 5, 1, 0), Some("+4"), 1, 0),
            ("empty", device(false, 5, 1, 0), Some(""), 1, 0),
            ("too large", device(false, 5, 0, 0), Some("18446744073709551615"), 0, 0),
        ] {
            assert_eq!(Tokens::after(&device, since), Tokens { acknowledged, offset }, "{name}");
        }
    }
}
