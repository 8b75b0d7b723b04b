//! The shard loop's part in checkpoints: see [`crate::runtime::checkpointing`].

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ShardLoop;
use crate::engine::Timestamp;
use crate::runtime::checkpointing::CheckpointNews;

/// How long a turn takes parts of a checkpoint, at least and at most; it ends with the part that goes over it. In
/// between, a tenth of what the rest of the turn took.
const CHECKPOINT_PER_TURN_MIN: Duration = Duration::from_micros(20);
const CHECKPOINT_PER_TURN_MAX: Duration = Duration::from_micros(200);

/// Processor time of this thread, in microseconds.
fn thread_cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

impl ShardLoop {
    /// What the maker has done, and whether somebody has asked for a checkpoint.
    pub(super) fn take_checkpoint_news(&mut self, now: Timestamp) {
        match self.checkpoints.take() {
            Some(CheckpointNews::Published { bytes }) => {
                self.checkpointing.published(bytes);
                let took = self
                    .checkpoint_began
                    .take()
                    .map_or(Duration::ZERO, |began| began.elapsed());
                let tally = &self.tally().checkpoints;
                tally.took_ms.store(took.as_millis() as u64, Ordering::Relaxed);
                tally.at_ms.store(now.unix_ms(), Ordering::Relaxed);
                tally.failed.store(false, Ordering::Relaxed);
            }
            Some(CheckpointNews::Failed) => {
                self.checkpointing.failed(now);
                self.checkpoint_began = None;
                self.tally().checkpoints.failed.store(true, Ordering::Relaxed);
            }
            None => {}
        }
        let request = self.shared.checkpoint_requests.load(Ordering::SeqCst);
        if request != self.checkpoint_request {
            self.checkpoint_request = request;
            self.checkpointing.request();
        }
    }

    /// A checkpoint's share of the turn.
    pub(super) fn take_checkpoint_parts(&mut self, now: Timestamp, turn_began: Instant) {
        let began = Instant::now();
        self.checkpointing.advance(now, &mut self.partition);
        if self.checkpointing.is_running() {
            self.checkpoint_began.get_or_insert(began);
            let rest = began.duration_since(turn_began);
            let budget = (rest / 10).clamp(CHECKPOINT_PER_TURN_MIN, CHECKPOINT_PER_TURN_MAX);
            self.pass_on_checkpoint_orders();
            if self.wants_checkpoint_parts(now) {
                let before_us = thread_cpu_us();
                loop {
                    let buffer = self.checkpoints.buffer();
                    self.checkpointing.take_part(&mut self.partition, buffer);
                    self.pass_on_checkpoint_orders();
                    if began.elapsed() >= budget || !self.wants_checkpoint_parts(now) {
                        break;
                    }
                }
                let tally = &self.tally().checkpoints;
                let pause_us = began.elapsed().as_micros() as u64;
                tally.pause_us_max.fetch_max(pause_us, Ordering::Relaxed);
                let cpu_us = thread_cpu_us() - before_us;
                tally.pause_cpu_us_max.fetch_max(cpu_us, Ordering::Relaxed);
            }
        }
        let tally = &self.tally().checkpoints;
        tally.running.store(self.checkpointing.is_running(), Ordering::SeqCst);
        tally.request.store(self.checkpoint_request, Ordering::SeqCst);
        tally
            .changes
            .store(self.checkpointing.changes(&self.partition), Ordering::Relaxed);
    }

    /// Whether this turn could take parts.
    pub(super) fn wants_checkpoint_parts(&self, now: Timestamp) -> bool {
        self.checkpointing.wants_parts(now, &self.partition) && self.checkpoints.has_room()
    }

    fn pass_on_checkpoint_orders(&mut self) {
        for order in self.checkpointing.orders() {
            self.checkpoints.order(order);
        }
    }
}
