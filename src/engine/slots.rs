//! One slot: the items, orders, customers and keys that hash to it, each in its own small table.
//!
//! The unit of everything that moves: no table is larger than a slot's share, so no growth stops the world, and a slot
//! goes to another shard as a whole.

use cartwright_protocol::{Customer, Key, OrderId, Sku};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::hashing::table_hash;
use super::idempotency::{KeyRecord, Scope};
use super::ids::{LogPosition, Timestamp};
use super::inventory::Item;
use super::keyspace::KeyTable;
use super::orders::Order;

/// A customer's orders, ascending by id.
#[derive(Debug)]
pub struct CustomerOrders {
    /// Who.
    pub customer: Customer,
    /// Their orders, oldest first.
    pub orders: Vec<OrderId>,
}

/// Everything in one slot.
#[derive(Debug, Default)]
pub struct SlotState {
    items: HashTable<Box<Item>>,
    orders: HashTable<Box<Order>>,
    customers: HashTable<CustomerOrders>,
    keys: HashTable<Box<KeyRecord>>,
    /// Keys of the keyspace.
    pub entries: KeyTable,
    /// The last record that removed one of them.
    pub entries_deleted_at: LogPosition,
    /// The largest order sequence number given out.
    pub order_sequence: u64,
    /// The last record that changed decided state here by itself; what a reply about this slot waits for.
    pub changed_at: LogPosition,
}

fn key_hash(scope: &Scope, key: &Key) -> u64 {
    table_hash(&(scope, key))
}

impl SlotState {
    /// The item with this code.
    pub fn item(&self, sku: &Sku) -> Option<&Item> {
        self.items
            .find(table_hash(sku), |item| item.sku == *sku)
            .map(|item| &**item)
    }

    /// The item with this code, to be changed.
    pub fn item_mut(&mut self, sku: &Sku) -> Option<&mut Item> {
        self.items
            .find_mut(table_hash(sku), |item| item.sku == *sku)
            .map(|item| &mut **item)
    }

    /// Adds an item that is not there yet.
    pub fn insert_item(&mut self, item: Item) -> &mut Item {
        let hash = table_hash(&item.sku);
        self.items
            .insert_unique(hash, Box::new(item), |item| table_hash(&item.sku))
            .into_mut()
    }

    /// Every item, in no order that may matter.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().map(|item| &**item)
    }

    /// The order with this id.
    pub fn order(&self, id: OrderId) -> Option<&Order> {
        self.orders
            .find(table_hash(&id), |order| order.id == id)
            .map(|order| &**order)
    }

    /// The order with this id, to be changed.
    pub fn order_mut(&mut self, id: OrderId) -> Option<&mut Order> {
        self.orders
            .find_mut(table_hash(&id), |order| order.id == id)
            .map(|order| &mut **order)
    }

    /// Adds a new order, also to its customer's list.
    pub fn insert_order(&mut self, order: Order) -> &Order {
        let orders = match self.customers.entry(
            table_hash(&order.customer),
            |entry| entry.customer == order.customer,
            |entry| table_hash(&entry.customer),
        ) {
            Entry::Occupied(entry) => &mut entry.into_mut().orders,
            Entry::Vacant(entry) => {
                let customer = order.customer.clone();
                &mut entry
                    .insert(CustomerOrders {
                        customer,
                        orders: Vec::new(),
                    })
                    .into_mut()
                    .orders
            }
        };
        // Nearly always the end: an id is given when an order is decided, and settled a moment later.
        let place = orders.partition_point(|&id| id < order.id);
        orders.insert(place, order.id);
        let hash = table_hash(&order.id);
        assert!(
            self.orders.find(hash, |other| other.id == order.id).is_none(),
            "an order id is given once"
        );
        self.orders
            .insert_unique(hash, Box::new(order), |order| table_hash(&order.id))
            .into_mut()
    }

    /// Whether there has never been anything here.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.keys.is_empty() && self.order_sequence == 0 && self.entries.is_empty()
    }

    /// Every order, in no order that may matter.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.iter().map(|order| &**order)
    }

    /// The ids of a customer's orders, ascending.
    pub fn orders_of(&self, customer: &Customer) -> &[OrderId] {
        self.customers
            .find(table_hash(customer), |entry| entry.customer == *customer)
            .map_or(&[], |entry| &entry.orders)
    }

    /// What was answered to this key.
    pub fn key(&self, scope: &Scope, key: &Key) -> Option<&KeyRecord> {
        self.keys
            .find(key_hash(scope, key), |record| {
                record.key == *key && record.scope == *scope
            })
            .map(|record| &**record)
    }

    /// Keeps a key that is not there yet.
    pub fn insert_key(&mut self, record: KeyRecord) {
        let hash = key_hash(&record.scope, &record.key);
        self.keys
            .insert_unique(hash, Box::new(record), |record| key_hash(&record.scope, &record.key));
    }

    /// Every key, in no order that may matter.
    pub fn keys(&self) -> impl Iterator<Item = &KeyRecord> {
        self.keys.iter().map(|record| &**record)
    }

    /// Forgets the keys used before `before`; returns how many.
    pub fn forget_keys(&mut self, before: Timestamp) -> usize {
        let held = self.keys.len();
        self.keys.retain(|record| record.at >= before);
        held - self.keys.len()
    }
}
