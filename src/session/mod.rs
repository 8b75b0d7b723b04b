//! Sessions: one connection's bytes ⇄ the shop's operations and replies.
//!
//! [`Session`] is driven by the network loop: bytes in, requests out, replies in, bytes out. It does no I/O, reads no
//! clock and knows nothing of shards; which of the two protocols a client speaks, its first byte tells.
//!
//! - [`context`]: what the sessions of a shard share; limits; [`settings`]: what can change while the server runs
//! - [`server_task`]: what a session asks of the server around it; [`subscriptions`]: who subscribes to what;
//!   [`report`]: what is counted
//! - `queue`: what may be in flight at once
//! - `native`, `resp`: the two front ends
//! - `commands`: the table of RESP commands; `connection`, `clients`, `server`, `info`, `config`, `slow`,
//!   `pubsub`, `transaction`, `introspection` are what its rows call
//! - `render`: the engine's replies in RESP

#[allow(clippy::unnecessary_wraps, reason = "a row's handler may answer an error instead")]
mod clients;
mod commands;
#[allow(clippy::unnecessary_wraps, reason = "a row's handler may answer an error instead")]
mod config;
mod connection;
pub mod context;
#[allow(clippy::unnecessary_wraps, reason = "a row's handler may answer an error instead")]
mod info;
mod introspection;
mod native;
#[allow(clippy::unnecessary_wraps, reason = "a row's handler may answer an error instead")]
mod pubsub;
mod queue;
mod render;
pub mod report;
mod resp;
#[allow(clippy::unnecessary_wraps, reason = "a row's handler may answer an error instead")]
mod server;
pub mod server_task;
pub mod settings;
#[allow(clippy::unnecessary_wraps, reason = "a row's handler may answer an error instead")]
mod slow;
pub mod subscriptions;
#[cfg(test)]
mod tests;
mod transaction;

use std::net::SocketAddr;
use std::rc::Rc;

use cartwright_protocol::native::FIRST_BYTE;

use crate::engine::Response;
pub use connection::CLIENT_NAME_BYTES_MAX;
pub use context::{
    CARTWRIGHT_VERSION, FixedSettings, Pause, PersistenceCounters, REDIS_VERSION, ServerCounters, ServerFacts,
    SessionContext, SessionLimits,
};
pub use queue::Request;
pub use settings::Settings;

use cartwright_protocol::resp::Writer;
use clients::{ClientFacts, ClientFilter};
use server_task::{Message, ShardResult};
use settings::Number;
use subscriptions::Address;

use native::Native;
use resp::Resp;

/// Room that buffers keep when they are empty, in bytes; what a large request or reply needed beyond it is given back.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

enum Front {
    /// Nothing has been received.
    Undecided,
    Native(Native),
    Resp(Box<Resp>),
    /// The client may not be served; the output says why.
    Refused,
}

/// Why a client of another machine is not served; clients look at how it begins.
const DENIED: &str = "-DENIED Cartwright runs in protected mode: no password is set, so that only clients on this \
                      machine are served. Start the server with --requirepass-file (or --requirepass), or, where \
                      everybody who can reach the port may use the shop, with --protected-mode no\r\n";

