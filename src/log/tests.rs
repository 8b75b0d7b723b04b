//! What the log promises, checked on a simulated disk: the pure half, end to end.

use std::convert::Infallible;

use proptest::prelude::*;

use rig::{Action, IDENTITY, KIND, Rig, SECTOR_BYTES, SEGMENT_BYTES, actions, empty_segment, payload, power_cut, scan};

use super::record::{Frame, MARK_BYTES, RECORD_HEADER_BYTES, Record};
use super::*;
use cartwright_core::ids::{LogPosition, RecordKind, ShardId};
use cartwright_core::journal::Journal;

mod rig;
mod truncated;

/// A small log over three segments, its last record acknowledged and marked, two more behind it not synced.
fn small_log() -> Rig {
    let mut rig = Rig::new();
    for round in 0..12 {
        rig.append(400 + round);
        rig.append(300);
        if round % 3 == 2 {
            rig.sync();
        }
    }
    rig.append(20);
    rig.sync();
    rig.append(30);
    rig.append(40);
    rig
}

/// The state holds exactly the first records, and no fewer than `least`.
fn assert_holds(found: &[Vec<u8>], written: &[Vec<u8>], least: LogPosition, case: &str) {
    assert!(
        found.len() as u64 >= least.0,
        "{case}: {} records of {least} acknowledged",
        found.len()
    );
    assert!(written.starts_with(found), "{case}: records differ from those written");
}

#[test]
fn every_prefix_of_a_log_is_a_torn_tail() {
    let rig = small_log();
    let cache = rig.cache();
    assert!(cache.len() >= 3);
    let mut counts = Vec::new();
    for segment in 0..cache.len() {
        for length in SEGMENT_HEADER_BYTES..SEGMENT_BYTES {
            let mut cut = cache[..=segment].to_vec();
            cut[segment][length..].fill(0);
            // The spare segment was on disk before the one in front of it was sealed.
            cut.push(empty_segment(SegmentNumber(segment as u64 + 2)));
            let (found, end) = scan(&cut).unwrap_or_else(|damage| panic!("{segment} {length}: {damage}"));
            assert_holds(&found, &rig.payloads, LogPosition::ZERO, "prefix");
            assert!(end.proven <= end.last);
            counts.push(found.len());
        }
    }
    assert!(counts.is_sorted());
    assert_eq!(counts.last(), Some(&rig.payloads.len()));
}

