//! Writes checkpoints to their files in the background, removes what they stand for, and tells the shards.
//!
//! One thread for all shards, since they share the disk. It does what [`super::checkpointing`] orders, in order; what is
//! on its way to it is bounded by [`IN_FLIGHT_BYTES_MAX`]. It owns the data directory while the server runs: once every
//! shard of the newest generation has a checkpoint, the older generations go.
//!
//! Nothing that fails here ends the process: a checkpoint is given up, which loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::checkpointing::CheckpointOrder;
use super::shared::Shared;
use crate::engine::{LogPosition, ShardId};
use crate::log::{
    CHECKPOINTS_KEPT, CheckpointDirectory, CheckpointWriter, DataDirectory, PART_BYTES_MAX, StorageError, truncate_log,
};
use crate::net::Cause;

/// Parts that all shards together may have on their way to the disk, in bytes; each shard may go over its share by one
/// part.
pub const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;

/// Smallest share of a shard in [`IN_FLIGHT_BYTES_MAX`].
const IN_FLIGHT_BYTES_MIN: usize = 256 << 10;

/// Of the thread: between 0, a shard's own, and 19.
const NICENESS: i32 = 10;

/// How long the disk is left to the logs after some of a checkpoint was written, as a multiple of what that took, and at
/// most: a disk that stood still for once is not rested from for as long again.
const DISK_REST: u32 = 3;
const DISK_REST_MAX: Duration = Duration::from_millis(50);

/// What has become of a checkpoint.
#[derive(Debug)]
pub enum CheckpointNews {
    /// It stands, with so many bytes.
    Published {
        /// Of its file.
        bytes: u64,
    },
    /// It was given up; the server's own log says why.
    Failed,
}

/// What a shard and the maker share.
#[derive(Debug)]
struct Line {
    in_flight_bytes: AtomicUsize,
    in_flight_bytes_max: usize,
    /// Set by the maker after it has sent, before it rings.
    has_news: AtomicBool,
}

/// The thread. Ends when all shards' orders are dropped.
pub struct CheckpointMaker {
    orders: Sender<(ShardId, CheckpointOrder)>,
    lines: Vec<Arc<Line>>,
    ends: Vec<Option<ShardEnd>>,
    thread: JoinHandle<()>,
}

/// A shard's end of what comes back from the maker.
struct ShardEnd {
    news: Receiver<CheckpointNews>,
    /// Of parts that were written. To take memory that another thread gives back would at times cost the shard
    /// milliseconds in the allocator.
    buffers: Receiver<Vec<u8>>,
}

/// One shard's way to the maker.
pub struct CheckpointOrders {
    shard: ShardId,
    orders: Sender<(ShardId, CheckpointOrder)>,
    line: Arc<Line>,
    end: ShardEnd,
}

impl CheckpointMaker {
    /// Starts the thread, for the shards whose checkpoints lie in `directories`; `have` tells which of them have one.
    pub fn start(
        data: DataDirectory,
        directories: Vec<CheckpointDirectory>,
        have: Vec<bool>,
        shared: Arc<Shared>,
    ) -> std::io::Result<Self> {
        let share = (IN_FLIGHT_BYTES_MAX / directories.len()).max(IN_FLIGHT_BYTES_MIN);
        let line = |_| {
            Arc::new(Line {
                in_flight_bytes: AtomicUsize::new(0),
                in_flight_bytes_max: share,
                has_news: AtomicBool::new(false),
            })
        };
        let lines: Vec<_> = directories.iter().map(line).collect();
        let channels = || {
            let ((tell, news), (give_back, buffers)) = (channel(), channel());
            ((tell, give_back), Some(ShardEnd { news, buffers }))
        };
        let (senders, ends): (Vec<_>, Vec<_>) = directories.iter().map(|_| channels()).unzip();
        let benches = directories
            .into_iter()
            .zip(&lines)
            .zip(senders)
            .zip(have)
            .map(|(((directory, line), (news, buffers)), has_one)| Bench {
                directory,
                line: Arc::clone(line),
                news,
                buffers,
                writing: None,
                has_one,
            })
            .collect();
        let (orders, incoming) = channel();
        let mut work = Work { data, benches, shared };
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(move || {
            // Where it shares a core with a shard, the shard goes first. It goes on without, too.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            while let Ok((shard, order)) = incoming.recv() {
                work.carry_out(shard, order);
            }
        })?;
        Ok(Self {
            orders,
            lines,
            ends,
            thread,
        })
    }

    /// For one shard, once.
    pub fn orders_of(&mut self, shard: ShardId) -> CheckpointOrders {
        CheckpointOrders {
            shard,
            orders: self.orders.clone(),
            line: Arc::clone(&self.lines[shard.index()]),
            end: self.ends[shard.index()]
                .take()
                .expect("each shard has one way to the maker"),
        }
    }

    /// Waits until the orders of all shards, which must have ended, are carried out. The data directory is free then.
    pub fn finish(self) {
        drop(self.orders);
        // A panic there has ended the process already.
        let _ = self.thread.join();
    }
}

