//! Segments as files: their names, how one is made, mapped and synced.
//!
//! A segment is written in full and synced under a temporary name before it gets its own, so a store to its mapping
//! meets neither a hole nor a full disk. Decides nothing about records.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::files::{FileHandle, Files, Open, SystemFiles};
use super::record::Salt;
use super::segment::{
    Generation, LOG_FORMAT_VERSION, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentMemory, SegmentNumber,
};
use super::writer::LogWriter;
use crate::engine::ShardId;
use crate::engine::mutation::{Mutation, is_on};

/// Zeros are written in pieces of a page. What is written at once, the system caches as one piece, and a store to a
/// mapping makes the whole piece dirty: pieces of a mebibyte make every sync write a mebibyte.
const ZEROS_BYTES: usize = 4096;

/// What the name of a file not yet complete ends in.
pub(super) const TEMPORARY_SUFFIX: &str = ".new";

/// A file operation that failed.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The disk, a quota or a file size limit allows no more. Nothing was lost; can be tried again later.
    #[error("cannot {action} {}: {source}; free or add disk space", path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else. After a failed sync or write what is on disk is unknown: the process must end.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StorageError {
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Whether the disk has no more room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// Adds to an I/O error what was tried on what.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::new(action, path, source))
    }
}

/// `DIR/log`: what holds the generations.
pub(super) fn logs_path(data: &Path) -> PathBuf {
    data.join("log")
}

/// `DIR/log/generation-00001`.
pub(super) fn generation_path(data: &Path, generation: Generation) -> PathBuf {
    logs_path(data).join(format!("generation-{:05}", generation.0))
}

/// `DIR/log/generation-00001/shard-000`: one log.
pub(super) fn shard_path(data: &Path, generation: Generation, shard: ShardId) -> PathBuf {
    generation_path(data, generation).join(format!("shard-{:03}", shard.0))
}

/// `segment-00000001.log` within a shard's directory.
pub(super) fn segment_path(shard_directory: &Path, number: SegmentNumber) -> PathBuf {
    shard_directory.join(format!("segment-{:08}.log", number.0))
}

/// The file of a segment that is not needed any more, for the next one that is made: its blocks are on the disk and its
/// pages in memory. A start removes it with everything else that is not complete.
pub(super) fn recycled_path(shard_directory: &Path) -> PathBuf {
    shard_directory.join(format!("recycled.log{TEMPORARY_SUFFIX}"))
}

/// The segments there are, ascending. Other files are none of the log's.
pub(super) fn list_segments(files: &impl Files, shard_directory: &Path) -> Result<Vec<SegmentNumber>, StorageError> {
    let listed = files
        .list(shard_directory)
        .context("list the segments in", shard_directory)?;
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let number = name.strip_prefix("segment-")?.strip_suffix(".log")?.parse().ok()?;
        Some(SegmentNumber(number))
    };
    let mut numbers: Vec<_> = listed.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes names in `directory` durable.
pub(super) fn sync_directory(files: &impl Files, directory: &Path) -> Result<(), StorageError> {
    files.sync_directory(directory).context("sync", directory)
}

/// Makes a directory and its name durable; it may exist.
pub(super) fn make_directory(files: &impl Files, directory: &Path) -> Result<(), StorageError> {
    match files.create_directory(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StorageError::new("create", directory, error));
        }
        _ => {}
    }
    match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(files, Path::new(".")),
        Some(parent) => sync_directory(files, parent),
        None => Ok(()),
    }
}

/// One log's place on disk and the size of its new segments: makes segments, on whatever thread.
#[derive(Clone, Debug)]
pub struct SegmentFactory<F = SystemFiles> {
    files: F,
    identity: LogIdentity,
    directory: PathBuf,
    segment_bytes: u64,
}

impl<F: Files> SegmentFactory<F> {
    pub(super) fn new(files: F, data: &Path, identity: LogIdentity, segment_bytes: u64) -> Self {
        let directory = shard_path(data, identity.generation, identity.shard);
        Self {
            files,
            identity,
            directory,
            segment_bytes,
        }
    }

