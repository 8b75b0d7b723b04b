//! The log's payloads: decided operations with every choice already made.
//!
//! [`crate::engine::kernel::state::State::apply`] is the only reader of their meaning; live traffic, recovery and
//! replicas go through it. How each is archived stands with its kind: the kernel's own in
//! [`crate::engine::kernel::records`], a book's with the book.

use crate::engine::books::{BookRecord, Decided, StockPart};
use crate::engine::kernel::archive::{encode, read};
use crate::engine::kernel::ids::{LogPosition, RecordKind, ShardId, Timestamp, TransactionId};
use crate::engine::kernel::packed_key::{put_key, read_key_if_any};
use crate::engine::kernel::packed_transaction::{
    put_decided, put_outcomes, put_prepared, read_decided, read_outcomes, read_prepared,
};
use crate::engine::kernel::records::{
    ANSWERED_1, Answered1, ArchivedAnswered1, ArchivedDecided1, ArchivedPrepared1, ArchivedRequestKeysForgotten1,
    ArchivedResolved1, ArchivedStarted1, DECIDED_1, Decided1, KERNEL, PREPARED_1, Prepared1, REQUEST_KEYS_FORGOTTEN_1,
    RESOLVED_1, RequestKeysForgotten1, Resolved1, STARTED_1, Started1,
};
use crate::engine::kernel::request_keys::KeyRecord;

/// One record of a shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The server started: what follows was written by this incarnation.
    Started {
        /// See [`TransactionId::incarnation`].
        incarnation: u32,
    },
    /// A request with a key was answered without changing anything: a refusal, or a state already reached.
    Answered {
        /// The key and the answer.
        key: KeyRecord,
    },
    /// Request keys of this slot last used before `before` are forgotten.
    KeysForgotten {
        /// Index of the slot.
        slot: u16,
        /// From when on keys are kept.
        before: Timestamp,
    },
    /// Parts of transactions were checked and reserved here, in one step.
    PreparedTogether {
        /// Which, and what they do here.
        transactions: Vec<PreparedTransaction>,
    },
    /// The home's part of transactions, decided in one step and written last: each is committed if, and only if, this
    /// record and those it names are on disk.
    DecidedTogether {
        /// When.
        at: Timestamp,
        /// Which, and what they do.
        transactions: Vec<DecidedTransaction>,
    },
    /// Transactions are over: each is durable on all its participants, and its effects are applied from here on; or it
    /// never was.
    ResolvedTogether {
        /// Which, and whether they are committed.
        outcomes: Vec<(TransactionId, bool)>,
    },
    /// What one book does on one shard by itself.
    Book(BookRecord),
}

/// A transaction's part on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// Which transaction.
    pub transaction: TransactionId,
    /// What it does to the stock of this shard's items.
    pub stock: Vec<StockPart>,
    /// What it does to keys of this shard: see [`crate::engine::entries::effect`].
    pub effects: Vec<u8>,
}

impl PreparedTransaction {
    /// Log bytes that it takes, at most.
    pub fn bytes_max(&self) -> usize {
        let parts = self.stock.iter().map(StockPart::bytes_max);
        96 + parts.sum::<usize>() + self.effects.len()
    }
}

/// A transaction's decision, at its home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedTransaction {
    /// Which transaction.
    pub transaction: TransactionId,
    /// Where the other shards' parts are, and up to where the logs of those that were only read show what was read.
    pub named: Vec<(ShardId, LogPosition)>,
    /// The changes of orders; lines whose items are on this shard are reserved here.
    pub changes: Vec<Decided>,
    /// What it does to keys of this shard.
    pub effects: Vec<u8>,
}

impl DecidedTransaction {
    /// Log bytes that it takes, at most.
    pub fn bytes_max(&self) -> usize {
        let changes = self.changes.iter().map(Decided::bytes_max);
        128 + self.named.len() * 16 + changes.sum::<usize>() + self.effects.len()
    }
}

