//! The shard loop's end: in stages that all shards pass together.

use std::sync::atomic::Ordering;

use super::ShardLoop;
use crate::engine::Timestamp;
use crate::net::Cause;
use crate::runtime::exit::ExitCode;

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

impl ShardLoop {
    /// Leaves the first stage once somebody has asked for a stop.
    pub(super) fn watch_for_stop(&mut self, now: Timestamp) {
        if self.stage == Stage::Serving && self.shared.is_stopping() {
            self.network.stop_accepting();
            self.stage = Stage::Draining(now.plus_ms(DRAIN_MS));
        }
    }

    /// Whether the loop ends: asked at the end of each turn.
    pub(super) fn is_finished(&mut self, now: Timestamp) -> bool {
        if let Stage::Draining(until) = self.stage {
            let quiet = self.in_flight == 0
                && self.partition.is_quiet()
                && !self.mailboxes.is_waiting()
                && !self.mailboxes.has_mail();
            if quiet != self.tally().quiet.swap(quiet, Ordering::SeqCst) && quiet {
                for doorbell in self.shared.doorbells.iter() {
                    doorbell.ring(Cause::Mail);
                }
            }
            let all_are_quiet = self.all_are_quiet();
            if !all_are_quiet && now >= until {
                tracing::warn!(shard = %self.id, in_flight = self.in_flight, "stopping with requests in flight");
            }
            if all_are_quiet || now >= until {
                self.stage = Stage::Farewell(now.plus_ms(FAREWELL_MS));
            }
        }
        if let Stage::Farewell(until) = self.stage
            && (now >= until || !self.network.has_output())
        {
            self.network.abandon_all();
            self.checkpointing.end();
            self.stage = Stage::LastCheckpoint;
        }
        if self.stage == Stage::LastCheckpoint
            && self.checkpointing.is_over(&self.partition)
            && !self.tally().checkpointed.swap(true, Ordering::SeqCst)
        {
            for doorbell in self.shared.doorbells.iter() {
                doorbell.ring(Cause::Mail);
            }
        }
        self.stage == Stage::LastCheckpoint && self.sync.is_none() && self.all_are_checkpointed()
    }

    /// Whether no shard needs this one any more, to write its last checkpoint.
    pub(super) fn all_are_checkpointed(&self) -> bool {
        self.shared
            .tallies
            .iter()
            .all(|tally| tally.checkpointed.load(Ordering::SeqCst))
    }

    /// Whether no shard has anything in flight.
    pub(super) fn all_are_quiet(&self) -> bool {
        self.shared
            .tallies
            .iter()
            .all(|tally| tally.quiet.load(Ordering::SeqCst))
    }

    /// The orderly end: syncs the log and closes the connections.
    pub(super) fn finish(mut self) {
        self.network.abandon_all();
        // Each turn lets the kernel end what is under way; where it takes longer, the process's end does it.
        for _ in 0..100 {
            if self.network.open() == 0 {
                break;
            }
            self.enter(true);
        }
        if let Err(error) = self.partition.sync_and_end() {
            ExitCode::SyncFailed.die(error);
        }
    }
}
