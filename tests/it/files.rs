//! The files of a data directory as they lie on disk, for the tests that damage them.

use std::fs;
use std::path::{Path, PathBuf};

use cartwright::log::{SEGMENT_BYTES_MIN, SegmentHeader};

/// What is left of the zeros behind a log's end: enough for a start to seal the segment.
const SLACK_BYTES: usize = 256;

/// Copies a directory with everything in it.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// One shard's files of the first generation whose names end so, in order.
pub fn files_of(data: &Path, shard: u16, extension: &str) -> Vec<PathBuf> {
    let directory = data.join(format!("log/generation-00001/shard-{shard:03}"));
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "shard {shard} has no .{extension}");
    paths
}

/// How many bytes there are before the zeros at the end.
pub fn written_bytes(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

/// Makes a segment as small as its records allow: its header says its size, and nothing else depends on it.
pub fn cut_to_what_was_written(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let size = (written_bytes(&bytes) + SLACK_BYTES)
        .next_multiple_of(8)
        .max(SEGMENT_BYTES_MIN as usize);
    let mut header = SegmentHeader::decode(&bytes).unwrap();
    header.segment_bytes = size as u64;
    header.encode(&mut bytes);
    fs::write(path, &bytes[..size]).unwrap();
}
