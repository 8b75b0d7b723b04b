//! The shop's tables of one slot: the items, orders and customers that hash to it.
//!
//! An order is found by its number within the slot; its customer and its request key are found through it, so that
//! neither is kept twice. Knows nothing of other slots.

use cartwright_protocol::{Customer, OrderId, Sku};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::engine::books::shop::inventory::Item;
use crate::engine::books::shop::item_table::{ItemTable, item_hash};
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::hashing::{spread, table_hash};
use crate::engine::kernel::prefetch::prefetch;

/// Largest sequence number of an order within a slot.
pub const ORDER_SEQUENCE_MAX: u64 = u32::MAX as u64;

/// A customer: hash of the name, and their newest order.
#[derive(Debug)]
struct CustomerEntry {
    hash: u32,
    newest: u32,
}

/// The shop's part of a slot.
#[derive(Debug, Default)]
pub struct Slot {
    items: ItemTable,
    /// By sequence number, from 1; numbers of carts that came to nothing stay empty.
    orders: Vec<Option<PackedOrder>>,
    customers: HashTable<CustomerEntry>,
    /// The largest order sequence number given out.
    pub order_sequence: u64,
}

/// The hash under which a customer is found in their slot.
pub fn customer_hash(customer: &[u8]) -> u32 {
    table_hash(customer) as u32
}

const fn index_of(sequence: u32) -> usize {
    sequence as usize - 1
}

impl Slot {
    /// The item with this code.
    pub fn item(&self, sku: &Sku) -> Option<&Item> {
        self.items.get(item_hash(sku.as_bytes()), sku.as_bytes())
    }

    /// The item with this code, to be changed.
    pub fn item_mut(&mut self, sku: &Sku) -> Option<&mut Item> {
        self.item_of_bytes_mut(sku.as_bytes())
    }

    /// The item whose code has these bytes, to be changed.
    pub fn item_of_bytes_mut(&mut self, sku: &[u8]) -> Option<&mut Item> {
        self.items.get_mut(item_hash(sku), sku)
    }

    /// The slot's items, to look up many at once.
    pub const fn item_table(&self) -> &ItemTable {
        &self.items
    }

    /// Adds an item that is not there yet.
    pub fn insert_item(&mut self, item: Item) {
        self.items.insert(item);
    }

