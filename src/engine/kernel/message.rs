//! What goes into a step of the engine and what comes out of it.

pub use cartwright_core::journal::Journal;
use cartwright_protocol::{Operation, Reply, Slot};

use crate::engine::books::entries::{Answer, KeyRequest};
use crate::engine::books::{Together, TogetherAnswer};
use crate::engine::kernel::audit::AuditMessage;
use crate::engine::kernel::ids::{LogPosition, ShardId};
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::transaction::Batch;

/// What a client asks.
#[derive(Debug)]
pub enum Ask {
    /// Something of the shop.
    Shop(Operation),
    /// Something of the keyspace.
    Keys(Box<KeyRequest>),
    /// Something of both, in one transaction.
    Together(Box<Together>),
}

impl Ask {
    /// The slot whose shard it goes to. `None`: any shard, but always the same.
    pub fn home(&self) -> Option<Slot> {
        match self {
            Self::Shop(operation) => operation.home(),
            Self::Keys(request) => request.home(),
            Self::Together(together) => together.operations.first().and_then(Operation::home),
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// By the shop.
    Shop(Reply),
    /// By the keyspace.
    Keys(Answer),
    /// By both, of a transaction that took place.
    Together(Box<TogetherAnswer>),
}

impl Response {
    /// The shop's reply.
    ///
    /// # Panics
    /// Where the keyspace was asked.
    pub fn into_shop(self) -> Reply {
        match self {
            Self::Shop(reply) => reply,
            other => panic!("the shop was asked, and {other:?} answered"),
        }
    }
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Self {
        Self::Shop(reply)
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        Self::Keys(answer)
    }
}

/// A client's question on its way to its home shard.
#[derive(Debug)]
pub struct Question {
    /// Where the answer goes.
    pub reply_to: ReplyTo,
    /// What is asked.
    pub ask: Ask,
}

impl From<Request> for Question {
    fn from(Request { reply_to, operation }: Request) -> Self {
        Self {
            reply_to,
            ask: Ask::Shop(operation),
        }
    }
}

impl From<Question> for Input {
    fn from(Question { reply_to, ask }: Question) -> Self {
        match ask {
            Ask::Shop(operation) => Self::Request(Request { reply_to, operation }),
            Ask::Keys(request) => Self::Keys(reply_to, request),
            Ask::Together(together) => Self::Together(reply_to, together),
        }
    }
}

/// A request to the shop, at its home shard.
#[derive(Debug)]
pub struct Request {
    /// Where the answer goes.
    pub reply_to: ReplyTo,
    /// What is asked.
    pub operation: Operation,
}

/// One input of [`crate::engine::Shard::step`].
#[derive(Debug)]
pub enum Input {
    /// A client's request whose home is this shard.
    Request(Request),
    /// A client's request to the keyspace, whose home is this shard.
    Keys(ReplyTo, Box<KeyRequest>),
    /// A client's request to both, whose home is this shard.
    Together(ReplyTo, Box<Together>),
    /// From another shard; messages of one pair of shards arrive in the order they were sent.
    Message {
        /// Who sent it.
        from: ShardId,
        /// What it says.
        message: ShardMessage,
    },
    /// All records of `shard` (this one or another) up to and including `position` are safe: a crash cannot take them
    /// back. What makes them so is the driver's business.
    Safe {
        /// Whose log.
        shard: ShardId,
        /// How far.
        position: LogPosition,
    },
    /// Time has passed. The driver sends one at least every few milliseconds while [`crate::engine::Shard::next_timer`] is due.
    Tick,
    /// How many bytes of log can still be appended, and, where that is not enough, why.
    LogSpace {
        /// Payload bytes certain to be appendable, in records of up to [`crate::engine::RECORD_BYTES_MAX`].
        bytes: u64,
        /// Up to here one record may be larger; what it leaves of this is then all that is certain.
        piece_bytes: u64,
        /// `Some` while no more can be had (the disk is full): new writes are refused with `READONLY` and this text.
        blocked: Option<&'static str>,
    },
}

/// What shards say to each other. Opaque to drivers, which carry them in order.
#[derive(Debug)]
pub enum ShardMessage {
    /// What a shard has to say in a turn about transactions.
    Transactions(Box<Batch>),
    /// A step of an audit.
    Audit(AuditMessage),
}

/// What a step wants done, in order; the driver drains it.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages to other shards.
    pub messages: Vec<(ShardId, ShardMessage)>,
    /// Answers to clients; each may leave once this shard's log is safe up to the given position.
    pub replies: Vec<(ReplyTo, Response, LogPosition)>,
}
