//! The loop of one shard: its turns, driven over a ring and threads, and rest in between.
//!
//! What a turn does and when it may rest is said in [`super::turn`]; here is the [`World`] around it in a server: the
//! network, mailboxes, doorbells, and the makers of segments and checkpoints. Nothing here blocks but the rest itself.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint_maker::CheckpointOrders;
use super::checkpointing::{CheckpointNews, CheckpointOrder};
use super::client::Client;
use super::exit::ExitCode;
use super::mailbox::{Mail, Mailboxes};
use super::partition::SegmentWanted;
use super::segment_maker::SegmentOrders;
use super::shared::Shared;
use super::turn::{Addresses, Connections, Core, CoreParts, Event, Rest, World};
use crate::engine::{ShardId, ShardMap, Timestamp};
use crate::log::{LogWriter, MappedSegment, StorageError, SyncPlan};
use crate::net::{Cause, ConnectionId, Doorbell, Events, Network, Parked, RingError};
use crate::session::SessionContext;

/// After how long accepting connections is tried again.
const ACCEPT_RETRY_MS: u64 = 1000;

/// What one shard's loop works with, made before its thread.
pub struct ShardParts {
    /// What its turns work with.
    pub core: CoreParts<MappedSegment>,
    /// Its mail.
    pub mailboxes: Mailboxes,
    /// Its way to the segment maker.
    pub segments: SegmentOrders,
    /// Its way to the checkpoint maker.
    pub checkpoints: CheckpointOrders,
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// On shard 0: where clients come in.
    pub listener: Option<TcpListener>,
}

/// One shard's loop.
pub struct ShardLoop {
    core: Core<MappedSegment, TcpStream>,
    world: RingWorld,
    context: Rc<SessionContext>,
    rest: crate::net::Rest,
    /// What the timer that runs was set to.
    timer: Option<Timestamp>,
    accept_retry_at: Option<Timestamp>,
}

impl ShardLoop {
    /// On the shard's own thread, within its executor.
    pub fn new(parts: ShardParts, map: ShardMap, context: SessionContext) -> Result<Self, RingError> {
        let ShardParts {
            core,
            mailboxes,
            segments,
            checkpoints,
            shared,
            listener,
        } = parts;
        let id = mailboxes.own();
        let doorbell = &shared.doorbells[id.index()];
        let mut network = Network::new(doorbell)?;
        let rest = crate::net::Rest::new(doorbell)?;
        network.accept(listener);
        let context = Rc::new(context);
        Ok(Self {
            core: Core::new(core, map, Rc::clone(&context)),
            world: RingWorld {
                id,
                network,
                events: Events::default(),
                stirred: 0,
                mailboxes,
                segments,
                checkpoints,
                shared,
            },
            context,
            rest,
            timer: None,
            accept_retry_at: None,
        })
    }

    /// Serves until the server is stopped and everything acknowledged is on disk.
    pub async fn run(mut self) {
        loop {
            match self.core.turn(&mut self.world) {
                Rest::Over => break,
                Rest::Not => {
                    glommio::yield_if_needed().await;
                    self.enter(false);
                }
                Rest::Until(parked, until) => self.park(parked, until).await,
            }
        }
        self.finish();
    }

    /// Waits until something comes. Whatever comes after the flag is set rings; whatever came before is found by the
    /// looks that follow it.
    async fn park(&mut self, parked: Parked, until: Option<Timestamp>) {
        self.doorbell().announce(parked);
        if self.core.has_news(&mut self.world) {
            self.doorbell().announce(Parked::Not);
            return self.enter(false);
        }
        self.set_timer(until);
        self.world.network.notify(true);
        self.enter(true);
        let is_woken = self.world.events.any;
        if !is_woken && let Err(error) = self.rest.until_rung().await {
            ExitCode::Ring.die(error);
        }
        self.world.network.notify(false);
        self.doorbell().announce(Parked::Not);
        if !is_woken {
            self.enter(false);
        }
    }

