//! What a disk may do to a log behind everybody's back, and what recovery must say to it (rule R6).
//!
//! Works on a copy: a bit flips, a sector is written to the wrong place, or a file loses its end. Where an intact record behind the damage
//! proves that what is lost was on disk, the log must be refused; otherwise it may be cut, never read as another.

use std::ops::Range;

use cartwright::engine::{LogPosition, RecordError, ShardId};
use cartwright::log::LogIdentity;

use crate::disk::{Disk, SECTOR_BYTES, SegmentName};
use crate::promise;
use crate::random::Random;
use crate::storage::{FIRST_FRAME, Frame, PAYLOAD, Refused, SEAL, open_log};
use crate::trace::Trace;
use crate::violation::{Checked, Violation};
use crate::witness::Witness;

/// After a rest and a power cut every log proves all of itself, so that damage anywhere in it is told from a torn tail.
pub fn check_all_is_proven(disk: &Disk, witness: &Witness) -> Checked {
    let Some(entry) = disk.manifest().generations.last().copied() else {
        return Ok(());
    };
    promise!(
        entry.number == witness.generation(),
        "a server at rest has made no generation"
    );
    for shard in (0..entry.shard_count).map(ShardId) {
        let identity = LogIdentity {
            generation: entry.number,
            shard,
            shard_count: entry.shard_count,
        };
        let Ok(log) = open_log(&mut disk.clone(), identity, &mut |_, _| Ok(())) else {
            return Err(Violation("a log that nothing has damaged is refused".into()));
        };
        promise!(
            log.end.proven == log.end.last,
            "R6: the log of shard {shard} goes up to {}, and proves no more than {} after a rest",
            log.end.last,
            log.end.proven
        );
    }
    Ok(())
}

fn frames(disk: &Disk, names: &[SegmentName], end: (u64, usize)) -> Vec<Frame> {
    let mut frames = Vec::new();
    for name in names {
        let bytes = disk.file(*name).bytes();
        let mut offset = FIRST_FRAME;
        while (name.number.0, offset) < end
            && let Some(frame) = Frame::at(name.number, bytes, offset)
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
    let Some(entry) = disk.manifest().generations.last().copied() else {
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
    let names = disk.segments(identity.generation, shard);
    let mut copy = disk.clone();
    let Ok(clean) = open_log(&mut copy, identity, &mut |_, _| Ok(())) else {
        return Err(Violation("a log that nothing has damaged is refused".into()));
    };
    let frames = frames(disk, &names, (clean.end.segment.0, clean.end.offset));

    let victim = *random.pick(&names);
    if random.below(8) == 0 {
        return check_shortened(copy, identity, victim, random);
    }
    let changed = damage(&mut copy, &names, victim, &frames, random);
    if changed.is_empty() {
        return Ok(());
    }
    let is_hit = |frame: &Frame| frame.segment == victim.number && overlap(&frame.bytes, &changed);
    let Some(first) = frames.iter().position(is_hit) else {
        return check_header(&mut copy, identity, victim, &changed, clean.end.segment.0);
    };
    let before = frames[..first].iter().rev().find(|frame| frame.kind == PAYLOAD);
    let last_before = before.map_or(LogPosition::ZERO, |frame| frame.position);
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
    let damaged = open_log(&mut copy, identity, &mut on_record);
    trace.event(format_args!(
        "bytes {changed:?} of segment {} of shard {shard} are damaged: proven {is_proven}, refused {}",
        victim.number.0,
        damaged.is_err()
    ));
    wrong?;
    match damaged {
        Ok(log) => promise!(
            log.end.last == clean.end.last || !is_proven,
            "R6: bytes {changed:?} of segment {} of shard {shard} are damaged, and what was acknowledged up to {} is cut at \
             {} without a word",
            victim.number.0,
            clean.end.last,
            log.end.last
        ),
        Err(Refused::Damage(_)) => {}
        Err(other) => return Err(Violation(format!("R6: damage is taken for something else: {other}"))),
    }
    Ok(())
}

/// A file that lost its end is refused, whatever was there.
fn check_shortened(mut copy: Disk, identity: LogIdentity, victim: SegmentName, random: &mut Random) -> Checked {
    let file = copy.file_mut(victim);
    let length = random.index(file.bytes().len());
    file.shorten(length);
    let opened = open_log(&mut copy, identity, &mut |_, _| Ok(()));
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
    copy: &mut Disk,
    identity: LogIdentity,
    victim: SegmentName,
    changed: &Range<usize>,
    last_segment: u64,
) -> Checked {
    let damaged = open_log(copy, identity, &mut |_, _| Ok(()));
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
    copy: &mut Disk,
    names: &[SegmentName],
    victim: SegmentName,
    frames: &[Frame],
    random: &mut Random,
) -> Range<usize> {
    let bytes = copy.file(victim).bytes().to_vec();
    let in_victim: Vec<_> = frames.iter().filter(|frame| frame.segment == victim.number).collect();
    let at = if in_victim.is_empty() || random.below(8) == 0 {
        random.index(bytes.len())
    } else {
        let frame = random.pick(&in_victim);
        frame.bytes.start + random.index(frame.bytes.len())
    };
    if random.below(3) > 0 {
        let flipped = bytes[at] ^ (1 << random.below(8));
        copy.file_mut(victim).damage(at, &[flipped]);
        return at..at + 1;
    }
    let from = *random.pick(names);
    let source = copy.file(from).bytes();
    let sector = random.index(source.len().min(bytes.len()) / SECTOR_BYTES) * SECTOR_BYTES;
    let misdirected = source[sector..sector + SECTOR_BYTES].to_vec();
    let target = (at / SECTOR_BYTES * SECTOR_BYTES).min(bytes.len() - SECTOR_BYTES);
    let differs = (0..SECTOR_BYTES).filter(|&index| misdirected[index] != bytes[target + index]);
    let differs: Vec<_> = differs.collect();
    copy.file_mut(victim).damage(target, &misdirected);
    match (differs.first(), differs.last()) {
        (Some(first), Some(last)) => target + first..target + last + 1,
        _ => target..target,
    }
}
