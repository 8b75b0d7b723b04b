//! From a locked data directory to shards that may serve: recovery, decisions, a new incarnation, logs to go on in.
//!
//! Runs on any [`Files`]: the simulator interrupts it at each operation on its disk, and starts again.

use super::checkpointing::CheckpointPast;
use super::partition::Partition;
use super::recovery::{FoundCheckpoints, Progress, Recovered, RecoveryTotals, identities, recover, total_counts};
use super::start_error::StartError;
use crate::config::SyncMode;
use crate::engine::recovery::{Resolved, repartition, resolve, start, start_bytes};
use crate::engine::{Counts, EngineLimits, LogPosition, Shard, Timestamp};
use crate::log::{
    CheckpointDirectory, DataDirectory, Files, GenerationEntry, LogRecord, LogStart, LogWriter, MappedSegment,
    RecoveredLog, SegmentFactory, StorageError, SystemFiles, open_log,
};

/// What the shards are to be like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many there are.
    pub shard_count: u16,
    /// Bytes of a new segment.
    pub segment_bytes: u64,
    /// The engine's bounds.
    pub limits: EngineLimits,
    /// When answers may leave.
    pub sync: SyncMode,
}

/// Shards and logs, ready to serve; what there is one of for each shard is in their order.
pub struct Prepared<F: Files = SystemFiles> {
    /// The shards with their logs, all of which is synced.
    pub partitions: Vec<Partition<MappedSegment<F>>>,
    /// What makes their further segments.
    pub factories: Vec<SegmentFactory<F>>,
    /// What is known of their checkpoints.
    pub pasts: Vec<CheckpointPast>,
    /// The latest time that any record tells of.
    pub latest: Timestamp,
    /// What all shards hold together.
    pub counts: Counts,
    /// How much was read.
    pub totals: RecoveryTotals,
    /// What became of transactions that were in flight.
    pub resolved: Resolved,
    /// Whether the directory held nothing before.
    pub was_new: bool,
}

/// Recovers, and begins an incarnation: after this everything recovered is on disk, decided, and owned by its shard.
pub fn prepare<F: Files>(
    data: &mut DataDirectory<F>,
    shape: &Shape,
    progress: &Progress,
) -> Result<Prepared<F>, StartError> {
    let Shape {
        shard_count,
        segment_bytes,
        limits,
        sync,
    } = *shape;
    let Recovered {
        mut shards,
        newest,
        mut logs,
        mut checkpoints,
        totals,
    } = recover(data, limits, segment_bytes, progress)?;
    if let Some(newest) = newest {
        tidy_checkpoints(data, newest, &checkpoints)?;
    }
    let mut resolved = totals.resolved;
    let goes_on = newest.is_some_and(|newest| newest.shard_count == shard_count);
    if !goes_on {
        let decided = resolve(&mut shards);
        resolved.committed += decided.committed;
        resolved.aborted += decided.aborted;
        shards = repartition(shards, shard_count, limits);
        for log in logs.drain(..) {
            log.close()?;
        }
    }
    let incarnation = data.begin_incarnation(shard_count, segment_bytes)?;
    assert_eq!(
        incarnation.is_new_generation, !goes_on,
        "the manifest and the recovery agree on the generation"
    );
    if !goes_on {
        let generation = GenerationEntry {
            number: incarnation.generation,
            shard_count,
        };
        for identity in identities(generation) {
            let mut none = |_: LogRecord<'_>| Ok(());
            logs.push(open_log(data, identity, segment_bytes, LogStart::BEGINNING, &mut none)?);
        }
        checkpoints = vec![FoundCheckpoints::default(); shard_count.into()];
    }
    let pasts = logs
        .iter()
        .zip(&checkpoints)
        .map(|(log, found)| {
            let past = CheckpointPast {
                begins: found.used.map_or(LogPosition::ZERO, |used| used.begins),
                checkpoint_bytes: found.used.map_or(0, |used| used.bytes),
                log_bytes: log.replayed_bytes(),
                is_unchanged: !found.is_changed,
                is_wanted: data.manifest().generations.len() > 1,
            };
            (log.end(), past)
        })
        .collect::<Vec<_>>();
    let (mut writers, factories) = open_writers(logs)?;
    for ((shard, writer), factory) in shards.iter().zip(&mut writers).zip(&factories) {
        while writer.room_bytes() < start_bytes(shard) {
            writer.offer_segment(factory.create(writer.next_segment())?);
        }
    }
    let decided = start(&mut shards, incarnation.number, &mut writers);
    resolved.committed += decided.committed;
    resolved.aborted += decided.aborted;
    let synced = data
        .files()
        .in_parallel(writers.iter_mut().collect(), LogWriter::sync_blocking);
    synced.into_iter().collect::<Result<(), _>>()?;
    let pasts = pasts
        .into_iter()
        .zip(&writers)
        .map(|((end, past), writer)| CheckpointPast {
            // More than this start's own record: it has decided something.
            is_unchanged: past.is_unchanged && writer.last() == end.next(),
            ..past
        })
        .collect();
    let latest = shards.iter().map(Shard::latest).max().unwrap_or_default();
    let counts = total_counts(&shards);
    let partitions = shards
        .into_iter()
        .zip(writers)
        .map(|(shard, log)| Partition::new(shard, log, sync))
        .collect();
    let was_new = newest.is_none();
    Ok(Prepared {
        partitions,
        factories,
        pasts,
        latest,
        counts,
        totals,
        resolved,
        was_new,
    })
}

/// Puts damaged checkpoints out of the way, so that none of them counts as one to fall back to, and removes unfinished
/// ones.
fn tidy_checkpoints<F: Files>(
    data: &DataDirectory<F>,
    generation: GenerationEntry,
    found: &[FoundCheckpoints],
) -> Result<(), StorageError> {
    for (identity, found) in identities(generation).zip(found) {
        let directory = CheckpointDirectory::new(data, identity);
        directory.remove_unfinished()?;
        for &begins in &found.damaged {
            directory.set_aside(begins)?;
        }
    }
    Ok(())
}

type Writers<F> = (Vec<LogWriter<MappedSegment<F>>>, Vec<SegmentFactory<F>>);

fn open_writers<F: Files>(logs: Vec<RecoveredLog<F>>) -> Result<Writers<F>, StorageError> {
    let opened: Result<Vec<_>, _> = logs.into_iter().map(RecoveredLog::into_writer).collect();
    Ok(opened?.into_iter().unzip())
}
