//! A running server: the partitions and checkpoints that serve production, driven in one thread over simulated
//! mailboxes, watermarks and syncs.
//!
//! Does in a turn what the shard loop does in one, in the same order, and between turns what the threads that make
//! segments and checkpoints do; how much of what has come a shard finds is drawn, and so is whether the process ends in
//! the middle of what is done to files. Decides nothing: what a record means, when an answer may leave, what to sync and
//! when a checkpoint stands is the code's own.

use std::collections::VecDeque;
use std::fmt::Write;

use cartwright::engine::{Ask, LogPosition, Question, ReplyTo, Response, ShardId, ShardMap, ShardMessage, Timestamp};
use cartwright::log::{DataDirectory, Generation, MappedSegment, SegmentFactory, SegmentMemory, SyncPlan};
use cartwright::runtime::checkpoint_keeper::{CheckpointKeeper, Done};
use cartwright::runtime::checkpointing::{CheckpointMessage, CheckpointNews, CheckpointOrder, Checkpointing};
use cartwright::runtime::prepare::Prepared;
use cartwright::runtime::{Partition, SegmentWanted};

use crate::disk::{Disk, shard_directory};
use crate::mailbox::Mailbox;
use crate::parameters::Parameters;
use crate::promise;
use crate::random::Random;
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
    Checkpoint(CheckpointMessage),
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
    UnderWay(SegmentWanted),
    RetryAt(Timestamp),
}

/// Orders of a shard that may be on their way to the thread that writes checkpoints before it takes no more parts.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// After how many operations on files the process ends, or one fails, at most.
const OPERATIONS_MAX: u64 = 30;

/// One shard.
#[derive(Debug)]
struct Node {
    partition: Partition<MappedSegment<Disk>>,
    segments: SegmentFactory<Disk>,
    checkpointing: Checkpointing,
    /// What became of its checkpoint.
    news: Option<CheckpointNews>,
    follower: Follower,
    sync: Option<Sync>,
    order: SegmentOrder,
    /// The others' watermarks as this shard has seen them.
    seen: Vec<LogPosition>,
    /// Requests of this shard's connections.
    arrived: VecDeque<Question>,
    paused_until: u32,
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
    pub disk: &'a Disk,
    /// Follows the logs.
    pub witness: &'a mut Witness,
    /// Whether everything that has come is found at once, and every sync ends.
    pub hurries: bool,
    /// Checkpoints that came to stand.
    pub published: u64,
}

/// What a turn gave.
#[derive(Debug, Default)]
pub struct Turn {
    /// Answers that left the server's promise behind them: what they tell of is safe.
    pub released: Vec<(ReplyTo, Response)>,
    /// Answers that reached the shard of their connection.
    pub delivered: Vec<(ReplyTo, Response)>,
    /// Why the process ends, if it does.
    pub ended: Option<&'static str>,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    map: ShardMap,
    generation: Generation,
    nodes: Vec<Node>,
    /// By sender and addressee.
    mail: Vec<Mailbox<Mail>>,
    watermarks: Vec<LogPosition>,
    keeper: CheckpointKeeper<Disk>,
    /// What it has yet to do.
    orders: VecDeque<(ShardId, CheckpointOrder)>,
    /// Nothing new is begun.
    is_stopping: bool,
}

impl Server {
    /// Of what a start has prepared; the followers have read its logs.
    pub fn new(
        data: DataDirectory<Disk>,
        prepared: Prepared<Disk>,
        followers: Vec<Follower>,
        parameters: &Parameters,
    ) -> Self {
        let Prepared {
            partitions,
            factories,
            pasts,
            ..
        } = prepared;
        let count = partitions.len();
        let map = ShardMap::new(count as u16);
        let identities = factories.iter().map(SegmentFactory::identity);
        let generation = factories[0].identity().generation;
        let keeper = CheckpointKeeper::new(data, identities, &pasts);
        let parts = partitions.into_iter().zip(factories).zip(pasts).zip(followers);
        let node = |(((partition, segments), past), follower)| Node {
            checkpointing: Checkpointing::new(&partition, map, parameters.checkpoint_bytes, past),
            partition,
            segments,
            news: None,
            follower,
            sync: None,
            order: SegmentOrder::None,
            seen: vec![LogPosition::ZERO; count],
            arrived: VecDeque::new(),
            paused_until: 0,
            is_stirred: true,
        };
        Self {
            map,
            generation,
            nodes: parts.map(node).collect(),
            mail: (0..count * count).map(|_| Mailbox::default()).collect(),
            watermarks: vec![LogPosition::ZERO; count],
            keeper,
            orders: VecDeque::new(),
            is_stopping: false,
        }
    }

    /// How many shards it has.
    pub fn shard_count(&self) -> usize {
        self.nodes.len()
    }

