//! A segment: a fixed-size stretch of one shard's log, its header, and the memory the writer appends to.
//!
//! Storage and the simulator write the header when they make a segment, before the log sees it; it never changes after.
//! Knows nothing of files.

use thiserror::Error;

use super::record::{
    Framing, MARK_BYTES, ORDINARY_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX, RECORD_ALIGNMENT, RECORD_HEADER_BYTES,
    SEAL_BYTES, Salt, read_u32, read_u64,
};
use cartwright_core::ids::ShardId;

/// Version of the segment header and of the records; a higher one is refused. The ones before are read: version 2 has
/// neither kinds of payloads nor terms, version 1 in addition no payloads above 4 MiB.
pub const LOG_FORMAT_VERSION: u32 = 3;

/// Bytes of a segment before its first record.
pub const SEGMENT_HEADER_BYTES: usize = 64;

/// Bytes of a segment unless configured otherwise: small enough to make in the background in well under the time it
/// takes to fill one, large enough that the change from one to the next is rare.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// Smallest segment, for tests and the simulator. A server wants [`SEGMENT_BYTES_FULL_PAYLOAD_MIN`].
pub const SEGMENT_BYTES_MIN: u64 = 4096;

/// Largest segment: recovery reads a whole one into memory.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes a writer keeps free behind every payload: the seal, and two marks. More marks cannot follow before the next
/// payload: one for the sync that may be running, one for the sync that covers the rest.
pub(super) const SEGMENT_RESERVE_BYTES: usize = SEAL_BYTES + 2 * MARK_BYTES;

/// Most log a payload takes beyond its own bytes: header, padding, and the mark of a sync of its own.
pub const RECORD_OVERHEAD_BYTES: u64 = (RECORD_HEADER_BYTES + RECORD_ALIGNMENT + MARK_BYTES) as u64;

/// Bytes of a segment that are never room for payloads: header, opening mark, the marks of up to two syncs of what was
/// appended before, and the reserve.
const SEGMENT_OVERHEAD_BYTES: u64 = (SEGMENT_HEADER_BYTES + MARK_BYTES + 2 * MARK_BYTES + SEGMENT_RESERVE_BYTES) as u64;

/// Smallest segment that takes a payload of [`ORDINARY_PAYLOAD_BYTES_MAX`].
pub const SEGMENT_BYTES_FULL_PAYLOAD_MIN: u64 =
    SEGMENT_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES + ORDINARY_PAYLOAD_BYTES_MAX as u64;

// What is left of the largest segment beside the largest payload is for what is in flight.
const _: () = assert!(PAYLOAD_BYTES_MAX as u64 + (200 << 20) < SEGMENT_BYTES_MAX);

/// `magic` of the header.
const SEGMENT_MAGIC: [u8; 8] = *b"CWLOGSEG";

/// A set of logs written with one number of shards; from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// A segment's place in its log: the first is 1, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(pub u64);

impl SegmentNumber {
    /// The first segment of every log.
    pub const FIRST: Self = Self(1);

    /// The segment after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Which log: one shard's of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The generation.
    pub generation: Generation,
    /// Whose log.
    pub shard: ShardId,
    /// How many shards the generation has.
    pub shard_count: u16,
}

/// The first [`SEGMENT_HEADER_BYTES`] of a segment.
///
/// ```text
/// offset  bytes  field, little-endian
///      0      8  "CWLOGSEG"
///      8      4  format version
///     12      2  shard
///     14      2  shard count
///     16      4  generation
///     20      4  zero
///     24      8  segment number
///     32      8  size of the segment in bytes
///     40      8  salt
///     48     12  zero
///     60      4  CRC-32C of bytes 0 to 59
/// ```
///
/// A segment is made before it is known which position it starts with; the mark it opens with says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Of its records: 1 to [`LOG_FORMAT_VERSION`], which new segments have.
    pub version: u32,
    /// Which log it belongs to.
    pub identity: LogIdentity,
    /// Its place in that log.
    pub number: SegmentNumber,
    /// Its whole size, header included: [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`], a multiple of 8.
    pub segment_bytes: u64,
    /// Drawn at random for each segment.
    pub salt: Salt,
}

/// Why a segment's header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderFault {
    /// Shorter than a header, or another magic.
    #[error("the file is not a log segment")]
    NotASegment,
    /// Made by a later version.
    #[error("the segment has format version {found}, and this server reads up to {LOG_FORMAT_VERSION}")]
    Newer {
        /// The version it has.
        found: u32,
    },
    /// The bytes are not what was written.
    #[error("the segment header's checksum does not match")]
    Checksum,
    /// A checksum that matches over fields that cannot be.
    #[error("the segment header's fields are impossible")]
    Fields,
}

