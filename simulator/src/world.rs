//! The world around one shard's turn in a simulated server: a network, mailboxes, doorbells, a disk and the threads that
//! make segments and checkpoints.
//!
//! Decides nothing but what chance says: how much of what has come a shard finds.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use cartwright::engine::ShardId;
use cartwright::log::{LogWriter, MappedSegment, StorageError, SyncPlan, SyncRange};
use cartwright::net::{Cause, ConnectionId, Parked};
use cartwright::runtime::SegmentWanted;
use cartwright::runtime::checkpointing::{CheckpointNews, CheckpointOrder};
use cartwright::runtime::client::Client;
use cartwright::runtime::mailbox::Mail;
use cartwright::runtime::turn::{Addresses, Event, World};

use crate::disk::Disk;
use crate::mailbox::Mailbox;
use crate::network::{Network, ServerEnd};
use crate::random::Random;

/// Orders of a shard that may be on their way to the thread that writes checkpoints before it takes no more parts.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// A shard's doorbell.
#[derive(Debug)]
pub struct Doorbell {
    parked: Cell<Parked>,
}

impl Default for Doorbell {
    fn default() -> Self {
        Self {
            parked: Cell::new(Parked::Not),
        }
    }
}

impl Doorbell {
    /// Wakes the shard, if it waits for such.
    pub fn ring(&self, cause: Cause) {
        let waits = match cause {
            Cause::Mail => true,
            Cause::Watermark => self.parked.get() == Parked::ForMailAndWatermarks,
        };
        if waits {
            self.parked.set(Parked::Not);
        }
    }

    /// The shard says what it waits for.
    pub fn announce(&self, parked: Parked) {
        self.parked.set(parked);
    }

    /// Whether the shard waits for it to ring.
    pub fn is_waited_for(&self) -> bool {
        self.parked.get() != Parked::Not
    }
}

/// What one shard has under way outside.
#[derive(Debug, Default)]
pub struct UnderWay {
    /// Ranges of the sync that are not on disk, by their numbers; the next one last.
    pub sync: Vec<(u32, SyncRange)>,
    /// The segment that was ordered.
    pub wanted: Option<SegmentWanted>,
    /// What became of it.
    pub made: Option<Result<MappedSegment<Disk>, StorageError>>,
    /// What became of the checkpoint.
    pub news: Option<CheckpointNews>,
}

/// See the module.
pub struct ShardWorld<'a> {
    /// Whose.
    pub own: ShardId,
    /// The time, in Unix microseconds.
    pub now_us: u64,
    /// Whether everything that has come is found at once.
    pub hurries: bool,
    /// Per mille of its mail that a shard finds.
    pub mail_found: u32,
    /// Per mille of the turns in which a shard looks at watermarks.
    pub looks: u32,
    /// How much mail may be under way to another shard.
    pub mail_capacity: usize,
    /// Chance.
    pub random: &'a mut Random,
    /// Its connections.
    pub network: &'a mut Network,
    /// By sender and addressee.
    pub mail: &'a mut [Mailbox<Mail<ServerEnd>>],
    /// Of all shards.
    pub doorbells: &'a [Doorbell],
    /// What is under way.
    pub under_way: &'a mut UnderWay,
    /// What the thread that writes checkpoints has yet to do.
    pub orders: &'a mut VecDeque<(ShardId, CheckpointOrder)>,
}

impl ShardWorld<'_> {
    fn outboxes(&self) -> &[Mailbox<Mail<ServerEnd>>] {
        let count = self.doorbells.len();
        &self.mail[self.own.index() * count..][..count]
    }
}

impl World for ShardWorld<'_> {
    type Memory = MappedSegment<Disk>;
    type Socket = ServerEnd;
    type Connections = Network;

    fn now_us(&self) -> u64 {
        self.now_us
    }

    fn processor_us(&self) -> u64 {
        0
    }

    fn next_event(&mut self) -> Option<Event<ServerEnd>> {
        self.network.events.pop_front()
    }

    fn connections(&mut self) -> &mut Network {
        self.network
    }

    fn adopt(&mut self, socket: ServerEnd, client: impl FnOnce(ConnectionId) -> Client) {
        self.network.adopt(socket, client);
    }

    fn addresses(&self, _socket: &ServerEnd) -> Addresses {
        Addresses {
            local: None,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        }
    }

    fn turn_away(&mut self, socket: ServerEnd, why: &[u8]) {
        socket.0.0.borrow_mut().to_client.extend_from_slice(why);
    }

    fn stop_accepting(&mut self) {}

    fn post(&mut self, to: ShardId, mail: Mail<ServerEnd>) {
        let count = self.doorbells.len();
        self.mail[self.own.index() * count + to.index()].post(mail);
    }

    fn deliver(&mut self) {
        let count = self.doorbells.len();
        let outboxes = &mut self.mail[self.own.index() * count..][..count];
        for (outbox, doorbell) in outboxes.iter_mut().zip(self.doorbells) {
            if outbox.deliver(self.mail_capacity) {
                doorbell.ring(Cause::Mail);
            }
        }
    }

    fn collect(&mut self, mail: &mut Vec<(ShardId, Mail<ServerEnd>)>) {
        let count = self.doorbells.len();
        for from in 0..count {
            let inbox = &mut self.mail[from * count + self.own.index()];
            while inbox.has_come() && (self.hurries || self.random.chance(self.mail_found)) {
                let piece = inbox.take().expect("looked at above");
                mail.push((ShardId(from as u16), piece));
            }
        }
    }

    fn has_mail(&self) -> bool {
        let count = self.doorbells.len();
        (0..count).any(|from| self.mail[from * count + self.own.index()].has_come())
    }

    fn is_mail_waiting(&self) -> bool {
        self.outboxes().iter().any(Mailbox::is_waiting)
    }

    fn is_mail_clogged(&self) -> bool {
        self.outboxes().iter().any(|mail| mail.waiting() > self.mail_capacity)
    }

    fn ring(&self, shard: ShardId, cause: Cause) {
        self.doorbells[shard.index()].ring(cause);
    }

    fn sees_watermarks(&mut self) -> bool {
        self.hurries || self.random.chance(self.looks)
    }

    fn sync(&mut self, _log: &LogWriter<MappedSegment<Disk>>, plan: &SyncPlan) {
        let ranges = plan.ranges.iter().cloned().enumerate();
        self.under_way.sync = ranges.map(|(part, range)| (part as u32, range)).rev().collect();
    }

    fn retire(&mut self, segments: Vec<MappedSegment<Disk>>) {
        drop(segments);
    }

    fn order_segment(&mut self, wanted: SegmentWanted) {
        if self.under_way.made.is_none() {
            self.under_way.wanted.get_or_insert(wanted);
        }
    }

    fn has_segment(&self) -> bool {
        self.under_way.made.is_some()
    }

    fn take_segment(&mut self) -> Option<Result<MappedSegment<Disk>, StorageError>> {
        self.under_way.made.take()
    }

    fn order_checkpoint(&mut self, order: CheckpointOrder) {
        self.orders.push_back((self.own, order));
    }

    fn has_checkpoint_room(&mut self) -> bool {
        let own = self.own;
        self.orders.iter().filter(|(shard, _)| *shard == own).count() < PARTS_IN_FLIGHT_MAX
    }

    fn part_buffer(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn has_checkpoint_news(&self) -> bool {
        self.under_way.news.is_some()
    }

    fn take_checkpoint_news(&mut self) -> Option<CheckpointNews> {
        self.under_way.news.take()
    }
}
