//! How many files this process may have open: each connection is one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What to do about too low a limit, to be told to people.
pub const REMEDY: &str = "raise the hard limit on open files (LimitNOFILE in systemd, --ulimit nofile \
                          of containers, ulimit -Hn elsewhere)";

/// Lets this process, and those that it starts, have as many open files as the system allows
/// (the hard limit), and says how many these are.
///
/// Shells and systemd set the soft limit to 1,024, for the sake of programs that use `select`, which
/// nothing here does.
pub fn raise_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let allowed = limit.current;
    limit.current = limit.maximum;
    let current = if setrlimit(Resource::Nofile, limit).is_ok() { limit.maximum } else { allowed };
    current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limit_becomes_the_hard_one() {
        let mut limit = getrlimit(Resource::Nofile);
        let hard = limit.maximum.unwrap_or(u64::MAX);
        // Tests of the same process go on meanwhile: they need fewer.
        limit.current = Some((hard - 1).min(1 << 16));
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(raise_limit(), hard);
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), hard);
    }
}
