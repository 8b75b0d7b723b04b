//! What a session came to, as a table for people.
//!
//! Called once at the end.

use std::fmt::{self, Display, Formatter};

use super::conductor::{Point, RunReport};
use super::session::{Run, Session};
use super::target::Kind;
use crate::text::grouped;

/// Nanoseconds, in the unit that fits.
pub fn nanoseconds(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{:.1} µs", ns as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// A rate.
pub fn rate(per_second: f64) -> String {
    if per_second < 100.0 {
        format!("{per_second:.1}")
    } else {
        grouped(per_second.round() as u64)
    }
}

/// The live line.
pub fn live_line(point: &Point, refused: u64) -> String {
    format!(
        "{:>4.0} s  {:>10}/s  p50 {}  p99 {}  p99.9 {}  refused {}",
        point.at.as_secs_f64(),
        rate(point.per_second),
        nanoseconds(point.p50_ns),
        nanoseconds(point.p99_ns),
        nanoseconds(point.p999_ns),
        grouped(refused)
    )
}

/// See above.
pub struct Table<'a>(pub &'a Session);

impl Display for Table<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let session = self.0;
        let (target, load) = (&session.target, &session.load);
        writeln!(formatter, "{}", session.title)?;
        write!(
            formatter,
            "server       {} {} at {}, {}",
            target.kind, target.version, target.address, target.durability
        )?;
        match (target.kind, target.shard_count) {
            (Kind::Cartwright, 1) => write!(formatter, ", 1 shard")?,
            (Kind::Cartwright, count) => write!(formatter, ", {count} shards")?,
            _ => {}
        }
        writeln!(formatter, ", over {}", target.wire)?;
        writeln!(formatter, "machine      {}", session.machine)?;
        let how = load.rate.map_or_else(
            || format!("closed loop, {} requests in flight on each", load.pipeline),
            |due| format!("open loop, {} requests due a second", rate(due)),
        );
        write!(
            formatter,
            "load         {} connections from {} {}, {how}",
            load.connections,
            load.thread_count(),
            if load.thread_count() == 1 { "thread" } else { "threads" }
        )?;
        if let Some(cores) = &load.cpu {
            write!(formatter, ", pinned to core {cores}")?;
        }
        writeln!(formatter)?;
        for (place, run) in session.runs.iter().enumerate() {
            writeln!(formatter)?;
            if session.runs.len() > 1 {
                writeln!(formatter, "run {} of {}", place + 1, session.runs.len())?;
            }
            write_run(formatter, session, run)?;
        }
        if session.runs.len() > 1 {
            write_spread(formatter, session)?;
        }
        Ok(())
    }
}

fn write_run(formatter: &mut Formatter<'_>, session: &Session, run: &Run) -> fmt::Result {
    let report = &run.report;
    writeln!(
        formatter,
        "rate         {}/s: {} {} {:.2} s, {} refused, {} unanswered",
        rate(report.per_second()),
        grouped(report.answered()),
        if report.is_open_loop { "due in" } else { "in" },
        report.window.as_secs_f64(),
        grouped(report.refused()),
        grouped(report.unanswered)
    )?;
    let latency = report.latency();
    write_latency(formatter, "latency", &latency)?;
    if session.classes.len() > 1 {
        for (name, class) in session.classes.iter().zip(&report.classes) {
            if !class.latency.is_empty() {
                write_latency(formatter, &format!("  {name}"), &class.latency)?;
            }
        }
    }
    write_cpu(formatter, report)?;
    write_memory(formatter, report)?;
    if let Some(count) = run.checkpoints {
        writeln!(formatter, "checkpoints  {count} begun meanwhile")?;
    }
    for (code, (count, text)) in &report.refusals {
        writeln!(formatter, "refused      {} {code}; the first: {text}", grouped(*count))?;
    }
    if let Some(audit) = &run.audit {
        writeln!(
            formatter,
            "audit        {} violations; {} orders with {} lines in the books",
            audit.violations,
            grouped(audit.orders),
            grouped(audit.lines)
        )?;
    }
    for problem in &run.problems {
        writeln!(formatter, "FAILED       {problem}")?;
    }
    Ok(())
}

fn write_latency(formatter: &mut Formatter<'_>, name: &str, latency: &hdrhistogram::Histogram<u64>) -> fmt::Result {
    writeln!(
        formatter,
        "{name:<12} p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  max {}",
        nanoseconds(latency.value_at_quantile(0.5)),
        nanoseconds(latency.value_at_quantile(0.9)),
        nanoseconds(latency.value_at_quantile(0.99)),
        nanoseconds(latency.value_at_quantile(0.999)),
        nanoseconds(latency.value_at_quantile(0.9999)),
        nanoseconds(latency.max())
    )
}

fn write_cpu(formatter: &mut Formatter<'_>, report: &RunReport) -> fmt::Result {
    if let (Some(each), Some(share)) = (report.server_us_per_request(), report.server_share()) {
        writeln!(
            formatter,
            "server CPU   {each:.2} µs a request; {:.0} % of a core",
            share * 100.0
        )?;
    }
    writeln!(
        formatter,
        "client CPU   {:.0} % of a core, the busiest thread",
        report.client_share * 100.0
    )?;
    if !report.late_max.is_zero() {
        writeln!(
            formatter,
            "sent late    by {} at most, though a connection had room",
            nanoseconds(report.late_max.as_nanos() as u64)
        )?;
    }
    if report.generator_limited {
        writeln!(
            formatter,
            "NOTE         the load generator was the limit, not the server: give it more --threads or --cpu"
        )?;
    }
    Ok(())
}

fn write_memory(formatter: &mut Formatter<'_>, report: &RunReport) -> fmt::Result {
    let Some((before, after)) = report.memory else {
        return Ok(());
    };
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    write!(
        formatter,
        "memory       {:.1} MiB before, {:.1} MiB after; with mapped files {:.1} and {:.1}",
        mebibytes(before.anonymous),
        mebibytes(after.anonymous),
        mebibytes(before.resident),
        mebibytes(after.resident),
    )?;
    if let Some((what, count)) = report.kept() {
        let each = |after: u64, before: u64| (after as f64 - before as f64) / count as f64;
        write!(
            formatter,
            ": {:.1} B for each of {} {what}, with mapped files {:.1}",
            each(after.anonymous, before.anonymous),
            grouped(count),
            each(after.resident, before.resident),
        )?;
    }
    writeln!(formatter)
}

fn write_spread(formatter: &mut Formatter<'_>, session: &Session) -> fmt::Result {
    let rates = session.runs.iter().map(|run| run.report.per_second());
    let (least, most) = rates.fold((f64::INFINITY, 0f64), |(least, most), rate| {
        (least.min(rate), most.max(rate))
    });
    let median = &session.median().report;
    write!(
        formatter,
        "\nmedian of {}  {}/s (from {} to {})",
        session.runs.len(),
        rate(median.per_second()),
        rate(least),
        rate(most)
    )?;
    if let Some(each) = session.median_server_us() {
        write!(formatter, "; server CPU {each:.2} µs a request")?;
    }
    writeln!(formatter)
}
