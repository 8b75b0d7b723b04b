//! The log on a real disk: who may open a directory, what survives, what is refused.

use std::convert::Infallible;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use cartwright::engine::{Journal, LogPosition, RecordKind, ShardId};
use cartwright::log::{
    DataDirectory, DataError, Generation, GenerationEntry, LogError, LogIdentity, LogRecord, LogStart, LogWriter,
    MappedSegment, RecoveredLog, SEGMENT_BYTES_MIN, SegmentFactory, SegmentNumber, open_log, truncate_log,
};
use tempfile::TempDir;

const SEGMENT_BYTES: u64 = SEGMENT_BYTES_MIN;

const KIND: RecordKind = RecordKind {
    book: 1,
    kind: 2,
    version: 3,
};

const FIRST: LogIdentity = LogIdentity {
    generation: Generation(1),
    shard: ShardId(0),
    shard_count: 1,
};

fn identity(generation: u32, shard: u16, shard_count: u16) -> LogIdentity {
    LogIdentity {
        generation: Generation(generation),
        shard: ShardId(shard),
        shard_count,
    }
}

fn segment_path(data: &Path, number: u64) -> PathBuf {
    data.join(format!("log/generation-00001/shard-000/segment-{number:08}.log"))
}

fn read(data: &DataDirectory, identity: LogIdentity) -> Result<(Vec<Vec<u8>>, RecoveredLog), LogError<Infallible>> {
    let mut payloads = Vec::new();
    let log = open_log(data, identity, SEGMENT_BYTES, LogStart::BEGINNING, &mut |record| {
        payloads.push(record.payload.to_vec());
        assert_eq!(record.position.0, payloads.len() as u64);
        Ok(())
    })?;
    assert_eq!(log.end().0, payloads.len() as u64);
    Ok((payloads, log))
}

fn payload(position: u64) -> Vec<u8> {
    format!("record {position:02} ").repeat(30).into_bytes()
}

fn append(writer: &mut LogWriter<MappedSegment>, factory: &SegmentFactory, count: u64) {
    for _ in 0..count {
        if let Some(number) = writer.wants_segment() {
            writer.offer_segment(factory.create(number).unwrap());
        }
        let position = writer.last().next();
        assert_eq!(writer.append(KIND, &payload(position.0)), position);
    }
}

fn sync(writer: &mut LogWriter<MappedSegment>) {
    let plan = writer.begin_sync().unwrap();
    for range in &plan.ranges {
        writer.segment(range.segment).unwrap().sync().unwrap();
    }
    writer.sync_done(plan);
}

/// A directory with a log of several segments, 20 records acknowledged and 3 not, as a SIGKILL leaves it.
fn killed_server(directory: &Path) {
    let mut data = DataDirectory::open(directory).unwrap();
    data.begin_incarnation(1, SEGMENT_BYTES).unwrap();
    let (mut writer, factory) = read(&data, FIRST).unwrap().1.into_writer().unwrap();
    append(&mut writer, &factory, 20);
    sync(&mut writer);
    append(&mut writer, &factory, 3);
}

/// The same log once the server was started again: with 40 more records, all acknowledged, enough to truncate it.
fn grown_log(directory: &Path) -> (DataDirectory, LogWriter<MappedSegment>, SegmentFactory) {
    killed_server(directory);
    let data = DataDirectory::open(directory).unwrap();
    let (mut writer, factory) = read(&data, FIRST).unwrap().1.into_writer().unwrap();
    append(&mut writer, &factory, 40);
    sync(&mut writer);
    (data, writer, factory)
}

