//! The form of Matrix identifiers, as strict clients check it.
//!
//! A client's parser refuses a whole response for one identifier of the wrong
//! form, so nothing of another form comes past here.

use std::net::Ipv6Addr;

/// `!` and at least one further byte, without NUL.
pub(crate) fn is_room_id(text: &str) -> bool {
    text.len() > 1 && text.starts_with('!') && !text.contains('\0')
}

/// `$` and at least one further byte, without NUL; where there is a colon, a
/// server name follows it.
pub(crate) fn is_event_id(text: &str) -> bool {
    let server_is_fine = text.split_once(':').is_none_or(|(_, server)| is_server_name(server));
    text.len() > 1 && text.starts_with('$') && !text.contains('\0') && server_is_fine
}

/// `@`, a local part that may be anything historical, a colon, a server name.
pub(crate) fn is_user_id(text: &str) -> bool {
    let parts = text.strip_prefix('@').and_then(|rest| rest.split_once(':'));
    parts.is_some_and(|(local, server)| !local.contains('\0') && is_server_name(server))
}

/// A host name, an IPv4 address or a bracketed IPv6 address, and perhaps a port.
fn is_server_name(text: &str) -> bool {
    let (host_is_fine, rest) = if let Some(bracketed) = text.strip_prefix('[') {
        let Some((address, rest)) = bracketed.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), rest)
    } else {
        let host_length = text.find(':').unwrap_or(text.len());
        let (host, rest) = text.split_at(host_length);
        let in_hosts = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        (!host.is_empty() && host.bytes().all(in_hosts), rest)
    };
    let port_is_fine = rest.is_empty()
        || rest.strip_prefix(':').is_some_and(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
    host_is_fine && port_is_fine
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each form is told from what only resembles it.
    #[test]
    fn identifiers_of_the_right_form_pass_and_others_do_not() {
        for user_id in ["@a:b", "@:b", "@a b@é:b.example:8448", "@a:[::1]:80", "@a:1.2.3.4"] {
            assert!(is_user_id(user_id), "{user_id}");
        }
        for user_id in [
            "",
            "@",
            "a:b",
            "@a",
            "@a:",
            "@a::1",
            "@a:b c",
            "@a:b:x",
            "@a:b:65536",
            "@a:[::1",
            "@\0:b",
        ] {
            assert!(!is_user_id(user_id), "{user_id}");
        }
        assert!(is_event_id("$abc") && is_event_id("$abc:example.org"));
        assert!(!is_event_id("$") && !is_event_id("abc") && !is_event_id("$abc:"));
        assert!(
            is_room_id("!abc:example.org")
                && is_room_id("!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM")
        );
        assert!(!is_room_id("!") && !is_room_id("#a:b") && !is_room_id("!a\0"));
    }
}