impl CheckpointOrders {
    /// Whether more parts may be on their way.
    pub fn has_room(&self) -> bool {
        self.line.in_flight_bytes.load(Ordering::Relaxed) < self.line.in_flight_bytes_max
    }

    /// Has an order carried out.
    pub fn order(&self, order: CheckpointOrder) {
        if let CheckpointOrder::Part(part) = &order {
            self.line.in_flight_bytes.fetch_add(part.len(), Ordering::Relaxed);
        }
        assert!(
            self.orders.send((self.shard, order)).is_ok(),
            "the maker outlives the shards"
        );
    }

    /// Whether [`Self::take`] has something.
    pub fn has_news(&self) -> bool {
        self.line.has_news.load(Ordering::Acquire)
    }

    /// What has become of the checkpoint under way, once it is known.
    pub fn take(&mut self) -> Option<CheckpointNews> {
        if !self.has_news() {
            return None;
        }
        self.line.has_news.store(false, Ordering::Relaxed);
        // The run is over: its memory is given back.
        self.end.buffers.try_iter().for_each(drop);
        Some(
            self.end
                .news
                .try_recv()
                .expect("news that is announced was sent before"),
        )
    }

    /// Memory for a part.
    pub fn buffer(&self) -> Vec<u8> {
        self.end.buffers.try_recv().unwrap_or_default()
    }
}

/// What the thread knows of one shard.
struct Bench {
    directory: CheckpointDirectory,
    line: Arc<Line>,
    news: Sender<CheckpointNews>,
    buffers: Sender<Vec<u8>>,
    /// `None` also after a failure, until the next one begins.
    writing: Option<Writing>,
    has_one: bool,
}

struct Writing {
    writer: CheckpointWriter,
    begins: LogPosition,
    began: Instant,
}

struct Work {
    data: DataDirectory,
    benches: Vec<Bench>,
    shared: Arc<Shared>,
}

impl Work {
    fn carry_out(&mut self, shard: ShardId, order: CheckpointOrder) {
        let bench = &mut self.benches[shard.index()];
        let part_bytes = match &order {
            CheckpointOrder::Part(part) => part.len(),
            _ => 0,
        };
        match bench.carry_out(order) {
            Ok(Done::Quickly) => {}
            Ok(Done::Synced(took)) => {
                // The logs share the disk. A stop has nothing else to wait for.
                if !self.shared.is_stopping() {
                    std::thread::sleep((took * DISK_REST).min(DISK_REST_MAX));
                }
            }
            Ok(Done::Published(written)) => {
                let bytes = written.bytes;
                bench.has_one = true;
                self.clear_up(shard, &written);
                self.tell(shard, CheckpointNews::Published { bytes });
            }
            Err(error) => {
                bench.writing = None;
                tracing::error!(
                    %shard,
                    "cannot write a checkpoint: {error}. Nothing is lost, but the log grows until one can be written; \
                     trying again in a while"
                );
                self.tell(shard, CheckpointNews::Failed);
            }
        }
        self.give_room(shard, part_bytes);
    }

