//! The loop of one shard: turns of network, mail, steps, log and answers, and rest in between.
//!
//! Everything that came since the last turn is taken together, so that one turn costs at most one system call, one
//! sync and one delivery a peer, however many requests it carries. Nothing here blocks but the rest itself.
//!
//! What is in flight is bounded: each connection by its session, all of a shard's connections together by
//! [`REQUESTS_IN_FLIGHT_MAX`]; mail, answers at the gate and requests held back are parts of that.

mod desk_work;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::checkpoint_maker::CheckpointOrders;
use super::checkpointing::{CheckpointNews, Checkpointing};
use super::client::Client;
use super::desk::{self, Desk, DeskMail};
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
use crate::session::{Request, Session, SessionContext};

/// Requests of one shard's connections that may be in flight at a time. Above it, connections wait.
const REQUESTS_IN_FLIGHT_MAX: usize = 65_536;

/// Requests taken from one connection in a turn, so that a long pipeline does not keep others waiting.
const REQUESTS_PER_TURN_MAX: usize = 256;

/// After how long making a segment, or accepting connections, is tried again.
const RETRY_MS: u64 = 1000;

/// How long a stop waits for what is in flight; what is not answered by then was not acknowledged.
const DRAIN_MS: u64 = 10_000;

/// How long a stop waits for clients to take the answers that they were given.
const FAREWELL_MS: u64 = 1000;

/// How long a turn takes parts of a checkpoint, at least and at most; it ends with the part that goes over it. In
/// between, a tenth of what the rest of the turn took.
const CHECKPOINT_PER_TURN_MIN: Duration = Duration::from_micros(20);
const CHECKPOINT_PER_TURN_MAX: Duration = Duration::from_micros(200);

/// What a client over the limit is told.
const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";

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

/// A stop's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Requests are no longer taken; those in flight go on until then.
    Draining(Timestamp),
    /// All shards are quiet; clients may take their answers until then.
    Farewell(Timestamp),
    /// All connections are closed; a last checkpoint is written, by this shard or another.
    LastCheckpoint,
}

/// Processor time of this thread, in microseconds.
fn thread_cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
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

    /// Gives a new connection to the shard with the fewest.
    fn deal(&mut self, socket: OwnedFd) {
        self.shared.connections_received.fetch_add(1, Ordering::Relaxed);
        let most = self
            .connections_max
            .min(self.context.settings.size(Number::ConnectionsMax));
        if self.shared.connections() >= most {
            let mut socket = TcpStream::from(socket);
            // A new socket's buffer has room for one line; if not, the end of the connection says enough.
            let _ = socket
                .set_nonblocking(true)
                .and_then(|()| socket.write_all(TOO_MANY_CLIENTS));
            return;
        }
        let shard = self.shared.least_connected();
        self.shared.tallies[shard.index()]
            .connections
            .fetch_add(1, Ordering::Relaxed);
        if shard == self.id {
            self.adopt(socket);
        } else {
            self.mailboxes.post(shard, Mail::Connection(socket));
        }
    }

    fn adopt(&mut self, socket: OwnedFd) {
        self.connections_adopted += 1;
        // Unique over all shards, and never 0, as clients expect of CLIENT ID.
        let connection_id =
            (self.connections_adopted - 1) * u64::from(self.map.shard_count()) + u64::from(self.id.0) + 1;
        let socket = TcpStream::from(socket);
        let mut session = Session::new(connection_id, Rc::clone(&self.context));
        if let Ok(local) = socket.local_addr() {
            session = session.with_local(local);
        }
        // Who cannot be told where it comes from is served only if everybody is.
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        session = session.with_peer(socket.peer_addr().unwrap_or(unknown));
        self.network.adopt(socket.into(), |id| Client {
            session: session.at(desk::address_of(id)),
            ready: false,
        });
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
                Mail::Desk(DeskMail::Inquiry(ticket, inquiry)) => self.inquire(from, ticket, &inquiry),
                Mail::Desk(DeskMail::Finding(ticket, finding)) => self.found(self.id, ticket, *finding),
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

    fn take_checkpoint_news(&mut self, now: Timestamp) {
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
    fn take_checkpoint_parts(&mut self, now: Timestamp, turn_began: Instant) {
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

    fn wants_checkpoint_parts(&self, now: Timestamp) -> bool {
        self.checkpointing.wants_parts(now, &self.partition) && self.checkpoints.has_room()
    }

    fn pass_on_checkpoint_orders(&mut self) {
        for order in self.checkpointing.orders() {
            self.checkpoints.order(order);
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

    fn watch_for_stop(&mut self, now: Timestamp) {
        if self.stage == Stage::Serving && self.shared.is_stopping() {
            self.network.stop_accepting();
            self.stage = Stage::Draining(now.plus_ms(DRAIN_MS));
        }
    }

    /// Whether the loop ends: asked at the end of each turn.
    fn is_finished(&mut self, now: Timestamp) -> bool {
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
    fn all_are_checkpointed(&self) -> bool {
        self.shared
            .tallies
            .iter()
            .all(|tally| tally.checkpointed.load(Ordering::SeqCst))
    }

    fn all_are_quiet(&self) -> bool {
        self.shared
            .tallies
            .iter()
            .all(|tally| tally.quiet.load(Ordering::SeqCst))
    }

    /// The orderly end: syncs the log and closes the connections.
    fn finish(mut self) {
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
