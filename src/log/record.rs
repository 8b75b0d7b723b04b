//! One record of a log as bytes: a fixed header, a checksum over it and the payload, padding to eight bytes.
//!
//! The writer encodes records into segments, the scan decodes them. Knows nothing of files, nor of what a payload means.
//!
//! ```text
//! offset  bytes  field, little-endian
//!      0      4  CRC-32C of bytes 4 to the end of the payload, started from the low half of the segment's salt
//!      4      4  magic: the high half of the segment's salt, lowest bit set
//!      8      4  payload length
//!     12      1  frame: 1 payload, 2 mark, 3 seal
//!     13      1  book of the payload; 0 in marks and seals
//!     14      1  kind of the payload within its book; 0 in marks and seals
//!     15      1  version of the payload's layout; 0 in marks and seals
//!     16      8  position
//!     24      8  synced: the highest position known to be on disk when the record was written
//!     32      n  payload, then zeros up to a multiple of 8
//! ```
//!
//! A mark's payload is the log's term: 0 as long as no replica ever led. It stands there and not in each record, since
//! it holds for everything from that mark to the next: a term begins with a mark, every segment opens with one, and so
//! a log that begins anywhere tells the term of each of its records, at no cost to them.
//!
//! Formats 1 and 2 differ in two ways: bytes 13 to 15 are zero in every record, and marks have no payload.

use thiserror::Error;

use cartwright_core::ids::{LogPosition, RecordKind};

/// From this format version on payloads have kinds.
const FIRST_VERSION_WITH_KINDS: u32 = 3;

/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: usize = 32;

/// Most bytes of one payload: a key and a value of 512 MiB, and small enough for a segment of the largest size.
pub const PAYLOAD_BYTES_MAX: usize = 800 * 1024 * 1024;

/// Most bytes of a payload that any segment of a server takes, and that a log always has room for: more than all but a
/// change of large values needs, and small enough that one record never fills a segment of the default size.
pub const ORDINARY_PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Records start at multiples of this, so that a search for a lost record has few places to look.
pub const RECORD_ALIGNMENT: usize = 8;

/// Bytes of a mark: a header and the term.
pub const MARK_BYTES: usize = RECORD_HEADER_BYTES + size_of::<u64>();

/// Bytes of a seal: a header and the number of the segment that follows.
pub const SEAL_BYTES: usize = RECORD_HEADER_BYTES + size_of::<u64>();

/// Bytes a payload of `payload_bytes` takes in a segment, header and padding included.
pub const fn record_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(RECORD_ALIGNMENT)
}

/// Tells the records of one segment from every other byte sequence, those that clients send included.
///
/// Recovery searches what follows a bad record for proof that it was acknowledged, and that search passes over payloads:
/// without a secret in each record a client could store bytes that look like such a proof, and a torn tail would be
/// taken for damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub u64);

impl Salt {
    /// Never zero, so that erased space is never a record.
    const fn magic(self) -> u32 {
        (self.0 >> 32) as u32 | 1
    }

    const fn checksum_seed(self) -> u32 {
        self.0 as u32
    }
}

/// How the records of one segment are told from other bytes, and laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The segment's own.
    pub salt: Salt,
    /// The segment's format version: one that this server reads.
    pub version: u32,
}

impl Framing {
    /// Whether payloads say what they are, and marks tell a term.
    pub const fn names_kinds(self) -> bool {
        self.version >= FIRST_VERSION_WITH_KINDS
    }
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Carries a payload of this kind and takes the next position.
    Payload(RecordKind),
    /// Says what is synced; carries the last position and, as payload, the term. Every segment opens with one.
    Mark,
    /// The last record of its segment; carries the last position and, as payload, the next segment's number.
    Seal,
}

impl Frame {
    const fn bytes(self) -> [u8; 4] {
        match self {
            Self::Payload(RecordKind { book, kind, version }) => [1, book, kind, version],
            Self::Mark => [2, 0, 0, 0],
            Self::Seal => [3, 0, 0, 0],
        }
    }
}

/// A record, borrowed from the segment or on its way into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is for.
    pub frame: Frame,
    /// Its own position, or the last one.
    pub position: LogPosition,
    /// The highest position known synced when it was written.
    pub synced: LogPosition,
    /// At most [`PAYLOAD_BYTES_MAX`].
    pub payload: &'a [u8],
}

