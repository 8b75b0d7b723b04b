//! Recovery of one shard's log from disk: reads it, and makes it ready to be written again.
//!
//! [`open_log`] changes nothing, so it also serves to verify a log and to read those of older generations. Only
//! [`RecoveredLog::into_writer`] cuts a torn tail, and does so durably before anything new is written.

use std::path::PathBuf;

use thiserror::Error;

use super::data_directory::DataDirectory;
use super::files::{FileHandle, Files, Open, SystemFiles};
use super::log_directory::LogDirectory;
use super::mapped_segment::MappedSegment;
use super::record::record_bytes;
use super::scan::{LogDamage, LogFault, LogOffset, LogRecord, LogScan, LogStart, ScanEnd, ScanError};
use super::segment::{LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentNumber};
use super::segment_factory::SegmentFactory;
use super::storage::{Context, StorageError};
use super::writer::LogWriter;
use cartwright_core::ids::LogPosition;
use cartwright_core::mutation::{Mutation, is_on};

/// Bytes are written again from the start of a page: a page is what a failed sync loses.
const PAGE_BYTES: usize = 4096;

/// Why a log cannot be used.
#[derive(Debug, Error)]
pub enum LogError<E> {
    /// A file could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log is damaged: nothing was changed, and the server must not start with it.
    #[error("the log is damaged: {}, {damage}", path.display())]
    Damage {
        /// The segment.
        path: PathBuf,
        /// What is wrong with it.
        damage: LogDamage,
    },
    /// A record is whole, but the caller refused it.
    #[error("the log holds a record that cannot be applied: {}, byte {}, position {position}: {error}", path.display(), at.offset)]
    Refused {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        at: LogOffset,
        /// The record's position.
        position: LogPosition,
        /// What the caller said.
        error: E,
    },
}

impl<E> LogError<E> {
    /// Whether the log begins behind where it was to be read from.
    pub fn is_truncated(&self) -> bool {
        match self {
            Self::Damage { damage, .. } => matches!(damage.fault, LogFault::BeginsBehind { .. } | LogFault::Opening(_)),
            Self::Storage(_) | Self::Refused { .. } => false,
        }
    }
}

/// A log that was read to its end.
#[derive(Debug)]
pub struct RecoveredLog<F = SystemFiles> {
    directory: LogDirectory<F>,
    factory: SegmentFactory<F>,
    end: ScanEnd,
    segment_count: usize,
    bytes: u64,
    replayed_bytes: u64,
    is_writable: bool,
}

/// Reads the log `identity` under `data` from behind `start.from` ([`LogStart::BEGINNING`]: all of it), handing each
/// record to `on_record`, in order. Segments that lie wholly below are not read. New segments of
/// a writer made from it will have `segment_bytes`; those there keep their size.
pub fn open_log<F: Files, E>(
    data: &DataDirectory<F>,
    identity: LogIdentity,
    segment_bytes: u64,
    start: LogStart,
    on_record: &mut impl FnMut(LogRecord<'_>) -> Result<(), E>,
) -> Result<RecoveredLog<F>, LogError<E>> {
    let directory = data.log(identity);
    let numbers = directory.segments()?;
    let with_path = |damage: LogDamage| LogError::Damage {
        path: directory.segment_path(damage.at.segment),
        damage,
    };
    let first = directory.first_needed(&numbers, start.from)?;
    let mut scan = LogScan::behind(identity, first, start);
    let mut buffer = Vec::new();
    let mut bytes = 0;
    let mut replayed_bytes = 0;
    let mut on_record = |record: LogRecord<'_>| {
        replayed_bytes += record_bytes(record.payload.len()) as u64;
        on_record(record)
    };
    for &number in numbers.iter().filter(|&&number| number >= first) {
        directory.read_segment(number, &mut buffer)?;
        bytes += buffer.len() as u64;
        scan.segment(number, &buffer, &mut on_record)
            .map_err(|error| match error {
                ScanError::Damage(damage) => with_path(damage),
                ScanError::Refused { at, position, error } => LogError::Refused {
                    path: directory.segment_path(number),
                    at,
                    position,
                    error,
                },
            })?;
    }
    let end = scan.finish().map_err(with_path)?;
    Ok(RecoveredLog {
        factory: SegmentFactory::new(directory.clone(), segment_bytes),
        directory,
        end,
        segment_count: numbers.len(),
        bytes,
        replayed_bytes,
        is_writable: data.is_writable(),
    })
}

impl<F: Files> RecoveredLog<F> {
    /// The last record's position.
    pub fn end(&self) -> LogPosition {
        self.end.last
    }

    /// Behind the last record: where the next one goes.
    pub fn end_offset(&self) -> LogOffset {
        LogOffset {
            segment: self.end.segment,
            offset: self.end.offset,
        }
    }

    /// The highest position the log itself proves to have been synced.
    pub fn synced_proven(&self) -> LogPosition {
        self.end.proven
    }

    /// Bytes of all segments that were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that the records handed out take in the log.
    pub fn replayed_bytes(&self) -> u64 {
        self.replayed_bytes
    }

