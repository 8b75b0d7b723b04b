//! The engine's bounds (rule R7). Each is per shard, and a full one answers `BUSY`.

use crate::engine::books::Limits;

/// Largest encoded record, in bytes, but for changes of keys of one shard; what would be larger is refused with `TOOBIG`.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// The same for changes of keys of one shard: a key and a value of 512 MiB, and then some.
pub const LARGE_RECORD_BYTES_MAX: usize = 800 << 20;

/// How much of everything one shard takes on.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Request keys.
    pub request_keys_max: u64,
    /// Transactions in flight that this shard coordinates.
    pub transactions_max: usize,
    /// Requests that wait: for stock, for an order, for the end of an audit, each.
    pub waiting_max: usize,
    /// What is each book's own.
    pub books: Limits,
}

impl Default for EngineLimits {
    /// Bounds that memory reaches first on most machines.
    fn default() -> Self {
        Self {
            request_keys_max: 1_000_000_000,
            transactions_max: 65_536,
            waiting_max: 65_536,
            books: Limits::default(),
        }
    }
}
