//! What a session came to, for programs: the form behind `--json`, and the data of the page.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::conductor::RunReport;
use super::session::{Run, Session};

/// Quantiles of the percentile curve, from the median outwards.
const CURVE: [f64; 16] = [
    0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.9999, 0.99995, 0.99999, 1.0,
];

/// A session, with all its runs. Latencies are nanoseconds, memory bytes, rates answers a second.
pub fn session(session: &Session) -> Value {
    let (target, load, machine) = (&session.target, &session.load, &session.machine);
    let median = session.median();
    json!({
        "title": session.title,
        "server": {
            "kind": target.kind.to_string(),
            "version": target.version,
            "address": target.address.to_string(),
            "durability": target.durability,
            "shards": target.shard_count,
            "protocol": target.wire.to_string(),
        },
        "machine": {
            "processor": machine.processor,
            "cores": machine.core_count,
            "memory_bytes": machine.memory_bytes,
            "kernel": machine.kernel,
        },
        "load": {
            "connections": load.connections,
            "pipeline": load.pipeline,
            "rate": load.rate,
            "threads": load.thread_count(),
            "cores": load.cpu.as_ref().map(|list| list.0.clone()),
            "seed": load.seed,
        },
        "runs": session.runs.iter().map(|run| self::run(session, run)).collect::<Vec<_>>(),
        "median_run": session.runs.iter().position(|run| std::ptr::eq(run, median)),
        "clean": session.is_clean(),
    })
}

fn run(session: &Session, run: &Run) -> Value {
    let report = &run.report;
    let classes: Vec<Value> = session
        .classes
        .iter()
        .zip(&report.classes)
        .map(|(name, class)| {
            json!({
                "name": name,
                "answered": class.latency.len(),
                "refused": class.refused,
                "latency_ns": quantiles(&class.latency),
            })
        })
        .collect();
    let refusals: Map<String, Value> = report
        .refusals
        .iter()
        .map(|(code, (count, first))| (code.clone(), json!({ "count": count, "first": first })))
        .collect();
    let latency = report.latency();
    json!({
        "per_second": report.per_second(),
        "answered": report.answered(),
        "refused": report.refused(),
        "unanswered": report.unanswered,
        "window_seconds": report.window.as_secs_f64(),
        "latency_ns": quantiles(&latency),
        "percentile_curve": CURVE.map(|quantile| (quantile, latency.value_at_quantile(quantile))),
        "classes": classes,
        "series": series(report),
        "server_cpu_us_per_request": report.server_us_per_request(),
        "server_cpu_cores": report.server_share(),
        "client_cpu_cores": report.client_share,
        "generator_limited": report.generator_limited,
        "sent_late_ns_max": report.late_max.as_nanos() as u64,
        "memory": report.memory.map(|(before, after)| json!({
            "resident_before": before.resident,
            "resident_after": after.resident,
            "anonymous_before": before.anonymous,
            "anonymous_after": after.anonymous,
        })),
        "accepted": {
            "carts": report.tally.carts,
            "lines": report.tally.lines,
            "units": report.tally.units,
            "items": report.tally.items,
        },
        "checkpoints": run.checkpoints,
        "refusals": refusals,
        "audit": run.audit.as_ref().map(|audit| json!({
            "items": audit.items,
            "orders": audit.orders,
            "lines": audit.lines,
            "violations": audit.violations,
            "state_hash": format!("{:016x}", audit.state_hash),
            "paused_ms": audit.paused_ms,
        })),
        "problems": run.problems,
    })
}

fn quantiles(latency: &Histogram<u64>) -> Value {
    json!({
        "p50": latency.value_at_quantile(0.5),
        "p90": latency.value_at_quantile(0.9),
        "p99": latency.value_at_quantile(0.99),
        "p999": latency.value_at_quantile(0.999),
        "p9999": latency.value_at_quantile(0.9999),
        "max": latency.max(),
        "mean": latency.mean(),
    })
}

/// Seconds, rate, and p50, p99 and p99.9 of each point.
fn series(report: &RunReport) -> Vec<Value> {
    let point = |point: &super::conductor::Point| {
        json!([
            point.at.as_secs_f64(),
            point.per_second,
            point.p50_ns,
            point.p99_ns,
            point.p999_ns
        ])
    };
    report.series.iter().map(point).collect()
}
