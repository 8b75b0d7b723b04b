//! The runtime: threads, mailboxes and the loop that drives each shard, from start to stop.
//!
//! [`partition`] and [`checkpointing`] are pure; [`prepare`], [`recovery`] and [`checkpoint_keeper`] touch nothing but
//! files, and those through a trait. The simulator runs all five. Everything else here is a driver around them.

pub mod checkpoint_keeper;
pub mod checkpoint_maker;
pub mod checkpointing;
pub mod client;
pub mod clock;
pub mod cores;
pub mod desk;
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
pub mod stop;
pub mod verify;
pub mod watermark;

pub use checkpointing::Checkpointing;
pub use exit::ExitCode;
pub use partition::{MARK_SYNC_DELAY_MS, Partition, SegmentWanted};
pub use start::{StartError, serve};
pub use verify::{Verdict, VerifyError, verify};
