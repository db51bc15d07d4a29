//! Requests that were read before. A client sends the same body again and again
//! and changes no more than its position: what was read of it is kept, and
//! shared by all requests with that body. Where the position is in the body, it
//! is left out of what is compared.

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::Xxh3;

use super::{RequestError, RequestLimits, parse, simplified, v4};
use crate::{
    id::UserNumber,
    request::{Dialect, Request},
};

/// Whose a body is, and a digest of it. Who finds two bodies with one digest
/// deceives nobody but themselves.
type Key = (UserNumber, u128);

/// The requests that were read last.
#[derive(Debug)]
pub struct KnownRequests {
    bytes_max: usize,
    /// Those that were used since the last turn-over, and about how many bytes
    /// they have.
    young: FxHashMap<Key, Request>,
    young_bytes: usize,
    /// Those that were not; they go with the next turn-over.
    old: FxHashMap<Key, Request>,
}

/// How many bytes of memory what is read of a body takes for each of its own.
const BYTES_FOR_EACH: usize = 4;
/// How many it takes for each value, where values are short.
const BYTES_FOR_VALUE: usize = 120;
/// How many it takes besides.
const BYTES_BESIDES: usize = 1_024;

impl KnownRequests {
    /// None yet. They will take about `bytes_max` bytes at most.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, young: FxHashMap::default(), young_bytes: 0, old: FxHashMap::default() }
    }

    /// As [`parse`], which is spared where the body is known.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn parse(
        &mut self,
        dialect: Dialect,
        query: &[(String, String)],
        body: &[u8],
        (user, user_id): (UserNumber, &str),
        limits: &RequestLimits,
    ) -> Result<Request, RequestError> {
        match dialect {
            Dialect::Simplified => {
                let key = (user, digest(dialect, &[body]));
                let read = || simplified::parse_body(body, user_id, limits);
                simplified::with_query(self.known(key, bytes_of(body), read)?, query, limits)
            }
            Dialect::V4 => {
                let Some(v4::Cut { before, position, behind }) = v4::cut(body, limits) else {
                    return v4::parse(body, limits);
                };
                let key = (user, digest(dialect, &[before, behind]));
                let read = || v4::parse(body, limits);
                let request = self.known(key, bytes_of(body), read)?;
                Ok(Request { position: position.map(str::to_owned), ..request })
            }
            // There a body has little in it but what is new.
            Dialect::Msc3575 => parse(dialect, query, body, user_id, limits),
        }
    }

    /// The request with this key, else what `read` finds, which is remembered.
    fn known(
        &mut self,
        key: Key,
        bytes: usize,
        read: impl FnOnce() -> Result<Request, RequestError>,
    ) -> Result<Request, RequestError> {
        if let Some(known) = self.young.get(&key) {
            return Ok(known.clone());
        }
        let request = match self.old.remove(&key) {
            Some(known) => known,
            None => read()?,
        };
        self.remember(key, &request, bytes);
        Ok(request)
    }

    fn remember(&mut self, key: Key, request: &Request, bytes: usize) {
        let half = self.bytes_max / 2;
        if bytes > half {
            return;
        }
        if self.young_bytes + bytes > half {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(key, request.clone());
    }
}

/// A digest of the parts of a body in a dialect. No text has the byte that
/// separates them.
fn digest(dialect: Dialect, parts: &[&[u8]]) -> u128 {
    let mut digest = Xxh3::new();
    digest.update(&[dialect as u8]);
    for part in parts {
        digest.update(part);
        digest.update(&[0xff]);
    }
    digest.digest128()
}

