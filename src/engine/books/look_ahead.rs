//! What each book will look at, for the kernel to look ahead: where a request, a record or a transaction will come to.

use cartwright_protocol::{Checkout, ItemGet, Operation, Sku, Slot, StockGet};

use super::Pieces;
use super::entries::table_hash_of;
use super::shop::item_table::item_hash;
use super::shop::packed_order::PackedOrder;
use super::shop::slot::customer_hash;
use crate::engine::kernel::look_ahead::{Chains, PLACES};
use crate::engine::kernel::message::Ask;
use crate::engine::kernel::prefetch::prefetch_whole;
use crate::engine::kernel::request_keys::customer_key_hash;
use crate::engine::kernel::slots::SlotState;
use crate::engine::kernel::state::{Pending, State};

/// One place that a request will come to.
#[derive(Debug)]
pub enum Place {
    /// An item, by its hash.
    Item(u32),
    /// A customer and a request key of theirs, by their hashes.
    Customer {
        /// Of the customer.
        customer: u32,
        /// Of the key.
        key: u32,
        /// The number of their newest order, once it is known.
        newest: Option<u32>,
    },
    /// A key with its value, by its hash.
    Entry(u64),
}

impl Place {
    /// The slot is on its way: the table's turn.
    #[inline]
    pub fn prefetch_table(&mut self, slot: &SlotState) {
        match self {
            Self::Item(hash) => slot.books.shop.item_table().prefetch_place(*hash),
            Self::Customer { customer, key, newest } => {
                slot.request_keys.prefetch(*key);
                *newest = slot.books.shop.prefetch_customer(*customer);
            }
            Self::Entry(hash) => slot.books.entries.table.prefetch(*hash),
        }
    }

    /// The table is on its way: the entry's turn.
    #[inline]
    pub fn prefetch_entry(&self, slot: &SlotState) {
        match self {
            Self::Item(hash) => {
                if let Some(item) = slot.books.shop.item_table().first(*hash) {
                    prefetch_whole(item);
                }
            }
            Self::Customer { newest, .. } => {
                if let Some(newest) = newest {
                    slot.books.shop.prefetch_order(*newest);
                }
            }
            Self::Entry(hash) => slot.books.entries.table.prefetch_value(*hash),
        }
    }
}

/// A client's question is about to be taken.
pub fn look_ahead_to_ask(chains: &mut Chains<'_>, ask: &Ask) {
    match ask {
        Ask::Shop(Operation::Checkout(checkout)) => add_checkout(chains, checkout),
        Ask::Shop(Operation::StockGet(StockGet { sku, .. }) | Operation::ItemGet(ItemGet { sku })) => {
            add_item(chains, sku.slot(), sku);
        }
        Ask::Shop(_) => {}
        Ask::Together(together) => {
            for operation in &together.operations {
                if let Operation::Checkout(checkout) = operation {
                    add_checkout(chains, checkout);
                }
            }
        }
        Ask::Keys(request) => {
            for (key, slot) in request.keys().take(PLACES) {
                chains.add(slot, Place::Entry(table_hash_of(key)));
            }
        }
    }
}

fn add_item(chains: &mut Chains<'_>, slot: Slot, sku: &Sku) {
    chains.add(slot, Place::Item(item_hash(sku.as_bytes())));
}

fn add_checkout(chains: &mut Chains<'_>, checkout: &Checkout) {
    for line in &checkout.lines {
        add_item(chains, line.sku.slot(), &line.sku);
    }
    let (customer, key) = (&checkout.customer, &checkout.key);
    add_customer(chains, customer.slot(), customer.as_bytes(), key.as_bytes());
}

fn add_customer_of(chains: &mut Chains<'_>, order: &PackedOrder) {
    add_customer(chains, order.id().slot(), order.customer_bytes(), order.key_bytes());
}

fn add_customer(chains: &mut Chains<'_>, slot: Slot, customer: &[u8], key: &[u8]) {
    let place = Place::Customer {
        customer: customer_hash(customer),
        key: customer_key_hash(customer, key),
        newest: None,
    };
    chains.add(slot, place);
}

impl State {
    /// This order's record is about to be applied.
    pub fn look_ahead_to(&self, order: &PackedOrder) {
        let mut chains = Chains::new(self);
        for line in order.lines() {
            let sku = line.sku_bytes();
            chains.add(Slot::of(sku), Place::Item(item_hash(sku)));
        }
        add_customer_of(&mut chains, order);
        chains.follow();
    }

    /// This transaction is about to be resolved.
    pub fn look_ahead_to_end(&self, pending: &Pending) {
        let mut chains = Chains::new(self);
        for line in pending.stock.iter().flat_map(|part| &part.lines) {
            add_item(&mut chains, line.sku.slot(), &line.sku);
        }
        for order in pending.orders_made() {
            add_customer_of(&mut chains, order);
        }
        chains.follow();
    }

    /// These parts are about to be reserved.
    pub fn look_ahead_to_visits<'a>(&self, visits: impl Iterator<Item = &'a Pieces>) {
        let mut chains = Chains::new(self);
        for pieces in visits {
            for line in pieces.stock.iter().flat_map(|piece| &piece.lines) {
                add_item(&mut chains, line.slot, &line.sku);
            }
            if let Some(request) = &pieces.entries {
                for (key, slot) in request.keys().take(PLACES) {
                    chains.add(slot, Place::Entry(table_hash_of(key)));
                }
            }
        }
        chains.follow();
    }
}
