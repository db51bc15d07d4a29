//! Positions of Luge's in requests that page through a room: `pos` may be brought there as `from` or
//! `to` (MSC4186), and the homeserver does not know it.
//!
//! It is taken out, and not exchanged: what the homeserver then begins or ends with is the end of
//! the room, which leaves no hole whatever the client holds, where any token that the device has
//! been given may lie on the wrong side of it. What overlaps with it the client knows by its id.

use http::Uri;
use luge_core::connection::is_position;

use super::route::decode_query;

/// The request without positions of Luge's; `None` where it has none.
pub(super) fn without_positions(asked: &Uri) -> Option<Uri> {
    let query = asked.query()?;
    let is_ours = |pair: &&str| {
        pair.split_once('=').is_some_and(|(name, value)| {
            matches!(name, "from" | "to") && is_position(&decode_query(value))
        })
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_ours(pair)).collect();
    if kept.len() == query.split('&').count() {
        return None;
    }
    let mut path_and_query = asked.path().to_owned();
    if !kept.is_empty() {
        path_and_query = format!("{path_and_query}?{}", kept.join("&"));
    }
    let mut parts = asked.clone().into_parts();
    parts.path_and_query = Some(path_and_query.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "1887436800000000001_1887436800000000002";

    #[test]
    fn positions_are_taken_out_and_all_else_stays_as_it_was_written() {
        for (query, expected) in [
            (format!("from={OURS}&dir=b"), Some("/x?dir=b")),
            (
                format!("dir=b&from=t1%2D2&to={OURS}&filter=%7B+%7D"),
                Some("/x?dir=b&from=t1%2D2&filter=%7B+%7D"),
            ),
            (format!("from={OURS}&to=0_12_1_0123456789abcdef"), Some("/x")),
            (format!("from={}", OURS.replace('_', "%5F")), Some("/x")),
            ("from=s12_3&to=t1-2_3&dir=f".to_owned(), None),
            (format!("since={OURS}&from=&to"), None),
            (String::new(), None),
        ] {
            let asked: Uri = format!("/x?{query}").parse().unwrap();
            let passed = without_positions(&asked).map(|uri| uri.to_string());
            assert_eq!(passed.as_deref(), expected, "{query}");
        }
    }
}
