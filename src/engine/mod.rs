//! The engine: a pure state machine for stock, carts and orders.
//!
//! [`Shard::step`] is the one door. Nothing in here does I/O, reads a clock, draws a random number or suspends; it
//! imports neither the log, the network nor the runtime, which are drivers around it.

pub mod ids;
pub mod message;

pub use ids::{LogPosition, SHARD_COUNT_MAX, ShardId, ShardMap, Timestamp, TransactionId};
pub use message::{Input, Journal, Output, ReplyTo, Request, ShardMessage};
