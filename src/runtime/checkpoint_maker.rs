//! Has checkpoints written in the background, and tells the shards.
//!
//! One thread for all shards, since they share the disk. It has a [`CheckpointKeeper`] do what [`super::checkpointing`]
//! orders, in order; what is on its way to it is bounded by [`IN_FLIGHT_BYTES_MAX`].
//!
//! Nothing that fails here ends the process: a checkpoint is given up, which loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::checkpoint_keeper::{CheckpointKeeper, Done};
use super::checkpointing::{CheckpointNews, CheckpointOrder};
use super::shared::Shared;
use crate::engine::ShardId;
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
    /// Starts the thread.
    pub fn start(keeper: CheckpointKeeper, shared: Arc<Shared>) -> std::io::Result<Self> {
        let shard_count = keeper.shard_count();
        let share = (IN_FLIGHT_BYTES_MAX / shard_count).max(IN_FLIGHT_BYTES_MIN);
        let line = |_| {
            Arc::new(Line {
                in_flight_bytes: AtomicUsize::new(0),
                in_flight_bytes_max: share,
                has_news: AtomicBool::new(false),
            })
        };
        let lines: Vec<_> = (0..shard_count).map(line).collect();
        let channels = || {
            let ((tell, news), (give_back, buffers)) = (channel(), channel());
            ((tell, give_back), Some(ShardEnd { news, buffers }))
        };
        let (senders, ends): (Vec<_>, Vec<_>) = lines.iter().map(|_| channels()).unzip();
        let maker_ends = lines
            .iter()
            .zip(senders)
            .map(|(line, (news, buffers))| MakerEnd {
                line: Arc::clone(line),
                news,
                buffers,
            })
            .collect();
        let (orders, incoming) = channel();
        let mut work = Work {
            keeper,
            ends: maker_ends,
            shared,
        };
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
        if let CheckpointOrder::Part(_, part) = &order {
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

/// The thread's end of a shard's line.
struct MakerEnd {
    line: Arc<Line>,
    news: Sender<CheckpointNews>,
    buffers: Sender<Vec<u8>>,
}

struct Work {
    keeper: CheckpointKeeper,
    ends: Vec<MakerEnd>,
    shared: Arc<Shared>,
}

impl Work {
    fn carry_out(&mut self, shard: ShardId, order: CheckpointOrder) {
        let done = self.keeper.carry_out(shard, &order);
        match done {
            Ok(Done::Quickly) => {}
            Ok(Done::Synced(took)) => {
                // The logs share the disk. A stop has nothing else to wait for.
                if !self.shared.is_stopping() {
                    std::thread::sleep((took * DISK_REST).min(DISK_REST_MAX));
                }
            }
            Ok(Done::Published { bytes }) => self.tell(shard, CheckpointNews::Published { bytes }),
            Err(error) => {
                tracing::error!(
                    %shard,
                    "cannot write a checkpoint: {error}. Nothing is lost, but the log grows until one can be written; \
                     trying again in a while"
                );
                self.tell(shard, CheckpointNews::Failed);
            }
        }
        if let CheckpointOrder::Part(_, part) = order {
            self.give_room(shard, part.len());
            // That of a long value is not kept.
            if part.capacity() <= IN_FLIGHT_BYTES_MAX {
                // A shard that has ended meanwhile does not want it any more.
                let _ = self.ends[shard.index()].buffers.send(part);
            }
        }
    }

    /// A shard that waits for room is woken when half of its share is free.
    fn give_room(&self, shard: ShardId, bytes: usize) {
        let line = &self.ends[shard.index()].line;
        let before = line.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let half = line.in_flight_bytes_max / 2;
        if before > half && before - bytes <= half {
            self.shared.doorbells[shard.index()].ring(Cause::Mail);
        }
    }

    fn tell(&self, shard: ShardId, news: CheckpointNews) {
        let end = &self.ends[shard.index()];
        // A shard that has ended meanwhile does not want it any more.
        let _ = end.news.send(news);
        end.line.has_news.store(true, Ordering::Release);
        self.shared.doorbells[shard.index()].ring(Cause::Mail);
    }
}
