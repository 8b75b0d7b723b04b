//! A shard's decided state, and the one function that changes it.
//!
//! [`State::apply`] takes records in log order, from live traffic and from recovery alike, and makes every choice that
//! is not in the record the same way each time (rule R5). What is in flight and not in the log is no part of this.

use std::collections::BTreeSet;

use cartwright_protocol::{OrderId, OrderState, Sku, Slot};
use hashbrown::HashMap;

use super::hashing::TableHasher;
use super::idempotency::KeyRecord;
use super::ids::{LogPosition, ShardId, ShardMap, Timestamp, TransactionId};
use super::inventory::{Item, StockChange};
use super::orders::{Order, OrderChange, stock_change};
use super::record::{Record, StockLine};
use super::slots::SlotState;

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
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.items += other.items;
        self.orders += other.orders;
        self.lines += other.lines;
        self.keys += other.keys;
        self.held += other.held;
    }
}

/// The home shard's part of a pending transaction.
#[derive(Debug)]
pub struct Decision {
    /// Where every other participant's `Prepared` is.
    pub prepared: Vec<(ShardId, LogPosition)>,
    change: OrderChange,
    key: Option<KeyRecord>,
}

/// A transaction that is in this shard's log and whose outcome is not.
#[derive(Debug)]
pub struct Pending {
    /// Where its record is.
    pub position: LogPosition,
    stock: StockChange,
    /// What it does to the items of this shard: reserved.
    pub lines: Vec<StockLine>,
    /// On the home shard only.
    pub decision: Option<Decision>,
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
    /// How much there is of everything.
    pub counts: Counts,
    /// The latest time in any record.
    pub latest: Timestamp,
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
            counts: Counts::default(),
            latest: Timestamp::default(),
        }
    }

    /// The state made of these slots, which are `shard`'s own, in order. Nothing pends.
    pub fn from_slots(shard: ShardId, map: ShardMap, slots: Vec<SlotState>) -> Self {
        let mut state = Self {
            slots: Vec::new(),
            ..Self::new(shard, map)
        };
        for slot in &slots {
            state.counts.items += slot.items().count() as u64;
            state.counts.keys += slot.keys().count() as u64;
            state.latest = slot.keys().map(|key| key.at).fold(state.latest, Timestamp::max);
            for order in slot.orders() {
                state.counts.orders += 1;
                state.counts.lines += order.lines.len() as u64;
                state.latest = state.latest.max(order.updated_at);
                if let Some(expires_at) = order.expires_at {
                    state.counts.held += 1;
                    state.expirations.insert((expires_at, order.id));
                }
            }
        }
        state.slots = slots;
        // A position in an older log means nothing in the new one.
        for slot in &mut state.slots {
            slot.changed_at = LogPosition::ZERO;
        }
        state
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

    /// Whether this shard owns the item.
    pub fn owns(&self, sku: &Sku) -> bool {
        self.map.shard_of(sku.slot()) == self.shard
    }

    /// The item, which this shard owns.
    pub fn item(&self, sku: &Sku) -> Option<&Item> {
        self.slot(sku.slot()).item(sku)
    }

    /// The item, which this shard owns, to be changed.
    pub fn item_mut(&mut self, sku: &Sku) -> Option<&mut Item> {
        self.slot_mut(sku.slot()).item_mut(sku)
    }

    fn existing_item(&mut self, sku: &Sku) -> &mut Item {
        self.item_mut(sku)
            .unwrap_or_else(|| panic!("a record names item {sku}, which no record before it made"))
    }

    /// The order, which this shard owns.
    pub fn order(&self, id: OrderId) -> Option<&Order> {
        self.slot(id.slot()).order(id)
    }

    /// Reserves lines, or takes a reservation back that never became a record.
    pub fn reserve(&mut self, stock: StockChange, lines: &[StockLine]) {
        for StockLine {
            sku,
            quantity,
            allocations,
        } in lines
        {
            self.existing_item(sku).reserve(stock, *quantity, allocations);
        }
    }

    /// Ends the reservation of lines, with or without effect.
    pub fn settle(&mut self, stock: StockChange, lines: &[StockLine], committed: bool) {
        for StockLine {
            sku,
            quantity,
            allocations,
        } in lines
        {
            self.existing_item(sku).settle(stock, *quantity, allocations, committed);
        }
    }

    /// Applies the record at `position`. Returns what a settled transaction did to items here.
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
                let slot = self.slot_mut(sku.slot());
                slot.changed_at = position;
                let new = slot.item(&sku).is_none();
                let item = match slot.item_mut(&sku) {
                    // Looked up twice because of the borrow checker's rule on conditional returns.
                    Some(_) => slot.item_mut(&sku).expect("found above"),
                    None => slot.insert_item(Item::new(sku, price, currency)),
                };
                item.price = price;
                item.currency = currency;
                item.name = name;
                item.limit = limit;
                item.backorder = backorder;
                self.counts.items += u64::from(new);
                self.keep(key);
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
                self.slot_mut(sku.slot()).changed_at = position;
                self.existing_item(&sku).add(&location, delta);
                self.keep(key);
            }
            Record::OrderChanged { change, key } => {
                let (stock, lines) = self.stock_lines(&change);
                for StockLine {
                    sku,
                    quantity,
                    allocations,
                } in &lines
                {
                    self.slot_mut(sku.slot()).changed_at = position;
                    self.existing_item(sku).apply(stock, *quantity, allocations);
                }
                self.slot_mut(change.id().slot()).changed_at = position;
                self.change_order(change);
                self.keep(key);
                return Some(lines);
            }
            Record::Prepared {
                transaction,
                stock,
                lines,
            } => {
                self.reserve(stock, &lines);
                self.insert_pending(
                    transaction,
                    Pending {
                        position,
                        stock,
                        lines,
                        decision: None,
                    },
                );
            }
            Record::Decided {
                transaction,
                prepared,
                change,
                key,
            } => {
                let (stock, lines) = self.stock_lines(&change);
                self.reserve(stock, &lines);
                if let OrderChange::Made(order) = &change {
                    let slot = self.slot_mut(order.id.slot());
                    slot.order_sequence = slot.order_sequence.max(order.id.sequence());
                }
                let decision = Some(Decision { prepared, change, key });
                self.insert_pending(
                    transaction,
                    Pending {
                        position,
                        stock,
                        lines,
                        decision,
                    },
                );
            }
            Record::Committed { transaction } => return Some(self.resolve(transaction, true)),
            Record::Aborted { transaction } => return Some(self.resolve(transaction, false)),
            Record::Answered { key } => {
                self.slot_mut(key.scope.slot()).changed_at = position;
                self.keep(Some(key));
            }
            Record::KeysForgotten { slot, before } => {
                let slot = Slot::new(slot).expect("a record's slot is a slot");
                self.counts.keys -= self.slot_mut(slot).forget_keys(before) as u64;
            }
        }
        None
    }

    fn insert_pending(&mut self, transaction: TransactionId, pending: Pending) {
        let before = self.pending.insert(transaction, pending);
        assert!(before.is_none(), "a shard takes part in {transaction:?} once");
    }

    fn resolve(&mut self, transaction: TransactionId, committed: bool) -> Vec<StockLine> {
        let pending = self.pending.remove(&transaction);
        let pending = pending.unwrap_or_else(|| panic!("{transaction:?} is resolved once, after it was prepared"));
        self.settle(pending.stock, &pending.lines, committed);
        if let Some(decision) = pending.decision
            && committed
        {
            self.change_order(decision.change);
            self.keep(decision.key);
        }
        pending.lines
    }

    /// What `change` does to those items of the order that are on this shard.
    fn stock_lines(&self, change: &OrderChange) -> (StockChange, Vec<StockLine>) {
        let (order, stock) = match change {
            OrderChange::Made(order) => (order, order.made_stock_change()),
            OrderChange::Confirmed { id, .. } => self.existing_order(*id, OrderState::Placed),
            OrderChange::Cancelled { id, .. } => self.existing_order(*id, OrderState::Cancelled),
            OrderChange::Expired { id, .. } => self.existing_order(*id, OrderState::Expired),
        };
        let lines = order
            .lines
            .iter()
            .filter(|line| self.owns(&line.sku))
            .map(|line| StockLine {
                sku: line.sku.clone(),
                quantity: line.ordered - line.cancelled,
                allocations: line.allocations.clone(),
            });
        (stock, lines.collect())
    }

    fn existing_order(&self, id: OrderId, to: OrderState) -> (&Order, StockChange) {
        let order = self
            .order(id)
            .unwrap_or_else(|| panic!("a record names order {id}, which no record before it made"));
        let stock = stock_change(order.state, to);
        (
            order,
            stock.unwrap_or_else(|| panic!("order {id} cannot go from {} to {to}", order.state)),
        )
    }

    fn change_order(&mut self, change: OrderChange) {
        let index = change.id().slot().index() - self.first_slot;
        let slot = &mut self.slots[index];
        let (id, at) = match change {
            OrderChange::Made(order) => {
                self.latest = self.latest.max(order.created_at);
                self.counts.orders += 1;
                self.counts.lines += order.lines.len() as u64;
                slot.order_sequence = slot.order_sequence.max(order.id.sequence());
                let order = slot.insert_order(order);
                if let Some(expires_at) = order.expires_at {
                    self.expirations.insert((expires_at, order.id));
                    self.counts.held += 1;
                }
                return;
            }
            OrderChange::Confirmed { id, at } | OrderChange::Cancelled { id, at } | OrderChange::Expired { id, at } => {
                (id, at)
            }
        };
        self.latest = self.latest.max(at);
        let order = slot.order_mut(id).expect("the change was checked against the order");
        if let Some(expires_at) = order.expires_at {
            self.expirations.remove(&(expires_at, id));
            self.counts.held -= 1;
        }
        match change {
            OrderChange::Made(_) => unreachable!("returned above"),
            OrderChange::Confirmed { .. } => order.confirm(at),
            OrderChange::Cancelled { .. } => order.cancel(at),
            OrderChange::Expired { .. } => order.expire(at),
        }
    }

    fn keep(&mut self, key: Option<KeyRecord>) {
        if let Some(key) = key {
            self.latest = self.latest.max(key.at);
            self.counts.keys += 1;
            self.slot_mut(key.scope.slot()).insert_key(key);
        }
    }
}
