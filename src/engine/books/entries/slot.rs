//! The keys and values of one slot, and what a shard keeps of them over all its slots.

use std::collections::BTreeSet;

use super::removals::Removals;
use super::value::KeyTable;
use crate::engine::kernel::ids::{LogPosition, Timestamp};

/// A key that expires: when, its slot, and its hash in this process's tables.
pub type Expiry = (Timestamp, u16, u64);

/// The keys and values of a slot.
#[derive(Debug, Default)]
pub struct Slot {
    /// Those that are there.
    pub table: KeyTable,
    /// The last record that removed one of them.
    pub removed_at: LogPosition,
    /// Which records removed which of them.
    pub removals: Removals,
}

impl Slot {
    /// Whether there has never been a key.
    pub fn has_been_empty(&self) -> bool {
        self.table.is_empty() && self.removed_at == LogPosition::ZERO
    }
}

/// What is kept over all slots of a shard.
#[derive(Debug, Default)]
pub struct Index {
    /// Keys that expire, by when.
    pub expirations: BTreeSet<Expiry>,
    /// The last record that changed any key.
    pub changed_at: LogPosition,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys with their values.
    pub entries: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
    }
}
