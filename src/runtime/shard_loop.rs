//! The loop of one shard: turns of network, mail, steps, log and answers, and rest in between.
//!
//! Everything that came since the last turn is taken together, so that one turn costs at most one system call, one
//! sync and one delivery a peer, however many requests it carries. Nothing here blocks but the rest itself.
//!
//! What is in flight is bounded: each connection by its session, all of a shard's connections together by
//! [`REQUESTS_IN_FLIGHT_MAX`]; mail, answers at the gate and requests held back are parts of that.

mod arrivals;
mod checkpoints;
mod desk_work;
mod stopping;

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::stopping::Stage;
use super::checkpoint_maker::CheckpointOrders;
use super::checkpointing::Checkpointing;
use super::client::Client;
use super::desk::{Desk, DeskMail};
use super::exit::ExitCode;
use super::mailbox::{Mail, Mailboxes};
use super::partition::Partition;
use super::segment_maker::SegmentOrders;
use super::shared::{Shared, Tally};
use super::watermark::WatermarkView;
use crate::engine::{Ask, LOOK_AHEAD_MAX, Question, ReplyTo, Response, ShardId, ShardMap, Timestamp, Upcoming};
use crate::log::{LogWriter, MappedSegment, SyncPlan};
use crate::net::{Cause, ConnectionId, Events, Network, Parked, Rest, RingError};
use crate::session::report::Durations;
use crate::session::settings::Number;
use crate::session::{Request, SessionContext};

/// Requests of one shard's connections that may be in flight at a time. Above it, connections wait.
const REQUESTS_IN_FLIGHT_MAX: usize = 65_536;

/// Requests taken from one connection in a turn, so that a long pipeline does not keep others waiting.
const REQUESTS_PER_TURN_MAX: usize = 256;

/// After how long making a segment, or accepting connections, is tried again.
const RETRY_MS: u64 = 1000;

/// Why writes are refused, as clients are told.
const DISK_FULL: &str = "the disk is full; they are taken again once there is space";
const NO_SEGMENT: &str = "no log segment can be made; the server's own log says why";

/// What one shard's loop works with, made before its thread.
pub struct ShardParts {
    /// The shard and its log.
    pub partition: Partition<MappedSegment>,
    /// Its mail.
    pub mailboxes: Mailboxes,
    /// Its way to the segment maker.
    pub segments: SegmentOrders,
    /// Its checkpoints.
    pub checkpointing: Checkpointing,
    /// Its way to the checkpoint maker.
    pub checkpoints: CheckpointOrders,
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// On shard 0: where clients come in.
    pub listener: Option<TcpListener>,
    /// Most connections over all shards that the limit on open files allows.
    pub connections_max: usize,
}

/// One shard's loop.
pub struct ShardLoop {
    id: ShardId,
    map: ShardMap,
    partition: Partition<MappedSegment>,
    mailboxes: Mailboxes,
    segments: SegmentOrders,
    /// For this shard's engine, of this turn.
    questions: Vec<Question>,
    checkpointing: Checkpointing,
    checkpoints: CheckpointOrders,
    /// When the checkpoint under way began.
    checkpoint_began: Option<Instant>,
    /// The latest request for one that was taken up.
    checkpoint_request: u64,
    shared: Arc<Shared>,
    connections_max: usize,
    network: Network<Client>,
    events: Events,
    rest: Rest,
    context: Rc<SessionContext>,
    watermarks: WatermarkView,
    connections_adopted: u64,
    /// Connections that may have requests.
    ready: VecDeque<ConnectionId>,
    /// Requests of this shard's connections that are not answered.
    in_flight: usize,
    /// What sessions ask of all shards.
    desk: Desk,
    /// When connections are next looked through for silent ones.
    next_idle_look: Timestamp,
    /// When the sync under way began.
    sync_began: Instant,
    /// How long syncs took.
    syncs: Durations,
    /// The sync under way, and how many of its parts are not done.
    sync: Option<(SyncPlan, usize)>,
    mail: Vec<(ShardId, Mail)>,
    answers: Vec<(ReplyTo, Response)>,
    timer: Option<Timestamp>,
    segment_retry_at: Option<Timestamp>,
    accept_retry_at: Option<Timestamp>,
    stage: Stage,
}

