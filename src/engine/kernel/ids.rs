//! The engine's own identifiers: shards, log positions, transactions, points in time.
//!
//! Newtypes, so that no bare integer crosses a module boundary.

use cartwright_protocol::{SLOT_COUNT, Slot};

/// Most shards one server runs.
pub const SHARD_COUNT_MAX: u16 = 128;

/// One of the server's shards, from 0.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard's number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for ShardId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

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

/// A record's place in one shard's log: the first record is 1, the next 2, without gaps. 0 is before the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct LogPosition(pub u64);

impl LogPosition {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for LogPosition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a record of the log is, or a part of a checkpoint, beside its payload: its frame says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind {
    /// The book that writes it, and is the only one to read it.
    pub book: u8,
    /// Which of that book's.
    pub kind: u8,
    /// Which layout of the payload.
    pub version: u8,
}

impl RecordKind {
    /// A record or part as format 2 has it: the payload tells by itself what it is.
    pub const OF_FORMAT_2: Self = Self {
        book: 0,
        kind: 0,
        version: 0,
    };
}

impl std::fmt::Display for RecordKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { book, kind, version } = self;
        write!(formatter, "kind {kind} of book {book}, version {version}")
    }
}

/// A cross-shard transaction, unique across restarts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
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
