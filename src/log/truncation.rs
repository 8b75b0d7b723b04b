//! Truncation: what of a log's beginning is not needed any more once checkpoints stand for it.
//!
//! Run on the checkpoint maker's thread while the log is appended to, and at start, to read no more than is needed.
//! Removes whole segments, oldest first: after a crash in between there is a log that begins a little earlier.
//!
//! A segment may go when the next one opens *before* the position that a checkpoint begins at. That position is synced,
//! and so then is the mark which the next segment opens with: without it nobody could tell where the log begins.

use super::data_directory::DataDirectory;
use super::files::{FileHandle, Files, Open};
use super::segment::LogIdentity;
use super::storage::{Context, StorageError};
use cartwright_core::ids::LogPosition;

/// What was removed of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TruncatedLog {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes the segments of the log `identity` under `data` that hold nothing behind `position`, which must be synced;
/// durably, one after the other. The last one's file is put by for the next segment. The log may be appended to meanwhile.
pub fn truncate_log<F: Files>(
    data: &DataDirectory<F>,
    identity: LogIdentity,
    position: LogPosition,
) -> Result<TruncatedLog, StorageError> {
    let files = data.files();
    let directory = data.log(identity);
    let numbers = directory.segments()?;
    let first = directory.first_needed(&numbers, position)?;
    let mut truncated = TruncatedLog::default();
    for &number in numbers.iter().take_while(|&&number| number < first) {
        let path = directory.segment_path(number);
        let file = directory.open_segment(number, Open::Read)?;
        truncated.bytes += file.size().context("look at", &path)?;
        truncated.segments += 1;
        let is_last = number.next() == first;
        if is_last {
            let recycled = directory.recycled_path();
            files
                .rename(&path, &recycled)
                .context("put by the log segment", &path)?;
        } else {
            files.remove_file(&path).context("remove the log segment", &path)?;
        }
        // Before the next one: no crash leaves a gap.
        directory.sync()?;
    }
    Ok(truncated)
}
