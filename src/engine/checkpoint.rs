//! Checkpoints: a shard's state written out piece by piece while it keeps changing.
//!
//! Every piece (a *part*) is the exact state of some things of one slot at one log position, which it names. Parts are
//! taken one after the other, each in a moment, from the position where the checkpoint *begins* to that where it *ends*:
//! nothing is copied ahead of a write, and no write waits. Restoring reads the parts, then replays the log from where
//! the checkpoint begins; a record reaches only those things whose part is older than it (see `State::apply`).
//! What pends when the checkpoint begins is its first part.

use cartwright_protocol::{Amount, Currency, Location, OrderId, Quantity, SLOT_COUNT, Sku, Slot, Text};
use hashbrown::HashMap;

use super::hashing::TableHasher;
use super::idempotency::KeyRecord;
use super::ids::{LogPosition, ShardId, ShardMap, Timestamp, TransactionId};
use super::inventory::{Item, Level};
use super::keyspace::{EntriesCursor, EntryImage, Restored, are_effects, fields_of};
use super::limits::EngineLimits;
use super::packed_order::PackedOrder;
use super::record::RecordError;
use super::shard::Shard;
use super::slots::{KeptKey, SlotState};
use super::state::{KeysPending, Pending, State};

/// How many orders one part holds at most: what bounds the pause of a slot in which one customer has very many.
const ORDERS_PER_PART: u64 = 256;

/// An item as a part holds it: decided state only.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ItemImage {
    sku: Sku,
    price: Amount,
    currency: Currency,
    name: Text,
    limit: Option<Quantity>,
    backorder: u32,
    levels: Vec<LevelImage>,
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct LevelImage {
    location: Location,
    on_hand: i64,
    held: i64,
    committed: i64,
}

impl ItemImage {
    fn of(item: &Item) -> Self {
        let level = |(location, level): (&str, &Level)| LevelImage {
            location: location.parse().expect("a level's location is a location"),
            on_hand: level.on_hand,
            held: level.held,
            committed: level.committed,
        };
        Self {
            sku: item.sku.clone(),
            price: item.price,
            currency: item.currency,
            name: item.name.clone(),
            limit: item.limit,
            backorder: item.backorder,
            levels: item.levels().map(level).collect(),
        }
    }

    fn restore(self) -> Item {
        let mut item = Item::new(self.sku, self.price, self.currency);
        item.name = self.name;
        item.limit = self.limit;
        item.backorder = self.backorder;
        for level in self.levels {
            item.restore_level(&level.location, level.on_hand, level.held, level.committed);
        }
        item
    }
}

