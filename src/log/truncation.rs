//! Truncation: what of a log's beginning is not needed any more once checkpoints stand for it.
//!
//! Run on the checkpoint maker's thread while the log is appended to, and at start, to read no more than is needed.
//! Removes whole segments, oldest first: after a crash in between there is a log that begins a little earlier.
//!
//! A segment may go when the next one opens *before* the position that a checkpoint begins at. That position is synced,
//! and so then is the mark which the next segment opens with: without it nobody could tell where the log begins.

use std::io::Read;
use std::path::Path;

use super::data_directory::DataDirectory;
use super::files::{FileHandle, Files, Open};
use super::record::MARK_BYTES;
use super::scan::opening_mark;
use super::segment::{LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentNumber};
use super::storage::{Context, StorageError, list_segments, recycled_path, segment_path, shard_path, sync_directory};
use crate::engine::LogPosition;

/// What was removed of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TruncatedLog {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How many segments at the beginning of a log hold nothing behind `position`. `openings` are those of its second
/// segment, its third, and so on, as far as they can be read: the last position before each.
pub fn segments_below(openings: impl IntoIterator<Item = Option<LogPosition>>, position: LogPosition) -> usize {
    openings
        .into_iter()
        .take_while(|opening| opening.is_some_and(|opening| opening < position))
        .count()
}

/// Removes the segments of the log `identity` under `data` that hold nothing behind `position`, which must be synced;
/// durably, one after the other. The last one's file is put by for the next segment. The log may be appended to meanwhile.
pub fn truncate_log<F: Files>(
    data: &DataDirectory<F>,
    identity: LogIdentity,
    position: LogPosition,
) -> Result<TruncatedLog, StorageError> {
    let files = data.files();
    let directory = shard_path(data.path(), identity.generation, identity.shard);
    let numbers = list_segments(files, &directory)?;
    let first = first_needed(files, &directory, &numbers, position)?;
    let mut truncated = TruncatedLog::default();
    for &number in numbers.iter().take_while(|&&number| number < first) {
        let path = segment_path(&directory, number);
        let file = files.open(&path, Open::Read).context("open the log segment", &path)?;
        truncated.bytes += file.size().context("look at", &path)?;
        truncated.segments += 1;
        let is_last = number.next() == first;
        if is_last {
            let recycled = recycled_path(&directory);
            files
                .rename(&path, &recycled)
                .context("put by the log segment", &path)?;
        } else {
            files.remove_file(&path).context("remove the log segment", &path)?;
        }
        // Before the next one: no crash leaves a gap.
        sync_directory(files, &directory)?;
    }
    Ok(truncated)
}

/// The first of the segments `numbers` that holds anything behind `position`, or tells where the log begins.
pub(super) fn first_needed(
    files: &impl Files,
    directory: &Path,
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
        let opening = opening_of(files, &segment_path(directory, number))?;
        openings.push(opening);
        if opening.is_none_or(|opening| opening >= position) {
            break;
        }
    }
    Ok(numbers[segments_below(openings, position)])
}

/// The last position before the segment at `path`; `None` where that cannot be read, as in a spare one.
fn opening_of(files: &impl Files, path: &Path) -> Result<Option<LogPosition>, StorageError> {
    let mut bytes = Vec::new();
    files
        .open(path, Open::Read)
        .context("open the log segment", path)?
        .take((SEGMENT_HEADER_BYTES + MARK_BYTES) as u64)
        .read_to_end(&mut bytes)
        .context("read the log segment", path)?;
    let header = SegmentHeader::decode(&bytes);
    Ok(header
        .ok()
        .and_then(|header| opening_mark(header.framing(), &bytes).ok()))
}
