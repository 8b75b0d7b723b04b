//! Logs whose beginning is gone because a checkpoint stands for it.

use std::convert::Infallible;

use proptest::prelude::*;

use super::super::record::RecordFault;
use super::super::scan::opening_mark;
use super::super::*;
use super::rig::{Action, IDENTITY, Rig, SEGMENT_BYTES, action, power_cut};
use super::small_log;
use cartwright_core::ids::LogPosition;

/// The positions and payloads handed out, and the end.
type Scanned = (Vec<(u64, Vec<u8>)>, ScanEnd);

/// Scans `segments`, the first of which is number `first`.
fn scan_behind(first: usize, segments: &[Vec<u8>], start: LogStart) -> Result<Scanned, LogDamage> {
    let first = SegmentNumber(first as u64);
    let mut scan = LogScan::behind(IDENTITY, first, start);
    let mut records = Vec::new();
    let mut number = first;
    for bytes in segments {
        scan.segment(number, bytes, &mut |record| {
            records.push((record.position.0, record.payload.to_vec()));
            Ok::<(), Infallible>(())
        })
        .map_err(|error| match error {
            ScanError::Damage(damage) => damage,
            ScanError::Refused { error, .. } => match error {},
        })?;
        number = number.next();
    }
    Ok((records, scan.finish()?))
}

fn openings(segments: &[Vec<u8>]) -> Vec<Option<LogPosition>> {
    let opening = |bytes: &Vec<u8>| {
        let header = SegmentHeader::decode(bytes).expect("a segment has a header");
        opening_mark(header.framing(), bytes).ok()
    };
    segments[1..].iter().map(opening).collect()
}

const fn start(from: u64, synced: u64) -> LogStart {
    LogStart {
        from: LogPosition(from),
        synced: LogPosition(synced),
    }
}

fn many_actions() -> impl Strategy<Value = Vec<Action>> {
    proptest::collection::vec(action(), 40..120)
}

proptest! {
    /// The checkpoint is published, the log is truncated, and at any time after the power is cut.
    #[test]
    fn a_truncated_log_tells_everything_behind_its_checkpoint(
        actions in many_actions(),
        later in proptest::collection::vec(action(), 0..20),
        begins: prop::sample::Index,
        between_segments: bool,
        ends: prop::sample::Index,
        lost in proptest::collection::vec(any::<bool>(), 1..40),
    ) {
        let mut rig = Rig::new();
        rig.run(&actions);
        let synced = rig.writer.synced().0;
        let mut places: Vec<_> = (0..=synced).collect();
        if between_segments {
            places = openings(&rig.cache()).into_iter().flatten().map(|opening| opening.0).collect();
            places.retain(|&opening| opening <= synced);
            places.push(synced);
        }
        let begins = *begins.get(&places);
        let ends = begins + ends.index((synced - begins) as usize + 1) as u64;
        let dropped = segments_below(openings(&rig.cache()), LogPosition(begins));
        rig.run(&later);
        let acknowledged = rig.writer.synced().0;
        let disk = power_cut(&rig, &lost);

        let scanned = scan_behind(dropped + 1, &disk[dropped..], start(begins, ends));
        let (records, end) = scanned.map_err(|damage| TestCaseError::fail(damage.to_string()))?;
        prop_assert!(end.last.0 >= acknowledged);
        prop_assert_eq!(records.len() as u64, end.last.0 - begins);
        for (index, (position, payload)) in records.iter().enumerate() {
            prop_assert_eq!(*position, begins + 1 + index as u64);
            prop_assert_eq!(payload, &rig.payloads[*position as usize - 1]);
        }
    }
}

#[test]
fn whole_segments_below_a_position_are_dropped_and_no_others() {
    let at = |position| Some(LogPosition(position));
    let drop = |position| segments_below([at(10), at(20), at(20), at(30), None], LogPosition(position));
    assert_eq!([drop(0), drop(10), drop(11), drop(20)], [0, 0, 1, 1]);
    assert_eq!(
        [drop(21), drop(30), drop(31), drop(1000)],
        [3, 3, 4, 4],
        "a spare one tells nothing"
    );
    assert_eq!(
        segments_below([None, at(5)], LogPosition(9)),
        0,
        "nothing behind what cannot be read"
    );
}

#[test]
fn a_log_that_begins_behind_its_checkpoint_is_refused_by_the_name_of_what_is_missing() {
    let cache = small_log().cache();
    let opening = openings(&cache)[0].unwrap();
    assert!(opening.0 > 1);
    let whole = scan_behind(2, &cache[1..], start(opening.0, opening.0)).unwrap();
    assert_eq!(whole.0.first().unwrap().0, opening.0 + 1);
    for from in 0..opening.0 {
        let damage = scan_behind(2, &cache[1..], start(from, from)).unwrap_err();
        let fault = LogFault::BeginsBehind {
            opening,
            from: LogPosition(from),
        };
        assert_eq!((damage.at.segment, damage.fault), (SegmentNumber(1), fault));
    }
}

#[test]
fn a_log_that_ends_before_what_its_checkpoint_shows_is_refused() {
    let rig = small_log();
    let last = rig.writer.last().0;
    assert!(scan_behind(1, &rig.cache(), start(2, last)).is_ok());
    let damage = scan_behind(1, &rig.cache(), start(2, last + 1)).unwrap_err();
    let LogFault::LostRecord { position, proof, .. } = damage.fault else {
        panic!("{damage}")
    };
    assert_eq!((position.0, proof.0), (last + 1, last + 1));
}

#[test]
fn a_first_segment_that_does_not_tell_its_place_is_refused() {
    let mut cache = small_log().cache();
    for at in SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + 32 {
        cache[1][at] ^= 4;
        let damage = scan_behind(2, &cache[1..], start(100, 100)).unwrap_err();
        assert!(matches!(damage.fault, LogFault::Opening(_)), "byte {at}: {damage}");
        cache[1][at] ^= 4;
    }
    cache[1][SEGMENT_HEADER_BYTES..SEGMENT_BYTES].fill(0);
    let damage = scan_behind(2, &cache[1..], start(100, 100)).unwrap_err();
    assert_eq!(damage.fault, LogFault::Opening(RecordFault::Empty));
}
