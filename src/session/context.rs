//! What all sessions of a shard share: facts about the server, and limits.
//!
//! Made once per shard by the runtime; sessions only read it, apart from one counter.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use cartwright_protocol::resp::ParserLimits;

use super::report::Statistics;
use super::settings::{Number, Settings};
use super::subscriptions::Subscriptions;

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
    /// Most arguments of one RESP command, its name included.
    pub arguments_max: usize,
}

impl SessionLimits {
    /// Unless told. How long an argument and a command may be are settings.
    pub const DEFAULT: Self = Self {
        in_flight_max: 1024,
        in_flight_bytes_max: 4 << 20,
        output_bytes_max: 32 << 20,
        arguments_max: ParserLimits::REDIS.arguments_max,
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
    /// Processor time of this process, in microseconds.
    pub cpu_user_us: u64,
    /// The same, within the kernel.
    pub cpu_system_us: u64,
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
    /// The same without what others did on its core meanwhile.
    pub pause_cpu_us_max: u64,
}

/// What a session gets from the server around it. The driver's; a session reads no clock itself.
pub trait ServerFacts {
    /// The counters as of now.
    fn counters(&self) -> ServerCounters;

    /// Has every shard take a checkpoint in the background; `false` where one is being taken, and then another follows
    /// only if `or_later`.
    fn request_checkpoint(&self, or_later: bool) -> bool;

    /// Ends the server in order, as SIGTERM does.
    fn stop(&self);
}

/// Counters that do not move, for a session without a server around it.
impl ServerFacts for ServerCounters {
    fn counters(&self) -> ServerCounters {
        *self
    }

    fn request_checkpoint(&self, _or_later: bool) -> bool {
        !self.persistence.is_saving
    }

    fn stop(&self) {}
}

/// What `CLIENT PAUSE` set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Until when, in Unix milliseconds.
    pub until_ms: u64,
    /// Only commands that write are held back.
    pub writes_only: bool,
}

/// What does not change while the server runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedSettings {
    /// `--sync`, in the word of Redis.
    pub appendfsync: &'static str,
    /// `--bind`.
    pub bind: String,
    /// `--data`.
    pub directory: String,
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
    /// Settings that may change, of all shards.
    pub settings: Arc<Settings>,
    /// Settings that do not.
    pub fixed: FixedSettings,
    /// Who on this shard subscribes to what.
    pub subscriptions: RefCell<Subscriptions>,
    /// What this shard's sessions count.
    pub statistics: RefCell<Statistics>,
    /// The time of the turn, in Unix microseconds; the driver sets it.
    pub turn_us: Cell<u64>,
    /// What `CLIENT PAUSE` set; it may be over.
    pub paused: Cell<Option<Pause>>,
}

impl SessionContext {
    /// For a shard's sessions; everything that is counted begins at zero.
    pub fn new(shard: u16, shard_count: u16, port: u16, run_id: String, facts: Box<dyn ServerFacts>) -> Self {
        Self {
            shard,
            shard_count,
            port,
            process_id: std::process::id(),
            run_id,
            limits: SessionLimits::DEFAULT,
            facts,
            commands: Cell::new(0),
            settings: Arc::default(),
            fixed: FixedSettings::default(),
            subscriptions: RefCell::default(),
            statistics: RefCell::default(),
            turn_us: Cell::new(0),
            paused: Cell::new(None),
        }
    }

    /// The time of the turn, in Unix microseconds.
    #[inline]
    pub fn now_us(&self) -> u64 {
        self.turn_us.get()
    }

    /// The time of the turn, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.turn_us.get() / 1000
    }

    /// The pause that holds now, if one does.
    #[inline]
    pub fn pause(&self) -> Option<Pause> {
        self.paused.get().filter(|pause| self.now_ms() < pause.until_ms)
    }

    pub(super) fn count_command(&self) {
        self.commands.set(self.commands.get() + 1);
    }

    /// What parsers take.
    pub(super) fn parser_limits(&self) -> ParserLimits {
        ParserLimits {
            arguments_max: self.limits.arguments_max,
            bulk_bytes_max: self.settings.size(Number::ArgumentBytesMax),
            command_bytes_max: self.settings.size(Number::CommandBytesMax),
        }
    }
}

impl std::fmt::Debug for SessionContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SessionContext")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}