    /// The generation of its logs.
    pub const fn generation(&self) -> Generation {
        self.generation
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
        let checkpoint = &node.checkpointing;
        let takes_checkpoint = checkpoint.wants_parts(now, &node.partition)
            || checkpoint.wants_to_begin(&node.partition)
            || checkpoint.may_publish(&node.partition)
            || checkpoint.next_timer(&node.partition).is_some_and(|due| due <= now)
            || node.news.is_some();
        node.is_stirred
            || takes_checkpoint
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
                    && node.partition.safe() == node.partition.log().last()
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
        if !self.is_stopping {
            self.nodes[shard].partition.tick(now);
        }
        self.end_sync(shard, world, &mut turn);
        if turn.ended.is_some() {
            self.follow(shard, world)?;
            return Ok(turn);
        }
        self.take_mail(shard, world, &mut turn);
        self.look(shard, world);
        self.take_segment(shard, world, &mut turn);
        if turn.ended.is_some() {
            self.follow(shard, world)?;
            return Ok(turn);
        }
        self.take_checkpoint_news(shard, now);
        self.take_requests(shard, world);
        let node = &mut self.nodes[shard];
        node.partition.settle(now);
        self.order_segment(shard, world);
        self.follow(shard, world)?;
        self.take_checkpoint_parts(shard, world);
        let node = &mut self.nodes[shard];
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

    /// The witness reads what the turn has appended.
    fn follow(&mut self, shard: usize, world: &mut World) -> Checked {
        let node = &mut self.nodes[shard];
        let log = node.partition.log();
        node.follower.follow(ShardId(shard as u16), world.witness, |number| {
            log.segment(number).map(SegmentMemory::bytes)
        })
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
            let mapped = mapped
                .expect("a segment of a plan stays until the plan is done")
                .memory();
            if !world.hurries && world.random.chance(world.parameters.sync_fails) {
                mapped.fail_sync_range(&range.bytes, world.random);
                turn.ended = Some("a sync fails");
                return;
            }
            mapped.sync_range(&range.bytes);
            sync.done += 1;
        }
        let sync = node.sync.take().expect("looked at above");
        node.partition.sync_done(sync.plan);
        drop(node.partition.take_retired());
        world.witness.look_at_disk(world.disk, ShardId(shard as u16));
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
                    Mail::Checkpoint(message) => {
                        node.checkpointing
                            .receive(ShardId(from as u16), message, &mut node.partition);
                    }
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

    fn take_segment(&mut self, shard: usize, world: &mut World, turn: &mut Turn) {
        let node = &mut self.nodes[shard];
        if let SegmentOrder::UnderWay(SegmentWanted { number, bytes_min }) = node.order {
            if !world.hurries && !world.random.chance(world.parameters.sync_ends) {
                node.is_stirred = true;
            } else {
                world.may_end_process();
                let made = node.segments.create_of(number, bytes_min);
                if world.has_ended() {
                    turn.ended = Some("it was making a segment");
                    return;
                }
                if let Ok(segment) = made {
                    node.partition.offer_segment(world.now, segment);
                    node.order = SegmentOrder::None;
                } else {
                    node.partition.block(world.now, DISK_FULL);
                    node.order = SegmentOrder::RetryAt(world.now.plus_ms(SEGMENT_RETRY_MS));
                }
            }
        }
    }

    fn order_segment(&mut self, shard: usize, world: &World) {
        let node = &mut self.nodes[shard];
        let is_retried = match node.order {
            SegmentOrder::None => false,
            SegmentOrder::RetryAt(at) if at <= world.now || world.hurries => true,
            SegmentOrder::UnderWay(_) | SegmentOrder::RetryAt(_) => return,
        };
        if let Some(wanted) = node.partition.wants_segment() {
            node.order = SegmentOrder::UnderWay(wanted);
        } else if is_retried {
            node.order = SegmentOrder::None;
            node.partition.unblock(world.now);
        }
    }

    /// Somebody wants a checkpoint of a shard.
    pub fn request_checkpoint(&mut self, shard: usize) {
        let node = &mut self.nodes[shard];
        node.checkpointing.request();
        node.is_stirred = true;
    }

    fn take_checkpoint_news(&mut self, shard: usize, now: Timestamp) {
        let node = &mut self.nodes[shard];
        match node.news.take() {
            Some(CheckpointNews::Published { bytes }) => node.checkpointing.published(bytes),
            Some(CheckpointNews::Failed) => node.checkpointing.failed(now),
            None => {}
        }
    }

    fn take_checkpoint_parts(&mut self, shard: usize, world: &mut World) {
        let own = ShardId(shard as u16);
        let node = &mut self.nodes[shard];
        node.checkpointing.advance(world.now, &mut node.partition);
        loop {
            self.orders
                .extend(node.checkpointing.orders().map(|order| (own, order)));
            let in_flight = self.orders.iter().filter(|(shard, _)| *shard == own).count();
            if !node.checkpointing.wants_parts(world.now, &node.partition) || in_flight >= PARTS_IN_FLIGHT_MAX {
                break;
            }
            if !world.hurries && !world.random.chance(world.parameters.mail) {
                break;
            }
            node.checkpointing.take_part(&mut node.partition, Vec::new());
        }
    }

    /// Whether the thread that writes checkpoints has something to do.
    pub fn has_checkpoint_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    /// The thread that writes checkpoints carries out an order, if there is one; tells whether the process has ended in
    /// the middle of it.
    pub fn keep_checkpoints(&mut self, world: &mut World) -> Checked<bool> {
        let Some((shard, order)) = self.orders.pop_front() else {
            return Ok(false);
        };
        world.may_end_process();
        if world.may_fail_at(world.parameters.file_fails) {
            world.disk.set_faults(None, Some(world.random.below(OPERATIONS_MAX)));
        }
        let done = self.keeper.carry_out(shard, &order);
        if world.has_ended() {
            return Ok(true);
        }
        let node = &mut self.nodes[shard.index()];
        node.is_stirred = true;
        match done {
            Ok(Done::Quickly | Done::Synced(_)) => {}
            Ok(Done::Published { bytes }) => {
                node.news = Some(CheckpointNews::Published { bytes });
                world.published += 1;
            }
            Err(_) => node.news = Some(CheckpointNews::Failed),
        }
        Ok(false)
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
        for (to, message) in node.checkpointing.messages() {
            self.mail[shard * count + to.index()].post(Mail::Checkpoint(message));
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
        let own = ShardId(shard as u16);
        let log = self.nodes[shard].partition.log();
        for name in world.disk.segments(self.generation, own) {
            if let Some(mapped) = log.segment(name.number) {
                mapped.memory().flush();
            }
        }
        let directory = shard_directory(self.generation, own);
        let files = world.disk.undisturbed(|| world.disk.state().list(&directory));
        for path in files.unwrap_or_default() {
            world.disk.look(&path, |file| file.write_back(300, world.random));
        }
        if world.random.chance(300) {
            // It is there.
            let _ = world.disk.state().sync_directory(&directory);
        }
        world.witness.look_at_disk(world.disk, own);
    }

    /// The process ends, maybe in the middle of what it does to files: all that is left of it is what it stored.
    pub fn end(mut self, disk: &Disk, random: &mut Random) {
        for node in &self.nodes {
            if let SegmentOrder::UnderWay(wanted) = node.order
                && random.chance(300)
            {
                disk.set_faults(Some(random.below(OPERATIONS_MAX)), None);
                // Made or not, nobody hears of it.
                let _ = node.segments.create(wanted.number);
            }
        }
        if let Some((shard, order)) = self.orders.pop_front()
            && random.chance(300)
        {
            disk.set_faults(Some(random.below(OPERATIONS_MAX)), None);
            let _ = self.keeper.carry_out(shard, &order);
        }
        // Nothing is tidied up.
        disk.end_process();
    }

    /// Hash of the decided state of all shards.
    pub fn state_hash(&self) -> u64 {
        let hashes = self.nodes.iter().map(|node| node.partition.shard().state_hash());
        hashes.fold(0, u64::wrapping_add)
    }

    /// Whether every checkpoint that was asked for stands.
    pub fn has_checkpoints(&self) -> bool {
        let is_done =
            |node: &Node| node.news.is_none() && !node.checkpointing.is_running() && !node.checkpointing.is_requested();
        self.orders.is_empty() && self.nodes.iter().all(is_done)
    }

    /// From now on shards only write their last checkpoints.
    pub fn begin_stop(&mut self) {
        self.is_stopping = true;
        for node in &mut self.nodes {
            node.checkpointing.end();
            node.is_stirred = true;
        }
    }

    /// Whether nothing is left to do after [`Self::begin_stop`].
    pub fn is_stopped(&self) -> bool {
        let is_over = |node: &Node| node.sync.is_none() && node.checkpointing.is_over(&node.partition);
        self.orders.is_empty() && self.nodes.iter().all(is_over)
    }

    /// The orderly end.
    pub fn finish(self) -> Checked {
        for node in self.nodes {
            let ended = node.partition.sync_and_end();
            promise!(ended.is_ok(), "a stop cannot sync its log: {ended:?}");
        }
        Ok(())
    }
}

impl World<'_> {
    fn may_fail_at(&mut self, per_mille: u32) -> bool {
        !self.hurries && self.random.chance(per_mille)
    }

    /// The process may end within the operations to come.
    fn may_end_process(&mut self) {
        let ends = self.may_fail_at(self.parameters.file_crash);
        let fuse = ends.then(|| self.random.below(OPERATIONS_MAX));
        self.disk.set_faults(fuse, None);
    }

    /// Whether it did; else the faults are over.
    fn has_ended(&self) -> bool {
        let is_gone = self.disk.is_gone();
        if !is_gone {
            self.disk.set_faults(None, None);
        }
        is_gone
    }
}

/// The shard that coordinates a request.
pub fn home_of(map: ShardMap, ask: &Ask) -> ShardId {
    ask.home().map_or(ShardId(0), |slot| map.shard_of(slot))
}
