//! From the logs on disk to shards in memory: every generation in order, its shards in parallel.
//!
//! Changes nothing on disk: `serve` and `verify` recover alike, and a log that cannot be trusted stays as it was found.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engine::recovery::{Resolved, repartition, resolve};
use crate::engine::{Counts, EngineLimits, LogPosition, RecordError, Shard, ShardId, ShardMap};
use crate::log::{DataDirectory, GenerationEntry, LogError, LogIdentity, RecoveredLog, open_log};

/// How often a long recovery says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// What was recovered.
pub struct Recovered {
    /// The shards of the newest generation, or one empty shard where there is none; what was in flight at the end is
    /// not decided.
    pub shards: Vec<Shard>,
    /// The newest generation.
    pub newest: Option<GenerationEntry>,
    /// Its logs, by shard.
    pub logs: Vec<RecoveredLog>,
    /// Over all generations.
    pub totals: RecoveryTotals,
}

/// How much was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecoveryTotals {
    /// Records replayed.
    pub records: u64,
    /// Bytes of segments.
    pub bytes: u64,
    /// Bytes of torn tails, which are not part of the log.
    pub torn_bytes: u64,
    /// What became of cross-shard transactions that were in flight when an older generation ended.
    pub resolved: Resolved,
}

/// Replays everything that `data` holds.
pub fn recover(
    data: &DataDirectory,
    limits: EngineLimits,
    segment_bytes: u64,
) -> Result<Recovered, LogError<RecordError>> {
    let mut recovered = Recovered {
        shards: vec![Shard::new(ShardId(0), ShardMap::new(1), limits)],
        newest: None,
        logs: Vec::new(),
        totals: RecoveryTotals::default(),
    };
    let records = AtomicU64::new(0);
    for &generation in &data.manifest().generations {
        add(&mut recovered.totals.resolved, resolve(&mut recovered.shards));
        recovered.shards = repartition(recovered.shards, generation.shard_count, limits);
        recovered.logs = with_progress(&records, || {
            replay(data, generation, segment_bytes, &mut recovered.shards, &records)
        })?;
        recovered.newest = Some(generation);
        for log in &recovered.logs {
            recovered.totals.bytes += log.bytes();
            recovered.totals.torn_bytes += log.torn_bytes();
        }
    }
    recovered.totals.records = records.into_inner();
    Ok(recovered)
}

/// What all `shards` hold together.
pub fn total_counts(shards: &[Shard]) -> Counts {
    shards.iter().fold(Counts::default(), |mut total, shard| {
        total += shard.counts();
        total
    })
}

/// Replays one generation, each shard on a thread of its own.
fn replay(
    data: &DataDirectory,
    generation: GenerationEntry,
    segment_bytes: u64,
    shards: &mut [Shard],
    records: &AtomicU64,
) -> Result<Vec<RecoveredLog>, LogError<RecordError>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..generation.shard_count)
            .zip(shards)
            .map(|(number, shard)| {
                let identity = LogIdentity {
                    generation: generation.number,
                    shard: ShardId(number),
                    shard_count: generation.shard_count,
                };
                let mut apply = move |position: LogPosition, payload: &[u8]| {
                    records.fetch_add(1, Ordering::Relaxed);
                    shard.replay(position, payload)
                };
                scope.spawn(move || open_log(data, identity, segment_bytes, &mut apply))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a panic ends the process"))
            .collect()
    })
}

/// Runs `work`, and says how far it is while it takes long.
fn with_progress<T>(records: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reporter = scope.spawn(|| {
            let started = Instant::now();
            let mut said = started;
            while !done.load(Ordering::Acquire) {
                std::thread::park_timeout(PROGRESS_INTERVAL);
                if said.elapsed() >= PROGRESS_INTERVAL {
                    said = Instant::now();
                    let records = records.load(Ordering::Relaxed);
                    tracing::info!("recovering: {records} records after {} s", started.elapsed().as_secs());
                }
            }
        });
        let result = work();
        done.store(true, Ordering::Release);
        reporter.thread().unpark();
        result
    })
}

fn add(total: &mut Resolved, resolved: Resolved) {
    total.committed += resolved.committed;
    total.aborted += resolved.aborted;
}
