//! A turn's part in checkpoints: see [`crate::runtime::checkpointing`].

use std::sync::atomic::Ordering;

use super::{Core, Turn, World};
use crate::engine::Timestamp;
use crate::log::SegmentMemory;
use crate::runtime::checkpointing::CheckpointNews;

/// How long a turn takes parts of a checkpoint, at least and at most; it ends with the part that goes over it. In
/// between, a tenth of what the rest of the turn took.
const CHECKPOINT_PER_TURN_US_MIN: u64 = 20;
const CHECKPOINT_PER_TURN_US_MAX: u64 = 200;

impl<M: SegmentMemory, S> Core<M, S> {
    /// Whether this turn could take parts.
    pub(super) fn takes_checkpoint_part<W: World<Memory = M, Socket = S>>(
        &self,
        now: Timestamp,
        world: &mut W,
    ) -> bool {
        self.checkpointing.wants_parts(now, &self.partition) && world.has_checkpoint_room()
    }
}

impl<W: World> Turn<'_, W> {
    /// What has become of the checkpoint under way, and whether somebody has asked for one.
    pub(super) fn take_checkpoint_news(&mut self) {
        let (now, core) = (self.now, &mut *self.core);
        let news = self.world.take_checkpoint_news();
        let began_us = news.as_ref().and_then(|_| core.checkpoint_began_us.take());
        let tally = &core.board.tallies[core.id.index()].checkpoints;
        match news {
            Some(CheckpointNews::Published { bytes }) => {
                core.checkpointing.published(bytes);
                let took_us = began_us.map_or(0, |began_us| self.began_us.saturating_sub(began_us));
                tally.took_ms.store(took_us / 1000, Ordering::Relaxed);
                tally.at_ms.store(now.unix_ms(), Ordering::Relaxed);
                tally.failed.store(false, Ordering::Relaxed);
            }
            Some(CheckpointNews::Failed) => {
                core.checkpointing.failed(now);
                tally.failed.store(true, Ordering::Relaxed);
            }
            None => {}
        }
        let request = core.board.checkpoint_requests.load(Ordering::SeqCst);
        if request != core.checkpoint_request {
            core.checkpoint_request = request;
            core.checkpointing.request();
        }
    }

    /// A checkpoint's share of the turn.
    pub(super) fn take_checkpoint_parts(&mut self) {
        let now = self.now;
        self.core.checkpointing.advance(now, &mut self.core.partition);
        if self.core.checkpointing.is_running() {
            let began_us = self.world.now_us();
            self.core.checkpoint_began_us.get_or_insert(began_us);
            let rest_us = began_us.saturating_sub(self.began_us);
            let budget_us = (rest_us / 10).clamp(CHECKPOINT_PER_TURN_US_MIN, CHECKPOINT_PER_TURN_US_MAX);
            self.pass_on_checkpoint_orders();
            if self.core.takes_checkpoint_part(now, self.world) {
                let before_us = self.world.processor_us();
                loop {
                    let buffer = self.world.part_buffer();
                    let core = &mut *self.core;
                    core.checkpointing.take_part(&mut core.partition, buffer);
                    self.pass_on_checkpoint_orders();
                    let took_us = self.world.now_us().saturating_sub(began_us);
                    if took_us >= budget_us || !self.core.takes_checkpoint_part(now, self.world) {
                        break;
                    }
                }
                let tally = &self.core.tally().checkpoints;
                let pause_us = self.world.now_us().saturating_sub(began_us);
                tally.pause_us_max.fetch_max(pause_us, Ordering::Relaxed);
                let processor_us = self.world.processor_us() - before_us;
                tally.pause_cpu_us_max.fetch_max(processor_us, Ordering::Relaxed);
            }
        }
        let core = &*self.core;
        let tally = &core.tally().checkpoints;
        tally.running.store(core.checkpointing.is_running(), Ordering::SeqCst);
        tally.request.store(core.checkpoint_request, Ordering::SeqCst);
        tally
            .changes
            .store(core.checkpointing.changes(&core.partition), Ordering::Relaxed);
    }

    fn pass_on_checkpoint_orders(&mut self) {
        for order in self.core.checkpointing.orders() {
            self.world.order_checkpoint(order);
        }
    }
}
