//! Segments as files: their names, how one is made, mapped and synced.
//!
//! A segment is written in full and synced under a temporary name before it gets its own, so a store to its mapping
//! meets neither a hole nor a full disk. Decides nothing about records.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use memmap2::MmapMut;
use thiserror::Error;

use super::record::Salt;
use super::segment::{Generation, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentMemory, SegmentNumber};
use super::writer::LogWriter;
use crate::engine::ShardId;

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
pub(super) fn list_segments(shard_directory: &Path) -> Result<Vec<SegmentNumber>, StorageError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(shard_directory).context("list the segments in", shard_directory)? {
        let name = entry.context("list the segments in", shard_directory)?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("segment-")?.strip_suffix(".log")?.parse().ok());
        numbers.extend(number.map(SegmentNumber));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes names in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .context("sync", directory)
}

/// Makes a directory and its name durable; it may exist.
pub(super) fn make_directory(directory: &Path) -> Result<(), StorageError> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StorageError::new("create", directory, error));
        }
        _ => {}
    }
    directory.parent().map_or(Ok(()), sync_directory)
}

/// One log's place on disk and the size of its new segments: makes segments, on whatever thread.
#[derive(Clone, Debug)]
pub struct SegmentFactory {
    identity: LogIdentity,
    directory: PathBuf,
    segment_bytes: u64,
}

impl SegmentFactory {
    pub(super) fn new(data: &Path, identity: LogIdentity, segment_bytes: u64) -> Self {
        let directory = shard_path(data, identity.generation, identity.shard);
        Self {
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
    pub fn create(&self, number: SegmentNumber) -> Result<MappedSegment, StorageError> {
        let path = segment_path(&self.directory, number);
        let temporary = path.with_added_extension(&TEMPORARY_SUFFIX[1..]);
        let result = self.create_at(number, &temporary, &path);
        if result.is_err() {
            // The error says more than a failure to tidy up would.
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn create_at(&self, number: SegmentNumber, temporary: &Path, path: &Path) -> Result<MappedSegment, StorageError> {
        // Where there is none to be had, a new one is made.
        let _ = fs::rename(recycled_path(&self.directory), temporary);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(temporary)
            .context("create the log segment", temporary)?;
        if file.metadata().context("look at", temporary)?.len() > self.segment_bytes {
            file.set_len(self.segment_bytes).context("cut", temporary)?;
        }
        let mut bytes = vec![0; ZEROS_BYTES.min(self.segment_bytes as usize)];
        let salt = Salt(RandomState::new().build_hasher().finish());
        SegmentHeader {
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
        file.sync_all().context("sync the log segment", temporary)?;
        fs::rename(temporary, path).context("name the log segment", path)?;
        sync_directory(&self.directory)?;
        MappedSegment::map(file, path)
    }
}

/// A segment's file, mapped to be written. May be sent to another thread, to be dropped there: unmapping takes time.
#[derive(Debug)]
pub struct MappedSegment {
    file: File,
    path: PathBuf,
    map: MmapMut,
}

impl MappedSegment {
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .context("open the log segment", path)?;
        Self::map(file, path)
    }

    fn map(file: File, path: &Path) -> Result<Self, StorageError> {
        // SAFETY: the mapping is sound while nobody else changes the file's size or bytes. The data directory's lock
        // keeps other servers out, this process opens each segment once, and changes the size of none but one that is
        // recycled: whoever still has that mapped only waits to unmap it, and reads and writes nothing.
        let map = unsafe { MmapMut::map_mut(&file) }.context("map the log segment", path)?;
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

    /// Waits until everything stored is on disk.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_data().context("sync the log segment", &self.path)
    }
}

impl SegmentMemory for MappedSegment {
    fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map
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

impl LogWriter<MappedSegment> {
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
