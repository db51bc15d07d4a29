//! A cursor over JSON text: it checks the grammar and yields byte ranges.
//!
//! It builds nothing and allocates nothing but its nesting, so that a body of
//! any size can be taken apart in place. It knows JSON and not Matrix.

use std::borrow::Cow;
use std::ops::Range;

/// Where the text stops being JSON, and what was expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

/// What [`Cursor::skip`] says of a value nested deeper than allowed.
pub(crate) const TOO_DEEP: &str = "nested too deeply";

/// What kind of value begins at the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// The kind's name with its article, for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
        }
    }
}

/// A string literal as it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Literal<'a> {
    quoted: &'a str,
    start: usize,
    escaped: bool,
}

impl<'a> Literal<'a> {
    /// The characters that the literal stands for, or `None` where an escape
    /// stands for no character (half a surrogate pair).
    pub(crate) fn decode(self) -> Option<Cow<'a, str>> {
        if self.escaped {
            serde_json::from_str::<String>(self.quoted).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(&self.quoted[1..self.quoted.len() - 1]))
        }
    }

    /// Where its opening quote is.
    pub(crate) fn start(self) -> usize {
        self.start
    }

    /// Whether the literal holds an escape.
    pub(crate) fn escaped(self) -> bool {
        self.escaped
    }
}

/// The members of an object, or the elements of an array, being walked.
#[derive(Debug)]
pub(crate) struct Walk {
    first: bool,
}

/// A place in JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The text of `range`; empty where it is none of the text.
    pub(crate) fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn fault<T>(&self, what: &'static str) -> Result<T, Fault> {
        Err(Fault { at: self.at, what })
    }

    /// The next byte that is not whitespace.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Passes one byte, which the caller has just peeked at.
    pub(crate) fn step(&mut self) {
        self.at = self.text.ceil_char_boundary(self.at + 1);
    }

    /// The kind of the value at the cursor, by its first byte.
    pub(crate) fn kind(&mut self) -> Result<Kind, Fault> {
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => self.fault("expected a value"),
            None => self.fault("the text ends where a value is expected"),
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            self.fault(what)
        }
    }

    /// Nothing but whitespace is left.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        if self.peek().is_none() { Ok(()) } else { self.fault("expected nothing more") }
    }

    /// Enters the object at the cursor.
    pub(crate) fn object(&mut self) -> Result<Walk, Fault> {
        self.expect(b'{', "expected an object")?;
        Ok(Walk { first: true })
    }

    /// Enters the array at the cursor.
    pub(crate) fn array(&mut self) -> Result<Walk, Fault> {
        self.expect(b'[', "expected an array")?;
        Ok(Walk { first: true })
    }

    /// The next member's key, with the cursor left at its value, which the
    /// caller takes before it asks again; `None` past the closing brace.
    pub(crate) fn key(&mut self, walk: &mut Walk) -> Result<Option<Literal<'a>>, Fault> {
        if !self.more(walk, b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        self.expect(b':', "expected a colon")?;
        Ok(Some(key))
    }

    /// Whether another element follows, with the cursor left at it; `false`
    /// past the closing bracket.
    pub(crate) fn element(&mut self, walk: &mut Walk) -> Result<bool, Fault> {
        let more = self.more(walk, b']')?;
        if more {
            self.peek();
        }
        Ok(more)
    }

    fn more(&mut self, walk: &mut Walk, close: u8) -> Result<bool, Fault> {
        let first = std::mem::replace(&mut walk.first, false);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                if self.peek() == Some(close) {
                    return self.fault("expected a value after the comma");
                }
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => self.fault("expected a comma or the end"),
        }
    }

    /// Takes the string at the cursor.
    pub(crate) fn string(&mut self) -> Result<Literal<'a>, Fault> {
        if self.peek() != Some(b'"') {
            return self.fault("expected a string");
        }
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += plain_length(&self.bytes()[self.at..]);
            match self.bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Literal { quoted: &self.text[start..self.at], start, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fault("a control character in a string"),
                None => return self.fault("the text ends in a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.bytes().get(self.at + 2..self.at + 6) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {
                    self.at += 6;
                    Ok(())
                }
                _ => self.fault("an escape of less than four digits"),
            },
            _ => self.fault("an unknown escape"),
        }
    }

    /// Takes the number at the cursor and gives its text.
    pub(crate) fn number(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let start = self.at;
        if self.bytes().get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        let digits = self.digits();
        if digits == 0 || digits > 1 && self.bytes()[self.at - digits] == b'0' {
            return self.fault("a malformed number");
        }
        if self.bytes().get(self.at) == Some(&b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return self.fault("a number without digits after its point");
            }
        }
        if matches!(self.bytes().get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes().get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fault("a number without digits in its exponent");
            }
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> usize {
        let rest = &self.bytes()[self.at..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += count;
        count
    }

    /// Takes `true`, `false` or `null`.
    pub(crate) fn word(&mut self) -> Result<&'static str, Fault> {
        self.peek();
        let rest = &self.bytes()[self.at..];
        for word in ["true", "false", "null"] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(word);
            }
        }
        self.fault("expected a value")
    }

    /// Takes the value at the cursor, whatever it is, and gives its range.
    /// More than `depth_max` containers in one another are a fault.
    pub(crate) fn skip(&mut self, depth_max: usize) -> Result<Range<usize>, Fault> {
        self.kind()?;
        let start = self.at;
        // Which of the open containers are objects, outermost first. A loop
        // and not a recursion: what is nested comes from strangers.
        let mut open: Vec<bool> = Vec::new();
        loop {
            let kind = self.kind()?;
            let entered = match kind {
                Kind::Object | Kind::Array => {
                    if open.len() >= depth_max {
                        return self.fault(TOO_DEEP);
                    }
                    self.at += 1;
                    open.push(kind == Kind::Object);
                    true
                }
                Kind::String => self.string().map(|_| false)?,
                Kind::Number => self.number().map(|_| false)?,
                Kind::Bool | Kind::Null => self.word().map(|_| false)?,
            };
            let mut walk = Walk { first: entered };
            loop {
                let Some(&object) = open.last() else { return Ok(start..self.at) };
                let more =
                    if object { self.key(&mut walk)?.is_some() } else { self.element(&mut walk)? };
                if more {
                    break;
                }
                open.pop();
                walk.first = false;
            }
        }
    }
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// How many bytes come before the first quote, backslash or control character.
fn plain_length(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = ends_plain(u64::from_le_bytes(*word));
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let ended = tail.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
    words.len() * 8 + ended.unwrap_or(tail.len())
}

