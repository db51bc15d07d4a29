//! The edges: a dialect's request into [`crate::request::Request`], the
//! [`crate::response::Response`] into the dialect's JSON. No rule of the
//! protocol is written here that is not about the wire.

mod error;
pub mod simplified;

pub use error::RequestError;

/// Limits on what a request may ask. Requests beyond them are refused with an
/// error that names the limit, except where a field says that it is capped.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Lists in a request.
    pub lists_max: usize,
    /// Ranges of a list; those beyond are ignored.
    pub ranges_max: usize,
    /// Subscriptions in a request; those beyond are ignored.
    pub subscriptions_max: usize,
    /// Bytes of a list's key.
    pub list_key_bytes_max: usize,
    /// Bytes of a `conn_id`.
    pub conn_id_bytes_max: usize,
    /// `timeline_limit` is capped at this.
    pub timeline_limit_cap: u64,
    /// A `timeline_limit` above this is refused.
    pub timeline_limit_max: u64,
    /// Pairs in one `required_state`.
    pub required_state_max: usize,
    /// `timeout` is capped at this, in milliseconds.
    pub timeout_ms_cap: u64,
    /// Depth of a body's JSON.
    pub depth_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            lists_max: 100,
            ranges_max: 16,
            subscriptions_max: 1_000,
            list_key_bytes_max: 64,
            conn_id_bytes_max: 64,
            timeline_limit_cap: 100,
            timeline_limit_max: 1_000,
            required_state_max: 500,
            timeout_ms_cap: 300_000,
            depth_max: 64,
        }
    }
}
