//! When a shard takes a checkpoint, and when it may stand for the log before it.
//!
//! Pure: no I/O, no clock. The shard loop drives it beside its [`Partition`], the simulator may as well. A run goes:
//!
//! 1. It *begins* at the end of the log; every other shard is sent a **barrier** behind all mail before it.
//! 2. *Parts* are taken, a few a turn, and handed to whoever writes them; the shard keeps working.
//! 3. After the last part the file is *closed*, and waits until the shard's own log is on disk up to where the parts end
//!    and every other shard has answered the barrier: its log is on disk with all that the mail before it led to.
//! 4. Then it is *published*, and what it stands for may go.
//!
//! Why 3: a part may show what a record not yet synced did. And the log before a checkpoint holds this shard's decisions
//! on transactions; a shard that has not yet written one of them down would, after a crash, ask for it in vain.
//!
//! A run that fails changes nothing and is tried again after a while.

use std::collections::VecDeque;

use super::partition::Partition;
use crate::engine::mutation::{Mutation, is_on};
use crate::engine::{CheckpointCursor, LogPosition, RecordKind, ShardId, ShardMap, Timestamp};
use crate::log::SegmentMemory;

/// After how long a checkpoint that failed is tried again.
pub const RETRY_MS: u64 = 10_000;

/// How fast a checkpoint is taken: no faster than anybody needs, so that the shard, its core and the disk stay free for
/// what clients wait for. Bytes a millisecond; and so many bytes for each byte of log written meanwhile, so that it
/// always ends long before the next one is due.
const PACE_BYTES_PER_MS: u64 = 64 << 10;
const PACE_BYTES_PER_LOG_BYTE: u64 = 2;

/// So many bytes are taken at once.
const UNPACED_BYTES: u64 = 1 << 20;

/// What shards say to each other about checkpoints. Goes the way of their other messages, behind those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointMessage {
    /// To be answered once everything its sender said before, and all that it led to, is on disk. Numbered by the sender.
    Barrier(u64),
    /// That is so.
    Passed(u64),
}

/// What is to be done with the checkpoint's file, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum CheckpointOrder {
    /// Begin one.
    Begin {
        /// The log is replayed from behind this position.
        begins: LogPosition,
    },
    /// Add a part of this kind.
    Part(RecordKind, Vec<u8>),
    /// It is complete: add the footer and sync.
    Close {
        /// The parts show the log up to here.
        ends: LogPosition,
    },
    /// Give it its name; then remove what it stands for. To be reported by [`Checkpointing::published`].
    Publish,
}

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

/// What a start has found of the checkpoints before.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckpointPast {
    /// Where the newest one begins; zero where there is none.
    pub begins: LogPosition,
    /// Size of the newest one, in bytes; 0 where there is none.
    pub checkpoint_bytes: u64,
    /// Bytes of log behind it that hold records.
    pub log_bytes: u64,
    /// The log holds no change behind it.
    pub is_unchanged: bool,
    /// One is to be taken at once.
    pub is_wanted: bool,
}

/// One shard's checkpoints.
#[derive(Debug)]
pub struct Checkpointing {
    own: ShardId,
    map: ShardMap,
    log_bytes_min: u64,
    run: Option<Run>,
    is_wanted: bool,
    is_ending: bool,
    retry_at: Option<Timestamp>,
    /// Where the newest checkpoint begins, and its size.
    begins: LogPosition,
    checkpoint_bytes: u64,
    /// Bytes of log behind the newest checkpoint when the writer had appended nothing; less than nothing when that
    /// checkpoint is the writer's own.
    log_bytes_before: i64,
    /// Nothing has changed if the log ends here.
    unchanged_at: Option<LogPosition>,
    runs: u64,
    /// Others' barriers: to be answered once this log is synced up to there.
    barriers: VecDeque<(ShardId, u64, LogPosition)>,
    messages: Vec<(ShardId, CheckpointMessage)>,
    orders: Vec<CheckpointOrder>,
}

#[derive(Debug)]
struct Run {
    cursor: CheckpointCursor,
    stage: Stage,
    barriers_left: u16,
    /// What the writer had appended where it began.
    log_bytes: u64,
    began_at: Timestamp,
    /// Of the parts so far.
    part_bytes: u64,
}

