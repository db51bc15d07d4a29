//! The access token that a request brings. It shows itself to nobody (INV-10).

use std::{fmt, ops::Deref};

use http::{header, request::Parts};

use super::route::decode_query;

/// An access token.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    pub(super) fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token itself, to be used and never to be shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for AccessToken {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("AccessToken")
    }
}

/// The token of a request: `Authorization: Bearer`, else the `access_token` of the query.
pub fn access_token(head: &Parts) -> Option<AccessToken> {
    from_header(head).or_else(|| from_query(head.uri.query()?)).map(AccessToken)
}

fn from_header(head: &Parts) -> Option<String> {
    let value = head.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

fn from_query(query: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let token = pairs.find(|(name, _)| *name == "access_token").map(|(_, value)| value)?;
    Some(decode_query(token)).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn token_of(uri: &str, authorization: Option<&str>) -> Option<String> {
        let mut request = Request::get(uri);
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        access_token(&head).map(|token| token.as_str().to_owned())
    }

    #[test]
    fn header_goes_before_query_and_neither_gives_none() {
        assert_eq!(token_of("/a", Some("Bearer one")).as_deref(), Some("one"));
        assert_eq!(token_of("/a", Some("bearer  one ")).as_deref(), Some("one"));
        assert_eq!(token_of("/a?access_token=two", Some("Bearer one")).as_deref(), Some("one"));
        assert_eq!(token_of("/a?b=c&access_token=t%2Bo", None).as_deref(), Some("t+o"));
        assert_eq!(token_of("/a?access_token=", Some("Basic abc")), None);
        assert_eq!(token_of("/a", None), None);
    }

    #[test]
    fn token_does_not_show_itself() {
        assert!(!format!("{:?}", AccessToken::new("secret")).contains("secret"));
    }
}
