//! A shard's turn: everything that a shard does between two looks at the world, in order, and when it may rest.
//!
//! Pure: no I/O, no clock. Driven by the shard loop over a ring and threads, and by the simulator, each behind a
//! [`World`]. A turn takes together everything that came since the last one, so that it costs at most one sync and one
//! delivery a peer, however many requests it carries.
//!
//! What is in flight is bounded: each connection by its session, all of a shard's connections together by
//! [`REQUESTS_IN_FLIGHT_MAX`]; mail, answers at the gate and requests held back are parts of that.

mod arrivals;
mod broadcasts;
mod checkpoints;
mod requests;
mod stopping;
pub mod world;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::stopping::Stage;
pub use self::world::{Addresses, Connections, Event, World};
use super::board::{Board, Tally};
use super::broadcast::{Broadcast, BroadcastMail};
use super::checkpointing::Checkpointing;
use super::mailbox::Mail;
use super::partition::Partition;
use super::watermark::WatermarkView;
use crate::engine::mutation::{Mutation, is_on};
use crate::engine::{LOOK_AHEAD_MAX, LogPosition, Question, ReplyTo, Response, ShardId, ShardMap, Timestamp};
use crate::log::{SegmentMemory, SyncPlan};
use crate::net::{Cause, ConnectionId, Parked};
use crate::session::SessionContext;
use crate::session::report::Durations;
use crate::session::settings::Number;

/// Requests of one shard's connections that may be in flight at a time. Above it, connections wait.
const REQUESTS_IN_FLIGHT_MAX: usize = 65_536;

/// After how long making a segment is tried again.
const SEGMENT_RETRY_MS: u64 = 1000;

/// Why writes are refused, as clients are told.
const DISK_FULL: &str = "the disk is full; they are taken again once there is space";
const NO_SEGMENT: &str = "no log segment can be made; the server's own log says why";

/// What a shard does when its turn is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Takes another turn at once.
    Not,
    /// Rests until it is rung for what it waits for, or until a time. Before it does, it says what it waits for, and
    /// looks once more whether [`Core::has_news`].
    Until(Parked, Option<Timestamp>),
    /// Takes no more turns: the server has stopped.
    Over,
}

/// What a shard's turns work with, made before its thread.
pub struct CoreParts<M> {
    /// The shard and its log.
    pub partition: Partition<M>,
    /// Its checkpoints.
    pub checkpointing: Checkpointing,
    /// What all shards see.
    pub board: Arc<Board>,
    /// Most connections over all shards that the limit on open files allows.
    pub connections_max: usize,
}

/// A sync of the log under way.
#[derive(Debug)]
struct SyncUnderWay {
    plan: SyncPlan,
    /// How many of its parts are not done.
    parts_left: usize,
    began_us: u64,
}

/// Everything of a shard that is the same in every world.
pub struct Core<M, S> {
    id: ShardId,
    map: ShardMap,
    partition: Partition<M>,
    /// For this shard's engine, of this turn.
    questions: Vec<Question>,
    checkpointing: Checkpointing,
    /// When the checkpoint under way began.
    checkpoint_began_us: Option<u64>,
    /// The latest request for one that was taken up.
    checkpoint_request: u64,
    board: Arc<Board>,
    context: Rc<SessionContext>,
    watermarks: WatermarkView,
    connections_max: usize,
    connections_adopted: u64,
    /// Connections that may have requests.
    ready: VecDeque<ConnectionId>,
    /// Requests of this shard's connections that are not answered.
    in_flight: usize,
    /// What sessions ask of all shards.
    broadcast: Broadcast,
    /// When connections are next looked through for silent ones.
    next_idle_look: Timestamp,
    sync: Option<SyncUnderWay>,
    /// How long syncs took.
    syncs: Durations,
    mail: Vec<(ShardId, Mail<S>)>,
    answers: Vec<(ReplyTo, Response)>,
    segment_retry_at: Option<Timestamp>,
    stage: Stage,
}

