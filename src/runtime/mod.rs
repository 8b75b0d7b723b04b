//! The runtime: threads, mailboxes and the loop that drives each shard, from start to stop.
//!
//! [`turn`] is what a shard does, with all that it is made of: [`partition`], [`checkpointing`], [`broadcast`]. It is
//! pure. [`prepare`], [`recovery`] and [`checkpoint_keeper`] touch nothing but files, and those through a trait. The
//! simulator runs all of these. Everything else here is a driver around them.

pub mod board;
pub mod broadcast;
pub mod caught;
pub mod checkpoint_keeper;
pub mod checkpoint_maker;
pub mod checkpointing;
pub mod client;
pub mod clock;
pub mod cores;
pub mod exit;
pub mod mailbox;
pub mod partition;
pub mod prepare;
pub mod recovery;
pub mod reply_gate;
pub mod segment_maker;
pub mod shard_loop;
pub mod shared;
pub mod start;
pub mod start_error;
pub mod stop;
pub mod turn;
pub mod verify;
pub mod watermark;

pub use checkpointing::Checkpointing;
pub use exit::ExitCode;
pub use partition::{MARK_SYNC_DELAY_MS, Partition, SegmentWanted};
pub use recovery::ReplayFault;
pub use start::serve;
pub use start_error::StartError;
pub use verify::{Verdict, VerifyError, verify};
