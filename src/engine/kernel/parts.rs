//! The kernel's own parts of a checkpoint, as they are archived: one struct for each kind and version, never changed once
//! a version is released (see `docs/upgrades.md`).

use rkyv::with::InlineAsBox;

use crate::engine::kernel::ids::RecordKind;
use crate::engine::kernel::records::KERNEL;

const fn kind(kind: u8, version: u8) -> RecordKind {
    RecordKind {
        book: KERNEL,
        kind,
        version,
    }
}

/// [`Latest1`]
pub const LATEST_1: RecordKind = kind(65, 1);
/// [`Pending1`]
pub const PENDING_1: RecordKind = kind(66, 1);
/// [`Slot1`]
pub const SLOT_1: RecordKind = kind(67, 1);

/// The latest time in any record before the checkpoint, which none of its things may show.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct Latest1 {
    /// Unix milliseconds.
    pub at: u64,
}

/// Transactions that pend where the checkpoint begins.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct Pending1<'a> {
    /// See [`crate::engine::kernel::packed_transaction`].
    #[rkyv(with = InlineAsBox)]
    pub transactions: &'a [u8],
}

/// A slot: its request keys, and what each book has to say of it in one moment.
#[derive(rkyv::Archive, rkyv::Serialize)]
pub struct Slot1<'a> {
    /// Index of the slot.
    pub slot: u16,
    /// The part shows the log up to here.
    pub position: u64,
    /// Request keys used before are forgotten, those that things hold, too.
    pub keys_from: u64,
    /// Its request keys, but for those that things hold: see [`crate::engine::kernel::packed_key`].
    #[rkyv(with = InlineAsBox)]
    pub keys: &'a [u8],
    /// See [`crate::engine::books::put_slot`].
    #[rkyv(with = InlineAsBox)]
    pub books: &'a [u8],
}
