//! A writer on a simulated disk, for the tests.

use std::convert::Infallible;

use proptest::prelude::*;

use super::super::*;
use cartwright_core::ids::{RecordKind, ShardId};
use cartwright_core::journal::Journal;

pub const SEGMENT_BYTES: usize = SEGMENT_BYTES_MIN as usize;

pub const IDENTITY: LogIdentity = LogIdentity {
    generation: Generation(1),
    shard: ShardId(0),
    shard_count: 2,
};

pub const KIND: RecordKind = RecordKind {
    book: 1,
    kind: 2,
    version: 3,
};

/// What a disk tears: it writes whole sectors, in any order.
pub const SECTOR_BYTES: usize = 512;

pub fn empty_segment(number: SegmentNumber) -> Vec<u8> {
    empty_segment_of(number, SEGMENT_BYTES)
}

pub fn empty_segment_of(number: SegmentNumber, bytes: usize) -> Vec<u8> {
    let mut memory = vec![0; bytes];
    let salt = Salt(number.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    SegmentHeader {
        version: LOG_FORMAT_VERSION,
        identity: IDENTITY,
        number,
        segment_bytes: bytes as u64,
        salt,
    }
    .encode(&mut memory);
    memory
}

pub fn payload(position: u64, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (position as usize * 31 + at * 7 + 1) as u8)
        .collect()
}

/// A writer, the disk under it, and what it was told.
#[derive(Debug)]
pub struct Rig {
    pub writer: LogWriter<Vec<u8>>,
    /// Retired segments, ascending.
    pub retired: Vec<Vec<u8>>,
    /// Each segment as far as syncs have made it durable.
    pub durable: Vec<Vec<u8>>,
    /// Every payload, by position - 1.
    pub payloads: Vec<Vec<u8>>,
    pub outstanding: Option<(SyncPlan, Vec<Vec<u8>>)>,
}

impl Rig {
    pub fn new() -> Self {
        let first = empty_segment(SegmentNumber::FIRST);
        Self {
            durable: vec![first.clone()],
            writer: LogWriter::create(IDENTITY, first),
            retired: Vec::new(),
            payloads: Vec::new(),
            outstanding: None,
        }
    }

    pub fn offer_spare(&mut self) {
        if let Some(number) = self.writer.wants_segment() {
            let spare = empty_segment(number);
            self.durable.push(spare.clone());
            self.writer.offer_segment(spare);
        }
    }

    /// One more spare segment, whether or not there is one.
    pub fn offer_spare_of(&mut self, bytes: usize) {
        let spare = empty_segment_of(self.writer.next_segment(), bytes);
        self.durable.push(spare.clone());
        self.writer.offer_segment(spare);
    }

    pub fn append(&mut self, bytes: usize) {
        self.offer_spare();
        self.append_as_is(bytes);
    }

    /// Appends without offering a spare segment.
    pub fn append_as_is(&mut self, bytes: usize) {
        let payload = payload(self.payloads.len() as u64 + 1, bytes);
        let position = self.writer.append(KIND, &payload);
        self.payloads.push(payload);
        assert_eq!(position.0, self.payloads.len() as u64, "positions have no gaps");
    }

    pub fn begin_sync(&mut self) {
        let Some(plan) = self.writer.begin_sync() else { return };
        let data = plan
            .ranges
            .iter()
            .map(|range| self.writer.segment(range.segment).expect("in the plan")[range.bytes.clone()].to_vec())
            .collect();
        self.outstanding = Some((plan, data));
    }

    pub fn finish_sync(&mut self) {
        let Some((plan, data)) = self.outstanding.take() else {
            return;
        };
        for (range, data) in plan.ranges.iter().zip(data) {
            self.durable[range.segment.0 as usize - 1][range.bytes.clone()].copy_from_slice(&data);
        }
        self.writer.sync_done(plan);
        self.retired.extend(self.writer.take_retired());
    }

    pub fn sync(&mut self) {
        self.finish_sync();
        self.begin_sync();
        self.finish_sync();
    }

    /// Every segment as the process sees it: what a SIGKILL leaves.
    pub fn cache(&self) -> Vec<Vec<u8>> {
        let mut cache = self.retired.clone();
        while let Some(memory) = self.writer.segment(SegmentNumber(cache.len() as u64 + 1)) {
            cache.push(memory.clone());
        }
        cache.extend(self.durable[cache.len()..].iter().cloned());
        cache
    }

    pub fn run(&mut self, actions: &[Action]) {
        for action in actions {
            match *action {
                Action::Append(bytes) => self.append(bytes),
                Action::BeginSync => self.begin_sync(),
                Action::FinishSync => self.finish_sync(),
            }
        }
    }

    /// Goes on after a restart, as storage does it: cut, erase, remove what follows.
    pub fn restart(mut segments: Vec<Vec<u8>>, payloads: &[Vec<u8>], end: &ScanEnd) -> Self {
        segments.truncate(end.segment.0 as usize);
        let mut current = segments.pop().expect("a log has a segment");
        current[end.offset..].fill(0);
        let mut durable = segments.clone();
        durable.push(current.clone());
        Self {
            writer: LogWriter::resume(IDENTITY, current, end),
            retired: segments,
            durable,
            payloads: payloads[..end.last.0 as usize].to_vec(),
            outstanding: None,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Action {
    Append(usize),
    BeginSync,
    FinishSync,
}

pub fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0usize..200).prop_map(Action::Append),
        1 => (1000usize..3000).prop_map(Action::Append),
        2 => Just(Action::BeginSync),
        2 => Just(Action::FinishSync),
    ]
}

pub fn actions() -> impl Strategy<Value = Vec<Action>> {
    proptest::collection::vec(action(), 0..80)
}

pub fn scan(segments: &[Vec<u8>]) -> Result<(Vec<Vec<u8>>, ScanEnd), LogDamage> {
    let mut scan = LogScan::new(IDENTITY);
    let mut payloads = Vec::new();
    for (index, bytes) in segments.iter().enumerate() {
        scan.segment(SegmentNumber(index as u64 + 1), bytes, &mut |record| {
            payloads.push(record.payload.to_vec());
            assert_eq!((record.position.0, record.kind), (payloads.len() as u64, KIND));
            Ok::<(), Infallible>(())
        })
        .map_err(|error| match error {
            ScanError::Damage(damage) => damage,
            ScanError::Refused { error, .. } => match error {},
        })?;
    }
    let end = scan.finish()?;
    assert_eq!(end.last.0, payloads.len() as u64);
    Ok((payloads, end))
}

/// The disk after a power cut: what is durable, and of what was stored since the sectors that are not `lost`.
pub fn power_cut(rig: &Rig, lost: &[bool]) -> Vec<Vec<u8>> {
    let mut lost = lost.iter().cycle();
    let mut disk = rig.durable.clone();
    for (disk, cache) in disk.iter_mut().zip(rig.cache()) {
        for (disk, cache) in disk.chunks_mut(SECTOR_BYTES).zip(cache.chunks(SECTOR_BYTES)) {
            if disk != cache && !lost.next().expect("endless") {
                disk.copy_from_slice(cache);
            }
        }
    }
    disk
}
