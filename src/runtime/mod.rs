//! The runtime: threads, mailboxes and the loop that drives each shard, from start to stop.

pub mod clock;
pub mod mailbox;
pub mod partition;
pub mod reply_gate;
pub mod watermark;

pub use partition::Partition;
