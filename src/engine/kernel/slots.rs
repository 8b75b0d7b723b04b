//! One slot: each book's tables of what hashes to it, and the request keys that were used on that.
//!
//! The unit of everything that moves: no table is larger than a slot's share, so no growth stops the world, and a slot
//! goes to another shard as a whole.

use crate::engine::books::SlotTables;
use crate::engine::kernel::ids::LogPosition;
use crate::engine::kernel::request_key_table::RequestKeyTable;

/// Everything in one slot.
#[derive(Debug, Default)]
pub struct SlotState {
    /// Each book's tables.
    pub books: SlotTables,
    /// Request keys used on things of this slot.
    pub request_keys: RequestKeyTable,
    /// The last record that changed decided state here by itself; what a reply about this slot waits for.
    pub changed_at: LogPosition,
}

impl SlotState {
    /// Whether there has never been anything here: things can go, and a checkpoint that leaves the slot out would show
    /// them as they were when it began.
    pub fn is_empty(&self) -> bool {
        self.request_keys.is_empty() && self.books.are_empty()
    }
}
