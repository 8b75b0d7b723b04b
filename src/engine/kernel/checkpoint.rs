//! Checkpoints: a shard's state written out piece by piece while it keeps changing.
//!
//! Every piece (a *part*) is the exact state of some things of one slot at one log position, which it names. Parts are
//! taken one after the other, each in a moment, from the position where the checkpoint *begins* to that where it *ends*:
//! nothing is copied ahead of a write, and no write waits. Restoring reads the parts, then replays the log from where
//! the checkpoint begins; a record reaches only those things whose part is older than it (see `State::apply`).
//! What pends when the checkpoint begins is its first part.

use std::collections::VecDeque;

use cartwright_core::codec::Reader;
use cartwright_protocol::{OrderId, SLOT_COUNT, Slot};
use hashbrown::HashMap;

use crate::engine::books::StockPart;
use crate::engine::books::entries::{EntriesCursor, EntryImage, Restored, are_effects, fields_of};
use crate::engine::books::shop::inventory::{StockChange, StockLine};
use crate::engine::books::shop::orders::{Decided, OrderChange};
use crate::engine::books::shop::packed_item::{put_item, take_item};
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::ids::{LogPosition, RecordKind, ShardId, ShardMap, Timestamp, TransactionId};
use crate::engine::kernel::limits::EngineLimits;
use crate::engine::kernel::record::RecordError;
use crate::engine::kernel::request_keys::KeyRecord;
use crate::engine::kernel::shard::Shard;
use crate::engine::kernel::slots::SlotState;
use crate::engine::kernel::state::{Decision, Pending, State};

/// How many orders one part holds at most: what bounds the pause of a slot in which one customer has very many.
const ORDERS_PER_PART: u64 = 256;

/// How long a part of pending transactions gets, but for one that is longer by itself.
const PENDING_PART_BYTES: usize = 1 << 20;

/// One part of a checkpoint.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Part {
    /// In checkpoints of format 2, the first: carts and orders that pend where the checkpoint begins.
    Pending(Vec<(TransactionId, PendingOfFormat2)>),
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
    /// In checkpoints of format 2: transactions over keys that pend where the checkpoint begins.
    KeysPending(Vec<(TransactionId, LogPosition, KeysPendingOfFormat2)>),
    /// The latest time in any record before the checkpoint, which none of its things may show.
    Latest(Timestamp),
    /// The first, where there are any: transactions that pend where the checkpoint begins.
    Transactions(Vec<(TransactionId, Pending)>),
}

/// What pended in a checkpoint of format 2: lines of one cart or order.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PendingOfFormat2 {
    position: LogPosition,
    stock: StockChange,
    lines: Vec<StockLine>,
    decision: Option<DecisionOfFormat2>,
}

/// A home's part of what pended in a checkpoint of format 2.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DecisionOfFormat2 {
    prepared: Vec<(ShardId, LogPosition)>,
    change: OrderChange,
    key: Option<KeyRecord>,
}

/// What pended in a checkpoint of format 2: changes of keys.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct KeysPendingOfFormat2 {
    prepared: Option<Vec<(ShardId, LogPosition)>>,
    effects: Vec<u8>,
}

impl From<PendingOfFormat2> for Pending {
    fn from(pending: PendingOfFormat2) -> Self {
        let PendingOfFormat2 {
            position,
            stock,
            lines,
            decision,
        } = pending;
        Self {
            position,
            stock: vec![StockPart { stock, lines }],
            effects: Vec::new(),
            decision: decision.map(|DecisionOfFormat2 { prepared, change, key }| Decision {
                named: prepared,
                changes: vec![Decided { change, key }],
            }),
        }
    }
}

/// Where the parts of a restored checkpoint end, thing by thing.
#[derive(Debug)]
pub struct ImagePositions {
    begins: LogPosition,
    slots: Vec<LogPosition>,
    /// Ascending by sequence number within a slot.
    orders: HashMap<u16, Vec<(u64, LogPosition)>, TableHasher>,
}

impl ImagePositions {
    /// The items and keys of `slot` are restored as of this position.
    pub fn slot(&self, slot: Slot) -> LogPosition {
        self.slots[slot.index()]
    }

