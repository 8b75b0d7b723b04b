//! What is in flight in each book, on one shard: who waits, what is locked, when to look again. Never logged.

use super::{entries, shop};
use crate::engine::kernel::ids::{ShardId, Timestamp};
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::state::State;

/// What each book knows of requests that are not over.
#[derive(Debug)]
pub struct Volatile {
    /// The shop.
    pub shop: shop::volatile::Volatile,
    /// Keys and values.
    pub entries: entries::Keyspace,
}

impl Volatile {
    /// Nothing in flight on this shard.
    pub fn new(shard: ShardId) -> Self {
        Self {
            shop: shop::volatile::Volatile::default(),
            entries: entries::Keyspace::new(u64::from(shard.0)),
        }
    }

    /// Whether nobody waits in any book.
    pub fn are_idle(&self) -> bool {
        self.shop.is_idle() && self.entries.locks.are_unused()
    }

    /// Whether nobody in any book need not wait any more.
    pub fn are_settled(&self) -> bool {
        self.shop.moved.is_empty() && !self.entries.locks.are_any_ready()
    }

    /// When any book wants time to be told.
    pub fn next_timer(&self, state: &State) -> Option<Timestamp> {
        let order = state.books.shop.expirations.first();
        let order = order.map(|&(at, _)| at.max(self.shop.expiry_retry_at));
        let entry = state.books.entries.expirations.first();
        let entry = entry.map(|&(at, ..)| at.max(self.entries.expiry_retry_at));
        [order, entry].into_iter().flatten().min()
    }
}

impl Step<'_> {
    /// Time has passed: each book does what is due, each a bounded amount.
    pub(in crate::engine) fn tick_books(&mut self) {
        self.expire_orders();
        self.expire_keys();
    }

    /// Those whose wait in a book is over go on; whether there was any.
    pub(in crate::engine) fn settle_books(&mut self) -> bool {
        let has_moved = self.settle_moved();
        self.settle_keys() || has_moved
    }
}
