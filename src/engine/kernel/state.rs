//! A shard's decided state, and the one function that changes it.
//!
//! [`State::apply`] takes records in log order, from live traffic and from recovery alike, and makes every choice that
//! is not in the record the same way each time (rule R5). What is in flight and not in the log is no part of this.

mod items;
mod pending;

use std::collections::BTreeSet;

use cartwright_protocol::{OrderId, Slot};
use hashbrown::HashMap;

use crate::engine::books::entries::Expiry;
use crate::engine::books::shop::inventory::{Item, StockLine};
use crate::engine::books::shop::orders::OrderChange;
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::checkpoint::ImagePositions;
use crate::engine::kernel::hashing::TableHasher;
use crate::engine::kernel::ids::{LogPosition, ShardId, ShardMap, Timestamp, TransactionId};
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::record::Record;
use crate::engine::kernel::request_keys::KeyRecord;
use crate::engine::kernel::slots::SlotState;

pub use pending::{Decision, KeysPending, Pending};

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Catalogue entries.
    pub items: u64,
    /// Orders, in any state.
    pub orders: u64,
    /// Order lines.
    pub lines: u64,
    /// Idempotency keys kept.
    pub keys: u64,
    /// Orders held.
    pub held: u64,
    /// Keys of the keyspace.
    pub entries: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.items += other.items;
        self.orders += other.orders;
        self.lines += other.lines;
        self.keys += other.keys;
        self.held += other.held;
        self.entries += other.entries;
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
    /// Held orders by when they expire.
    pub expirations: BTreeSet<(Timestamp, OrderId)>,
    /// Keys that expire, by when.
    pub entry_expirations: BTreeSet<Expiry>,
    /// The last record that changed any key.
    pub entries_changed_at: LogPosition,
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
            expirations: BTreeSet::new(),
            entry_expirations: BTreeSet::new(),
            entries_changed_at: LogPosition::ZERO,
            counts: Counts::default(),
            latest: Timestamp::default(),
            replaying: true,
            replayed_images: None,
        }
    }

    /// The state made of these slots, which are `shard`'s own, in order. Nothing pends.
    pub fn from_slots(shard: ShardId, map: ShardMap, slots: Vec<SlotState>) -> Self {
        let mut state = Self {
            slots: Vec::new(),
            ..Self::new(shard, map)
        };
        for slot in &slots {
            state.counts.items += slot.item_count() as u64;
            state.counts.keys += slot.key_count() as u64;
            state.latest = slot.keys().map(|key| key.at()).fold(state.latest, Timestamp::max);
            for order in slot.orders() {
                state.counts.orders += 1;
                state.counts.lines += u64::from(order.line_count());
                state.latest = state.latest.max(order.updated_at());
                if let Some(expires_at) = order.expires_at() {
                    state.counts.held += 1;
                    state.expirations.insert((expires_at, order.id()));
                }
            }
        }
        state.slots = slots;
        // A position in an older log means nothing in the new one.
        for slot in &mut state.slots {
            slot.changed_at = LogPosition::ZERO;
        }
        state.adopt_entries();
        state
    }

    /// Which shard's state this is.
    pub const fn owner(&self) -> (ShardId, ShardMap) {
        (self.shard, self.map)
    }

    /// Puts back what a checkpoint holds of a slot.
    pub fn restore_slot(
        &mut self,
        slot: Slot,
        (order_sequence, keys_from): (u64, Timestamp),
        items: impl Iterator<Item = Item>,
        keys: Vec<KeyRecord>,
    ) {
        let mut counts = Counts::default();
        let mut latest = self.latest;
        let state = self.slot_mut(slot);
        state.order_sequence = order_sequence;
        state.forget_keys(keys_from);
        for item in items {
            counts.items += 1;
            state.insert_item(item);
        }
        for key in keys {
            counts.keys += 1;
            latest = latest.max(key.at);
            state.insert_key(key);
        }
        self.latest = latest;
        self.counts += counts;
    }

    /// Puts back some of a slot's orders, with their keys.
    pub fn restore_orders(&mut self, slot: Slot, orders: Vec<PackedOrder>) {
        for order in orders {
            // The slot's own part may be older than this one.
            let state = self.slot_mut(slot);
            state.order_sequence = state.order_sequence.max(order.id().sequence());
            self.latest = self.latest.max(order.updated_at());
            self.insert_order(order, true);
        }
    }

    /// Adds an order that is decided, and counts it.
    fn insert_order(&mut self, order: PackedOrder, with_key: bool) {
        let id = order.id();
        self.counts.orders += 1;
        self.counts.lines += u64::from(order.line_count());
        if let Some(expires_at) = order.expires_at() {
            self.expirations.insert((expires_at, id));
            self.counts.held += 1;
        }
        let is_kept = self.slot_mut(id.slot()).insert_order(order, with_key);
        self.counts.keys += u64::from(is_kept);
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

    /// The order, which this shard owns.
    pub fn order(&self, id: OrderId) -> Option<&PackedOrder> {
        self.slot(id.slot()).order(id)
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
            Record::ItemPut {
                sku,
                price,
                currency,
                name,
                limit,
                backorder,
                key,
            } => {
                if self.takes_up(sku.slot(), position) {
                    let change = |item: &mut Item| {
                        item.price = price;
                        item.currency = currency;
                        item.name = name;
                        item.limit = limit;
                        item.backorder = backorder;
                    };
                    self.put_item(&sku, change, || Item::new(sku.clone(), price, currency));
                }
                self.keep(position, key);
            }
            Record::StockAdded {
                sku,
                location,
                delta,
                at,
                key,
                ..
            } => {
                self.latest = self.latest.max(at);
                if self.takes_up(sku.slot(), position) {
                    let times = 1 + usize::from(self.replaying && is_on(Mutation::ApplyTwice));
                    for _ in 0..times {
                        self.existing_item(&sku).add(&location, delta);
                    }
                }
                self.keep(position, key);
            }
            Record::OrderChanged { change, key } => {
                let stock = change.stock();
                let lines = match &change {
                    OrderChange::Made(order) => {
                        order.lines().for_each(|line| {
                            self.apply_line(position, line.sku_bytes(), stock, line.ordered, &line.allocations);
                        });
                        None
                    }
                    OrderChange::Moved { lines, .. } => {
                        for line in lines {
                            self.apply_line(position, line.sku.as_bytes(), stock, line.quantity, &line.allocations);
                        }
                        Some(lines.clone())
                    }
                };
                self.change_order(position, change, true);
                self.keep(position, key);
                return lines;
            }
            Record::Prepared {
                transaction,
                stock,
                lines,
            } => {
                self.insert_pending(
                    transaction,
                    Pending {
                        position,
                        stock,
                        lines,
                        decision: None,
                        keys: None,
                    },
                );
            }
            Record::KeysChanged { at, effects } => {
                self.latest = self.latest.max(at);
                self.apply_effects(position, &effects);
            }
            Record::KeysPrepared { transaction, effects } => {
                self.insert_pending(transaction, Pending::of_keys(position, None, effects));
            }
            Record::KeysDecided {
                transaction,
                prepared,
                at,
                effects,
            } => {
                self.latest = self.latest.max(at);
                self.insert_pending(transaction, Pending::of_keys(position, Some(prepared), effects));
            }
            Record::Decided {
                transaction,
                prepared,
                change,
                key,
            } => {
                let (stock, lines) = (change.stock(), change.stock_lines(|sku| self.owns(sku)));
                if let OrderChange::Made(order) = &change {
                    let id = order.id();
                    let slot = self.slot_mut(id.slot());
                    slot.order_sequence = slot.order_sequence.max(id.sequence());
                }
                let decision = Some(Decision { prepared, change, key });
                self.insert_pending(
                    transaction,
                    Pending {
                        position,
                        stock,
                        lines,
                        decision,
                        keys: None,
                    },
                );
            }
            Record::Committed { transaction } => return Some(self.resolve(position, transaction, true)),
            Record::Aborted { transaction } => return Some(self.resolve(position, transaction, false)),
            Record::Answered { key } => self.keep(position, Some(key)),
            Record::KeysForgotten { slot, before } => {
                let slot = Slot::new(slot).expect("a record's slot is a slot");
                if self.is_new_to(slot, position) {
                    self.counts.keys -= self.slot_mut(slot).forget_keys(before) as u64;
                }
            }
        }
        None
    }

    /// Whether `slot` has yet to see the record at `position`, and if so, notes that it changes there.
    fn takes_up(&mut self, slot: Slot, position: LogPosition) -> bool {
        let new = self.is_new_to(slot, position);
        if new {
            self.slot_mut(slot).changed_at = position;
        }
        new
    }

    fn insert_pending(&mut self, transaction: TransactionId, pending: Pending) {
        if !self.replaying {
            self.reserve(pending.stock, &pending.lines);
        }
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
            for Pending { stock, lines, .. } in pending.values() {
                self.reserve(*stock, lines);
            }
            self.pending = pending;
        }
    }

    fn resolve(&mut self, position: LogPosition, transaction: TransactionId, committed: bool) -> Vec<StockLine> {
        let pending = self.pending.remove(&transaction);
        let pending = pending.unwrap_or_else(|| panic!("{transaction:?} is resolved once, after it was prepared"));
        self.look_ahead_to_end(&pending);
        if !self.replaying {
            self.settle(pending.stock, &pending.lines, committed);
        } else if committed {
            // Nothing was reserved: a slot's image is of decided state.
            for StockLine {
                sku,
                quantity,
                allocations,
            } in &pending.lines
            {
                if self.is_new_to(sku.slot(), position) {
                    self.existing_item(sku).apply(pending.stock, *quantity, allocations);
                }
            }
        }
        if let Some(keys) = &pending.keys
            && committed
        {
            self.apply_effects(position, &keys.effects);
        }
        if let Some(decision) = pending.decision
            && committed
        {
            let changed_at = self.slot(decision.change.id().slot()).changed_at;
            let slot = decision.change.id().slot();
            let keeps_key = !is_on(Mutation::LoseKey);
            self.change_order(position, decision.change, keeps_key);
            self.keep(position, decision.key.filter(|_| keeps_key));
            // What it changed was safe before: no reply has to wait for this record.
            self.slot_mut(slot).changed_at = changed_at;
        }
        pending.lines
    }

    /// Whether `slot` has yet to see the record at `position`.
    pub(in crate::engine) fn is_new_to(&self, slot: Slot, position: LogPosition) -> bool {
        self.replayed_images
            .as_ref()
            .is_none_or(|images| images.slot(slot) < position)
    }

    fn change_order(&mut self, position: LogPosition, change: OrderChange, with_key: bool) {
        self.latest = self.latest.max(change.at());
        let id = change.id();
        if self
            .replayed_images
            .as_ref()
            .is_some_and(|images| images.order(id) >= position)
        {
            return;
        }
        let slot = self.slot_mut(id.slot());
        slot.changed_at = position;
        match change {
            OrderChange::Made(order) => {
                slot.order_sequence = slot.order_sequence.max(id.sequence());
                self.insert_order(order, with_key);
            }
            OrderChange::Moved { from, to, at, .. } => {
                let order = slot.order_mut(id);
                let order =
                    order.unwrap_or_else(|| panic!("a record names order {id}, which no record before it made"));
                assert_eq!(order.state(), from, "order {id} is in the state that the record leaves");
                let expires_at = order.expires_at();
                order.move_to(to, at);
                if let Some(expires_at) = expires_at {
                    self.expirations.remove(&(expires_at, id));
                    self.counts.held -= 1;
                }
            }
        }
    }

    fn keep(&mut self, position: LogPosition, key: Option<KeyRecord>) {
        let Some(key) = key else { return };
        self.latest = self.latest.max(key.at);
        let slot = key.scope.slot();
        if self.takes_up(slot, position) {
            self.counts.keys += 1;
            self.slot_mut(slot).insert_key(key);
        }
    }
}
