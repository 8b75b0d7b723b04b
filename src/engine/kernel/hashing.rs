//! The hash function of the engine's tables, and the one of its fingerprints.
//!
//! Tables are seeded once per process, so that no client can choose keys that collide; nothing that leaves the engine
//! may depend on the order in which a table is walked. Fingerprints are stable for ever: they are in the log.

use std::hash::{BuildHasher, Hash};
use std::sync::LazyLock;

static SEEDED: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);

/// A zero-sized `BuildHasher`: tables in 16,384 slots do not each carry the seeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableHasher;

impl BuildHasher for TableHasher {
    type Hasher = ahash::AHasher;

    fn build_hasher(&self) -> Self::Hasher {
        SEEDED.build_hasher()
    }
}

/// Hash for a table, seeded per process.
pub fn table_hash(value: &(impl Hash + ?Sized)) -> u64 {
    SEEDED.hash_one(value)
}

/// A table's hash from the half that entries keep: it takes places from the low bits and tags from the high ones.
pub const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

/// A growing canonical encoding whose `XXH3` hash identifies a value for ever, on every machine.
#[derive(Debug, Default)]
pub struct Fingerprint {
    bytes: Vec<u8>,
}

impl Fingerprint {
    /// Begins a value of the given kind; the kind keeps values of different types apart.
    pub fn begin(&mut self, kind: u8) -> &mut Self {
        self.bytes.clear();
        self.bytes.push(kind);
        self
    }

    /// Adds an integer.
    pub fn integer(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Adds bytes, with their length, so that neighbours cannot run together.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// The hash of what was added since [`Self::begin`].
    pub fn finish(&self) -> u64 {
        twox_hash::XxHash3_64::oneshot(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_never_change() {
        let mut fingerprint = Fingerprint::default();
        // This constant is in logs on disk.
        assert_eq!(
            fingerprint.begin(1).integer(2).bytes(b"three").finish(),
            17_995_573_859_464_347_750
        );
    }

    #[test]
    fn neighbours_do_not_run_together() {
        let mut fingerprint = Fingerprint::default();
        let one = fingerprint.begin(1).bytes(b"ab").bytes(b"c").finish();
        assert_ne!(one, fingerprint.begin(1).bytes(b"a").bytes(b"bc").finish());
    }
}