/// About how many bytes of memory what is read of a body takes. Each value
/// begins behind one of these signs.
fn bytes_of(body: &[u8]) -> usize {
    let values = body.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    let bytes = body.len().saturating_mul(BYTES_FOR_EACH);
    bytes.max(values.saturating_mul(BYTES_FOR_VALUE)).saturating_add(BYTES_BESIDES)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const ME: (UserNumber, &str) = (UserNumber(1), "@me:x");

    fn body(name: &str) -> String {
        format!(
            r#"{{"conn_id":"{name}","lists":{{"a":{{"timeline_limit":1,"required_state":[["m.room.member","$ME"]]}}}}}}"#
        )
    }

    fn read(known: &mut KnownRequests, user: (UserNumber, &str), body: &str) -> Request {
        let limits = RequestLimits::default();
        known.parse(Dialect::Simplified, &[], body.as_bytes(), user, &limits).unwrap()
    }

    #[test]
    fn an_equal_body_is_read_once_and_its_query_each_time() {
        let mut known = KnownRequests::new(1 << 20);
        let (body, limits) = (body("c"), RequestLimits::default());
        for (position, timeout) in [("1_1", "7"), ("1_2", "8")] {
            let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            let query = [pair("pos", position), pair("timeout", timeout)];
            let read = known.parse(Dialect::Simplified, &query, body.as_bytes(), ME, &limits);
            let anew = parse(Dialect::Simplified, &query, body.as_bytes(), ME.1, &limits);
            let first = self::read(&mut known, ME, &body);
            assert!(Arc::ptr_eq(&read.as_ref().unwrap().lists, &first.lists));
            assert_eq!(read.unwrap(), anew.unwrap());
        }
    }

    #[test]
    fn another_body_or_user_is_another_request() {
        let mut known = KnownRequests::new(1 << 20);
        let mine = read(&mut known, ME, &body("c"));
        let theirs = read(&mut known, (UserNumber(2), "@you:x"), &body("c"));
        assert_ne!(mine.lists, theirs.lists, "each wants their own member event");
        assert_eq!(read(&mut known, ME, &body("d")).conn_id, "d");
        let broken = known.parse(Dialect::Simplified, &[], b"{", ME, &RequestLimits::default());
        assert!(broken.is_err());
    }

    /// Goal: a body that has its position in it is read once as well, whichever
    /// position it has, and means what it means when it is read anew.
    #[test]
    fn a_body_is_known_whatever_position_is_in_it() {
        let mut known = KnownRequests::new(1 << 20);
        let limits = RequestLimits::default();
        let rest = r#""conn_id":"c","timeout":5,"lists":{"a":{"timeline_limit":1,"required_state":{}}},"x":{"pos":"no"}"#;
        let bodies = [
            format!(r#"{{"pos":"1_1",{rest}}}"#),
            format!(r#"{{"pos":"1_23",{rest}}}"#),
            format!(r#"{{"pos":"",{rest}}}"#),
        ];
        let mut read = |body: &str| {
            let read = known.parse(Dialect::V4, &[], body.as_bytes(), ME, &limits);
            let anew = parse(Dialect::V4, &[], body.as_bytes(), ME.1, &limits);
            assert_eq!(read, anew, "{body}");
            read.map(|request| request.lists)
        };
        let first = read(&bodies[0]).unwrap();
        for body in &bodies {
            assert!(Arc::ptr_eq(&read(body).unwrap(), &first), "{body}");
        }
        let last = format!(r#"{{{rest},"pos":"1_1"}}"#);
        assert!(!Arc::ptr_eq(&read(&last).unwrap(), &first), "another text");
        // Whatever is unusual is read anew, with what is wrong.
        for unusual in [
            format!("{{{rest}}}"),
            format!(r#"{{"pos":null,{rest}}}"#),
            format!(r#"{{"pos":5,{rest}}}"#),
            format!(r#"{{"pos":"1_1","pos":"1_2",{rest}}}"#),
            format!(r#"{{"pos":"1_1","p\u006fs":"1_2",{rest}}}"#),
            format!(r#"{{"pos":"1_\u0031",{rest}}}"#),
            format!(r#"{{"pos":"1_1",{rest}}} {{}}"#),
            format!(r#"{{"pos":"1_1",{rest}"#),
            r#"["pos"]"#.to_owned(),
            String::new(),
        ] {
            let _ = read(&unusual);
            let _ = read(&unusual);
        }
    }

    /// Goal: what one dialect means by a body, another need not.
    #[test]
    fn a_body_is_known_in_its_dialect_alone() {
        let mut known = KnownRequests::new(1 << 20);
        let limits = RequestLimits::default();
        for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Simplified, Dialect::V4] {
            let body = br#"{"pos":"1_1","conn_id":"c"}"#;
            let read = known.parse(dialect, &[], body, ME, &limits).unwrap();
            assert_eq!(read.dialect, dialect);
        }
        let [one, other] = [Dialect::Simplified, Dialect::V4].map(|it| digest(it, &[b"{}"]));
        assert_ne!(one, other, "also where no dialect cuts the body");
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut known = KnownRequests::new(32 * 1_024);
        let kept = read(&mut known, ME, &body("kept"));
        for at in 0..200 {
            read(&mut known, ME, &body(&at.to_string()));
            let again = read(&mut known, ME, &body("kept"));
            assert!(Arc::ptr_eq(&kept.lists, &again.lists), "{at}");
            assert!(known.young_bytes <= 16 * 1_024);
            assert!(known.young.len() + known.old.len() <= 32, "{at}");
        }
        let long = "k".repeat(60);
        let wide: Vec<_> = (0..200).map(|at| format!(r#""{long}{at}":1"#)).collect();
        read(&mut known, ME, &format!("{{{}}}", wide.join(",")));
        assert!(known.young_bytes <= 16 * 1_024, "one that is too large is not kept");
    }
    /// Goal: a body of many short values is not taken for what its length says.
    #[test]
    fn many_short_values_count_for_what_they_take() {
        let mut known = KnownRequests::new(64 * 1_024);
        let pairs: Vec<_> = (0..100).map(|at| format!(r#"["{at}",""]"#)).collect();
        let state = pairs.join(",");
        let body =
            format!(r#"{{"lists":{{"a":{{"timeline_limit":1,"required_state":[{state}]}}}}}}"#);
        let first = read(&mut known, ME, &body);
        let again = read(&mut known, ME, &body);
        assert!(body.len() < 2_000 && !Arc::ptr_eq(&first.lists, &again.lists));
    }
}
