//! The shop's part of a shard's decided state: its slots together, and what records do to items and orders.

use std::collections::BTreeSet;

use cartwright_protocol::{OrderId, Sku, Slot};

use crate::engine::books::shop::inventory::{Allocations, Item, StockChange, StockLine};
use crate::engine::books::shop::orders::OrderChange;
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::books::shop::records::ShopRecord;
use crate::engine::kernel::ids::{LogPosition, Timestamp};
use crate::engine::kernel::mutation::{Mutation, is_on};
use crate::engine::kernel::state::State;

/// What is kept over all slots of a shard.
#[derive(Debug, Default)]
pub struct Index {
    /// Held orders by when they expire.
    pub expirations: BTreeSet<(Timestamp, OrderId)>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Catalogue entries.
    pub items: u64,
    /// Orders, in any state.
    pub orders: u64,
    /// Order lines.
    pub lines: u64,
    /// Orders held.
    pub held: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.items += other.items;
        self.orders += other.orders;
        self.lines += other.lines;
        self.held += other.held;
    }
}

impl State {
    /// The order, which this shard owns.
    pub fn order(&self, id: OrderId) -> Option<&PackedOrder> {
        self.slot(id.slot()).books.shop.order(id)
    }

    /// Whether this shard owns the item.
    pub fn owns(&self, sku: &Sku) -> bool {
        self.owns_slot(sku.slot())
    }

    /// The item, which this shard owns.
    pub fn item(&self, sku: &Sku) -> Option<&Item> {
        self.slot(sku.slot()).books.shop.item(sku)
    }

    /// The item, which this shard owns, to be changed.
    pub fn item_mut(&mut self, sku: &Sku) -> Option<&mut Item> {
        self.slot_mut(sku.slot()).books.shop.item_mut(sku)
    }