/// Why a payload is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No book of this version has such a thing.
    #[error("record {position} is of {kind}, which this version of cartwright does not know")]
    Unknown {
        /// Where.
        position: LogPosition,
        /// What it says it is.
        kind: RecordKind,
    },
    /// The archive does not check out: written by another version, or damaged before its checksum was made.
    #[error("record {position} cannot be decoded ({detail}): was it written by another version of cartwright?")]
    Undecodable {
        /// Where.
        position: LogPosition,
        /// What rkyv says.
        detail: String,
    },
}

/// Memory in which records are packed.
#[derive(Debug, Default)]
pub struct Packing {
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl Packing {
    /// Memory to pack one thing in.
    pub const fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Record {
    /// Encodes into `buffer`, replacing what it holds. Gives the payload's kind.
    pub fn encode(&self, packing: &mut Packing, buffer: &mut Vec<u8>) -> RecordKind {
        let Packing { bytes, scratch } = packing;
        bytes.clear();
        match self {
            Self::Started { incarnation } => {
                let incarnation = *incarnation;
                encode(&Started1 { incarnation }, buffer);
                STARTED_1
            }
            Self::Answered { key } => {
                put_key(bytes, key);
                encode(&Answered1 { key: bytes }, buffer);
                ANSWERED_1
            }
            Self::KeysForgotten { slot, before } => {
                let (slot, before) = (*slot, before.unix_ms());
                encode(&RequestKeysForgotten1 { slot, before }, buffer);
                REQUEST_KEYS_FORGOTTEN_1
            }
            Self::PreparedTogether { transactions } => {
                put_prepared(bytes, scratch, transactions);
                encode(&Prepared1 { transactions: bytes }, buffer);
                PREPARED_1
            }
            Self::DecidedTogether { at, transactions } => {
                put_decided(bytes, scratch, transactions);
                let decided = Decided1 {
                    at: at.unix_ms(),
                    transactions: bytes,
                };
                encode(&decided, buffer);
                DECIDED_1
            }
            Self::ResolvedTogether { outcomes } => {
                put_outcomes(bytes, outcomes);
                encode(&Resolved1 { outcomes: bytes }, buffer);
                RESOLVED_1
            }
            Self::Book(record) => record.encode(bytes, buffer),
        }
    }

    /// Checks and decodes one payload of this kind.
    pub fn decode(position: LogPosition, kind: RecordKind, payload: &[u8]) -> Result<Self, RecordError> {
        let decoded = if kind.book == KERNEL {
            Self::decode_own(kind, payload)
        } else {
            BookRecord::decode(kind, payload)
        };
        decoded
            .ok_or(RecordError::Unknown { position, kind })?
            .map_err(|detail| RecordError::Undecodable { position, detail })
    }

    fn decode_own(kind: RecordKind, payload: &[u8]) -> Option<Result<Self, String>> {
        Some(match kind {
            STARTED_1 => read(payload).map(|started: &ArchivedStarted1| Self::Started {
                incarnation: started.incarnation.to_native(),
            }),
            ANSWERED_1 => read(payload).and_then(|answered: &ArchivedAnswered1<'_>| {
                let key = read_key_if_any(&answered.key)?;
                let key = key.ok_or("it answers a request without a key")?;
                Ok(Self::Answered { key })
            }),
            REQUEST_KEYS_FORGOTTEN_1 => {
                read(payload).map(|forgotten: &ArchivedRequestKeysForgotten1| Self::KeysForgotten {
                    slot: forgotten.slot.to_native(),
                    before: Timestamp(forgotten.before.to_native()),
                })
            }
            PREPARED_1 => read(payload).and_then(|prepared: &ArchivedPrepared1<'_>| {
                let transactions = read_prepared(&prepared.transactions)?;
                Ok(Self::PreparedTogether { transactions })
            }),
            DECIDED_1 => read(payload).and_then(|decided: &ArchivedDecided1<'_>| {
                let transactions = read_decided(&decided.transactions)?;
                let at = Timestamp(decided.at.to_native());
                Ok(Self::DecidedTogether { at, transactions })
            }),
            RESOLVED_1 => read(payload).and_then(|resolved: &ArchivedResolved1<'_>| {
                let outcomes = read_outcomes(&resolved.outcomes)?;
                Ok(Self::ResolvedTogether { outcomes })
            }),
            _ => return None,
        })
    }
}
