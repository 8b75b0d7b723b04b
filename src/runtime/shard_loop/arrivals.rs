//! The shard loop's part in new connections: which shard has them, and who is turned away.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::ShardLoop;
use crate::runtime::client::Client;
use crate::runtime::desk;
use crate::runtime::mailbox::Mail;
use crate::session::Session;
use crate::session::settings::Number;

/// What a client over the limit is told.
const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";

impl ShardLoop {
    /// Gives a new connection to the shard with the fewest.
    pub(super) fn deal(&mut self, socket: OwnedFd) {
        self.shared.connections_received.fetch_add(1, Ordering::Relaxed);
        let most = self
            .connections_max
            .min(self.context.settings.size(Number::ConnectionsMax));
        if self.shared.connections() >= most {
            let mut socket = TcpStream::from(socket);
            // A new socket's buffer has room for one line; if not, the end of the connection says enough.
            let _ = socket
                .set_nonblocking(true)
                .and_then(|()| socket.write_all(TOO_MANY_CLIENTS));
            return;
        }
        let shard = self.shared.least_connected();
        self.shared.tallies[shard.index()]
            .connections
            .fetch_add(1, Ordering::Relaxed);
        if shard == self.id {
            self.adopt(socket);
        } else {
            self.mailboxes.post(shard, Mail::Connection(socket));
        }
    }

    /// Makes a connection one of this shard's.
    pub(super) fn adopt(&mut self, socket: OwnedFd) {
        self.connections_adopted += 1;
        // Unique over all shards, and never 0, as clients expect of CLIENT ID.
        let connection_id =
            (self.connections_adopted - 1) * u64::from(self.map.shard_count()) + u64::from(self.id.0) + 1;
        let socket = TcpStream::from(socket);
        let mut session = Session::new(connection_id, Rc::clone(&self.context));
        if let Ok(local) = socket.local_addr() {
            session = session.with_local(local);
        }
        // Who cannot be told where it comes from is served only if everybody is.
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        session = session.with_peer(socket.peer_addr().unwrap_or(unknown));
        self.network.adopt(socket.into(), |id| Client {
            session: session.at(desk::address_of(id)),
            ready: false,
        });
    }
}
