//! A running server: the partitions that serve production, driven in one thread over simulated mailboxes, watermarks
//! and syncs.
//!
//! Does in a turn what the shard loop does in one, in the same order; how much of what has come a shard finds is drawn.
//! Decides nothing: what a record means, when an answer may leave and what to sync is the partition's own.

use std::collections::VecDeque;
use std::fmt::Write;

use cartwright::config::SyncMode;
use cartwright::engine::{
    Ask, CheckpointCursor, LogPosition, Question, ReplyTo, Response, Shard, ShardId, ShardMap, ShardMessage, Timestamp,
};
use cartwright::log::{Generation, LogIdentity, LogWriter, SegmentNumber, SyncPlan};
use cartwright::runtime::{Partition, SegmentWanted};

use crate::disk::{Disk, MappedFile};
use crate::mailbox::Mailbox;
use crate::parameters::Parameters;
use crate::promise;
use crate::random::Random;
use crate::storage::{empty_segment, segment_name};
use crate::violation::Checked;
use crate::witness::{Follower, Witness};

/// What writes are refused with while the disk is full.
const DISK_FULL: &str = "the disk is full";

/// How many milliseconds a shard waits before it tries to make a segment again.
const SEGMENT_RETRY_MS: u64 = 20;

/// What shards send each other.
#[derive(Debug)]
enum Mail {
    Request(Question),
    Reply(ReplyTo, Response),
    Message(ShardMessage),
}

/// A sync under way.
#[derive(Debug)]
struct Sync {
    plan: SyncPlan,
    /// How many of its ranges are on disk.
    done: usize,
}

/// What became of a segment that was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SegmentOrder {
    None,
    UnderWay(SegmentNumber),
    RetryAt(Timestamp),
}

/// A checkpoint being written.
#[derive(Debug)]
struct Writing {
    cursor: CheckpointCursor,
    parts: Vec<Vec<u8>>,
}

/// A checkpoint that recovery may begin with.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Of which generation.
    pub generation: Generation,
    /// Where it begins.
    pub begins: LogPosition,
    /// In the order in which they were written.
    pub parts: Vec<Vec<u8>>,
}

/// One shard.
#[derive(Debug)]
struct Node {
    partition: Partition<MappedFile>,
    follower: Follower,
    sync: Option<Sync>,
    order: SegmentOrder,
    /// The others' watermarks as this shard has seen them.
    seen: Vec<LogPosition>,
    /// Requests of this shard's connections.
    arrived: VecDeque<Question>,
    paused_until: u32,
    writing: Option<Writing>,
    /// Something came since the last turn ended: it may not rest.
    is_stirred: bool,
}

/// The world around a shard's turn.
pub struct World<'a> {
    /// The time.
    pub now: Timestamp,
    /// The run's shape.
    pub parameters: &'a Parameters,
    /// Chance.
    pub random: &'a mut Random,
    /// The disk.
    pub disk: &'a mut Disk,
    /// Whether the disk takes no more.
    pub disk_is_full: bool,
    /// Follows the logs.
    pub witness: &'a mut Witness,
    /// Whether everything that has come is found at once, and every sync ends.
    pub hurries: bool,
}

/// What a turn gave.
#[derive(Debug, Default)]
pub struct Turn {
    /// Answers that left their shard's gate.
    pub released: Vec<(ReplyTo, Response)>,
    /// Answers that reached their client's connection.
    pub delivered: Vec<(ReplyTo, Response)>,
    /// A sync failed: the process ends at once.
    pub sync_failed: bool,
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    map: ShardMap,
    generation: Generation,
    nodes: Vec<Node>,
    /// By sender and addressee.
    mail: Vec<Mailbox<Mail>>,
    watermarks: Vec<LogPosition>,
}

impl Server {
    /// Recovered shards, and logs that are synced.
    pub fn new(generation: Generation, shards: Vec<(Shard, LogWriter<MappedFile>, Follower)>) -> Self {
        let count = shards.len();
        let node = |(shard, log, follower)| Node {
            partition: Partition::new(shard, log, SyncMode::Always),
            follower,
            sync: None,
            order: SegmentOrder::None,
            seen: vec![LogPosition::ZERO; count],
            arrived: VecDeque::new(),
            paused_until: 0,
            writing: None,
            is_stirred: true,
        };
        Self {
            map: ShardMap::new(count as u16),
            generation,
            nodes: shards.into_iter().map(node).collect(),
            mail: (0..count * count).map(|_| Mailbox::default()).collect(),
            watermarks: vec![LogPosition::ZERO; count],
        }
    }

