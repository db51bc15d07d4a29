//! Names to addresses, off the shard: `getaddrinfo` waits for as long as it likes.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use crate::{gate::Gate, helpers::Helpers};

/// How long an answer is believed.
pub const CACHE_MAX: Duration = Duration::from_mins(1);
/// Names remembered on a shard; beyond, all are forgotten.
pub const CACHE_NAMES_MAX: usize = 256;
/// Addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 8;
const LOOKUPS_WAITING_MAX: usize = 256;

/// The threads that look names up; cheap to clone, for every shard.
#[derive(Debug, Clone)]
pub struct Resolver(Helpers);

impl Resolver {
    /// Starts two threads, so that one slow name does not hold up every other.
    pub fn start() -> io::Result<Self> {
        Helpers::start("dns", 2, LOOKUPS_WAITING_MAX).map(Self)
    }
}

/// One shard's memory of names.
#[derive(Debug)]
pub(crate) struct Names {
    resolver: Resolver,
    /// One lookup at a time: a thousand requests that start together ask once.
    looking: Gate,
    known: RefCell<FxHashMap<(String, u16), Known>>,
}

#[derive(Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    since: Instant,
}

impl Names {
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self { resolver, looking: Gate::new(1), known: RefCell::default() }
    }

    /// The addresses of a name, in the system's order of preference. May be dropped at any time.
    pub(crate) async fn find(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        if let Some(addresses) = self.remember(host, port) {
            return Ok(addresses);
        }
        let _permit = self.looking.enter().await;
        if let Some(addresses) = self.remember(host, port) {
            return Ok(addresses);
        }
        let name = host.to_owned();
        let lookup = self
            .resolver
            .0
            .run(move || look_up(&name, port))
            .map_err(|refused| io::Error::other(refused.to_string()))?;
        let addresses = lookup.await.map_err(io::Error::other)??;
        let mut known = self.known.borrow_mut();
        if CACHE_NAMES_MAX <= known.len() {
            known.clear();
        }
        let entry = Known { addresses: addresses.clone(), since: Instant::now() };
        known.insert((host.to_owned(), port), entry);
        Ok(addresses)
    }

    /// Looks the name up anew next time: none of its addresses could be reached.
    pub(crate) fn forget(&self, host: &str, port: u16) {
        self.known.borrow_mut().remove(&(host.to_owned(), port));
    }

    fn remember(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let known = self.known.borrow();
        let entry = known.get(&(host.to_owned(), port))?;
        (entry.since.elapsed() < CACHE_MAX).then(|| entry.addresses.clone())
    }
}

fn look_up(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = (name, port).to_socket_addrs()?.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Driver;

    #[test]
    fn literal_addresses_need_no_lookup_and_names_are_remembered() {
        for driver in Driver::available() {
            let names = Names::new(Resolver::start().unwrap());
            driver
                .block_on(async {
                    let literal = names.find("::1", 80).await.unwrap();
                    assert_eq!(literal, ["[::1]:80".parse().unwrap()]);
                    assert!(names.known.borrow().is_empty());
                    let local = names.find("localhost", 80).await.unwrap();
                    assert!(local.iter().all(|address| address.ip().is_loopback()));
                    assert_eq!(names.remember("localhost", 80), Some(local));
                    names.forget("localhost", 80);
                    assert_eq!(names.remember("localhost", 80), None);
                })
                .unwrap();
        }
    }
}