impl ShardLoop {
    /// On the shard's own thread, within its executor.
    pub fn new(parts: ShardParts, map: ShardMap, context: SessionContext) -> Result<Self, RingError> {
        let ShardParts {
            partition,
            mailboxes,
            segments,
            checkpointing,
            checkpoints,
            shared,
            listener,
            connections_max,
        } = parts;
        let id = mailboxes.own();
        let doorbell = &shared.doorbells[id.index()];
        let mut network = Network::new(doorbell)?;
        let rest = Rest::new(doorbell)?;
        network.accept(listener);
        Ok(Self {
            id,
            map,
            partition,
            mailboxes,
            segments,
            questions: Vec::new(),
            checkpointing,
            checkpoints,
            checkpoint_began: None,
            checkpoint_request: 0,
            connections_max,
            network,
            events: Events::default(),
            rest,
            context: Rc::new(context),
            watermarks: WatermarkView::new(id, map.shard_count()),
            shared,
            connections_adopted: 0,
            ready: VecDeque::new(),
            in_flight: 0,
            desk: Desk::default(),
            next_idle_look: Timestamp::default(),
            sync_began: Instant::now(),
            syncs: Durations::default(),
            sync: None,
            mail: Vec::new(),
            answers: Vec::new(),
            timer: None,
            segment_retry_at: None,
            accept_retry_at: None,
            stage: Stage::Serving,
        })
    }

    /// Serves until the server is stopped and everything acknowledged is on disk.
    pub async fn run(mut self) {
        loop {
            self.enter(false);
            let now = self.work();
            if self.is_finished(now) {
                break;
            }
            if self.has_more(now) {
                glommio::yield_if_needed().await;
            } else {
                self.park(now).await;
            }
        }
        self.finish();
    }

    /// Waits until something comes. Whatever comes after the flag is set rings; whatever came before is found by the
    /// looks that follow it.
    async fn park(&mut self, now: Timestamp) {
        let parked = if self.partition.awaits_peers() {
            Parked::ForMailAndWatermarks
        } else {
            Parked::ForMail
        };
        self.doorbell().announce(parked);
        if self.has_news(now) {
            return self.doorbell().announce(Parked::Not);
        }
        self.set_timer(now);
        self.network.notify(true);
        self.enter(true);
        if !self.events.any
            && let Err(error) = self.rest.until_rung().await
        {
            ExitCode::Ring.die(error);
        }
        self.network.notify(false);
        self.doorbell().announce(Parked::Not);
        self.work();
    }

    fn enter(&mut self, force: bool) {
        self.context.turn_us.set(self.shared.clock.now_us());
        if let Err(error) = self.network.turn(&mut self.events, force) {
            ExitCode::Ring.die(error);
        }
    }

    /// Everything that a turn does between two visits to the ring.
    fn work(&mut self) -> Timestamp {
        let now = self.shared.clock.now();
        let turn_began = Instant::now();
        self.context.turn_us.set(self.shared.clock.now_us());
        let longest = self.context.settings.size(Number::ArgumentBytesMax);
        self.partition.set_string_bytes_max(longest);
        // First: whatever the shard is given moves its own time on, and a tick is due a moment later than that.
        if self.stage != Stage::LastCheckpoint {
            self.partition.tick(now);
        }
        self.take_events(now);
        self.take_mail(now);
        let partition = &mut self.partition;
        self.watermarks.look(&self.shared.watermarks, |peer, position| {
            partition.peer_safe(now, peer, position);
        });
        self.take_segment(now);
        self.take_checkpoint_news(now);
        self.watch_for_stop(now);
        self.look_after_pause();
        self.look_after_silent(now);
        self.take_requests(now);
        self.partition.settle(now);
        // Last: nothing may bring another turn to a request that waits for one.
        self.order_segment(now);
        self.look_after_desk(now);
        self.take_checkpoint_parts(now, turn_began);
        self.begin_sync(now);
        self.send_out();
        self.publish();
        self.note_turn(turn_began);
        now
    }

    /// A turn that took long made everybody on this shard wait.
    fn note_turn(&self, began: Instant) {
        let microseconds = began.elapsed().as_micros() as u64;
        let mut statistics = self.context.statistics.borrow_mut();
        statistics.event("turn", self.context.now_us(), microseconds, &self.context.settings);
    }