    /// The order `id` is restored as of this position.
    pub fn order(&self, id: OrderId) -> LogPosition {
        let parts = self.orders.get(&(id.slot().index() as u16));
        let part = parts.and_then(|parts| parts.iter().find(|&&(last, _)| id.sequence() <= last));
        part.map_or(self.begins, |&(_, position)| position)
    }
}

/// A checkpoint in progress. Belongs to the driver, which asks for part after part and writes them.
#[derive(Debug)]
pub struct CheckpointCursor {
    begins: LogPosition,
    ends: LogPosition,
    stage: Stage,
    /// The keys of the slot before, if not all of them are written.
    entries: Option<(u16, EntriesCursor)>,
    pending: VecDeque<(TransactionId, Pending)>,
    /// Memory in which items and orders are packed.
    packed: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Pending,
    Slot(usize),
    Orders { slot: usize, after: u64 },
    Done,
}

impl CheckpointCursor {
    /// A checkpoint that begins at the end of the shard's log.
    pub fn begin(shard: &Shard) -> Self {
        Self {
            begins: shard.end,
            ends: shard.end,
            stage: Stage::Pending,
            entries: None,
            pending: VecDeque::new(),
            packed: Vec::new(),
        }
    }

    /// The log is replayed from behind this position; records up to it are not needed any more.
    pub const fn begins(&self) -> LogPosition {
        self.begins
    }

    /// The latest position that a part so far shows. A checkpoint may be trusted once the log is synced up to here.
    pub const fn ends(&self) -> LogPosition {
        self.ends
    }

    /// How much of the slots is written, from 0 to 1.
    pub fn progress(&self, shard: &Shard) -> f64 {
        let range = shard.map.slots_of(shard.id);
        let at = match self.stage {
            Stage::Pending => range.start,
            Stage::Slot(slot) | Stage::Orders { slot, .. } => slot,
            Stage::Done => range.end,
        };
        (at - range.start) as f64 / range.len() as f64
    }

    /// Encodes the next part into `buffer` and says what it is; `None` when there is none. Empty slots make no part. Takes well under a
    /// millisecond unless a single slot holds tens of thousands of items or keys.
    ///
    /// The first call must come before the shard takes another step.
    pub fn next_part(&mut self, shard: &Shard, buffer: &mut Vec<u8>) -> Option<RecordKind> {
        let range = shard.map.slots_of(shard.id);
        let position = shard.end;
        loop {
            if let Some(part) = self.part_left() {
                self.ends = position;
                encode(&part, buffer);
                return Some(RecordKind::OF_FORMAT_2);
            }
            let part = match self.stage {
                Stage::Pending => {
                    assert_eq!(self.begins, position, "what pends is taken where the checkpoint begins");
                    self.stage = Stage::Slot(range.start);
                    let pending = shard.state.pending.iter();
                    self.pending = pending.map(|(&id, pending)| (id, pending.clone())).collect();
                    let in_order = self.pending.make_contiguous();
                    in_order.sort_by_key(|(_, pending)| pending.position);
                    Part::Latest(shard.state.latest)
                }
                Stage::Slot(index) if index == range.end => {
                    self.stage = Stage::Done;
                    return None;
                }
                Stage::Slot(index) => {
                    let state = shard.state.slot(slot_at(index));
                    if state.books.shop.order_sequence == 0 {
                        self.stage = Stage::Slot(index + 1);
                    } else {
                        self.stage = Stage::Orders { slot: index, after: 0 };
                    }
                    if state.is_empty() {
                        continue;
                    }
                    let entries = &state.books.entries.table;
                    if !entries.is_empty() {
                        self.entries = Some((index as u16, EntriesCursor::begin(entries)));
                    }
                    slot_part(index, position, state, self.packed_memory())
                }
                Stage::Orders { slot, after } => {
                    let state = &shard.state.slot(slot_at(slot)).books.shop;
                    let last = (after + ORDERS_PER_PART).min(state.order_sequence);
                    self.stage = if last < state.order_sequence {
                        Stage::Orders { slot, after: last }
                    } else {
                        Stage::Slot(slot + 1)
                    };
                    let mut orders = self.packed_memory();
                    let packed = state.orders_between(after, last);
                    packed.for_each(|order| order.put_unlinked(&mut orders));
                    Part::Orders {
                        slot: slot as u16,
                        position,
                        sequence_last: last,
                        orders,
                    }
                }
                Stage::Done => return None,
            };
            self.ends = position;
            encode(&part, buffer);
            if let Part::Slot { items: packed, .. } | Part::Orders { orders: packed, .. } = part {
                self.packed = packed;
            }
            return Some(RecordKind::OF_FORMAT_2);
        }
    }

