//! What the shards tell each other without mail: watermarks, counters, and whether a checkpoint or the end is wanted.
//!
//! Each number has one writer or is touched only when a connection comes or goes. Rings no doorbell: whoever changes
//! what others wait for does that.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::watermark::Watermarks;
use crate::engine::ShardId;

/// One shard's counters.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that are this shard's, or on their way to it.
    pub connections: AtomicUsize,
    /// Commands that its sessions have parsed.
    pub commands: AtomicU64,
    /// Somebody here subscribes to something, so that messages are to be sent here.
    pub has_subscribers: AtomicBool,
    /// While stopping: nothing is in flight here.
    pub quiet: AtomicBool,
    /// While stopping: the last checkpoint stands, or is not needed.
    pub checkpointed: AtomicBool,
    /// Its checkpoints.
    pub checkpoints: CheckpointTally,
}

/// One shard's checkpoints, as `INFO` shows them.
#[derive(Debug, Default)]
pub struct CheckpointTally {
    /// One is being taken.
    pub running: AtomicBool,
    /// The latest request that was taken up: see [`Board::checkpoint_requests`].
    pub request: AtomicU64,
    /// When the last one came to stand, in Unix milliseconds; 0: none since the start.
    pub at_ms: AtomicU64,
    /// How long it took, in milliseconds.
    pub took_ms: AtomicU64,
    /// The last try failed.
    pub failed: AtomicBool,
    /// Records since the beginning of the newest one.
    pub changes: AtomicU64,
    /// The longest time in one turn that the shard spent on parts, in microseconds.
    pub pause_us_max: AtomicU64,
    /// The most of the shard's processor time that one turn spent on a checkpoint, in microseconds.
    pub pause_cpu_us_max: AtomicU64,
}

/// What all shards see.
#[derive(Debug)]
pub struct Board {
    /// The shards' safe positions.
    pub watermarks: Watermarks,
    /// The shards' counters.
    pub tallies: Box<[CachePadded<Tally>]>,
    /// Connections ever accepted.
    pub connections_received: AtomicU64,
    /// How often a checkpoint of all shards was asked for.
    pub checkpoint_requests: AtomicU64,
    /// The server is to stop.
    stopping: AtomicBool,
}

impl Board {
    /// For `shard_count` shards that have not begun.
    pub fn new(shard_count: u16) -> Self {
        Self {
            watermarks: Watermarks::new(shard_count),
            tallies: (0..shard_count).map(|_| CachePadded::default()).collect(),
            connections_received: AtomicU64::new(0),
            checkpoint_requests: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// How many connections there are, over all shards.
    pub fn connections(&self) -> usize {
        self.tallies
            .iter()
            .map(|tally| tally.connections.load(Ordering::Relaxed))
            .sum()
    }

    /// The shard with the fewest connections; the first of several.
    pub fn least_connected(&self) -> ShardId {
        let connections = |tally: &CachePadded<Tally>| tally.connections.load(Ordering::Relaxed);
        let least = self
            .tallies
            .iter()
            .enumerate()
            .min_by_key(|(_, tally)| connections(tally));
        ShardId(least.map_or(0, |(index, _)| index) as u16)
    }

    /// Asks every shard for a checkpoint; `false` where one is being taken, and then asks only if `or_later`.
    pub fn request_checkpoint(&self, or_later: bool) -> bool {
        let is_running = self.is_checkpointing();
        if !is_running || or_later {
            self.checkpoint_requests.fetch_add(1, Ordering::SeqCst);
        }
        !is_running
    }

    /// Whether any shard takes a checkpoint, or is asked to.
    pub fn is_checkpointing(&self) -> bool {
        let requests = self.checkpoint_requests.load(Ordering::SeqCst);
        self.tallies.iter().any(|tally| {
            let tally = &tally.checkpoints;
            // In the order in which a shard does not write them: it says that it runs before it says what for.
            tally.request.load(Ordering::SeqCst) < requests || tally.running.load(Ordering::SeqCst)
        })
    }

    /// Whether the last try of any shard to take a checkpoint failed.
    pub fn has_failed_checkpoint(&self) -> bool {
        let failed = |tally: &CachePadded<Tally>| tally.checkpoints.failed.load(Ordering::Relaxed);
        self.tallies.iter().any(failed)
    }

    /// Asks all shards to finish what is in flight and end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether [`Board::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// While stopping: whether no shard has anything in flight.
    pub fn all_are_quiet(&self) -> bool {
        self.tallies.iter().all(|tally| tally.quiet.load(Ordering::SeqCst))
    }

    /// While stopping: whether no shard needs another any more, to write its last checkpoint.
    pub fn all_are_checkpointed(&self) -> bool {
        self.tallies
            .iter()
            .all(|tally| tally.checkpointed.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_where_fewest_are() {
        let board = Board::new(3);
        let mut dealt = Vec::new();
        for _ in 0..6 {
            let shard = board.least_connected();
            board.tallies[shard.index()].connections.fetch_add(1, Ordering::Relaxed);
            dealt.push(shard.0);
        }
        assert_eq!(dealt, [0, 1, 2, 0, 1, 2]);
        board.tallies[1].connections.fetch_sub(1, Ordering::Relaxed);
        assert_eq!((board.least_connected(), board.connections()), (ShardId(1), 5));
    }
}
