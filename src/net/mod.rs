//! The network: one `io_uring` per shard, the listener, the connections, and how a parked shard is woken.
//!
//! The only place with `io_uring` in it; log syncs and the shard's timer ride on the same ring. Knows bytes and
//! descriptors, never what they mean.

pub mod connection;
pub mod diagnosis;
pub mod listener;
pub mod network;
pub mod open_files;
pub mod receive_buffers;
pub mod ring;
pub mod token;
pub mod wake;

pub use connection::Endpoint;
pub use listener::{ListenError, listen};
pub use network::{Events, Network};
pub use ring::RingError;
pub use token::ConnectionId;
pub use wake::{Cause, Doorbell, Parked, Rest};
