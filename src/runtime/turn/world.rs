//! What a shard's turn has around it: time, connections, mail, the disk and the threads that serve it.
//!
//! Two worlds exist: the shard loop's, of a ring, threads and doorbells, and the simulator's. A world carries out and
//! decides nothing: when to sync, to take a request or to rest is said in [`super`].

use std::net::SocketAddr;

use crate::engine::ShardId;
use crate::log::{LogWriter, SegmentMemory, StorageError, SyncPlan};
use crate::net::{Cause, ConnectionId};
use crate::runtime::checkpointing::{CheckpointNews, CheckpointOrder};
use crate::runtime::client::Client;
use crate::runtime::mailbox::Mail;
use crate::runtime::partition::SegmentWanted;

/// Something that came since the last turn.
#[derive(Debug)]
pub enum Event<S> {
    /// A new connection, to be dealt to a shard.
    Accepted(S),
    /// A connection has taken in bytes, or got rid of output.
    Stirred(ConnectionId),
    /// A connection is gone; this stood behind it.
    Closed(ConnectionId, Box<Client>),
    /// A part of the sync under way, by its number, is on disk.
    Synced(u32),
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The server's, where it is known.
    pub local: Option<SocketAddr>,
    /// The client's.
    pub peer: SocketAddr,
}

/// A shard's connections.
pub trait Connections {
    /// The client of a connection that still exists.
    fn client(&mut self, id: ConnectionId) -> Option<&mut Client>;

    /// All clients, with their connections' names.
    fn identified(&mut self) -> impl Iterator<Item = (ConnectionId, &mut Client)>;

    /// Something about the client changed: it has output, or wants input again, or is to close.
    fn touch(&mut self, id: ConnectionId);

    /// Closes a connection, output or not.
    fn abandon(&mut self, id: ConnectionId);

    /// Closes every connection, output or not.
    fn abandon_all(&mut self);

    /// How many connections there are.
    fn open(&self) -> usize;

    /// Whether output of some connection has not left.
    fn has_output(&mut self) -> bool;

    /// Whether something is to be done about connections before the shard rests.
    fn has_submissions(&mut self) -> bool;
}

/// See the module.
pub trait World {
    /// The memory of a log segment.
    type Memory: SegmentMemory;
    /// A connected socket.
    type Socket;
    /// The shard's connections.
    type Connections: Connections;

    /// The server's clock, in Unix microseconds.
    fn now_us(&self) -> u64;

    /// Processor time that this shard has used, in microseconds.
    fn processor_us(&self) -> u64;

    /// The next of what came since the last turn.
    fn next_event(&mut self) -> Option<Event<Self::Socket>>;

    /// The shard's connections.
    fn connections(&mut self) -> &mut Self::Connections;

    /// Makes a connection one of this shard's; `client` makes what stands behind it.
    fn adopt(&mut self, socket: Self::Socket, client: impl FnOnce(ConnectionId) -> Client);

    /// Where a connection comes from.
    fn addresses(&self, socket: &Self::Socket) -> Addresses;

    /// Tells a new connection why it is not served, and closes it.
    fn turn_away(&mut self, socket: Self::Socket, why: &[u8]);

    /// Accepts no more connections.
    fn stop_accepting(&mut self);

    /// Puts mail on the way to another shard; it leaves with the next [`World::deliver`].
    fn post(&mut self, to: ShardId, mail: Mail<Self::Socket>);

    /// Lets posted mail leave as far as there is room, and rings for it.
    fn deliver(&mut self);

    /// Takes all mail that has come, in the order in which each sender posted it.
    fn collect(&mut self, mail: &mut Vec<(ShardId, Mail<Self::Socket>)>);

    /// Whether mail has come that was not collected.
    fn has_mail(&self) -> bool;

    /// Whether some of the posted mail is still here.
    fn is_mail_waiting(&self) -> bool;

    /// Whether so much of the posted mail is still here that no more should be caused.
    fn is_mail_clogged(&self) -> bool;

    /// Wakes a shard that rests, if this may concern it. To be called after making visible what it will find.
    fn ring(&self, shard: ShardId, cause: Cause);

    /// Whether the others' watermarks are seen in this turn as they are now.
    fn sees_watermarks(&mut self) -> bool {
        true
    }

    /// Begins to put what the plan names on disk; ends with an [`Event::Synced`] for each of its ranges.
    fn sync(&mut self, log: &LogWriter<Self::Memory>, plan: &SyncPlan);

    /// Has segments unmapped that are of no more use.
    fn retire(&mut self, segments: Vec<Self::Memory>);

    /// Orders a segment, unless one is under way.
    fn order_segment(&mut self, wanted: SegmentWanted);

    /// Whether [`World::take_segment`] has something.
    fn has_segment(&self) -> bool;

    /// What has become of the segment that was ordered, once it is known.
    fn take_segment(&mut self) -> Option<Result<Self::Memory, StorageError>>;

    /// Has something done with the checkpoint's file.
    fn order_checkpoint(&mut self, order: CheckpointOrder);

    /// Whether more parts of a checkpoint may be on their way to its file.
    fn has_checkpoint_room(&mut self) -> bool;

    /// Memory for a part of a checkpoint.
    fn part_buffer(&mut self) -> Vec<u8>;

    /// Whether [`World::take_checkpoint_news`] has something.
    fn has_checkpoint_news(&self) -> bool;

    /// What has become of the checkpoint under way, once it is known.
    fn take_checkpoint_news(&mut self) -> Option<CheckpointNews>;
}
