//! What a disk may do to a log or a checkpoint behind everybody's back, and what recovery must say to it (rule R6).
//!
//! Works on a copy: a bit flips, a sector is written to the wrong place, or a file loses its end. Where an intact record
//! behind the damage proves that what is lost was on disk, the log must be refused; otherwise it may be cut, never read as
//! another. A checkpoint that is damaged must not be used; where there is one before it, that one takes its place.

use std::ops::Range;
use std::path::{Path, PathBuf};

use cartwright::engine::recovery::resolve;
use cartwright::engine::{EngineLimits, LogPosition, RecordError, Shard, ShardId};
use cartwright::log::{
    CHECKPOINTS_KEPT, DataDirectory, Generation, GenerationEntry, LogIdentity, SEGMENT_BYTES_MIN, segments_below,
};
use cartwright::runtime::recovery::{Progress, RecoveryError, recover};

use crate::disk::{Disk, ROOT, SECTOR_BYTES, SegmentName, shard_directory};
use crate::frame::{FIRST_FRAME, Frame, MARK, SEAL};
use crate::promise;
use crate::random::Random;
use crate::reading::{Refused, generations, identities, read_log};
use crate::trace::Trace;
use crate::violation::{Checked, Violation};
use crate::witness::Witness;

fn newest(disk: &Disk) -> Checked<Option<GenerationEntry>> {
    let listed = generations(disk).map_err(|refused| Violation(format!("the manifest is refused: {refused}")))?;
    Ok(listed.last().copied())
}

/// After a rest and a power cut every log proves all of itself, so that damage anywhere in it is told from a torn tail.
pub fn check_all_is_proven(disk: &Disk, witness: &Witness) -> Checked {
    let Some(entry) = newest(disk)? else {
        return Ok(());
    };
    promise!(
        entry.number == witness.generation(),
        "a server at rest has made no generation"
    );
    for identity in identities(entry) {
        let Ok(log) = read_log(disk, identity, &mut |_, _| Ok(())) else {
            return Err(Violation("a log that nothing has damaged is refused".into()));
        };
        promise!(
            log.proven == log.last,
            "R6: the log of shard {} goes up to {}, and proves no more than {} after a rest",
            identity.shard,
            log.last,
            log.proven
        );
    }
    Ok(())
}

/// The segments of a log that a start reads which needs it from behind `from`.
fn needed(disk: &Disk, identity: LogIdentity, from: LogPosition) -> Vec<SegmentName> {
    let names = disk.segments(identity.generation, identity.shard);
    let opening = |name: &SegmentName| {
        let frame = Frame::at(name.number, &disk.bytes(*name), FIRST_FRAME)?;
        (frame.kind == MARK).then_some(frame.position)
    };
    let below = if from == LogPosition::ZERO {
        0
    } else {
        segments_below(names.iter().skip(1).map(opening), from)
    };
    names[below..].to_vec()
}

/// Whether what checkpoints stand for is gone: see [`crate::simulation`].
pub fn check_disk_use(disk: &Disk, generation: Generation) -> Checked {
    let entry = newest(disk)?;
    let entry = entry.filter(|entry| entry.number == generation);
    let entry = entry.ok_or_else(|| Violation("a server's generation is not the newest".into()))?;
    promise!(
        disk.state()
            .list(&Path::new(ROOT).join("log"))
            .is_ok_and(|generations| generations.len() == 1),
        "older generations stay, though every shard has checkpoints"
    );
    for identity in identities(entry) {
        let log = read_log(disk, identity, &mut |_, _| Ok(()));
        let log = log.map_err(|refused| Violation(format!("a log is refused while it is written: {refused}")))?;
        // A spare one, and behind it one for a large record that was refused in the end.
        let last = SegmentName::of(identity, log.at.segment.next().next()).path();
        let is_expected = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".checkpoint") || name.starts_with("segment-") && *path <= last || name == "recycled.log.new"
        };
        let files = disk
            .state()
            .list(&shard_directory(generation, identity.shard))
            .unwrap_or_default();
        let checkpoints = files
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "checkpoint"))
            .count();
        promise!(
            checkpoints <= CHECKPOINTS_KEPT && files.iter().all(is_expected),
            "shard {} leaves files behind: {files:?}",
            identity.shard
        );
        let all = disk.segments(generation, identity.shard).len();
        let read = needed(disk, identity, log.from).len();
        // Two of the same state are one.
        promise!(
            all == read || checkpoints < CHECKPOINTS_KEPT,
            "shard {} keeps {all} segments, and its older checkpoint needs {read}",
            identity.shard
        );
    }
    Ok(())
}

