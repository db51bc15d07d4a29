//! What is wrong with a request, as Matrix says it.

/// A request that is refused. Displays as the `error` of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// The JSON does not have the right shape.
    #[error("{place} {problem}")]
    BadJson {
        /// Where, such as `lists.all.ranges`.
        place: String,
        /// What.
        problem: String,
    },
    /// A value is of the right type and out of its domain.
    #[error("{place} {problem}")]
    InvalidParam {
        /// Where.
        place: String,
        /// What.
        problem: String,
    },
    /// A required key is absent.
    #[error("{0} is missing")]
    MissingParam(String),
}

impl RequestError {
    /// The Matrix error code; the HTTP status is always 400.
    pub fn errcode(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "M_NOT_JSON",
            Self::BadJson { .. } => "M_BAD_JSON",
            Self::InvalidParam { .. } => "M_INVALID_PARAM",
            Self::MissingParam(_) => "M_MISSING_PARAM",
        }
    }

    pub(crate) fn bad(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::BadJson { place: place.into(), problem: problem.into() }
    }

    pub(crate) fn invalid(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidParam { place: place.into(), problem: problem.into() }
    }
}
