//! A shard's decided state, and the one function that changes it.
//!
//! [`State::apply`] takes records in log order, from live traffic and from recovery alike, and makes every choice that
//! is not in the record the same way each time (rule R5). What is in flight and not in the log is no part of this.

mod pending;

use cartwright_protocol::Slot;
use hashbrown::HashMap;

use crate::engine::books::shop::inventory::StockLine;
use crate::engine::books::shop::orders::Decided;
use crate::engine::books::{self, StockPart};
use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::ids::{LogPosition, ShardId, ShardMap, Timestamp, TransactionId};
use crate::engine::kernel::image_positions::ImagePositions;
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::record::{DecidedTransaction, PreparedTransaction, Record};
use crate::engine::kernel::request_keys::KeyRecord;
use crate::engine::kernel::slots::SlotState;

pub use pending::{Decision, Pending};

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Request keys kept.
    pub request_keys: u64,
    /// Of each book.
    pub books: books::Counts,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.request_keys += other.request_keys;
        self.books += other.books;
    }
}

/// A shard's decided state.
#[derive(Debug)]
pub struct State {
    shard: ShardId,
    map: ShardMap,
    first_slot: usize,
    slots: Vec<SlotState>,
    /// Transactions without an outcome in the log.
    pub pending: HashMap<TransactionId, Pending, TableHasher>,
    /// What each book keeps beside the slots.
    pub books: books::Indexes,
    /// How much there is of everything.
    pub counts: Counts,
    /// The latest time in any record.
    pub latest: Timestamp,
    /// While records are replayed, nothing is reserved.
    replaying: bool,
    /// While records are replayed over a checkpoint: where its images end.
    replayed_images: Option<ImagePositions>,
}

impl State {
    /// The empty state of `shard`.
    pub fn new(shard: ShardId, map: ShardMap) -> Self {
        let range = map.slots_of(shard);
        Self {
            shard,
            map,
            first_slot: range.start,
            slots: range.map(|_| SlotState::default()).collect(),
            pending: HashMap::default(),
            books: books::Indexes::default(),
            counts: Counts::default(),
            latest: Timestamp::default(),
            replaying: true,
            replayed_images: None,
        }
    }

    /// The state made of these slots, which are `shard`'s own, in order. Nothing pends.
    pub fn from_slots(shard: ShardId, map: ShardMap, mut slots: Vec<SlotState>) -> Self {
        let mut state = Self {
            slots: Vec::new(),
            ..Self::new(shard, map)
        };
        for slot in &mut slots {
            // A position in an older log means nothing in the new one.
            slot.changed_at = LogPosition::ZERO;
            state.counts.request_keys += slot.request_keys.len() as u64;
            let used = slot.request_keys.iter(&slot.books).map(|key| key.at());
            state.latest = used.fold(state.latest, Timestamp::max);
        }
        state.slots = slots;
        let own = state.slots().map(|(slot, _)| slot).collect::<Vec<_>>();
        for slot in own {
            books::adopt(&mut state, slot);
        }
        state
    }

    /// Which shard's state this is.
    pub const fn owner(&self) -> (ShardId, ShardMap) {
        (self.shard, self.map)
    }

    /// Puts back the request keys that a checkpoint holds of a slot, but for those that things hold.
    pub fn restore_request_keys(&mut self, slot: Slot, keys_from: Timestamp, keys: Vec<KeyRecord>) {
        self.counts.request_keys += keys.len() as u64;
        self.latest = keys.iter().map(|key| key.at).fold(self.latest, Timestamp::max);
        let state = self.slot_mut(slot);
        state.request_keys.forget(keys_from, &state.books);
        for key in keys {
            state.request_keys.insert(key);
        }
    }

    /// Records are replayed over what was restored so far as the positions tell.
    pub fn replay_over(&mut self, positions: ImagePositions) {
        self.replayed_images = Some(positions);
    }

    /// Its slots, in order.
    pub fn into_slots(self) -> Vec<SlotState> {
        self.slots
    }

    /// The slot, which this shard owns.
    pub fn slot(&self, slot: Slot) -> &SlotState {
        &self.slots[slot.index() - self.first_slot]
    }

    /// The slot, which this shard owns, to be changed.
    pub fn slot_mut(&mut self, slot: Slot) -> &mut SlotState {
        &mut self.slots[slot.index() - self.first_slot]
    }

