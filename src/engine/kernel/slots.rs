//! One slot: the items, orders, customers and keys that hash to it, each in its own small table.
//!
//! The unit of everything that moves: no table is larger than a slot's share, so no growth stops the world, and a slot
//! goes to another shard as a whole. An order is found by its number within the slot; its customer and its key are
//! found through it, so that neither is kept twice.

use cartwright_protocol::{Customer, Key, OrderId, Reply, Sku};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::engine::books::entries::{KeyTable, Removals};
use crate::engine::books::shop::inventory::Item;
use crate::engine::books::shop::item_table::{ItemTable, item_hash};
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::hashing::table_hash;
use crate::engine::kernel::ids::{LogPosition, Timestamp};
use crate::engine::kernel::look_ahead::prefetch;
use crate::engine::kernel::request_keys::{KeyRecord, Scope};

/// Largest sequence number of an order within a slot.
pub const ORDER_SEQUENCE_MAX: u64 = u32::MAX as u64;

/// A customer: hash of the name, and their newest order.
#[derive(Debug)]
struct CustomerEntry {
    hash: u32,
    newest: u32,
}

/// The hashes under which a customer and a key of theirs are found in their slot.
#[derive(Clone, Copy, Debug)]
pub struct CustomerHashes {
    customer: u32,
    key: u32,
}

impl CustomerHashes {
    /// Of their bytes.
    pub fn of(customer: &[u8], key: &[u8]) -> Self {
        Self {
            customer: customer_hash(customer),
            key: customer_key_hash(customer, key),
        }
    }
}

/// A used key: that of an order that is here, or a record of its own.
#[derive(Debug)]
enum KeyEntry {
    Order { hash: u32, sequence: u32 },
    Record { hash: u32, record: Box<KeyRecord> },
}

impl KeyEntry {
    const fn hash(&self) -> u64 {
        match self {
            Self::Order { hash, .. } | Self::Record { hash, .. } => spread(*hash),
        }
    }
}

/// A used key, as it is kept.
#[derive(Clone, Copy, Debug)]
pub enum KeptKey<'a> {
    /// It made this order.
    Order(&'a PackedOrder),
    /// It was used for something else.
    Record(&'a KeyRecord),
}

impl KeptKey<'_> {
    /// Which request it came with.
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::Order(order) => order.fingerprint(),
            Self::Record(record) => record.fingerprint,
        }
    }

    /// When it was used.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Order(order) => order.created_at(),
            Self::Record(record) => record.at,
        }
    }

    /// What was answered.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Order(order) => Reply::Receipt(order.receipt()),
            Self::Record(record) => record.reply.to_reply(),
        }
    }
}

/// Everything in one slot.
#[derive(Debug, Default)]
pub struct SlotState {
    items: ItemTable,
    /// By sequence number, from 1; numbers of carts that came to nothing stay empty.
    orders: Vec<Option<PackedOrder>>,
    customers: HashTable<CustomerEntry>,
    keys: HashTable<KeyEntry>,
    /// Keys of the keyspace.
    pub entries: KeyTable,
    /// The last record that removed one of them.
    pub entries_deleted_at: LogPosition,
    /// Which records removed which of them.
    pub removals: Removals,
    /// The largest order sequence number given out.
    pub order_sequence: u64,
    /// The last record that changed decided state here by itself; what a reply about this slot waits for.
    pub changed_at: LogPosition,
    /// Keys used before are forgotten.
    keys_from: Timestamp,
}

/// A table's hash from the half that entries keep: it takes places from the low bits and tags from the high ones.
const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

fn customer_hash(customer: &[u8]) -> u32 {
    table_hash(customer) as u32
}

fn key_hash(scope: &Scope, key: &Key) -> u32 {
    match scope {
        Scope::Customer(customer) => customer_key_hash(customer.as_bytes(), key.as_bytes()),
        Scope::Sku(sku) => table_hash(&(1u8, sku.as_bytes(), key.as_bytes())) as u32,
        Scope::Order(id) => table_hash(&(2u8, id, key.as_bytes())) as u32,
    }
}

fn customer_key_hash(customer: &[u8], key: &[u8]) -> u32 {
    table_hash(&(customer, key)) as u32
}

const fn index_of(sequence: u32) -> usize {
    sequence as usize - 1
}

impl SlotState {
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

