//! A running server: the turns that serve production, taken one at a time over a simulated world.
//!
//! Which shard takes a turn is the simulation's to say, and whether it rests is the turn's own; between turns happens
//! what the system does, and the threads that make segments and checkpoints. How much of what has come a shard finds is
//! drawn, and so is whether the process ends in the middle of what is done to files.

use std::collections::VecDeque;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use cartwright::engine::{LogPosition, ShardId, ShardMap, Timestamp};
use cartwright::log::{DataDirectory, Generation, MappedSegment, SegmentFactory, SegmentMemory};
use cartwright::net::{Cause, Parked};
use cartwright::runtime::board::Board;
use cartwright::runtime::checkpoint_keeper::{CheckpointKeeper, Done};
use cartwright::runtime::checkpointing::{CheckpointNews, CheckpointOrder, Checkpointing};
use cartwright::runtime::mailbox::Mail;
use cartwright::runtime::prepare::Prepared;
use cartwright::runtime::turn::{Core, CoreParts, Event, Rest};
use cartwright::session::{ServerCounters, ServerFacts, SessionContext, SessionLimits};

use crate::disk::{Disk, shard_directory};
use crate::mailbox::Mailbox;
use crate::network::{Network, ServerEnd, Socket, Weather};
use crate::parameters::Parameters;
use crate::promise;
use crate::random::Random;
use crate::violation::Checked;
use crate::witness::{Follower, Witness};
use crate::world::{Doorbell, ShardWorld, UnderWay};

/// After how many operations on files the process ends, or one fails, at most.
const OPERATIONS_MAX: u64 = 30;

/// Connections over all shards, at most: more than there are clients.
const CONNECTIONS_MAX: usize = 1000;

/// One shard.
struct Node {
    core: Core<MappedSegment<Disk>, ServerEnd>,
    context: Rc<SessionContext>,
    network: Network,
    segments: SegmentFactory<Disk>,
    under_way: UnderWay,
    follower: Follower,
    paused_until: u32,
    /// Until when it rests, where nothing rings before.
    wake_at: Option<Timestamp>,
    is_over: bool,
}

/// The world around a server.
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

/// What sessions are told of the server around them.
struct Facts(Arc<Board>);

impl ServerFacts for Facts {
    fn counters(&self) -> ServerCounters {
        ServerCounters::default()
    }

    fn request_checkpoint(&self, or_later: bool) -> bool {
        self.0.request_checkpoint(or_later)
    }

    fn stop(&self) {}
}

