//! Where a reply goes. Made by whoever owns the client's connection, and handed back to it.

use crate::engine::kernel::ids::ShardId;

/// Where a reply goes: meaningless to the engine, which hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    /// The shard that owns the client's connection.
    pub shard: ShardId,
    /// The connection, within that shard.
    pub connection: u32,
    /// Tells a connection from an earlier one in the same place.
    pub generation: u32,
    /// The request, within that connection.
    pub sequence: u64,
}