/// Whether an address is this machine's own, also where IPv6 wraps it.
fn is_loopback(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// One client's connection.
///
/// The driver's loop, after anything happened (bytes came, a request was completed, output was taken): take
/// [`Session::next_request`] until `None`, send [`Session::output`], read while [`Session::wants_input`], close once
/// [`Session::is_closing`] and the output is sent.
pub struct Session {
    connection_id: u64,
    address: Address,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    since_ms: u64,
    latest_ms: u64,
    /// Since when more messages than the soft limit allows wait for it.
    over_soft_limit_since_ms: Option<u64>,
    context: Rc<SessionContext>,
    front: Front,
    /// Received and not yet parsed, from `start`: the beginning of a request that is not whole, or requests that a
    /// limit holds back.
    input: Vec<u8>,
    start: usize,
    /// A limit, and not the end of the input, ended the last parsing.
    held_back: bool,
    output: Vec<u8>,
    /// Messages that came while a long reply is being written.
    messages: Vec<u8>,
}

impl Session {
    /// A session for a connection that has just been accepted.
    pub fn new(connection_id: u64, context: Rc<SessionContext>) -> Self {
        let now_ms = context.now_ms();
        Self {
            connection_id,
            address: connection_id,
            peer: None,
            local: None,
            since_ms: now_ms,
            latest_ms: now_ms,
            over_soft_limit_since_ms: None,
            context,
            front: Front::Undecided,
            input: Vec::new(),
            start: 0,
            held_back: false,
            output: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// The same, with the client's address. One of another machine is refused in protected mode.
    #[must_use]
    pub fn with_peer(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer);
        let settings = &self.context.settings;
        if !is_loopback(peer) && !settings.has_password() && settings.number(Number::ProtectedMode) != 0 {
            self.front = Front::Refused;
            self.output.extend_from_slice(DENIED.as_bytes());
            self.context.statistics.borrow_mut().unauthorized += 1;
        }
        self
    }

    /// The same, with the server's own address, for `CLIENT LIST`.
    #[must_use]
    pub const fn with_local(mut self, local: SocketAddr) -> Self {
        self.local = Some(local);
        self
    }

    /// The same, to be found by this address when a message is for it. Unless told, it is the connection's number.
    #[must_use]
    pub const fn at(mut self, address: Address) -> Self {
        self.address = address;
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
        self.latest_ms = self.context.now_ms();
        self.context.statistics.borrow_mut().received_bytes += bytes.len() as u64;
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
    pub fn next_request(&mut self) -> Option<(u64, Request)> {
        self.write_on();
        if self.held_back {
            self.parse_input();
        }
        let (limits, output_bytes) = (&self.context.limits, self.output.len());
        match &mut self.front {
            Front::Undecided | Front::Refused => None,
            Front::Native(native) => {
                let paused = self.context.pause();
                if paused.is_some_and(|pause| !pause.writes_only || native.queue.next_writes()) {
                    return None;
                }
                native.queue.next(false, limits, output_bytes)
            }
            Front::Resp(resp) => resp.dialogue.queue.next(true, limits, output_bytes),
        }
    }

    /// Goes on with replies that the output had no room for; whether it wrote anything. [`Session::next_request`] does so
    /// by itself.
    pub fn write_on(&mut self) -> bool {
        let Front::Resp(resp) = &mut self.front else {
            return false;
        };
        let before = self.output.len();
        resp.dialogue.write_ready(&mut self.output, &self.context);
        if !self.messages.is_empty() && !resp.dialogue.is_amid_reply() {
            self.output.append(&mut self.messages);
            self.messages = Vec::new();
        }
        self.output.len() > before
    }

    /// Takes the reply to a request that [`Session::next_request`] gave. Each is completed exactly once; anything else
    /// is a broken driver, and panics before a client gets another's reply.
    pub fn complete(&mut self, sequence: u64, reply: impl Into<Response>) {
        let reply = reply.into();
        match &mut self.front {
            Front::Undecided | Front::Refused => panic!("a session that has received nothing has given no request"),
            Front::Native(native) => native.complete(sequence, reply, &mut self.output, &self.context),
            Front::Resp(resp) => resp.dialogue.complete(sequence, reply, &mut self.output, &self.context),
        }
        self.write_messages();
    }

    /// Takes what the shards found for a task that [`Session::next_request`] gave; each once, likewise.
    pub fn complete_task(&mut self, sequence: u64, results: Vec<ShardResult>) {
        match &mut self.front {
            Front::Resp(resp) => {
                resp.dialogue
                    .complete_task(sequence, results, &mut self.output, &self.context);
            }
            _ => panic!("a session that does not speak RESP has given no task"),
        }
        self.write_messages();
    }

    /// Messages that waited behind a long reply go before whatever is written next.
    fn write_messages(&mut self) {
        if !self.messages.is_empty() {
            self.write_on();
        }
    }

    /// Writes a message to a subscriber. `false`: so much waits for it already that it is to be cut off.
    pub fn deliver(&mut self, message: &Message, pattern: Option<&[u8]>) -> bool {
        let Front::Resp(resp) = &self.front else {
            panic!("only who speaks RESP subscribes")
        };
        let version = resp.dialogue.connection.version;
        let settings = &self.context.settings;
        // A long reply fills the output again as soon as there is room: it says nothing of how the client reads.
        let waiting = if resp.dialogue.is_amid_reply() {
            self.messages.len()
        } else {
            self.output.len() + self.messages.len()
        };
        if waiting > settings.size(Number::PubSubSoftBytesMax) {
            let now_ms = self.context.now_ms();
            let since_ms = *self.over_soft_limit_since_ms.get_or_insert(now_ms);
            let allowed_ms = settings.number(Number::PubSubSoftSeconds).unsigned_abs() * 1000;
            if waiting > settings.size(Number::PubSubBytesMax) || now_ms - since_ms > allowed_ms {
                return false;
            }
        } else {
            self.over_soft_limit_since_ms = None;
        }
        let output = if resp.dialogue.is_amid_reply() || !self.messages.is_empty() {
            &mut self.messages
        } else {
            &mut self.output
        };
        pubsub::write_message(&mut Writer::new(output, version), message, pattern);
        true
    }

    /// Closes the connection once what was asked is answered, as a client that ends itself expects.
    pub fn close(&mut self) {
        match &mut self.front {
            Front::Native(native) => native.closing = true,
            Front::Resp(resp) => resp.dialogue.connection.closing = true,
            Front::Undecided => self.front = Front::Refused,
            Front::Refused => {}
        }
    }

    /// `CLIENT ID`.
    pub const fn id(&self) -> u64 {
        self.connection_id
    }

    /// When it last received something, in Unix milliseconds.
    pub const fn latest_ms(&self) -> u64 {
        self.latest_ms
    }

    /// Whether silence is what it is there for: a subscriber waits for messages.
    pub fn is_subscriber(&self) -> bool {
        matches!(&self.front, Front::Resp(resp) if resp.dialogue.connection.subscription_count() > 0)
    }

    /// Whether it watches keys.
    pub fn is_watcher(&self) -> bool {
        matches!(&self.front, Front::Resp(resp) if !resp.dialogue.connection.watched.is_empty())
    }

    /// Bytes that wait in its buffers, either way.
    pub fn buffered_bytes(&self) -> usize {
        self.input.capacity() + self.output.capacity() + self.messages.capacity()
    }

    /// Whether the filter lets it through.
    pub fn is_meant_by(&self, filter: &ClientFilter) -> bool {
        filter.lets_through(&ClientFacts {
            id: self.connection_id,
            peer: self.peer,
            local: self.local,
            is_subscriber: self.is_subscriber(),
            since_ms: self.since_ms,
        })
    }

    /// Its line in `CLIENT LIST`.
    pub fn describe(&self) -> String {
        clients::describe(self)
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
            Front::Undecided | Front::Refused => 0,
            Front::Native(native) => native.queue.in_flight(),
            Front::Resp(resp) => resp.dialogue.queue.in_flight(),
        }
    }

    /// Requests parsed and not yet answered: those in flight, those that wait, and replies that wait for earlier ones.
    /// While it is above 0 after the client has ended its side, there is still something to send.
    pub const fn unanswered(&self) -> usize {
        match &self.front {
            Front::Undecided | Front::Refused => 0,
            Front::Native(native) => native.queue.unanswered(),
            Front::Resp(resp) => resp.dialogue.queue.unanswered(),
        }
    }

    const fn front_is_closing(&self) -> bool {
        match &self.front {
            Front::Undecided => false,
            Front::Refused => true,
            Front::Native(native) => native.closing,
            Front::Resp(resp) => resp.dialogue.is_closing(),
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
            // What a large request took is not kept for those behind it.
            if input.capacity() / 4 > input.len().max(BUFFER_BYTES_KEPT) {
                input.shrink_to(BUFFER_BYTES_KEPT);
            }
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
                Front::Resp(Box::new(Resp::new(
                    self.connection_id,
                    self.address,
                    self.peer,
                    &self.context,
                )))
            };
        }
        let (consumed, full) = match &mut self.front {
            Front::Undecided | Front::Refused => return 0,
            Front::Native(native) => {
                let consumed = native.parse(bytes, &mut self.output, &self.context);
                (consumed, native.queue.is_full(&self.context.limits, self.output.len()))
            }
            Front::Resp(resp) => {
                let consumed = resp.parse(bytes, &mut self.output, &self.context);
                let dialogue = &resp.dialogue;
                let full = dialogue.queue.is_full(&self.context.limits, self.output.len());
                (consumed, full || dialogue.is_barred())
            }
        };
        self.held_back = full && !self.front_is_closing();
        consumed
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Front::Resp(resp) = &mut self.front {
            resp.dialogue.connection.unsubscribe_all(&self.context);
        }
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
