//! The log's payloads: decided operations with every choice already made.
//!
//! [`crate::engine::kernel::state::State::apply`] is the only reader of their meaning; live traffic, recovery and replicas go through
//! it. Encoded as rkyv archives (little-endian, unaligned, 32-bit offsets), checked before they are trusted.

use cartwright_protocol::{Amount, Currency, Location, Quantity, Sku, Text};

use crate::engine::books::StockPart;
use crate::engine::books::entries::are_effects;
use crate::engine::books::shop::inventory::{StockChange, StockLine};
use crate::engine::books::shop::orders::{Decided, OrderChange};
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::ids::{LogPosition, RecordKind, ShardId, Timestamp, TransactionId};
use crate::engine::kernel::request_keys::KeyRecord;

/// Largest encoded record, in bytes, but for changes of keys of one shard; what would be larger is refused with `TOOBIG`.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// The same for changes of keys of one shard: a key and a value of 512 MiB, and then some.
pub const LARGE_RECORD_BYTES_MAX: usize = 800 << 20;

/// One record of a shard's log.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Record {
    /// The server started: what follows was written by this incarnation.
    Started {
        /// See [`TransactionId::incarnation`].
        incarnation: u32,
    },
    /// `ITEM.PUT`.
    ItemPut {
        /// The item's code.
        sku: Sku,
        /// Price of one unit.
        price: Amount,
        /// The price's currency.
        currency: Currency,
        /// What people call it.
        name: Text,
        /// Most units one customer may have in open orders.
        limit: Option<Quantity>,
        /// How far below zero `available` may go.
        backorder: u32,
        /// The key it came with.
        key: Option<KeyRecord>,
    },
    /// `STOCK.ADD`.
    StockAdded {
        /// The item's code.
        sku: Sku,
        /// Where.
        location: Location,
        /// Units; negative for shrinkage.
        delta: i64,
        /// Why.
        reason: Text,
        /// When.
        at: Timestamp,
        /// The key it came with.
        key: Option<KeyRecord>,
    },
    /// A change of an order all of whose items are on this shard.
    OrderChanged {
        /// What.
        change: OrderChange,
        /// The key it came with.
        key: Option<KeyRecord>,
    },
    /// A piece of a cross-shard transaction was checked and reserved here.
    Prepared {
        /// Which transaction.
        transaction: TransactionId,
        /// What it does to stock.
        stock: StockChange,
        /// The items of this shard.
        lines: Vec<StockLine>,
    },
    /// The home shard's part of a cross-shard transaction, written last: committed if, and only if, this record and
    /// those it names are on disk.
    Decided {
        /// Which transaction.
        transaction: TransactionId,
        /// Where every other participant's `Prepared` is.
        prepared: Vec<(ShardId, LogPosition)>,
        /// The change of the order; lines whose items are on this shard are reserved here.
        change: OrderChange,
        /// The key it came with.
        key: Option<KeyRecord>,
    },
    /// The transaction is durable on all its participants: its effects are applied from here on.
    Committed {
        /// Which transaction.
        transaction: TransactionId,
    },
    /// The transaction never was.
    Aborted {
        /// Which transaction.
        transaction: TransactionId,
    },
    /// A request with a key was answered without changing anything: a refusal, or a state already reached.
    Answered {
        /// The key and the answer.
        key: KeyRecord,
    },
    /// Keys of this slot last used before `before` are forgotten.
    KeysForgotten {
        /// Index of the slot.
        slot: u16,
        /// From when on keys are kept.
        before: Timestamp,
    },
    /// Keys of the keyspace changed.
    KeysChanged {
        /// When.
        at: Timestamp,
        /// How: see [`crate::engine::books::entries::effect`].
        effects: Vec<u8>,
    },
    /// What a transaction over keys of several shards does here, once it is decided.
    KeysPrepared {
        /// Which transaction.
        transaction: TransactionId,
        /// To keys of this shard.
        effects: Vec<u8>,
    },
    /// The home shard's part of a transaction over keys, written last: committed if, and only if, this record and those
    /// it names are on disk.
    KeysDecided {
        /// Which transaction.
        transaction: TransactionId,
        /// Where the other shards' `KeysPrepared` are, and up to where the logs of those that were only read show what
        /// was read.
        prepared: Vec<(ShardId, LogPosition)>,
        /// When.
        at: Timestamp,
        /// What it does to keys of this shard.
        effects: Vec<u8>,
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
}

