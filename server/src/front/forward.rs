//! Headers on their way through: what concerns one connection only stays behind (RFC 9110, 7.6.1),
//! what tells who is in the way is added.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, header,
    request::Parts,
    uri::{Authority, Scheme},
};
use luge_io::http::headers::{is_upgrade, strip_hop_by_hop};

use super::FrontConfig;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How a request's body is told from what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// By its size.
    Sized(u64),
    /// By its last chunk.
    Chunked,
}

impl Framing {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Self::Chunked;
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        // hyper has refused what is no length at all; of equal ones in a list, one is enough.
        match length.map(|length| length.split(',').next().unwrap_or_default().trim().parse()) {
            None | Some(Ok(0)) => Self::None,
            Some(Ok(size)) => Self::Sized(size),
            Some(Err(_)) => Self::Chunked,
        }
    }
}

/// Whether a request wants to go on as a WebSocket. Other upgrades are not passed on: the
/// homeserver then answers in HTTP/1.1, as it may.
pub(super) fn wants_websocket(headers: &HeaderMap) -> bool {
    let protocols = headers.get_all(header::UPGRADE).iter();
    is_upgrade(headers)
        && protocols
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// Makes the headers of a client's request those of a request to the homeserver.
pub(super) fn prepare_request(
    head: &mut Parts,
    peer: SocketAddr,
    authority: &HeaderValue,
    websocket: bool,
) {
    let asked_host = host_asked(head);
    let headers = &mut head.headers;
    clean_answer(headers);
    if websocket {
        grant_websocket(headers);
    }
    // The client is told to continue once its body is wanted; nobody else waits for that.
    headers.remove(header::EXPECT);
    append_forwarded_for(headers, peer);
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = asked_host {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    headers.insert(header::HOST, authority.clone());
}

fn append_forwarded_for(headers: &mut HeaderMap, peer: SocketAddr) {
    let peer = peer.ip().to_canonical().to_string();
    let mut all: Vec<&[u8]> =
        headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    all.push(peer.as_bytes());
    // Joined from values that were valid, with what is valid between them.
    if let Ok(value) = HeaderValue::from_bytes(&all.join(&b", "[..])) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// Removes what concerned the connection that the message came by.
pub(super) fn clean_answer(headers: &mut HeaderMap) {
    // Beside chunks, a length is at best wrong and at worst an attack.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
}

/// The same for an answer that grants an upgrade.
pub(super) fn clean_upgrade(headers: &mut HeaderMap) {
    let protocol = headers.get(header::UPGRADE).cloned();
    clean_answer(headers);
    grant_websocket(headers);
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
    }
}

fn grant_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Takes the conditions off a request whose answer will be edited: they speak of an answer that the
/// client may have kept from before, unedited.
pub(super) fn make_unconditional(headers: &mut HeaderMap) {
    for name in [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::RANGE,
    ] {
        headers.remove(name);
    }
}

/// Makes the headers those of the edited body.
pub(super) fn describe_edited(headers: &mut HeaderMap, size: usize) {
    for name in [header::ETAG, header::LAST_MODIFIED, header::ACCEPT_RANGES] {
        headers.remove(name);
    }
    for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(name);
    }
    headers.remove(header::CONTENT_ENCODING);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
}

/// Features may differ by user: what one was told is not for the next.
pub(super) fn restrict_caching(headers: &mut HeaderMap, authenticated: bool) {
    if authenticated {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let named = headers
        .get_all(header::VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| {
            matches!(name.trim(), "*") || name.trim().eq_ignore_ascii_case("authorization")
        });
    if !named {
        headers.append(header::VARY, HeaderValue::from_static("Authorization"));
    }
}

/// What the client reaches this server by: as configured, else as it asked.
pub(super) fn public_url(config: &FrontConfig, head: &Parts) -> Option<String> {
    if let Some(url) = &config.public_url {
        return Some(url.clone());
    }
    let host: Authority = host_asked(head)?.to_str().ok()?.parse().ok()?;
    if host.as_str().contains('@') {
        return None;
    }
    let proto = head.headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok());
    let first = proto.unwrap_or_default().split(',').next().unwrap_or_default().trim();
    let secure = first.eq_ignore_ascii_case("https");
    let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    Some(format!("{scheme}://{host}"))
}

fn host_asked(head: &Parts) -> Option<HeaderValue> {
    let named = head.headers.get(header::HOST).cloned();
    named.or_else(|| HeaderValue::from_str(head.uri.authority()?.as_str()).ok())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn prepared(headers: &[(&str, &str)], websocket: bool) -> HeaderMap {
        let mut head = head(headers);
        let peer = "[::ffff:192.0.2.7]:1234".parse().unwrap();
        let authority = HeaderValue::from_static("hs:8008");
        prepare_request(&mut head, peer, &authority, websocket);
        head.headers
    }

    #[test]
    fn request_names_the_homeserver_and_whom_it_came_from() {
        let headers = prepared(&[("host", "m.example.org"), ("te", "trailers")], false);
        assert_eq!(headers["host"], "hs:8008");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "m.example.org");
        assert!(!headers.contains_key("te"));
        let headers = prepared(
            &[
                ("host", "inner"),
                ("x-forwarded-for", "203.0.113.1"),
                ("x-forwarded-for", "198.51.100.2"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "outer"),
            ],
            false,
        );
        assert_eq!(headers["x-forwarded-for"], "203.0.113.1, 198.51.100.2, 192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "outer");
    }

    #[test]
    fn only_websockets_are_upgraded() {
        let asked = [("connection", "Upgrade"), ("upgrade", "h2c")];
        assert!(!wants_websocket(&head(&asked).headers));
        let asked = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        assert!(wants_websocket(&head(&asked).headers));
        let headers = prepared(&asked, true);
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"),)
        );
    }

    #[test]
    fn length_beside_chunks_does_not_pass() {
        let asked = [("transfer-encoding", "chunked"), ("content-length", "5")];
        assert_eq!(Framing::of(&head(&asked).headers), Framing::Chunked);
        let headers = prepared(&asked, false);
        assert!(!headers.contains_key("content-length"));
        assert_eq!(Framing::of(&head(&[("content-length", "5")]).headers), Framing::Sized(5));
        assert_eq!(Framing::of(&head(&[("content-length", "0")]).headers), Framing::None);
        assert_eq!(Framing::of(&head(&[]).headers), Framing::None);
    }

    #[test]
    fn public_url_is_the_configured_one_or_as_the_client_asked() {
        let mut config = FrontConfig::new("http://hs", None).unwrap();
        let url = |config: &FrontConfig, headers: &[_]| public_url(config, &head(headers));
        assert_eq!(url(&config, &[("host", "h:81")]).as_deref(), Some("http://h:81"));
        let asked = [("host", "h"), ("x-forwarded-proto", "https, http")];
        assert_eq!(url(&config, &asked).as_deref(), Some("https://h"));
        let odd = [("host", "h"), ("x-forwarded-proto", "javascript")];
        assert_eq!(url(&config, &odd).as_deref(), Some("http://h"));
        for host in ["a@b", "a b", "h/path"] {
            assert_eq!(url(&config, &[("host", host)]), None, "{host}");
        }
        assert_eq!(url(&config, &[]), None);
        config.public_url = Some("https://m.example.org".to_owned());
        let told = url(&config, &[("host", "h")]);
        assert_eq!(told.as_deref(), Some("https://m.example.org"));
    }

    #[test]
    fn vary_names_authorization_once() {
        let mut headers = HeaderMap::new();
        headers.insert("vary", HeaderValue::from_static("Origin"));
        headers.insert("cache-control", HeaderValue::from_static("public, max-age=600"));
        restrict_caching(&mut headers, false);
        restrict_caching(&mut headers, false);
        assert_eq!(headers.get_all("vary").iter().count(), 2);
        assert_eq!(headers["cache-control"], "public, max-age=600");
        restrict_caching(&mut headers, true);
        assert_eq!(headers["cache-control"], "no-store");
    }
}
