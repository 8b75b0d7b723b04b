//! Records and parts of format 2: one archived enum for all records, one for all parts, in which types of the wire are
//! nested.
//!
//! Read, never written: a record is turned into those of today, a part is restored as it is. Nothing here may change but
//! what the records of today are; golden files hold it to what was written.

use cartwright_protocol::{Amount, Currency, Location, Quantity, Sku, Text};

use super::entries::are_effects;
use super::entries::checkpoint::EntryImage;
use super::entries::parts::restore_image;
use super::entries::records::EntriesRecord;
use super::shop::inventory::{StockChange, StockLine, StockPart};
use super::shop::orders::{Decided, OrderChange};
use super::shop::packed_order::PackedOrder;
use super::shop::parts::{restore_items, restore_packed_orders};
use super::shop::records::ShopRecord;
use crate::engine::kernel::ids::{LogPosition, ShardId, Timestamp, TransactionId};
use crate::engine::kernel::record::{self, DecidedTransaction, PreparedTransaction};
use crate::engine::kernel::request_keys::KeyRecord;
use crate::engine::kernel::restore::Restore;
use crate::engine::kernel::state::{Decision, Pending};

/// One record of a log of format 2.
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
}

impl Record {
    /// Checks and decodes one payload. The error says what is wrong with it.
    pub fn decode(payload: &[u8]) -> Result<Self, String> {
        let record = rkyv::from_bytes::<Self, rkyv::rancor::Error>(payload).map_err(|error| error.to_string())?;
        record.check()?;
        Ok(record)
    }

    /// Checks the parts that are packed bytes. The error says what is wrong with them.
    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::OrderChanged { change, key } | Self::Decided { change, key, .. } => match change.order_made() {
                Some(_) if key.is_some() => Err("an order that is made has two keys"),
                Some(order) => order.check(),
                None => Ok(()),
            },
            Self::KeysChanged { effects, .. }
            | Self::KeysPrepared { effects, .. }
            | Self::KeysDecided { effects, .. }
                if !are_effects(effects) =>
            {
                Err("it does nothing to keys that is known")
            }
            _ => Ok(()),
        }
    }
}

impl From<Record> for record::Record {
    fn from(old: Record) -> Self {
        match old {
            Record::Started { incarnation } => Self::Started { incarnation },
            Record::ItemPut {
                sku,
                price,
                currency,
                name,
                limit,
                backorder,
                key,
            } => ShopRecord::ItemPut {
                sku,
                price,
                currency,
                name,
                limit,
                backorder,
                key,
            }
            .into(),
            Record::StockAdded {
                sku,
                location,
                delta,
                reason,
                at,
                key,
            } => ShopRecord::StockAdded {
                sku,
                location,
                delta,
                reason,
                at,
                key,
            }
            .into(),
            Record::OrderChanged { change, key } => ShopRecord::OrderChanged { change, key }.into(),
            Record::Prepared {
                transaction,
                stock,
                lines,
            } => Self::PreparedTogether {
                transactions: vec![PreparedTransaction {
                    transaction,
                    stock: vec![StockPart { stock, lines }],
                    effects: Vec::new(),
                }],
            },
            Record::Decided {
                transaction,
                prepared,
                change,
                key,
            } => Self::DecidedTogether {
                at: change.at(),
                transactions: vec![DecidedTransaction {
                    transaction,
                    named: prepared,
                    changes: vec![Decided { change, key }],
                    effects: Vec::new(),
                }],
            },
            Record::Committed { transaction } => Self::ResolvedTogether {
                outcomes: vec![(transaction, true)],
            },
            Record::Aborted { transaction } => Self::ResolvedTogether {
                outcomes: vec![(transaction, false)],
            },
            Record::Answered { key } => Self::Answered { key },
            Record::KeysForgotten { slot, before } => Self::KeysForgotten { slot, before },
            Record::KeysChanged { at, effects } => EntriesRecord::Changed { at, effects }.into(),
            Record::KeysPrepared { transaction, effects } => Self::PreparedTogether {
                transactions: vec![PreparedTransaction {
                    transaction,
                    stock: Vec::new(),
                    effects,
                }],
            },
            Record::KeysDecided {
                transaction,
                prepared,
                at,
                effects,
            } => Self::DecidedTogether {
                at,
                transactions: vec![DecidedTransaction {
                    transaction,
                    named: prepared,
                    changes: Vec::new(),
                    effects,
                }],
            },
        }
    }
}