    /// Visits the ring: submits what is to be done, and takes what has come.
    fn enter(&mut self, force: bool) {
        let world = &mut self.world;
        self.context.turn_us.set(world.now_us());
        if let Err(error) = world.network.turn(&mut world.events, force) {
            ExitCode::Ring.die(error);
        }
        // In the order in which they came: they are taken from the end.
        world.events.accepted.reverse();
        world.stirred = 0;
        self.context.statistics.borrow_mut().sent_bytes += world.events.sent_bytes;
        if world.events.timer {
            self.timer = None;
        }
        self.look_after_listener();
    }

    fn look_after_listener(&mut self) {
        let now = Timestamp(self.context.now_ms());
        if let Some(error) = self.world.events.accept_failed.take()
            && !self.world.shared.is_stopping()
        {
            let error = std::io::Error::from_raw_os_error(error);
            tracing::warn!(%error, "cannot accept connections; trying again in a second (is `ulimit -n` too low?)");
            self.accept_retry_at = Some(now.plus_ms(ACCEPT_RETRY_MS));
        }
        if self.accept_retry_at.is_some_and(|at| at <= now) {
            self.accept_retry_at = None;
            self.world.network.accept(None);
        }
    }

    fn set_timer(&mut self, until: Option<Timestamp>) {
        let Some(wanted) = [until, self.accept_retry_at].into_iter().flatten().min() else {
            return;
        };
        if self.timer.is_none_or(|timer| wanted < timer) {
            self.timer = Some(wanted);
            // A millisecond more: the clock that the timer is checked against counts whole ones.
            let after_ms = wanted.unix_ms().saturating_sub(self.context.now_ms()) + 1;
            self.world.network.set_timer(Duration::from_millis(after_ms));
        }
    }

    /// The orderly end: syncs the log and closes the connections.
    fn finish(mut self) {
        self.world.network.abandon_all();
        // Each turn lets the kernel end what is under way; where it takes longer, the process's end does it.
        for _ in 0..100 {
            if self.world.network.open() == 0 {
                break;
            }
            self.enter(true);
        }
        if let Err(error) = self.core.into_partition().sync_and_end() {
            ExitCode::SyncFailed.die(error);
        }
    }

    fn doorbell(&self) -> &Doorbell {
        &self.world.shared.doorbells[self.world.id.index()]
    }
}

/// The world of a server's shard.
struct RingWorld {
    id: ShardId,
    network: Network<Client>,
    events: Events<Client>,
    /// How many of the events' stirred connections the turn has been told of.
    stirred: usize,
    mailboxes: Mailboxes,
    segments: SegmentOrders,
    checkpoints: CheckpointOrders,
    shared: Arc<Shared>,
}

impl RingWorld {
    fn check_synced(&self, result: Result<(), i32>) {
        if let Err(error) = result {
            let error = std::io::Error::from_raw_os_error(error);
            ExitCode::SyncFailed.die(format_args!(
                "syncing the log of shard {} failed: {error}. What the disk holds can no longer be trusted to match \
                 memory, so the server ends at once; nothing that was acknowledged depends on this sync. Check the \
                 disk (dmesg), then start again",
                self.id
            ));
        }
    }
}

impl World for RingWorld {
    type Memory = MappedSegment;
    type Socket = TcpStream;
    type Connections = Network<Client>;

    fn now_us(&self) -> u64 {
        self.shared.clock.now_us()
    }

    fn processor_us(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
    }

    fn next_event(&mut self) -> Option<Event<TcpStream>> {
        let events = &mut self.events;
        if let Some(socket) = events.accepted.pop() {
            return Some(Event::Accepted(socket.into()));
        }
        if let Some(&id) = events.stirred.get(self.stirred) {
            self.stirred += 1;
            return Some(Event::Stirred(id));
        }
        if let Some((part, result)) = events.synced.pop() {
            self.check_synced(result);
            return Some(Event::Synced(part));
        }
        let (id, client) = events.closed.pop()?;
        Some(Event::Closed(id, Box::new(client)))
    }

