//! The engine's own identifiers: slots' shards, transactions, points in time; and those that the log shares.
//!
//! Newtypes, so that no bare integer crosses a module boundary.

use cartwright_protocol::{SLOT_COUNT, Slot};

pub use cartwright_core::ids::{LogPosition, RecordKind, SHARD_COUNT_MAX, ShardId};

/// How slots map to shards: contiguous ranges of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMap {
    shard_count: u16,
}

impl ShardMap {
    /// A map onto 1 to [`SHARD_COUNT_MAX`] shards.
    pub fn new(shard_count: u16) -> Self {
        assert!(
            (1..=SHARD_COUNT_MAX).contains(&shard_count),
            "a server has 1 to {SHARD_COUNT_MAX} shards"
        );
        Self { shard_count }
    }

    /// How many shards there are.
    pub const fn shard_count(self) -> u16 {
        self.shard_count
    }

    /// All shards, ascending.
    pub fn shards(self) -> impl DoubleEndedIterator<Item = ShardId> + ExactSizeIterator {
        (0..self.shard_count).map(ShardId)
    }

    /// The shard that owns `slot`.
    pub fn shard_of(self, slot: Slot) -> ShardId {
        ShardId((slot.index() * self.shard_count as usize / SLOT_COUNT) as u16)
    }

    /// The slots that `shard` owns: a range of indices.
    pub fn slots_of(self, shard: ShardId) -> std::ops::Range<usize> {
        let first = |shard: usize| (shard * SLOT_COUNT).div_ceil(self.shard_count as usize);
        first(shard.index())..first(shard.index() + 1)
    }
}

/// A cross-shard transaction, unique across restarts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct TransactionId {
    /// Which start of the server: counts up by one with each, durable before the first request.
    pub incarnation: u32,
    /// The coordinator.
    pub home: ShardId,
    /// Counts up within the incarnation and the home shard.
    pub sequence: u64,
}

/// Unix milliseconds, as the driver read them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// As Unix milliseconds.
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// This moment and `ms` milliseconds; stays at the largest rather than wrap.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_shard_and_ranges_agree_with_it() {
        for shard_count in [1, 2, 3, 7, 8, SHARD_COUNT_MAX] {
            let map = ShardMap::new(shard_count);
            let mut owned = 0;
            for shard in map.shards() {
                for index in map.slots_of(shard) {
                    assert_eq!(map.shard_of(Slot::new(index as u16).unwrap()), shard);
                    owned += 1;
                }
            }
            assert_eq!(owned, SLOT_COUNT);
        }
    }
}