    /// How many segments there are, spare ones included.
    pub fn segment_count(&self) -> usize {
        self.segment_count
    }

    /// Bytes of torn records behind the end; 0 after an orderly end.
    pub fn torn_bytes(&self) -> u64 {
        self.end.torn_bytes
    }

    /// Makes the log ready to be appended to: every record read is on disk, everything behind the last one is erased,
    /// durably. Also returns what makes further segments.
    ///
    /// Not to be called before the records of all shards were found consistent: it destroys what is behind the end. Nor
    /// on a log of a directory opened to be read.
    pub fn into_writer(self) -> Result<(LogWriter<MappedSegment<F>>, SegmentFactory<F>), StorageError> {
        assert!(self.is_writable, "a directory opened to be read is never written");
        self.directory.remove_temporary_segments()?;
        let spare = self.remove_later_segments()?;
        self.rewrite_unproven()?;
        self.erase_tail()?;
        let current = self.open_mapped(self.end.segment)?;
        let mut writer = LogWriter::resume(self.factory.identity(), current, &self.end);
        if let Some(number) = spare {
            writer.offer_segment(self.open_mapped(number)?);
        }
        Ok((writer, self.factory))
    }

    /// Makes sure that every record read is on disk, and proven to be, for a log that will only be read from now on: one
    /// of an older generation, before the first record of a newer one is written.
    pub fn close(self) -> Result<(), StorageError> {
        if self.end.is_orderly() {
            return self.rewrite_unproven();
        }
        let (mut writer, _) = self.into_writer()?;
        writer.sync_blocking()
    }

    /// Removes what lies behind the end, last first: a crash between two leaves no gap. Keeps a spare segment.
    fn remove_later_segments(&self) -> Result<Option<SegmentNumber>, StorageError> {
        for later in self.end.later.iter().rev() {
            if later.is_empty && later.number == self.end.segment.next() && self.is_as_made_now(later.number)? {
                return Ok(Some(later.number));
            }
            let path = self.directory.segment_path(later.number);
            self.directory
                .files()
                .remove_file(&path)
                .context("remove the torn segment", &path)?;
            self.directory.sync()?;
        }
        Ok(None)
    }

    /// A spare segment made under another setting, or by a version with another format, is made anew.
    fn is_as_made_now(&self, number: SegmentNumber) -> Result<bool, StorageError> {
        let path = self.directory.segment_path(number);
        let file = self.directory.open_segment(number, Open::Read)?;
        let size = file.size().context("look at", &path)?;
        let mut header = [0; SEGMENT_HEADER_BYTES];
        file.read_exact_at(&mut header, 0)
            .context("read the log segment", &path)?;
        let is_current = SegmentHeader::decode(&header).is_ok_and(|header| header.is_current());
        Ok(is_current && size == self.factory.segment_bytes())
    }

    /// Zeros the last segment from the end of the log, durably.
    fn erase_tail(&self) -> Result<(), StorageError> {
        let path = &self.directory.segment_path(self.end.segment);
        let file = self.directory.open_segment(self.end.segment, Open::Write)?;
        // After a disorderly end even what reads as zeros: an erasure whose sync failed would read so, too.
        if !self.end.is_orderly() && !is_on(Mutation::KeepTornTail) {
            let size = file.size().context("look at", path)? as usize;
            let zeros = vec![0; size.saturating_sub(self.end.offset)];
            file.write_all_at(&zeros, self.end.offset as u64)
                .context("erase the torn tail of", path)?;
        }
        file.sync().context("sync the log segment", path)
    }

    /// Puts on disk what may be in the page cache only. A sync that failed before leaves pages that count as clean and
    /// never reach the disk, so syncing alone would not do: they are written again.
    fn rewrite_unproven(&self) -> Result<(), StorageError> {
        let Some(from) = self.end.unproven_from.filter(|_| !is_on(Mutation::BelieveCache)) else {
            return Ok(());
        };
        for number in from.segment.0..=self.end.segment.0 {
            let number = SegmentNumber(number);
            let path = self.directory.segment_path(number);
            let file = self.directory.open_segment(number, Open::Write)?;
            let start = if number == from.segment {
                from.offset / PAGE_BYTES * PAGE_BYTES
            } else {
                0
            };
            let end = if number == self.end.segment {
                self.end.offset as u64
            } else {
                file.size().context("look at", &path)?
            };
            let mut bytes = vec![0; (end as usize).saturating_sub(start)];
            file.read_exact_at(&mut bytes, start as u64)
                .context("read the log segment", &path)?;
            file.write_all_at(&bytes, start as u64)
                .context("write the log segment", &path)?;
            file.sync().context("sync the log segment", &path)?;
        }
        Ok(())
    }

    fn open_mapped(&self, number: SegmentNumber) -> Result<MappedSegment<F>, StorageError> {
        let file = self.directory.open_segment(number, Open::Write)?;
        MappedSegment::map(file, &self.directory.segment_path(number))
    }
}