    /// How many shards it has.
    pub fn shard_count(&self) -> usize {
        self.nodes.len()
    }

    fn identity(&self, shard: usize) -> LogIdentity {
        self.nodes[shard].partition.log().identity()
    }

    /// A client's request comes in on the connection's shard.
    pub fn send(&mut self, request: Question) {
        let node = &mut self.nodes[request.reply_to.shard.index()];
        node.arrived.push_back(request);
        node.is_stirred = true;
    }

    /// A shard stops for a while.
    pub fn pause(&mut self, shard: usize, until: u32) {
        self.nodes[shard].paused_until = until;
    }

    /// Whether a shard would take a turn by itself: what the shard loop looks at before it rests.
    fn is_awake(&self, shard: usize, now: Timestamp) -> bool {
        let (node, count) = (&self.nodes[shard], self.nodes.len());
        let has_mail = (0..count).any(|from| self.mail[from * count + shard].has_come());
        let is_waiting = (0..count).any(|to| self.mail[shard * count + to].is_waiting());
        let has_moved = node.partition.awaits_peers()
            && (0..count).any(|peer| peer != shard && node.seen[peer] != self.watermarks[peer]);
        let is_due = node.partition.next_timer().is_some_and(|due| due <= now);
        let may_order = match node.order {
            SegmentOrder::None => false,
            SegmentOrder::UnderWay(_) => true,
            SegmentOrder::RetryAt(at) => at <= now,
        };
        node.is_stirred
            || has_mail
            || is_waiting
            || has_moved
            || is_due
            || may_order
            || node.sync.is_some()
            || node.partition.has_work()
            || (!node.arrived.is_empty() && node.partition.accepts_requests())
    }

    /// Whether nothing is in flight anywhere.
    pub fn is_quiet(&self) -> bool {
        self.mail.iter().all(Mailbox::is_empty)
            && self.nodes.iter().all(|node| {
                node.arrived.is_empty()
                    && node.sync.is_none()
                    && node.partition.is_quiet()
                    && node.partition.log().synced() == node.partition.log().last()
            })
    }

    /// The last position of every shard's log.
    pub fn log_ends(&self) -> Vec<LogPosition> {
        self.nodes.iter().map(|node| node.partition.log().last()).collect()
    }