impl<M: SegmentMemory, S> Core<M, S> {
    /// Of a shard that serves from now on.
    pub fn new(parts: CoreParts<M>, map: ShardMap, context: Rc<SessionContext>) -> Self {
        let CoreParts {
            partition,
            checkpointing,
            board,
            connections_max,
        } = parts;
        let id = partition.log().identity().shard;
        Self {
            id,
            map,
            partition,
            questions: Vec::new(),
            checkpointing,
            checkpoint_began_us: None,
            checkpoint_request: board.checkpoint_requests.load(Ordering::SeqCst),
            board,
            context,
            watermarks: WatermarkView::new(id, map.shard_count()),
            connections_max,
            connections_adopted: 0,
            ready: VecDeque::new(),
            in_flight: 0,
            broadcast: Broadcast::default(),
            next_idle_look: Timestamp::default(),
            sync: None,
            syncs: Durations::default(),
            mail: Vec::new(),
            answers: Vec::new(),
            segment_retry_at: None,
            stage: Stage::Serving,
        }
    }

    /// Everything that is to be done now.
    pub fn turn<W: World<Memory = M, Socket = S>>(&mut self, world: &mut W) -> Rest {
        let began_us = world.now_us();
        let mut turn = Turn {
            core: self,
            now: Timestamp(began_us / 1000),
            began_us,
            world,
        };
        turn.work();
        turn.rest()
    }

    /// Whether something came that no doorbell was rung for, because the shard was not parked.
    pub fn has_news<W: World<Memory = M, Socket = S>>(&self, world: &mut W) -> bool {
        let now = Timestamp(world.now_us() / 1000);
        world.has_mail()
            || (self.partition.awaits_peers() && self.watermarks.has_moved(&self.board.watermarks))
            || world.has_segment()
            || world.has_checkpoint_news()
            || self.takes_checkpoint_part(now, world)
            || self.checkpoint_request != self.board.checkpoint_requests.load(Ordering::SeqCst)
            || (self.stage == Stage::Serving && self.board.is_stopping())
            || (matches!(self.stage, Stage::Draining(_)) && self.board.all_are_quiet())
            || (self.stage == Stage::LastCheckpoint && self.board.all_are_checkpointed())
    }

    /// The shard and its log, to look at.
    pub const fn partition(&self) -> &Partition<M> {
        &self.partition
    }

    /// Its checkpoints, to look at.
    pub const fn checkpointing(&self) -> &Checkpointing {
        &self.checkpointing
    }

    /// Whether nothing that a client or a peer asked for is under way here.
    pub fn is_quiet(&self) -> bool {
        self.in_flight == 0 && self.ready.is_empty() && self.sync.is_none() && self.partition.is_quiet()
    }

    /// Whether no log segment could be made, and it is yet to be tried again.
    pub const fn is_blocked(&self) -> bool {
        self.segment_retry_at.is_some()
    }

    /// The shard and its log, once the last turn is taken.
    pub fn into_partition(self) -> Partition<M> {
        self.partition
    }

    fn tally(&self) -> &Tally {
        &self.board.tallies[self.id.index()]
    }
}

impl<M, S> std::fmt::Debug for Core<M, S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Core")
            .field("id", &self.id)
            .field("stage", &self.stage)
            .field("in_flight", &self.in_flight)
            .field("ready", &self.ready.len())
            .field("sync", &self.sync)
            .field("segment_retry_at", &self.segment_retry_at)
            .finish_non_exhaustive()
    }
}

/// One turn under way.
struct Turn<'a, W: World> {
    core: &'a mut Core<W::Memory, W::Socket>,
    world: &'a mut W,
    now: Timestamp,
    began_us: u64,
}

