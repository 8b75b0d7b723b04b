//! A turn's part in the server's end: in stages that all shards pass together.

use std::sync::atomic::Ordering;

use super::{Connections, Turn, World};
use crate::engine::Timestamp;

/// How long a stop waits for what is in flight; what is not answered by then was not acknowledged.
const DRAIN_MS: u64 = 10_000;

/// How long a stop waits for clients to take the answers that they were given.
const FAREWELL_MS: u64 = 1000;

/// A stop's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Serving,
    /// Requests are no longer taken; those in flight go on until then.
    Draining(Timestamp),
    /// All shards are quiet; clients may take their answers until then.
    Farewell(Timestamp),
    /// All connections are closed; a last checkpoint is written, by this shard or another.
    LastCheckpoint,
}

impl<W: World> Turn<'_, W> {
    /// Leaves the first stage once somebody has asked for a stop.
    pub(super) fn watch_for_stop(&mut self) {
        if self.core.stage == Stage::Serving && self.core.board.is_stopping() {
            self.world.stop_accepting();
            self.core.stage = Stage::Draining(self.now.plus_ms(DRAIN_MS));
        }
    }

    /// Goes on to the next stage as far as that has come.
    pub(super) fn pass_stages(&mut self) {
        let now = self.now;
        if let Stage::Draining(until) = self.core.stage {
            let quiet = self.core.in_flight == 0
                && self.core.partition.is_quiet()
                && !self.world.is_mail_waiting()
                && !self.world.has_mail();
            if quiet != self.core.tally().quiet.swap(quiet, Ordering::SeqCst) && quiet {
                self.ring_all();
            }
            let all_are_quiet = self.core.board.all_are_quiet();
            if !all_are_quiet && now >= until {
                tracing::warn!(
                    shard = %self.core.id,
                    in_flight = self.core.in_flight,
                    "stopping with requests in flight"
                );
            }
            if all_are_quiet || now >= until {
                self.core.stage = Stage::Farewell(now.plus_ms(FAREWELL_MS));
            }
        }
        if let Stage::Farewell(until) = self.core.stage
            && (now >= until || !self.world.connections().has_output())
        {
            self.world.connections().abandon_all();
            self.core.checkpointing.end();
            self.core.stage = Stage::LastCheckpoint;
        }
        if self.core.stage == Stage::LastCheckpoint
            && self.core.checkpointing.is_over(&self.core.partition)
            && !self.core.tally().checkpointed.swap(true, Ordering::SeqCst)
        {
            self.ring_all();
        }
    }

    /// Whether nothing is left to do, here or for others.
    pub(super) fn is_finished(&self) -> bool {
        self.core.stage == Stage::LastCheckpoint && self.core.sync.is_none() && self.core.board.all_are_checkpointed()
    }
}