    /// Has the places fetched where a customer, a key of theirs and their next order are or will be; the number of the
    /// newest there is.
    pub fn prefetch_customer(&self, hashes: CustomerHashes) -> Option<u32> {
        // Never the one; the table's own memory is read on the way.
        self.keys.find(spread(hashes.key), |_| false);
        prefetch(self.orders.as_ptr().wrapping_add(self.orders.len()));
        let hash = hashes.customer;
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

    fn order_at(&self, sequence: u32) -> &PackedOrder {
        self.orders[index_of(sequence)]
            .as_ref()
            .expect("customers and keys name orders that are here")
    }

    fn order_at_mut(&mut self, sequence: u32) -> &mut PackedOrder {
        self.orders[index_of(sequence)]
            .as_mut()
            .expect("customers and keys name orders that are here")
    }

    /// The order with this id, which belongs to this slot.
    pub fn order(&self, id: OrderId) -> Option<&PackedOrder> {
        self.orders.get(usize::try_from(id.sequence() - 1).ok()?)?.as_ref()
    }

    /// The order with this id, which belongs to this slot, to be changed.
    pub fn order_mut(&mut self, id: OrderId) -> Option<&mut PackedOrder> {
        self.orders.get_mut(usize::try_from(id.sequence() - 1).ok()?)?.as_mut()
    }

    /// Adds a new order, also to its customer's list and, unless it is forgotten, its key. Gives whether the key is
    /// kept.
    ///
    /// # Panics
    /// Where the slot has this order already, or its number is over [`ORDER_SEQUENCE_MAX`].
    pub fn insert_order(&mut self, order: PackedOrder, with_key: bool) -> bool {
        let sequence = u32::try_from(order.id().sequence()).expect("a slot's orders are counted in 32 bits");
        let index = index_of(sequence);
        if self.orders.len() <= index {
            self.orders.resize_with(index + 1, || None);
        }
        assert!(self.orders[index].is_none(), "an order id is given once");
        let is_kept = with_key && order.created_at() >= self.keys_from;
        if is_kept {
            let hash = customer_key_hash(order.customer_bytes(), order.key_bytes());
            self.keys
                .insert_unique(spread(hash), KeyEntry::Order { hash, sequence }, KeyEntry::hash);
        }
        self.orders[index] = Some(order);
        self.link(sequence);
        is_kept
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

    /// Whether there has never been anything here: keys can go, and a checkpoint that leaves the slot out would show them
    /// as they were when it began.
    pub fn is_empty(&self) -> bool {
        self.items.len() == 0 && self.keys.is_empty() && self.order_sequence == 0 && self.has_had_no_entry()
    }

    fn has_had_no_entry(&self) -> bool {
        self.entries.is_empty() && self.entries_deleted_at == LogPosition::ZERO
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

    /// What was answered to this key.
    pub fn key(&self, scope: &Scope, key: &Key) -> Option<KeptKey<'_>> {
        let hash = key_hash(scope, key);
        let entry = self.keys.find(spread(hash), |entry| match entry {
            KeyEntry::Order { hash: other, sequence } => {
                *other == hash && {
                    let order = self.order_at(*sequence);
                    order.key_bytes() == key.as_bytes()
                        && matches!(scope, Scope::Customer(customer) if customer.as_bytes() == order.customer_bytes())
                }
            }
            KeyEntry::Record { hash: other, record } => *other == hash && record.key == *key && record.scope == *scope,
        })?;
        Some(self.kept(entry))
    }

    fn kept<'a>(&'a self, entry: &'a KeyEntry) -> KeptKey<'a> {
        match entry {
            KeyEntry::Order { sequence, .. } => KeptKey::Order(self.order_at(*sequence)),
            KeyEntry::Record { record, .. } => KeptKey::Record(record),
        }
    }

    /// Keeps a key that is not there yet.
    pub fn insert_key(&mut self, record: KeyRecord) {
        let hash = key_hash(&record.scope, &record.key);
        let record = Box::new(record);
        self.keys
            .insert_unique(spread(hash), KeyEntry::Record { hash, record }, KeyEntry::hash);
    }

    /// Every key, in no order that may matter.
    pub fn keys(&self) -> impl Iterator<Item = KeptKey<'_>> {
        self.keys.iter().map(|entry| self.kept(entry))
    }

    /// How many keys are kept.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Keys used before are forgotten.
    pub const fn keys_from(&self) -> Timestamp {
        self.keys_from
    }

    /// Forgets the keys used before `before`; returns how many.
    pub fn forget_keys(&mut self, before: Timestamp) -> usize {
        self.keys_from = self.keys_from.max(before);
        let Self { orders, keys, .. } = self;
        let held = keys.len();
        keys.retain(|entry| match entry {
            KeyEntry::Order { sequence, .. } => orders[index_of(*sequence)]
                .as_ref()
                .is_some_and(|order| order.created_at() >= before),
            KeyEntry::Record { record, .. } => record.at >= before,
        });
        held - keys.len()
    }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::{Amount, Currency, Slot};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::books::shop::packed_order::{OrderHeader, OrderPacker};

    fn order(customer: &str, sequence: u64) -> PackedOrder {
        let customer: Customer = customer.parse().unwrap();
        let mut packer = OrderPacker::default();
        packer.begin(&OrderHeader {
            id: OrderId::new(Slot::new(5).unwrap(), sequence),
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
            let mut slot = SlotState::default();
            for &sequence in &settled {
                slot.insert_order(order(&format!("c{}", owners[sequence as usize - 1]), sequence), true);
            }
            for owner in 0..5u8 {
                let customer = format!("c{owner}").parse().unwrap();
                for bound in [None, Some(before + 1)] {
                    let id = bound.map(|sequence| OrderId::new(Slot::new(5).unwrap(), sequence));
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

    #[test]
    fn an_order_keeps_its_key_until_it_is_forgotten() {
        let mut slot = SlotState::default();
        for sequence in 1..=3 {
            assert!(slot.insert_order(order("c", sequence), true));
        }
        let scope = Scope::Customer("c".parse().unwrap());
        let found =
            |slot: &SlotState, key: &str| slot.key(&scope, &key.parse().unwrap()).map(|kept| kept.fingerprint());
        assert_eq!(found(&slot, "key-2"), Some(2));
        assert_eq!(found(&slot, "key-4"), None);
        assert_eq!(slot.forget_keys(Timestamp(3)), 2);
        assert_eq!((found(&slot, "key-2"), found(&slot, "key-3")), (None, Some(3)));
        assert_eq!(slot.orders().count(), 3, "only the keys are forgotten");
    }
}