    fn take_events(&mut self, now: Timestamp) {
        for socket in std::mem::take(&mut self.events.accepted) {
            self.deal(socket);
        }
        for index in 0..self.events.stirred.len() {
            self.make_ready(self.events.stirred[index]);
        }
        for (part, result) in std::mem::take(&mut self.events.synced) {
            self.sync_ended(part, result);
        }
        if self.events.closed > 0 {
            self.tally()
                .connections
                .fetch_sub(self.events.closed, Ordering::Relaxed);
        }
        self.context.statistics.borrow_mut().sent_bytes += self.events.sent_bytes;
        if self.events.timer {
            self.timer = None;
        }
        if let Some(error) = self.events.accept_failed.take()
            && self.stage == Stage::Serving
        {
            let error = std::io::Error::from_raw_os_error(error);
            tracing::warn!(%error, "cannot accept connections; trying again in a second (is `ulimit -n` too low?)");
            self.accept_retry_at = Some(now.plus_ms(RETRY_MS));
        }
        if self.accept_retry_at.is_some_and(|at| at <= now) {
            self.accept_retry_at = None;
            self.network.accept(None);
        }
    }

    fn sync_ended(&mut self, part: u32, result: Result<(), i32>) {
        if let Err(error) = result {
            let error = std::io::Error::from_raw_os_error(error);
            ExitCode::SyncFailed.die(format_args!(
                "syncing the log of shard {} failed: {error}. What the disk holds can no longer be trusted to match \
                 memory, so the server ends at once; nothing that was acknowledged depends on this sync. Check the \
                 disk (dmesg), then start again",
                self.id
            ));
        }
        let (plan, parts_left) = self.sync.take().expect("a sync that ends was begun");
        assert!((part as usize) < plan.ranges.len(), "a sync has a part for each range");
        if parts_left > 1 {
            self.sync = Some((plan, parts_left - 1));
        } else {
            let took_us = self.sync_began.elapsed().as_micros() as u64;
            self.syncs.note(took_us);
            let mut statistics = self.context.statistics.borrow_mut();
            statistics.event("log-sync", self.context.now_us(), took_us, &self.context.settings);
            drop(statistics);
            self.partition.sync_done(plan);
            self.segments.unmap(self.partition.take_retired());
        }
    }

    fn take_mail(&mut self, now: Timestamp) {
        let mut mail = std::mem::take(&mut self.mail);
        self.mailboxes.collect(&mut mail);
        let mut incoming = mail.drain(..);
        for index in 0.. {
            if index % LOOK_AHEAD_MAX == 0 {
                let next = incoming.as_slice().iter().take(LOOK_AHEAD_MAX);
                self.partition
                    .shard()
                    .look_ahead(next.filter_map(|(_, mail)| mail.upcoming()));
            }
            let Some((from, mail)) = incoming.next() else { break };
            match mail {
                Mail::Request(request) => self.partition.request(now, request),
                Mail::Message(message) => self.partition.message(now, from, message),
                Mail::Checkpoint(message) => self.checkpointing.receive(from, message, &mut self.partition),
                Mail::Reply(reply_to, reply) => self.answer(reply_to, reply),
                Mail::Desk(DeskMail::Query(ticket, query)) => self.answer_query(from, ticket, &query),
                Mail::Desk(DeskMail::Result(ticket, result)) => self.found(self.id, ticket, *result),
                Mail::Connection(socket) => self.adopt(socket),
            }
        }
        drop(incoming);
        self.mail = mail;
    }

    fn take_segment(&mut self, now: Timestamp) {
        match self.segments.take() {
            Some(Ok(segment)) => {
                if self.segment_retry_at.take().is_some() {
                    tracing::info!(shard = %self.id, "log segments can be made again; writes are taken");
                }
                self.partition.offer_segment(now, segment);
            }
            Some(Err(error)) => {
                if self.segment_retry_at.is_none() {
                    tracing::error!(shard = %self.id, %error, "cannot make the next log segment; trying every second");
                }
                let why = if error.is_full() { DISK_FULL } else { NO_SEGMENT };
                self.partition.block(now, why);
                self.segment_retry_at = Some(now.plus_ms(RETRY_MS));
            }
            None => {}
        }
    }

    fn order_segment(&mut self, now: Timestamp) {
        if self.segment_retry_at.is_some_and(|at| at > now) {
            return;
        }
        if let Some(wanted) = self.partition.wants_segment() {
            self.segments.order(wanted);
        } else if self.segment_retry_at.take().is_some() {
            // It was for a large record, which was refused. The next one is worth another try.
            self.partition.unblock(now);
        }
    }

