//! Checkpoints of all shards on disk: writes them as they are ordered, and removes what they stand for.
//!
//! Owns the data directory while the server runs: once every shard of the newest generation has a checkpoint, the older
//! generations go. Touches nothing but files; the checkpoint maker's thread drives it, and the simulator.

use std::time::{Duration, Instant};

use super::checkpointing::{CheckpointOrder, CheckpointPast};
use crate::engine::mutation::{Mutation, is_on};
use crate::engine::{LogPosition, ShardId};
use crate::log::{
    CHECKPOINTS_KEPT, CheckpointDirectory, CheckpointWriter, DataDirectory, Files, LogIdentity, PART_BYTES_MAX,
    StorageError, SystemFiles, truncate_log,
};

/// What carrying out an order came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing that takes long.
    Quickly,
    /// It synced, which took so long.
    Synced(Duration),
    /// The checkpoint stands, with so many bytes.
    Published {
        /// Of its file.
        bytes: u64,
    },
}

/// See the module's text.
#[derive(Debug)]
pub struct CheckpointKeeper<F: Files = SystemFiles> {
    data: DataDirectory<F>,
    shards: Vec<Keeping<F>>,
    /// Files of generations that are not listed any more may be left.
    has_leftovers: bool,
}

#[derive(Debug)]
struct Keeping<F: Files> {
    directory: CheckpointDirectory<F>,
    /// `None` also after a failure, until the next one begins.
    writing: Option<Writing<F>>,
    has_one: bool,
}

#[derive(Debug)]
struct Writing<F: Files> {
    writer: CheckpointWriter<F>,
    begins: LogPosition,
    began: Instant,
}

impl<F: Files> CheckpointKeeper<F> {
    /// For the shards with these logs, of which a start has found `pasts`.
    pub fn new(data: DataDirectory<F>, logs: impl Iterator<Item = LogIdentity>, pasts: &[CheckpointPast]) -> Self {
        let keeping = |(identity, past): (LogIdentity, &CheckpointPast)| Keeping {
            directory: CheckpointDirectory::new(&data, identity),
            writing: None,
            has_one: past.checkpoint_bytes > 0,
        };
        let shards = logs.zip(pasts).map(keeping).collect();
        Self {
            data,
            shards,
            has_leftovers: false,
        }
    }

    /// How many shards it serves.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Carries out an order of `shard`. After an error the checkpoint under way is given up, and the rest of its orders
    /// does nothing.
    pub fn carry_out(&mut self, shard: ShardId, order: &CheckpointOrder) -> Result<Done, StorageError> {
        let keeping = &mut self.shards[shard.index()];
        let result = keeping.carry_out(order);
        match result {
            Ok((done, None)) => Ok(done),
            Ok((done, Some(published))) => {
                keeping.has_one = true;
                self.clear_up(shard, &published);
                Ok(done)
            }
            Err(error) => {
                keeping.writing = None;
                Err(error)
            }
        }
    }

    /// Removes what the checkpoints kept stand for. The log stays from the older one on, so that it can take the place
    /// of a damaged newer one.
    fn clear_up(&mut self, shard: ShardId, published: &Published) {
        let directory = &self.shards[shard.index()].directory;
        match remove_superfluous(&self.data, directory) {
            Ok(log_bytes) => tracing::info!(
                %shard,
                "checkpoint at position {}: {} KiB in {} ms; {} MiB of log removed",
                published.begins,
                published.bytes >> 10,
                published.began.elapsed().as_millis(),
                log_bytes >> 20,
            ),
            Err(error) => tracing::error!(%shard, "the checkpoint stands, but what it replaces stays: {error}"),
        }
        let has_older = self.data.manifest().generations.len() > 1;
        let are_superfluous = has_older && self.shards.iter().all(|keeping| keeping.has_one) && self.are_readable();
        if are_superfluous || self.has_leftovers {
            let dropped = self.data.drop_older_generations();
            // Where the manifest could not be written it lists them still.
            self.has_leftovers = dropped.is_err() && self.data.manifest().generations.len() == 1;
            match dropped {
                Ok(_) => tracing::info!("removed the logs of earlier numbers of shards"),
                Err(error) => tracing::error!("cannot remove the logs of earlier numbers of shards: {error}"),
            }
        }
    }

    /// Reads the newest checkpoint of every shard back: without older generations there is nothing else to go by.
    fn are_readable(&self) -> bool {
        self.shards.iter().all(|keeping| {
            let newest = keeping.directory.list().ok().and_then(|list| list.first().copied());
            let read = newest.map(|begins| {
                keeping
                    .directory
                    .read(begins, &mut |_, _| Ok::<_, std::convert::Infallible>(()))
            });
            match read {
                Some(Ok(_)) => true,
                Some(Err(error)) => {
                    tracing::error!("{error}; the logs of earlier numbers of shards are kept");
                    false
                }
                None => false,
            }
        })
    }
}

/// Removes checkpoints beyond those kept, and the log before the oldest; returns how many bytes of log.
fn remove_superfluous<F: Files>(
    data: &DataDirectory<F>,
    directory: &CheckpointDirectory<F>,
) -> Result<u64, StorageError> {
    directory.remove_old()?;
    let mut list = directory.list()?;
    if is_on(Mutation::TruncateBehindNewest) && list.len() == CHECKPOINTS_KEPT {
        list.reverse();
    }
    match list.get(CHECKPOINTS_KEPT - 1) {
        Some(&oldest) => Ok(truncate_log(data, directory.identity(), oldest)?.bytes),
        None => Ok(0),
    }
}

/// A checkpoint that stands.
struct Published {
    begins: LogPosition,
    bytes: u64,
    began: Instant,
}

impl<F: Files> Keeping<F> {
    fn carry_out(&mut self, order: &CheckpointOrder) -> Result<(Done, Option<Published>), StorageError> {
        match (order, &mut self.writing) {
            (&CheckpointOrder::Begin { begins }, _) => {
                // One given up is removed before.
                self.writing = None;
                self.writing = Some(Writing {
                    writer: self.directory.create(begins)?,
                    begins,
                    began: Instant::now(),
                });
            }
            (CheckpointOrder::Part(kind, part), Some(writing)) => {
                if part.len() > PART_BYTES_MAX as usize {
                    return Err(writing.writer.too_large(part.len()));
                }
                let synced = writing.writer.part(*kind, part)?;
                return Ok((synced.map_or(Done::Quickly, Done::Synced), None));
            }
            (&CheckpointOrder::Close { ends }, Some(writing)) => writing.writer.close(ends)?,
            (CheckpointOrder::Publish, _) => {
                if let Some(writing) = self.writing.take() {
                    let bytes = writing.writer.publish()?;
                    let published = Published {
                        begins: writing.begins,
                        bytes,
                        began: writing.began,
                    };
                    return Ok((Done::Published { bytes }, Some(published)));
                }
            }
            // The rest of one that was given up.
            (CheckpointOrder::Part(..) | CheckpointOrder::Close { .. }, None) => {}
        }
        Ok((Done::Quickly, None))
    }
}