/// Why bytes are not a record of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordFault {
    /// A header of zeros: nothing was written here.
    #[error("there is no record, only zeros")]
    Empty,
    /// The segment ends within the header.
    #[error("the segment ends before a record's header does")]
    Short,
    /// Not the segment's magic.
    #[error("the record's magic is wrong")]
    Magic,
    /// Longer than the segment or than any payload.
    #[error("the record's length is impossible")]
    Length,
    /// The bytes are not what was written.
    #[error("the record's checksum does not match")]
    Checksum,
    /// A frame that no segment of its format has, under a checksum that matches.
    #[error("the record's frame is unknown")]
    Frame,
}

impl<'a> Record<'a> {
    /// The term that a mark tells; 0 in a mark of a format before terms.
    pub fn term(&self) -> u64 {
        if self.payload.is_empty() {
            0
        } else {
            read_u64(self.payload, 0)
        }
    }

    /// Bytes the record takes in a segment.
    pub const fn bytes(&self) -> usize {
        record_bytes(self.payload.len())
    }

    /// Writes the record, its payload going on with `more`, to the start of `target`, which has room for it.
    ///
    /// A segment of a format before kinds takes marks and seals alone.
    pub fn encode(&self, more: &[u8], salt: Salt, target: &mut [u8]) {
        let payload_bytes = self.payload.len() + more.len();
        let mut header = [0; RECORD_HEADER_BYTES];
        header[4..8].copy_from_slice(&salt.magic().to_le_bytes());
        header[8..12].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
        header[12..16].copy_from_slice(&self.frame.bytes());
        header[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        header[24..32].copy_from_slice(&self.synced.0.to_le_bytes());
        let checksum = crc32c::crc32c_append(checksum(salt, &header, self.payload), more);
        header[..4].copy_from_slice(&checksum.to_le_bytes());

        let (first_end, payload_end) = (
            RECORD_HEADER_BYTES + self.payload.len(),
            RECORD_HEADER_BYTES + payload_bytes,
        );
        target[RECORD_HEADER_BYTES..first_end].copy_from_slice(self.payload);
        target[first_end..payload_end].copy_from_slice(more);
        target[payload_end..record_bytes(payload_bytes)].fill(0);
        target[..RECORD_HEADER_BYTES].copy_from_slice(&header);
    }

    /// Reads the record at the start of `bytes`, which reach to the end of the segment.
    pub fn decode(framing: Framing, bytes: &'a [u8]) -> Result<Self, RecordFault> {
        let salt = framing.salt;
        let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>() else {
            return Err(RecordFault::Short);
        };
        if read_u32(header, 4) != salt.magic() {
            return Err(if header.iter().all(|&byte| byte == 0) {
                RecordFault::Empty
            } else {
                RecordFault::Magic
            });
        }
        let payload_bytes = read_u32(header, 8) as usize;
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(RecordFault::Length);
        }
        let payload = rest.get(..payload_bytes).ok_or(RecordFault::Length)?;
        if read_u32(header, 0) != checksum(salt, header, payload) {
            return Err(RecordFault::Checksum);
        }
        let mark_bytes = if framing.names_kinds() { size_of::<u64>() } else { 0 };
        let frame = match header[12..16] {
            [1, 0, 0, 0] => Frame::Payload(RecordKind::OF_FORMAT_2),
            [1, book, kind, version] if framing.names_kinds() => Frame::Payload(RecordKind { book, kind, version }),
            [2, 0, 0, 0] if payload.len() == mark_bytes => Frame::Mark,
            [3, 0, 0, 0] if payload.len() == size_of::<u64>() => Frame::Seal,
            _ => return Err(RecordFault::Frame),
        };
        Ok(Self {
            frame,
            position: LogPosition(read_u64(header, 16)),
            synced: LogPosition(read_u64(header, 24)),
            payload,
        })
    }
}

fn checksum(salt: Salt, header: &[u8; RECORD_HEADER_BYTES], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(salt.checksum_seed(), &header[4..]), payload)
}

/// The little-endian `u32` at `offset`, which the caller keeps within `bytes`.
pub(super) fn read_u32(bytes: &[u8], offset: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(field)
}

