//! The listening socket.
//!
//! Made once at start; shard 0 accepts on it. Accepted sockets inherit its options, so none is set per connection.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_nodelay};

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long an address that is taken is tried again: where a server was killed, its ring lets go of the port only a
/// moment after the process has ended, and its successor is not to fail for that.
const TAKEN_PATIENCE: Duration = Duration::from_secs(1);

/// How often it is tried meanwhile.
const TAKEN_INTERVAL: Duration = Duration::from_millis(10);

/// Silence after which a connection's peer is asked whether it still lives; as Redis has it.
const KEEPALIVE: Duration = Duration::from_mins(5);

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has it.
    #[error(
        "{address} is taken by another process. Stop it, or choose another --port (`ss -ltnp 'sport = :{}'` names it)",
        address.port()
    )]
    Taken {
        /// Where.
        address: SocketAddr,
    },
    /// Ports below 1024.
    #[error("no permission to listen on {address}. Choose a --port from 1024 on, or grant CAP_NET_BIND_SERVICE")]
    Forbidden {
        /// Where.
        address: SocketAddr,
    },
    /// Not an address of this machine.
    #[error("{address} is no address of this machine. Choose another --bind (0.0.0.0 for all)")]
    Unknown {
        /// Where.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {error}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        error: io::Error,
    },
}

/// Listens on `address`; port 0 takes a free one.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listener = bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { address },
        io::ErrorKind::PermissionDenied => ListenError::Forbidden { address },
        io::ErrorKind::AddrNotAvailable => ListenError::Unknown { address },
        _ => ListenError::Other { address, error },
    })?;
    set_up(&listener).map_err(|error| ListenError::Other { address, error })?;
    Ok(listener)
}

fn set_up(listener: &TcpListener) -> io::Result<()> {
    rustix::net::listen(listener, BACKLOG)?;
    set_tcp_nodelay(listener, true)?;
    set_socket_keepalive(listener, true)?;
    set_tcp_keepidle(listener, KEEPALIVE)?;
    Ok(())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + TAKEN_PATIENCE;
    loop {
        // The standard library sets SO_REUSEADDR, so that a restart need not wait for old connections to time out.
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(TAKEN_INTERVAL);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = listen(address).unwrap_err();
        assert!(matches!(error, ListenError::Taken { .. }), "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_port_that_becomes_free_in_time_is_taken() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let second = std::thread::spawn(move || listen(address));
        std::thread::sleep(TAKEN_INTERVAL * 3);
        drop(first);
        assert_eq!(second.join().unwrap().unwrap().local_addr().unwrap(), address);
    }

    #[test]
    fn accepted_connections_send_at_once() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }
}
