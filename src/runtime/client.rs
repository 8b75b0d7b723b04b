//! A client's connection as its shard sees it: the network's [`Endpoint`] around the [`Session`].

use crate::net::Endpoint;
use crate::session::Session;

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Bytes ⇄ requests.
    pub session: Session,
    /// It is on the shard's list of those that may have requests.
    pub ready: bool,
}

impl Endpoint for Client {
    fn receive(&mut self, bytes: &[u8]) {
        self.session.receive(bytes);
    }

    fn output(&mut self) -> &mut Vec<u8> {
        self.session.output()
    }

    fn wants_input(&self) -> bool {
        self.session.wants_input()
    }

    fn is_closing(&self) -> bool {
        self.session.is_closing()
    }

    fn is_busy(&self) -> bool {
        // What a limit holds back is still to be parsed once output has left.
        self.ready || self.session.unanswered() > 0 || !self.session.wants_input()
    }
}
