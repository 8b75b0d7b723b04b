//! An entry: a key with its value, when it expires, and when it last changed.

use super::bytes::ValueBytes;
use super::table::{Keyed, PagedTable};
use super::types::Value;
use crate::engine::kernel::ids::{LogPosition, Timestamp};

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub key: ValueBytes,
    /// What it holds.
    pub value: Value,
    /// From when on it does not exist any more; 0: never.
    pub expires_at: Timestamp,
    /// The record that changed it last; what an answer about it waits for, and what `WATCH` compares.
    pub version: LogPosition,
}

impl Entry {
    /// When it expires, if ever.
    pub fn expiry(&self) -> Option<Timestamp> {
        (self.expires_at != Timestamp::default()).then_some(self.expires_at)
    }

    /// Whether it is there for a command at `now`.
    #[inline]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.expires_at == Timestamp::default() || self.expires_at > now
    }
}

impl Keyed for Entry {
    #[inline]
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Keys with their values.
pub type KeyTable = PagedTable<Entry>;

impl KeyTable {
    /// Has the bytes fetched that entries with this hash point to.
    pub fn prefetch_value(&self, hash: u64) {
        self.find_by_hash(hash, |entry| {
            entry.key.prefetch();
            entry.value.prefetch();
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_of_the_cache() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
