//! Which of the requests that are passed on deserve a second look.

use http::Method;

/// What a request is about, as far as front mode cares. Each goes to the homeserver all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `GET /_matrix/client/versions`
    Versions,
    /// `GET /.well-known/matrix/client`
    WellKnown,
    /// `POST …/login` and `…/register`
    Login,
    /// `GET …/sync`
    ClassicSync,
    /// `POST …/logout`
    Logout,
    /// `POST …/logout/all`
    LogoutEverywhere,
    /// `DELETE …/devices/{id}`
    DeleteDevice(String),
    /// `POST …/delete_devices`
    DeleteDevices,
    /// `POST …/account/password`
    ChangePassword,
    /// `POST …/account/deactivate`
    CloseAccount,
    /// `POST …/keys/upload`
    UploadKeys,
    /// `POST …/refresh`
    Refresh,
    /// `POST …/rooms/{id}/forget`
    Forget(String),
    /// A membership changes, or a room comes to be.
    Membership,
    /// `GET …/rooms/{id}/messages` and `…/rooms/{id}/relations/{event}`
    Paging,
    /// Everything else.
    Other,
}

impl Route {
    /// Recognizes a request by its method and its path, which is still percent-encoded.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let segments: Vec<String> = path.split('/').skip(1).map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            [".well-known", "matrix", "client"] if method == Method::GET => Self::WellKnown,
            ["_matrix", "client", "versions"] if method == Method::GET => Self::Versions,
            ["_matrix", "client", "api", "v1", rest @ ..] => Self::of_endpoint(method, rest),
            ["_matrix", "client", version, rest @ ..] if is_version(version) => {
                Self::of_endpoint(method, rest)
            }
            _ => Self::Other,
        }
    }

    fn of_endpoint(method: &Method, endpoint: &[&str]) -> Self {
        match (method.as_str(), endpoint) {
            ("GET", ["sync"]) => Self::ClassicSync,
            ("GET", ["rooms", _, "messages"] | ["rooms", _, "relations", _, ..]) => Self::Paging,
            ("DELETE", ["devices", device]) => Self::DeleteDevice((*device).to_owned()),
            ("POST", endpoint) => Self::of_post(endpoint),
            _ => Self::Other,
        }
    }

    fn of_post(endpoint: &[&str]) -> Self {
        match endpoint {
            ["login" | "register"] => Self::Login,
            ["logout"] => Self::Logout,
            ["logout", "all"] => Self::LogoutEverywhere,
            ["delete_devices"] => Self::DeleteDevices,
            ["account", "password"] => Self::ChangePassword,
            ["account", "deactivate"] => Self::CloseAccount,
            // Old clients name their device in the path.
            ["keys", "upload"] | ["keys", "upload", _] => Self::UploadKeys,
            ["refresh"] => Self::Refresh,
            ["rooms", room, "forget"] => Self::Forget((*room).to_owned()),
            [
                "rooms",
                _,
                "join" | "leave" | "knock" | "invite" | "kick" | "ban" | "unban" | "upgrade",
            ]
            | ["join" | "knock", _]
            | ["createRoom"] => Self::Membership,
            _ => Self::Other,
        }
    }

    /// Whether the answer tells clients where this server is.
    pub(super) fn names_us(&self) -> bool {
        matches!(self, Self::WellKnown | Self::Login)
    }

    /// Whether answers are read before they are passed back.
    pub(super) fn looks_into_answers(&self) -> bool {
        self.names_us() || matches!(self, Self::Versions | Self::UploadKeys | Self::Refresh)
    }

    /// Whether requests are read before they are passed on.
    pub(super) fn looks_into_requests(&self) -> bool {
        matches!(self, Self::DeleteDevices | Self::ChangePassword)
    }

    /// Whether an answer is edited that clients and caches may keep, and ask for again on a
    /// condition that speaks of what the homeserver sent.
    pub(super) fn edits_cacheable(&self) -> bool {
        matches!(self, Self::Versions | Self::WellKnown)
    }
}

fn is_version(segment: &str) -> bool {
    let digits = segment.strip_prefix(['v', 'r']).unwrap_or_default();
    segment == "unstable"
        || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A segment of a path, decoded; what is not an escape stays as it is.
fn decode(segment: &str) -> String {
    if !segment.contains('%') {
        return segment.to_owned();
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = if first == b'%' { escape(after) } else { None };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A value of a query, decoded: there a plus is a space.
pub(super) fn decode_query(value: &str) -> String {
    decode(&value.replace('+', "%20"))
}

fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| (*digits.get(at)? as char).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &'static str, path: &str) -> Route {
        Route::of(&method.parse().unwrap(), path)
    }

    #[test]
    fn endpoints_are_recognized_in_every_version_and_encoding() {
        let room = Route::Forget("!a/b:c".to_owned());
        for (method, path, route) in [
            ("GET", "/_matrix/client/versions", Route::Versions),
            ("GET", "/.well-known/matrix/client", Route::WellKnown),
            ("POST", "/_matrix/client/r0/login", Route::Login),
            ("POST", "/_matrix/client/api/v1/login", Route::Login),
            ("POST", "/_matrix/client/v3/%6Cogin", Route::Login),
            ("POST", "/_matrix/client/unstable/register", Route::Login),
            ("GET", "/_matrix/client/v3/sync", Route::ClassicSync),
            ("POST", "/_matrix/client/v3/logout/all", Route::LogoutEverywhere),
            ("DELETE", "/_matrix/client/v3/devices/a%20b", Route::DeleteDevice("a b".to_owned())),
            ("POST", "/_matrix/client/v3/keys/upload/DEVICE", Route::UploadKeys),
            ("POST", "/_matrix/client/v3/rooms/!a%2Fb%3Ac/forget", room),
            ("POST", "/_matrix/client/v3/join/%23alias:server", Route::Membership),
            ("POST", "/_matrix/client/v1/refresh", Route::Refresh),
            ("GET", "/_matrix/client/v3/rooms/!a:b/messages", Route::Paging),
            ("GET", "/_matrix/client/v1/rooms/!a:b/relations/$e/m.thread", Route::Paging),
        ] {
            assert_eq!(of(method, path), route, "{method} {path}");
        }
    }

    #[test]
    fn neighbours_of_an_endpoint_are_something_else() {
        for (method, path) in [
            ("GET", "/_matrix/client/v3/login"),
            ("HEAD", "/_matrix/client/versions"),
            ("POST", "/_matrix/client/versions"),
            ("POST", "/_matrix/client/v3/login/get_token"),
            ("GET", "/_matrix/client/v3/devices/A"),
            ("POST", "/_matrix/client/vx/login"),
            ("GET", "/_matrix/client/v1/rooms/!a:b/relations"),
            ("GET", "/_matrix/client/v3/rooms/!a:b/messages/$e"),
            ("POST", "/_matrix/federation/v1/login"),
            ("POST", "/_synapse/client/v3/login"),
            ("POST", ""),
            ("OPTIONS", "*"),
        ] {
            assert_eq!(of(method, path), Route::Other, "{method} {path}");
        }
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("%C3%A4"), "ä");
        assert_eq!(decode("%FF"), "\u{fffd}");
        assert_eq!(decode_query("a+b%2B"), "a b+");
    }
}
