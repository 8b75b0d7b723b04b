//! The books: each a part of a shard's state that decides, applies and explains its own records.
//!
//! This is the list of them, and all that the kernel knows of them. A book is added by a folder and a line in each of
//! these.
//!
//! - `shop`: catalogue, stock, carts and orders
//! - `entries`: Redis's keys and values
//! - `purpose`: what a transaction over several shards is for, whatever books it is about; `together`: one about both

pub mod entries;
pub mod format_2;
mod look_ahead;
mod parts;
mod pieces;
pub mod purpose;
mod records;
pub mod shop;
mod state_tags;
pub mod together;
mod volatile;

pub use look_ahead::{Place, look_ahead_to_ask};
pub use parts::{SlotCursor, put_slot, restore_part, restore_slot};
pub use pieces::{put_pieces, take_pieces};
pub use purpose::{Findings, Outcome, Pieces, Purpose};
pub use records::BookRecord;
pub use shop::inventory::{StockLine, StockPart};
pub use shop::orders::Decided;
pub use together::{Together, TogetherAnswer};

use cartwright_protocol::{AuditReport, Slot};

use crate::engine::kernel::balance::Balance;
use crate::engine::kernel::hashing::Fingerprint;
use crate::engine::kernel::state::State;

pub use state_tags::StateTag;
pub use volatile::Volatile;

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

    /// Adds what is in them to an audit; how many things were looked at.
    pub fn audit(&self, balance: &mut Balance) -> u64 {
        shop::audit::audit(&self.shop, balance) + self.entries.table.len() as u64
    }

    /// Their part in the hash of the whole state, where they are those of slot `number`.
    pub fn hash(&self, fingerprint: &mut Fingerprint, number: Slot) -> u64 {
        let shop = shop::audit::hash(&self.shop, fingerprint, number);
        let entries = self.entries.table.iter();
        entries
            .map(|entry| entries::entry_hash(fingerprint, entry))
            .fold(shop, u64::wrapping_add)
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

impl Counts {
    /// What an audit reports of them.
    pub fn audit_report(&self) -> AuditReport {
        AuditReport {
            items: self.shop.items,
            orders: self.shop.orders,
            lines: self.shop.lines,
            ..AuditReport::default()
        }
    }
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

/// Where the parts of things end that have parts of their own.
#[derive(Debug, Default)]
pub struct BookPositions {
    /// Orders.
    pub shop: shop::order_positions::OrderPositions,
}
