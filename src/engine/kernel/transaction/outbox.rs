//! What this shard has to tell the others about transactions: one message a turn and shard.
//!
//! Filled by steps, emptied by the driver at the end of its turn ([`crate::engine::Shard::flush`]).

use crate::engine::books::{Findings, Pieces};
use crate::engine::kernel::ids::{LogPosition, ShardId, TransactionId};
use crate::engine::kernel::message::{Output, ShardMessage};
use cartwright_protocol::Error;

use super::Refusal;

/// From the home: reserve this part.
#[derive(Debug)]
pub struct Visit {
    /// Which transaction.
    pub transaction: TransactionId,
    /// Whether it waits for what it cannot have at once: then it has reserved all lower shards and nothing else.
    pub waits: bool,
    /// The part.
    pub pieces: Pieces,
}

/// To the home: what became of a visit. The pieces come back, with what the shard knows of them.
#[derive(Debug)]
pub struct Visited {
    /// Which transaction.
    pub transaction: TransactionId,
    /// The part as it was sent, prices and allocations filled in.
    pub pieces: Pieces,
    /// What became of it.
    pub outcome: VisitOutcome,
}

/// What became of a visit.
#[derive(Debug)]
pub enum VisitOutcome {
    /// It is reserved.
    Reserved {
        /// Where it is logged; zero where that is yet to come.
        logged: LogPosition,
        /// What was read shows the shard's log up to here.
        shows: LogPosition,
        /// What the shard found.
        findings: Findings,
    },
    /// It could only be had by waiting; nothing is reserved.
    Contended,
    /// It cannot be had; nothing is reserved.
    Refused(Refusal),
}

/// To the home: a part's changes are logged, or why not (then it has let go of everything).
#[derive(Debug)]
pub struct Written {
    /// Which transaction.
    pub transaction: TransactionId,
    /// Where in the sender's log.
    pub written: Result<LogPosition, Error>,
}

/// What one shard tells another about transactions in a turn.
#[derive(Debug, Default)]
pub struct Batch {
    /// From the home: these are over; whether they are durable everywhere, or never were.
    pub outcomes: Vec<(TransactionId, bool)>,
    /// From the home: reserve these.
    pub visits: Vec<Visit>,
    /// To the home: these were visited.
    pub visited: Vec<Visited>,
    /// From the home: log these changes of parts that are reserved.
    pub writes: Vec<(TransactionId, Vec<u8>)>,
    /// To the home: they are logged.
    pub written: Vec<Written>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
            && self.visits.is_empty()
            && self.visited.is_empty()
            && self.writes.is_empty()
            && self.written.is_empty()
    }
}

/// The batches that are being filled, by shard.
#[derive(Debug)]
pub struct Outbox {
    batches: Vec<Batch>,
    is_empty: bool,
}

impl Outbox {
    /// Nothing for any of so many shards.
    pub fn new(shard_count: u16) -> Self {
        Self {
            batches: (0..shard_count).map(|_| Batch::default()).collect(),
            is_empty: true,
        }
    }

    /// What goes to this shard.
    pub fn to(&mut self, shard: ShardId) -> &mut Batch {
        self.is_empty = false;
        &mut self.batches[shard.index()]
    }

    /// Whether nothing is to be said.
    pub const fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Moves everything to the messages of the turn.
    pub fn flush(&mut self, output: &mut Output) {
        if std::mem::replace(&mut self.is_empty, true) {
            return;
        }
        for (index, batch) in self.batches.iter_mut().enumerate() {
            if !batch.is_empty() {
                let message = ShardMessage::Transactions(Box::new(std::mem::take(batch)));
                output.messages.push((ShardId(index as u16), message));
            }
        }
    }
}
