//! A turn's part in new connections: which shard has them, and who is turned away.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::{Addresses, Turn, World};
use crate::runtime::broadcast;
use crate::runtime::client::Client;
use crate::runtime::mailbox::Mail;
use crate::session::Session;
use crate::session::settings::Number;

/// What a client over the limit is told.
const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";

impl<W: World> Turn<'_, W> {
    /// Gives a new connection to the shard with the fewest.
    pub(super) fn deal(&mut self, socket: W::Socket) {
        let (own, board) = (self.core.id, &self.core.board);
        board.connections_received.fetch_add(1, Ordering::Relaxed);
        let setting = self.core.context.settings.size(Number::ConnectionsMax);
        if board.connections() >= self.core.connections_max.min(setting) {
            return self.world.turn_away(socket, TOO_MANY_CLIENTS);
        }
        let shard = board.least_connected();
        board.tallies[shard.index()].connections.fetch_add(1, Ordering::Relaxed);
        if shard == own {
            self.adopt(socket);
        } else {
            self.world.post(shard, Mail::Connection(socket));
        }
    }

    /// Makes a connection one of this shard's.
    pub(super) fn adopt(&mut self, socket: W::Socket) {
        let core = &mut *self.core;
        core.connections_adopted += 1;
        // Unique over all shards, and never 0, as clients expect of CLIENT ID.
        let connection_id =
            (core.connections_adopted - 1) * u64::from(core.map.shard_count()) + u64::from(core.id.0) + 1;
        let mut session = Session::new(connection_id, Rc::clone(&core.context));
        let Addresses { local, peer } = self.world.addresses(&socket);
        if let Some(local) = local {
            session = session.with_local(local);
        }
        session = session.with_peer(peer);
        self.world.adopt(socket, |id| Client {
            session: session.at(broadcast::address_of(id)),
            ready: false,
        });
    }
}
