//! What all sessions of a shard share: facts about the server, and limits.
//!
//! Made once per shard by the runtime; sessions only read it, apart from one counter.

use std::cell::Cell;

use cartwright_protocol::resp::ParserLimits;

/// The Redis whose replies, types and texts the RESP side follows; some libraries refuse to work with less.
pub const REDIS_VERSION: &str = "7.2.5";

/// This server's own version.
pub const CARTWRIGHT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What one connection may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Most requests read and not yet answered. Input behind them is not parsed until replies go out.
    pub in_flight_max: usize,
    /// Most bytes on the wire of those requests; one over it is still taken if it is the only one.
    pub in_flight_bytes_max: usize,
    /// Most bytes of replies written and promised. One reply may go beyond it, so a buffer holds this and the longest
    /// reply at most.
    pub output_bytes_max: usize,
    /// What the RESP parser takes. Its `command_bytes_max` bounds the input buffer.
    pub resp: ParserLimits,
}

impl SessionLimits {
    /// Unless told. No command so far takes an argument of more than a kilobyte, or more than half a megabyte in all,
    /// so the bounds on those are far below Redis's 512 MB.
    pub const DEFAULT: Self = Self {
        in_flight_max: 1024,
        in_flight_bytes_max: 4 << 20,
        output_bytes_max: 32 << 20,
        resp: ParserLimits {
            arguments_max: 1_048_576,
            bulk_bytes_max: 32 << 20,
            command_bytes_max: 64 << 20,
        },
    };
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Counters that `INFO` shows, over the whole server, as of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// Since the start.
    pub uptime_seconds: u64,
    /// Unix milliseconds.
    pub unix_time_ms: u64,
    /// Connections open now.
    pub connected_clients: u64,
    /// Connections ever accepted.
    pub connections_received: u64,
    /// Commands ever parsed: the sum of every shard's [`SessionContext::commands`].
    pub commands_processed: u64,
    /// Memory in use, in bytes; 0 where it is not measured.
    pub used_memory_bytes: u64,
    /// Checkpoints.
    pub persistence: PersistenceCounters,
}

/// What `INFO persistence` shows, over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PersistenceCounters {
    /// Any shard takes a checkpoint.
    pub is_saving: bool,
    /// The last try of any shard failed.
    pub has_failed: bool,
    /// Records behind the newest checkpoints.
    pub changes: u64,
    /// Since when every shard has a checkpoint of this start, in Unix milliseconds; before that, when the server started.
    pub saved_at_ms: u64,
    /// How long the slowest shard's last checkpoint took, in milliseconds.
    pub took_ms: u64,
    /// The longest time in one turn that a shard spent on a checkpoint, in microseconds.
    pub pause_us_max: u64,
}

/// What a session gets from the server around it. The driver's; a session reads no clock itself.
pub trait ServerFacts {
    /// The counters as of now.
    fn counters(&self) -> ServerCounters;

    /// Has every shard take a checkpoint in the background; `false` where one is being taken, and then another follows
    /// only if `or_later`.
    fn request_checkpoint(&self, or_later: bool) -> bool;
}

/// Counters that do not move, for a session without a server around it.
impl ServerFacts for ServerCounters {
    fn counters(&self) -> ServerCounters {
        *self
    }

    fn request_checkpoint(&self, _or_later: bool) -> bool {
        !self.persistence.is_saving
    }
}

/// Facts about the server and the shard, shared by the sessions of the shard.
pub struct SessionContext {
    /// The shard the connections are at.
    pub shard: u16,
    /// How many shards the server runs.
    pub shard_count: u16,
    /// The port it listens on.
    pub port: u16,
    /// The server's process id.
    pub process_id: u32,
    /// 40 hexadecimal digits that tell this start of the server from any other.
    pub run_id: String,
    /// What one connection may take up.
    pub limits: SessionLimits,
    /// The server's counters.
    pub facts: Box<dyn ServerFacts>,
    /// Commands that this shard's sessions have parsed.
    pub commands: Cell<u64>,
}

impl std::fmt::Debug for SessionContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SessionContext")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}
