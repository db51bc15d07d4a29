//! Sockets that listen on one port, one for each shard: the kernel spreads connections over them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds for each shard before it accepts them.
pub const BACKLOG_DEFAULT: i32 = 1024;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; is another process listening there, or the port privileged?")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// A socket that listens; it goes to the shard that will accept from it.
#[derive(Debug)]
pub struct BoundSocket {
    socket: TcpListener,
    address: SocketAddr,
}

impl BoundSocket {
    /// Where it listens, with the port that was really chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn listen(self) -> io::Result<monoio::net::TcpListener> {
        // io_uring waits in the kernel, and would return at once from a socket that must not block.
        self.socket.set_nonblocking(monoio::utils::is_legacy())?;
        monoio::net::TcpListener::from_std(self.socket)
    }
}

/// Binds `count` sockets to one address before any shard starts: all of them, or none. With port 0
/// the first decides on the port. Connections wait in the sockets until the shards accept them.
pub fn bind(address: SocketAddr, count: usize) -> Result<Vec<BoundSocket>, BindError> {
    let mut address = address;
    if address.port() != 0 {
        refuse_if_taken(address).map_err(|source| BindError { address, source })?;
    }
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = bind_one(address).map_err(|source| BindError { address, source })?;
        address = socket.address;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Sharing a port means sharing it with another process of ours too, which would silently take half
/// of the connections: a socket that does not share finds that out.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn bind_one(address: SocketAddr) -> io::Result<BoundSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_DEFAULT)?;
    let socket = TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok(BoundSocket { socket, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_gives_all_sockets_the_same_port() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 4).unwrap();
        let port = sockets[0].address().port();
        assert_ne!(port, 0);
        assert!(sockets.iter().all(|socket| socket.address().port() == port));
    }

    #[test]
    fn port_that_is_listened_on_is_refused() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert!(bind(sockets[0].address(), 1).is_err());
    }

    #[test]
    fn address_that_is_not_ours_is_refused_with_its_name() {
        let error = bind("192.0.2.1:0".parse().unwrap(), 2).unwrap_err();
        assert!(error.to_string().contains("192.0.2.1:0"));
    }
}