    /// The item, which a record names.
    pub(in crate::engine) fn existing_item(&mut self, sku: &Sku) -> &mut Item {
        self.item_mut(sku)
            .unwrap_or_else(|| panic!("a record names item {sku}, which no record before it made"))
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

    /// Applies a line of the record at `position`, if it is new to the item's slot.
    pub(in crate::engine) fn apply_line(
        &mut self,
        position: LogPosition,
        sku: &[u8],
        stock: StockChange,
        quantity: u32,
        allocations: &Allocations,
    ) {
        let slot = Slot::of(sku);
        if self.takes_up(slot, position) {
            let item = self.slot_mut(slot).books.shop.item_of_bytes_mut(sku);
            let item = item.unwrap_or_else(|| {
                panic!(
                    "a record names item {}, which no record before it made",
                    String::from_utf8_lossy(sku)
                )
            });
            item.apply(stock, quantity, allocations);
        }
    }

    /// Changes an item, or makes it first.
    pub(in crate::engine) fn put_item(
        &mut self,
        sku: &Sku,
        change: impl FnOnce(&mut Item),
        new: impl FnOnce() -> Item,
    ) {
        let slot = &mut self.slot_mut(sku.slot()).books.shop;
        if slot.item(sku).is_none() {
            slot.insert_item(new());
            self.counts.books.shop.items += 1;
        }
        change(self.existing_item(sku));
    }

    /// Whether the order has yet to see the record at `position`.
    fn order_is_new_to(&self, id: OrderId, position: LogPosition) -> bool {
        self.replayed_images()
            .is_none_or(|images| images.books.shop.order(id).unwrap_or(images.begins) < position)
    }

    /// Applies the shop's record at `position`. Returns what a change that is over did to items here.
    ///
    /// # Panics
    /// Where the record contradicts the records before it.
    pub(in crate::engine) fn apply_to_shop(
        &mut self,
        position: LogPosition,
        record: ShopRecord,
    ) -> Option<Vec<StockLine>> {
        match record {
            ShopRecord::ItemPut {
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
                None
            }
            ShopRecord::StockAdded {
                sku,
                location,
                delta,
                at,
                key,
                ..
            } => {
                self.latest = self.latest.max(at);
                assert!(!is_on(Mutation::BreakInvariant), "an invariant is broken on purpose");
                if self.takes_up(sku.slot(), position) {
                    let times = 1 + usize::from(self.is_replaying() && is_on(Mutation::ApplyTwice));
                    for _ in 0..times {
                        self.existing_item(&sku).add(&location, delta);
                    }
                }
                self.keep(position, key);
                None
            }
            ShopRecord::OrderChanged { change, key } => {
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
                lines
            }
            ShopRecord::OrderExtended {
                id,
                at,
                expires_at,
                key,
            } => {
                self.extend_order(position, id, (at, expires_at));
                self.keep(position, key);
                None
            }
        }
    }

    /// Counts what is in the shop's part of a slot that came as it is.
    pub(in crate::engine) fn adopt_shop(&mut self, slot: Slot) {
        let shop = &self.slot(slot).books.shop;
        let (mut counts, mut latest) = (Counts::default(), Timestamp::default());
        let mut held = Vec::new();
        counts.items = shop.item_count() as u64;
        for order in shop.orders() {
            counts.orders += 1;
            counts.lines += u64::from(order.line_count());
            latest = latest.max(order.updated_at());
            held.extend(order.expires_at().map(|at| (at, order.id())));
        }
        counts.held = held.len() as u64;
        self.counts.books.shop += counts;
        self.latest = self.latest.max(latest);
        self.books.shop.expirations.extend(held);
    }

    /// Puts back the items that a checkpoint holds of a slot.
    pub(in crate::engine) fn restore_items(
        &mut self,
        slot: Slot,
        order_sequence: u64,
        items: impl Iterator<Item = Item>,
    ) {
        let shop = &mut self.slot_mut(slot).books.shop;
        shop.order_sequence = order_sequence;
        let before = shop.item_count();
        items.for_each(|item| shop.insert_item(item));
        let restored = shop.item_count() - before;
        self.counts.books.shop.items += restored as u64;
    }

    /// Puts back some of a slot's orders, with their keys.
    pub fn restore_orders(&mut self, slot: Slot, orders: Vec<PackedOrder>) {
        for order in orders {
            // The slot's own part may be older than this one.
            let state = self.slot_mut(slot);
            let shop = &mut state.books.shop;
            shop.order_sequence = shop.order_sequence.max(order.id().sequence());
            self.latest = self.latest.max(order.updated_at());
            self.insert_order(order, true);
        }
    }

    /// Adds an order that is decided, and counts it.
    fn insert_order(&mut self, order: PackedOrder, with_key: bool) {
        let id = order.id();
        self.counts.books.shop.orders += 1;
        self.counts.books.shop.lines += u64::from(order.line_count());
        if let Some(expires_at) = order.expires_at() {
            self.books.shop.expirations.insert((expires_at, id));
            self.counts.books.shop.held += 1;
        }
        let slot = self.slot_mut(id.slot());
        let number = slot.books.shop.insert_order(order);
        let is_kept = with_key && slot.request_keys.insert_held(number, &slot.books);
        self.counts.request_keys += u64::from(is_kept);
    }

    fn extend_order(&mut self, position: LogPosition, id: OrderId, (at, expires_at): (Timestamp, Timestamp)) {
        self.latest = self.latest.max(at);
        if !self.order_is_new_to(id, position) {
            return;
        }
        let slot = self.slot_mut(id.slot());
        slot.changed_at = position;
        let order = slot.books.shop.order_mut(id);
        let order = order.unwrap_or_else(|| panic!("a record names order {id}, which no record before it made"));
        let before = order.expires_at();
        let before = before.unwrap_or_else(|| panic!("a record extends order {id}, which is not held"));
        order.extend_to(expires_at, at);
        self.books.shop.expirations.remove(&(before, id));
        self.books.shop.expirations.insert((expires_at, id));
    }

    pub(in crate::engine) fn change_order(&mut self, position: LogPosition, change: OrderChange, with_key: bool) {
        self.latest = self.latest.max(change.at());
        let id = change.id();
        if !self.order_is_new_to(id, position) {
            return;
        }
        let slot = self.slot_mut(id.slot());
        slot.changed_at = position;
        match change {
            OrderChange::Made(order) => {
                let shop = &mut slot.books.shop;
                shop.order_sequence = shop.order_sequence.max(id.sequence());
                self.insert_order(order, with_key);
            }
            OrderChange::Moved { from, to, at, .. } => {
                let order = slot.books.shop.order_mut(id);
                let order =
                    order.unwrap_or_else(|| panic!("a record names order {id}, which no record before it made"));
                assert_eq!(order.state(), from, "order {id} is in the state that the record leaves");
                let expires_at = order.expires_at();
                order.move_to(to, at);
                if let Some(expires_at) = expires_at {
                    self.books.shop.expirations.remove(&(expires_at, id));
                    self.counts.books.shop.held -= 1;
                }
            }
        }
    }
}
