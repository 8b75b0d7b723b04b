//! Checkpoint files: whole or refused, whatever happened to their bytes.

use std::fs;
use std::path::PathBuf;

use cartwright::engine::{LogPosition, RecordKind, ShardId};
use cartwright::log::{CheckpointDirectory, CheckpointError, DataDirectory, Generation, LogIdentity};

const PARTS: [&[u8]; 3] = [b"one", b"", b"three, which is longer"];

const fn kind_of(kind: u8) -> RecordKind {
    RecordKind {
        book: 7,
        kind,
        version: 2,
    }
}

struct Place {
    _directory: tempfile::TempDir,
    checkpoints: CheckpointDirectory,
    path: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut data = DataDirectory::open(&directory.path().join("data")).expect("a fresh data directory");
    data.begin_incarnation(1, 1 << 20).expect("a first incarnation");
    let identity = LogIdentity {
        generation: Generation(1),
        shard: ShardId(0),
        shard_count: 1,
    };
    let path = data.path().join("log/generation-00001/shard-000");
    fs::create_dir_all(&path).expect("the shard's directory");
    Place {
        checkpoints: CheckpointDirectory::new(&data, identity),
        path,
        _directory: directory,
    }
}

/// Checkpoint files, finished or not.
fn files(place: &Place) -> Vec<PathBuf> {
    let paths = fs::read_dir(&place.path)
        .expect("listed")
        .map(|entry| entry.expect("readable").path());
    paths
        .filter(|path| path.to_string_lossy().contains(".checkpoint"))
        .collect()
}

fn written(place: &Place, begins: u64) {
    let mut writer = place.checkpoints.create(LogPosition(begins)).expect("created");
    for (part, kind) in PARTS.iter().zip(1..) {
        writer.part(kind_of(kind), part).expect("written");
    }
    writer.close(LogPosition(begins + 5)).expect("closed");
    writer.publish().expect("published");
}

type Parts = Vec<(RecordKind, Vec<u8>)>;

fn read(place: &Place, begins: u64) -> Result<(Parts, u64), CheckpointError<std::convert::Infallible>> {
    let mut parts = Vec::new();
    let mut on_part = |kind: RecordKind, part: &[u8]| {
        parts.push((kind, part.to_vec()));
        Ok(())
    };
    let summary = place.checkpoints.read(LogPosition(begins), &mut on_part)?;
    Ok((parts, summary.ends.0))
}

#[test]
fn a_checkpoint_reads_back_as_written() {
    let place = place();
    written(&place, 7);
    let (parts, ends) = read(&place, 7).expect("whole");
    let expected: Parts = (1..).map(kind_of).zip(PARTS.map(<[u8]>::to_vec)).collect();
    assert_eq!(parts, expected);
    assert_eq!(ends, 12);
}

#[test]
fn one_that_was_not_published_leaves_nothing_behind() {
    let place = place();
    let mut writer = place.checkpoints.create(LogPosition(1)).expect("created");
    writer.part(kind_of(1), b"one").expect("written");
    writer.close(LogPosition(1)).expect("closed");
    drop(writer);
    assert!(place.checkpoints.list().expect("listed").is_empty());
    assert!(files(&place).is_empty());
}

#[test]
fn the_newest_two_are_kept() {
    let place = place();
    for begins in [3, 20, 100] {
        written(&place, begins);
    }
    place.checkpoints.remove_old().expect("removed");
    assert_eq!(
        place.checkpoints.list().expect("listed"),
        [LogPosition(100), LogPosition(20)]
    );
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused() {
    let place = place();
    written(&place, 7);
    let path = files(&place).pop().expect("one file");
    let whole = fs::read(&path).expect("read");
    for index in 0..whole.len() {
        for bit in [1, 0x80] {
            let mut flipped = whole.clone();
            flipped[index] ^= bit;
            fs::write(&path, &flipped).expect("written");
            assert!(
                read(&place, 7).is_err(),
                "byte {index} flipped by {bit:#x} went unnoticed"
            );
        }
    }
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).expect("written");
        assert!(read(&place, 7).is_err(), "a cut to {length} bytes went unnoticed");
    }
    fs::write(&path, [&whole[..], b"x"].concat()).expect("written");
    assert!(read(&place, 7).is_err(), "bytes behind the footer went unnoticed");
}

#[test]
fn parts_in_another_order_are_refused() {
    let place = place();
    let mut writer = place.checkpoints.create(LogPosition(1)).expect("created");
    writer.part(kind_of(1), b"aaaa").expect("written");
    writer.part(kind_of(1), b"bbbb").expect("written");
    writer.close(LogPosition(1)).expect("closed");
    writer.publish().expect("published");
    let path = files(&place).pop().expect("one file");
    let mut bytes = fs::read(&path).expect("read");
    let (first, second) = (bytes[48..64].to_vec(), bytes[64..80].to_vec());
    bytes[48..64].copy_from_slice(&second);
    bytes[64..80].copy_from_slice(&first);
    fs::write(&path, &bytes).expect("written");
    assert!(matches!(read(&place, 1), Err(CheckpointError::Damage { .. })));
}
