//! The kernel's own records, as they are archived: one struct for each kind and version, never changed once a version is
//! released (see `docs/upgrades.md`).

use rkyv::with::InlineAsBox;

use crate::engine::kernel::ids::RecordKind;

/// The number of the kernel among the books.
pub const KERNEL: u8 = 255;

const fn kind(kind: u8, version: u8) -> RecordKind {
    RecordKind {
        book: KERNEL,
        kind,
        version,
    }
}

/// [`Started1`]
pub const STARTED_1: RecordKind = kind(1, 1);
/// [`Answered1`]
pub const ANSWERED_1: RecordKind = kind(2, 1);
/// [`RequestKeysForgotten1`]
pub const REQUEST_KEYS_FORGOTTEN_1: RecordKind = kind(3, 1);
/// [`Prepared1`]
pub const PREPARED_1: RecordKind = kind(4, 1);
/// [`Decided1`]
pub const DECIDED_1: RecordKind = kind(5, 1);
/// [`Resolved1`]
pub const RESOLVED_1: RecordKind = kind(6, 1);

/// The server started.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct Started1 {
    /// What follows was written by this incarnation.
    pub incarnation: u32,
}

/// A request with a key was answered without changing anything.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct Answered1<'a> {
    /// See [`crate::engine::kernel::packed_key`].
    #[rkyv(with = InlineAsBox)]
    pub key: &'a [u8],
}

/// Request keys of a slot are forgotten.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct RequestKeysForgotten1 {
    /// The slot.
    pub slot: u16,
    /// Those last used before.
    pub before: u64,
}

/// Parts of transactions were reserved here.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct Prepared1<'a> {
    /// See [`crate::engine::kernel::packed_transaction`].
    #[rkyv(with = InlineAsBox)]
    pub transactions: &'a [u8],
}

/// Transactions were decided at their home.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct Decided1<'a> {
    /// When.
    pub at: u64,
    /// See [`crate::engine::kernel::packed_transaction`].
    #[rkyv(with = InlineAsBox)]
    pub transactions: &'a [u8],
}

/// Transactions are over.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct Resolved1<'a> {
    /// See [`crate::engine::kernel::packed_transaction`].
    #[rkyv(with = InlineAsBox)]
    pub outcomes: &'a [u8],
}
