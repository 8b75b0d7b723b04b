//! Sessions: one connection's bytes ⇄ the shop's operations and replies.
//!
//! [`Session`] is driven by the network loop: bytes in, requests out, replies in, bytes out. It does no I/O, reads no
//! clock and knows nothing of shards; which of the two protocols a client speaks, its first byte tells.
//!
//! - [`context`]: what the sessions of a shard share; limits
//! - `queue`: what may be in flight at once
//! - `native`, `resp`: the two front ends
//! - `commands`: the table of RESP commands; `shop`, `connection`, `server`, `introspection` are what its rows call
//! - `render`: the shop's replies in RESP; `glob`: patterns

mod commands;
mod connection;
pub mod context;
mod glob;
mod introspection;
mod native;
mod queue;
mod render;
mod resp;
mod server;
mod shop;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::rc::Rc;

use cartwright_protocol::native::FIRST_BYTE;

use crate::engine::{Ask, Response};
pub use connection::CLIENT_NAME_BYTES_MAX;
pub use context::{
    CARTWRIGHT_VERSION, PersistenceCounters, REDIS_VERSION, ServerCounters, ServerFacts, SessionContext, SessionLimits,
};

use native::Native;
use resp::Resp;

/// Room that buffers keep when they are empty, in bytes; what a large request or reply needed beyond it is given back.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

enum Front {
    /// Nothing has been received.
    Undecided,
    Native(Native),
    Resp(Box<Resp>),
}

/// One client's connection.
///
/// The driver's loop, after anything happened (bytes came, a request was completed, output was taken): take
/// [`Session::next_request`] until `None`, send [`Session::output`], read while [`Session::wants_input`], close once
/// [`Session::is_closing`] and the output is sent.
pub struct Session {
    connection_id: u64,
    peer: Option<SocketAddr>,
    context: Rc<SessionContext>,
    front: Front,
    /// Received and not yet parsed, from `start`: the beginning of a request that is not whole, or requests that a
    /// limit holds back.
    input: Vec<u8>,
    start: usize,
    /// A limit, and not the end of the input, ended the last parsing.
    held_back: bool,
    output: Vec<u8>,
}

impl Session {
    /// A session for a connection that has just been accepted.
    pub const fn new(connection_id: u64, context: Rc<SessionContext>) -> Self {
        Self {
            connection_id,
            peer: None,
            context,
            front: Front::Undecided,
            input: Vec::new(),
            start: 0,
            held_back: false,
            output: Vec::new(),
        }
    }

    /// The same, with the client's address for `CLIENT INFO`.
    #[must_use]
    pub const fn with_peer(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Takes bytes from the client. They are parsed where they lie; only what is left over is copied.
    ///
    /// Bytes that were under way when [`Session::wants_input`] turned false are kept as well, so that it bounds a
    /// session's memory only if the driver heeds it.
    pub fn receive(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.front_is_closing() {
            return;
        }
        if self.start == self.input.len() {
            let consumed = self.parse(bytes);
            if !self.front_is_closing() {
                self.input.extend_from_slice(&bytes[consumed..]);
            }
            return;
        }
        self.input.extend_from_slice(bytes);
        if !self.held_back {
            self.parse_input();
        }
    }

    /// The next request for the engine, with the sequence to complete it under. `None`: there is none, or it waits for
    /// others in flight, or for the output to be taken.
    pub fn next_request(&mut self) -> Option<(u64, Ask)> {
        if self.held_back {
            self.parse_input();
        }
        let (limits, output_bytes) = (&self.context.limits, self.output.len());
        match &mut self.front {
            Front::Undecided => None,
            Front::Native(native) => native.queue.next(false, limits, output_bytes),
            Front::Resp(resp) => resp.queue.next(true, limits, output_bytes),
        }
    }

    /// Takes the reply to a request that [`Session::next_request`] gave. Each is completed exactly once; anything else
    /// is a broken driver, and panics before a client gets another's reply.
    pub fn complete(&mut self, sequence: u64, reply: impl Into<Response>) {
        let reply = reply.into();
        match &mut self.front {
            Front::Undecided => panic!("a session that has received nothing has given no request"),
            Front::Native(native) => native.complete(sequence, reply, &mut self.output),
            Front::Resp(resp) => resp.complete(sequence, reply, &mut self.output),
        }
    }

    /// Bytes for the client. The driver takes them, all or from the front, and then asks for
    /// [`Session::next_request`] again.
    pub const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether the connection is to be closed once [`Session::output`] is sent: the client asked for it, or what it
    /// sent cannot be understood. Everything it asked for before that has been answered.
    pub const fn is_closing(&self) -> bool {
        self.front_is_closing() && self.unanswered() == 0
    }

    /// Whether to read more. False while requests, input or output are at their limits, and after the last request.
    pub const fn wants_input(&self) -> bool {
        !self.held_back && !self.front_is_closing()
    }

    /// Requests given to the engine and not yet completed.
    pub const fn in_flight(&self) -> usize {
        match &self.front {
            Front::Undecided => 0,
            Front::Native(native) => native.queue.in_flight(),
            Front::Resp(resp) => resp.queue.in_flight(),
        }
    }

    /// Requests parsed and not yet answered: those in flight, those that wait, and replies that wait for earlier ones.
    /// While it is above 0 after the client has ended its side, there is still something to send.
    pub const fn unanswered(&self) -> usize {
        match &self.front {
            Front::Undecided => 0,
            Front::Native(native) => native.queue.unanswered(),
            Front::Resp(resp) => resp.queue.unanswered(),
        }
    }

    const fn front_is_closing(&self) -> bool {
        match &self.front {
            Front::Undecided => false,
            Front::Native(native) => native.closing,
            Front::Resp(resp) => resp.is_closing(),
        }
    }

    /// Parses from the input buffer and gives back what it took.
    fn parse_input(&mut self) {
        let mut input = std::mem::take(&mut self.input);
        self.start += self.parse(&input[self.start..]);
        if self.start == input.len() || self.front_is_closing() {
            input.clear();
            input.shrink_to(BUFFER_BYTES_KEPT);
            self.start = 0;
        } else if self.start > input.len() / 2 {
            // Moving less than has been consumed: the cost stays in proportion to the input.
            input.drain(..self.start);
            self.start = 0;
        }
        self.input = input;
    }

    /// Parses `bytes`, which begin where a request begins. How many it took.
    fn parse(&mut self, bytes: &[u8]) -> usize {
        if self.output.is_empty() {
            self.output.shrink_to(BUFFER_BYTES_KEPT);
        }
        if let (Front::Undecided, Some(&first)) = (&self.front, bytes.first()) {
            self.front = if first == FIRST_BYTE {
                Front::Native(Native::new(self.connection_id))
            } else {
                Front::Resp(Box::new(Resp::new(self.connection_id, self.peer, &self.context)))
            };
        }
        let (consumed, full) = match &mut self.front {
            Front::Undecided => return 0,
            Front::Native(native) => {
                let consumed = native.parse(bytes, &mut self.output, &self.context);
                (consumed, native.queue.is_full(&self.context.limits, self.output.len()))
            }
            Front::Resp(resp) => {
                let consumed = resp.parse(bytes, &mut self.output, &self.context);
                (consumed, resp.queue.is_full(&self.context.limits, self.output.len()))
            }
        };
        self.held_back = full && !self.front_is_closing();
        consumed
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("connection_id", &self.connection_id)
            .field("in_flight", &self.in_flight())
            .field("unanswered", &self.unanswered())
            .field("input_bytes", &(self.input.len() - self.start))
            .field("output_bytes", &self.output.len())
            .finish_non_exhaustive()
    }
}
