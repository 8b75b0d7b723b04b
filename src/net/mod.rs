//! The network: one `io_uring` per shard, the listener, the connections, and how a parked shard is woken.
//!
//! Log syncs and the shard's timer ride on the same ring. Knows bytes and descriptors, never what they mean.

pub mod connection;
pub mod listener;
pub mod network;
pub mod open_files;
pub mod token;
pub mod wake;

pub use cartwright_ring::{Cause, Doorbell, Parked, RingError, diagnosis};
pub use connection::Endpoint;
pub use listener::{ListenError, listen};
pub use network::{Events, Network};
pub use token::ConnectionId;
pub use wake::Rest;
