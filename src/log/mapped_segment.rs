//! A segment's file in memory: mapped to be written, and synced.
//!
//! The writer appends to it on the shard's thread; another may sync it, or unmap it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use super::files::{FileHandle, Files, SystemFiles};
use super::segment::SegmentMemory;
use super::storage::{Context, StorageError};
use super::writer::LogWriter;

/// A segment's file, mapped to be written. May be sent to another thread, to be dropped there: unmapping takes time.
#[derive(Debug)]
pub struct MappedSegment<F: Files = SystemFiles> {
    file: F::File,
    path: PathBuf,
    map: <F::File as FileHandle>::Map,
}

impl<F: Files> MappedSegment<F> {
    /// Maps all of a file that was opened to be written.
    pub(super) fn map(file: F::File, path: &Path) -> Result<Self, StorageError> {
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