    /// The same for segments of another size.
    #[must_use]
    pub fn with_segment_bytes(&self, segment_bytes: u64) -> Self {
        Self {
            segment_bytes,
            ..self.clone()
        }
    }

    /// Which log its segments belong to.
    pub fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// Bytes of each segment.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Makes segment `number`, as asked for by [`LogWriter::wants_segment`]: writes and syncs all of it, which takes as
    /// long as the disk needs for so many bytes. An error of which [`StorageError::is_full`] is true leaves nothing
    /// behind and may be tried again.
    pub fn create(&self, number: SegmentNumber) -> Result<MappedSegment<F>, StorageError> {
        let path = segment_path(&self.directory, number);
        let temporary = path.with_added_extension(&TEMPORARY_SUFFIX[1..]);
        let result = self.create_at(number, &temporary, &path);
        if result.is_err() {
            // The error says more than a failure to tidy up would.
            let _ = self.files.remove_file(&temporary);
        }
        result
    }

    fn create_at(
        &self,
        number: SegmentNumber,
        temporary: &Path,
        path: &Path,
    ) -> Result<MappedSegment<F>, StorageError> {
        // Where there is none to be had, a new one is made.
        let _ = self.files.rename(&recycled_path(&self.directory), temporary);
        let mut file = self
            .files
            .open(temporary, Open::Create)
            .context("create the log segment", temporary)?;
        if file.size().context("look at", temporary)? > self.segment_bytes {
            file.set_size(self.segment_bytes).context("cut", temporary)?;
        }
        let mut bytes = vec![0; ZEROS_BYTES.min(self.segment_bytes as usize)];
        let salt = Salt(self.files.random());
        SegmentHeader {
            version: LOG_FORMAT_VERSION,
            identity: self.identity,
            number,
            segment_bytes: self.segment_bytes,
            salt,
        }
        .encode(&mut bytes);
        let mut rest = self.segment_bytes as usize;
        while rest > 0 {
            let piece = rest.min(bytes.len());
            file.write_all(&bytes[..piece])
                .context("fill the log segment", temporary)?;
            bytes[..SEGMENT_HEADER_BYTES].fill(0);
            rest -= piece;
        }
        file.sync().context("sync the log segment", temporary)?;
        self.files
            .rename(temporary, path)
            .context("name the log segment", path)?;
        if !is_on(Mutation::SkipSegmentName) {
            sync_directory(&self.files, &self.directory)?;
        }
        MappedSegment::map(file, path)
    }
}

/// A segment's file, mapped to be written. May be sent to another thread, to be dropped there: unmapping takes time.
#[derive(Debug)]
pub struct MappedSegment<F: Files = SystemFiles> {
    file: F::File,
    path: PathBuf,
    map: <F::File as FileHandle>::Map,
}

impl<F: Files> MappedSegment<F> {
    pub(super) fn open(files: &F, path: &Path) -> Result<Self, StorageError> {
        let file = files.open(path, Open::Write).context("open the log segment", path)?;
        Self::map(file, path)
    }

    fn map(file: F::File, path: &Path) -> Result<Self, StorageError> {
        let map = file.map().context("map the log segment", path)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            map,
        })
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file in memory.
    pub fn memory(&self) -> &<F::File as FileHandle>::Map {
        &self.map
    }

    /// Waits until everything stored is on disk.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.file
            .sync_map(&self.map)
            .context("sync the log segment", &self.path)
    }
}

impl<F: Files> SegmentMemory for MappedSegment<F> {
    fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.bytes_mut()
    }
}

impl AsRawFd for MappedSegment {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for MappedSegment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl<F: Files> LogWriter<MappedSegment<F>> {
    /// Waits until everything appended, and that it was synced, is on disk: for an orderly end. No sync may be under way.
    pub fn sync_blocking(&mut self) -> Result<(), StorageError> {
        while let Some(plan) = self.begin_final_sync() {
            for range in &plan.ranges {
                self.segment(range.segment)
                    .expect("segments of a plan stay until it is done")
                    .sync()?;
            }
            self.sync_done(plan);
        }
        Ok(())
    }
}