    fn make_ready(&mut self, id: ConnectionId) {
        if let Some(client) = self.network.endpoint(id)
            && !client.ready
        {
            client.ready = true;
            self.ready.push_back(id);
        }
    }

    fn may_take_requests(&self) -> bool {
        self.stage == Stage::Serving
            && self.in_flight < REQUESTS_IN_FLIGHT_MAX
            && self.partition.accepts_requests()
            && !self.mailboxes.is_clogged()
    }

    fn take_requests(&mut self, now: Timestamp) {
        if !self.may_take_requests() {
            return self.write_on();
        }
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            for taken in 0.. {
                let may_take = self.may_take_requests() && taken < REQUESTS_PER_TURN_MAX;
                let Some(client) = self.network.endpoint(id) else { break };
                if !may_take {
                    client.session.write_on();
                    self.ready.push_back(id);
                    break;
                }
                let Some((sequence, request)) = client.session.next_request() else {
                    client.ready = false;
                    break;
                };
                let reply_to = ReplyTo {
                    shard: self.id,
                    connection: id.index,
                    generation: id.generation,
                    sequence,
                };
                self.in_flight += 1;
                match request {
                    Request::Engine(ask) => self.route(now, Question { reply_to, ask }),
                    Request::Server(task) => {
                        self.ask_engine(now);
                        self.begin_task(reply_to, task);
                    }
                }
            }
            self.network.touch(id);
        }
        self.ask_engine(now);
    }

    /// Who takes a long reply is not kept waiting for it by those whose requests wait.
    fn write_on(&mut self) {
        for &id in &self.ready {
            if let Some(client) = self.network.endpoint(id)
                && client.session.write_on()
            {
                self.network.touch(id);
            }
        }
    }

    fn route(&mut self, now: Timestamp, question: Question) {
        let home = home_of(self.map, &question.ask);
        if home == self.id {
            self.questions.push(question);
            if self.questions.len() == LOOK_AHEAD_MAX {
                self.ask_engine(now);
            }
        } else {
            self.mailboxes.post(home, Mail::Request(question));
        }
    }

    /// Questions are gathered, so that their memory is fetched together.
    fn ask_engine(&mut self, now: Timestamp) {
        let shard = self.partition.shard();
        shard.look_ahead(self.questions.iter().map(|question| Upcoming::Ask(&question.ask)));
        for question in self.questions.drain(..) {
            self.partition.request(now, question);
        }
    }

    /// Hands an answer to the connection that asked, if it is still there.
    fn answer(&mut self, reply_to: ReplyTo, reply: Response) {
        self.in_flight -= 1;
        let id = connection_of(reply_to);
        if let Some(client) = self.network.endpoint(id) {
            client.session.complete(reply_to.sequence, reply);
            self.network.touch(id);
            self.make_ready(id);
        }
    }

    fn begin_sync(&mut self, now: Timestamp) {
        if self.sync.is_some() {
            return;
        }
        let Some(plan) = self.partition.begin_sync(now) else {
            return;
        };
        let parts = sync_parts(self.partition.log(), &plan);
        for (part, (file, offset, length)) in parts.enumerate() {
            self.network.sync(part as u32, file, offset, length);
        }
        let count = plan.ranges.len();
        self.sync_began = Instant::now();
        self.sync = Some((plan, count));
    }

    fn send_out(&mut self) {
        for (to, message) in self.partition.messages() {
            self.mailboxes.post(to, Mail::Message(message));
        }
        for (to, message) in self.checkpointing.messages() {
            self.mailboxes.post(to, Mail::Checkpoint(message));
        }
        let mut answers = std::mem::take(&mut self.answers);
        answers.extend(self.partition.released());
        for (reply_to, reply) in answers.drain(..) {
            if reply_to.shard == self.id {
                self.answer(reply_to, reply);
            } else {
                self.mailboxes.post(reply_to.shard, Mail::Reply(reply_to, reply));
            }
        }
        self.answers = answers;
        self.mailboxes.deliver();
    }

    fn publish(&mut self) {
        let safe = self.partition.safe();
        if safe != self.shared.watermarks.read(self.id) {
            self.shared.watermarks.publish(self.id, safe);
            for (index, doorbell) in self.shared.doorbells.iter().enumerate() {
                if index != self.id.index() {
                    doorbell.ring(Cause::Watermark);
                }
            }
        }
        let has_subscribers = !self.context.subscriptions.borrow().is_empty();
        if has_subscribers != self.tally().has_subscribers.load(Ordering::Relaxed) {
            self.tally().has_subscribers.store(has_subscribers, Ordering::SeqCst);
        }
        let commands = self.context.commands.get();
        if commands != self.tally().commands.load(Ordering::Relaxed) {
            self.tally().commands.store(commands, Ordering::Relaxed);
        }
    }

    /// Whether another turn finds something to do at once.
    fn has_more(&mut self, now: Timestamp) -> bool {
        self.network.has_submissions()
            || (!self.ready.is_empty() && self.may_take_requests())
            || self.partition.has_work()
            || self.mailboxes.is_waiting()
            || self.wants_checkpoint_parts(now)
            || self.checkpointing.wants_to_begin(&self.partition)
            || self.checkpointing.may_publish(&self.partition)
    }

    /// Whether something came that no doorbell was rung for, because the shard was not parked.
    fn has_news(&self, now: Timestamp) -> bool {
        self.mailboxes.has_mail()
            || (self.partition.awaits_peers() && self.watermarks.has_moved(&self.shared.watermarks))
            || self.segments.is_made()
            || self.checkpoints.has_news()
            || self.wants_checkpoint_parts(now)
            || self.checkpoint_request != self.shared.checkpoint_requests.load(Ordering::SeqCst)
            || (self.stage == Stage::Serving && self.shared.is_stopping())
            || (matches!(self.stage, Stage::Draining(_)) && self.all_are_quiet())
            || (self.stage == Stage::LastCheckpoint && self.all_are_checkpointed())
    }

    fn set_timer(&mut self, now: Timestamp) {
        let stop = match self.stage {
            Stage::Serving | Stage::LastCheckpoint => None,
            Stage::Draining(until) | Stage::Farewell(until) => Some(until),
        };
        let looks_for_idle = self.context.settings.number(Number::IdleSecondsMax) > 0 && self.network.open() > 0;
        let idle_look = looks_for_idle.then_some(self.next_idle_look);
        let wanted = [
            self.partition.next_timer(),
            self.segment_retry_at,
            self.accept_retry_at,
            // Without room the maker rings once there is some.
            self.checkpointing
                .next_timer(&self.partition)
                .filter(|&at| at > now || self.checkpoints.has_room()),
            self.desk.next_timer(),
            self.context.paused.get().map(|pause| Timestamp(pause.until_ms)),
            idle_look,
            stop,
        ];
        let Some(wanted) = wanted.into_iter().flatten().min() else {
            return;
        };
        if self.timer.is_none_or(|timer| wanted < timer) {
            self.timer = Some(wanted);
            // A millisecond more: the clock that the timer is checked against counts whole ones.
            let after_ms = wanted.unix_ms().saturating_sub(now.unix_ms()) + 1;
            self.network.set_timer(Duration::from_millis(after_ms));
        }
    }

    fn doorbell(&self) -> &crate::net::Doorbell {
        &self.shared.doorbells[self.id.index()]
    }

    fn tally(&self) -> &Tally {
        &self.shared.tallies[self.id.index()]
    }
}

/// The connection that an answer goes to.
const fn connection_of(reply_to: ReplyTo) -> ConnectionId {
    ConnectionId {
        index: reply_to.connection,
        generation: reply_to.generation,
    }
}

/// The shard that a request is dispatched to.
fn home_of(map: ShardMap, ask: &Ask) -> ShardId {
    ask.home().map_or(ShardId(0), |slot| map.shard_of(slot))
}

/// Descriptor, offset and length of each range of `plan`.
fn sync_parts<'a>(
    log: &'a LogWriter<MappedSegment>,
    plan: &'a SyncPlan,
) -> impl Iterator<Item = (std::os::fd::RawFd, u64, u32)> + 'a {
    plan.ranges.iter().map(|range| {
        let segment = log
            .segment(range.segment)
            .expect("a segment of a plan stays until the plan is done");
        (segment.as_raw_fd(), range.bytes.start as u64, range.bytes.len() as u32)
    })
}