/// One part of a checkpoint of format 2.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Part {
    /// The first: carts and orders that pend where the checkpoint begins.
    Pending(Vec<(TransactionId, OldPending)>),
    /// A slot's items and keys, and how far its orders go.
    Slot {
        /// Index of the slot.
        slot: u16,
        /// The part shows the log up to here.
        position: LogPosition,
        /// The largest order sequence number given out.
        order_sequence: u64,
        /// Keys used before are forgotten, those of orders, too.
        keys_from: Timestamp,
        /// Its items: see [`crate::engine::books::shop::packed_item`].
        items: Vec<u8>,
        /// Its keys, but for those of orders.
        keys: Vec<KeyRecord>,
    },
    /// Some orders of a slot: those up to a sequence number and above that of the part before.
    Orders {
        /// Index of the slot.
        slot: u16,
        /// The part shows the log up to here.
        position: LogPosition,
        /// The largest sequence number that belongs to this part.
        sequence_last: u64,
        /// The orders, each with its length before: see [`crate::engine::books::shop::packed_order`].
        orders: Vec<u8>,
    },
    /// Some keys of the slot whose part came last, as of the same position.
    Entries {
        /// Index of the slot.
        slot: u16,
        /// The keys.
        entries: Vec<EntryImage>,
    },
    /// Transactions over keys that pend where the checkpoint begins.
    KeysPending(Vec<(TransactionId, LogPosition, OldKeysPending)>),
    /// The latest time in any record before the checkpoint, which none of its things may show.
    Latest(Timestamp),
}

/// What pended: lines of one cart or order.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OldPending {
    position: LogPosition,
    stock: StockChange,
    lines: Vec<StockLine>,
    decision: Option<OldDecision>,
}

/// A home's part of what pended in a checkpoint of format 2.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OldDecision {
    prepared: Vec<(ShardId, LogPosition)>,
    change: OrderChange,
    key: Option<KeyRecord>,
}

/// What pended: changes of keys.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OldKeysPending {
    prepared: Option<Vec<(ShardId, LogPosition)>>,
    effects: Vec<u8>,
}

impl From<OldPending> for Pending {
    fn from(pending: OldPending) -> Self {
        let OldPending {
            position,
            stock,
            lines,
            decision,
        } = pending;
        Self {
            position,
            stock: vec![StockPart { stock, lines }],
            effects: Vec::new(),
            decision: decision.map(|OldDecision { prepared, change, key }| Decision {
                named: prepared,
                changes: vec![Decided { change, key }],
            }),
        }
    }
}

impl From<OldKeysPending> for Pending {
    fn from(OldKeysPending { prepared, effects }: OldKeysPending) -> Self {
        Self {
            position: LogPosition::ZERO,
            stock: Vec::new(),
            effects,
            decision: prepared.map(|named| Decision {
                named,
                changes: Vec::new(),
            }),
        }
    }
}

/// Restores a part of a checkpoint. The error says what is wrong with it.
pub fn restore(restore: &mut Restore, bytes: &[u8]) -> Result<(), String> {
    match rkyv::from_bytes::<Part, rkyv::rancor::Error>(bytes).map_err(|error| error.to_string())? {
        Part::Pending(pending) => {
            let pending = pending.into_iter().map(|(id, pending)| (id, Pending::from(pending)));
            restore_pending(restore, pending.collect())
        }
        Part::Slot {
            slot,
            position,
            order_sequence,
            keys_from,
            items,
            keys,
        } => {
            let slot = restore.own_slot(slot)?;
            restore.positions.set_slot(slot, position);
            restore_items(&mut restore.state, slot, order_sequence, &items)?;
            restore.restore_request_keys(slot, keys_from, keys)
        }
        Part::Orders {
            slot,
            position,
            sequence_last,
            orders,
        } => restore_packed_orders(restore, slot, position, sequence_last, &orders),
        Part::Entries { slot, entries } => {
            let slot = restore.own_slot(slot)?;
            entries
                .into_iter()
                .try_for_each(|image| restore_image(restore, slot, Some(image)))
        }
        Part::KeysPending(pending) => {
            let pending = pending.into_iter().map(|(id, position, keys)| {
                let pending = Pending::from(keys);
                (id, Pending { position, ..pending })
            });
            restore_pending(restore, pending.collect())
        }
        Part::Latest(latest) => {
            restore.restore_latest(latest);
            Ok(())
        }
    }
}

fn restore_pending(restore: &mut Restore, pending: Vec<(TransactionId, Pending)>) -> Result<(), String> {
    for (id, pending) in &pending {
        if !are_effects(&pending.effects) {
            return Err(format!("{id:?} does nothing to keys that is known"));
        }
        pending.orders_made().try_for_each(PackedOrder::check)?;
    }
    restore.restore_pending(pending);
    Ok(())
}