    fn packed_memory(&mut self) -> Vec<u8> {
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        packed
    }

    /// What belongs to the part before and is not written.
    fn part_left(&mut self) -> Option<Part> {
        if !self.pending.is_empty() {
            let (mut pending, mut bytes) = (Vec::new(), 0);
            while bytes < PENDING_PART_BYTES
                && let Some(one) = self.pending.pop_front()
            {
                bytes += one.1.bytes();
                pending.push(one);
            }
            return Some(Part::Transactions(pending));
        }
        let (slot, entries) = self.entries.as_mut()?;
        let slot = *slot;
        let piece = entries.piece();
        if piece.is_none() {
            self.entries = None;
        }
        piece.map(|entries| Part::Entries { slot, entries })
    }
}

fn encode(part: &Part, buffer: &mut Vec<u8>) {
    let mut taken = std::mem::take(buffer);
    taken.clear();
    *buffer = rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(part, taken)
        .expect("encoding into growing memory does not fail");
}

fn slot_at(index: usize) -> Slot {
    Slot::new(index as u16).expect("a shard's slots are slots")
}

fn slot_part(index: usize, position: LogPosition, state: &SlotState, mut items: Vec<u8>) -> Part {
    state.books.shop.items().for_each(|item| put_item(&mut items, item));
    Part::Slot {
        slot: index as u16,
        position,
        order_sequence: state.books.shop.order_sequence,
        keys_from: state.request_keys.from(),
        items,
        keys: state.request_keys.records().cloned().collect(),
    }
}

/// A checkpoint being read back.
#[derive(Debug)]
pub struct Restore {
    state: State,
    positions: ImagePositions,
    part_count: u64,
}

impl Restore {
    /// Reads a checkpoint of `shard` that begins at `begins`.
    pub fn new(shard: ShardId, map: ShardMap, begins: LogPosition) -> Self {
        let positions = ImagePositions {
            begins,
            slots: vec![begins; SLOT_COUNT],
            orders: HashMap::with_hasher(TableHasher),
        };
        Self {
            state: State::new(shard, map),
            positions,
            part_count: 0,
        }
    }

