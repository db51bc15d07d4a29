//! Whether a piece of JSON may be kept and later spliced into a response.
//!
//! The grammar is the cursor's; here is what strict readers refuse beyond it:
//! a key twice in one object, half a surrogate pair, a number that no double
//! holds, and nesting without bound.

use std::borrow::Cow;
use std::ops::Range;

use super::scan::{Cursor, Fault, Kind, Literal};

/// Why a value is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unsound {
    /// The text is not JSON.
    Fault(Fault),
    /// It is JSON, but not such as every reader takes.
    Refused(Cow<'static, str>),
}

impl From<Fault> for Unsound {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<&'static str> for Unsound {
    fn from(reason: &'static str) -> Self {
        Self::Refused(Cow::Borrowed(reason))
    }
}

impl From<String> for Unsound {
    fn from(reason: String) -> Self {
        Self::Refused(Cow::Owned(reason))
    }
}

impl std::fmt::Display for Unsound {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fault(fault) => write!(formatter, "{} at byte {}", fault.what, fault.at),
            Self::Refused(reason) => formatter.write_str(reason),
        }
    }
}

/// An object is searched pair by pair up to this many keys, and sorted beyond.
const PAIRWISE_KEYS_MAX: usize = 12;

/// The keys seen so far in each open object, innermost last. One is reused
/// from value to value, so that checking allocates nothing as a rule.
#[derive(Debug, Default)]
pub(crate) struct Keys<'a>(Vec<Cow<'a, str>>);

impl<'a> Keys<'a> {
    /// Where the keys of an object that is being entered begin.
    pub(crate) fn open(&self) -> usize {
        self.0.len()
    }

    /// Notes a key of the innermost object and gives it decoded.
    pub(crate) fn note(&mut self, key: Literal<'a>) -> Result<Cow<'a, str>, Unsound> {
        let key = key.decode().ok_or("a key holds half a surrogate pair")?;
        self.0.push(key.clone());
        Ok(key)
    }

    /// Forgets the keys of the object that began at `base`, if no two of them
    /// are the same.
    pub(crate) fn close(&mut self, base: usize) -> Result<(), Unsound> {
        let keys = &mut self.0[base..];
        let twice = if keys.len() <= PAIRWISE_KEYS_MAX {
            keys.iter().enumerate().any(|(index, key)| keys[..index].contains(key))
        } else {
            keys.sort_unstable();
            keys.windows(2).any(|pair| pair[0] == pair[1])
        };
        self.0.truncate(base);
        if twice { Err(Unsound::from("an object has a key twice")) } else { Ok(()) }
    }

    /// Forgets all keys, after a value was given up half-way.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Takes the value at the cursor if it is sound, at most `depth_max` containers
/// deep, and gives its range. Left anywhere in the value where it is not.
pub(crate) fn take<'a>(
    cursor: &mut Cursor<'a>,
    keys: &mut Keys<'a>,
    depth_max: usize,
) -> Result<Range<usize>, Unsound> {
    let kind = cursor.kind()?;
    let start = cursor.position();
    match kind {
        Kind::Object => {
            let depth_left = deeper(depth_max)?;
            let mut walk = cursor.object()?;
            let base = keys.open();
            while let Some(key) = cursor.key(&mut walk)? {
                keys.note(key)?;
                take(cursor, keys, depth_left)?;
            }
            keys.close(base)?;
        }
        Kind::Array => {
            let depth_left = deeper(depth_max)?;
            let mut walk = cursor.array()?;
            while cursor.element(&mut walk)? {
                take(cursor, keys, depth_left)?;
            }
        }
        Kind::String => {
            let literal = cursor.string()?;
            if literal.escaped() && literal.decode().is_none() {
                return Err(Unsound::from("a string holds half a surrogate pair"));
            }
        }
        Kind::Number => {
            let number = cursor.number()?;
            if !representable(number) {
                return Err(Unsound::from("a number is beyond what a double holds"));
            }
        }
        Kind::Bool | Kind::Null => {
            cursor.word()?;
        }
    }
    Ok(start..cursor.position())
}

/// One level less, or why not.
pub(crate) fn deeper(depth_max: usize) -> Result<usize, Unsound> {
    depth_max.checked_sub(1).ok_or_else(|| Unsound::from(super::scan::TOO_DEEP))
}

fn representable(number: &str) -> bool {
    // Without an exponent it takes over three hundred digits to leave the
    // doubles, so few numbers are ever read here.
    let plain = number.len() < 300 && !number.contains(['e', 'E']);
    plain || serde_json::from_str::<f64>(number).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), Unsound> {
        let mut cursor = Cursor::new(text);
        let mut keys = Keys::default();
        take(&mut cursor, &mut keys, 4)?;
        cursor.end()?;
        assert_eq!(keys.open(), 0);
        Ok(())
    }

    /// Goal: what is kept is what every reader takes.
    #[test]
    fn only_sound_values_are_taken() {
        let many = |last: &str| {
            let keys: Vec<_> = (0..40).map(|key| format!("\"k{key}\":{key}")).collect();
            format!("{{{},\"{last}\":1}}", keys.join(","))
        };
        for text in [
            r#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#,
            r#""\ud83d\ude00""#,
            "123456789012345678901234567890",
            "1e308",
            "-1e-9999",
            "[[[[]]]]",
            &many("k40"),
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
            serde_json::from_str::<serde_json::Value>(text).unwrap();
        }
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"[{"b":{"c":1,"c":2}}]"#,
            &many("k7"),
            r#""\ud83d""#,
            r#""\ude00\ud83d""#,
            r#"{"\ud800":1}"#,
            "1e309",
            "[[[[[]]]]]",
            &"9".repeat(400),
            "{\"a\":1",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