/// Where the payload of a record is.
fn find(directory: &Path, position: u64) -> (PathBuf, u64) {
    let text = payload(position);
    (1..)
        .map(|number| segment_path(directory, number))
        .find_map(|path| {
            let bytes = fs::read(&path).expect("the record is in one of the segments");
            let offset = bytes.windows(text.len()).position(|window| window == text)?;
            Some((path, offset as u64))
        })
        .unwrap()
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

#[test]
fn a_log_goes_on_where_a_killed_server_left_it() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    let mut data = DataDirectory::open(directory.path()).unwrap();
    let incarnation = data.begin_incarnation(1, SEGMENT_BYTES).unwrap();
    assert_eq!(
        (
            incarnation.number,
            incarnation.generation.0,
            incarnation.is_new_generation
        ),
        (2, 1, false)
    );

    let (payloads, log) = read(&data, FIRST).unwrap();
    assert_eq!(payloads, (1..=23).map(payload).collect::<Vec<_>>());
    assert_eq!((log.synced_proven(), log.torn_bytes()), (LogPosition(20), 0));
    assert!(log.segment_count() > 2);
    assert_eq!(log.bytes(), log.segment_count() as u64 * SEGMENT_BYTES);

    let (mut writer, factory) = log.into_writer().unwrap();
    assert_eq!((writer.last(), writer.synced()), (LogPosition(23), LogPosition(23)));
    append(&mut writer, &factory, 20);
    assert!(writer.take_retired().is_empty(), "nothing is synced yet");
    writer.sync_blocking().unwrap();
    assert!(!writer.take_retired().is_empty());
    drop(writer);

    let (payloads, log) = read(&data, FIRST).unwrap();
    assert_eq!(payloads, (1..=43).map(payload).collect::<Vec<_>>());
    assert_eq!((log.synced_proven(), log.torn_bytes()), (LogPosition(43), 0));
}

#[test]
fn a_torn_tail_is_cut_and_never_comes_back() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    let data = DataDirectory::open(directory.path()).unwrap();
    // Those behind it are whole.
    let (path, offset) = find(directory.path(), 21);
    flip(&path, offset + 100);

    let (payloads, log) = read(&data, FIRST).unwrap();
    assert_eq!(payloads.len(), 20);
    assert!(log.torn_bytes() > 0);
    let (mut writer, factory) = log.into_writer().unwrap();
    let next = segment_path(
        directory.path(),
        writer.wants_segment().expect("the next segment was not a spare one").0,
    );
    assert!(!next.exists(), "the torn segment is gone");
    // As long as the torn one, so that the one behind it would follow on.
    append(&mut writer, &factory, 1);
    drop(writer);
    let (payloads, log) = read(&data, FIRST).unwrap();
    assert_eq!((payloads.len(), log.torn_bytes()), (21, 0));
}

#[test]
fn reading_a_log_changes_nothing() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    let contents = || {
        (1..)
            .map_while(|number| fs::read(segment_path(directory.path(), number)).ok())
            .collect::<Vec<_>>()
    };
    let (path, offset) = find(directory.path(), 22);
    flip(&path, offset);
    let before = contents();
    let data = DataDirectory::open_read_only(directory.path()).unwrap();
    assert!(read(&data, FIRST).unwrap().1.torn_bytes() > 0);
    assert_eq!(before, contents());
}

#[test]
#[should_panic(expected = "opened to be read is never written")]
fn a_log_opened_to_be_read_is_never_written() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    let data = DataDirectory::open_read_only(directory.path()).unwrap();
    let _ = read(&data, FIRST).unwrap().1.into_writer();
}

