//! A key that a command names: its bytes, its slot, and its hash in this process's tables.

use cartwright_protocol::Slot;

use super::table::hash_of;

/// A key among a command's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    pub(super) slot: Slot,
    pub(super) hash: u64,
}

impl<'a> Name<'a> {
    /// The key with these bytes.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self::in_slot(bytes, Slot::of(bytes))
    }

    pub(super) fn in_slot(bytes: &'a [u8], slot: Slot) -> Self {
        Self {
            bytes,
            slot,
            hash: hash_of(bytes),
        }
    }
}
