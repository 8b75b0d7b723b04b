//! One shard's log as files of a directory: their names, what there is, and where it begins.
//!
//! [`super::DataDirectory`] hands it out; recovery, truncation, checkpoints and whatever makes segments work in it. Reads
//! headers and opening marks, never a payload.
//!
//! ```text
//! segment-00000001.log               a segment, complete
//! segment-00000002.log.new           one that is being made
//! recycled.log.new                   the file of one that is not needed any more, for the next that is made
//! 00000000000000001234.checkpoint    see [`super::CheckpointDirectory`]
//! ```

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::files::{FileHandle, Files, Open, SystemFiles};
use super::record::MARK_BYTES;
use super::scan::opening_mark;
use super::segment::{
    Generation, LogIdentity, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentNumber, written_bytes,
};
use super::storage::{Context, StorageError, TEMPORARY_SUFFIX, make_directory, sync_directory};
use cartwright_core::ids::LogPosition;

/// `DIR/log`: what holds the generations.
pub(super) fn logs_path(data: &Path) -> PathBuf {
    data.join("log")
}

/// `DIR/log/generation-00001`.
pub(super) fn generation_path(data: &Path, generation: Generation) -> PathBuf {
    logs_path(data).join(format!("generation-{:05}", generation.0))
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct LogDirectory<F = SystemFiles> {
    files: F,
    identity: LogIdentity,
    path: PathBuf,
}

impl<F: Files> LogDirectory<F> {
    /// That of the log `identity` under `data`, whether it is there or not.
    pub(super) fn new(files: F, data: &Path, identity: LogIdentity) -> Self {
        let path = generation_path(data, identity.generation).join(format!("shard-{:03}", identity.shard.0));
        Self { files, identity, path }
    }

    /// Which log it is.
    pub fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file system that it is in.
    pub(super) fn files(&self) -> &F {
        &self.files
    }

    /// Makes the directory, durably; it may exist.
    pub(super) fn create(&self) -> Result<(), StorageError> {
        make_directory(&self.files, &self.path)
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        sync_directory(&self.files, &self.path)
    }

    /// The file of a segment, complete.
    pub(super) fn segment_path(&self, number: SegmentNumber) -> PathBuf {
        segment_path(&self.path, number)
    }

    /// The file of a segment that is not needed any more, for the next one that is made: its blocks are on the disk and
    /// its pages in memory. A start removes it with everything else that is not complete.
    pub(super) fn recycled_path(&self) -> PathBuf {
        self.path.join(format!("recycled.log{TEMPORARY_SUFFIX}"))
    }

    /// The segments there are, ascending; none where there is no directory.
    pub(super) fn segments(&self) -> Result<Vec<SegmentNumber>, StorageError> {
        list_segments(&self.files, &self.path)
    }

    /// Opens a segment's file.
    pub(super) fn open_segment(&self, number: SegmentNumber, how: Open) -> Result<F::File, StorageError> {
        let path = self.segment_path(number);
        self.files.open(&path, how).context("open the log segment", &path)
    }

    /// Reads a whole segment; of a file larger than any, enough to tell.
    pub(super) fn read_segment(&self, number: SegmentNumber, buffer: &mut Vec<u8>) -> Result<(), StorageError> {
        read_segment(&self.files, &self.segment_path(number), buffer)
    }

    /// Removes files that are being made, or were put by for the next one that is.
    pub(super) fn remove_temporary_segments(&self) -> Result<(), StorageError> {
        let suffix = format!(".log{TEMPORARY_SUFFIX}");
        for path in self.files.list(&self.path).context("list", &self.path)? {
            if path.to_str().is_some_and(|path| path.ends_with(&suffix)) {
                self.files
                    .remove_file(&path)
                    .context("remove the unfinished segment", &path)?;
            }
        }
        Ok(())
    }

    /// The first of the segments `numbers` that holds anything behind `position`, or tells where the log begins.
    pub(super) fn first_needed(
        &self,
        numbers: &[SegmentNumber],
        position: LogPosition,
    ) -> Result<SegmentNumber, StorageError> {
        let Some(&first) = numbers.first() else {
            return Ok(SegmentNumber::FIRST);
        };
        if position == LogPosition::ZERO {
            return Ok(first);
        }
        let mut openings = Vec::new();
        for &number in &numbers[1..] {
            let opening = self.opening_of(number)?;
            openings.push(opening);
            if opening.is_none_or(|opening| opening >= position) {
                break;
            }
        }
        Ok(numbers[segments_below(openings, position)])
    }

    /// The last position before a segment; `None` where that cannot be read, as in a spare one.
    fn opening_of(&self, number: SegmentNumber) -> Result<Option<LogPosition>, StorageError> {
        let mut bytes = Vec::new();
        self.open_segment(number, Open::Read)?
            .take((SEGMENT_HEADER_BYTES + MARK_BYTES) as u64)
            .read_to_end(&mut bytes)
            .context("read the log segment", &self.segment_path(number))?;
        let header = SegmentHeader::decode(&bytes);
        Ok(header
            .ok()
            .and_then(|header| opening_mark(header.framing(), &bytes).ok()))
    }
}

/// How many segments at the beginning of a log hold nothing behind `position`. `openings` are those of its second
/// segment, its third, and so on, as far as they can be read: the last position before each.
pub fn segments_below(openings: impl IntoIterator<Item = Option<LogPosition>>, position: LogPosition) -> usize {
    openings
        .into_iter()
        .take_while(|opening| opening.is_some_and(|opening| opening < position))
        .count()
}

/// Whether the directory of a log, of whatever identity, holds nothing that was ever acknowledged: no segment with
/// anything behind its header.
pub(super) fn is_unused(files: &impl Files, directory: &Path) -> Result<bool, StorageError> {
    let mut buffer = Vec::new();
    for number in list_segments(files, directory)? {
        read_segment(files, &segment_path(directory, number), &mut buffer)?;
        match SegmentHeader::decode(&buffer) {
            Ok(_) if written_bytes(&buffer[SEGMENT_HEADER_BYTES..]) == 0 => {}
            Ok(_) | Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

fn segment_path(directory: &Path, number: SegmentNumber) -> PathBuf {
    directory.join(format!("segment-{:08}.log", number.0))
}

/// Other files are none of the log's.
fn list_segments(files: &impl Files, directory: &Path) -> Result<Vec<SegmentNumber>, StorageError> {
    let listed = match files.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.context("list the segments in", directory)?,
    };
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let number = name.strip_prefix("segment-")?.strip_suffix(".log")?.parse().ok()?;
        Some(SegmentNumber(number))
    };
    let mut numbers: Vec<_> = listed.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_segment(files: &impl Files, path: &Path, buffer: &mut Vec<u8>) -> Result<(), StorageError> {
    buffer.clear();
    let file = files.open(path, Open::Read).context("open the log segment", path)?;
    // For the same reason as segments are written page by page.
    file.expect_random_reads();
    let size = file.size().context("look at", path)?.min(SEGMENT_BYTES_MAX);
    buffer.reserve(size as usize + 1);
    file.take(SEGMENT_BYTES_MAX + 1)
        .read_to_end(buffer)
        .context("read the log segment", path)?;
    Ok(())
}
