//! The frames of a log's segments, read by the documented layout, apart from the log's own code.

use cartwright::engine::{LogPosition, RecordKind};
use cartwright::log::{SEGMENT_HEADER_BYTES, SegmentNumber};

/// One whole record in the bytes of a log, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it is.
    pub segment: SegmentNumber,
    /// From the segment's first byte.
    pub bytes: std::ops::Range<usize>,
    /// Its position, or that of the last payload.
    pub position: LogPosition,
    /// The synced position that it tells of.
    pub synced: LogPosition,
    /// What it is: 1 a payload, 2 a mark, 3 a seal.
    pub kind: u8,
    /// What its payload is, where it carries one.
    pub payload_kind: RecordKind,
}

/// Kind of a frame that carries a payload.
pub const PAYLOAD: u8 = 1;

/// Kind of a frame that says how far the log is synced; every segment opens with one.
pub const MARK: u8 = 2;

/// Kind of the frame that ends a segment.
pub const SEAL: u8 = 3;

impl Frame {
    /// Reads the header at `offset` by the documented layout, apart from the log's own code; checks nothing. `None`
    /// where nothing was written.
    pub fn at(segment: SegmentNumber, bytes: &[u8], offset: usize) -> Option<Self> {
        let header = bytes.get(offset..offset + 32)?;
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        if header.iter().all(|&byte| byte == 0) {
            return None;
        }
        let payload_bytes = u32::from_le_bytes(header[8..12].try_into().expect("four bytes")) as usize;
        let end = (offset + 32 + payload_bytes).next_multiple_of(8);
        Some(Self {
            segment,
            bytes: offset..end,
            position: LogPosition(word(16)),
            synced: LogPosition(word(24)),
            kind: header[12],
            payload_kind: RecordKind {
                book: header[13],
                kind: header[14],
                version: header[15],
            },
        })
    }

    /// The payload within the segment's bytes.
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.bytes.start;
        let length = u32::from_le_bytes(bytes[start + 8..start + 12].try_into().expect("four bytes")) as usize;
        &bytes[start + 32..start + 32 + length]
    }
}

/// Where a segment's first frame is.
pub const FIRST_FRAME: usize = SEGMENT_HEADER_BYTES;