/// A transaction's part on one shard.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
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
        let lines = self.stock.iter().flat_map(|part| &part.lines);
        let parts = self.stock.len() * 32;
        96 + parts + lines.map(StockLine::bytes_max).sum::<usize>() + self.effects.len()
    }
}

/// A transaction's decision, at its home.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
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

impl Record {
    /// Encodes into `buffer`, replacing what it holds.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        let mut taken = std::mem::take(buffer);
        taken.clear();
        *buffer = rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, taken)
            .expect("encoding into growing memory does not fail");
    }

    /// Encodes a record with these effects, which are large, without copying them: what follows them is put into
    /// `buffer`, replacing what it holds. `false`: everything is in there, effects included.
    pub fn encode_behind(&self, effects: &[u8], buffer: &mut Vec<u8>) -> bool {
        let mut taken = std::mem::take(buffer);
        taken.clear();
        let behind = Behind {
            effects,
            are_skipped: false,
            rest: taken,
        };
        let behind = rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, behind)
            .expect("encoding into growing memory does not fail");
        *buffer = behind.rest;
        behind.are_skipped
    }

    /// Checks and decodes one payload.
    pub fn decode(position: LogPosition, payload: &[u8]) -> Result<Self, RecordError> {
        let undecodable = |detail| RecordError::Undecodable { position, detail };
        let record = rkyv::from_bytes::<Self, rkyv::rancor::Error>(payload);
        let record = record.map_err(|error| undecodable(error.to_string()))?;
        record.check().map_err(|fault| undecodable(fault.to_owned()))?;
        Ok(record)
    }

    /// Checks the parts that are packed bytes. The error says what is wrong with them.
    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::OrderChanged { change, .. } | Self::Decided { change, .. } => {
                change.order_made().map_or(Ok(()), PackedOrder::check)
            }
            Self::KeysChanged { effects, .. }
            | Self::KeysPrepared { effects, .. }
            | Self::KeysDecided { effects, .. } => check_effects(effects),
            Self::PreparedTogether { transactions } => transactions
                .iter()
                .try_for_each(|prepared| check_effects(&prepared.effects)),
            Self::DecidedTogether { transactions, .. } => transactions.iter().try_for_each(|decided| {
                let mut made = decided.changes.iter().filter_map(|decided| decided.change.order_made());
                made.try_for_each(PackedOrder::check)?;
                check_effects(&decided.effects)
            }),
            _ => Ok(()),
        }
    }
}

fn check_effects(effects: &[u8]) -> Result<(), &'static str> {
    if are_effects(effects) {
        Ok(())
    } else {
        Err("it does nothing to keys that is known")
    }
}

/// Takes an archive but for the effects that it begins with.
struct Behind<'a> {
    effects: &'a [u8],
    are_skipped: bool,
    rest: Vec<u8>,
}

impl rkyv::ser::Positional for Behind<'_> {
    fn pos(&self) -> usize {
        self.rest.len() + if self.are_skipped { self.effects.len() } else { 0 }
    }
}

impl<E> rkyv::ser::Writer<E> for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        if !self.are_skipped && self.rest.is_empty() && std::ptr::eq(bytes, self.effects) {
            self.are_skipped = true;
        } else {
            self.rest.extend_from_slice(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_behind_its_effects_is_the_same_as_in_one_piece() {
        let record = Record::KeysChanged {
            at: Timestamp(1 << 41),
            effects: vec![b'x'; 5000],
        };
        let Record::KeysChanged { effects, .. } = &record else {
            unreachable!("made above")
        };
        let (mut whole, mut rest) = (Vec::new(), vec![1, 2, 3]);
        record.encode(&mut whole);
        assert!(record.encode_behind(effects, &mut rest), "the effects come first");
        assert!(rest.len() < 512, "what is set aside for it is enough");
        assert!([effects, &rest[..]].concat() == whole);
    }
}
