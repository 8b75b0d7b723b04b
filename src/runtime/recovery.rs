//! From checkpoints and logs on disk to shards in memory: every generation that is needed, in order, its shards in
//! parallel.
//!
//! A shard begins with its newest checkpoint that can be read, and replays the log behind it. Where a generation's shards
//! all have one, older generations are not needed; a shard without one begins with what the generations before make of
//! its slots.
//!
//! Changes nothing on disk: `serve` and `verify` recover alike, and what cannot be trusted stays as it was found.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::caught::caught;
use crate::engine::recovery::{Resolved, repartition, resolve};
use crate::engine::{
    Counts, EngineLimits, LogPosition, Record, RecordError, RecordKind, Restore, Shard, ShardId, ShardMap,
};
use crate::log::{
    CheckpointDirectory, CheckpointError, CheckpointSummary, DataDirectory, Files, GenerationEntry, LogError,
    LogIdentity, LogRecord, LogStart, RecoveredLog, StorageError, SystemFiles, open_log,
};

/// How often a long recovery says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Why a record or a part of a checkpoint, which is whole, is not applied.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFault {
    /// It is none that this version knows.
    #[error("{0} (nothing was changed; start the version that wrote it, or a later one)")]
    Unknown(#[from] RecordError),
    /// It contradicts what was before it.
    #[error(
        "it contradicts what was before it ({said}). This is a fault of the server that wrote or reads it, not of the \
         disk; nothing was changed. Start the version that wrote it; if that ends alike, keep a copy of the data \
         directory, report this, and go on with one from before"
    )]
    Contradiction {
        /// The assertion that it breaks.
        said: String,
    },
}

/// Applies a record or a part, and tells of a broken assertion as of any other fault.
fn applied<T>(apply: impl FnOnce() -> Result<T, RecordError>) -> Result<T, ReplayFault> {
    match caught(apply) {
        Ok(applied) => Ok(applied?),
        Err(said) => Err(ReplayFault::Contradiction { said }),
    }
}

/// Why nothing could be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A log cannot be read, is damaged, or does not fit its checkpoint.
    #[error(transparent)]
    Log(#[from] LogError<ReplayFault>),
    /// A shard's directory cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A checkpoint was written by another version: not damage, and not to be put out of the way.
    #[error("shard {}: {error}", identity.shard)]
    Version {
        /// Whose.
        identity: LogIdentity,
        /// Which, and what version.
        error: Box<CheckpointError<ReplayFault>>,
    },
    /// No checkpoint can be read, and there is nothing else to begin with.
    #[error("no checkpoint of shard {} can be used, and {lacking}. {damage}. Restore the data directory from a copy", identity.shard)]
    NoCheckpoint {
        /// Whose.
        identity: LogIdentity,
        /// What else could have been begun with.
        lacking: Lacking,
        /// What is wrong with the newest one, or that there is none.
        damage: CheckpointDamage,
    },
}

/// What a shard without a checkpoint would begin with.
#[derive(Debug, thiserror::Error)]
pub enum Lacking {
    /// Its log was truncated.
    #[error("its log no longer tells how it began: {0}")]
    Log(Box<LogError<ReplayFault>>),
    /// Older generations were removed.
    #[error("the logs of earlier numbers of shards were removed when it was written")]
    Generations,
}

/// What is wrong with checkpoints.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointDamage {
    /// There is none.
    #[error("There is no checkpoint file")]
    Missing,
    /// The newest one cannot be read.
    #[error("The newest: {0}")]
    Newest(Box<CheckpointError<ReplayFault>>),
}

/// What was recovered.
pub struct Recovered<F: Files = SystemFiles> {
    /// The shards of the newest generation, or one empty shard where there is none; what was in flight at the end is
    /// not decided.
    pub shards: Vec<Shard>,
    /// The newest generation.
    pub newest: Option<GenerationEntry>,
    /// Its logs, by shard.
    pub logs: Vec<RecoveredLog<F>>,
    /// Its checkpoints, by shard.
    pub checkpoints: Vec<FoundCheckpoints>,
    /// Over all generations.
    pub totals: RecoveryTotals,
}