    fn connections(&mut self) -> &mut Network<Client> {
        &mut self.network
    }

    fn adopt(&mut self, socket: TcpStream, client: impl FnOnce(ConnectionId) -> Client) {
        self.network.adopt(socket.into(), client);
    }

    fn addresses(&self, socket: &TcpStream) -> Addresses {
        // Who cannot be told where it comes from is served only if everybody is.
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Addresses {
            local: socket.local_addr().ok(),
            peer: socket.peer_addr().unwrap_or(unknown),
        }
    }

    fn turn_away(&mut self, mut socket: TcpStream, why: &[u8]) {
        // A new socket's buffer has room for one line; if not, the end of the connection says enough.
        let _ = socket.set_nonblocking(true).and_then(|()| socket.write_all(why));
    }

    fn stop_accepting(&mut self) {
        self.network.stop_accepting();
    }

    fn post(&mut self, to: ShardId, mail: Mail) {
        self.mailboxes.post(to, mail);
    }

    fn deliver(&mut self) {
        self.mailboxes.deliver();
    }

    fn collect(&mut self, mail: &mut Vec<(ShardId, Mail)>) {
        self.mailboxes.collect(mail);
    }

    fn has_mail(&self) -> bool {
        self.mailboxes.has_mail()
    }

    fn is_mail_waiting(&self) -> bool {
        self.mailboxes.is_waiting()
    }

    fn is_mail_clogged(&self) -> bool {
        self.mailboxes.is_clogged()
    }

    fn ring(&self, shard: ShardId, cause: Cause) {
        self.shared.doorbells[shard.index()].ring(cause);
    }

    fn sync(&mut self, log: &LogWriter<MappedSegment>, plan: &SyncPlan) {
        for (part, range) in plan.ranges.iter().enumerate() {
            let segment = log
                .segment(range.segment)
                .expect("a segment of a plan stays until the plan is done");
            let (offset, length) = (range.bytes.start as u64, range.bytes.len() as u32);
            self.network.sync(part as u32, segment.as_fd(), offset, length);
        }
    }

    fn retire(&mut self, segments: Vec<MappedSegment>) {
        self.segments.unmap(segments);
    }

    fn order_segment(&mut self, wanted: SegmentWanted) {
        self.segments.order(wanted);
    }

    fn has_segment(&self) -> bool {
        self.segments.is_made()
    }

    fn take_segment(&mut self) -> Option<Result<MappedSegment, StorageError>> {
        self.segments.take()
    }

    fn order_checkpoint(&mut self, order: CheckpointOrder) {
        self.checkpoints.order(order);
    }

    fn has_checkpoint_room(&mut self) -> bool {
        self.checkpoints.has_room()
    }

    fn part_buffer(&mut self) -> Vec<u8> {
        self.checkpoints.buffer()
    }

    fn has_checkpoint_news(&self) -> bool {
        self.checkpoints.has_news()
    }

    fn take_checkpoint_news(&mut self) -> Option<CheckpointNews> {
        self.checkpoints.take()
    }
}

impl Connections for Network<Client> {
    fn client(&mut self, id: ConnectionId) -> Option<&mut Client> {
        self.endpoint(id)
    }

    fn identified(&mut self) -> impl Iterator<Item = (ConnectionId, &mut Client)> {
        Network::identified(self)
    }

    fn touch(&mut self, id: ConnectionId) {
        Network::touch(self, id);
    }

    fn abandon(&mut self, id: ConnectionId) {
        Network::abandon(self, id);
    }

    fn abandon_all(&mut self) {
        Network::abandon_all(self);
    }

    fn open(&self) -> usize {
        Network::open(self)
    }

    fn has_output(&mut self) -> bool {
        Network::has_output(self)
    }

    fn has_submissions(&mut self) -> bool {
        Network::has_submissions(self)
    }
}
