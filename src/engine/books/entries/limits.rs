//! The bounds of keys and values (rule R7). Each is per shard; a full one answers `BUSY`, a string that is too long an
//! error.

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Keys with their values.
    pub entries_max: u64,
    /// Longest string that a command may make.
    pub string_bytes_max: usize,
}

impl Default for Limits {
    /// Bounds that memory reaches first on most machines.
    fn default() -> Self {
        Self {
            entries_max: 1_000_000_000,
            string_bytes_max: 512 << 20,
        }
    }
}