#[test]
fn damage_names_the_file_the_place_and_what_to_do() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    let first = segment_path(directory.path(), 1);
    flip(&first, 200);
    let data = DataDirectory::open(directory.path()).unwrap();
    let error = read(&data, FIRST).unwrap_err().to_string();
    for part in [
        first.to_str().unwrap(),
        "at byte 104",
        "checksum",
        "position 1 ",
        "up to position 20",
        "restore",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_missing_or_shortened_segment_is_refused() {
    for (number, what) in [(1, "missing"), (2, "missing"), (2, "bytes and must have")] {
        let directory = TempDir::new().unwrap();
        killed_server(directory.path());
        let path = segment_path(directory.path(), number);
        if what == "missing" {
            fs::remove_file(&path).unwrap();
        } else {
            OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(SEGMENT_BYTES - 512)
                .unwrap();
        }
        let data = DataDirectory::open(directory.path()).unwrap();
        let error = read(&data, FIRST).unwrap_err().to_string();
        assert!(
            error.contains(what) && error.contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    fs::remove_dir_all(directory.path().join("log")).unwrap();
    let data = DataDirectory::open(directory.path()).unwrap();
    assert!(
        matches!(read(&data, FIRST), Err(LogError::Damage { .. })),
        "a listed log is never taken for an empty one"
    );
}

#[test]
fn what_a_crash_leaves_of_a_segment_in_the_making_is_removed() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    let unfinished = segment_path(directory.path(), 99).with_extension("log.new");
    fs::write(&unfinished, "half").unwrap();
    let data = DataDirectory::open(directory.path()).unwrap();
    drop(read(&data, FIRST).unwrap().1.into_writer().unwrap());
    assert!(!unfinished.exists());
}

#[test]
fn another_number_of_shards_begins_a_generation_and_the_old_one_stays() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    let mut data = DataDirectory::open(directory.path()).unwrap();
    read(&data, FIRST).unwrap().1.close().unwrap();
    let incarnation = data.begin_incarnation(3, SEGMENT_BYTES).unwrap();
    assert_eq!(
        (
            incarnation.number,
            incarnation.generation.0,
            incarnation.is_new_generation
        ),
        (2, 2, true)
    );
    let (mut writer, factory) = read(&data, identity(2, 1, 3)).unwrap().1.into_writer().unwrap();
    append(&mut writer, &factory, 1);
    drop((writer, data));

    let data = DataDirectory::open(directory.path()).unwrap();
    let entry = |number, shard_count| GenerationEntry {
        number: Generation(number),
        shard_count,
    };
    assert_eq!(data.manifest().generations, [entry(1, 1), entry(2, 3)]);
    assert_eq!(data.manifest().incarnation, 2);
    let (payloads, log) = read(&data, FIRST).unwrap();
    assert_eq!(
        (payloads.len(), log.synced_proven()),
        (23, LogPosition(23)),
        "closed, so all of it is proven"
    );
    assert_eq!(read(&data, identity(2, 0, 3)).unwrap().0.len(), 0);
    assert_eq!(read(&data, identity(2, 1, 3)).unwrap().0.len(), 1);
}

#[test]
fn one_directory_has_one_server() {
    let directory = TempDir::new().unwrap();
    let server = DataDirectory::open(directory.path()).unwrap();
    for error in [
        DataDirectory::open(directory.path()).unwrap_err(),
        DataDirectory::open_read_only(directory.path()).unwrap_err(),
    ] {
        let DataError::InUse { process_id, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*process_id, Some(std::process::id()));
    }
    drop(server);
    let readers = [(); 2].map(|()| DataDirectory::open_read_only(directory.path()).unwrap());
    assert!(matches!(
        DataDirectory::open(directory.path()),
        Err(DataError::InUse { process_id: None, .. })
    ));
    drop(readers);
    DataDirectory::open(directory.path()).unwrap();
}

#[test]
fn a_path_that_cannot_be_a_data_directory_is_refused_in_words() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = DataDirectory::open(&path).unwrap_err();
        assert!(matches!(error, DataError::NotADirectory(_)), "{error}");
    }
    assert!(matches!(
        DataDirectory::open_read_only(&directory.path().join("absent")),
        Err(DataError::Empty(_))
    ));
    assert!(matches!(
        DataDirectory::open_read_only(directory.path()),
        Err(DataError::Empty(_))
    ));
    let deep = directory.path().join("a/b/c");
    DataDirectory::open(&deep).unwrap();
    DataDirectory::open_read_only(&deep).unwrap();
}

