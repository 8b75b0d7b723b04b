//! Reads logs off a disk with the log's own code, to compare them with what the witness knows; changes nothing.

use std::path::Path;

use cartwright::engine::{LogPosition, RecordError, RecordKind};
use cartwright::log::{
    CheckpointDirectory, DataDirectory, DataError, GenerationEntry, LogDamage, LogError, LogIdentity, LogOffset,
    LogRecord, LogStart, RecoveredLog, SEGMENT_BYTES_MIN, open_log,
};

pub use cartwright::runtime::recovery::identities;

use crate::disk::{Disk, ROOT};

/// Why a log was not read.
#[derive(Debug)]
pub enum Refused {
    /// The log is damaged.
    Damage(LogDamage),
    /// Anything else.
    Other(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damage(damage) => write!(formatter, "{damage}"),
            Self::Other(text) => write!(formatter, "{text}"),
        }
    }
}

/// Where a log ends, and how much of it proves that it was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The last record's position.
    pub last: LogPosition,
    /// Up to here the log proves itself.
    pub proven: LogPosition,
    /// Behind the last frame.
    pub at: LogOffset,
    /// Where it was read from: the checkpoint it was read behind, and zero without one.
    pub from: LogPosition,
}

/// What the manifest lists, ascending; nothing where there is no manifest.
pub fn generations(disk: &Disk) -> Result<Vec<GenerationEntry>, Refused> {
    Ok(open(disk)?.map_or_else(Vec::new, |data| data.manifest().generations.clone()))
}

fn open(disk: &Disk) -> Result<Option<DataDirectory<Disk>>, Refused> {
    match disk.undisturbed(|| DataDirectory::open_read_only_in(disk.clone(), Path::new(ROOT))) {
        Ok(data) => Ok(Some(data)),
        Err(DataError::Empty(_)) => Ok(None),
        Err(error) => Err(Refused::Other(error.to_string())),
    }
}

/// Reads a log as far back as its oldest checkpoint allows, handing out its records.
pub fn read_log(
    disk: &Disk,
    identity: LogIdentity,
    on_record: &mut impl FnMut(LogPosition, &[u8]) -> Result<(), RecordError>,
) -> Result<LogEnd, Refused> {
    let data = open(disk)?.ok_or_else(|| Refused::Other("there is no manifest".into()))?;
    disk.undisturbed(|| {
        let start = oldest_start(&data, identity);
        let log: Result<RecoveredLog<Disk>, _> =
            open_log(&data, identity, SEGMENT_BYTES_MIN, start, &mut |record: LogRecord<
                '_,
            >| {
                on_record(record.position, record.payload)
            });
        let log = log.map_err(|error| match error {
            LogError::Damage { damage, .. } => Refused::Damage(damage),
            error => Refused::Other(error.to_string()),
        })?;
        Ok(LogEnd {
            last: log.end(),
            proven: log.synced_proven(),
            at: log.end_offset(),
            from: start.from,
        })
    })
}

/// Where the oldest checkpoint that can be read has the log begin.
fn oldest_start(data: &DataDirectory<Disk>, identity: LogIdentity) -> LogStart {
    let directory = CheckpointDirectory::new(data, identity);
    let begins = directory.list().unwrap_or_default();
    let summary = |&begins| {
        let mut none = |_: RecordKind, _: &[u8]| Ok::<_, std::convert::Infallible>(());
        directory.read(begins, &mut none).ok()
    };
    begins
        .iter()
        .rev()
        .find_map(summary)
        .map_or(LogStart::BEGINNING, |summary| LogStart {
            from: summary.begins,
            synced: summary.ends,
        })
}
