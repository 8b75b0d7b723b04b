//! Looking ahead: what requests are about to look at is fetched into the cache before the first of them runs.
//!
//! A request follows a chain of places: a slot, a table of the slot, an entry, what the entry points to. Each is a cache
//! miss in a large shop, and none is known before the one before it. So the requests of a batch take these steps
//! together: the memory of all of them is on its way at once. Decides nothing and changes nothing, so it needs no care
//! to be right. Source: "group prefetching", Chen et al., "Improving Hash Join Performance through Prefetching", 2004.

use cartwright_protocol::{Checkout, ItemGet, Operation, Sku, Slot, StockGet};
use smallvec::SmallVec;

use crate::engine::books::Pieces;
use crate::engine::books::entries::table_hash_of;
use crate::engine::books::shop::item_table::item_hash;
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::books::shop::slot::customer_hash;
use crate::engine::kernel::message::{Ask, ShardMessage};
use crate::engine::kernel::prefetch::prefetch_whole;
use crate::engine::kernel::request_keys::customer_key_hash;
use crate::engine::kernel::shard::Shard;
use crate::engine::kernel::slots::SlotState;
use crate::engine::kernel::state::{Pending, State};

/// Requests that look ahead together: their places fit the nearest caches.
pub const LOOK_AHEAD_MAX: usize = 8;

/// Places that are followed together without memory of their own.
const PLACES: usize = 64;

/// What the engine will be given in a moment.
#[derive(Clone, Copy, Debug)]
pub enum Upcoming<'a> {
    /// A client's question.
    Ask(&'a Ask),
    /// A message from another shard.
    Message(&'a ShardMessage),
}

/// One place that a request will come to.
enum Place {
    Item(u32),
    /// With the number of their newest order, once it is known.
    Customer {
        customer: u32,
        key: u32,
        newest: Option<u32>,
    },
    Entry(u64),
}

/// Chains of places, each with its slot.
struct Chains<'a> {
    state: &'a State,
    places: SmallVec<[(&'a SlotState, Place); PLACES]>,
}

impl<'a> Chains<'a> {
    fn new(state: &'a State) -> Self {
        Self {
            state,
            places: SmallVec::new(),
        }
    }

    fn add(&mut self, slot: Slot, place: Place) {
        if self.state.owns_slot(slot) {
            let slot = self.state.slot(slot);
            prefetch_whole(slot);
            self.places.push((slot, place));
        }
    }

    fn add_item(&mut self, slot: Slot, sku: &Sku) {
        self.add(slot, Place::Item(item_hash(sku.as_bytes())));
    }

    fn add_checkout(&mut self, checkout: &Checkout) {
        for line in &checkout.lines {
            self.add_item(line.sku.slot(), &line.sku);
        }
        let (customer, key) = (&checkout.customer, &checkout.key);
        self.add_customer(customer.slot(), customer.as_bytes(), key.as_bytes());
    }

    fn add_customer_of(&mut self, order: &PackedOrder) {
        self.add_customer(order.id().slot(), order.customer_bytes(), order.key_bytes());
    }

    fn add_customer(&mut self, slot: Slot, customer: &[u8], key: &[u8]) {
        let place = Place::Customer {
            customer: customer_hash(customer),
            key: customer_key_hash(customer, key),
            newest: None,
        };
        self.add(slot, place);
    }

    /// Slots are on their way: the tables', then the entries' turn.
    fn follow(mut self) {
        for (slot, place) in &mut self.places {
            match place {
                Place::Item(hash) => slot.books.shop.item_table().prefetch_place(*hash),
                Place::Customer { customer, key, newest } => {
                    slot.request_keys.prefetch(*key);
                    *newest = slot.books.shop.prefetch_customer(*customer);
                }
                Place::Entry(hash) => slot.books.entries.table.prefetch(*hash),
            }
        }
        for (slot, place) in &self.places {
            match place {
                Place::Item(hash) => {
                    if let Some(item) = slot.books.shop.item_table().first(*hash) {
                        prefetch_whole(item);
                    }
                }
                Place::Customer { newest, .. } => {
                    if let Some(newest) = newest {
                        slot.books.shop.prefetch_order(*newest);
                    }
                }
                Place::Entry(hash) => slot.books.entries.table.prefetch_value(*hash),
            }
        }
    }
}

impl Shard {
    /// This comes in a moment, best no more than [`LOOK_AHEAD_MAX`] at a time.
    pub fn look_ahead<'a>(&'a self, upcoming: impl Iterator<Item = Upcoming<'a>>) {
        let mut chains = Chains::new(&self.state);
        for one in upcoming {
            match one {
                Upcoming::Ask(Ask::Shop(Operation::Checkout(checkout))) => chains.add_checkout(checkout),
                Upcoming::Ask(Ask::Shop(
                    Operation::StockGet(StockGet { sku, .. }) | Operation::ItemGet(ItemGet { sku }),
                )) => {
                    chains.add_item(sku.slot(), sku);
                }
                Upcoming::Ask(Ask::Keys(request)) => {
                    for (key, slot) in request.keys().take(PLACES) {
                        chains.add(slot, Place::Entry(table_hash_of(key)));
                    }
                }
                Upcoming::Ask(_) | Upcoming::Message(_) => {}
            }
        }
        chains.follow();
    }
}

impl State {
    /// This order's record is about to be applied.
    pub fn look_ahead_to(&self, order: &PackedOrder) {
        let mut chains = Chains::new(self);
        for line in order.lines() {
            let sku = line.sku_bytes();
            chains.add(Slot::of(sku), Place::Item(item_hash(sku)));
        }
        chains.add_customer_of(order);
        chains.follow();
    }

    /// This transaction is about to be resolved.
    pub fn look_ahead_to_end(&self, pending: &Pending) {
        let mut chains = Chains::new(self);
        for line in pending.stock.iter().flat_map(|part| &part.lines) {
            chains.add_item(line.sku.slot(), &line.sku);
        }
        for order in pending.orders_made() {
            chains.add_customer_of(order);
        }
        chains.follow();
    }

    /// These parts are about to be reserved.
    pub fn look_ahead_to_visits<'a>(&self, visits: impl Iterator<Item = &'a Pieces>) {
        let mut chains = Chains::new(self);
        for pieces in visits {
            for line in pieces.stock.iter().flat_map(|piece| &piece.lines) {
                chains.add_item(line.slot, &line.sku);
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