/// A server.
pub struct Server {
    generation: Generation,
    board: Arc<Board>,
    nodes: Vec<Node>,
    /// By sender and addressee.
    mail: Vec<Mailbox<Mail<ServerEnd>>>,
    doorbells: Vec<Doorbell>,
    keeper: CheckpointKeeper<Disk>,
    /// What it has yet to do.
    orders: VecDeque<(ShardId, CheckpointOrder)>,
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
        let board = Arc::new(Board::new(count as u16));
        let identities = factories.iter().map(SegmentFactory::identity);
        let generation = factories[0].identity().generation;
        let keeper = CheckpointKeeper::new(data, identities, &pasts);
        let parts = partitions.into_iter().zip(factories).zip(pasts).zip(followers);
        let node = |(((partition, segments), past), follower)| {
            let context = Rc::new(context(&partition, count as u16, &board, parameters.session_limits));
            let parts = CoreParts {
                checkpointing: Checkpointing::new(&partition, map, parameters.checkpoint_bytes, past),
                partition,
                board: Arc::clone(&board),
                connections_max: CONNECTIONS_MAX,
            };
            Node {
                core: Core::new(parts, map, Rc::clone(&context)),
                context,
                network: Network::default(),
                segments,
                under_way: UnderWay::default(),
                follower,
                paused_until: 0,
                wake_at: None,
                is_over: false,
            }
        };
        Self {
            generation,
            nodes: parts.map(node).collect(),
            board,
            mail: (0..count * count).map(|_| Mailbox::default()).collect(),
            doorbells: (0..count).map(|_| Doorbell::default()).collect(),
            keeper,
            orders: VecDeque::new(),
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

    /// A client connects.
    pub fn connect(&mut self, socket: &Socket) {
        let end = ServerEnd(socket.clone());
        self.nodes[0].network.events.push_back(Event::Accepted(end));
    }

    /// A shard stops for a while.
    pub fn pause(&mut self, shard: usize, until: u32) {
        self.nodes[shard].paused_until = until;
    }

    /// Whether nothing is in flight anywhere.
    pub fn is_quiet(&mut self) -> bool {
        self.mail.iter().all(Mailbox::is_empty)
            && self.nodes.iter_mut().all(|node| {
                let partition = node.core.partition();
                partition.safe() == partition.log().last() && node.core.is_quiet() && node.network.is_quiet()
            })
    }

    /// Whether some shard has no segment to write to, and has yet to try again.
    pub fn is_blocked(&self) -> bool {
        self.nodes.iter().any(|node| node.core.is_blocked())
    }

    /// The last position of every shard's log.
    pub fn log_ends(&self) -> Vec<LogPosition> {
        let ends = self.nodes.iter().map(|node| node.core.partition().log().last());
        ends.collect()
    }

    /// What is stuck, for a message.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let partition = node.core.partition();
            let _ = write!(
                text,
                "shard {index}: {:?}, quiet {}, in flight {}, log {} synced {}, accepts {}, under way {:?}, rests until \
                 {:?} {}; ",
                node.core,
                partition.is_quiet(),
                partition.shard().transactions_in_flight(),
                partition.log().last(),
                partition.log().synced(),
                partition.accepts_requests(),
                node.under_way,
                node.wake_at,
                self.doorbells[index].is_waited_for(),
            );
        }
        let mail: Vec<_> = self.mail.iter().map(Mailbox::waiting).collect();
        text + &format!("mail that waits for room {mail:?}")
    }

    /// What the system and the maker of segments do meanwhile for a shard, and one turn of it if it does not rest. Why
    /// the process ends, if it does.
    pub fn turn(&mut self, shard: usize, step: u32, world: &mut World) -> Checked<Option<&'static str>> {
        if self.nodes[shard].paused_until > step || self.nodes[shard].is_over {
            return Ok(None);
        }
        let node = &mut self.nodes[shard];
        node.context.turn_us.set(world.now.unix_ms() * 1000);
        let is_due = node.wake_at.is_some_and(|at| at <= world.now);
        let rests = world.parameters.rests && self.doorbells[shard].is_waited_for() && !is_due;
        if !rests {
            node.network.look_after_touched();
        }
        node.network.complete(&mut Weather {
            random: world.random,
            hurries: world.hurries,
            comes: world.parameters.mail,
            taken: world.parameters.taken,
        });
        if let Some(why) = self.continue_sync(shard, world) {
            return Ok(Some(why));
        }
        if let Some(why) = self.make_segment(shard, world) {
            return Ok(Some(why));
        }
        if rests && self.doorbells[shard].is_waited_for() && self.nodes[shard].network.events.is_empty() {
            return Ok(None);
        }
        self.doorbells[shard].announce(Parked::Not);
        let node = &mut self.nodes[shard];
        let mut shard_world = ShardWorld {
            own: ShardId(shard as u16),
            now_us: world.now.unix_ms() * 1000,
            hurries: world.hurries,
            mail_found: world.parameters.mail,
            looks: world.parameters.looks,
            mail_capacity: world.parameters.mail_capacity,
            random: world.random,
            network: &mut node.network,
            mail: &mut self.mail,
            doorbells: &self.doorbells,
            under_way: &mut node.under_way,
            orders: &mut self.orders,
        };
        match node.core.turn(&mut shard_world) {
            Rest::Not => {}
            Rest::Over => node.is_over = true,
            Rest::Until(parked, wake_at) => {
                self.doorbells[shard].announce(parked);
                if node.core.has_news(&mut shard_world) {
                    self.doorbells[shard].announce(Parked::Not);
                }
                node.wake_at = wake_at;
            }
        }
        self.follow(shard, world)?;
        Ok(None)
    }

    /// The witness reads what the turn has appended.
    fn follow(&mut self, shard: usize, world: &mut World) -> Checked {
        let node = &mut self.nodes[shard];
        let log = node.core.partition().log();
        node.follower.follow(ShardId(shard as u16), world.witness, |number| {
            log.segment(number).map(SegmentMemory::bytes)
        })
    }

    fn continue_sync(&mut self, shard: usize, world: &mut World) -> Option<&'static str> {
        let node = &mut self.nodes[shard];
        while let Some((part, range)) = node.under_way.sync.pop() {
            if !world.hurries && !world.random.chance(world.parameters.sync_ends) {
                node.under_way.sync.push((part, range));
                return None;
            }
            let mapped = node.core.partition().log().segment(range.segment);
            let mapped = mapped
                .expect("a segment of a plan stays until the plan is done")
                .memory();
            if !world.hurries && world.random.chance(world.parameters.sync_fails) {
                mapped.fail_sync_range(&range.bytes, world.random);
                return Some("a sync fails");
            }
            mapped.sync_range(&range.bytes);
            node.network.events.push_back(Event::Synced(part));
            if node.under_way.sync.is_empty() {
                world.witness.look_at_disk(world.disk, ShardId(shard as u16));
            }
        }
        None
    }

    fn make_segment(&mut self, shard: usize, world: &mut World) -> Option<&'static str> {
        let node = &mut self.nodes[shard];
        let wanted = node.under_way.wanted?;
        if !world.hurries && !world.random.chance(world.parameters.sync_ends) {
            return None;
        }
        world.may_end_process();
        let made = node.segments.create_of(wanted.number, wanted.bytes_min);
        if world.has_ended() {
            return Some("it was making a segment");
        }
        node.under_way.wanted = None;
        node.under_way.made = Some(made);
        self.doorbells[shard].ring(Cause::Mail);
        None
    }

    /// Somebody wants a checkpoint of every shard.
    pub fn request_checkpoint(&mut self) {
        self.board.request_checkpoint(true);
        self.ring_all();
    }

    fn ring_all(&self) {
        for doorbell in &self.doorbells {
            doorbell.ring(Cause::Mail);
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
        match done {
            Ok(Done::Quickly | Done::Synced(_)) => {}
            Ok(Done::Published { bytes }) => {
                node.under_way.news = Some(CheckpointNews::Published { bytes });
                world.published += 1;
            }
            Err(_) => node.under_way.news = Some(CheckpointNews::Failed),
        }
        self.doorbells[shard.index()].ring(Cause::Mail);
        Ok(false)
    }

    /// The system writes a part of what one shard stored back by itself.
    pub fn write_back(&self, shard: usize, world: &mut World) {
        let own = ShardId(shard as u16);
        let log = self.nodes[shard].core.partition().log();
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
            if let Some(wanted) = node.under_way.wanted
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
        let hashes = self.nodes.iter().map(|node| node.core.partition().shard().state_hash());
        hashes.fold(0, u64::wrapping_add)
    }

    /// Whether every checkpoint that was asked for stands.
    pub fn has_checkpoints(&self) -> bool {
        let is_done = |node: &Node| {
            let checkpointing = node.core.checkpointing();
            node.under_way.news.is_none() && !checkpointing.is_running() && !checkpointing.is_requested()
        };
        self.orders.is_empty() && !self.board.is_checkpointing() && self.nodes.iter().all(is_done)
    }

    /// From now on shards finish what is in flight, write their last checkpoints, and end.
    pub fn stop(&mut self) {
        self.board.stop();
        self.ring_all();
    }

    /// Whether every shard has ended after [`Self::stop`].
    pub fn is_over(&self) -> bool {
        self.orders.is_empty() && self.nodes.iter().all(|node| node.is_over)
    }

    /// The orderly end.
    pub fn finish(self) -> Checked {
        for node in self.nodes {
            let ended = node.core.into_partition().sync_and_end();
            promise!(ended.is_ok(), "a stop cannot sync its log: {ended:?}");
        }
        Ok(())
    }
}

fn context(
    partition: &cartwright::runtime::Partition<MappedSegment<Disk>>,
    shard_count: u16,
    board: &Arc<Board>,
    limits: SessionLimits,
) -> SessionContext {
    let shard = partition.log().identity().shard;
    let facts = Box::new(Facts(Arc::clone(board)));
    SessionContext {
        limits,
        ..SessionContext::new(shard.0, shard_count, 0, String::new(), facts)
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
