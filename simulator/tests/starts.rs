//! A start that is interrupted at each of its operations on the disk in turn, rather than at those that chance picks.

use std::path::Path;

use cartwright::config::SyncMode;
use cartwright::engine::EngineLimits;
use cartwright::log::{DataDirectory, SEGMENT_BYTES_MIN};
use cartwright::runtime::prepare::{Shape, prepare};
use cartwright::runtime::recovery::Progress;
use cartwright_simulator::disk::{Crash, Disk, ROOT};
use cartwright_simulator::random::Random;

/// Starts a server of so many shards and has it end again; tells whether it was interrupted before it would have served.
fn start(disk: &Disk, shard_count: u16, fuse: Option<u64>) -> bool {
    disk.set_faults(fuse, None);
    let shape = Shape {
        shard_count,
        segment_bytes: SEGMENT_BYTES_MIN,
        limits: EngineLimits::default(),
        sync: SyncMode::Always,
    };
    let opened = DataDirectory::open_in(disk.clone(), Path::new(ROOT));
    let prepared = opened
        .map_err(|error| error.to_string())
        .and_then(|mut data| prepare(&mut data, &shape, &Progress::default()).map_err(|error| error.to_string()));
    let is_interrupted = disk.is_gone();
    assert!(is_interrupted || prepared.is_ok(), "{:?}", prepared.err());
    disk.end_process();
    is_interrupted
}

/// The power goes; what was listed before must be listed still.
fn generations_left(disk: &Disk) -> usize {
    disk.crash(Crash::PowerCut(0), &mut Random::new(0));
    let data = DataDirectory::open_read_only_in(disk.clone(), Path::new(ROOT));
    data.expect("what a whole start has made stays")
        .manifest()
        .generations
        .len()
}

#[test]
fn a_first_start_may_be_interrupted_anywhere_and_the_next_one_makes_all_of_it_durable() {
    let mut random = Random::new(1);
    for fuse in 0.. {
        let disk = Disk::new(Random::new(fuse));
        let is_interrupted = start(&disk, 2, Some(fuse));
        disk.crash(Crash::Kill, &mut random);
        assert!(!start(&disk, 2, None));
        assert_eq!(generations_left(&disk), 1, "interrupted after {fuse} operations");
        if !is_interrupted {
            assert!(fuse > 50, "a start is only {fuse} operations");
            return;
        }
    }
}

#[test]
fn a_start_with_another_number_of_shards_may_be_interrupted_anywhere_by_a_power_cut() {
    let before = Disk::new(Random::new(1));
    assert!(!start(&before, 3, None));
    before.crash(Crash::Kill, &mut Random::new(0));
    for fuse in 0.. {
        let disk = before.fork();
        let is_interrupted = start(&disk, 2, Some(fuse));
        disk.crash(Crash::PowerCut(500), &mut Random::new(fuse));
        assert!(!start(&disk, 2, None));
        assert_eq!(generations_left(&disk), 2, "interrupted after {fuse} operations");
        if !is_interrupted {
            return;
        }
    }
}
