//! The kernel: everything that is the same for each book. Records, their application, the ordered two-phase commit,
//! locks, waiters, timers, request keys, checkpoints, the audit, recovery.
//!
//! Called through [`shard::Shard::step`] alone. It decides nothing that only one book needs.

pub mod archive;
pub mod audit;
pub mod balance;
pub mod book;
pub mod checkpoint;
#[cfg(test)]
pub(in crate::engine) mod cluster_tests;
pub mod hashing;
pub mod ids;
pub mod image_positions;
pub mod limits;
pub mod look_ahead;
pub mod message;
#[doc(hidden)]
pub use cartwright_core::mutation;
pub mod packed_key;
pub mod packed_transaction;
pub mod parts;
pub mod prefetch;
pub mod record;
pub mod records;
pub mod recovery;
pub mod reply_to;
pub mod request_key_table;
pub mod request_keys;
pub mod restore;
pub mod shard;
pub mod slots;
pub mod state;
pub mod state_hash;
pub mod transaction;
pub mod waiting;
