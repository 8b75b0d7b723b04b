//! What the log and those who write it share: shards, positions, and what a record is.
//!
//! Newtypes, so that no bare integer crosses a module boundary.

/// Most shards one server runs.
pub const SHARD_COUNT_MAX: u16 = 128;

/// One of the server's shards, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
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

/// A record's place in one shard's log: the first record is 1, the next 2, without gaps. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
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