/// The little-endian `u64` at `offset`, which the caller keeps within `bytes`.
pub(super) fn read_u64(bytes: &[u8], offset: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIND: RecordKind = RecordKind {
        book: 2,
        kind: 9,
        version: 4,
    };

    const fn framing(salt: u64) -> Framing {
        Framing {
            salt: Salt(salt),
            version: FIRST_VERSION_WITH_KINDS,
        }
    }

    fn record(payload: &[u8], position: u64) -> Record<'_> {
        Record {
            frame: Frame::Payload(KIND),
            position: LogPosition(position),
            synced: LogPosition(position / 2),
            payload,
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut bytes = [0xff; 40];
        record(b"cart", 7).encode(&[], Salt(0x0102_0304_0506_0708), &mut bytes);
        assert_eq!(
            bytes[4..8],
            [5, 3, 2, 1],
            "the magic is the salt's high half with its lowest bit set"
        );
        assert_eq!(bytes[8..16], [4, 0, 0, 0, 1, 2, 9, 4]);
        assert_eq!(bytes[16..32], [7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[32..40], b"cart\0\0\0\0");
        assert_eq!(read_u32(&bytes, 0), crc32c::crc32c_append(0x0506_0708, &bytes[4..36]));
    }

    #[test]
    fn a_segment_of_the_format_before_has_neither_kinds_nor_terms() {
        let before = Framing {
            version: FIRST_VERSION_WITH_KINDS - 1,
            ..framing(77)
        };
        let decoded = |frame, payload: &[u8], framing| {
            let record = Record {
                frame,
                ..record(payload, 7)
            };
            let mut bytes = vec![0; record.bytes()];
            record.encode(&[], Salt(77), &mut bytes);
            Record::decode(framing, &bytes).map(|record| record.frame)
        };
        let plain = Frame::Payload(RecordKind::OF_FORMAT_2);
        let term = 3u64.to_le_bytes();
        for (frame, payload, now, then) in [
            (plain, &b"cart"[..], Ok(plain), Ok(plain)),
            (
                Frame::Payload(KIND),
                b"cart",
                Ok(Frame::Payload(KIND)),
                Err(RecordFault::Frame),
            ),
            (Frame::Mark, b"", Err(RecordFault::Frame), Ok(Frame::Mark)),
            (Frame::Mark, &term, Ok(Frame::Mark), Err(RecordFault::Frame)),
            (Frame::Seal, &term, Ok(Frame::Seal), Ok(Frame::Seal)),
        ] {
            assert_eq!(decoded(frame, payload, framing(77)), now, "{frame:?}");
            assert_eq!(decoded(frame, payload, before), then, "{frame:?}");
        }
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_written(
            payload in proptest::collection::vec(any::<u8>(), 0..300), position: u64, salt: u64, slack in 0usize..50,
        ) {
            let record = record(&payload, position);
            let mut bytes = vec![0xff; record.bytes() + slack];
            record.encode(&[], Salt(salt), &mut bytes);
            prop_assert_eq!(Record::decode(framing(salt), &bytes), Ok(record));
        }

        #[test]
        fn a_payload_in_two_pieces_is_written_as_in_one(
            payload in proptest::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index, salt: u64,
        ) {
            let mut whole = vec![0xff; record(&payload, 5).bytes()];
            let mut pieces = whole.clone();
            record(&payload, 5).encode(&[], Salt(salt), &mut whole);
            let (first, more) = payload.split_at(at.index(payload.len() + 1));
            record(first, 5).encode(more, Salt(salt), &mut pieces);
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn no_flipped_bit_reads_as_a_record(
            payload in proptest::collection::vec(any::<u8>(), 0..100), salt: u64, at: prop::sample::Index, bit in 0..8,
        ) {
            let record = record(&payload, 9);
            let mut bytes = vec![0; record.bytes()];
            record.encode(&[], Salt(salt), &mut bytes);
            bytes[at.index(RECORD_HEADER_BYTES + payload.len())] ^= 1u8 << bit;
            prop_assert!(Record::decode(framing(salt), &bytes).is_err());
        }

        #[test]
        fn bytes_of_a_client_never_read_as_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..200), salt: u64) {
            prop_assert!(Record::decode(framing(salt), &bytes).is_err());
        }

        #[test]
        fn a_record_of_another_segment_is_none_of_this_one(salt: u64, other: u64) {
            prop_assume!(Salt(salt).magic() != Salt(other).magic() || salt as u32 != other as u32);
            let record = record(b"payload", 1);
            let mut bytes = vec![0; record.bytes()];
            record.encode(&[], Salt(other), &mut bytes);
            prop_assert!(Record::decode(framing(salt), &bytes).is_err());
        }
    }
}