/// One part of a checkpoint.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Part {
    /// The first: what pends where the checkpoint begins.
    Pending(Vec<(TransactionId, Pending)>),
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
        /// Its items.
        items: Vec<ItemImage>,
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
        /// The orders.
        orders: Vec<PackedOrder>,
    },
    /// Some keys of the slot whose part came last, as of the same position.
    Entries {
        /// Index of the slot.
        slot: u16,
        /// The keys.
        entries: Vec<EntryImage>,
    },
    /// The second, where there are any: transactions over keys that pend where the checkpoint begins.
    KeysPending(Vec<(TransactionId, LogPosition, KeysPending)>),
    /// The latest time in any record before the checkpoint, which none of its things may show.
    Latest(Timestamp),
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
    keys_pending: Vec<(TransactionId, LogPosition, KeysPending)>,
    latest: Option<Timestamp>,
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
            keys_pending: Vec::new(),
            latest: None,
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

    /// Encodes the next part into `buffer`; `false` when there is none. Empty slots make no part. Takes well under a
    /// millisecond unless a single slot holds tens of thousands of items or keys.
    ///
    /// The first call must come before the shard takes another step.
    pub fn next_part(&mut self, shard: &Shard, buffer: &mut Vec<u8>) -> bool {
        let range = shard.map.slots_of(shard.id);
        let position = shard.end;
        loop {
            if let Some(part) = self.part_left() {
                self.ends = position;
                encode(&part, buffer);
                return true;
            }
            let part = match self.stage {
                Stage::Pending => {
                    assert_eq!(self.begins, position, "what pends is taken where the checkpoint begins");
                    self.stage = Stage::Slot(range.start);
                    let (of_keys, of_shop): (Vec<_>, Vec<_>) = shard
                        .state
                        .pending
                        .iter()
                        .partition(|(_, pending)| pending.keys.is_some());
                    let of_keys = of_keys.into_iter().filter_map(|(&id, pending)| {
                        let keys = pending.keys.clone()?;
                        Some((id, pending.position, keys))
                    });
                    self.keys_pending = of_keys.collect();
                    self.keys_pending.sort_by_key(|&(_, position, _)| position);
                    self.latest = Some(shard.state.latest);
                    let mut pending: Vec<_> = of_shop
                        .into_iter()
                        .map(|(&id, pending)| (id, pending.clone()))
                        .collect();
                    pending.sort_by_key(|(_, pending)| pending.position);
                    Part::Pending(pending)
                }
                Stage::Slot(index) if index == range.end => {
                    self.stage = Stage::Done;
                    return false;
                }
                Stage::Slot(index) => {
                    let state = shard.state.slot(slot_at(index));
                    if state.order_sequence == 0 {
                        self.stage = Stage::Slot(index + 1);
                    } else {
                        self.stage = Stage::Orders { slot: index, after: 0 };
                    }
                    if state.is_empty() {
                        continue;
                    }
                    if !state.entries.is_empty() {
                        self.entries = Some((index as u16, EntriesCursor::begin(&state.entries)));
                    }
                    slot_part(index, position, state)
                }
                Stage::Orders { slot, after } => {
                    let state = shard.state.slot(slot_at(slot));
                    let last = (after + ORDERS_PER_PART).min(state.order_sequence);
                    self.stage = if last < state.order_sequence {
                        Stage::Orders { slot, after: last }
                    } else {
                        Stage::Slot(slot + 1)
                    };
                    let orders = (after + 1..=last)
                        .filter_map(|sequence| state.order(OrderId::new(slot_at(slot), sequence)))
                        .map(PackedOrder::unlinked)
                        .collect();
                    Part::Orders {
                        slot: slot as u16,
                        position,
                        sequence_last: last,
                        orders,
                    }
                }
                Stage::Done => return false,
            };
            self.ends = position;
            encode(&part, buffer);
            return true;
        }
    }

    /// What belongs to the part before and is not written.
    fn part_left(&mut self) -> Option<Part> {
        if !self.keys_pending.is_empty() {
            return Some(Part::KeysPending(std::mem::take(&mut self.keys_pending)));
        }
        if let Some(latest) = self.latest.take() {
            return Some(Part::Latest(latest));
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

fn slot_part(index: usize, position: LogPosition, state: &SlotState) -> Part {
    Part::Slot {
        slot: index as u16,
        position,
        order_sequence: state.order_sequence,
        keys_from: state.keys_from(),
        items: state.items().map(ItemImage::of).collect(),
        keys: state
            .keys()
            .filter_map(|kept| match kept {
                KeptKey::Order(_) => None,
                KeptKey::Record(record) => Some(record.clone()),
            })
            .collect(),
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
    pub fn part(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        let position = LogPosition(self.part_count);
        let refused = |detail| RecordError::Undecodable { position, detail };
        let part = rkyv::from_bytes::<Part, rkyv::rancor::Error>(bytes).map_err(|error| refused(error.to_string()))?;
        if let Part::Slot { slot, .. } | Part::Orders { slot, .. } | Part::Entries { slot, .. } = part {
            let (shard, map) = self.state.owner();
            if Slot::new(slot).is_none_or(|slot| map.shard_of(slot) != shard) {
                return Err(refused(format!("slot {slot} is not one of shard {shard}")));
            }
        }
        self.check_orders(&part).map_err(refused)?;
        self.part_count += 1;
        match part {
            Part::Pending(pending) => self.state.pending.extend(pending),
            Part::Slot {
                slot,
                position,
                order_sequence,
                keys_from,
                items,
                keys,
            } => {
                self.positions.slots[usize::from(slot)] = position;
                let items = items.into_iter().map(ItemImage::restore);
                self.state
                    .restore_slot(slot_at(slot.into()), (order_sequence, keys_from), items, keys);
            }
            Part::Orders {
                slot,
                position,
                sequence_last,
                orders,
            } => {
                self.positions
                    .orders
                    .entry(slot)
                    .or_default()
                    .push((sequence_last, position));
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
                    };
                    if !is_restored {
                        return Err(refused(format!("slot {} has a key that is none", slot.index())));
                    }
                }
            }
            Part::Latest(latest) => self.state.latest = self.state.latest.max(latest),
            Part::KeysPending(pending) => {
                for (id, position, keys) in pending {
                    if !are_effects(keys.effects()) {
                        return Err(refused(format!("{id:?} does nothing to keys that is known")));
                    }
                    self.state.pending.insert(id, Pending::about(position, keys));
                }
            }
        }
        Ok(())
    }

    /// Orders are found by their numbers, so these must be those that the parts before leave.
    fn check_orders(&self, part: &Part) -> Result<(), String> {
        match part {
            Part::Pending(pending) => {
                let mut made = pending.iter().filter_map(|(_, pending)| pending.order_made());
                made.try_for_each(PackedOrder::check).map_err(ToOwned::to_owned)
            }
            Part::Slot { .. } | Part::Entries { .. } | Part::KeysPending(_) | Part::Latest(_) => Ok(()),
            Part::Orders {
                slot,
                sequence_last,
                orders,
                ..
            } => {
                let parts = self.positions.orders.get(slot);
                let after = parts.and_then(|parts| parts.last()).map_or(0, |&(last, _)| last);
                if *sequence_last <= after || *sequence_last - after > ORDERS_PER_PART {
                    return Err(format!(
                        "orders up to {sequence_last} of slot {slot} follow those up to {after}"
                    ));
                }
                let mut last = after;
                for order in orders {
                    order.check()?;
                    let id = order.id();
                    if id.slot().index() != usize::from(*slot)
                        || id.sequence() <= last
                        || id.sequence() > *sequence_last
                    {
                        return Err(format!("order {id} is none of those of slot {slot} behind {last}"));
                    }
                    last = id.sequence();
                }
                Ok(())
            }
        }
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