/// The high bit of each byte that ends a plain run; above the lowest such byte
/// the bits mean nothing, because a subtraction borrows upwards.
fn ends_plain(word: u64) -> u64 {
    let quote = word ^ (LOW_BITS * u64::from(b'"'));
    let backslash = word ^ (LOW_BITS * u64::from(b'\\'));
    let zero = |word: u64| word.wrapping_sub(LOW_BITS) & !word;
    let control = word.wrapping_sub(LOW_BITS * 0x20) & !word;
    (zero(quote) | zero(backslash) | control) & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<Range<usize>, Fault> {
        let mut cursor = Cursor::new(text);
        let range = cursor.skip(64)?;
        cursor.end()?;
        Ok(range)
    }

    /// Goal: the grammar is JSON's, no more and no less.
    #[test]
    fn skip_accepts_what_serde_json_accepts() {
        for text in [
            "null",
            " true ",
            "false",
            "0",
            "-0",
            "-1.5e+9",
            "10",
            "1E5",
            "\"\"",
            "\"\\u00e9\\n\"",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[1, [2], {\"a\": []}]",
            "{\"a\":{\"b\":[{}]},\"c\":\"}\"}",
            "\"a long string that passes eight bytes, with é and \\\" in it\"",
            "\"\u{7f}\"",
        ] {
            assert!(whole(text).is_ok(), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
        for text in [
            "",
            " ",
            "nul",
            "tru",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\t\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[}",
            "{]",
            "[",
            "{",
            "{\"a\":1",
            "1 2",
            "{}{}",
            "\"12345678\u{1}\"",
            "nulls",
            "[1]]",
        ] {
            assert!(whole(text).is_err(), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        }
    }

    /// Goal: nesting beyond the limit is a fault, and costs no stack.
    #[test]
    fn nesting_beyond_the_limit_is_a_fault() {
        assert!(whole(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert_eq!(whole(&deep).unwrap_err().what, TOO_DEEP);
        let deeper = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(Cursor::new(&deeper).skip(usize::MAX).is_ok());
    }

    /// Goal: the word-wise search finds the same end as a plain one.
    #[test]
    fn plain_run_ends_at_the_first_special_byte() {
        for special in [b'"', b'\\', 0, 1, 0x1f] {
            for length in 0..40 {
                let mut bytes = vec![b'!'; length];
                bytes.push(special);
                bytes.extend_from_slice(&[b'"', 0xff, b'\\', 0x80, 0x20, 0x21]);
                assert_eq!(plain_length(&bytes), length, "{special} {length}");
            }
        }
        assert_eq!(plain_length("é€\u{1f600} ~\u{80}\u{ff}abcdefgh".as_bytes()), 23);
    }
}