impl<W: World> Turn<'_, W> {
    fn work(&mut self) {
        let now = self.now;
        self.core.context.turn_us.set(self.began_us);
        let longest = self.core.context.settings.size(Number::ArgumentBytesMax);
        self.core.partition.set_string_bytes_max(longest);
        // First: whatever the shard is given moves its own time on, and a tick is due a moment later than that.
        if self.core.stage != Stage::LastCheckpoint {
            self.core.partition.tick(now);
        }
        self.take_events();
        self.take_mail();
        self.look_at_watermarks();
        self.take_segment();
        self.take_checkpoint_news();
        self.watch_for_stop();
        self.look_after_pause();
        self.look_after_silent();
        self.take_requests();
        self.core.partition.settle(now);
        // Last: nothing may bring another turn to a request that waits for one.
        self.order_segment();
        self.look_after_broadcast();
        self.take_checkpoint_parts();
        self.begin_sync();
        self.send_out();
        self.publish();
        self.pass_stages();
        self.note_turn();
    }

    /// What follows the turn.
    fn rest(&mut self) -> Rest {
        if self.is_finished() {
            Rest::Over
        } else if self.has_more() {
            Rest::Not
        } else {
            let parked = if self.core.partition.awaits_peers() {
                Parked::ForMailAndWatermarks
            } else {
                Parked::ForMail
            };
            Rest::Until(parked, self.next_timer())
        }
    }

    /// Whether another turn finds something to do at once.
    fn has_more(&mut self) -> bool {
        self.world.connections().has_submissions()
            || (!self.core.ready.is_empty() && self.may_take_requests())
            || self.core.partition.has_work()
            || (self.world.is_mail_waiting() && !is_on(Mutation::RestPastMail))
            || self.core.takes_checkpoint_part(self.now, self.world)
            || self.core.checkpointing.wants_to_begin(&self.core.partition)
            || self.core.checkpointing.may_publish(&self.core.partition)
    }

    /// When a turn is wanted though nothing else happens.
    fn next_timer(&mut self) -> Option<Timestamp> {
        let now = self.now;
        let core = &*self.core;
        let stop = match core.stage {
            Stage::Serving | Stage::LastCheckpoint => None,
            Stage::Draining(until) | Stage::Farewell(until) => Some(until),
        };
        let settings = &core.context.settings;
        let looks_for_idle = settings.number(Number::IdleSecondsMax) > 0 && self.world.connections().open() > 0;
        let wanted = [
            core.partition.next_timer(),
            core.segment_retry_at,
            // Without room the world rings once there is some.
            core.checkpointing
                .next_timer(&core.partition)
                .filter(|&at| at > now || self.world.has_checkpoint_room()),
            core.broadcast.next_timer(),
            core.context.paused.get().map(|pause| Timestamp(pause.until_ms)),
            looks_for_idle.then_some(core.next_idle_look),
            stop,
        ];
        wanted.into_iter().flatten().min()
    }

    /// A turn that took long made everybody on this shard wait.
    fn note_turn(&self) {
        let context = &self.core.context;
        let took_us = self.world.now_us().saturating_sub(self.began_us);
        let mut statistics = context.statistics.borrow_mut();
        statistics.event("turn", context.now_us(), took_us, &context.settings);
    }

    fn take_events(&mut self) {
        while let Some(event) = self.world.next_event() {
            match event {
                Event::Accepted(socket) => self.deal(socket),
                Event::Stirred(id) => self.make_ready(id),
                Event::Closed(_, client) => {
                    drop(client);
                    self.core.tally().connections.fetch_sub(1, Ordering::Relaxed);
                }
                Event::Synced(part) => self.sync_ended(part),
            }
        }
    }

    fn sync_ended(&mut self, part: u32) {
        let mut sync = self.core.sync.take().expect("a sync that ends was begun");
        assert!(
            (part as usize) < sync.plan.ranges.len(),
            "a sync has a part for each range"
        );
        sync.parts_left -= 1;
        if sync.parts_left > 0 {
            self.core.sync = Some(sync);
            return;
        }
        let context = &self.core.context;
        let took_us = self.world.now_us().saturating_sub(sync.began_us);
        self.core.syncs.note(took_us);
        let mut statistics = context.statistics.borrow_mut();
        statistics.event("log-sync", context.now_us(), took_us, &context.settings);
        drop(statistics);
        self.core.partition.sync_done(sync.plan);
        let retired = self.core.partition.take_retired();
        if !retired.is_empty() {
            self.world.retire(retired);
        }
    }

    fn take_mail(&mut self) {
        let now = self.now;
        let mut mail = std::mem::take(&mut self.core.mail);
        self.world.collect(&mut mail);
        let mut incoming = mail.drain(..);
        for index in 0.. {
            if index % LOOK_AHEAD_MAX == 0 {
                let next = incoming.as_slice().iter().take(LOOK_AHEAD_MAX);
                let shard = self.core.partition.shard();
                shard.look_ahead(next.filter_map(|(_, mail)| mail.upcoming()));
            }
            let Some((from, mail)) = incoming.next() else { break };
            let partition = &mut self.core.partition;
            match mail {
                Mail::Request(request) => partition.request(now, request),
                Mail::Message(message) => partition.message(now, from, message),
                Mail::Checkpoint(message) => self.core.checkpointing.receive(from, message, partition),
                Mail::Reply(reply_to, reply) => self.answer(reply_to, reply),
                Mail::Broadcast(BroadcastMail::Query(ticket, query)) => self.answer_query(from, ticket, &query),
                Mail::Broadcast(BroadcastMail::Result(ticket, result)) => self.found(self.core.id, ticket, *result),
                Mail::Connection(socket) => self.adopt(socket),
            }
        }
        drop(incoming);
        self.core.mail = mail;
    }

    fn look_at_watermarks(&mut self) {
        if self.world.sees_watermarks() {
            let (now, partition) = (self.now, &mut self.core.partition);
            self.core
                .watermarks
                .look(&self.core.board.watermarks, |peer, position: LogPosition| {
                    partition.peer_safe(now, peer, position);
                });
        }
    }

    fn take_segment(&mut self) {
        let (now, core) = (self.now, &mut *self.core);
        match self.world.take_segment() {
            Some(Ok(segment)) => {
                if core.segment_retry_at.take().is_some() {
                    tracing::info!(shard = %core.id, "log segments can be made again; writes are taken");
                }
                core.partition.offer_segment(now, segment);
            }
            Some(Err(error)) => {
                if core.segment_retry_at.is_none() {
                    tracing::error!(shard = %core.id, %error, "cannot make the next log segment; trying every second");
                }
                let why = if error.is_full() { DISK_FULL } else { NO_SEGMENT };
                core.partition.block(now, why);
                core.segment_retry_at = Some(now.plus_ms(SEGMENT_RETRY_MS));
            }
            None => {}
        }
    }

    fn order_segment(&mut self) {
        let (now, core) = (self.now, &mut *self.core);
        if core.segment_retry_at.is_some_and(|at| at > now) {
            return;
        }
        if let Some(wanted) = core.partition.wants_segment() {
            self.world.order_segment(wanted);
        } else if core.segment_retry_at.take().is_some() {
            // It was for a large record, which was refused. The next one is worth another try.
            core.partition.unblock(now);
        }
    }

    fn begin_sync(&mut self) {
        if self.core.sync.is_some() {
            return;
        }
        let Some(plan) = self.core.partition.begin_sync(self.now) else {
            return;
        };
        self.world.sync(self.core.partition.log(), &plan);
        self.core.sync = Some(SyncUnderWay {
            parts_left: plan.ranges.len(),
            plan,
            began_us: self.world.now_us(),
        });
    }

    fn send_out(&mut self) {
        for (to, message) in self.core.partition.messages() {
            self.world.post(to, Mail::Message(message));
        }
        for (to, message) in self.core.checkpointing.messages() {
            self.world.post(to, Mail::Checkpoint(message));
        }
        let mut answers = std::mem::take(&mut self.core.answers);
        answers.extend(self.core.partition.released());
        for (reply_to, reply) in answers.drain(..) {
            if reply_to.shard == self.core.id {
                self.answer(reply_to, reply);
            } else {
                self.world.post(reply_to.shard, Mail::Reply(reply_to, reply));
            }
        }
        self.core.answers = answers;
        self.world.deliver();
    }

    fn publish(&mut self) {
        let core = &mut *self.core;
        let safe = core.partition.safe();
        if safe != core.board.watermarks.read(core.id) {
            core.board.watermarks.publish(core.id, safe);
            for peer in core.map.shards().filter(|&peer| peer != core.id) {
                self.world.ring(peer, Cause::Watermark);
            }
        }
        let has_subscribers = !core.context.subscriptions.borrow().is_empty();
        if has_subscribers != core.tally().has_subscribers.load(Ordering::Relaxed) {
            core.tally().has_subscribers.store(has_subscribers, Ordering::SeqCst);
        }
        let commands = core.context.commands.get();
        if commands != core.tally().commands.load(Ordering::Relaxed) {
            core.tally().commands.store(commands, Ordering::Relaxed);
        }
    }

    fn ring_all(&self) {
        for shard in self.core.map.shards() {
            self.world.ring(shard, Cause::Mail);
        }
    }
}

/// The connection that an answer goes to.
const fn connection_of(reply_to: ReplyTo) -> ConnectionId {
    ConnectionId {
        index: reply_to.connection,
        generation: reply_to.generation,
    }
}
