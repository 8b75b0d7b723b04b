//! What a server does with segment files, on the simulated disk: makes, opens, repairs and syncs them.
//!
//! The decisions are the log's own ([`LogScan`], [`LogWriter`]); this mirrors its storage half, which works on real
//! files, step by step, so that a start can be interrupted at each of them.

use cartwright::engine::{LogPosition, RecordError};
use cartwright::log::{
    LogDamage, LogIdentity, LogScan, LogWriter, SEGMENT_HEADER_BYTES, Salt, ScanEnd, ScanError, SegmentHeader,
    SegmentNumber,
};

use crate::disk::{Disk, Interrupted, MappedFile, SegmentName};
use crate::random::Random;

/// Bytes are written again from the start of a page.
const PAGE_BYTES: usize = 4096;

/// Why a log was not opened.
#[derive(Debug)]
pub enum Refused {
    /// The log is damaged.
    Damage(LogDamage),
    /// A record cannot be read.
    Record(RecordError),
    /// Interrupted while reading.
    Interrupted,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damage(damage) => write!(formatter, "{damage}"),
            Self::Record(error) => write!(formatter, "{error}"),
            Self::Interrupted => write!(formatter, "interrupted"),
        }
    }
}

impl From<Interrupted> for Refused {
    fn from(Interrupted: Interrupted) -> Self {
        Self::Interrupted
    }
}

/// The name of a log's segment.
pub const fn segment_name(identity: LogIdentity, number: SegmentNumber) -> SegmentName {
    SegmentName {
        generation: identity.generation,
        shard: identity.shard,
        number,
    }
}

/// The bytes of an empty segment.
pub fn empty_segment(identity: LogIdentity, number: SegmentNumber, segment_bytes: u64, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; segment_bytes as usize];
    let header = SegmentHeader {
        identity,
        number,
        segment_bytes,
        salt: Salt(random.bits()),
    };
    header.encode(&mut bytes);
    bytes
}

/// A log that was read to its end.
#[derive(Debug)]
pub struct OpenedLog {
    identity: LogIdentity,
    /// Where it ends.
    pub end: ScanEnd,
}

/// Reads a log, handing out its records. Changes nothing.
pub fn open_log(
    disk: &mut Disk,
    identity: LogIdentity,
    on_record: &mut impl FnMut(LogPosition, &[u8]) -> Result<(), RecordError>,
) -> Result<OpenedLog, Refused> {
    let mut scan = LogScan::new(identity);
    for name in disk.segments(identity.generation, identity.shard) {
        disk.operation()?;
        let bytes = disk.file(name).bytes();
        scan.segment(name.number, bytes, on_record)
            .map_err(|error| match error {
                ScanError::Damage(damage) => Refused::Damage(damage),
                ScanError::Refused { error, .. } => Refused::Record(error),
            })?;
    }
    let end = scan.finish().map_err(Refused::Damage)?;
    Ok(OpenedLog { identity, end })
}

impl OpenedLog {
    fn name(&self, number: SegmentNumber) -> SegmentName {
        segment_name(self.identity, number)
    }

    /// Makes the log ready to be appended to.
    pub fn into_writer(self, disk: &mut Disk) -> Result<LogWriter<MappedFile>, Interrupted> {
        let spare = self.remove_later_segments(disk)?;
        self.rewrite_unproven(disk)?;
        self.erase_tail(disk)?;
        let current = disk.map(self.name(self.end.segment));
        let mut writer = LogWriter::resume(self.identity, current, &self.end);
        if let Some(number) = spare {
            writer.offer_segment(disk.map(self.name(number)));
        }
        Ok(writer)
    }

    /// Makes sure that every record read is on disk, for a log that nothing will be added to.
    pub fn close(self, disk: &mut Disk) -> Result<(), Interrupted> {
        if self.end.is_orderly() {
            return self.rewrite_unproven(disk);
        }
        let mut writer = self.into_writer(disk)?;
        sync_all(disk, &mut writer)
    }

    fn remove_later_segments(&self, disk: &mut Disk) -> Result<Option<SegmentNumber>, Interrupted> {
        for later in self.end.later.iter().rev() {
            if later.is_empty && later.number == self.end.segment.next() {
                return Ok(Some(later.number));
            }
            let name = self.name(later.number);
            disk.operation()?;
            disk.remove(name);
            disk.operation()?;
            disk.sync_directory(name);
        }
        Ok(None)
    }

    fn rewrite_unproven(&self, disk: &mut Disk) -> Result<(), Interrupted> {
        let Some(from) = self.end.unproven_from else {
            return Ok(());
        };
        for number in from.segment.0..=self.end.segment.0 {
            let name = self.name(SegmentNumber(number));
            let start = if number == from.segment.0 {
                from.offset / PAGE_BYTES * PAGE_BYTES
            } else {
                0
            };
            let end = if number == self.end.segment.0 {
                self.end.offset
            } else {
                disk.file(name).bytes().len()
            };
            disk.operation()?;
            if start < end {
                let bytes = disk.file(name).bytes()[start..end].to_vec();
                disk.file_mut(name).store(start, &bytes, true);
            }
            disk.operation()?;
            let file = disk.file_mut(name);
            file.sync(&file.all());
        }
        Ok(())
    }

    fn erase_tail(&self, disk: &mut Disk) -> Result<(), Interrupted> {
        let name = self.name(self.end.segment);
        if !self.end.is_orderly() {
            disk.operation()?;
            let zeros = vec![0; disk.file(name).bytes().len() - self.end.offset];
            disk.file_mut(name).store(self.end.offset, &zeros, true);
        }
        disk.operation()?;
        let file = disk.file_mut(name);
        file.sync(&file.all());
        Ok(())
    }
}

/// Syncs a log until it says itself that it is synced.
pub fn sync_all(disk: &mut Disk, writer: &mut LogWriter<MappedFile>) -> Result<(), Interrupted> {
    while let Some(plan) = writer.begin_final_sync() {
        for range in &plan.ranges {
            let mapped = writer
                .segment(range.segment)
                .expect("a segment of a plan stays until the plan is done");
            disk.flush_range(mapped, &range.bytes);
            disk.operation()?;
            disk.file_mut(mapped.name).sync(&range.bytes);
        }
        writer.sync_done(plan);
    }
    // As unmapping does: whatever was stored is in the cache.
    for mapped in writer.take_retired() {
        disk.flush(&mapped);
    }
    Ok(())
}

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
}

/// Kind of a frame that carries a payload.
pub const PAYLOAD: u8 = 1;

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
