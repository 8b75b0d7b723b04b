//! The books: each a part of a shard's state that decides, applies and explains its own records.
//!
//! This is the list of them, and all that the kernel knows of them. A book is added by a folder and a line in each of
//! these.

pub mod entries;
pub mod shop;

use cartwright_protocol::Slot;

use crate::engine::kernel::state::State;

/// A thing that holds the request key that made it.
pub type KeyHolder = shop::packed_order::PackedOrder;

/// Each book's tables of one slot: decided state.
#[derive(Debug, Default)]
pub struct SlotTables {
    /// Items, orders and customers.
    pub shop: shop::slot::Slot,
    /// Redis's keys and values.
    pub entries: entries::slot::Slot,
}

impl SlotTables {
    /// Whether there has never been anything in them.
    pub fn are_empty(&self) -> bool {
        self.shop.is_empty() && self.entries.has_been_empty()
    }

    /// The thing with this number, which holds a request key.
    pub fn key_holder(&self, number: u32) -> &KeyHolder {
        self.shop.order_at(number)
    }
}

/// What each book keeps beside its slots over all of a shard, and makes of them when they are read back.
#[derive(Debug, Default)]
pub struct Indexes {
    /// The shop's.
    pub shop: shop::state::Index,
    /// That of keys and values.
    pub entries: entries::slot::Index,
}

/// Counts what is in a slot that came to this shard as it is.
pub fn adopt(state: &mut State, slot: Slot) {
    state.adopt_shop(slot);
    state.adopt_entries(slot);
}

/// How much there is in each book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the shop.
    pub shop: shop::state::Counts,
    /// Of keys and values.
    pub entries: entries::slot::Counts,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.shop += other.shop;
        self.entries += other.entries;
    }
}

/// How much of everything each book takes on, on one shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Of the shop.
    pub shop: shop::limits::Limits,
    /// Of keys and values.
    pub entries: entries::limits::Limits,
}
