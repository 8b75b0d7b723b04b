//! Reads a data directory as a start would, changes nothing, and says what it holds or exactly where it is damaged.

use std::io::Write;

use super::recovery::{Recovered, recover, total_counts};
use super::start::StartError;
use crate::config::VerifyConfig;
use crate::engine::EngineLimits;
use crate::engine::recovery::{audit, resolve};
use crate::log::{DataDirectory, SEGMENT_BYTES_DEFAULT};

/// Verifies, and reports to `out`. `Ok(false)`: the logs are whole, but the books in them do not balance.
pub fn verify(config: &VerifyConfig, out: &mut impl Write) -> Result<bool, VerifyError> {
    let data = DataDirectory::open_read_only(&config.data).map_err(StartError::Data)?;
    let manifest = data.manifest().clone();
    let recovered = recover(&data, EngineLimits::default(), SEGMENT_BYTES_DEFAULT).map_err(StartError::Log)?;
    let Recovered {
        mut shards,
        newest,
        logs,
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
        for (shard, log) in logs.iter().enumerate() {
            writeln!(
                out,
                "shard {shard}: records to position {}, proven synced to {}, {} segments, {} bytes of torn tail",
                log.end(),
                log.synced_proven(),
                log.segment_count(),
                log.torn_bytes()
            )?;
        }
    }
    let resolved = resolve(&mut shards);
    let counts = total_counts(&shards);
    let report = audit(&shards);
    writeln!(
        out,
        "read: {} records in {} bytes of segments",
        totals.records, totals.bytes
    )?;
    writeln!(
        out,
        "in flight at the end: {} carts complete, {} undone",
        resolved.committed, resolved.aborted
    )?;
    writeln!(
        out,
        "holds: {} items, {} orders ({} held), {} order lines, {} idempotency keys",
        counts.items, counts.orders, counts.held, counts.lines, counts.keys
    )?;
    writeln!(
        out,
        "state hash {:016x}, {} violations of the books",
        report.state_hash, report.violations
    )?;
    Ok(report.violations == 0)
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