#[test]
fn no_flipped_byte_loses_an_acknowledged_record() {
    let rig = small_log();
    let cache = rig.cache();
    let acknowledged = rig.writer.synced();
    assert_eq!(acknowledged.0 + 2, rig.payloads.len() as u64);
    let (mut refused, mut whole) = (0, 0);
    for segment in 0..cache.len() {
        for at in 0..SEGMENT_BYTES {
            for flip in [0x01, 0x80, 0xff] {
                let mut flipped = cache.clone();
                flipped[segment][at] ^= flip;
                match scan(&flipped) {
                    Err(damage) => {
                        assert_eq!(damage.at.segment.0, segment as u64 + 1);
                        assert!(damage.at.offset <= at);
                        refused += 1;
                    }
                    Ok((found, _)) => {
                        assert_holds(
                            &found,
                            &rig.payloads,
                            acknowledged,
                            &format!("segment {segment} byte {at}"),
                        );
                        whole += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 0 && whole > 0);
}

/// A mark is not proven by itself: its sync may have failed and left it in the page cache alone.
#[test]
fn a_mark_whose_sync_failed_is_written_again_before_the_log_goes_on() {
    let mut rig = Rig::new();
    rig.append(100);
    rig.sync();
    let (cache, mut disk) = (rig.cache(), rig.durable.clone());
    let (_, end) = scan(&cache).unwrap();
    let (_, without_mark) = scan(&disk).unwrap();
    assert!(without_mark.offset < end.offset, "the disk has no mark");
    let from = end.unproven_from.expect("nothing proves the mark");
    assert_eq!((from.segment.0, from.offset), (1, without_mark.offset));
    // What a start writes again; the log goes on behind it.
    disk[0][from.offset..end.offset].copy_from_slice(&cache[0][from.offset..end.offset]);
    let (found, again) = scan(&disk).unwrap();
    assert_eq!(found, rig.payloads);
    assert_eq!((again.offset, again.proven), (end.offset, end.proven));
}

#[test]
fn the_last_acknowledged_record_is_proven_by_the_mark_alone() {
    let mut rig = Rig::new();
    rig.append(100);
    rig.append(100);
    rig.sync();
    let mut cache = rig.cache();
    let (_, end) = scan(&cache).unwrap();
    assert_eq!(
        (end.proven, end.last, end.is_orderly()),
        (LogPosition(2), LogPosition(2), true)
    );
    assert!(end.unproven_from.is_some(), "nothing proves the mark");
    // Within the second payload.
    cache[0][SEGMENT_HEADER_BYTES + MARK_BYTES + 136 + 50] ^= 1;
    let damage = scan(&cache).unwrap_err();
    assert_eq!(
        damage.fault,
        LogFault::LostRecord {
            fault: RecordFault::Checksum,
            position: LogPosition(2),
            proof: LogPosition(2)
        }
    );
    assert_eq!(
        damage.at,
        LogOffset {
            segment: SegmentNumber(1),
            offset: SEGMENT_HEADER_BYTES + MARK_BYTES + 136
        }
    );
}

#[test]
fn a_missing_segment_is_refused() {
    let rig = small_log();
    let cache = rig.cache();
    let used = rig.writer.last();
    assert!(used.0 > 0);
    for missing in 0..cache.len() - 1 {
        let mut scan = LogScan::new(IDENTITY);
        let mut result = Ok(());
        for (index, bytes) in cache.iter().enumerate().filter(|(index, _)| *index != missing) {
            let number = SegmentNumber(index as u64 + 1);
            result = result.and_then(|()| scan.segment(number, bytes, &mut |_| Ok::<(), Infallible>(())));
        }
        let damage = match result {
            Err(ScanError::Damage(damage)) => damage,
            Ok(()) => scan.finish().unwrap_err(),
            Err(ScanError::Refused { .. }) => unreachable!("records are accepted"),
        };
        assert_eq!(
            damage,
            LogDamage {
                at: LogOffset {
                    segment: SegmentNumber(missing as u64 + 1),
                    offset: 0
                },
                fault: LogFault::Missing
            }
        );
    }
    assert_eq!(
        LogScan::new(IDENTITY).finish().unwrap_err().fault,
        LogFault::Missing,
        "no segment at all"
    );
}

#[test]
fn a_sealed_segment_without_its_successor_is_refused() {
    let cache = small_log().cache();
    let damage = scan(&cache[..1]).unwrap_err();
    assert_eq!((damage.at.segment, damage.fault), (SegmentNumber(2), LogFault::Missing));
}

#[test]
fn a_segment_of_another_log_or_size_is_refused() {
    let header = SegmentHeader {
        version: LOG_FORMAT_VERSION,
        identity: IDENTITY,
        number: SegmentNumber(1),
        segment_bytes: SEGMENT_BYTES as u64,
        salt: Salt(7),
    };
    let refuse = |header: SegmentHeader, bytes: usize| {
        let mut memory = vec![0; bytes];
        header.encode(&mut memory);
        scan(&[memory]).unwrap_err().fault
    };
    for identity in [
        LogIdentity {
            generation: Generation(2),
            ..IDENTITY
        },
        LogIdentity {
            shard: ShardId(1),
            ..IDENTITY
        },
        LogIdentity {
            shard_count: 3,
            ..IDENTITY
        },
    ] {
        let other = SegmentHeader { identity, ..header };
        assert_eq!(refuse(other, SEGMENT_BYTES), LogFault::Elsewhere(other));
    }
    let renamed = SegmentHeader {
        number: SegmentNumber(2),
        ..header
    };
    assert_eq!(refuse(renamed, SEGMENT_BYTES), LogFault::Elsewhere(renamed));
    for bytes in [SEGMENT_BYTES - 8, SEGMENT_BYTES + 8] {
        assert_eq!(
            refuse(header, bytes),
            LogFault::Size {
                found: bytes as u64,
                expected: SEGMENT_BYTES as u64
            }
        );
    }
    let mut newer = vec![0; SEGMENT_BYTES];
    header.encode(&mut newer);
    newer[8] += 1;
    let fault = scan(&[newer]).unwrap_err().fault;
    assert_eq!(
        fault,
        LogFault::Header(HeaderFault::Newer {
            found: LOG_FORMAT_VERSION + 1
        })
    );
    assert!(fault.to_string().contains("later"), "{fault}");
}

#[test]
fn a_whole_record_in_the_wrong_place_is_refused() {
    let record = |frame, position, synced, payload| Record {
        frame,
        position: LogPosition(position),
        synced: LogPosition(synced),
        payload,
    };
    let wrong_successor = 7u64.to_le_bytes();
    let (found, last) = (LogPosition(4), LogPosition(2));
    let cases = [
        (
            record(Frame::Payload(KIND), 4, 0, b"gap".as_slice()),
            LogFault::OutOfOrder { found, last },
        ),
        (
            record(Frame::Payload(KIND), 2, 0, b"twice"),
            LogFault::OutOfOrder { found: last, last },
        ),
        (record(Frame::Mark, 4, 0, &[0; 8]), LogFault::OutOfOrder { found, last }),
        (
            record(Frame::Mark, 2, 0, &[0; 8]),
            LogFault::TermBefore { found: 0, last: 1 },
        ),
        (
            record(Frame::Mark, 2, 3, &[0; 8]),
            LogFault::SyncedAhead {
                synced: LogPosition(3),
                last,
            },
        ),
        (
            record(Frame::Payload(KIND), 3, 3, b"itself"),
            LogFault::SyncedAhead {
                synced: LogPosition(3),
                last,
            },
        ),
        (record(Frame::Seal, 2, 2, &wrong_successor), LogFault::Seal { found: 7 }),
    ];
    for (record, fault) in cases {
        let mut rig = Rig::new();
        rig.writer.begin_term(1);
        rig.append(100);
        rig.append(100);
        let mut cache = rig.cache();
        let (_, end) = scan(&cache).unwrap();
        let salt = SegmentHeader::decode(&cache[0]).unwrap().salt;
        record.encode(&[], salt, &mut cache[0][end.offset..]);
        let at = LogOffset {
            segment: SegmentNumber(1),
            offset: end.offset,
        };
        assert_eq!(scan(&cache), Err(LogDamage { at, fault }));
    }
}

/// A log of the format before, as its own writer has left it: its first segment with payloads, a mark behind them.
fn log_of_the_format_before(payload_count: u64) -> Vec<u8> {
    let version = LOG_FORMAT_VERSION - 1;
    let mut memory = empty_segment(SegmentNumber::FIRST);
    let header = SegmentHeader {
        version,
        ..SegmentHeader::decode(&memory).unwrap()
    };
    header.encode(&mut memory);
    let mut offset = SEGMENT_HEADER_BYTES;
    let mut put = |frame, position, synced, payload: &[u8]| {
        let record = Record {
            frame,
            position: LogPosition(position),
            synced: LogPosition(synced),
            payload,
        };
        record.encode(&[], header.salt, &mut memory[offset..]);
        offset += record.bytes();
    };
    put(Frame::Mark, 0, 0, &[]);
    for position in 1..=payload_count {
        put(
            Frame::Payload(RecordKind::OF_FORMAT_2),
            position,
            0,
            &payload(position, 50),
        );
    }
    put(Frame::Mark, payload_count, payload_count, &[]);
    memory
}

fn records_of(segments: &[Vec<u8>]) -> (Vec<(LogPosition, RecordKind, u64)>, ScanEnd) {
    let mut records = Vec::new();
    let mut scan = LogScan::new(IDENTITY);
    for (number, bytes) in (1..).zip(segments) {
        scan.segment(SegmentNumber(number), bytes, &mut |record| {
            assert_eq!(record.payload, payload(record.position.0, 50));
            records.push((record.position, record.kind, record.term));
            Ok::<(), Infallible>(())
        })
        .unwrap();
    }
    (records, scan.finish().unwrap())
}

#[test]
fn a_log_of_the_format_before_goes_on_in_a_segment_of_this_one() {
    let before = log_of_the_format_before(3);
    let (records, end) = records_of(std::slice::from_ref(&before));
    assert_eq!(
        records,
        [1, 2, 3].map(|at| (LogPosition(at), RecordKind::OF_FORMAT_2, 0))
    );
    assert!(end.is_orderly());
    let mut writer = LogWriter::resume(IDENTITY, before, &end);
    assert_eq!(writer.room_bytes(), 0, "nothing more is written in the format before");
    writer.offer_segment(empty_segment(SegmentNumber(2)));
    assert!(writer.room_bytes() > 0);
    writer.append(KIND, &payload(4, 50));
    let segments = [1, 2].map(|number| writer.segment(SegmentNumber(number)).unwrap().clone());
    let versions = segments
        .each_ref()
        .map(|bytes| SegmentHeader::decode(bytes).unwrap().version);
    assert_eq!(versions, [LOG_FORMAT_VERSION - 1, LOG_FORMAT_VERSION]);
    let (records, end) = records_of(&segments);
    assert_eq!(end.last, LogPosition(4));
    assert_eq!(
        records[2..],
        [(LogPosition(3), RecordKind::OF_FORMAT_2, 0), (LogPosition(4), KIND, 0)]
    );
}

#[test]
fn a_log_of_the_format_before_that_was_torn_is_synced_and_marked_as_it_is() {
    let mut before = log_of_the_format_before(3);
    let (_, end) = records_of(std::slice::from_ref(&before));
    // Without its mark nothing proves the payloads.
    before[end.offset - RECORD_HEADER_BYTES..].fill(0);
    let (_, end) = records_of(std::slice::from_ref(&before));
    assert!(!end.is_orderly());
    let mut writer = LogWriter::resume(IDENTITY, before, &end);
    let plan = writer.begin_final_sync().unwrap();
    writer.sync_done(plan);
    let (_, end) = records_of(std::slice::from_ref(writer.segment(SegmentNumber(1)).unwrap()));
    assert_eq!((end.last, end.proven), (LogPosition(3), LogPosition(3)));
}

#[test]
fn every_record_tells_its_term_wherever_the_log_begins() {
    let mut rig = Rig::new();
    let mut terms = Vec::new();
    for term in [0, 0, 1, 1, 7, 7, 8] {
        rig.offer_spare();
        rig.writer.begin_term(term);
        for _ in 0..12 {
            rig.append(50);
            terms.push(term);
        }
        rig.sync();
    }
    let cache = rig.cache();
    let (records, end) = records_of(&cache);
    assert_eq!(records.iter().map(|&(_, _, term)| term).collect::<Vec<_>>(), terms);
    assert_eq!((end.term, rig.writer.term()), (8, 8));
    assert!(cache.len() > 2, "terms go on in the next segment");
    for first in 2..cache.len() {
        let start = LogStart {
            from: end.last,
            synced: end.last,
        };
        let mut scan = LogScan::behind(IDENTITY, SegmentNumber(first as u64), start);
        for (number, bytes) in (first as u64..).zip(&cache[first - 1..]) {
            scan.segment(SegmentNumber(number), bytes, &mut |_| Ok::<(), Infallible>(()))
                .unwrap();
        }
        assert_eq!(scan.finish().unwrap().term, 8);
    }
    let again = Rig::restart(cache, &rig.payloads, &end);
    assert_eq!(again.writer.term(), 8, "a start goes on in the term that it finds");
}

#[test]
fn room_counts_the_marks_of_what_was_appended_before() {
    for bytes in 0..8 {
        let mut rig = Rig::new();
        rig.writer.append(KIND, &payload(1, 100));
        rig.begin_sync();
        rig.writer.append(KIND, &payload(2, bytes));
        let room = rig.writer.room_bytes();
        let before = rig.writer.segment(SegmentNumber(1)).unwrap().clone();
        rig.sync();
        let after = rig.writer.segment(SegmentNumber(1)).unwrap();
        let marks = before
            .iter()
            .zip(after)
            .rposition(|(before, after)| before != after)
            .unwrap()
            + 1
            - before.iter().rposition(|&byte| byte != 0).unwrap();
        assert!(marks > MARK_BYTES, "two marks");
        rig.writer
            .append(KIND, &payload(3, (room - RECORD_OVERHEAD_BYTES) as usize));
        rig.sync();
    }
}

#[test]
fn a_record_the_caller_refuses_stops_the_scan_there() {
    let mut rig = Rig::new();
    rig.append(10);
    rig.append(10);
    let mut seen = 0;
    let result = LogScan::new(IDENTITY).segment(SegmentNumber(1), &rig.cache()[0], &mut |record| {
        seen += 1;
        if record.position.0 == 1 { Err("no") } else { Ok(()) }
    });
    assert!(matches!(
        result,
        Err(ScanError::Refused {
            position: LogPosition(1),
            error: "no",
            ..
        })
    ));
    assert_eq!(seen, 1);
}

#[test]
fn an_orderly_end_leaves_nothing_to_prove_or_cut() {
    let mut rig = small_log();
    rig.sync();
    while let Some(plan) = rig.writer.begin_final_sync() {
        for range in &plan.ranges {
            let data = &rig.writer.segment(range.segment).unwrap()[range.bytes.clone()];
            rig.durable[range.segment.0 as usize - 1][range.bytes.clone()].copy_from_slice(data);
        }
        rig.writer.sync_done(plan);
    }
    let (found, end) = scan(&rig.durable).unwrap();
    assert_eq!(found, rig.payloads);
    assert!(end.is_orderly());
}

/// A log of two records, a segment that is too small for the third, and one that is large enough.
fn large_log() -> Rig {
    let mut rig = Rig::new();
    rig.append_as_is(100);
    rig.offer_spare_of(SEGMENT_BYTES);
    rig.offer_spare_of(10 * SEGMENT_BYTES);
    rig.append_as_is(200);
    assert!(rig.writer.piece_bytes() > 9 * SEGMENT_BYTES as u64);
    rig.append_as_is(9 * SEGMENT_BYTES);
    rig
}

#[test]
fn a_large_record_passes_a_segment_that_is_too_small() {
    let mut rig = large_log();
    rig.append_as_is(300);
    rig.sync();
    rig.append(SEGMENT_BYTES - 500);
    rig.sync();
    for segments in [rig.cache(), rig.durable.clone()] {
        let (found, end) = scan(&segments).unwrap();
        assert!(found == rig.payloads, "every record, the large one whole");
        assert_eq!(end.segment, SegmentNumber(4), "it is followed by one of the usual size");
        assert_eq!(
            segments[1][SEGMENT_BYTES / 2..],
            [0; SEGMENT_BYTES / 2],
            "it was passed"
        );
        let mut again = Rig::restart(segments, &found, &end);
        again.append(10);
        again.sync();
        assert!(scan(&again.cache()).unwrap().0 == again.payloads);
    }
}

#[test]
fn a_large_record_that_tears_is_cut_and_one_that_was_synced_is_not() {
    let mut rig = large_log();
    let lost = [false, false, true];
    let (found, end) = scan(&power_cut(&rig, &lost)).unwrap();
    assert!(found.len() < 3, "a sector in three is missing");
    let mut again = Rig::restart(power_cut(&rig, &lost), &rig.payloads, &end);
    again.append(500);
    again.sync();
    assert!(scan(&again.cache()).unwrap().0 == again.payloads);
    rig.sync();
    let mut damaged = rig.cache();
    damaged[2][5 * SEGMENT_BYTES] ^= 1;
    let LogFault::LostRecord { position, .. } = scan(&damaged).unwrap_err().fault else {
        panic!("it was acknowledged")
    };
    assert_eq!(position, LogPosition(3));
}

#[test]
#[should_panic(expected = "room_bytes() allows")]
fn an_append_without_room_panics() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        rig.writer.append(KIND, &[1; 1000]);
    }
}

#[test]
#[should_panic(expected = "a torn tail is erased")]
fn a_log_never_goes_on_before_its_torn_tail_is_erased() {
    let mut rig = Rig::new();
    rig.append(10);
    let mut cache = rig.cache();
    cache[0][SEGMENT_BYTES - 1] = 1;
    let (_, end) = scan(&cache).unwrap();
    assert_eq!(end.torn_bytes, (SEGMENT_BYTES - end.offset) as u64);
    let _ = LogWriter::resume(IDENTITY, cache.swap_remove(0), &end);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_killed_process_loses_no_appended_record(actions in actions()) {
        let mut rig = Rig::new();
        rig.run(&actions);
        let (found, end) = scan(&rig.cache()).unwrap();
        prop_assert_eq!(&found, &rig.payloads);
        prop_assert_eq!(end.proven, rig.writer.synced(), "the file proves what was acknowledged");
        prop_assert_eq!(end.torn_bytes, 0);
    }

    /// Any sectors stored since the last sync may be on disk, and none has to be.
    #[test]
    fn a_power_cut_loses_no_synced_record_and_a_cut_tail_never_comes_back(
        before in actions(), after in actions(), lost in proptest::collection::vec(any::<bool>(), 400),
        lost_again in proptest::collection::vec(any::<bool>(), 400),
    ) {
        let mut rig = Rig::new();
        rig.run(&before);
        let synced = rig.writer.synced();
        let disk = power_cut(&rig, &lost);
        let (found, end) = scan(&disk).map_err(|damage| TestCaseError::fail(format!("{damage}")))?;
        assert_holds(&found, &rig.payloads, synced, "first cut");

        let mut rig = Rig::restart(disk, &rig.payloads, &end);
        // Payloads are told by position alone: make those written now differ from those lost.
        rig.run(&after.iter().map(|action| match action {
            Action::Append(bytes) => Action::Append(bytes + 1),
            other => other.clone(),
        }).collect::<Vec<_>>());
        let (found, _) = scan(&rig.cache()).map_err(|damage| TestCaseError::fail(format!("{damage}")))?;
        prop_assert_eq!(&found, &rig.payloads);

        let disk = power_cut(&rig, &lost_again);
        let (found, _) = scan(&disk).map_err(|damage| TestCaseError::fail(format!("{damage}")))?;
        assert_holds(&found, &rig.payloads, rig.writer.synced().max(end.last), "second cut");
    }

    /// Recovery reads what the process saw, and only part of that may be on disk, in pages that no sync writes any more.
    #[test]
    fn what_is_written_again_is_all_that_may_be_missing(
        actions in actions(), lost in proptest::collection::vec(any::<bool>(), 400),
    ) {
        let mut rig = Rig::new();
        rig.run(&actions);
        let cache = rig.cache();
        let (_, end) = scan(&cache).unwrap();
        let mut disk = power_cut(&rig, &lost);
        if let Some(from) = end.unproven_from {
            for segment in from.segment.0..=end.segment.0 {
                let index = segment as usize - 1;
                let start = if segment == from.segment.0 { from.offset } else { 0 };
                let end = if segment == end.segment.0 { end.offset } else { SEGMENT_BYTES };
                disk[index][start..end].copy_from_slice(&cache[index][start..end]);
            }
        }
        let (found, again) = scan(&disk).unwrap();
        prop_assert_eq!(found, rig.payloads);
        prop_assert_eq!((again.segment, again.offset, again.proven), (end.segment, end.offset, end.proven));
    }

    /// Erasing is not atomic either: a crash within it leaves any part of the tail.
    #[test]
    fn a_crash_while_the_tail_is_erased_changes_nothing(
        before in actions(), lost in proptest::collection::vec(any::<bool>(), 400),
        erased in proptest::collection::vec(any::<bool>(), 400),
    ) {
        let mut rig = Rig::new();
        rig.run(&before);
        let mut disk = power_cut(&rig, &lost);
        let (found, end) = scan(&disk).unwrap();
        let mut erased = erased.iter().cycle();
        let last = &mut disk[end.segment.0 as usize - 1];
        for sector in (end.offset / SECTOR_BYTES)..last.len() / SECTOR_BYTES {
            if *erased.next().expect("endless") {
                last[end.offset.max(sector * SECTOR_BYTES)..(sector + 1) * SECTOR_BYTES].fill(0);
            }
        }
        let (again, end_again) = scan(&disk).unwrap();
        prop_assert_eq!(found, again);
        prop_assert_eq!((end.segment, end.offset, end.last), (end_again.segment, end_again.offset, end_again.last));
    }

    #[test]
    fn appends_within_the_room_always_fit(
        before in actions(), sizes in proptest::collection::vec(0usize..1500, 1..60), syncs in any::<u64>(),
        with_spare: bool,
    ) {
        let mut rig = Rig::new();
        rig.run(&before);
        if with_spare {
            rig.offer_spare();
        }
        let mut room = rig.writer.room_bytes();
        for (index, bytes) in sizes.into_iter().enumerate() {
            let Some(rest) = room.checked_sub(bytes as u64 + RECORD_OVERHEAD_BYTES) else { continue };
            room = rest;
            rig.writer.append(KIND, &payload(1, bytes));
            // As many marks as can be.
            if syncs >> (index % 64) & 1 == 1 {
                rig.finish_sync();
                rig.begin_sync();
                rig.finish_sync();
                rig.begin_sync();
            }
        }
        rig.finish_sync();
        rig.sync();
    }

    #[test]
    fn a_large_record_fits_its_piece_and_leaves_the_rest_of_it(
        before in actions(), spares in proptest::collection::vec(1usize..8, 0..4),
        sizes in proptest::collection::vec(0usize..1500, 0..40), large_at in 0usize..40, kept in 0u64..3000, syncs: u64,
    ) {
        let mut rig = Rig::new();
        rig.run(&before);
        for segments in spares {
            rig.offer_spare_of(segments * SEGMENT_BYTES);
        }
        // As who appends counts.
        let (mut room, mut piece) = (rig.writer.room_bytes(), rig.writer.piece_bytes());
        prop_assert!(piece <= room);
        for (index, bytes) in sizes.into_iter().enumerate() {
            let is_large = index == large_at;
            let bytes = if is_large { piece.saturating_sub(kept + RECORD_OVERHEAD_BYTES) as usize } else { bytes };
            let cost = bytes as u64 + RECORD_OVERHEAD_BYTES;
            if cost > if is_large { piece } else { room } {
                continue;
            }
            (room, piece) = (room.saturating_sub(cost), piece.saturating_sub(cost));
            if is_large {
                room = room.min(piece);
            }
            rig.append_as_is(bytes);
            prop_assert!(rig.writer.piece_bytes() >= piece);
            if syncs >> (index % 64) & 1 == 1 {
                rig.sync();
            }
        }
        rig.sync();
        prop_assert!(scan(&rig.cache()).unwrap().0 == rig.payloads);
    }

    #[test]
    fn an_empty_spare_is_room_for_the_largest_payload(before in actions()) {
        let mut rig = Rig::new();
        rig.run(&before);
        rig.offer_spare();
        let largest = rig.writer.payload_bytes_max();
        prop_assert!(rig.writer.room_bytes() >= largest as u64 + RECORD_OVERHEAD_BYTES);
        rig.append(largest);
    }
}