    /// Takes the next part, in the order in which they were written.
    pub fn part(&mut self, kind: RecordKind, bytes: &[u8]) -> Result<(), RecordError> {
        let position = LogPosition(self.part_count);
        if kind != RecordKind::OF_FORMAT_2 {
            return Err(RecordError::Unknown { position, kind });
        }
        let refused = |detail| RecordError::Undecodable { position, detail };
        let part = rkyv::from_bytes::<Part, rkyv::rancor::Error>(bytes).map_err(|error| refused(error.to_string()))?;
        if let Part::Slot { slot, .. } | Part::Orders { slot, .. } | Part::Entries { slot, .. } = part {
            let (shard, map) = self.state.owner();
            if Slot::new(slot).is_none_or(|slot| map.shard_of(slot) != shard) {
                return Err(refused(format!("slot {slot} is not one of shard {shard}")));
            }
        }
        self.part_count += 1;
        match part {
            Part::Transactions(pending) => self.restore_pending(pending).map_err(refused)?,
            Part::Pending(pending) => {
                let pending = pending.into_iter().map(|(id, pending)| (id, pending.into()));
                self.restore_pending(pending.collect()).map_err(refused)?;
            }
            Part::Slot {
                slot,
                position,
                order_sequence,
                keys_from,
                items,
                keys,
            } => {
                self.positions.slots[usize::from(slot)] = position;
                let mut reader = Reader { bytes: &items };
                let mut fault = false;
                let items = std::iter::from_fn(|| {
                    let item = (!reader.bytes.is_empty()).then(|| take_item(&mut reader))?;
                    let item = item.filter(|item| item.sku.slot().index() == usize::from(slot));
                    fault = item.is_none();
                    item
                });
                let slot_number = slot_at(slot.into());
                self.state.restore_items(slot_number, order_sequence, items);
                self.state.restore_request_keys(slot_number, keys_from, keys);
                if fault {
                    return Err(refused(format!("slot {slot} has an item that is none")));
                }
            }
            Part::Orders {
                slot,
                position,
                sequence_last,
                orders,
            } => {
                let orders = self.orders_of(slot, sequence_last, &orders).map_err(refused)?;
                let positions = self.positions.orders.entry(slot).or_default();
                positions.push((sequence_last, position));
                self.state.restore_orders(slot_at(slot.into()), orders);
            }
            Part::Entries { slot, entries } => {
                let slot = slot_at(slot.into());
                for image in entries {
                    let is_restored = match image.restore() {
                        None => false,
                        Some(Restored::Entry(entry)) if Slot::of(&entry.key) != slot => false,
                        Some(Restored::Entry(entry)) => self.state.restore_entry(slot, entry),
                        Some(Restored::Fields(key, image)) => self.state.restore_fields(slot, &key, fields_of(&image)),
                        Some(Restored::Bytes(key, bytes)) => self.state.restore_bytes(slot, &key, &bytes),
                    };
                    if !is_restored {
                        return Err(refused(format!("slot {} has a key that is none", slot.index())));
                    }
                }
            }
            Part::Latest(latest) => self.state.latest = self.state.latest.max(latest),
            Part::KeysPending(pending) => {
                let pending = pending.into_iter().map(|(id, position, keys)| {
                    let decision = keys.prepared.map(|named| Decision {
                        named,
                        changes: Vec::new(),
                    });
                    let pending = Pending {
                        position,
                        stock: Vec::new(),
                        effects: keys.effects,
                        decision,
                    };
                    (id, pending)
                });
                self.restore_pending(pending.collect()).map_err(refused)?;
            }
        }
        Ok(())
    }

    fn restore_pending(&mut self, pending: Vec<(TransactionId, Pending)>) -> Result<(), String> {
        for (id, pending) in pending {
            if !are_effects(&pending.effects) {
                return Err(format!("{id:?} does nothing to keys that is known"));
            }
            pending.orders_made().try_for_each(PackedOrder::check)?;
            self.state.pending.insert(id, pending);
        }
        Ok(())
    }

    /// The orders of a part. They are found by their numbers, so these must be those that the parts before leave.
    fn orders_of(&self, slot: u16, sequence_last: u64, packed: &[u8]) -> Result<Vec<PackedOrder>, String> {
        let parts = self.positions.orders.get(&slot);
        let after = parts.and_then(|parts| parts.last()).map_or(0, |&(last, _)| last);
        if sequence_last <= after || sequence_last - after > ORDERS_PER_PART {
            return Err(format!(
                "orders up to {sequence_last} of slot {slot} follow those up to {after}"
            ));
        }
        let (mut orders, mut last) = (Vec::new(), after);
        let mut reader = Reader { bytes: packed };
        while !reader.bytes.is_empty() {
            let bytes = reader.string().ok_or("an order is cut short")?;
            let order = PackedOrder::from_bytes(bytes);
            order.check()?;
            let id = order.id();
            if id.slot().index() != usize::from(slot) || id.sequence() <= last || id.sequence() > sequence_last {
                return Err(format!("order {id} is none of those of slot {slot} behind {last}"));
            }
            last = id.sequence();
            orders.push(order);
        }
        Ok(orders)
    }

    /// The shard as of the checkpoint: the log is replayed into it from behind where the checkpoint begins.
    pub fn finish(self, limits: EngineLimits) -> Shard {
        let (id, map) = self.state.owner();
        let begins = self.positions.begins;
        let mut shard = Shard::with_state(id, map, limits, self.state);
        shard.end = begins;
        shard.state.replay_over(self.positions);
        shard
    }
}