impl SegmentHeader {
    /// Writes the header to the start of `target`, a whole segment or its first bytes.
    pub fn encode(&self, target: &mut [u8]) {
        assert!(
            is_segment_size(self.segment_bytes),
            "a segment of {} bytes is outside the limits",
            self.segment_bytes
        );
        let mut header = [0; SEGMENT_HEADER_BYTES];
        header[..8].copy_from_slice(&SEGMENT_MAGIC);
        header[8..12].copy_from_slice(&self.version.to_le_bytes());
        header[12..14].copy_from_slice(&self.identity.shard.0.to_le_bytes());
        header[14..16].copy_from_slice(&self.identity.shard_count.to_le_bytes());
        header[16..20].copy_from_slice(&self.identity.generation.0.to_le_bytes());
        header[24..32].copy_from_slice(&self.number.0.to_le_bytes());
        header[32..40].copy_from_slice(&self.segment_bytes.to_le_bytes());
        header[40..48].copy_from_slice(&self.salt.0.to_le_bytes());
        let checksum = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&checksum.to_le_bytes());
        target[..SEGMENT_HEADER_BYTES].copy_from_slice(&header);
    }

    /// Reads the header at the start of `bytes`. Does not compare the size with that of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let header = bytes
            .first_chunk::<SEGMENT_HEADER_BYTES>()
            .ok_or(HeaderFault::NotASegment)?;
        if header[..8] != SEGMENT_MAGIC {
            return Err(HeaderFault::NotASegment);
        }
        // Before the checksum, which a later version may keep elsewhere.
        let version = read_u32(header, 8);
        if version > LOG_FORMAT_VERSION {
            return Err(HeaderFault::Newer { found: version });
        }
        if read_u32(header, 60) != crc32c::crc32c(&header[..60]) {
            return Err(HeaderFault::Checksum);
        }
        let header = Self {
            version,
            identity: LogIdentity {
                generation: Generation(read_u32(header, 16)),
                shard: ShardId(u16::from_le_bytes([header[12], header[13]])),
                shard_count: u16::from_le_bytes([header[14], header[15]]),
            },
            number: SegmentNumber(read_u64(header, 24)),
            segment_bytes: read_u64(header, 32),
            salt: Salt(read_u64(header, 40)),
        };
        if version == 0 || !is_segment_size(header.segment_bytes) {
            return Err(HeaderFault::Fields);
        }
        Ok(header)
    }

    /// How its records are laid out.
    pub const fn framing(&self) -> Framing {
        Framing {
            salt: self.salt,
            version: self.version,
        }
    }

    /// Whether its records are those of the newest format: no others are appended.
    pub const fn is_current(&self) -> bool {
        self.version == LOG_FORMAT_VERSION
    }
}

/// Whether a segment may have this size.
pub const fn is_segment_size(bytes: u64) -> bool {
    bytes >= SEGMENT_BYTES_MIN && bytes <= SEGMENT_BYTES_MAX && bytes.is_multiple_of(RECORD_ALIGNMENT as u64)
}

/// Largest ordinary payload that is certain to fit an empty segment of this size.
pub const fn payload_bytes_max(segment_bytes: u64) -> usize {
    let fits = segment_bytes.saturating_sub(SEGMENT_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES) as usize;
    if fits < ORDINARY_PAYLOAD_BYTES_MAX {
        fits
    } else {
        ORDINARY_PAYLOAD_BYTES_MAX
    }
}

/// Size of a segment that, empty, has room for so many bytes of records, or as many as the largest has.
pub const fn segment_bytes_for(room_bytes: u64) -> u64 {
    let bytes = room_bytes
        .saturating_add(SEGMENT_OVERHEAD_BYTES)
        .checked_next_multiple_of(SEGMENT_BYTES_MIN);
    match bytes {
        Some(bytes) if bytes < SEGMENT_BYTES_MAX => bytes,
        _ => SEGMENT_BYTES_MAX,
    }
}

/// Bytes up to the last one that is not zero.
pub(super) fn written_bytes(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    // Whole pages first: almost all of an unused segment.
    while let Some(start) = end.checked_sub(ZEROS.len())
        && bytes[start..end] == ZEROS
    {
        end = start;
    }
    bytes[..end]
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1)
}

/// A segment's bytes, all of them, header included, of a size that never changes: a mapped file, or a simulated disk's
/// cache. What is stored is not on disk until a sync covers it, and may reach it before.
pub trait SegmentMemory {
    /// The whole segment.
    fn bytes(&self) -> &[u8];
    /// The whole segment, to store to.
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl SegmentMemory for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            version: LOG_FORMAT_VERSION,
            identity: LogIdentity {
                generation: Generation(3),
                shard: ShardId(1),
                shard_count: 2,
            },
            number: SegmentNumber(9),
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            salt: Salt(0xfeed_f00d_dead_beef),
        }
    }

    #[test]
    fn a_header_reads_back_as_written_and_no_flipped_byte_passes() {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        header().encode(&mut bytes);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert!(SegmentHeader::decode(&bytes).is_err(), "byte {at}");
            bytes[at] ^= 0x10;
        }
    }

    #[test]
    fn what_was_written_ends_with_the_last_byte_that_is_not_zero() {
        for length in [0, 1, 4095, 4096, 4097, 9000] {
            assert_eq!(written_bytes(&vec![0; length]), 0);
            for at in 0..length {
                let mut bytes = vec![0; length];
                bytes[at] = 1;
                bytes[0] = 1;
                assert_eq!(written_bytes(&bytes), at + 1);
            }
        }
    }

    #[test]
    fn the_formats_before_are_read_and_told_apart() {
        for version in 1..LOG_FORMAT_VERSION {
            let older = SegmentHeader { version, ..header() };
            let mut bytes = [0; SEGMENT_HEADER_BYTES];
            older.encode(&mut bytes);
            assert_eq!(SegmentHeader::decode(&bytes), Ok(older));
            assert!(!older.is_current() && header().is_current());
        }
    }

    #[test]
    fn a_newer_format_is_named_as_such() {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        header().encode(&mut bytes);
        bytes[8..12].copy_from_slice(&(LOG_FORMAT_VERSION + 1).to_le_bytes());
        assert_eq!(
            SegmentHeader::decode(&bytes),
            Err(HeaderFault::Newer {
                found: LOG_FORMAT_VERSION + 1
            })
        );
    }
}