fn frames(disk: &Disk, names: &[SegmentName], end: (u64, usize)) -> Vec<Frame> {
    let mut frames = Vec::new();
    for name in names {
        let bytes = disk.bytes(*name);
        let mut offset = FIRST_FRAME;
        while (name.number.0, offset) < end
            && let Some(frame) = Frame::at(name.number, &bytes, offset)
        {
            offset = frame.bytes.end;
            let is_last = frame.kind == SEAL;
            frames.push(frame);
            if is_last {
                break;
            }
        }
    }
    frames
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Damages a copy of the disk, and looks at what recovery says to it.
pub fn check_damage(disk: &Disk, witness: &Witness, random: &mut Random, trace: &mut Trace) -> Checked {
    let Some(entry) = newest(disk)? else {
        return Ok(());
    };
    if entry.number != witness.generation() {
        return Ok(());
    }
    let shard = ShardId(random.below(entry.shard_count.into()) as u16);
    let identity = LogIdentity {
        generation: entry.number,
        shard,
        shard_count: entry.shard_count,
    };
    let copy = disk.fork();
    let Ok(clean) = read_log(&copy, identity, &mut |_, _| Ok(())) else {
        return Err(Violation("a log that nothing has damaged is refused".into()));
    };
    let names = needed(disk, identity, clean.from);
    let frames = frames(disk, &names, (clean.at.segment.0, clean.at.offset));

    let victim = *random.pick(&names);
    if random.below(8) == 0 {
        return check_shortened(&copy, identity, victim, random);
    }
    let changed = damage(&copy, &names, victim, &frames, random);
    if changed.is_empty() {
        return Ok(());
    }
    let is_hit = |frame: &Frame| frame.segment == victim.number && overlap(&frame.bytes, &changed);
    let Some(first) = frames.iter().position(is_hit) else {
        return check_header(&copy, identity, victim, &changed, clean.at.segment.0);
    };
    let last_before = frames[..first].last().map_or(LogPosition::ZERO, |frame| frame.position);
    let is_proven = frames[first..]
        .iter()
        .any(|frame| !is_hit(frame) && frame.synced > last_before);
    let mut wrong: Checked = Ok(());
    let mut on_record = |position: LogPosition, payload: &[u8]| -> Result<(), RecordError> {
        if wrong.is_ok() {
            wrong = witness.check_record(shard, position, payload);
        }
        Ok(())
    };
    let damaged = read_log(&copy, identity, &mut on_record);
    trace.event(format_args!(
        "bytes {changed:?} of segment {} of shard {shard} are damaged: proven {is_proven}, refused {}",
        victim.number.0,
        damaged.is_err()
    ));
    wrong?;
    match damaged {
        Ok(log) => promise!(
            log.last == clean.last || !is_proven,
            "R6: bytes {changed:?} of segment {} of shard {shard} are damaged, and what was acknowledged up to {} is cut at \
             {} without a word",
            victim.number.0,
            clean.last,
            log.last
        ),
        Err(Refused::Damage(_)) => {}
        Err(other) => return Err(Violation(format!("R6: damage is taken for something else: {other}"))),
    }
    Ok(())
}

/// A file that lost its end is refused, whatever was there.
fn check_shortened(copy: &Disk, identity: LogIdentity, victim: SegmentName, random: &mut Random) -> Checked {
    let length = random.index(copy.bytes(victim).len());
    copy.look(&victim.path(), |file| file.shorten(length));
    let opened = read_log(copy, identity, &mut |_, _| Ok(()));
    promise!(
        matches!(opened, Err(Refused::Damage(_))),
        "R6: segment {} of shard {} has only {length} bytes left, and nobody notices",
        victim.number.0,
        identity.shard
    );
    Ok(())
}

/// Damage where no record is: in a header it must be noticed, if the log reaches so far.
fn check_header(
    copy: &Disk,
    identity: LogIdentity,
    victim: SegmentName,
    changed: &Range<usize>,
    last_segment: u64,
) -> Checked {
    let damaged = read_log(copy, identity, &mut |_, _| Ok(()));
    promise!(
        damaged.is_err() || changed.start >= FIRST_FRAME || victim.number.0 > last_segment,
        "R6: the header of segment {} of shard {} is damaged, and nobody notices",
        victim.number.0,
        identity.shard
    );
    Ok(())
}

/// Does the damage; gives the bytes of the victim that are not as they were.
fn damage(
    copy: &Disk,
    names: &[SegmentName],
    victim: SegmentName,
    frames: &[Frame],
    random: &mut Random,
) -> Range<usize> {
    let bytes = copy.bytes(victim);
    let in_victim: Vec<_> = frames.iter().filter(|frame| frame.segment == victim.number).collect();
    let at = if in_victim.is_empty() || random.below(8) == 0 {
        random.index(bytes.len())
    } else {
        let frame = random.pick(&in_victim);
        frame.bytes.start + random.index(frame.bytes.len())
    };
    if random.below(3) > 0 {
        let flipped = bytes[at] ^ (1 << random.below(8));
        copy.look(&victim.path(), |file| file.damage(at, &[flipped]));
        return at..at + 1;
    }
    let from = *random.pick(names);
    let source = copy.bytes(from);
    let sector = random.index(source.len().min(bytes.len()) / SECTOR_BYTES) * SECTOR_BYTES;
    let misdirected = source[sector..sector + SECTOR_BYTES].to_vec();
    let target = (at / SECTOR_BYTES * SECTOR_BYTES).min(bytes.len() - SECTOR_BYTES);
    let differs = (0..SECTOR_BYTES).filter(|&index| misdirected[index] != bytes[target + index]);
    let differs: Vec<_> = differs.collect();
    copy.look(&victim.path(), |file| file.damage(target, &misdirected));
    match (differs.first(), differs.last()) {
        (Some(first), Some(last)) => target + first..target + last + 1,
        _ => target..target,
    }
}

/// Damages a checkpoint on a copy of the disk: recovery makes the same of the disk as before, or says why it cannot.
pub fn check_damaged_checkpoint(disk: &Disk, limits: EngineLimits, random: &mut Random, trace: &mut Trace) -> Checked {
    let Some(entry) = newest(disk)? else {
        return Ok(());
    };
    let shard = ShardId(random.below(entry.shard_count.into()) as u16);
    let files = disk.state().list(&shard_directory(entry.number, shard));
    let is_whole = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "checkpoint");
    let checkpoints: Vec<_> = files.unwrap_or_default().into_iter().filter(is_whole).collect();
    if checkpoints.is_empty() {
        return Ok(());
    }
    let victim = random.pick(&checkpoints);
    let copy = disk.fork();
    copy.look(victim, |file| {
        let at = random.index(file.bytes().len());
        if random.below(4) == 0 {
            file.shorten(at);
        } else {
            let flipped = file.bytes()[at] ^ (1 << random.below(8));
            file.damage(at, &[flipped]);
        }
    });
    let state = |disk: &Disk| disk.undisturbed(|| recovered_state(disk, limits));
    let before = state(disk).map_err(|error| Violation(format!("what nothing has damaged is refused: {error}")))?;
    let damaged = state(&copy);
    trace.event(format_args!(
        "{} is damaged, one of {}: {}",
        victim.display(),
        checkpoints.len(),
        damaged.is_err()
    ));
    match damaged {
        Ok(after) => promise!(
            after == before,
            "R6: {} is damaged, and recovery makes something else of it",
            victim.display()
        ),
        Err(RecoveryError::NoCheckpoint { .. }) => promise!(
            checkpoints.len() == 1,
            "R6: {} is damaged, and the one beside it does not take its place",
            victim.display()
        ),
        Err(error) => {
            return Err(Violation(format!(
                "R6: a damaged checkpoint is taken for something else: {error}"
            )));
        }
    }
    Ok(())
}

/// A hash of what recovery makes of a disk.
fn recovered_state(disk: &Disk, limits: EngineLimits) -> Result<u64, RecoveryError> {
    let data = DataDirectory::open_read_only_in(disk.clone(), Path::new(ROOT));
    let data = data.expect("the manifest was read before");
    let mut shards = recover(&data, limits, SEGMENT_BYTES_MIN, &Progress::default())?.shards;
    resolve(&mut shards);
    Ok(shards.iter().map(Shard::state_hash).fold(0, u64::wrapping_add))
}
