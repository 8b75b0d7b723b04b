//! Makes segments: on whatever thread, ahead of the log that will need them.
//!
//! A segment is written in full and synced under a temporary name before it gets its own, so a store to its mapping
//! meets neither a hole nor a full disk. Decides nothing about records.

use std::io::Write;
use std::path::Path;

use super::files::{FileHandle, Files, Open, SystemFiles};
use super::log_directory::LogDirectory;
use super::mapped_segment::MappedSegment;
use super::record::Salt;
use super::segment::{LOG_FORMAT_VERSION, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentNumber};
use super::storage::{Context, StorageError, TEMPORARY_SUFFIX};
use cartwright_core::mutation::{Mutation, is_on};

/// Zeros are written in pieces of a page. What is written at once, the system caches as one piece, and a store to a
/// mapping makes the whole piece dirty: pieces of a mebibyte make every sync write a mebibyte.
const ZEROS_BYTES: usize = 4096;

/// One log's place on disk and the size of its new segments: makes segments, on whatever thread.
#[derive(Clone, Debug)]
pub struct SegmentFactory<F = SystemFiles> {
    directory: LogDirectory<F>,
    segment_bytes: u64,
}

impl<F: Files> SegmentFactory<F> {
    /// Makes segments of the log that `directory` holds.
    pub(super) const fn new(directory: LogDirectory<F>, segment_bytes: u64) -> Self {
        Self {
            directory,
            segment_bytes,
        }
    }

    /// Which log its segments belong to.
    pub fn identity(&self) -> LogIdentity {
        self.directory.identity()
    }

    /// Bytes of each segment that need not be larger.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Makes segment `number`, as asked for by [`super::LogWriter::wants_segment`], of the usual size: see
    /// [`Self::create_of`].
    pub fn create(&self, number: SegmentNumber) -> Result<MappedSegment<F>, StorageError> {
        self.create_of(number, 0)
    }

    /// Makes segment `number`, of the usual size unless it must have more bytes than that: writes and syncs all of it,
    /// which takes as long as the disk needs for so many bytes. An error of which [`StorageError::is_full`] is true leaves nothing
    /// behind and may be tried again.
    pub fn create_of(&self, number: SegmentNumber, bytes_min: u64) -> Result<MappedSegment<F>, StorageError> {
        let segment_bytes = self.segment_bytes.max(bytes_min);
        let path = self.directory.segment_path(number);
        let temporary = path.with_added_extension(&TEMPORARY_SUFFIX[1..]);
        let result = self.create_at(number, segment_bytes, &temporary, &path);
        if result.is_err() {
            // The error says more than a failure to tidy up would.
            let _ = self.directory.files().remove_file(&temporary);
        }
        result
    }

    fn create_at(
        &self,
        number: SegmentNumber,
        segment_bytes: u64,
        temporary: &Path,
        path: &Path,
    ) -> Result<MappedSegment<F>, StorageError> {
        let files = self.directory.files();
        // Where there is none to be had, a new one is made.
        let _ = files.rename(&self.directory.recycled_path(), temporary);
        let mut file = files
            .open(temporary, Open::Create)
            .context("create the log segment", temporary)?;
        if file.size().context("look at", temporary)? > segment_bytes {
            file.set_size(segment_bytes).context("cut", temporary)?;
        }
        let mut bytes = vec![0; ZEROS_BYTES.min(segment_bytes as usize)];
        let salt = Salt(files.random());
        SegmentHeader {
            version: LOG_FORMAT_VERSION,
            identity: self.identity(),
            number,
            segment_bytes,
            salt,
        }
        .encode(&mut bytes);
        let mut rest = segment_bytes as usize;
        while rest > 0 {
            let piece = rest.min(bytes.len());
            file.write_all(&bytes[..piece])
                .context("fill the log segment", temporary)?;
            bytes[..SEGMENT_HEADER_BYTES].fill(0);
            rest -= piece;
        }
        file.sync().context("sync the log segment", temporary)?;
        files.rename(temporary, path).context("name the log segment", path)?;
        if !is_on(Mutation::SkipSegmentName) {
            self.directory.sync()?;
        }
        MappedSegment::map(file, path)
    }
}