    /// A shard that waits for room is woken when half of its share is free.
    fn give_room(&self, shard: ShardId, bytes: usize) {
        let line = &self.benches[shard.index()].line;
        let before = line.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let half = line.in_flight_bytes_max / 2;
        if before > half && before - bytes <= half {
            self.shared.doorbells[shard.index()].ring(Cause::Mail);
        }
    }

    fn tell(&self, shard: ShardId, news: CheckpointNews) {
        let bench = &self.benches[shard.index()];
        // A shard that has ended meanwhile does not want it any more.
        let _ = bench.news.send(news);
        bench.line.has_news.store(true, Ordering::Release);
        self.shared.doorbells[shard.index()].ring(Cause::Mail);
    }

    /// Removes what the checkpoints kept stand for. The log stays from the older one on, so that it can take the place
    /// of a damaged newer one.
    fn clear_up(&mut self, shard: ShardId, written: &Written) {
        let directory = &self.benches[shard.index()].directory;
        match remove_superfluous(&self.data, directory) {
            Ok(log_bytes) => tracing::info!(
                %shard,
                "checkpoint at position {}: {} KiB in {} ms; {} MiB of log removed",
                written.begins,
                written.bytes >> 10,
                written.began.elapsed().as_millis(),
                log_bytes >> 20,
            ),
            Err(error) => tracing::error!(%shard, "the checkpoint stands, but what it replaces stays: {error}"),
        }
        if self.benches.iter().all(|bench| bench.has_one)
            && self.data.manifest().generations.len() > 1
            && self.are_readable()
        {
            match self.data.drop_older_generations() {
                Ok(count) => tracing::info!("removed the logs of {count} earlier numbers of shards"),
                Err(error) => tracing::error!("cannot remove the logs of earlier numbers of shards: {error}"),
            }
        }
    }

    /// Reads the newest checkpoint of every shard back: without older generations there is nothing else to go by.
    fn are_readable(&self) -> bool {
        self.benches.iter().all(|bench| {
            let newest = bench.directory.list().ok().and_then(|list| list.first().copied());
            let read = newest.map(|begins| {
                bench
                    .directory
                    .read(begins, &mut |_| Ok::<_, std::convert::Infallible>(()))
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
fn remove_superfluous(data: &DataDirectory, directory: &CheckpointDirectory) -> Result<u64, StorageError> {
    directory.remove_old()?;
    match directory.list()?.get(CHECKPOINTS_KEPT - 1) {
        Some(&oldest) => Ok(truncate_log(data.path(), directory.identity(), oldest)?.bytes),
        None => Ok(0),
    }
}

/// What carrying out an order came to.
enum Done {
    Quickly,
    /// It synced, which took so long.
    Synced(Duration),
    Published(Written),
}

/// A checkpoint that stands.
struct Written {
    begins: LogPosition,
    bytes: u64,
    began: Instant,
}

impl Bench {
    fn carry_out(&mut self, order: CheckpointOrder) -> Result<Done, StorageError> {
        match (order, &mut self.writing) {
            (CheckpointOrder::Begin { begins }, _) => {
                // One given up is removed before.
                self.writing = None;
                self.writing = Some(Writing {
                    writer: self.directory.create(begins)?,
                    begins,
                    began: Instant::now(),
                });
            }
            (CheckpointOrder::Part(part), Some(writing)) => {
                if part.len() > PART_BYTES_MAX as usize {
                    return Err(writing.writer.too_large(part.len()));
                }
                let synced = writing.writer.part(&part)?;
                if part.capacity() <= IN_FLIGHT_BYTES_MAX {
                    // A shard that has ended meanwhile does not want it any more.
                    let _ = self.buffers.send(part);
                }
                return Ok(synced.map_or(Done::Quickly, Done::Synced));
            }
            (CheckpointOrder::Close { ends }, Some(writing)) => writing.writer.close(ends)?,
            (CheckpointOrder::Publish, _) => {
                if let Some(writing) = self.writing.take() {
                    return Ok(Done::Published(Written {
                        bytes: writing.writer.publish()?,
                        begins: writing.begins,
                        began: writing.began,
                    }));
                }
            }
            // The rest of one that was given up.
            (CheckpointOrder::Part(_) | CheckpointOrder::Close { .. }, None) => {}
        }
        Ok(Done::Quickly)
    }
}