    /// What is stuck, for a message.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Node { partition, .. } = node;
            let _ = write!(
                text,
                "shard {index}: quiet {}, in flight {}, log {} synced {}, arrived {}, accepts {}, sync {}, order {:?}; ",
                partition.is_quiet(),
                partition.shard().transactions_in_flight(),
                partition.log().last(),
                partition.log().synced(),
                node.arrived.len(),
                partition.accepts_requests(),
                node.sync.is_some(),
                node.order,
            );
        }
        let mail: Vec<_> = self.mail.iter().map(Mailbox::waiting).collect();
        text + &format!("mail that waits for room {mail:?}")
    }

    /// One turn of a shard, if it is awake.
    pub fn turn(&mut self, shard: usize, step: u32, world: &mut World) -> Checked<Turn> {
        let mut turn = Turn::default();
        if self.nodes[shard].paused_until > step || (world.parameters.rests && !self.is_awake(shard, world.now)) {
            return Ok(turn);
        }
        let now = world.now;
        self.nodes[shard].is_stirred = false;
        self.end_sync(shard, world, &mut turn);
        if turn.sync_failed {
            return Ok(turn);
        }
        self.take_mail(shard, world, &mut turn);
        self.look(shard, world);
        self.nodes[shard].partition.tick(now);
        self.look_after_segments(shard, world);
        self.take_requests(shard, world);
        let node = &mut self.nodes[shard];
        node.partition.settle(now);
        node.follower
            .follow(ShardId(shard as u16), node.partition.log(), world.witness)?;
        if node.sync.is_none()
            && let Some(plan) = node.partition.begin_sync(now)
        {
            node.sync = Some(Sync { plan, done: 0 });
        }
        self.send_out(shard, world.parameters.mail_capacity, &mut turn);
        let safe = self.nodes[shard].partition.safe();
        promise!(
            self.watermarks[shard] <= safe,
            "the watermark of shard {shard} goes back to {safe}"
        );
        self.watermarks[shard] = safe;
        Ok(turn)
    }

    fn end_sync(&mut self, shard: usize, world: &mut World, turn: &mut Turn) {
        let node = &mut self.nodes[shard];
        let Some(sync) = &mut node.sync else { return };
        while sync.done < sync.plan.ranges.len() {
            if !world.hurries && !world.random.chance(world.parameters.sync_ends) {
                node.is_stirred = true;
                return;
            }
            let range = &sync.plan.ranges[sync.done];
            let mapped = node.partition.log().segment(range.segment);
            let mapped = mapped.expect("a segment of a plan stays until the plan is done");
            world.disk.flush_range(mapped, &range.bytes);
            let file = world.disk.file_mut(mapped.name);
            if !world.hurries && world.random.chance(world.parameters.sync_fails) {
                file.fail_sync(&range.bytes, world.random);
                turn.sync_failed = true;
                return;
            }
            file.sync(&range.bytes);
            sync.done += 1;
        }
        world.witness.look_at_disk(world.disk, ShardId(shard as u16));
        let sync = node.sync.take().expect("looked at above");
        node.partition.sync_done(sync.plan);
        for retired in node.partition.take_retired() {
            world.disk.flush(&retired);
        }
    }

    fn take_mail(&mut self, shard: usize, world: &mut World, turn: &mut Turn) {
        let count = self.nodes.len();
        for from in 0..count {
            let queue = &mut self.mail[from * count + shard];
            let node = &mut self.nodes[shard];
            while queue.has_come() {
                if !world.hurries && !world.random.chance(world.parameters.mail) {
                    node.is_stirred = true;
                    break;
                }
                match queue.take().expect("looked at above") {
                    Mail::Request(request) => node.partition.request(world.now, request),
                    Mail::Message(message) => node.partition.message(world.now, ShardId(from as u16), message),
                    Mail::Reply(reply_to, reply) => turn.delivered.push((reply_to, reply)),
                }
            }
        }
    }

    fn look(&mut self, shard: usize, world: &mut World) {
        if !world.hurries && !world.random.chance(world.parameters.looks) {
            return;
        }
        let node = &mut self.nodes[shard];
        for (peer, &position) in self.watermarks.iter().enumerate() {
            if peer != shard && node.seen[peer] != position {
                node.seen[peer] = position;
                node.partition.peer_safe(world.now, ShardId(peer as u16), position);
            }
        }
    }

    fn look_after_segments(&mut self, shard: usize, world: &mut World) {
        let identity = self.identity(shard);
        let node = &mut self.nodes[shard];
        if let SegmentOrder::UnderWay(number) = node.order {
            if !world.hurries && !world.random.chance(world.parameters.sync_ends) {
                node.is_stirred = true;
            } else if world.disk_is_full {
                node.partition.block(world.now, DISK_FULL);
                node.order = SegmentOrder::RetryAt(world.now.plus_ms(SEGMENT_RETRY_MS));
            } else {
                let name = segment_name(identity, number);
                let bytes = empty_segment(identity, number, world.parameters.segment_bytes, world.random);
                world.disk.create(name, bytes);
                node.partition.offer_segment(world.now, world.disk.map(name));
                node.order = SegmentOrder::None;
            }
        }
        let may_order = match node.order {
            SegmentOrder::None => true,
            SegmentOrder::UnderWay(_) => false,
            SegmentOrder::RetryAt(at) => at <= world.now || world.hurries,
        };
        if may_order && let Some(SegmentWanted { number, .. }) = node.partition.wants_segment() {
            node.order = SegmentOrder::UnderWay(number);
        }
    }

    fn take_requests(&mut self, shard: usize, world: &mut World) {
        let (map, count) = (self.map, self.nodes.len());
        let node = &mut self.nodes[shard];
        let waiting_max = world.parameters.mail_capacity;
        while node.partition.accepts_requests() && !node.arrived.is_empty() {
            // As the shard loop: what others have no room for is not added to.
            if self.mail[shard * count..][..count]
                .iter()
                .any(|mail| mail.waiting() > waiting_max)
            {
                return;
            }
            if !world.hurries && !world.random.chance(world.parameters.mail) {
                node.is_stirred = true;
                return;
            }
            let request = node.arrived.pop_front().expect("looked at above");
            let home = home_of(map, &request.ask).index();
            if home == shard {
                node.partition.request(world.now, request);
            } else {
                self.mail[shard * count + home].post(Mail::Request(request));
            }
        }
    }

    fn send_out(&mut self, shard: usize, mail_capacity: usize, turn: &mut Turn) {
        let count = self.nodes.len();
        let node = &mut self.nodes[shard];
        for (to, message) in node.partition.messages() {
            self.mail[shard * count + to.index()].post(Mail::Message(message));
        }
        for (reply_to, reply) in node.partition.released() {
            turn.released.push((reply_to, reply.clone()));
            if reply_to.shard.index() == shard {
                turn.delivered.push((reply_to, reply));
            } else {
                self.mail[shard * count + reply_to.shard.index()].post(Mail::Reply(reply_to, reply));
            }
        }
        for mail in &mut self.mail[shard * count..][..count] {
            mail.deliver(mail_capacity);
        }
    }

    /// The system writes a part of what one shard stored back by itself.
    pub fn write_back(&self, shard: usize, world: &mut World) {
        self.flush(shard, world.disk);
        for name in world.disk.segments(self.generation, ShardId(shard as u16)) {
            world.disk.file_mut(name).write_back(300, world.random);
        }
        world.witness.look_at_disk(world.disk, ShardId(shard as u16));
    }

    fn flush(&self, shard: usize, disk: &mut Disk) {
        let log = self.nodes[shard].partition.log();
        for name in disk.segments(self.generation, ShardId(shard as u16)) {
            if let Some(mapped) = log.segment(name.number) {
                disk.flush(mapped);
            }
        }
    }

    /// The process ends: all that is left of it is what it stored, and segments that were made a moment before their
    /// shards would have heard of it.
    pub fn end(self, disk: &mut Disk, segment_bytes: u64, random: &mut Random) {
        for shard in 0..self.nodes.len() {
            self.flush(shard, disk);
            if let SegmentOrder::UnderWay(number) = self.nodes[shard].order
                && random.chance(300)
            {
                let identity = self.identity(shard);
                let bytes = empty_segment(identity, number, segment_bytes, random);
                disk.create(segment_name(identity, number), bytes);
            }
        }
    }

    /// Hash of the decided state of all shards.
    pub fn state_hash(&self) -> u64 {
        let hashes = self.nodes.iter().map(|node| node.partition.shard().state_hash());
        hashes.fold(0, u64::wrapping_add)
    }

    /// Writes a few parts of a checkpoint of one shard; gives it back once it may stand for the log before it.
    ///
    /// It may once its log is synced up to where it ends, and every shard that had a part in its transactions has their
    /// outcome on disk: what this shard said before has arrived there and is synced.
    pub fn write_checkpoint(&mut self, shard: usize, parts: u64) -> Option<Checkpoint> {
        let node = &mut self.nodes[shard];
        let mut writing = match node.writing.take() {
            Some(writing) => writing,
            None => Writing {
                cursor: CheckpointCursor::begin(node.partition.shard()),
                parts: Vec::new(),
            },
        };
        let mut buffer = Vec::new();
        for _ in 0..parts {
            if writing.cursor.next_part(node.partition.shard(), &mut buffer) {
                writing.parts.push(buffer.clone());
                continue;
            }
            let count = self.nodes.len();
            let has_arrived = (0..count).all(|to| self.mail[shard * count + to].is_empty());
            let logs = || self.nodes.iter().map(|node| node.partition.log());
            let is_synced = logs().all(|log| log.synced() == log.last());
            if has_arrived && is_synced {
                return Some(Checkpoint {
                    generation: self.generation,
                    begins: writing.cursor.begins(),
                    parts: writing.parts,
                });
            }
            break;
        }
        self.nodes[shard].writing = Some(writing);
        None
    }
}

/// The shard that coordinates a request.
pub fn home_of(map: ShardMap, ask: &Ask) -> ShardId {
    ask.home().map_or(ShardId(0), |slot| map.shard_of(slot))
}
