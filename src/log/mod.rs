//! The log: everything from a payload's bytes to the disk. What a payload means is the engine's business.
//!
//! Two halves. The pure one lays out records and segments, appends, plans syncs and decides what recovery keeps
//! ([`LogWriter`], [`LogScan`]); the simulator puts its own disk under it. The other keeps segments in mapped files
//! ([`MappedSegment`], [`open_log`], [`truncate_log`]) and checkpoints in files ([`CheckpointDirectory`]), in a locked [`DataDirectory`].
//!
//! What is assumed of the disk: what a sync confirmed stays, also when its sector is written again and the power fails
//! within that; otherwise any of the sectors written since may be there, or not.

mod checkpoint_file;
mod data_directory;
mod files;
mod log_directory;
mod manifest;
mod mapped_segment;
mod record;
mod recovery;
mod scan;
mod segment;
mod segment_factory;
mod storage;
mod truncation;
mod writer;

pub use checkpoint_file::{
    CHECKPOINT_FORMAT_VERSION, CHECKPOINTS_KEPT, CheckpointDirectory, CheckpointError, CheckpointSummary,
    CheckpointWriter, PART_BYTES_MAX,
};
pub use data_directory::{DataDirectory, DataError, Incarnation};
pub use files::{FileHandle, Files, Lock, Open, PathKind, SystemFiles};
pub use log_directory::{LogDirectory, segments_below};
pub use manifest::{GenerationEntry, MANIFEST_FORMAT_VERSION, Manifest, ManifestFault};
pub use mapped_segment::MappedSegment;
pub use record::{ORDINARY_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX, RecordFault, Salt};
pub use recovery::{LogError, RecoveredLog, open_log};
pub use scan::{LaterSegment, LogDamage, LogFault, LogOffset, LogRecord, LogScan, LogStart, ScanEnd, ScanError};
pub use segment::{
    Generation, HeaderFault, LOG_FORMAT_VERSION, LogIdentity, RECORD_OVERHEAD_BYTES, SEGMENT_BYTES_DEFAULT,
    SEGMENT_BYTES_FULL_PAYLOAD_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES, SegmentHeader,
    SegmentMemory, SegmentNumber, is_segment_size, payload_bytes_max, segment_bytes_for,
};
pub use segment_factory::SegmentFactory;
pub use storage::StorageError;
pub use truncation::{TruncatedLog, truncate_log};
pub use writer::{LogWriter, SyncPlan, SyncRange};

#[cfg(test)]
mod tests;