#[test]
fn data_of_another_user_is_refused() {
    let directory = TempDir::new().unwrap();
    drop(DataDirectory::open(directory.path()).unwrap());
    // Only a privileged user can give a file away, and only such a one could use another's by mistake.
    if std::os::unix::fs::chown(directory.path().join("MANIFEST"), Some(54321), None).is_ok() {
        let error = DataDirectory::open(directory.path()).unwrap_err();
        assert!(matches!(error, DataError::WrongOwner { owner: 54321, .. }), "{error}");
    }
}

#[test]
fn logs_without_their_manifest_are_refused() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    fs::remove_file(directory.path().join("MANIFEST")).unwrap();
    assert!(matches!(
        DataDirectory::open(directory.path()),
        Err(DataError::ManifestMissing(_))
    ));
}

#[test]
fn a_manifest_of_a_newer_version_or_damaged_is_refused() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    let manifest = directory.path().join("MANIFEST");
    flip(&manifest, 40);
    let error = DataDirectory::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("damaged") && error.contains(manifest.to_str().unwrap()),
        "{error}"
    );
    fs::write(&manifest, "cartwright-manifest 3\n").unwrap();
    let error = DataDirectory::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("version 3"), "{error}");
}

#[test]
fn records_of_a_generation_the_manifest_does_not_know_are_never_dropped() {
    let directory = TempDir::new().unwrap();
    let manifest = directory.path().join("MANIFEST");
    drop(DataDirectory::open(directory.path()).unwrap());
    let before = fs::read(&manifest).unwrap();
    let mut data = DataDirectory::open(directory.path()).unwrap();
    data.begin_incarnation(1, SEGMENT_BYTES).unwrap();
    drop(data);

    // As a start that failed half way leaves it: nothing was written, so it is made anew.
    fs::write(&manifest, &before).unwrap();
    let mut data = DataDirectory::open(directory.path()).unwrap();
    data.begin_incarnation(1, SEGMENT_BYTES).unwrap();
    let (mut writer, factory) = read(&data, FIRST).unwrap().1.into_writer().unwrap();
    append(&mut writer, &factory, 1);
    drop((writer, data));

    fs::write(&manifest, &before).unwrap();
    assert!(matches!(
        DataDirectory::open(directory.path()),
        Err(DataError::UnlistedGeneration(_))
    ));
    assert!(matches!(
        DataDirectory::open_read_only(directory.path()),
        Err(DataError::UnlistedGeneration(_))
    ));
}

const LIMITED: &str = "CARTWRIGHT_TEST_LIMITED_DIRECTORY";

