//! What all shards' threads share: the board, doorbells and the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::board::{Board, CheckpointTally};
use super::clock::Clock;
use crate::net::{Cause, Doorbell, RingError};
use crate::session::{PersistenceCounters, ServerCounters, ServerFacts};

/// What the shards share.
#[derive(Debug)]
pub struct Shared {
    /// What they tell each other.
    pub board: Arc<Board>,
    /// The shards' doorbells.
    pub doorbells: Arc<[Doorbell]>,
    /// The time.
    pub clock: Clock,
}

impl Shared {
    /// For `shard_count` shards that have not begun.
    pub fn new(shard_count: u16, clock: Clock) -> Result<Self, RingError> {
        let doorbells: Result<Vec<_>, _> = (0..shard_count).map(|_| Doorbell::new()).collect();
        Ok(Self {
            board: Arc::new(Board::new(shard_count)),
            doorbells: doorbells?.into(),
            clock,
        })
    }

    /// See [`Board::request_checkpoint`].
    pub fn request_checkpoint(&self, or_later: bool) -> bool {
        let is_begun = self.board.request_checkpoint(or_later);
        for doorbell in self.doorbells.iter() {
            doorbell.ring(Cause::Mail);
        }
        is_begun
    }

    fn persistence(&self) -> PersistenceCounters {
        let over = |read: fn(&CheckpointTally) -> &AtomicU64| {
            self.board
                .tallies
                .iter()
                .map(move |tally| read(&tally.checkpoints).load(Ordering::Relaxed))
        };
        let started_ms = self.clock.now().unix_ms() - self.clock.uptime().as_millis() as u64;
        PersistenceCounters {
            is_saving: self.board.is_checkpointing(),
            has_failed: self.board.has_failed_checkpoint(),
            changes: over(|tally| &tally.changes).sum(),
            saved_at_ms: over(|tally| &tally.at_ms).min().unwrap_or(0).max(started_ms),
            took_ms: over(|tally| &tally.took_ms).max().unwrap_or(0),
            pause_us_max: over(|tally| &tally.pause_us_max).max().unwrap_or(0),
            pause_cpu_us_max: over(|tally| &tally.pause_cpu_us_max).max().unwrap_or(0),
        }
    }

    /// Asks all shards to finish what is in flight and end.
    pub fn stop(&self) {
        self.board.stop();
        for doorbell in self.doorbells.iter() {
            doorbell.ring_always();
        }
    }

    /// Whether [`Shared::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.board.is_stopping()
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
            connected_clients: shared.board.connections() as u64,
            connections_received: shared.board.connections_received.load(Ordering::Relaxed),
            commands_processed: shared
                .board
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

    #[test]
    fn memory_in_use_is_measured() {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