    /// Every slot of this shard with its number.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, &SlotState)> {
        let number = |index: usize| Slot::new((self.first_slot + index) as u16).expect("a shard's slots are slots");
        self.slots
            .iter()
            .enumerate()
            .map(move |(index, slot)| (number(index), slot))
    }

    /// Whether this shard owns the slot.
    pub fn owns_slot(&self, slot: Slot) -> bool {
        slot.index().wrapping_sub(self.first_slot) < self.slots.len()
    }

    /// Applies the record at `position`. Returns what a change that is over did to items here.
    ///
    /// What a record does to one slot depends on that slot and the record alone. So a slot that was restored from a
    /// checkpoint takes up its records where its own image ends, whatever other slots do.
    ///
    /// # Panics
    /// Where the record contradicts the records before it: the log was not written by this code.
    pub fn apply(&mut self, position: LogPosition, record: Record) -> Option<Vec<StockLine>> {
        match record {
            Record::Started { .. } => {}
            Record::PreparedTogether { transactions } => {
                for prepared in transactions {
                    self.insert_prepared(position, prepared);
                }
            }
            Record::DecidedTogether { at, transactions } => {
                self.latest = self.latest.max(at);
                for decided in transactions {
                    self.insert_decided(position, decided);
                }
            }
            Record::ResolvedTogether { outcomes } => {
                let mut moved = Vec::new();
                for (transaction, committed) in outcomes {
                    moved.extend(self.resolve(position, transaction, committed));
                }
                return Some(moved);
            }
            Record::Book(record) => return record.apply(self, position),
            Record::Answered { key } => self.keep(position, Some(key)),
            Record::KeysForgotten { slot, before } => {
                let slot = Slot::new(slot).expect("a record's slot is a slot");
                if self.is_new_to(slot, position) {
                    let state = self.slot_mut(slot);
                    let forgotten = state.request_keys.forget(before, &state.books);
                    self.counts.request_keys -= forgotten as u64;
                }
            }
        }
        None
    }

    /// Whether `slot` has yet to see the record at `position`, and if so, notes that it changes there.
    pub(in crate::engine) fn takes_up(&mut self, slot: Slot, position: LogPosition) -> bool {
        let new = self.is_new_to(slot, position);
        if new {
            self.slot_mut(slot).changed_at = position;
        }
        new
    }

    /// A part is in the log. Live, its units have been reserved before.
    fn insert_prepared(&mut self, position: LogPosition, prepared: PreparedTransaction) {
        let PreparedTransaction {
            transaction,
            stock,
            effects,
        } = prepared;
        let pending = Pending {
            position,
            stock,
            effects,
            decision: None,
        };
        self.insert_pending(transaction, pending);
    }

    /// A decision is in the log. Live, the units of this shard have been reserved before.
    fn insert_decided(&mut self, position: LogPosition, decided: DecidedTransaction) {
        let DecidedTransaction {
            transaction,
            named,
            changes,
            effects,
        } = decided;
        let mut stock = Vec::with_capacity(changes.len());
        for Decided { change, .. } in &changes {
            let lines = change.stock_lines(|sku| self.owns(sku));
            if !lines.is_empty() {
                stock.push(StockPart {
                    stock: change.stock(),
                    lines,
                });
            }
        }
        self.give_out_numbers(&changes);
        let pending = Pending {
            position,
            stock,
            effects,
            decision: Some(Decision { named, changes }),
        };
        self.insert_pending(transaction, pending);
    }

    /// These changes are decided, and their record is about to follow: the numbers of the orders that they make are
    /// given out.
    pub fn give_out_numbers(&mut self, changes: &[Decided]) {
        for order in changes.iter().filter_map(|decided| decided.change.order_made()) {
            let id = order.id();
            let shop = &mut self.slot_mut(id.slot()).books.shop;
            shop.order_sequence = shop.order_sequence.max(id.sequence());
        }
    }

    fn insert_pending(&mut self, transaction: TransactionId, pending: Pending) {
        let before = self.pending.insert(transaction, pending);
        assert!(before.is_none(), "a shard takes part in {transaction:?} once");
    }

    /// Whether records are replayed.
    pub const fn is_replaying(&self) -> bool {
        self.replaying
    }

    /// Ends replaying: what still pends reserves its units, as it did before the crash.
    pub fn finish_replay(&mut self) {
        if std::mem::replace(&mut self.replaying, false) {
            self.replayed_images = None;
            let pending = std::mem::take(&mut self.pending);
            for part in pending.values().flat_map(|pending| &pending.stock) {
                self.reserve(part.stock, &part.lines);
            }
            self.pending = pending;
        }
    }

    fn resolve(&mut self, position: LogPosition, transaction: TransactionId, committed: bool) -> Vec<StockLine> {
        let pending = self.pending.remove(&transaction);
        let pending = pending.unwrap_or_else(|| panic!("{transaction:?} is resolved once, after it was prepared"));
        self.look_ahead_to_end(&pending);
        for StockPart { stock, lines } in &pending.stock {
            if !self.replaying {
                self.settle(*stock, lines, committed);
            } else if committed {
                // Nothing was reserved: a slot's image is of decided state.
                for line in lines {
                    if self.is_new_to(line.sku.slot(), position) {
                        let item = self.existing_item(&line.sku);
                        item.apply(*stock, line.quantity, &line.allocations);
                    }
                }
            }
        }
        if committed {
            self.apply_effects(position, &pending.effects);
        }
        if let Some(decision) = pending.decision
            && committed
        {
            for Decided { change, key } in decision.changes {
                let slot = change.id().slot();
                let changed_at = self.slot(slot).changed_at;
                let keeps_key = !is_on(Mutation::LoseKey);
                self.change_order(position, change, keeps_key);
                self.keep(position, key.filter(|_| keeps_key));
                // What it changed was safe before: no reply has to wait for this record.
                self.slot_mut(slot).changed_at = changed_at;
            }
        }
        pending.stock.into_iter().flat_map(|part| part.lines).collect()
    }

    /// Where records are replayed over a checkpoint: where its images end.
    pub(in crate::engine) const fn replayed_images(&self) -> Option<&ImagePositions> {
        self.replayed_images.as_ref()
    }

    /// Whether `slot` has yet to see the record at `position`.
    pub(in crate::engine) fn is_new_to(&self, slot: Slot, position: LogPosition) -> bool {
        self.replayed_images
            .as_ref()
            .is_none_or(|images| images.slot(slot) < position)
    }

    pub(in crate::engine) fn keep(&mut self, position: LogPosition, key: Option<KeyRecord>) {
        let Some(key) = key else { return };
        self.latest = self.latest.max(key.at);
        let slot = key.scope.slot();
        if self.takes_up(slot, position) {
            self.counts.request_keys += 1;
            self.slot_mut(slot).request_keys.insert(key);
        }
    }
}
