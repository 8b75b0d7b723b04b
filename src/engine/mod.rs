//! The engine: a pure state machine for stock, carts and orders.
//!
//! [`Shard::step`] is the one door. Nothing in here does I/O, reads a clock, draws a random number or suspends; it
//! imports neither the log, the network nor the runtime, which are drivers around it.

mod audit;
mod catalogue;
mod checkout;
mod checkpoint;
#[cfg(test)]
mod cluster_tests;
mod encoding;
mod hashing;
mod idempotency;
mod ids;
mod inventory;
mod item_table;
pub mod keyspace;
mod limits;
mod look_ahead;
mod message;
#[doc(hidden)]
pub mod mutation;
mod order_changes;
mod orders;
mod packed_item;
mod packed_order;
mod record;
pub mod recovery;
mod shard;
mod slots;
mod state;
mod transaction;
mod waiting;

pub use checkpoint::{CheckpointCursor, Restore};
pub use idempotency::{KEY_RETENTION_MS, KeptReply, KeyRecord, Scope};
pub use ids::{LogPosition, SHARD_COUNT_MAX, ShardId, ShardMap, Timestamp, TransactionId};
pub use inventory::{Allocation, Allocations, StockChange, StockLine};
pub use keyspace::{Answer, Invocation, KeyCommand, KeyPlaces, KeyRequest, OwnedArguments, ValueBytes, Watched};
pub use limits::EngineLimits;
pub use look_ahead::{LOOK_AHEAD_MAX, Upcoming};
pub use message::{Ask, Input, Journal, Output, Question, ReplyTo, Request, Response, ShardMessage};
pub use orders::OrderChange;
pub use packed_order::{PackedLine, PackedOrder};
pub use record::{LARGE_RECORD_BYTES_MAX, RECORD_BYTES_MAX, Record, RecordError};
pub use shard::{FRAME_BYTES_MAX, Shard};
pub use state::Counts;
