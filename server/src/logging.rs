//! Where the log goes, and what of it: lines for people, on stderr.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// The variable that says what to log where the command line does not.
pub const VARIABLE: &str = "LUGE_LOG";

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter makes no sense.
    #[error(
        "cannot understand the log filter {filter:?}; use error, warn, info, debug or trace, or \
         more than one for parts, such as info,luge_server=debug"
    )]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is one already.
    #[error("the log was set up before")]
    Again(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts logging: by the filter given, else by `LUGE_LOG`, else by `default`. Once in a process.
pub fn start(filter: Option<&str>, default: &str) -> Result<(), LogError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let variable = std::env::var(VARIABLE).ok().filter(|filter| !filter.trim().is_empty());
    let filter = filter.map(str::to_owned).or(variable).unwrap_or_else(|| default.to_owned());
    let parsed = parse(&filter)?;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .finish()
        .try_init()
        .map_err(LogError::Again)
}

/// Checks a filter.
pub fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_that_makes_no_sense_is_refused_with_what_does() {
        assert!(parse("info,luge_server=debug").is_ok());
        let refused = parse("luge_server=loud").unwrap_err().to_string();
        assert!(refused.contains("luge_server=loud") && refused.contains("trace"), "{refused}");
    }
}
