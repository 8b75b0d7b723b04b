//! The manifest: what a data directory holds, as a short text with a checksum.
//!
//! Bytes only; [`super::DataDirectory`] keeps it on disk.
//!
//! ```text
//! cartwright-manifest 2
//! incarnation 12
//! generation 1 shards 2
//! generation 2 shards 8
//! crc32c 894c0ef0
//! ```

use std::fmt::Write;

use thiserror::Error;

use super::segment::Generation;
use cartwright_core::ids::SHARD_COUNT_MAX;

/// Version of the data directory's format; a higher one is refused, the ones before are read. It says more than what the
/// text is like: it goes up with the formats of logs and checkpoints, so that a server that cannot read those ends at once.
pub const MANIFEST_FORMAT_VERSION: u32 = 2;

const MAGIC: &str = "cartwright-manifest";

/// What a data directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// How often the server was started on it.
    pub incarnation: u32,
    /// Every set of logs, oldest first, to be replayed in this order. If the first is not generation 1, those before it
    /// were removed: every shard of the first has a checkpoint, and cannot be recovered without.
    pub generations: Vec<GenerationEntry>,
}

/// One set of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationEntry {
    /// Its number: 1 for the first ever, without gaps.
    pub number: Generation,
    /// How many shards, so how many logs, it has: 1 to [`SHARD_COUNT_MAX`].
    pub shard_count: u16,
}

/// Why bytes are not a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ManifestFault {
    /// Made by a later version.
    #[error(
        "it has format version {found}, and this server reads up to {MANIFEST_FORMAT_VERSION}; start the version that wrote it, or a later one"
    )]
    Newer {
        /// The version it has.
        found: u32,
    },
    /// The bytes are not what was written.
    #[error("it is damaged; put the file back from a copy of the same state")]
    Damaged,
}

impl Manifest {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_as(MANIFEST_FORMAT_VERSION)
    }

    fn encode_as(&self, version: u32) -> Vec<u8> {
        let mut text = format!("{MAGIC} {version}\nincarnation {}\n", self.incarnation);
        for GenerationEntry { number, shard_count } in &self.generations {
            writeln!(text, "generation {} shards {shard_count}", number.0).expect("a string takes any text");
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        writeln!(text, "crc32c {checksum:08x}").expect("a string takes any text");
        text.into_bytes()
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestFault> {
        let text = str::from_utf8(bytes).map_err(|_| ManifestFault::Damaged)?;
        // Before the checksum, which a later version may keep elsewhere.
        let first = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix(MAGIC)?.strip_prefix(' '));
        let version: u32 = first
            .and_then(|version| version.parse().ok())
            .ok_or(ManifestFault::Damaged)?;
        if version > MANIFEST_FORMAT_VERSION {
            return Err(ManifestFault::Newer { found: version });
        }
        let manifest = Self::parse(text).ok_or(ManifestFault::Damaged)?;
        // Whatever reads back as other bytes, the checksum included, is not what was written.
        if version > 0 && manifest.encode_as(version) == bytes {
            Ok(manifest)
        } else {
            Err(ManifestFault::Damaged)
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut manifest = Self::default();
        for line in text.lines().skip(1) {
            match *line.split(' ').collect::<Vec<_>>() {
                ["incarnation", number] => manifest.incarnation = number.parse().ok()?,
                ["generation", number, "shards", shard_count] => {
                    let entry = GenerationEntry {
                        number: Generation(number.parse().ok()?),
                        shard_count: shard_count.parse().ok()?,
                    };
                    let is_next = manifest.generations.is_empty() || entry.number == manifest.next_generation();
                    if !is_next || entry.number.0 == 0 || !(1..=SHARD_COUNT_MAX).contains(&entry.shard_count) {
                        return None;
                    }
                    manifest.generations.push(entry);
                }
                ["crc32c", _] => return Some(manifest),
                _ => return None,
            }
        }
        None
    }

    /// The generation that a change of the number of shards would begin.
    pub fn next_generation(&self) -> Generation {
        Generation(self.generations.last().map_or(0, |newest| newest.number.0) + 1)
    }

    /// Whether the first generation listed began with nothing, so that its logs alone can tell its state.
    pub fn begins_with_nothing(&self) -> bool {
        self.generations
            .first()
            .is_none_or(|first| first.number == Generation(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = |number, shard_count| GenerationEntry {
            number: Generation(number),
            shard_count,
        };
        Manifest {
            incarnation: 12,
            generations: vec![entry(1, 2), entry(2, 8)],
        }
    }

    #[test]
    fn a_manifest_reads_back_as_written() {
        for manifest in [manifest(), without_the_first(), Manifest::default()] {
            assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }

    fn without_the_first() -> Manifest {
        let mut manifest = manifest();
        manifest.generations.remove(0);
        manifest
    }

    #[test]
    fn generations_that_were_removed_count_on() {
        let manifest = without_the_first();
        assert_eq!(manifest.next_generation(), Generation(3));
        assert!(!manifest.begins_with_nothing());
        assert!(Manifest::default().begins_with_nothing() && self::manifest().begins_with_nothing());
    }

    #[test]
    fn a_gap_between_generations_is_no_manifest() {
        let mut manifest = manifest();
        manifest.generations[1].number = Generation(3);
        assert_eq!(Manifest::decode(&manifest.encode()), Err(ManifestFault::Damaged));
    }

    #[test]
    fn the_documented_example_is_one() {
        let documented: String = include_str!("manifest.rs")
            .lines()
            .skip_while(|line| *line != "//! ```text")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .flat_map(|line| [&line[4..], "\n"])
            .collect();
        assert_eq!(String::from_utf8(manifest().encode()).unwrap(), documented);
    }

    #[test]
    fn no_changed_byte_and_no_prefix_of_a_manifest_is_one() {
        let bytes = manifest().encode();
        for at in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..at]).is_err(), "prefix {at}");
            for flip in [1, 2, 4, 8, 16, 32, 64, 128] {
                let mut flipped = bytes.clone();
                flipped[at] ^= flip;
                assert!(Manifest::decode(&flipped).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_newer_format_is_named_as_such() {
        assert_eq!(
            Manifest::decode(b"cartwright-manifest 3\nanything"),
            Err(ManifestFault::Newer { found: 3 })
        );
    }

    #[test]
    fn the_format_before_is_read() {
        let before = manifest().encode_as(1);
        assert!(before.starts_with(b"cartwright-manifest 1\n"));
        assert_eq!(Manifest::decode(&before), Ok(manifest()));
        assert_eq!(Manifest::decode(&manifest().encode_as(0)), Err(ManifestFault::Damaged));
    }
}
