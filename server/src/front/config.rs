//! Where the homeserver is, and what front mode may spend on a request.

use std::{fmt, str::FromStr, time::Duration};

use http::{
    HeaderValue, Uri,
    uri::{Authority, Scheme},
};
use luge_io::http::Timeouts;

use super::path_of;

/// How requests are passed on, and the limits of it.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Where requests go to.
    pub homeserver: Homeserver,
    /// What clients reach this server by; without it, what each of them asked with.
    pub public_url: Option<String>,
    /// Answers that have to be edited or looked at pass as they are beyond this. Default: 1 MiB.
    pub buffered_answer_bytes_max: usize,
    /// Requests up to this are read before they are sent, so that they can be sent again when a
    /// kept connection turns out to be closed. Default: 64 KiB.
    pub buffered_request_bytes_max: usize,
    /// Patience with the homeserver, which has its own limits: some requests, such as joining a
    /// large room elsewhere, take minutes. Default: 10 minutes for the head, 2 minutes between two
    /// pieces of a body.
    pub timeouts: Timeouts,
    /// A WebSocket on which nothing passes for so long is closed. Default: 1 hour.
    pub upgrade_idle_max: Duration,
}

impl FrontConfig {
    /// All defaults, for the homeserver at this base URL, and for clients that reach this server by
    /// that one.
    pub fn new(homeserver: &str, public_url: Option<&str>) -> Result<Self, UrlError> {
        Ok(Self {
            homeserver: homeserver.parse()?,
            public_url: public_url.map(parse_public_url).transpose()?,
            buffered_answer_bytes_max: 1 << 20,
            buffered_request_bytes_max: 64 << 10,
            timeouts: Timeouts {
                header: Duration::from_mins(10),
                body_chunk: Duration::from_mins(2),
            },
            upgrade_idle_max: Duration::from_hours(1),
        })
    }
}

/// The homeserver's base URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homeserver {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    /// Without a slash at its end; mostly empty.
    path: String,
}

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Nothing that can be made sense of.
    #[error("this is not a URL; give one such as http://127.0.0.1:8008")]
    Malformed,
    /// `matrix.example.org`, `localhost:8008`, `ftp://…`.
    #[error("the URL must start with http:// or https://; did you mean http://{0}?")]
    Scheme(String),
    /// `http://user:password@…`.
    #[error("the URL must not hold a user name or a password; give scheme, host and port")]
    User,
    /// `?…`.
    #[error("the URL must not hold a query; give scheme, host and port")]
    Query,
    /// `http://host/_matrix/…`.
    #[error("give the base URL, without /_matrix and what follows")]
    Matrix,
}

impl FromStr for Homeserver {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let lower = text.to_ascii_lowercase();
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            return Err(UrlError::Scheme(bare.to_owned()));
        }
        if text.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let parts = text.parse::<Uri>().map_err(|_| UrlError::Malformed)?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(UrlError::Malformed);
        };
        if authority.as_str().contains('@') {
            return Err(UrlError::User);
        }
        if authority.host().is_empty() || port_is_wrong(&authority) {
            return Err(UrlError::Malformed);
        }
        let path = parts.path_and_query.map_or(String::new(), |path| path.as_str().to_owned());
        let path = path.trim_end_matches('/').to_owned();
        if path.split('/').any(|segment| segment == "_matrix") {
            return Err(UrlError::Matrix);
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| UrlError::Malformed)?;
        Ok(Self { scheme, authority, host, path })
    }
}

/// `host:99999` and `host:` are accepted as authorities, and mean nothing.
fn port_is_wrong(authority: &Authority) -> bool {
    let after_host = authority.as_str().rsplit(']').next().unwrap_or_default();
    after_host.contains(':') && authority.port_u16().is_none_or(|port| port == 0)
}

impl fmt::Display for Homeserver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

impl Homeserver {
    /// The value of `Host` for it.
    pub fn authority(&self) -> &HeaderValue {
        &self.host
    }

    /// The address of what `asked` asks for; its path and query stay as they were written.
    pub(super) fn uri_for(&self, asked: &Uri) -> Option<Uri> {
        let path = format!("{}{}", self.path, path_of(asked)?);
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .ok()
    }
}

/// Checks a URL that clients are to be told, and takes a slash at its end away.
pub fn parse_public_url(text: &str) -> Result<String, UrlError> {
    text.parse::<Homeserver>().map(|url| url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(base: &str, asked: &'static str) -> String {
        let base: Homeserver = base.parse().unwrap();
        base.uri_for(&Uri::from_static(asked)).unwrap().to_string()
    }

    #[test]
    fn path_and_query_stay_as_they_were_written() {
        let asked = "/_matrix/client/v3/rooms/%21a%2Fb:c/x?from=%7B&dir=b&e=";
        assert_eq!(passed("http://h:8008", asked), format!("http://h:8008{asked}"));
        assert_eq!(passed("https://h/base/", "/x"), "https://h/base/x");
        assert_eq!(passed("http://[::1]:8008", "//x//"), "http://[::1]:8008//x//");
        let base: Homeserver = "http://h".parse().unwrap();
        assert_eq!(base.uri_for(&Uri::from_static("*")), None);
    }

    #[test]
    fn wrong_url_is_refused_with_what_to_do() {
        for (text, problem) in [
            ("matrix.example.org", UrlError::Scheme("matrix.example.org".to_owned())),
            ("localhost:8008", UrlError::Scheme("localhost:8008".to_owned())),
            ("ftp://h", UrlError::Scheme("h".to_owned())),
            ("http://", UrlError::Malformed),
            ("http://h:99999", UrlError::Malformed),
            ("http://a b", UrlError::Malformed),
            ("http://u:p@h", UrlError::User),
            ("http://h/?a=b", UrlError::Query),
            ("http://h/_matrix/client", UrlError::Matrix),
        ] {
            assert_eq!(text.parse::<Homeserver>(), Err(problem), "{text}");
        }
    }

    #[test]
    fn public_url_loses_the_slash_at_its_end() {
        assert_eq!(
            parse_public_url("https://m.example.org/").as_deref(),
            Ok("https://m.example.org")
        );
        assert_eq!(parse_public_url("https://e.org/m/").as_deref(), Ok("https://e.org/m"));
    }
}
