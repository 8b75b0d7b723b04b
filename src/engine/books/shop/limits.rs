//! The shop's bounds (rule R7). Each is per shard, and a full one answers `BUSY`.

/// How much the shop takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Catalogue entries.
    pub items_max: u64,
    /// Orders.
    pub orders_max: u64,
}

impl Default for Limits {
    /// Bounds that memory reaches first on most machines.
    fn default() -> Self {
        Self {
            items_max: 100_000_000,
            orders_max: 1_000_000_000,
        }
    }
}
