//! What moves bytes for a thread that owns its sockets: one `io_uring`, and how the thread is woken.
//!
//! The server's shards and the load generator's workers stand on it.
//!
//! - [`Ring`]: operations in, completions out; [`buffers`]: the memory that the kernel receives into
//! - [`Doorbell`]: wakes a thread that has parked; [`parking`]: the flag behind it
//! - [`diagnosis`]: what is wrong with a machine that gives no ring; [`RingError`]
//!
//! Knows descriptors and bytes, never what they mean; waits only where it is told to.

pub mod buffers;
pub mod diagnosis;
mod doorbell;
mod error;
pub mod parking;
mod ring;

/// The atomics of [`parking`]; its model test puts others in their place.
mod sync {
    pub use std::sync::atomic::{AtomicU8, Ordering, fence};
}

pub use buffers::Received;
pub use doorbell::Doorbell;
pub use error::RingError;
pub use parking::{Cause, Parked};
pub use ring::{Completion, Ring, RingOptions, Socket, Tag};
