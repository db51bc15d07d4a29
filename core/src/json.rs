//! Writing JSON by splicing: what is already JSON is copied as it is.
//!
//! Parsing lives in [`crate::upstream`] and [`crate::dialect`]; nothing here
//! reads more of it than it takes to leave something out.

use std::fmt::Write as _;

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => push_display(out, format_args!("\\u{byte:04x}")),
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Appends what `value` displays as, unquoted.
pub fn push_display(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("writing into a string does not fail");
}

/// Appends a comma unless the container that `out` ends in was just opened.
pub fn push_comma(out: &mut String) {
    if !out.ends_with(['{', '[', ',', ':']) && !out.is_empty() {
        out.push(',');
    }
}

/// Appends `"key":`, with a comma before it where one is due. `key` needs no
/// escaping.
pub fn push_key(out: &mut String, key: &str) {
    push_comma(out);
    out.push('"');
    out.push_str(key);
    out.push_str("\":");
}

/// Appends a key that may need escaping.
pub fn push_free_key(out: &mut String, key: &str) {
    push_comma(out);
    push_string(out, key);
    out.push(':');
}

/// An event with `unsigned.transaction_id`, which is shown to its sender's
/// device alone. `json` is an object as [`crate::upstream`] leaves it.
pub fn with_transaction_id(json: &str, transaction_id: &str) -> String {
    let mut unsigned = String::from("\"transaction_id\":");
    push_string(&mut unsigned, transaction_id);
    let mut out = String::with_capacity(json.len() + unsigned.len() + 16);
    if let Some(open) = top_level_object(json, "unsigned") {
        out.push_str(&json[..open]);
        out.push_str(&unsigned);
        if !json[open..].trim_start().starts_with('}') {
            out.push(',');
        }
        out.push_str(&json[open..]);
    } else {
        let end = json.rfind('}').unwrap_or(json.len());
        out.push_str(json[..end].trim_end());
        push_comma(&mut out);
        out.push_str("\"unsigned\":{");
        out.push_str(&unsigned);
        out.push_str("}}");
    }
    out
}

/// What of an event is shown to who is not in its room: `type`, `state_key`,
/// `sender` and `content`, each as far as it is there.
pub fn stripped(json: &str) -> String {
    let members: std::collections::BTreeMap<&str, &serde_json::value::RawValue> =
        serde_json::from_str(json).unwrap_or_default();
    let mut out = String::from("{");
    for key in ["type", "state_key", "sender", "content"] {
        if let Some(value) = members.get(key) {
            push_key(&mut out, key);
            out.push_str(value.get());
        }
    }
    out.push('}');
    out
}

/// Where the object under the top-level `key` of the object `json` opens: the
/// offset behind its brace.
fn top_level_object(json: &str, key: &str) -> Option<usize> {
    let bytes = json.as_bytes();
    let (mut depth, mut at) = (0_u32, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let end = string_end(bytes, at)?;
                let is_key = depth == 1 && &json[at + 1..end] == key;
                let rest = json[end + 1..].trim_start();
                if let Some(value) = rest.strip_prefix(':').filter(|_| is_key) {
                    let value = value.trim_start();
                    return value.starts_with('{').then(|| json.len() - value.len() + 1);
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The offset of the quote that ends the string opening at `open`.
fn string_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_serde_does() {
        for text in ["", "plain", "q\"b\\n\nt\tr\r", "\u{1}\u{1f}é😀\u{7f}"] {
            let mut out = String::new();
            push_string(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn a_transaction_id_joins_what_unsigned_there_is() {
        for (json, expected) in [
            (r#"{"a":1}"#, r#"{"a":1,"unsigned":{"transaction_id":"t"}}"#),
            (r"{}", r#"{"unsigned":{"transaction_id":"t"}}"#),
            (r#"{"unsigned":{},"a":1}"#, r#"{"unsigned":{"transaction_id":"t"},"a":1}"#),
            (
                r#"{"content":{"unsigned":{"x":1}},"unsigned" : {"y":2}}"#,
                r#"{"content":{"unsigned":{"x":1}},"unsigned" : {"transaction_id":"t","y":2}}"#,
            ),
            (
                r#"{"k":"unsigned","n":"a\"{"}"#,
                r#"{"k":"unsigned","n":"a\"{","unsigned":{"transaction_id":"t"}}"#,
            ),
        ] {
            assert_eq!(with_transaction_id(json, "t"), expected);
        }
    }
}
