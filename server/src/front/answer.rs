//! Answers of Luge's own.

use std::io;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use luge_io::http::{Body, ClientError};

/// Lets scripts of any origin read the answer, as a homeserver does: clients in browsers depend on
/// it even when something went wrong.
pub fn cors(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "X-Requested-With, Content-Type, Authorization, Date",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// An error as Matrix has them.
pub fn error(status: StatusCode, errcode: &str, error: &str) -> Response<Body> {
    let body = serde_json::json!({ "errcode": errcode, "error": error }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    cors(response.headers_mut());
    response
}

/// What a client hears when the homeserver gave no answer. Where the homeserver is, and what the
/// system said of it, is the operator's business and stays in the log.
pub(super) fn gateway_error(problem: &ClientError) -> Response<Body> {
    let late = match problem {
        ClientError::HeaderTimeout | ClientError::BodyTimeout => true,
        ClientError::Connect { source, .. } => source.kind() == io::ErrorKind::TimedOut,
        _ => false,
    };
    if late {
        let message = "the homeserver did not answer in time; try again later";
        return error(StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN", message);
    }
    let message = match problem {
        ClientError::Exhausted { .. } => {
            "too many requests are being passed to the homeserver; try again later"
        }
        ClientError::Connect { .. } | ClientError::Tls { .. } => {
            "the homeserver cannot be reached; try again later"
        }
        _ => "the connection to the homeserver broke; try again",
    };
    error(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_homeserver_is_504_and_a_lost_one_502() {
        let connect = |kind| ClientError::Connect {
            host: "synapse.internal".to_owned(),
            source: io::Error::from(kind),
        };
        for (problem, status) in [
            (ClientError::HeaderTimeout, StatusCode::GATEWAY_TIMEOUT),
            (connect(io::ErrorKind::TimedOut), StatusCode::GATEWAY_TIMEOUT),
            (connect(io::ErrorKind::ConnectionRefused), StatusCode::BAD_GATEWAY),
            (ClientError::Exhausted { max: 1 }, StatusCode::BAD_GATEWAY),
        ] {
            let response = gateway_error(&problem);
            assert_eq!(response.status(), status, "{problem}");
            assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        }
    }
}