impl Run {
    /// When the next part is due.
    fn part_due_at<M: SegmentMemory>(&self, partition: &Partition<M>) -> Timestamp {
        let logged = partition.log().appended_bytes() - self.log_bytes;
        let unpaced = UNPACED_BYTES + PACE_BYTES_PER_LOG_BYTE * logged;
        let paced = self.part_bytes.saturating_sub(unpaced);
        self.began_at.plus_ms(paced / PACE_BYTES_PER_MS)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Taking,
    Waiting,
    Publishing,
}

impl Checkpointing {
    /// For the shard of `partition`, whose log holds at least `log_bytes_min` bytes between two checkpoints.
    pub fn new<M: SegmentMemory>(
        partition: &Partition<M>,
        map: ShardMap,
        log_bytes_min: u64,
        past: CheckpointPast,
    ) -> Self {
        let log = partition.log();
        Self {
            own: log.identity().shard,
            map,
            log_bytes_min,
            run: None,
            is_wanted: past.is_wanted,
            is_ending: false,
            retry_at: None,
            begins: past.begins,
            checkpoint_bytes: past.checkpoint_bytes,
            log_bytes_before: past.log_bytes as i64,
            unchanged_at: past.is_unchanged.then(|| log.last()),
            runs: 0,
            barriers: VecDeque::new(),
            messages: Vec::new(),
            orders: Vec::new(),
        }
    }

    /// Somebody wants a checkpoint now; one under way is not enough.
    pub fn request(&mut self) {
        self.is_wanted = true;
        self.retry_at = None;
    }

    /// The server stops: one more where anything has changed, and no second try. Over when [`Self::is_over`].
    pub fn end(&mut self) {
        self.is_ending = true;
        self.retry_at = None;
    }

    /// Whether nothing is left to do after [`Self::end`].
    pub fn is_over<M: SegmentMemory>(&self, partition: &Partition<M>) -> bool {
        self.is_ending && self.run.is_none() && !self.wants_to_begin(partition)
    }

    /// Whether the next [`Self::advance`] begins a checkpoint.
    pub fn wants_to_begin<M: SegmentMemory>(&self, partition: &Partition<M>) -> bool {
        self.run.is_none() && self.retry_at.is_none() && self.is_due(partition)
    }

    /// Whether a checkpoint is being taken.
    pub const fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Whether a request has yet to be met.
    pub const fn is_requested(&self) -> bool {
        self.is_wanted
    }

    /// Records behind the beginning of the newest checkpoint.
    pub fn changes<M: SegmentMemory>(&self, partition: &Partition<M>) -> u64 {
        partition.log().last().0 - self.begins.0
    }

    /// A message came. Messages of the engine that came before it have been taken by `partition`.
    pub fn receive<M: SegmentMemory>(
        &mut self,
        from: ShardId,
        message: CheckpointMessage,
        partition: &mut Partition<M>,
    ) {
        match message {
            CheckpointMessage::Barrier(number) => {
                let position = partition.log().last();
                partition.want_synced(position);
                self.barriers.push_back((from, number, position));
            }
            CheckpointMessage::Passed(number) => {
                if let Some(run) = &mut self.run
                    && number == self.runs
                {
                    run.barriers_left -= 1;
                }
            }
        }
    }

    /// Goes on as far as the logs allow. Once a turn, after [`Partition::settle`]; what it says is to be sent behind the
    /// partition's own messages of the turn.
    pub fn advance<M: SegmentMemory>(&mut self, now: Timestamp, partition: &mut Partition<M>) {
        let synced = partition.log().synced();
        while let Some((from, number, _)) = self.barriers.pop_front_if(|&mut (.., position)| position <= synced) {
            self.messages.push((from, CheckpointMessage::Passed(number)));
        }
        if !self.is_ending && self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.wants_to_begin(partition) {
            self.begin(now, partition);
        }
        if self.may_publish(partition)
            && let Some(run) = &mut self.run
        {
            run.stage = Stage::Publishing;
            self.orders.push(CheckpointOrder::Publish);
        }
    }

    /// Whether the next [`Self::advance`] publishes: the last part may be taken when nothing is left to wait for, and then
    /// nothing else brings another turn.
    pub fn may_publish<M: SegmentMemory>(&self, partition: &Partition<M>) -> bool {
        self.run.as_ref().is_some_and(|run| {
            run.stage == Stage::Waiting
                && (run.barriers_left == 0 || is_on(Mutation::PublishPastBarriers))
                && (run.cursor.ends() <= partition.log().synced() || is_on(Mutation::PublishUnsynced))
        })
    }

