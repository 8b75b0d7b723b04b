//! The items of a shard's state, and what records do to them.

use cartwright_protocol::{Sku, Slot};

use super::State;
use crate::engine::books::shop::inventory::{Allocations, Item, StockChange, StockLine};
use crate::engine::kernel::ids::LogPosition;

impl State {
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

    /// The item, which a record names.
    pub(super) fn existing_item(&mut self, sku: &Sku) -> &mut Item {
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
    pub(super) fn apply_line(
        &mut self,
        position: LogPosition,
        sku: &[u8],
        stock: StockChange,
        quantity: u32,
        allocations: &Allocations,
    ) {
        let slot = Slot::of(sku);
        if self.takes_up(slot, position) {
            let item = self.slot_mut(slot).item_of_bytes_mut(sku);
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
    pub(super) fn put_item(&mut self, sku: &Sku, change: impl FnOnce(&mut Item), new: impl FnOnce() -> Item) {
        let slot = self.slot_mut(sku.slot());
        if slot.item(sku).is_none() {
            slot.insert_item(new());
            self.counts.items += 1;
        }
        change(self.existing_item(sku));
    }
}
