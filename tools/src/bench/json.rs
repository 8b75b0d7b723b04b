//! What a session came to, for programs: the form behind `--json`, and the data of the page.
//!
//! Latencies are nanoseconds, memory bytes, rates answers a second. The names of the fields are a promise to whoever
//! reads them.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::conductor::Point;
use super::machine::Machine;
use super::process::Memory;
use super::session::{Run, Session};
use super::source::Tally;

/// Quantiles of the percentile curve, from the median outwards.
const CURVE: [f64; 16] = [
    0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.9999, 0.99995, 0.99999, 1.0,
];

/// A session, with all its runs.
#[derive(Debug, Serialize)]
pub struct SessionForm<'a> {
    title: &'a str,
    server: Server<'a>,
    machine: &'a Machine,
    load: Load<'a>,
    runs: Vec<RunForm<'a>>,
    /// Its index.
    median_run: Option<usize>,
    clean: bool,
}

#[derive(Debug, Serialize)]
struct Server<'a> {
    kind: String,
    version: &'a str,
    address: String,
    durability: &'a str,
    shards: u16,
    protocol: String,
}

#[derive(Debug, Serialize)]
struct Load<'a> {
    connections: u16,
    pipeline: u16,
    rate: Option<f64>,
    threads: usize,
    cores: Option<&'a [usize]>,
    seed: u64,
}

#[derive(Debug, Serialize)]
struct RunForm<'a> {
    per_second: f64,
    answered: u64,
    refused: u64,
    unanswered: u64,
    window_seconds: f64,
    latency_ns: Quantiles,
    percentile_curve: [(f64, u64); CURVE.len()],
    classes: Vec<Class<'a>>,
    #[serde(serialize_with = "series")]
    series: &'a [Point],
    server_cpu_us_per_request: Option<f64>,
    server_cpu_cores: Option<f64>,
    client_cpu_cores: f64,
    generator_limited: bool,
    sent_late_ns_max: u64,
    memory: Option<MemoryForm>,
    accepted: &'a Tally,
    checkpoints: Option<u64>,
    refusals: BTreeMap<&'a str, Refusal<'a>>,
    audit: Option<Audit>,
    problems: &'a [String],
}

#[derive(Debug, Serialize)]
struct Class<'a> {
    name: &'a str,
    answered: u64,
    refused: u64,
    latency_ns: Quantiles,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    p9999: u64,
    max: u64,
    mean: f64,
}

#[derive(Debug, Serialize)]
struct MemoryForm {
    resident_before: u64,
    resident_after: u64,
    anonymous_before: u64,
    anonymous_after: u64,
}

#[derive(Debug, Serialize)]
struct Refusal<'a> {
    count: u64,
    first: &'a str,
}

#[derive(Debug, Serialize)]
struct Audit {
    items: u64,
    orders: u64,
    lines: u64,
    violations: u64,
    /// Hexadecimal: not every reader's numbers hold 64 bits.
    state_hash: String,
    paused_ms: u64,
}

/// A session in this form.
pub fn session(session: &Session) -> SessionForm<'_> {
    let (target, load, median) = (&session.target, &session.load, session.median());
    SessionForm {
        title: &session.title,
        server: Server {
            kind: target.kind.to_string(),
            version: &target.version,
            address: target.address.to_string(),
            durability: &target.durability,
            shards: target.shard_count,
            protocol: target.wire.to_string(),
        },
        machine: &session.machine,
        load: Load {
            connections: load.connections,
            pipeline: load.pipeline,
            rate: load.rate,
            threads: load.thread_count(),
            cores: load.cpu.as_ref().map(|list| &list.0[..]),
            seed: load.seed,
        },
        runs: session.runs.iter().map(|run| self::run(session, run)).collect(),
        median_run: session.runs.iter().position(|run| std::ptr::eq(run, median)),
        clean: session.is_clean(),
    }
}

fn run<'a>(session: &Session, run: &'a Run) -> RunForm<'a> {
    let report = &run.report;
    let latency = report.latency();
    let classes = session.classes.iter().zip(&report.classes);
    RunForm {
        per_second: report.per_second(),
        answered: report.answered(),
        refused: report.refused(),
        unanswered: report.unanswered,
        window_seconds: report.window.as_secs_f64(),
        latency_ns: quantiles(&latency),
        percentile_curve: CURVE.map(|quantile| (quantile, latency.value_at_quantile(quantile))),
        classes: classes
            .map(|(name, class)| Class {
                name,
                answered: class.latency.len(),
                refused: class.refused,
                latency_ns: quantiles(&class.latency),
            })
            .collect(),
        series: &report.series,
        server_cpu_us_per_request: report.server_us_per_request(),
        server_cpu_cores: report.server_share(),
        client_cpu_cores: report.client_share,
        generator_limited: report.generator_limited,
        sent_late_ns_max: report.late_max.as_nanos() as u64,
        memory: report.memory.map(memory),
        accepted: &report.tally,
        checkpoints: run.checkpoints,
        refusals: report
            .refusals
            .iter()
            .map(|(code, (count, first))| (code.as_str(), Refusal { count: *count, first }))
            .collect(),
        audit: run.audit.as_ref().map(|audit| Audit {
            items: audit.items,
            orders: audit.orders,
            lines: audit.lines,
            violations: audit.violations,
            state_hash: format!("{:016x}", audit.state_hash),
            paused_ms: audit.paused_ms,
        }),
        problems: &run.problems,
    }
}

fn memory((before, after): (Memory, Memory)) -> MemoryForm {
    MemoryForm {
        resident_before: before.resident,
        resident_after: after.resident,
        anonymous_before: before.anonymous,
        anonymous_after: after.anonymous,
    }
}

fn quantiles(latency: &Histogram<u64>) -> Quantiles {
    Quantiles {
        p50: latency.value_at_quantile(0.5),
        p90: latency.value_at_quantile(0.9),
        p99: latency.value_at_quantile(0.99),
        p999: latency.value_at_quantile(0.999),
        p9999: latency.value_at_quantile(0.9999),
        max: latency.max(),
        mean: latency.mean(),
    }
}

/// Seconds, rate, and p50, p99 and p99.9 of each point.
fn series<S: Serializer>(points: &[Point], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(points.iter().map(|point| {
        (
            point.at.as_secs_f64(),
            point.per_second,
            point.p50_ns,
            point.p99_ns,
            point.p999_ns,
        )
    }))
}
