//! The engine: a pure state machine for stock, carts and orders.
//!
//! [`Shard::step`] is the one door. Nothing in here does I/O, reads a clock, draws a random number or suspends; it
//! imports neither the log, the network nor the runtime, which are drivers around it.

mod books;
#[cfg(test)]
mod golden_tests;
mod kernel;

pub use books::entries;
pub use books::entries::limits::Limits as EntriesLimits;
pub use books::entries::records::EntriesRecord;
pub use books::entries::{Answer, CommandSpec, Invocation, KeyPlaces, KeyRequest, OwnedArguments, ValueBytes, Watched};
#[doc(hidden)]
pub use books::format_2::Record as RecordOfFormat2;
pub use books::shop::inventory::{Allocation, Allocations, StockChange, StockLine};
pub use books::shop::limits::Limits as ShopLimits;
pub use books::shop::orders::{Decided, OrderChange};
pub use books::shop::packed_order::{PackedLine, PackedOrder};
pub use books::shop::records::ShopRecord;
pub use books::{BookRecord, Limits, Together, TogetherAnswer};
pub use kernel::checkpoint::CheckpointCursor;
pub use kernel::ids::{LogPosition, RecordKind, SHARD_COUNT_MAX, ShardId, ShardMap, Timestamp, TransactionId};
pub use kernel::limits::{EngineLimits, LARGE_RECORD_BYTES_MAX, RECORD_BYTES_MAX};
pub use kernel::look_ahead::{LOOK_AHEAD_MAX, Upcoming};
pub use kernel::message::{Ask, Input, Journal, Output, Question, Request, Response, ShardMessage};
#[doc(hidden)]
pub use kernel::mutation;
pub use kernel::record::{DecidedTransaction, Packing, PreparedTransaction, Record, RecordError};
pub use kernel::recovery;
pub use kernel::reply_to::ReplyTo;
pub use kernel::request_keys::{KEY_RETENTION_MS, KeptReply, KeyRecord, Scope};
pub use kernel::restore::Restore;
pub use kernel::shard::{FRAME_BYTES_MAX, Shard};
pub use kernel::state::Counts;