/// What a shard's checkpoints gave.
#[derive(Clone, Debug, Default)]
pub struct FoundCheckpoints {
    /// The one that the shard began with.
    pub used: Option<CheckpointSummary>,
    /// Newer ones, or all, that cannot be read: where they begin.
    pub damaged: Vec<LogPosition>,
    /// The log behind holds more than starts of the server.
    pub is_changed: bool,
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
    /// Checkpoints that shards began with.
    pub checkpoints: usize,
    /// Their bytes.
    pub checkpoint_bytes: u64,
    /// What became of cross-shard transactions that were in flight when an older generation ended.
    pub resolved: Resolved,
}

/// How far a recovery is.
#[derive(Debug, Default)]
pub struct Progress {
    records: AtomicU64,
    checkpoint_bytes: AtomicU64,
}

/// Recovers everything that `data` holds.
pub fn recover<F: Files>(
    data: &DataDirectory<F>,
    limits: EngineLimits,
    segment_bytes: u64,
    progress: &Progress,
) -> Result<Recovered<F>, RecoveryError> {
    let mut recovered = Recovered {
        shards: vec![Shard::new(ShardId(0), ShardMap::new(1), limits)],
        newest: None,
        logs: Vec::new(),
        checkpoints: Vec::new(),
        totals: RecoveryTotals::default(),
    };
    for (generation, beginnings) in needed(data, limits, progress)? {
        add(&mut recovered.totals.resolved, resolve(&mut recovered.shards));
        let before = repartition(recovered.shards, generation.shard_count, limits);
        let (shards, rest): (Vec<_>, Vec<_>) = before
            .into_iter()
            .zip(beginnings)
            .map(|(before, beginning)| (beginning.shard.unwrap_or(before), (beginning.found, beginning.damage)))
            .unzip();
        recovered.shards = shards;
        recovered.newest = Some(generation);
        let (found, damage) = rest.into_iter().unzip();
        recovered.checkpoints = found;
        recovered.logs = replay(data, generation, segment_bytes, &mut recovered, damage, progress)?;
        for log in &recovered.logs {
            recovered.totals.bytes += log.bytes();
            recovered.totals.torn_bytes += log.torn_bytes();
        }
        for used in recovered.checkpoints.iter().filter_map(|found| found.used) {
            recovered.totals.checkpoints += 1;
            recovered.totals.checkpoint_bytes += used.bytes;
        }
    }
    recovered.totals.records = progress.records.load(Ordering::Relaxed);
    Ok(recovered)
}

/// What all `shards` hold together.
pub fn total_counts(shards: &[Shard]) -> Counts {
    shards.iter().fold(Counts::default(), |mut total, shard| {
        total += shard.counts();
        total
    })
}

/// The logs of one generation.
pub fn identities(generation: GenerationEntry) -> impl Iterator<Item = LogIdentity> {
    ShardMap::new(generation.shard_count)
        .shards()
        .map(move |shard| LogIdentity {
            generation: generation.number,
            shard,
            shard_count: generation.shard_count,
        })
}

/// What a shard begins with.
struct Beginning {
    /// As restored from a checkpoint.
    shard: Option<Shard>,
    found: FoundCheckpoints,
    /// Without a usable checkpoint, why.
    damage: Option<CheckpointDamage>,
}

/// The generations that are needed, oldest first, each with what its shards begin with.
fn needed<F: Files>(
    data: &DataDirectory<F>,
    limits: EngineLimits,
    progress: &Progress,
) -> Result<Vec<(GenerationEntry, Vec<Beginning>)>, RecoveryError> {
    let mut needed = Vec::new();
    for &generation in data.manifest().generations.iter().rev() {
        let restore = |identity| restore(data, identity, limits, progress);
        let beginnings = data.files().in_parallel(identities(generation).collect(), restore);
        let beginnings: Vec<_> = beginnings.into_iter().collect::<Result<_, _>>()?;
        let is_whole = beginnings.iter().all(|beginning| beginning.shard.is_some());
        needed.push((generation, beginnings));
        if is_whole {
            needed.reverse();
            return Ok(needed);
        }
    }
    if !data.manifest().begins_with_nothing()
        && let Some((generation, beginnings)) = needed.pop()
    {
        let (identity, beginning) = identities(generation)
            .zip(beginnings)
            .find(|(_, beginning)| beginning.shard.is_none())
            .expect("a whole generation ends the search");
        return Err(RecoveryError::NoCheckpoint {
            identity,
            lacking: Lacking::Generations,
            damage: beginning.damage.unwrap_or(CheckpointDamage::Missing),
        });
    }
    needed.reverse();
    Ok(needed)
}

