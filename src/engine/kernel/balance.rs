//! What an audit adds up: sums that come to zero over all shards where the books balance.
//!
//! A book adds `units × coefficient` for what it counts and subtracts the same for what must explain it, wherever that
//! is. With coefficients that are 64-bit hashes, books that do not balance come to zero with probability 2⁻⁶⁴. There is
//! a sum for each slot, so that faults do not hide each other.

use cartwright_protocol::{SLOT_COUNT, Slot};

use crate::engine::kernel::hashing::Fingerprint;

/// See the module's text.
#[derive(Debug)]
pub struct Balance {
    violations: u64,
    sums: Box<[u64]>,
    /// For coefficients.
    pub fingerprint: Fingerprint,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            violations: 0,
            sums: vec![0; SLOT_COUNT].into_boxed_slice(),
            fingerprint: Fingerprint::default(),
        }
    }
}

impl Balance {
    /// Something is wrong by itself, unless this `holds`.
    pub fn require(&mut self, holds: bool) {
        self.violations += u64::from(!holds);
    }

    /// Adds to what is counted in this slot.
    pub fn add(&mut self, slot: Slot, coefficient: u64, units: u64) {
        let sum = &mut self.sums[slot.index()];
        *sum = sum.wrapping_add(coefficient.wrapping_mul(units));
    }

    /// Adds to what explains it.
    pub fn subtract(&mut self, slot: Slot, coefficient: u64, units: u64) {
        let sum = &mut self.sums[slot.index()];
        *sum = sum.wrapping_sub(coefficient.wrapping_mul(units));
    }

    /// Adds another shard's.
    pub fn add_up(&mut self, other: &Self) {
        self.violations += other.violations;
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            *sum = sum.wrapping_add(*other);
        }
    }

    /// How much is wrong, over all that was added up.
    pub fn violations(&self) -> u64 {
        self.violations + self.sums.iter().filter(|&&sum| sum != 0).count() as u64
    }
}
