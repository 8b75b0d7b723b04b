//! What all shards' threads share: doorbells, watermarks, counters, the clock, and whether to stop.
//!
//! Each counter has one writer or is touched only when a connection comes or goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::clock::Clock;
use super::watermark::Watermarks;
use crate::engine::ShardId;
use crate::net::{Doorbell, RingError};
use crate::session::{ServerCounters, ServerFacts};

/// One shard's counters.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that are this shard's, or on their way to it.
    pub connections: AtomicUsize,
    /// Commands that its sessions have parsed.
    pub commands: AtomicU64,
    /// While stopping: nothing is in flight here.
    pub quiet: AtomicBool,
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
        }
    }
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