/// Restores a shard from its newest checkpoint that can be read.
fn restore<F: Files>(
    data: &DataDirectory<F>,
    identity: LogIdentity,
    limits: EngineLimits,
    progress: &Progress,
) -> Result<Beginning, RecoveryError> {
    let directory = CheckpointDirectory::new(data, identity);
    let mut found = FoundCheckpoints::default();
    let mut newest_damage = None;
    for begins in directory.list()? {
        let mut restore = Restore::new(identity.shard, ShardMap::new(identity.shard_count), begins);
        let mut on_part = |kind: RecordKind, part: &[u8]| {
            progress
                .checkpoint_bytes
                .fetch_add(part.len() as u64, Ordering::Relaxed);
            applied(|| restore.part(kind, part))
        };
        match directory.read(begins, &mut on_part) {
            Ok(summary) => {
                found.used = Some(summary);
                return Ok(Beginning {
                    shard: Some(restore.finish(limits)),
                    found,
                    damage: None,
                });
            }
            Err(error @ CheckpointError::Version { .. }) => {
                let error = Box::new(error);
                return Err(RecoveryError::Version { identity, error });
            }
            Err(error) => {
                tracing::error!(
                    shard = %identity.shard,
                    "{error}. An older checkpoint, or the log, is used in its place; if that is whole, nothing is lost. \
                     Check the disk"
                );
                found.damaged.push(begins);
                newest_damage.get_or_insert_with(|| Box::new(error));
            }
        }
    }
    Ok(Beginning {
        shard: None,
        found,
        damage: Some(newest_damage.map_or(CheckpointDamage::Missing, CheckpointDamage::Newest)),
    })
}

/// Replays the logs of one generation, each shard on a thread of its own.
fn replay<F: Files>(
    data: &DataDirectory<F>,
    generation: GenerationEntry,
    segment_bytes: u64,
    recovered: &mut Recovered<F>,
    damage: Vec<Option<CheckpointDamage>>,
    progress: &Progress,
) -> Result<Vec<RecoveredLog<F>>, RecoveryError> {
    let shards = recovered.shards.iter_mut().zip(&mut recovered.checkpoints);
    let work: Vec<_> = identities(generation).zip(shards).zip(damage).collect();
    let replayed = data.files().in_parallel(work, |((identity, (shard, found)), damage)| {
        let start = found.used.map_or(LogStart::BEGINNING, |used| LogStart {
            from: used.begins,
            synced: used.ends,
        });
        let is_changed = &mut found.is_changed;
        let mut apply = |record: LogRecord<'_>| {
            let LogRecord {
                position,
                kind,
                payload,
                ..
            } = record;
            progress.records.fetch_add(1, Ordering::Relaxed);
            // Decoded twice only up to the first change.
            *is_changed = *is_changed || !matches!(Record::decode(position, kind, payload), Ok(Record::Started { .. }));
            applied(|| shard.replay(position, kind, payload))
        };
        open_log(data, identity, segment_bytes, start, &mut apply).map_err(|error| {
            match (damage, error.is_truncated()) {
                (Some(damage), true) => RecoveryError::NoCheckpoint {
                    identity,
                    lacking: Lacking::Log(Box::new(error)),
                    damage,
                },
                _ => error.into(),
            }
        })
    });
    replayed.into_iter().collect()
}

/// Runs `work`, which recovers, and says how far it is while it takes long.
pub fn with_progress<T>(work: impl FnOnce(&Progress) -> T) -> T {
    let progress = Progress::default();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reporter = scope.spawn(|| {
            let started = Instant::now();
            let mut said = started;
            while !done.load(Ordering::Acquire) {
                std::thread::park_timeout(PROGRESS_INTERVAL);
                if said.elapsed() >= PROGRESS_INTERVAL {
                    said = Instant::now();
                    tracing::info!(
                        "recovering: {} MiB of checkpoints and {} records of the log after {} s",
                        progress.checkpoint_bytes.load(Ordering::Relaxed) >> 20,
                        progress.records.load(Ordering::Relaxed),
                        started.elapsed().as_secs()
                    );
                }
            }
        });
        let result = work(&progress);
        done.store(true, Ordering::Release);
        reporter.thread().unpark();
        result
    })
}

fn add(total: &mut Resolved, resolved: Resolved) {
    total.committed += resolved.committed;
    total.aborted += resolved.aborted;
}