    /// Whether [`Self::take_part`] has something to take, and it is time to.
    pub fn wants_parts<M: SegmentMemory>(&self, now: Timestamp, partition: &Partition<M>) -> bool {
        // A stop has nothing else to do.
        let is_due = |run: &Run| self.is_ending || run.part_due_at(partition) <= now;
        self.run
            .as_ref()
            .is_some_and(|run| run.stage == Stage::Taking && is_due(run))
    }

    /// Takes the next part of the checkpoint under way, into `buffer`; `false` when there is none.
    pub fn take_part<M: SegmentMemory>(&mut self, partition: &mut Partition<M>, mut buffer: Vec<u8>) -> bool {
        let Some(run) = self.run.as_mut().filter(|run| run.stage == Stage::Taking) else {
            return false;
        };
        let kind = run.cursor.next_part(partition.shard(), &mut buffer);
        if let Some(kind) = kind {
            run.part_bytes += buffer.len() as u64;
            self.orders.push(CheckpointOrder::Part(kind, buffer));
        } else {
            let ends = run.cursor.ends();
            run.stage = Stage::Waiting;
            partition.want_synced(ends);
            self.orders.push(CheckpointOrder::Close { ends });
        }
        kind.is_some()
    }

    /// The checkpoint under way stands, with so many bytes.
    pub fn published(&mut self, bytes: u64) {
        let run = self.run.take().expect("what is published was begun");
        assert_eq!(run.stage, Stage::Publishing, "nothing is published before its time");
        self.checkpoint_bytes = bytes;
        self.log_bytes_before = -(run.log_bytes as i64);
        self.begins = run.cursor.begins();
        self.unchanged_at = Some(self.begins);
    }

    /// The checkpoint under way could not be written. It is tried again, in a while.
    pub fn failed(&mut self, now: Timestamp) {
        self.run = None;
        self.is_wanted = true;
        self.retry_at = Some(now.plus_ms(RETRY_MS));
    }

    /// Messages to other shards, in order, to be sent behind those of the partition.
    pub fn messages(&mut self) -> impl Iterator<Item = (ShardId, CheckpointMessage)> + '_ {
        self.messages.drain(..)
    }

    /// What is to be done with the file.
    pub fn orders(&mut self) -> impl Iterator<Item = CheckpointOrder> + '_ {
        self.orders.drain(..)
    }

    /// When a turn is wanted though nothing else happens.
    pub fn next_timer<M: SegmentMemory>(&self, partition: &Partition<M>) -> Option<Timestamp> {
        // A stop tries but once, and waits for nothing in between.
        if self.is_ending {
            return None;
        }
        let taking = self.run.as_ref().filter(|run| run.stage == Stage::Taking);
        let part = taking.map(|run| run.part_due_at(partition));
        [self.retry_at, part].into_iter().flatten().min()
    }

    fn is_due<M: SegmentMemory>(&self, partition: &Partition<M>) -> bool {
        let log = partition.log();
        if self.is_wanted {
            return true;
        }
        if self.is_ending {
            return self.unchanged_at != Some(log.last());
        }
        let log_bytes = (log.appended_bytes() as i64 + self.log_bytes_before) as u64;
        log_bytes >= self.log_bytes_min.max(self.checkpoint_bytes)
    }

    fn begin<M: SegmentMemory>(&mut self, now: Timestamp, partition: &mut Partition<M>) {
        let cursor = CheckpointCursor::begin(partition.shard());
        self.runs += 1;
        self.is_wanted = false;
        let barrier = CheckpointMessage::Barrier(self.runs);
        let peers = self.map.shards().filter(|&shard| shard != self.own);
        self.messages.extend(peers.map(|shard| (shard, barrier)));
        self.orders.push(CheckpointOrder::Begin {
            begins: cursor.begins(),
        });
        self.run = Some(Run {
            cursor,
            stage: Stage::Taking,
            barriers_left: self.map.shard_count() - 1,
            log_bytes: partition.log().appended_bytes(),
            began_at: now,
            part_bytes: 0,
        });
        // What pends is taken before the shard takes another step.
        self.take_part(partition, Vec::new());
    }
}

#[cfg(test)]
#[path = "checkpointing_tests.rs"]
mod tests;