    /// Every item, in no order that may matter.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter()
    }

    /// How many items there are.
    pub const fn item_count(&self) -> usize {
        self.items.len()
    }

    /// Has the places fetched where a customer and their next order are or will be; the number of the newest there is.
    pub fn prefetch_customer(&self, hash: u32) -> Option<u32> {
        prefetch(self.orders.as_ptr().wrapping_add(self.orders.len()));
        let entry = self.customers.find(spread(hash), |entry| entry.hash == hash)?;
        prefetch(self.orders.get(index_of(entry.newest))?);
        Some(entry.newest)
    }

    /// Has the start of the order with this number fetched.
    pub fn prefetch_order(&self, sequence: u32) {
        if let Some(Some(order)) = self.orders.get(index_of(sequence)) {
            order.prefetch();
        }
    }

    /// The order with this number, which is here.
    ///
    /// # Panics
    /// Where it is not.
    pub fn order_at(&self, sequence: u32) -> &PackedOrder {
        self.orders[index_of(sequence)]
            .as_ref()
            .expect("customers and keys name orders that are here")
    }

    fn order_at_mut(&mut self, sequence: u32) -> &mut PackedOrder {
        self.orders[index_of(sequence)]
            .as_mut()
            .expect("customers and keys name orders that are here")
    }

    /// The order with this number, if it is here.
    pub fn order_numbered(&self, sequence: u32) -> Option<&PackedOrder> {
        self.orders.get(index_of(sequence))?.as_ref()
    }

    /// The order with this id, which belongs to this slot.
    pub fn order(&self, id: OrderId) -> Option<&PackedOrder> {
        self.orders.get(usize::try_from(id.sequence() - 1).ok()?)?.as_ref()
    }

    /// The order with this id, which belongs to this slot, to be changed.
    pub fn order_mut(&mut self, id: OrderId) -> Option<&mut PackedOrder> {
        self.orders.get_mut(usize::try_from(id.sequence() - 1).ok()?)?.as_mut()
    }

    /// Adds a new order, also to its customer's list. Gives its number.
    ///
    /// # Panics
    /// Where the slot has this order already, or its number is over [`ORDER_SEQUENCE_MAX`].
    pub fn insert_order(&mut self, order: PackedOrder) -> u32 {
        let sequence = u32::try_from(order.id().sequence()).expect("a slot's orders are counted in 32 bits");
        let index = index_of(sequence);
        if self.orders.len() <= index {
            self.orders.resize_with(index + 1, || None);
        }
        assert!(self.orders[index].is_none(), "an order id is given once");
        self.orders[index] = Some(order);
        self.link(sequence);
        sequence
    }

    /// Puts an order where it belongs among those of its customer.
    fn link(&mut self, sequence: u32) {
        let Self { orders, customers, .. } = self;
        let customer_at = |sequence: u32| {
            orders[index_of(sequence)]
                .as_ref()
                .map_or(&[][..], PackedOrder::customer_bytes)
        };
        let customer = customer_at(sequence);
        let hash = customer_hash(customer);
        let newest = match customers.entry(
            spread(hash),
            |entry| entry.hash == hash && customer_at(entry.newest) == customer,
            |entry| spread(entry.hash),
        ) {
            Entry::Occupied(entry) => {
                let entry = entry.into_mut();
                let newest = entry.newest;
                entry.newest = newest.max(sequence);
                newest
            }
            Entry::Vacant(entry) => {
                entry.insert(CustomerEntry { hash, newest: sequence });
                return self.order_at_mut(sequence).set_previous(None);
            }
        };
        if newest < sequence {
            return self.order_at_mut(sequence).set_previous(Some(newest));
        }
        // An id is given when an order is decided, and settled a moment later: another may have overtaken it.
        let mut next = newest;
        while let Some(previous) = self.order_at(next).previous()
            && previous > sequence
        {
            next = previous;
        }
        let previous = self.order_at(next).previous();
        self.order_at_mut(sequence).set_previous(previous);
        self.order_at_mut(next).set_previous(Some(sequence));
    }

    /// Whether there has never been anything here.
    pub fn is_empty(&self) -> bool {
        self.items.len() == 0 && self.order_sequence == 0
    }

    /// Every order, ascending.
    pub fn orders(&self) -> impl Iterator<Item = &PackedOrder> {
        self.orders.iter().flatten()
    }

    /// The orders with sequence numbers above `after` and up to `last`, ascending.
    pub fn orders_between(&self, after: u64, last: u64) -> impl Iterator<Item = &PackedOrder> {
        let end = (last as usize).min(self.orders.len());
        let orders = self.orders.get(after as usize..end).unwrap_or_default();
        orders.iter().flatten()
    }

    /// A customer's orders, newest first, or only those older than `before`.
    pub fn orders_of<'a>(
        &'a self,
        customer: &Customer,
        before: Option<OrderId>,
    ) -> impl Iterator<Item = &'a PackedOrder> + use<'a> {
        let first = self.newest_before(customer.as_bytes(), before);
        std::iter::successors(first, |&sequence| self.order_at(sequence).previous())
            .map(|sequence| self.order_at(sequence))
    }

    fn newest_before(&self, customer: &[u8], before: Option<OrderId>) -> Option<u32> {
        let hash = customer_hash(customer);
        let entry = self.customers.find(spread(hash), |entry| {
            entry.hash == hash && self.order_at(entry.newest).customer_bytes() == customer
        })?;
        let Some(before) = before else {
            return Some(entry.newest);
        };
        // From the newest back along the links, and at the same time from the bound downwards: the shorter way wins.
        let mut linked = entry.newest;
        let mut below = u32::try_from(before.sequence()).unwrap_or(u32::MAX);
        below = below.min(self.orders.len() as u32 + 1);
        loop {
            if self.order_at(linked).id() < before {
                return Some(linked);
            }
            linked = self.order_at(linked).previous()?;
            if below > 0 {
                let order = self.orders.get(index_of(below)).and_then(Option::as_ref);
                if let Some(order) = order
                    && order.id() <= before
                    && order.customer_bytes() == customer
                {
                    return if order.id() == before {
                        order.previous()
                    } else {
                        Some(below)
                    };
                }
                below -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::{Amount, Currency, Slot as SlotNumber};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::books::shop::packed_order::{OrderHeader, OrderPacker};
    use crate::engine::kernel::ids::Timestamp;

    fn order(customer: &str, sequence: u64) -> PackedOrder {
        let customer: Customer = customer.parse().unwrap();
        let mut packer = OrderPacker::default();
        packer.begin(&OrderHeader {
            id: OrderId::new(SlotNumber::new(5).unwrap(), sequence),
            customer: &customer,
            key: &format!("key-{sequence}").parse().unwrap(),
            fingerprint: sequence,
            currency: Currency::new(b"GBP").unwrap(),
            total: Amount::default(),
            created_at: Timestamp(sequence),
            hold_ms: None,
        });
        packer.finish()
    }

    proptest! {
        #[test]
        fn a_customers_orders_are_listed_newest_first_from_any_bound(
            owners in proptest::collection::vec(0..4u8, 1..60), shuffle in any::<u64>(), before in 0..80u64,
        ) {
            let mut sequences: Vec<_> = (1..=owners.len() as u64).collect();
            // Settled out of order, and some not at all.
            sequences.sort_by_key(|&sequence| (sequence ^ shuffle).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40);
            let settled: Vec<_> = sequences.into_iter().filter(|sequence| (shuffle >> (sequence % 64)) & 7 != 0).collect();
            let mut slot = Slot::default();
            for &sequence in &settled {
                slot.insert_order(order(&format!("c{}", owners[sequence as usize - 1]), sequence));
            }
            for owner in 0..5u8 {
                let customer = format!("c{owner}").parse().unwrap();
                for bound in [None, Some(before + 1)] {
                    let id = bound.map(|sequence| OrderId::new(SlotNumber::new(5).unwrap(), sequence));
                    let listed: Vec<_> = slot.orders_of(&customer, id).map(|order| order.id().sequence()).collect();
                    let mut expected: Vec<_> = settled
                        .iter()
                        .copied()
                        .filter(|&s| owners[s as usize - 1] == owner && bound.is_none_or(|bound| s < bound))
                        .collect();
                    expected.sort_unstable_by(|one, other| other.cmp(one));
                    prop_assert_eq!(listed, expected);
                }
            }
        }
    }
}