/// Runs itself again under a file size limit, which is reported as a full disk is.
#[test]
fn a_full_disk_is_reported_when_a_segment_is_made_and_leaves_the_log_as_it_was() {
    let test = "log_on_disk::a_full_disk_is_reported_when_a_segment_is_made_and_leaves_the_log_as_it_was";
    if let Some(directory) = std::env::var_os(LIMITED) {
        let data = DataDirectory::open(Path::new(&directory)).unwrap();
        let log = open_log(&data, FIRST, 16 * 1024 * 1024, LogStart::BEGINNING, &mut |_| {
            Ok::<_, Infallible>(())
        })
        .unwrap();
        let (mut writer, factory) = log.into_writer().unwrap();
        assert_eq!(writer.wants_segment(), Some(SegmentNumber(2)));
        let error = factory.create(SegmentNumber(2)).unwrap_err();
        assert!(error.is_full(), "{error}");
        let path = segment_path(Path::new(&directory), 2);
        assert!(!path.exists() && !path.with_extension("log.new").exists());
        writer.append(KIND, b"still room");
        return;
    }
    let directory = TempDir::new().unwrap();
    DataDirectory::open(directory.path())
        .unwrap()
        .begin_incarnation(1, SEGMENT_BYTES)
        .unwrap();
    let output = Command::new("sh")
        .args([
            "-c",
            r#"trap "" XFSZ; ulimit -f 4096; exec "$0" --exact "$1" --nocapture"#,
        ])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(LIMITED, directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    let data = DataDirectory::open_read_only(directory.path()).unwrap();
    assert_eq!(read(&data, FIRST).unwrap().0, [b"still room"]);
}

#[test]
fn what_a_crash_leaves_of_dropped_generations_is_removed_and_never_listed_again() {
    let directory = TempDir::new().unwrap();
    killed_server(directory.path());
    let mut data = DataDirectory::open(directory.path()).unwrap();
    read(&data, FIRST).unwrap().1.close().unwrap();
    data.begin_incarnation(3, SEGMENT_BYTES).unwrap();
    let first = directory.path().join("log/generation-00001");
    let copy = directory.path().join("copy");
    fs::rename(&first, &copy).unwrap();
    fs::create_dir(&first).unwrap();
    assert_eq!(data.drop_older_generations().unwrap(), 1);
    assert!(!first.exists());
    assert_eq!(data.drop_older_generations().unwrap(), 0, "the newest stays");
    drop(data);

    // The manifest was written, and then the power was cut.
    fs::rename(&copy, &first).unwrap();
    drop(DataDirectory::open_read_only(directory.path()).unwrap());
    assert!(first.exists(), "whoever only reads removes nothing");
    let mut data = DataDirectory::open(directory.path()).unwrap();
    assert!(!first.exists());
    let manifest = data.manifest();
    assert_eq!((manifest.generations.len(), manifest.begins_with_nothing()), (1, false));
    let incarnation = data.begin_incarnation(2, SEGMENT_BYTES).unwrap();
    assert_eq!(incarnation.generation, Generation(3), "no number is used twice");
}

#[test]
fn a_truncated_log_goes_on_and_is_read_from_its_checkpoint_only() {
    let directory = TempDir::new().unwrap();
    let (data, mut writer, factory) = grown_log(directory.path());
    let last = writer.last();
    let truncated = truncate_log(&data, FIRST, LogPosition(30)).unwrap();
    assert!(truncated.segments >= 2 && truncated.bytes == truncated.segments * SEGMENT_BYTES);
    assert_eq!(truncate_log(&data, FIRST, LogPosition(30)).unwrap().segments, 0);
    assert!(!segment_path(directory.path(), truncated.segments).exists());
    assert!(segment_path(directory.path(), truncated.segments + 1).exists());
    append(&mut writer, &factory, 5);
    drop((writer, data));

    let data = DataDirectory::open(directory.path()).unwrap();
    assert!(matches!(read(&data, FIRST), Err(error) if error.is_truncated()));
    let start = LogStart {
        from: LogPosition(30),
        synced: last,
    };
    let mut positions = Vec::new();
    let mut on_record = |record: LogRecord<'_>| {
        assert_eq!((record.kind, record.payload), (KIND, &payload(record.position.0)[..]));
        positions.push(record.position.0);
        Ok::<_, Infallible>(())
    };
    let log = open_log(&data, FIRST, SEGMENT_BYTES, start, &mut on_record).unwrap();
    assert_eq!(log.end().0, last.0 + 5);
    let (mut writer, factory) = log.into_writer().unwrap();
    assert_eq!(positions, (31..=last.0 + 5).collect::<Vec<_>>());
    append(&mut writer, &factory, 1);
}

