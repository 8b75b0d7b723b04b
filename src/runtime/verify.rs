//! Reads a data directory as a start would, changes nothing, and says what it holds or exactly where it is damaged.

use std::io::Write;

use super::recovery::{Recovered, identities, recover, total_counts, with_progress};
use super::start_error::StartError;
use crate::config::VerifyConfig;
use crate::engine::recovery::{audit, resolve};
use crate::engine::{EngineLimits, LogPosition, RecordKind};
use crate::log::{
    CheckpointDirectory, DataDirectory, LogIdentity, LogRecord, LogStart, SEGMENT_BYTES_DEFAULT, open_log,
};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as it was written.
    Whole,
    /// A start would recover everything, but something that it would have fallen back on is damaged.
    Damaged,
    /// Everything is as it was written, and the books in it do not balance.
    Unbalanced,
}

/// Verifies, and reports to `out`.
pub fn verify(config: &VerifyConfig, out: &mut impl Write) -> Result<Verdict, VerifyError> {
    let data = DataDirectory::open_read_only(&config.data).map_err(StartError::Data)?;
    let manifest = data.manifest().clone();
    let mut is_whole = true;
    for &generation in &manifest.generations {
        for identity in identities(generation) {
            is_whole &= verify_checkpoints(&data, identity, out)?;
        }
    }
    let recovered = with_progress(|progress| recover(&data, EngineLimits::default(), SEGMENT_BYTES_DEFAULT, progress))
        .map_err(StartError::Recovery)?;
    let Recovered {
        mut shards,
        newest,
        logs,
        checkpoints,
        totals,
    } = recovered;
    writeln!(out, "{}: started {} times", config.data.display(), manifest.incarnation)?;
    for generation in &manifest.generations {
        writeln!(
            out,
            "generation {}: {} shards",
            generation.number.0, generation.shard_count
        )?;
    }
    if newest.is_some() {
        for (shard, (log, found)) in logs.iter().zip(&checkpoints).enumerate() {
            let begins = found.used.map_or(LogPosition::ZERO, |used| used.begins);
            writeln!(
                out,
                "shard {shard}: records from position {begins} to {}, proven synced to {}, {} segments, {} bytes of torn tail",
                log.end(),
                log.synced_proven(),
                log.segment_count(),
                log.torn_bytes()
            )?;
        }
    }
    let resolved = resolve(&mut shards);
    let counts = total_counts(&shards);
    let shop = counts.books.shop;
    let report = audit(&shards);
    writeln!(
        out,
        "read: {} checkpoints of {} bytes, {} records in {} bytes of segments",
        totals.checkpoints, totals.checkpoint_bytes, totals.records, totals.bytes
    )?;
    writeln!(
        out,
        "in flight at the end: {} carts complete, {} undone",
        resolved.committed, resolved.aborted
    )?;
    writeln!(
        out,
        "holds: {} items, {} orders ({} held), {} order lines, {} idempotency keys; {} keys of the keyspace",
        shop.items, shop.orders, shop.held, shop.lines, counts.request_keys, counts.books.entries.entries
    )?;
    writeln!(
        out,
        "state hash {:016x}, {} violations of the books",
        report.state_hash, report.violations
    )?;
    Ok(match (report.violations, is_whole) {
        (0, true) => Verdict::Whole,
        (0, false) => Verdict::Damaged,
        _ => Verdict::Unbalanced,
    })
}

/// Reads every checkpoint of a log, and the log from the oldest of them that is whole: more than a start would read.
/// Whether all of it is.
fn verify_checkpoints(data: &DataDirectory, identity: LogIdentity, out: &mut impl Write) -> Result<bool, VerifyError> {
    let directory = CheckpointDirectory::new(data, identity);
    let name = format!("generation {}, shard {}", identity.generation.0, identity.shard);
    let mut is_whole = true;
    let mut start = None;
    let mut synced = LogPosition::ZERO;
    let mut none = |_: RecordKind, _: &[u8]| Ok::<_, std::convert::Infallible>(());
    for begins in directory.list().map_err(StartError::Storage)? {
        match directory.read(begins, &mut none) {
            Ok(summary) => {
                writeln!(
                    out,
                    "{name}: a checkpoint from position {} to {}, {} bytes",
                    summary.begins, summary.ends, summary.bytes
                )?;
                synced = synced.max(summary.ends);
                start = Some(LogStart { from: begins, synced });
            }
            Err(error) => {
                is_whole = false;
                writeln!(out, "{name}: {error}")?;
            }
        }
    }
    if let Some(start) = start {
        let mut none = |_: LogRecord<'_>| Ok::<_, std::convert::Infallible>(());
        if let Err(error) = open_log(data, identity, SEGMENT_BYTES_DEFAULT, start, &mut none) {
            is_whole = false;
            writeln!(out, "{name}: {error}")?;
        }
    }
    Ok(is_whole)
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The data cannot be read, or is damaged.
    #[error(transparent)]
    Data(#[from] StartError),
    /// The report cannot be written.
    #[error("cannot write the report: {0}")]
    Report(#[from] std::io::Error),
}
