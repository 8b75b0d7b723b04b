//! What all shards' threads share: doorbells, watermarks, counters, the clock, and whether to stop.
//!
//! Each counter has one writer or is touched only when a connection comes or goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::clock::Clock;
use super::watermark::Watermarks;
use crate::engine::ShardId;
use crate::net::{Cause, Doorbell, RingError};
use crate::session::{PersistenceCounters, ServerCounters, ServerFacts};

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
    /// The latest request that was taken up: see [`Shared::checkpoint_requests`].
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

/// What the shards share.
#[derive(Debug)]
pub struct Shared {
    /// The shards' doorbells.
    pub doorbells: Arc<[Doorbell]>,
    /// The shards' safe positions.
    pub watermarks: Watermarks,
    /// The shards' counters.
    pub tallies: Box<[CachePadded<Tally>]>,
    /// Connections ever accepted.
    pub connections_received: AtomicU64,
    /// How often a checkpoint of all shards was asked for.
    pub checkpoint_requests: AtomicU64,
    /// The server is to stop.
    pub stopping: AtomicBool,
    /// The time.
    pub clock: Clock,
}

impl Shared {
    /// For `shard_count` shards that have not begun.
    pub fn new(shard_count: u16, clock: Clock) -> Result<Self, RingError> {
        let doorbells: Result<Vec<_>, _> = (0..shard_count).map(|_| Doorbell::new()).collect();
        Ok(Self {
            doorbells: doorbells?.into(),
            watermarks: Watermarks::new(shard_count),
            tallies: (0..shard_count).map(|_| CachePadded::default()).collect(),
            connections_received: AtomicU64::new(0),
            checkpoint_requests: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            clock,
        })
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
            for doorbell in self.doorbells.iter() {
                doorbell.ring(Cause::Mail);
            }
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

    fn persistence(&self) -> PersistenceCounters {
        let over = |read: fn(&CheckpointTally) -> &AtomicU64| {
            self.tallies
                .iter()
                .map(move |tally| read(&tally.checkpoints).load(Ordering::Relaxed))
        };
        let started_ms = self.clock.now().unix_ms() - self.clock.uptime().as_millis() as u64;
        PersistenceCounters {
            is_saving: self.is_checkpointing(),
            has_failed: self
                .tallies
                .iter()
                .any(|tally| tally.checkpoints.failed.load(Ordering::Relaxed)),
            changes: over(|tally| &tally.changes).sum(),
            saved_at_ms: over(|tally| &tally.at_ms).min().unwrap_or(0).max(started_ms),
            took_ms: over(|tally| &tally.took_ms).max().unwrap_or(0),
            pause_us_max: over(|tally| &tally.pause_us_max).max().unwrap_or(0),
            pause_cpu_us_max: over(|tally| &tally.pause_cpu_us_max).max().unwrap_or(0),
        }
    }

    /// Asks all shards to finish what is in flight and end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for doorbell in self.doorbells.iter() {
            doorbell.ring_always();
        }
    }

    /// Whether [`Shared::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The counters that `INFO` shows.
pub struct Facts(pub Arc<Shared>);

impl ServerFacts for Facts {
    fn counters(&self) -> ServerCounters {
        let shared = &self.0;
        let (cpu_user_us, cpu_system_us) = processor_us();
        ServerCounters {
            uptime_seconds: shared.clock.uptime().as_secs(),
            unix_time_ms: shared.clock.now().unix_ms(),
            connected_clients: shared.connections() as u64,
            connections_received: shared.connections_received.load(Ordering::Relaxed),
            commands_processed: shared
                .tallies
                .iter()
                .map(|tally| tally.commands.load(Ordering::Relaxed))
                .sum(),
            used_memory_bytes: resident_bytes().unwrap_or(0),
            cpu_user_us,
            cpu_system_us,
            persistence: shared.persistence(),
        }
    }

    fn request_checkpoint(&self, or_later: bool) -> bool {
        self.0.request_checkpoint(or_later)
    }

    fn stop(&self) {
        tracing::info!("stopping: a client said SHUTDOWN");
        self.0.stop();
    }
}

/// Processor time of this process, in microseconds: its own, and the kernel's for it.
fn processor_us() -> (u64, u64) {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure that lives through the call.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return (0, 0);
    }
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    (us(usage.ru_utime), us(usage.ru_stime))
}

/// Physical memory of this process, the mapped log included.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .split_whitespace()
        .next()?;
    Some(kib.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Timestamp;

    #[test]
    fn connections_go_where_fewest_are() {
        let shared = Shared::new(3, Clock::start(Timestamp::default())).unwrap();
        let mut dealt = Vec::new();
        for _ in 0..6 {
            let shard = shared.least_connected();
            shared.tallies[shard.index()]
                .connections
                .fetch_add(1, Ordering::Relaxed);
            dealt.push(shard.0);
        }
        assert_eq!(dealt, [0, 1, 2, 0, 1, 2]);
        shared.tallies[1].connections.fetch_sub(1, Ordering::Relaxed);
        assert_eq!((shared.least_connected(), shared.connections()), (ShardId(1), 5));
    }

    #[test]
    fn memory_in_use_is_measured() {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