#[test]
fn a_segment_is_made_of_the_file_of_one_that_was_truncated() {
    let directory = TempDir::new().unwrap();
    let (data, mut writer, factory) = grown_log(directory.path());
    let inode = |number| fs::metadata(segment_path(directory.path(), number)).unwrap().ino();
    let before: Vec<_> = (1..=3).map(inode).collect();
    let truncated = truncate_log(&data, FIRST, LogPosition(30)).unwrap();
    let put_by = before[truncated.segments as usize - 1];
    let number = loop {
        if let Some(number) = writer.wants_segment() {
            break number;
        }
        append(&mut writer, &factory, 1);
    };
    writer.offer_segment(factory.create(number).unwrap());
    assert_eq!(inode(number.0), put_by);
    let bytes = fs::read(segment_path(directory.path(), number.0)).unwrap();
    let header = bytes.iter().take_while(|&&byte| byte != 0).count();
    assert_eq!(bytes.len() as u64, SEGMENT_BYTES);
    assert!(
        header > 0 && bytes[64..].iter().all(|&byte| byte == 0),
        "nothing is left of what it was"
    );

    // One that is put by when the server ends is gone after the next start.
    append(&mut writer, &factory, 40);
    sync(&mut writer);
    let end = writer.last();
    truncate_log(&data, FIRST, LogPosition(60)).unwrap();
    let recycled = directory.path().join("log/generation-00001/shard-000/recycled.log.new");
    assert!(recycled.exists());
    drop((writer, data));
    let data = DataDirectory::open(directory.path()).unwrap();
    let start = LogStart {
        from: LogPosition(60),
        synced: end,
    };
    let log = open_log(&data, FIRST, SEGMENT_BYTES, start, &mut |_| Ok::<_, Infallible>(())).unwrap();
    log.into_writer().unwrap();
    assert!(!recycled.exists());
}

/// Sizes of the segments there are.
fn sizes(directory: &Path) -> Vec<u64> {
    let size = |number| {
        fs::metadata(segment_path(directory, number))
            .ok()
            .map(|file| file.len())
    };
    (1..100).filter_map(size).collect()
}

#[test]
fn a_segment_larger_than_usual_is_read_back_and_is_no_spare_nor_recycled_as_it_is() {
    const LARGE_BYTES: u64 = 16 * SEGMENT_BYTES;
    let directory = TempDir::new().unwrap();
    let mut data = DataDirectory::open(directory.path()).unwrap();
    data.begin_incarnation(1, SEGMENT_BYTES).unwrap();
    let (mut writer, factory) = read(&data, FIRST).unwrap().1.into_writer().unwrap();
    append(&mut writer, &factory, 2);
    // Behind a spare one, which is too small.
    if let Some(number) = writer.wants_segment() {
        writer.offer_segment(factory.create(number).unwrap());
    }
    writer.offer_segment(factory.create_of(writer.next_segment(), LARGE_BYTES).unwrap());
    let long = vec![b'x'; 10 * SEGMENT_BYTES as usize];
    writer.append(KIND, &long);
    sync(&mut writer);
    // One that nothing came to stand in.
    writer.offer_segment(factory.create_of(writer.next_segment(), LARGE_BYTES).unwrap());
    drop((writer, data));
    assert_eq!(
        sizes(directory.path()),
        [SEGMENT_BYTES, SEGMENT_BYTES, LARGE_BYTES, LARGE_BYTES]
    );

    let data = DataDirectory::open(directory.path()).unwrap();
    let (found, log) = read(&data, FIRST).unwrap();
    assert!(found == [payload(1), payload(2), long]);
    let (mut writer, factory) = log.into_writer().unwrap();
    assert_eq!(
        writer.wants_segment(),
        Some(SegmentNumber(4)),
        "a spare one has the usual size, or is none"
    );
    append(&mut writer, &factory, 90);
    sync(&mut writer);
    let last = *sizes(directory.path()).last().unwrap();
    assert_eq!(last, SEGMENT_BYTES);
    // The large one is the last that goes.
    let truncated = truncate_log(&data, FIRST, LogPosition(80)).unwrap();
    assert_eq!(truncated.bytes, 2 * SEGMENT_BYTES + LARGE_BYTES, "{truncated:?}");
    let number = writer.next_segment();
    writer.offer_segment(factory.create(number).unwrap());
    assert_eq!(
        fs::metadata(segment_path(directory.path(), number.0)).unwrap().len(),
        SEGMENT_BYTES,
        "its file was cut"
    );
}
