//! The engine's bounds (rule R7). Each is per shard, and a full one answers `BUSY`.

/// How much of everything one shard takes on.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Catalogue entries.
    pub items_max: u64,
    /// Orders.
    pub orders_max: u64,
    /// Idempotency keys.
    pub keys_max: u64,
    /// Keys of the keyspace.
    pub entries_max: u64,
    /// Longest string that a command of the keyspace may make.
    pub string_bytes_max: usize,
    /// Transactions in flight that this shard coordinates.
    pub transactions_max: usize,
    /// Requests that wait: for stock, for an order, for the end of an audit, each.
    pub waiting_max: usize,
}

impl Default for EngineLimits {
    /// Bounds that memory reaches first on most machines.
    fn default() -> Self {
        Self {
            items_max: 100_000_000,
            orders_max: 1_000_000_000,
            keys_max: 1_000_000_000,
            entries_max: 1_000_000_000,
            string_bytes_max: 512 << 20,
            transactions_max: 65_536,
            waiting_max: 65_536,
        }
    }
}
