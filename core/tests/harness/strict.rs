//! Responses as the strictest client reads them: one malformed field stops it
//! for ever.

use ruma_client_api::sync::sync_events::v5::Response;
use ruma_common::api::IncomingResponse as _;

/// Reads a response body with ruma's own type.
///
/// # Panics
/// Where ruma refuses it.
pub(crate) fn strict(body: &str) -> Response {
    let response = http::Response::builder()
        .status(200)
        .header("content-type", "application/json")
        .body(body.as_bytes())
        .expect("a status and a header make a response");
    match Response::try_from_http_response(response) {
        Ok(response) => response,
        Err(error) => panic!("ruma refuses a response: {error}\n{body}"),
    }
}
